"""Who may import whom; see docs/design.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {"source", "decode", "windows", "model", "commit", "checkpoint", "lease"}
LEAVES = {
    "address",
    "cells",
    "contract",
    "errors",
    "health",
    "keys",
    "login",
    "quota",
    "readings",
    "roster",
}
LEAVES |= {"share", "snapshot", "stop", "terminal", "trouble", "wire"}
EDGES = {"source", "commit", "checkpoint", "lease", "server", "embedded", "feed", "watch"}
EDGES |= {"dead_letters", "dead_letters_command", "status", "__main__"}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def internal(module: str) -> set[str]:
    found = imports(ROOT / "worker" / f"{module}.py")
    return {name.split(".")[1] for name in found if name.startswith("worker.")}


MODULES = sorted(path.stem for path in (ROOT / "worker").glob("*.py"))


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_nothing_internal(leaf: str) -> None:
    assert internal(leaf) == set()


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_do_not_know_each_other(stage: str) -> None:
    assert internal(stage) & STAGES == set()


def test_pipeline_is_decode_windows_registry_and_records() -> None:
    assert internal("pipeline") - LEAVES == {"decode", "windows", "registry", "records"}


@pytest.mark.parametrize("module", MODULES)
def test_only_edges_touch_redis(module: str) -> None:
    touches = any(
        name.split(".")[0] == "redis" for name in imports(ROOT / "worker" / f"{module}.py")
    )
    assert not touches or module in EDGES


@pytest.mark.parametrize("module", MODULES)
def test_only_model_touches_onnxruntime(module: str) -> None:
    touches = any(
        name.split(".")[0] == "onnxruntime" for name in imports(ROOT / "worker" / f"{module}.py")
    )
    assert touches == (module == "model")


@pytest.mark.parametrize("path", sorted((ROOT / "trainer").glob("*.py")), ids=lambda p: p.stem)
def test_the_trainer_knows_the_contract_alone(path: Path) -> None:
    known = {name for name in imports(path) if name.split(".")[0] == "worker"}
    assert all(name.startswith("worker.contract") for name in known)


def test_the_worker_loads_no_tensorflow() -> None:
    code = (
        "import pkgutil, importlib, sys, worker\n"
        "for m in pkgutil.iter_modules(worker.__path__):\n"
        "    importlib.import_module('worker.' + m.name)\n"
        "banned = {'tensorflow', 'keras', 'trainer', 'tf2onnx', 'polars', 'matplotlib'}\n"
        "sys.exit(str(banned & set(sys.modules)) if banned & set(sys.modules) else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
