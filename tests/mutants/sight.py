"""Which tests see which line: the tests run once under coverage, each in a context of its own.

What a fixture of a module or a session does is seen by every test that uses the fixture, not only
by the one that happens to be first. Processes that a test starts are seen as the test's own.
"""

import ast
import json
import os
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.mutants import CONTEXT

FROM_AFAR = 60
"""Tests that see a line through a process of their own alone, and are asked."""
_Seen = dict[str, dict[int, set[str]]]
MEASURED = ("trainer", "worker/pipeline", "worker/store")


def watch(
    tree: Path, folder: Path, tests: Sequence[str], options: Sequence[str], plugin: object
) -> int:
    """Run tests in the working directory ``tree`` under coverage; leave what was seen in a folder.

    Returns pytest's exit code.
    """
    folder.mkdir()
    sources = "\n".join(f"  {tree / part}" for part in MEASURED)
    settings = folder / "coveragerc"
    settings.write_text(
        f"[run]\nparallel = true\nsigterm = true\ndata_file = {folder / 'processes'}\n"
        f"context = ${{{CONTEXT}}}\nsource =\n{sources}\n"
    )
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(
        "import coverage\n\ncoverage.process_startup()\n"
    )
    os.environ["PYTHONPATH"] = f"{folder / 'site'}{os.pathsep}{os.environ['PYTHONPATH']}"
    os.environ["COVERAGE_PROCESS_START"] = str(settings)
    os.environ[CONTEXT] = ""
    measuring = coverage.Coverage(data_file=str(folder / "own"), config_file=str(settings))
    watching = _Watching(measuring)
    measuring.start()
    code = int(pytest.main([*options, *tests], plugins=[plugin, watching]))
    measuring.stop()
    measuring.save()
    (folder / "tests.json").write_text(json.dumps(watching.told()))
    return code


class _Watching:
    """A pytest plugin that gives each test, and each shared fixture, a context: its number."""

    def __init__(self, measuring: coverage.Coverage) -> None:
        self._measuring = measuring
        self._contexts: list[str] = []
        self._seconds: dict[str, float] = {}
        self._seen_by: dict[str, list[str]] = {}
        self._stack: list[str] = []

    def told(self) -> dict[str, Any]:
        """Return contexts by number, each test's seconds and the contexts that it sees."""
        return {"contexts": self._contexts, "seconds": self._seconds, "seen_by": self._seen_by}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        start = time.perf_counter()
        self._enter(item.nodeid)
        try:
            return (yield)
        finally:
            self._leave()
            self._seconds[item.nodeid] = time.perf_counter() - start
            names = getattr(item, "fixturenames", ())
            shared = [c for c in self._contexts if any(c == f"fixture {name}" for name in names)]
            self._seen_by[item.nodeid] = [item.nodeid, *shared]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        self._enter(f"fixture {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self._leave()

    def _enter(self, context: str) -> None:
        if context not in self._contexts:
            self._contexts.append(context)
        self._stack.append(str(self._contexts.index(context)))
        self._switch()

    def _leave(self) -> None:
        self._stack.pop()
        self._switch()

    def _switch(self) -> None:
        context = self._stack[-1] if self._stack else ""
        os.environ[CONTEXT] = context
        self._measuring.switch_context(context)


class Sight:
    """What the tests of some folders see.

    Args:
        tree: where they ran.
        folders: what ``watch`` left.
    """

    def __init__(self, tree: Path, folders: Sequence[Path]) -> None:
        self.seconds: dict[str, float] = {}
        own: _Seen = {}
        processes: _Seen = {}
        for folder in folders:
            told = json.loads((folder / "tests.json").read_text())
            self.seconds |= told["seconds"]
            seers: dict[str, set[str]] = {str(i): set() for i in range(len(told["contexts"]))}
            for test, contexts in told["seen_by"].items():
                for context in contexts:
                    seers[str(told["contexts"].index(context))].add(test)
            _gather(tree, folder.glob("own.*"), seers, own)
            _gather(tree, folder.glob("processes.*"), seers, processes)
        self._seen = (own, processes)

    def tests(self, file: str, source: str, line: int) -> list[str]:
        """Return the tests that see a line of a file, the quickest first.

        Those that see it through a process of their own are slow and see much else: they come last,
        and at most ``FROM_AFAR`` of them. A line that runs at import is seen by whatever sees some
        line of the file; one that nothing sees, by whatever sees the function around it, as what
        TensorFlow traces runs in a copy of its own.
        """
        span = _statement(source, line)
        tables = [seen.get(file, {}) for seen in self._seen]
        found, around = _seers(tables, span), _functions(source, line)
        for function in around:
            found = found if any(found) else _seers(tables, function)
        at_import = not any(found) or not around
        if at_import and any(i in lines for i in span for lines in tables):
            found = [set().union(*lines.values()) for lines in tables]
        near, far = (sorted(seen, key=lambda test: (self.seconds[test], test)) for seen in found)
        return [*near, *[test for test in far if test not in found[0]][:FROM_AFAR]]


def _seers(tables: Sequence[dict[int, set[str]]], span: Iterable[int]) -> list[set[str]]:
    """Return, for each table, the tests that see any of some lines."""
    return [set().union(*(lines.get(i, set()) for i in span)) for lines in tables]


def _gather(tree: Path, paths: Iterable[Path], seers: dict[str, set[str]], into: _Seen) -> None:
    """Add who sees which line, by what coverage wrote: contexts by line."""
    for path in sorted(paths):
        data = coverage.CoverageData(str(path))
        data.read()
        for name in data.measured_files():
            file = Path(name).resolve().relative_to(tree.resolve()).as_posix()
            lines = into.setdefault(file, {})
            for line, contexts in data.contexts_by_lineno(name).items():
                seen = lines.setdefault(line, set())
                # A forked command's is that of the process that forks it, and behind it its own.
                last = (context.rpartition("|")[2] for context in contexts)
                seen.update(*(seers[context] for context in last if context))


def _functions(source: str, line: int) -> list[range]:
    """Return the lines of the bodies of the functions around one, the innermost first."""
    spans = [
        range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)  # a head runs outside
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted((span for span in spans if line in span), key=len)


def _statement(source: str, line: int) -> range:
    """Return the lines of the innermost statement around one; of a block, its head alone."""
    best = range(line, line + 1)
    size = None
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            body: list[ast.stmt] = getattr(node, "body", [])
            end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
            if line < max(end, node.lineno + 1) and (size is None or end - node.lineno < size):
                best, size = range(node.lineno, max(end, node.lineno + 1)), end - node.lineno
    return best
