"""Who may import whom: wings, lowest first; see docs/design.md."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKER = ROOT / "worker"
WINGS = [
    {"contract", "errors", "logs"},
    {"pipeline"},
    {"store"},
    {"settings"},
    {"service"},
    {"commands"},
    {"__main__"},
    {"start"},
]
"""Imports go to an earlier line alone, and inside a wing to whatever makes no circle."""
STAGES = {"decode", "windows", "model", "source", "commit", "checkpoint", "lease"}
"""Modules that never import each other: what joins them is ``step``, ``recovery`` and ``loop``."""
REDIS = {"store", "commands"}
"""The wings that may know the driver; its errors end there."""


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def internal(path: Path) -> set[tuple[str, ...]]:
    """What of the worker a file imports, as paths below it."""
    root = "tidecast.worker."
    found = {name.removeprefix(root) for name in imports(path) if name.startswith(root)}
    return {tuple(name.split(".")) for name in found}


def wing_of(part: str) -> int:
    (place,) = (place for place, wing in enumerate(WINGS) if part in wing)
    return place


MODULES = sorted(
    (path for path in WORKER.rglob("*.py") if path.name != "__init__.py"),
    key=lambda path: path.relative_to(WORKER),
)
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(WORKER).with_suffix("").as_posix()
)


@each_module
def test_imports_go_down(path: Path) -> None:
    part = path.relative_to(WORKER).with_suffix("").parts[0]
    above = {
        found for found in internal(path) if found[0] != part and wing_of(found[0]) >= wing_of(part)
    }
    assert above == set()


def test_imports_make_no_circle() -> None:
    known = {path.relative_to(WORKER).with_suffix("").parts: path for path in MODULES}
    TopologicalSorter(
        {module: internal(path) & known.keys() for module, path in known.items()}
    ).prepare()  # raises where there is one


@each_module
def test_stages_do_not_know_each_other(path: Path) -> None:
    if path.stem in STAGES:
        assert {found[1] for found in internal(path) if len(found) > 1} & STAGES == set()


@each_module
def test_only_the_edges_touch_redis(path: Path) -> None:
    if any(name.split(".")[0] == "redis" for name in imports(path)):
        assert path.relative_to(WORKER).parts[0] in REDIS


@each_module
def test_only_model_touches_onnxruntime(path: Path) -> None:
    touches = any(name.split(".")[0] == "onnxruntime" for name in imports(path))
    assert touches == (path == WORKER / "pipeline" / "model.py")


SHARED = {("pipeline", name) for name in ("model_file", "grid", "calendar", "aggregate")}
"""What of the worker, beside the contract, the trainer works with."""


FILES = {("pipeline", "epoch"), ("pipeline", "cells")}
"""What of the worker files of readings are read by."""


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tidecast" / "files").glob("*.py")), ids=lambda p: p.stem
)
def test_files_know_of_the_worker_times_and_markers_alone(path: Path) -> None:
    assert {found[:2] for found in internal(path)} <= FILES
    assert not any(name.startswith("tidecast.trainer") for name in imports(path))


@pytest.mark.parametrize("path", sorted((ROOT / "trainer").glob("*.py")), ids=lambda p: p.stem)
def test_the_trainer_knows_of_the_worker_models_slots_and_times_alone(path: Path) -> None:
    for found in internal(path):
        assert found[0] == "contract" or found[:2] in SHARED, found


def test_the_worker_loads_no_tensorflow() -> None:
    code = (
        "import pkgutil, importlib, sys, tidecast.worker as worker\n"
        "for m in pkgutil.walk_packages(worker.__path__, 'tidecast.worker.'):\n"
        "    importlib.import_module(m.name)\n"
        "banned = {'tensorflow', 'keras', 'tidecast.trainer', 'tf2onnx', 'polars', 'clevercsv'}\n"
        "sys.exit(str(banned & set(sys.modules)) if banned & set(sys.modules) else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
