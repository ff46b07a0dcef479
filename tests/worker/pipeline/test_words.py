"""Features that hold one of some words: entries carry the word, windows 1 or 0 for each."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.model_files import write_mean_model
from tidecast.worker.errors import ModelError
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.step import Pipeline
from tidecast.worker.pipeline.wire import Entry

WORDS = {"wind": ("N", "SW")}
FEATURES = ("value", "wind=N", "wind=SW")


def flat(number: int, **fields: str) -> Entry:
    return b"%d-0" % number, [text.encode() for pair in fields.items() for text in pair]


def document(number: int, said: Any) -> Entry:
    return b"%d-0" % number, [b"data", orjson.dumps(said)]


def columns_of(*entries: Entry) -> dict[str, list[float]]:
    readings, rejects = Decoder("s", ("value", "wind"), words=WORDS).decode(entries)
    assert rejects == []
    return {name: column.tolist() for name, column in readings.columns.items()}


@pytest.mark.parametrize(
    "entries",
    [
        [flat(1, value="1", wind="N"), flat(2, value="2", wind=" SW ")],
        [document(1, {"value": 1, "wind": "N"}), document(2, {"value": 2, "wind": "SW"})],
        [document(1, {"value": [1, 2], "wind": ["N", "SW"]})],
        [flat(1, value="1", wind="N"), document(2, {"value": 2, "wind": "SW"})],
    ],
    ids=["flat", "objects", "columns", "mixed"],
)
def test_each_word_is_a_column(entries: list[Entry]) -> None:
    assert columns_of(*entries) == {"value": [1, 2], "wind=N": [1, 0], "wind=SW": [0, 1]}


def served(path: Path, *entries: Entry) -> list[Any]:
    """Forecasts and reasons of a model over all three features, of two steps."""
    write_mean_model(path, features=FEATURES, targets=("value",), n_steps=2, categories=WORDS)
    registry = load_registry(path)
    assert (registry.features, registry.words) == (("value", "wind"), WORDS)
    decoder = Decoder("s", registry.features, words=registry.words)
    (commit,) = Pipeline(registry, decoder, 10).step(entries)
    said = [orjson.loads(record)["forecast"]["value"][0] for record in commit.records]
    return said + [reject.reason for reject in commit.rejects]


def test_a_model_sees_one_and_nought(tmp_path: Path) -> None:
    entries = [flat(1000, value="1", wind="N"), flat(2000, value="5", wind="SW")]
    assert served(tmp_path / "m.onnx", *entries) == [pytest.approx((1 + 1 + 5 + 1) / 6, 1e-3)]


def test_a_word_that_no_model_knows_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    (reason,) = served(tmp_path / "m.onnx", flat(1000, value="1", wind="north"))
    assert reason == "feature 'wind' is 'north', none of N, SW"
    (reason,) = served(tmp_path / "m.onnx", flat(1000, value="1", wind="7"))
    assert reason == "feature 'wind' is '7', none of N, SW"


def test_no_word_is_a_hole() -> None:
    columns = columns_of(flat(1, value="1", wind="-"), document(2, {"value": 2, "wind": None}))
    np.testing.assert_array_equal(columns["wind=N"], [np.nan, np.nan])


def test_one_field_cannot_hold_words_for_one_model_and_numbers_for_another(tmp_path: Path) -> None:
    write_mean_model(tmp_path / "a.onnx", name="a", series="a*", features=FEATURES,
                     targets=("value",), categories=WORDS)  # fmt: skip
    numbers: Any = {"features": ("wind",), "targets": ("wind",)}
    write_mean_model(tmp_path / "b.onnx", name="b", series="b*", **numbers)
    with pytest.raises(
        ModelError, match=r"b.onnx takes numbers of 'wind', and another model takes"
    ):
        load_registry(tmp_path)
