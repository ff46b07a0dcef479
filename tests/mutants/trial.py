"""Mutants are tried: each in a forked process and in a copy of the tree of its own.

The process that forks has TensorFlow and the other large packages imported and has never used them:
a fork costs milliseconds where an import costs seconds. Nothing of Tidecast is imported in it.
"""

import importlib
import os
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.mutants.catalogue import Mutant

ROOT = Path(__file__).parents[2]
LIGHT = ("numpy", "onnx", "onnxruntime", "redis", "pydantic_settings", "typer", "hypothesis")
HEAVY = ("polars", "tensorflow", "keras", "tf2onnx", "optuna", "statsmodels.api", "matplotlib")
OPTIONS = (
    *("--tb=short", "--exitfirst", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # hypothesis is imported by then
)
LEFT_OUT = (".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "build", "*.egg-info")
GRACE = 20.0
"""Seconds that a mutant has beyond what is usual."""
SLOWER = 6.0
"""How many times as long as usual its tests may take; an endless loop is found, too."""
FAILED = {1, 2, 3, 4}
"""What pytest answers where a test, an import, or pytest itself in a broken program failed."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: ``killed``, ``late`` (killed too), ``survived`` or ``unseen``."""

    mutant: Mutant
    outcome: str
    tests: int
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether the tests tell it from the real program."""
        return self.outcome in ("killed", "late")


def warm(*, trainer: bool) -> None:
    """Import what takes long to import, and use nothing of it."""
    # Where these start threads at import, those are idle, which is all that a fork needs.
    warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)
    for name in (*LIGHT, *(HEAVY if trainer else ())):
        importlib.import_module(name)


def copy_tree(folder: Path) -> Path:
    """Copy the checkout, links as links, so that no mutant ever lies in it."""
    shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return folder


def start(tree: Path, log: Path, work: Callable[[], int]) -> int:
    """Fork a process that works in a tree as a fresh interpreter would; return its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    return child or _work(tree, log, work)


def _work(tree: Path, log: Path, work: Callable[[], int]) -> NoReturn:
    code = 3
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(tree)
        path = [str(tree), *(part for part in sys.path if Path(part).resolve() != ROOT and part)]
        sys.path[:] = path
        outer = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        kept = [part for part in outer if part and Path(part).resolve() != ROOT]
        os.environ["PYTHONPATH"] = os.pathsep.join([str(tree), *kept])
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        code = work()
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - whatever it is, no second process goes on from here
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Wait for a process and return its exit code; who is interrupted meanwhile takes it along."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.killpg(child, signal.SIGKILL)
        raise


class _Chosen:
    """A pytest plugin that runs some tests alone, in their order, and seeks no small examples."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._rank = {test: place for place, test in enumerate(tests)}

    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings

        settings.register_profile(
            "mutants",
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutants")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if not self._rank:
            return
        # A mutant may change what a test's parameters, and so its name, are made of.
        renamed = {_function(test) for test in self._rank.keys() - {i.nodeid for i in items}}
        last = len(self._rank)
        ranked = [(self._rank.get(item.nodeid, last), item) for item in items]
        chosen = [pair for pair in ranked if pair[0] < last or _function(pair[1].nodeid) in renamed]
        items[:] = [item for _, item in sorted(chosen, key=lambda pair: pair[0])]


def _function(test: str) -> str:
    return test.partition("[")[0]


def run_tests(tests: dict[str, float]) -> int:
    """Run tests in the working directory until one fails; return pytest's exit code.

    Args:
        tests: with the seconds that each usually takes; one that takes far longer fails.
    """
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    files = sorted({test.partition("::")[0] for test in tests})
    limit = f"--timeout={GRACE + SLOWER * max(tests.values())}"
    return int(pytest.main([*OPTIONS, limit, *files], plugins=[_Chosen(list(tests))]))


def usual() -> Any:
    """Return the plugin that makes hypothesis the same each time, for the run without a mutant."""
    return _Chosen(())


@dataclass
class _Running:
    mutant: Mutant
    tests: dict[str, float]
    tree: Path
    begun: float
    limit: float
    stopped: bool = False


def try_all(
    mutants: Iterable[tuple[Mutant, dict[str, float]]], trees: Sequence[Path], logs: Path
) -> Iterator[Verdict]:
    """Yield what becomes of each mutant, as many at a time as there are trees.

    Args:
        mutants: each with the tests that see it and the seconds that each of these usually takes.
        trees: copies of the checkout.
        logs: takes what the tests of each tree say; the newest mutant's stays.
    """
    free, running = list(trees), dict[int, _Running]()
    waiting = iter(mutants)
    try:
        while True:
            while free and (item := next(waiting, None)) is not None:
                mutant, tests = item
                if not tests:
                    yield Verdict(mutant, "unseen", 0, 0.0)
                    continue
                tree = free.pop()
                _write(tree / mutant.file, mutant.source)
                child = start(tree, logs / f"{tree.name}.log", partial(run_tests, tests))
                limit = GRACE + SLOWER * sum(tests.values())
                running[child] = _Running(mutant, tests, tree, time.monotonic(), limit)
            if not running:
                return
            time.sleep(0.02)
            yield from _ended(running, free)
    finally:  # where the caller is interrupted
        for child in running:
            os.killpg(child, signal.SIGKILL)


def _ended(running: dict[int, _Running], free: list[Path]) -> Iterator[Verdict]:
    """Yield the verdicts of those that have ended, and hurry those that take too long."""
    for child, one in list(running.items()):
        seconds = time.monotonic() - one.begun
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            _hurry(child, one, seconds)
            continue
        del running[child]
        free.append(one.tree)
        _write(one.tree / one.mutant.file, None)
        yield Verdict(one.mutant, _outcome(one, status), len(one.tests), seconds)


def _hurry(child: int, one: _Running, seconds: float) -> None:
    """Interrupt tests that take too long, so that they stop their servers; then kill them."""
    if seconds > one.limit + GRACE:
        os.killpg(child, signal.SIGKILL)
    elif seconds > one.limit and not one.stopped:
        one.stopped = True
        os.kill(child, signal.SIGINT)


def _outcome(one: _Running, status: int) -> str:
    if one.stopped:
        return "late"
    code = os.waitstatus_to_exitcode(status)
    return "killed" if code in FAILED or code < 0 else "survived"


def _write(path: Path, source: str | None) -> None:
    """Write a mutant over a file of a copy, or (None) the checkout's own file, with its time.

    Compiled files go by a source's time and size; the time of a mutant is no other's.
    """
    if source is None:
        path.write_bytes(path.with_suffix(".py.real").read_bytes())
        shutil.copystat(path.with_suffix(".py.real"), path)
        return
    if not path.with_suffix(".py.real").exists():
        shutil.copy2(path, path.with_suffix(".py.real"))
    path.write_text(source)
    os.utime(path, (1, 1))
