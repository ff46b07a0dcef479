"""What a model file is made of, and that none takes what lies in another file."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.model_files import write_lstm_model, write_mean_model, write_segmented_model
from tidecast.worker.errors import ModelError
from tidecast.worker.pipeline.model import Model
from tidecast.worker.pipeline.model_file import (
    DATA_LOCATION,
    EXTERNAL_DATA,
    KEY,
    LARGEST_TAG,
    MESSAGES,
    METADATA,
    MOST_FIELDS,
    TENSOR_NAME,
    VALUE,
    ExternalDataError,
    MalformedError,
    read_parts,
)


def secret(name: str = "secret", location: str = "outside") -> TensorProto:
    """A tensor of one number, which is kept in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def added(graph: Any, *nodes: Any) -> None:
    """Add ``secret`` to a graph's forecast, after some nodes that make it."""
    graph.node[-1].output[0] = "mean only"
    graph.node.extend([*nodes, helper.make_node("Add", ["mean only", "secret"], ["forecast"])])


def graph_of(*nodes: Any, inputs: Any = (), initializer: Any = ()) -> Any:
    """A graph within another, which gives ``inner``."""
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1])
    return helper.make_graph(nodes, "within", inputs, [output], initializer)


def constant_inner() -> Any:
    return helper.make_node("Constant", [], ["inner"], value=secret())


def as_initializer(model: Any) -> None:
    model.graph.initializer.append(secret())
    added(model.graph)


def as_constant(model: Any) -> None:
    added(model.graph, helper.make_node("Constant", [], ["secret"], value=secret()))


def as_one_of_tensors(model: Any) -> None:
    node = helper.make_node("Identity", ["mean"], ["unused"])
    node.attribute.append(helper.make_attribute("several", [secret()]))
    model.graph.node.insert(1, node)


def as_sparse_values(model: Any) -> None:
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(secret(), indices, [1]))
    added(model.graph)


def as_sparse_indices(model: Any) -> None:
    values = numpy_helper.from_array(np.zeros(1, np.float32), "values")
    indices = secret()
    indices.data_type = TensorProto.INT64
    sparse = helper.make_sparse_tensor(values, indices, [1])
    added(model.graph, helper.make_node("Constant", [], ["secret"], sparse_value=sparse))


def as_one_of_sparse_tensors(model: Any) -> None:
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    node = helper.make_node("Identity", ["mean"], ["unused"])
    sparse = helper.make_sparse_tensor(secret(), indices, [1])
    node.attribute.append(helper.make_attribute("several", [sparse]))
    model.graph.node.insert(1, node)


def in_a_branch(model: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))  # noqa: FBT003
    inner = helper.make_node("Constant", [], ["inner"], value_floats=[0.0])
    branches = {"then_branch": graph_of(constant_inner()), "else_branch": graph_of(inner)}
    added(model.graph, helper.make_node("If", ["yes"], ["secret"], **branches))


def in_branches_of_branches(model: Any) -> None:
    """As deep as protobuf reads: three messages for each branch, and a hundred at most."""
    yes = numpy_helper.from_array(np.array(True), "yes")  # noqa: FBT003
    model.graph.initializer.append(yes)
    branch = graph_of(constant_inner())
    for _ in range(29):
        inner = helper.make_node("If", ["yes"], ["inner"], then_branch=branch, else_branch=branch)
        branch = graph_of(inner)
        branch.node[0].attribute[1].g.CopyFrom(graph_of(constant_of_nothing()))
    added(
        model.graph,
        helper.make_node("If", ["yes"], ["secret"], then_branch=branch, else_branch=branch),
    )


def constant_of_nothing() -> Any:
    return helper.make_node("Constant", [], ["inner"], value_floats=[0.0])


def in_a_loop(model: Any) -> None:
    scalars: Any = [("i", TensorProto.INT64), ("on", TensorProto.BOOL)]
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in scalars]
    body = graph_of(helper.make_node("Identity", ["on"], ["on still"]), inputs=inputs)
    body.output.insert(0, helper.make_tensor_value_info("on still", TensorProto.BOOL, []))
    body.initializer.append(secret("inner"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "once"))
    added(model.graph, helper.make_node("Loop", ["once", ""], ["secret"], body=body))


def in_a_scan(model: Any) -> None:
    step = helper.make_tensor_value_info("step", TensorProto.FLOAT, [1])
    body = graph_of(constant_inner(), inputs=[step])
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1), np.float32), "steps"))
    added(
        model.graph, helper.make_node("Scan", ["steps"], ["secret"], body=body, num_scan_inputs=1)
    )


def in_a_function(model: Any) -> None:
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(
        helper.make_function("own", "Inner", [], ["inner"], [constant_inner()], opsets)
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    added(model.graph, helper.make_node("Inner", [], ["secret"], domain="own"))


def as_a_functions_default(model: Any) -> None:
    node = helper.make_node("Constant", [], ["inner"])
    node.attribute.add(name="value", ref_attr_name="given", type=onnx.AttributeProto.TENSOR)
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Inner", [], ["inner"], [node], opsets)
    function.attribute_proto.append(helper.make_attribute("given", secret()))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    added(model.graph, helper.make_node("Inner", [], ["secret"], domain="own"))


def in_the_training(model: Any) -> None:
    model.training_info.add().algorithm.initializer.append(secret())


def at_the_start_of_training(model: Any) -> None:
    model.training_info.add().initialization.initializer.append(secret())


HIDDEN: list[Callable[[Any], None]] = [
    as_initializer,
    as_constant,
    as_one_of_tensors,
    as_sparse_values,
    as_sparse_indices,
    as_one_of_sparse_tensors,
    in_a_branch,
    in_branches_of_branches,
    in_a_loop,
    in_a_scan,
    in_a_function,
    as_a_functions_default,
    in_the_training,
    at_the_start_of_training,
]


def hidden(path: Path, hide: Callable[[Any], None]) -> Path:
    """Write a model that is sound but for a tensor that is kept in another file."""
    model = onnx.load(write_mean_model(path))
    hide(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


@pytest.mark.parametrize("hide", HIDDEN)
def test_data_of_another_file_are_refused_wherever_they_hide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hide: Callable[[Any], None]
) -> None:
    """The other file is there, and holds the zero that makes the golden forecast come true."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside").write_bytes(bytes(4))
    path = hidden(tmp_path / "m.onnx", hide)
    with pytest.raises(ModelError) as refused:
        Model(path)
    assert f"{path}: the data of tensor '" in str(refused.value)
    assert "' lie in another file, 'outside', and a worker reads no file but" in str(refused.value)


def test_other_files_are_refused_whatever_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model's own folder, below it, above it, the whole machine's, by a link; there or not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "outside", tmp_path / "folder" / "inside"):
        file.write_bytes(bytes(4))
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "hard").hardlink_to(tmp_path / "outside")
    for place in (
        *("outside", "folder/inside", "folder/link", "hard", "folder/../outside", "./outside"),
        *("../outside", str(tmp_path / "outside"), "/etc/hostname", "absent", "", "m.onnx"),
        *("*/_ORT_MEM_ADDR_/*", "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*"),
    ):
        model = onnx.load(write_mean_model(tmp_path / "m.onnx"))
        model.graph.initializer.append(secret(location=place))
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match="lie in another file, '"):
            Model(tmp_path / "m.onnx")


def test_either_sign_of_another_file_is_enough(tmp_path: Path) -> None:
    """What ONNX Runtime makes of half a description is left to no version of it."""
    for field in ("external_data", "data_location"):
        tensor = secret()
        tensor.ClearField(field)
        model = onnx.load(write_mean_model(tmp_path / "m.onnx"))
        model.graph.initializer.append(tensor)
        with pytest.raises(ExternalDataError):
            read_parts(model.SerializeToString())
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "inside")
    tensor.data_location = TensorProto.DEFAULT
    model.graph.initializer[-1].CopyFrom(tensor)
    assert read_parts(model.SerializeToString()).metadata.keys() == {b"tidecast"}


def test_every_way_to_a_tensor_is_known() -> None:
    """A newer ONNX may let tensors lie in further places, which this test would find."""
    found: dict[str, dict[int, str]] = {}
    pending = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        message = pending.pop()
        if message.name in found:
            continue
        inner = {f.number: f.message_type for f in message.fields if f.message_type is not None}
        found[message.name] = {number: kind.name for number, kind in inner.items()}
        pending += inner.values()
    leading = {"TensorProto"}
    while more := {kind for kind, inner in found.items() if leading & {*inner.values()}} - leading:
        leading |= more
    for kind in leading - {"TensorProto"}:
        assert {n: k for n, k in found[kind].items() if k in leading} == MESSAGES[kind]
    assert leading == MESSAGES.keys()


def test_the_numbers_of_fields_are_those_of_onnx() -> None:
    tensor, entry = TensorProto.DESCRIPTOR.fields_by_name, onnx.StringStringEntryProto.DESCRIPTOR
    assert tensor["name"].number == TENSOR_NAME
    assert tensor["external_data"].number == EXTERNAL_DATA
    assert tensor["data_location"].number == DATA_LOCATION
    assert onnx.ModelProto.DESCRIPTOR.fields_by_name["metadata_props"].number == METADATA
    assert (entry.fields_by_name["key"].number, entry.fields_by_name["value"].number) == (
        KEY,
        VALUE,
    )


def test_a_file_is_taken_apart_as_it_stands(tmp_path: Path) -> None:
    model = onnx.load(write_mean_model(tmp_path / "m.onnx"))
    helper.set_model_props(model, {"other": "o", "tidecast": "{}"})
    model.metadata_props.add(key="other", value="the last counts")
    function = helper.make_function("own", "F", [], ["inner"], [constant_of_nothing()], [])
    model.functions.append(function)
    content = model.SerializeToString(deterministic=True)
    parts = read_parts(content)
    assert parts.metadata == {b"other": b"the last counts", b"tidecast": b"{}"}
    assert b"".join(parts.graph) == model.graph.SerializeToString(deterministic=True)
    deciding = onnx.ModelProto(
        graph=model.graph, opset_import=model.opset_import, functions=model.functions
    )
    assert b"".join(parts.computation) == deciding.SerializeToString(deterministic=True)
    shuffled = onnx.ModelProto(functions=model.functions).SerializeToString() + (
        onnx.ModelProto(opset_import=model.opset_import, graph=model.graph).SerializeToString()
    )
    assert b"".join(read_parts(shuffled).computation) == b"".join(parts.computation)


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x08", "no number ends after byte 1"),
        (b"\x08" + b"\x80" * 10 + b"\x00", "no number ends after byte 1"),
        (b"\x80" * 20, "no number ends after byte 0"),
        (tag(7, 2) + b"\x05abc", "the field at byte 0 is cut short"),
        (tag(7, 2) + varint(2**69), "the field at byte 0 is cut short"),
        (tag(7, 2) + b"\x02" + tag(1, 2) + b"\x01\x08\x00", "the field at byte 2 is cut short"),
        (tag(30, 1) + bytes(7), "the field at byte 0 is cut short"),
        (tag(30, 5) + bytes(3), "the field at byte 0 is cut short"),
        (tag(0, 0) + b"\x00", "no field begins at byte 0"),
        (varint(LARGEST_TAG + 1 | 7 << 3 | 2) + b"\x00", "no field begins at byte 0"),
        (tag(30, 3) + tag(30, 4), "no value of ONNX begins at byte 2"),
        (tag(30, 6), "no value of ONNX begins at byte 2"),
    ],
)
def test_what_is_no_protobuf_is_told_by_its_place(content: bytes, said: str) -> None:
    with pytest.raises(MalformedError, match=said):
        read_parts(content)


def test_fields_that_onnx_does_not_know_are_passed_over() -> None:
    unknown = tag(99, 0) + varint(2**64 - 1) + tag(99, 1) + bytes(8) + tag(99, 5) + bytes(4)
    unknown += tag(99, 2) + b"\x01\xff" + tag(7, 0) + b"\x05" + tag(LARGEST_TAG >> 3, 0) + b"\x00"
    parts = read_parts(unknown)
    assert (parts.computation, parts.graph, parts.metadata) == ([], [], {})


def test_a_file_of_endless_fields_is_refused_before_they_end() -> None:
    """Two bytes each; what is beyond the limit is not looked at."""
    with pytest.raises(MalformedError, match=f"more than {MOST_FIELDS:,} fields"):
        read_parts(b"\x08\x00" * (MOST_FIELDS + 1) + b"\xff")


def test_graphs_within_graphs_take_no_deep_calls() -> None:
    """Far deeper than Python calls, and than protobuf itself reads."""
    content = b""
    for number in (5, 1, 6) * 1000:  # a graph's node, its attribute, and that one's graph
        content = tag({5: 6, 1: 5, 6: 1}[number], 2) + varint(len(content)) + content
    assert read_parts(tag(7, 2) + varint(len(content)) + content).metadata == {}


def mutated(content: bytes, random: Random) -> bytes:
    """Damage a file as disks, cut copies and curious people do."""
    damaged, place = bytearray(content), random.randrange(len(content))
    size = random.randrange(1, 9)
    match random.choice(("bits", "bits", "bytes", "cut", "lose", "add", "repeat", "tell")):
        case "bits":
            damaged[place] ^= 1 << random.randrange(8)
        case "bytes":
            for _ in range(size):
                damaged[random.randrange(len(content))] = random.randrange(256)
        case "cut":
            del damaged[place:]
        case "lose":
            del damaged[place : place + size]
        case "add":
            damaged[place:place] = random.randbytes(size)
        case "repeat":
            start = random.randrange(len(content))
            damaged[place : place + size] = damaged[start : start + size]
        case "tell":
            told = random.randrange(content.index(b'{"spec_version"'), len(content))
            damaged[told] = random.choice(b'0123456789eE+-.,:"[]{}\\ntfu ')
    return bytes(damaged)


def test_a_damaged_file_is_refused_in_a_line_or_is_as_good(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Damage to what nobody needs, such as the name of its author, leaves the same forecasts."""
    random, kept = Random(20261129), 0
    options: dict[str, Any] = {"n_steps": 4, "horizon": 2}
    sound = [
        write_mean_model(tmp_path / "mean.onnx", **options),
        write_lstm_model(tmp_path / "lstm.onnx", units=3, **options),
        write_segmented_model(tmp_path / "segmented.onnx", width=4, segment=2, **options),
    ]
    windows = np.random.default_rng(1).normal(50, 10, (20, 4, 1)).astype(np.float32)
    path = tmp_path / "m.onnx"
    for _ in range(600):
        whole = random.choice(sound)
        path.write_bytes(mutated(whole.read_bytes(), random))
        try:
            model = Model(path)
        except ModelError as refused:
            said = str(refused)
            assert said.startswith(f"{path}: "), said
            assert "; " in said
            assert "\n" not in said
            assert len(said) < 1000
        else:
            kept += 1
            np.testing.assert_array_equal(
                model.predict(windows).forecasts, Model(whole).predict(windows).forecasts
            )
    assert 0 < kept < 100
    assert capfd.readouterr() == ("", "")
