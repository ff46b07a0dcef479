"""One model file: what it says of itself, what it answers, and when it is refused."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.model_files import (
    spec_in,
    spec_of,
    stamp,
    write_graph,
    write_mean_model,
    write_picking_model,
)
from tidecast.worker.contract import ModelSpec, version_of
from tidecast.worker.errors import ModelError
from tidecast.worker.pipeline.grid import grid_of
from tidecast.worker.pipeline.model import BATCHES, Model, quickest

PAIR: dict[str, Any] = {"features": ("a", "b"), "targets": ("b", "a"), "horizon": 2, "n_steps": 2}


def test_it_says_what_it_is(tmp_path: Path) -> None:
    model = Model(write_mean_model(tmp_path / "m.onnx", series="s*", **PAIR))
    version = spec_in(tmp_path / "m.onnx").version
    said = "multi_output_multi_step, 2 steps of a, b -> 2 leads of b, a, serves series s*"
    assert str(model) == f"tiny {version}: {said}"
    assert model.facts == {"model": "tiny", "version": version, "series": "s*"}
    alone = Model(write_mean_model(tmp_path / "line.onnx", kind="line"))
    assert str(alone).endswith(
        "serves series *; a straight line (ridge) alone: no network has a say in it"
    )
    assert model.path == tmp_path / "m.onnx"


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 256, 257, 600])
def test_each_window_has_its_forecast(tmp_path: Path, count: int) -> None:
    model = Model(write_mean_model(tmp_path / "m.onnx", **PAIR))
    windows = np.arange(count * 4, dtype=np.float32).reshape(count, 2, 2)
    runs: list[None] = []
    answer = model.predict(windows, lambda: runs.append(None))
    found = answer.forecasts
    assert answer.failed == {}
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
    assert model.predict(np.full((1, 1, 1), 5, np.float32)).forecasts.tolist() == [[[5]]]


@pytest.mark.parametrize("wrong", [{0}, {63}, {5, 6, 255}, {*range(0, 200, 7)}, {*range(256)}])
def test_windows_that_fail_cost_no_others_their_forecasts(tmp_path: Path, wrong: set[int]) -> None:
    model = Model(write_picking_model(tmp_path / "m.onnx"))
    windows = np.full((256, 1, 1), 2, np.float32)
    windows[[*wrong]] = 7
    runs: list[None] = []
    answer = model.predict(windows, lambda: runs.append(None))
    assert answer.failed.keys() == wrong
    said = "the model cannot compute this window: indices element out of data bounds, idx=7 must "
    assert all(reason.startswith(said) for reason in answer.failed.values())
    expected = np.full((256, 1, 1), 20, np.float32)
    expected[[*wrong]] = np.nan
    np.testing.assert_array_equal(answer.forecasts, expected)
    halvings = 2 * len(wrong) * 8 + 256 // BATCHES[0]
    assert len(runs) <= halvings


def fewer_rows(path: Path) -> Path:
    """Write a model that drops negative readings from its answer."""
    nodes = [
        helper.make_node("Squeeze", ["window", "axes"], ["readings"]),
        helper.make_node("GreaterOrEqual", ["readings", "zero"], ["kept"]),
        helper.make_node("Compress", ["window", "kept"], ["forecast"], axis=0),
    ]
    constants = {"axes": np.array([1, 2]), "zero": np.float32(0)}
    return write_graph(path, nodes, constants, n_steps=1)


def more_rows(path: Path) -> Path:
    """Write a model that answers twice to negative readings."""
    nodes = [
        helper.make_node("Squeeze", ["window", "axes"], ["readings"]),
        helper.make_node("Less", ["readings", "zero"], ["again"]),
        helper.make_node("Compress", ["window", "again"], ["repeated"], axis=0),
        helper.make_node("Concat", ["window", "repeated"], ["forecast"], axis=0),
    ]
    constants = {"axes": np.array([1, 2]), "zero": np.float32(0)}
    return write_graph(path, nodes, constants, n_steps=1)


@pytest.mark.parametrize(("write", "rows"), [(fewer_rows, 0), (more_rows, 2)])
def test_as_many_forecasts_as_windows_or_none(tmp_path: Path, write: Any, rows: int) -> None:
    model = Model(write(tmp_path / "m.onnx"))
    windows = np.arange(300, dtype=np.float32).reshape(300, 1, 1)
    windows[[3, 270]] = -1
    answer = model.predict(windows)
    said = f"the model cannot compute this window: it answers with [{rows}, 1, 1], not [1, 1, 1]"
    assert answer.failed == {3: said, 270: said}
    windows[[3, 270]] = np.nan
    np.testing.assert_array_equal(answer.forecasts, windows)


def test_a_graph_that_takes_one_window_at_a_time_is_refused(tmp_path: Path) -> None:
    """Its shapes are open, so only a run tells."""
    nodes = [helper.make_node("Compress", ["window", "first"], ["forecast"], axis=0)]
    write_graph(tmp_path / "m.onnx", nodes, {"first": np.array([True])}, n_steps=1)
    with pytest.raises(
        ModelError, match=r"fails 16 times at once: it answers with \[1, 1, 1\], no"
    ):
        Model(tmp_path / "m.onnx")


def test_a_graph_that_mixes_windows_is_refused(tmp_path: Path) -> None:
    """One golden window is answered well, and the sum of sixteen is another."""
    nodes = [
        helper.make_node("ReduceSum", ["window", "axis"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["window", "zero"], ["none"]),
        helper.make_node("Add", ["none", "sum"], ["forecast"]),
    ]
    constants = {"axis": np.array([0]), "zero": np.float32(0)}
    golden: dict[str, Any] = {"golden_window": [[5.0]], "golden_forecast": [[5.0]]}
    write_graph(tmp_path / "m.onnx", nodes, constants, n_steps=1, **golden)
    with pytest.raises(ModelError, match="the golden window gives 80, the file promises 5;"):
        Model(tmp_path / "m.onnx")


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    content = write_mean_model(tmp_path / "m.onnx").read_bytes()
    assert content.count(b"\x06window") == 2
    (tmp_path / "m.onnx").write_bytes(content.replace(b"\x06window", b"\x06wind\xffw"))
    with pytest.raises(ModelError, match=r"m\.onnx: .*; export"):
        Model(tmp_path / "m.onnx")


def test_what_has_a_name_but_no_end_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", Path("/dev/zero")):
        with pytest.raises(ModelError, match=f"^{path}: no regular file; name a model file"):
            Model(path)


def test_a_file_larger_than_protobuf_takes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelError, match=r"2,147,483,648 bytes, and a model file has .* at most;"):
        Model(tmp_path / "m.onnx")


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


def _another_number(model: Any) -> None:
    """Of no use to this golden window, so that only the version tells."""
    number = onnx.numpy_helper.from_array(np.array([11], np.int64), "of no use")
    model.graph.initializer.append(number)


def _another_operator(model: Any) -> None:
    model.graph.node[0].op_type = "ReduceMax"


def _another_opset(model: Any) -> None:
    model.opset_import[0].version = 16


def _another_function(model: Any) -> None:
    node = helper.make_node("Neg", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [node], opsets))


OTHER_WINDOW = {"window": [[1e-9, -1e-9]] * 2, "forecast": [[0.0, 0.0]] * 2}
OTHER_FORECAST = {"window": [[0.0, 0.0]] * 2, "forecast": [[0.0, -0.0]] * 2}


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        (_another_number, {}),
        (_another_operator, {}),
        (_another_opset, {}),
        (_another_function, {}),
        (lambda _: None, {"step_seconds": 61.0}),
        (lambda _: None, {"features": ["b", "a"]}),
        (lambda _: None, {"targets": ["a", "b"]}),
        (lambda _: None, {"gaps": "hold"}),
        (lambda _: None, {"max_gap": 2}),
        (lambda _: None, {"min_steps": 1}),
        (lambda _: None, {"spec_version": 1}),
        (lambda _: None, {"training": {"rows": 1, "series": 1, "season": 5}}),
        (lambda _: None, {"golden": OTHER_WINDOW}),
        (lambda _: None, {"golden": OTHER_FORECAST}),
    ],
)
def test_what_decides_forecasts_is_what_was_exported(
    tmp_path: Path, graph: Any, told: dict[str, Any]
) -> None:
    grid: dict[str, Any] = {"step_seconds": 60.0, "gaps": "linear", "max_gap": 1}
    path = write_mean_model(tmp_path / "m.onnx", **grid, **PAIR)
    model, version = onnx.load(path), spec_in(path).version
    spec = ModelSpec.model_validate(spec_in(path).model_dump(mode="json") | told)
    graph(model)
    helper.set_model_props(model, {"tidecast": spec.to_json()})
    onnx.save(model, path)
    with pytest.raises(ModelError, match=f"calls itself version {version} and is [0-9a-f]{{12}}: "):
        Model(path)
    stamp(model, spec)
    onnx.save(model, path)
    assert Model(path).spec.version != version


def test_what_decides_no_forecast_may_change(tmp_path: Path) -> None:
    path = write_mean_model(tmp_path / "m.onnx", step_seconds=60.0, **PAIR)
    model, spec = onnx.load(path), spec_in(path)
    changed = spec.model_copy(
        update={"series": "others-*", "name": "other", "trained_at": "2030-01-01T00:00:00Z"}
    )
    model.producer_name, model.doc_string = "somebody", "words"
    helper.set_model_props(model, {"more": "words", "tidecast": changed.to_json()})
    onnx.save(model, path)
    assert Model(path).spec.version == spec.version


@pytest.mark.parametrize("digits", [6, 12, 64])
def test_a_file_whose_version_is_of_the_graph_alone_is_served(tmp_path: Path, digits: int) -> None:
    """Files of before the description counted say so."""
    path = write_mean_model(tmp_path / "m.onnx", **PAIR)
    model, spec = onnx.load(path), spec_in(path)
    graph = hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()
    former = spec.model_copy(update={"version": graph[:digits]})
    helper.set_model_props(model, {"tidecast": former.to_json()})
    onnx.save(model, path)
    assert Model(path).spec.version == graph[:digits]
    model.graph.doc_string = "changed"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="calls itself version"):
        Model(path)


def test_a_version_is_made_as_the_design_says() -> None:
    spec = spec_of(n_steps=1, step_seconds=60, golden_window=[[1.5]], golden_forecast=[[1e-7]])
    said = (
        b'{"features":["value"],"golden":{"forecast":[[1e-07]],"window":[[1.5]]},"horizon":1,'
        b'"n_steps":1,"step_seconds":60.0,"targets":["value"]}'
    )
    found = version_of([b"the ", memoryview(b"graph")], spec)
    assert found == hashlib.sha256(said + b"the graph").hexdigest()


@pytest.mark.parametrize(
    ("file", "gaps", "most", "told", "after"),
    [
        ({"gaps": "linear", "max_gap": 3}, None, 1, "fills gaps of up to 1 steps (linear); its", 1),
        ({"gaps": "linear", "max_gap": 3}, "hold", None, "fills gaps of up to 3 steps (hold)", 3),
        ({"gaps": "linear", "max_gap": 3}, "none", None, "leaves gaps; its file says gaps lin", 0),
        ({"gaps": "linear", "max_gap": 3}, "linear", 3, "goes on as its file says", 3),
        ({}, None, 2, "fills gaps of up to 2 steps (linear); its file says gaps none, up to 0", 2),
        ({}, "hold", None, "its file says of no gap how long it may be; add --max-gap 3", 0),
        ({"n_steps": 2}, None, 3, "a window of 2 steps has no room for a filled one", 0),
        ({"step_seconds": None}, "hold", 3, "has no step, so it has no gaps to fill", 0),
    ],
)
def test_gaps_are_filled_as_somebody_says(
    tmp_path: Path, file: dict[str, Any], gaps: Any, most: int | None, told: str, after: int
) -> None:
    described: dict[str, Any] = {"n_steps": 9, "step_seconds": 60.0} | file
    model = Model(write_mean_model(tmp_path / "m.onnx", **described))
    assert told in model.override(gaps, most)
    assert grid_of(model.spec).most == after
    assert ("fills gaps" in str(model)) == (after > 0)


def test_no_more_is_filled_than_leaves_two_readings_in_a_window(tmp_path: Path) -> None:
    described: dict[str, Any] = {"n_steps": 5, "step_seconds": 60.0, "gaps": "hold"}
    model = Model(write_mean_model(tmp_path / "m.onnx", max_gap=10**9, **described))
    assert grid_of(model.spec).most == 3


def test_a_full_window_can_be_waited_for(tmp_path: Path) -> None:
    described: dict[str, Any] = {"n_steps": 9, "gaps": "none", "min_steps": 4}
    model = Model(write_mean_model(tmp_path / "m.onnx", **described))
    assert "9 steps (from 4 on) of value" in str(model)
    model.wait_for_full_windows()
    assert grid_of(model.spec).min_steps is None
    assert "9 steps of value" in str(model)


def test_a_file_of_version_1_fills_nothing_whatever_it_says(tmp_path: Path) -> None:
    path = write_mean_model(tmp_path / "m.onnx", n_steps=9, step_seconds=60.0)
    model, spec = onnx.load(path), spec_in(path)
    told = spec.model_copy(update={"gaps": "hold", "max_gap": 3, "min_steps": 2})
    helper.set_model_props(model, {"tidecast": told.to_json()})
    onnx.save(model, path)
    grid = grid_of(Model(path).spec)
    assert (grid.most, grid.min_steps) == (0, None)
