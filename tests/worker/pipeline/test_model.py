"""One model file: what it says of itself, what it answers, and when it is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.model_files import write_mean_model
from tidecast.worker.errors import ModelError
from tidecast.worker.pipeline.model import BATCHES, Model, quickest

PAIR: dict[str, Any] = {"features": ("a", "b"), "targets": ("b", "a"), "horizon": 2, "n_steps": 2}


def test_it_says_what_it_is(tmp_path: Path) -> None:
    model = Model(write_mean_model(tmp_path / "m.onnx", series="s*", **PAIR))
    assert str(model) == (
        "tiny abcdef: multi_output_multi_step, 2 steps of a, b -> 2 leads of b, a, serves series s*"
    )
    assert model.facts == {"model": "tiny", "version": "abcdef", "series": "s*"}
    assert model.path == tmp_path / "m.onnx"


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 256, 257, 600])
def test_each_window_has_its_forecast(tmp_path: Path, count: int) -> None:
    model = Model(write_mean_model(tmp_path / "m.onnx", **PAIR))
    windows = np.arange(count * 4, dtype=np.float32).reshape(count, 2, 2)
    runs: list[None] = []
    found = model.predict(windows, lambda: runs.append(None))
    assert found.dtype == np.float32
    assert found.shape == (count, 2, 2)
    means = windows.mean(axis=(1, 2))
    np.testing.assert_array_equal(found, means[:, None, None].repeat(2, axis=1).repeat(2, axis=2))
    assert -(-count // BATCHES[-1]) <= len(runs) <= -(-count // BATCHES[0])


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ({16: 1.0, 64: 3.9, 256: 15.5}, 256),
        ({16: 1.0, 64: 3.9, 256: 15.7}, 64),
        ({16: 1.0, 64: 4.3, 256: 15.5}, 256),  # a little worse, so the next may be better yet
        ({16: 1.0, 64: 4.3, 256: 18.0}, 16),
        ({16: 1.0, 64: 4.5}, 16),  # a tenth worse, so the next is not tried
        ({16: 1.0, 64: 2.0, 256: 8.9}, 64),
    ],
)
def test_the_size_of_a_run_is_the_quickest_for_a_window(
    seconds: dict[int, float], found: int
) -> None:
    assert quickest(seconds.__getitem__) == found


def test_one_window_at_a_time_is_one_run(tmp_path: Path) -> None:
    model = Model(write_mean_model(tmp_path / "m.onnx", n_steps=1))
    assert model.predict(np.full((1, 1, 1), 5, np.float32)).tolist() == [[[5]]]


def _changed(path: Path, graph: Any) -> None:
    model = onnx.load(write_mean_model(path))
    graph(model.graph)
    onnx.save(model, path)


def _another_input(graph: Any) -> None:
    graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["batch", 3, 1]))


def _another_output(graph: Any) -> None:
    graph.output.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 1, 1]))


def _another_name(graph: Any) -> None:
    graph.input[0].name = "x"
    graph.node[0].input[0] = "x"


def _doubles(graph: Any) -> None:
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (_another_input, "its metadata say window [batch, 3, 1]; export the model again"),
        (_another_output, "its metadata say forecast [batch, 1, 1]; export the model again"),
        (_another_name, "the graph has {'x': ['batch', 3, 1]}, its metadata say window"),
        (_doubles, "its metadata say window [batch, 3, 1]"),
    ],
)
def test_a_graph_of_another_shape_is_refused(tmp_path: Path, graph: Any, said: str) -> None:
    _changed(tmp_path / "m.onnx", graph)
    with pytest.raises(ModelError, match=re.escape(said)):
        Model(tmp_path / "m.onnx")


def test_a_file_without_metadata_is_refused(tmp_path: Path) -> None:
    model = onnx.load(write_mean_model(tmp_path / "m.onnx"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(
        ModelError, match="an ONNX file without the metadata key 'tidecast'; export"
    ):
        Model(tmp_path / "m.onnx")


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"hello")
    with pytest.raises(ModelError) as refused:
        Model(tmp_path / "m.onnx")
    text = str(refused.value)
    assert text.startswith(f"{tmp_path}/m.onnx: not a loadable ONNX file (")
    assert text.endswith("); export it with 'tidecast-trainer fit'")
    assert "\n" not in text
    with pytest.raises(ModelError, match=r"/n\.onnx: No such file or directory; name a model file"):
        Model(tmp_path / "n.onnx")


def test_a_golden_window_that_cannot_be_computed_is_refused(tmp_path: Path) -> None:
    """The session loads, but no batch of one can be laid out as rows of seven."""

    def sevens(graph: Any) -> None:
        graph.initializer.append(helper.make_tensor("seven", TensorProto.INT64, [2], [-1, 7]))
        graph.initializer.append(helper.make_tensor("three", TensorProto.INT64, [3], [-1, 3, 1]))
        graph.node[0].input[0] = "back"
        graph.node.insert(0, helper.make_node("Reshape", ["sevens", "three"], ["back"]))
        graph.node.insert(0, helper.make_node("Reshape", ["window", "seven"], ["sevens"]))

    _changed(tmp_path / "m.onnx", sevens)
    with pytest.raises(ModelError, match=r"the golden window fails: .*; export the model again$"):
        Model(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("window", "promised", "sound"),
    [
        # A forecast of 100 may be off by a ten-thousandth of it, and a millionth of its readings.
        ([[100.0]], [[100.009]], True),
        ([[100.0]], [[100.0111]], False),
        ([[100.0]], [[99.991]], True),
        ([[100.0]], [[99.9889]], False),
    ],
)
def test_a_forecast_is_right_to_a_ten_thousandth(
    tmp_path: Path, window: Any, promised: Any, *, sound: bool
) -> None:
    path = tmp_path / "m.onnx"
    write_mean_model(path, n_steps=1, golden_window=window, golden_forecast=promised)
    if sound:
        Model(path)
        return
    with pytest.raises(ModelError, match="the golden window gives 100, the file promises"):
        Model(path)


@pytest.mark.parametrize(("off", "sound"), [(0.9, True), (1.1, False)])
def test_a_forecast_near_zero_carries_its_readings_rounding(
    tmp_path: Path, off: float, *, sound: bool
) -> None:
    """1,000,000 and -1,000,000 have a mean of nothing, which may be off by 1."""
    path = tmp_path / "m.onnx"
    write_mean_model(
        path, n_steps=2, golden_window=[[1e6], [-1e6]], golden_forecast=[[off / 1.0001]]
    )
    if sound:
        Model(path)
        return
    with pytest.raises(ModelError, match="the golden window gives 0, the file promises"):
        Model(path)


def test_each_target_is_judged_by_its_own_readings(tmp_path: Path) -> None:
    """The target that is no feature has no rounding of its own to carry."""
    described: dict[str, Any] = {
        "features": ("level", "other"),
        "targets": ("virtual", "level"),
        "n_steps": 1,
        "golden_window": [[1e6, -1e6]],
    }
    path = tmp_path / "m.onnx"
    Model(write_mean_model(path, **described, golden_forecast=[[0.0, 0.5]]))
    with pytest.raises(ModelError, match=r"gives 0, 0, the file promises 0\.5, 0;"):
        Model(write_mean_model(path, **described, golden_forecast=[[0.5, 0.0]]))


def test_a_message_shows_four_numbers(tmp_path: Path) -> None:
    promised = [[1.0], [2.0], [3.0], [4.0], [5.0]]
    path = write_mean_model(tmp_path / "m.onnx", horizon=5, golden_forecast=promised)
    with pytest.raises(ModelError, match="gives 0, 0, 0, 0, the file promises 1, 2, 3, 4; the"):
        Model(path)
