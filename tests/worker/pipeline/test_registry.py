"""Which model serves which series, of one file or of a folder of them."""

from pathlib import Path

import pytest

from tests.model_files import write_mean_model
from tidecast.worker.errors import ModelError
from tidecast.worker.pipeline.registry import load_registry

THREADS = Path("/proc/self/task")


def test_each_series_has_its_model(tmp_path: Path) -> None:
    both = ("hum", "value")
    write_mean_model(tmp_path / "b.onnx", name="b", series="b?", features=both)
    write_mean_model(tmp_path / "a.onnx", name="a", series="a*")
    (tmp_path / "notes.txt").write_text("no model")
    registry = load_registry(tmp_path)
    assert [model.spec.name for model in registry.models] == ["a", "b"]
    assert [registry.match(name) for name in ("a", "abc", "bc")] == [0, 0, 1]
    assert [registry.match(name) for name in ("b", "bcd", "xa", "")] == [None] * 4
    assert registry.features == ("value", "hum")


def test_a_file_may_be_named_itself(tmp_path: Path) -> None:
    path = write_mean_model(tmp_path / "one.model", series="a")
    registry = load_registry(path)
    assert [model.path for model in registry.models] == [path]


def test_two_models_for_one_series_are_both_named(tmp_path: Path) -> None:
    write_mean_model(tmp_path / "a.onnx", series="a*")
    write_mean_model(tmp_path / "b.onnx", series="b")
    write_mean_model(tmp_path / "c.onnx", series="?c")
    with pytest.raises(ModelError) as refused:
        load_registry(tmp_path)
    assert str(refused.value) == (
        f"two models for one series: {tmp_path}/a.onnx serves 'a*' and {tmp_path}/c.onnx serves "
        "'?c'; give them globs that share no name ('tidecast-trainer relabel FILE --series GLOB'), "
        "or remove one"
    )


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"^{tmp_path}/x: no such file or directory; name what"):
        load_registry(tmp_path / "x")
    with pytest.raises(ModelError, match=f"^{tmp_path}: a directory without .onnx files; put what"):
        load_registry(tmp_path)


@pytest.mark.parametrize(("threads", "more"), [(1, 0), (4, 3)])
def test_a_model_computes_on_as_many_threads_as_it_is_given(
    tmp_path: Path, threads: int, more: int
) -> None:
    """The one that asks is the first of them."""
    path = write_mean_model(tmp_path / "m.onnx")
    before = len(list(THREADS.iterdir()))
    registry = load_registry(path, threads=threads)
    assert len(list(THREADS.iterdir())) - before == more
    assert len(registry.models) == 1
