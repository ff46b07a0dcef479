"""Another glob without another fit, and what is said of two models for one series."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.model_files import write_lstm_model
from tests.trainer.test_command_line import SMALL, assert_one_line, trainer
from tidecast.trainer.errors import ConfigError, ModelError
from tidecast.trainer.evaluate import open_model
from tidecast.trainer.relabel import contention, relabel
from tidecast.worker.contract import METADATA_KEY, ModelSpec
from tidecast.worker.errors import ModelError as Refused
from tidecast.worker.pipeline.registry import load_registry


def written(path: Path, **described: Any) -> Path:
    """A model file and the description beside it, as a fit leaves them."""
    write_lstm_model(path, units=4, **described)
    path.with_suffix(".json").write_text(json.dumps(metadata(path), indent=2))
    return path


def metadata(path: Path) -> Any:
    (entry,) = (p for p in onnx.load(path).metadata_props if p.key == METADATA_KEY)
    return json.loads(entry.value)


def test_only_the_glob_changes(tmp_path: Path) -> None:
    """Not a byte of the graph; also the description that an export would begin from."""
    path = written(tmp_path / "m.onnx", name="m")
    model = onnx.load(path)
    graph, said = model.graph.SerializeToString(), metadata(path)
    model.metadata_props.add(key="of another program", value="kept")
    model.metadata_props[0].value = json.dumps(said | {"of a newer writer": 1})
    onnx.save(model, path)
    before, after = relabel(path, "pump-*")
    assert (before.series, after.series) == ("*", "pump-*")
    assert graph in path.read_bytes()
    assert metadata(path) == said | {"of a newer writer": 1, "series": "pump-*"}
    assert json.loads(path.with_suffix(".json").read_text()) == said | {"series": "pump-*"}
    others = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert others["of another program"] == "kept"
    registry = load_registry(path)
    assert [registry.match(name) for name in ("pump-1", "boiler")] == [0, None]
    assert registry.models[0].spec.version == said["version"]
    assert {each.name for each in tmp_path.iterdir()} == {"m.onnx", "m.json"}


def test_a_description_of_another_model_is_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx")
    for beside in ('{"version": "another"}', "no JSON", "[]"):
        path.with_suffix(".json").write_text(beside)
        relabel(path, "a*")
        assert path.with_suffix(".json").read_text() == beside


def test_what_cannot_be_relabelled_is_said_and_left_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx")
    content = path.read_bytes()
    with pytest.raises(ConfigError, match="--series ''"):
        relabel(path, "")
    with pytest.raises(ModelError, match="no such file"):
        relabel(tmp_path / "no.onnx", "a")
    assert path.read_bytes() == content
    model = onnx.load(path)
    said = metadata(path)
    forecast = said["golden"]["forecast"]
    forecast[0][0] += 1
    model.metadata_props[0].value = json.dumps(said)
    onnx.save(model, path)
    damaged = path.read_bytes()
    with pytest.raises(ModelError, match=r"golden window.*nothing was written"):
        relabel(path, "a")
    assert path.read_bytes() == damaged


def test_a_file_whose_data_lie_in_another_is_refused_before_they_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the folder: evaluate and relabel open it as a worker does."""
    path = written(tmp_path / "m.onnx")
    model = onnx.load(path)
    outside = onnx.TensorProto(name="w", data_type=onnx.TensorProto.UINT8, dims=[1])
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="etc/passwd")
    model.graph.initializer.append(outside)
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir("/")
    for opened in (open_model, lambda one: relabel(one, "a")):
        with pytest.raises(ModelError, match=r"'w' lie in another file, 'etc/passwd', and no file"):
            opened(path)


def test_models_that_share_a_series_are_both_named_with_what_a_worker_will_say(
    tmp_path: Path,
) -> None:
    one = written(tmp_path / "one.onnx", name="one", series="a*")
    two = written(tmp_path / "two.onnx", name="two", series="?b")
    (tmp_path / "broken.onnx").write_text("no model")
    spec = ModelSpec.model_validate(metadata(two))
    told = contention(two, spec)
    for part in (str(one), "'a*'", str(two), "'?b'", "two models for one series", "relabel"):
        assert part in told
    (tmp_path / "broken.onnx").unlink()
    with pytest.raises(Refused, match="two models for one series"):
        load_registry(tmp_path)
    _, spec = relabel(two, "b?")
    assert contention(two, spec) == ""
    assert len(load_registry(tmp_path).models) == 2


def test_the_command(tmp_path: Path) -> None:
    one = written(tmp_path / "one.onnx", name="one")
    two = written(tmp_path / "two.onnx", name="two", series="b")
    result = trainer("relabel", two, "--series", "b-*")
    assert result.returncode == 0, result.stderr
    version = metadata(two)["version"]
    said = f"{two} serves series 'b-*', before 'b'; two {version} as it was"
    assert result.stdout.strip() == said
    assert f"note: {two} serves" in result.stderr
    assert str(one) in result.stderr
    assert_one_line(trainer("relabel", two, "--series", ""), "--series ''")


def test_a_second_fit_into_a_folder_says_that_the_worker_will_not_start(
    csv: Path, tmp_path: Path
) -> None:
    written(tmp_path / "models" / "first.onnx", name="first")
    options = [*SMALL, "--epochs", "1", "--no-report", "--out", tmp_path / "models"]
    result = trainer("fit", csv, *options, "--name", "second")
    assert result.returncode == 0, result.stderr
    note = result.stderr.strip().splitlines()[-1]
    for part in ("first.onnx", "second.onnx", "two models for one series", "relabel"):
        assert part in note
