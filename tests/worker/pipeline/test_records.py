"""Records are the JSON of docs/design.md, whatever series, models and targets are called."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.model_files import spec_of
from tidecast.worker.pipeline.records import RecordWriter

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
odd = texts | st.sampled_from(["100 %b", "%", 'say "x"', "a\\b", "tab\t", "é", "\x7f"])
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(odd, st.integers(0, 10**14), numbers, numbers), max_size=5),
    st.lists(odd, min_size=2, max_size=2, unique=True),
    st.sampled_from([None, 0.5, 60.0]),
    st.sampled_from(["default", 'a "%d" fleet']),
)
def test_records_are_json(
    rows: list[tuple[str, int, float, float]], targets: list[str], step: float | None, fleet: str
) -> None:
    pair = (targets[0], targets[1])
    spec = spec_of(features=pair, targets=pair, horizon=2, step_seconds=step)
    forecasts = np.array([[[a, b], [b, a]] for *_, a, b in rows], np.float32).reshape(-1, 2, 2)
    written = RecordWriter(spec, fleet).write(
        [series.encode() for series, *_ in rows],
        np.array([at for _, at, *_ in rows], np.int64),
        [b"%d-0" % place for place in range(len(rows))],
        forecasts,
    )
    assert [json.loads(record, parse_float=np.float32) for record in written] == [
        {
            "series": series,
            "at": at,
            "step": None if step is None else round(1000 * step),
            "model": "tiny",
            "version": "abcdef",
            "fleet": fleet,
            "entry": f"{place}-0",
            "forecast": {pair[0]: [a, b], pair[1]: [b, a]},
        }
        for place, (series, at, a, b) in enumerate(rows)
    ]


def test_what_no_reading_filled_is_told_as_a_share_of_the_window() -> None:
    writer = RecordWriter(spec_of(n_steps=336), "default")
    columns = [b"a", b"b", b"c"], np.arange(3), [b"1-0", b"2-0", b"3-0"]
    forecasts = np.ones((3, 1, 1), np.float32)
    plain = writer.write(*columns, forecasts)
    told = writer.write(*columns, forecasts, np.array([0, 7, 336]))
    assert [json.loads(record).get("filled") for record in told] == [None, 0.0208, 1.0]
    for one, other in zip(plain, told, strict=True):
        assert {**json.loads(one), "filled": 0} == {**json.loads(other), "filled": 0}


def test_forecasts_of_64_bits_have_all_their_digits() -> None:
    spec = spec_of(numbers="float64")
    exact = 7_000_000_483_210.123
    [record] = RecordWriter(spec, "default").write(
        [b"s"], np.array([0]), [b"1-0"], np.array([[[exact]]])
    )
    assert json.loads(record)["forecast"] == {"value": [exact]}
