"""Real servers and real processes for tests."""

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.commands import Commands, commands
from tests.redis.servers import FLAVOURS, Server, needed, version_of
from tidecast.worker.store import embedded

# A slow machine is no failure, so nothing is timed.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Tests run in more processes than there are processors: threads of each cost more than they bring.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

# What a shell starts in the background ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

WHOLE_LINE = {"test_end_to_end.py", "test_metrics.py", "test_worker_process.py"}
COSTLY = ("patterns", "taxi", "meter", "wheel", "whole", "wave", "restless", "known")
"""Fixtures that take seconds: the tests that share one run in one process."""
LONG = (
    *(
        "test_end_to_end.py",
        "test_wheel.py",
        "test_networks.py",
        "test_training.py",
        "test_tune.py",
    ),
    *("test_accuracy.py", "test_benchmarks.py", "test_faults.py", "trainer"),
)
"""Files and folders that take longest: begun first, none of them is waited for in the end."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run more processes than there are processors, since many tests wait."""
    return len(os.sched_getaffinity(0)) + 2


@pytest.hookimpl(wrapper=True)  # a wrapper comes before xdist, which looks at the marks in its own
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Keep tests that share what is costly together, and put those that take long in front."""
    items.sort(key=lambda item: next((i for i, p in enumerate(LONG) if p in item.path.parts), 99))
    sharing = []
    for item in items:
        named = getattr(item, "fixturenames", ())
        shared = next((name for name in COSTLY if name in named), None)
        if shared:
            item.add_marker(pytest.mark.xdist_group(shared))
            sharing.append(item)
    yield
    # An xdist that does not fit pytest says nothing, and each process makes all that is costly.
    if getattr(config.option, "loadgroup", False):
        assert all("@" in item.nodeid for item in sharing), "xdist keeps no group together"


Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the whole line on each flavour of server."""
    if metafunc.definition.path.name in WHOLE_LINE and "shared_server" in metafunc.fixturenames:
        metafunc.parametrize("shared_server", FLAVOURS, indirect=True, scope="session")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in a table, a column for each flavour of server, how many tests passed on it."""
    passed, ran = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            file, _, case = report.nodeid.partition("::")
            for flavour in set(FLAVOURS) & set(re.split(r"[\[\]-]", case)):
                passed[file, flavour] += outcome == "passed"
                ran[file, flavour] += 1
    files = sorted({file for file, _ in ran if all(ran[file, one] for one in FLAVOURS)})
    if not files:
        return
    heads = [version_of(flavour) or f"no {flavour}" for flavour in FLAVOURS]
    terminalreporter.section("tests passed on real servers")
    terminalreporter.write_line(f"{'':40}" + "".join(f"{head:>20}" for head in heads))
    for file in files:
        cells = (f"{passed[file, one]} of {ran[file, one]}" for one in FLAVOURS)
        terminalreporter.write_line(f"{file:40}" + "".join(f"{cell:>20}" for cell in cells))


@pytest.fixture(scope="session")
def shared_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where the embedded server is, or one of the flavour that a test asks for."""
    flavour: str = getattr(request, "param", FLAVOURS[0])
    if flavour == FLAVOURS[0]:
        with embedded.serve(tmp_path_factory.mktemp("valkey") / "private") as url:
            yield url
        return
    needed(flavour)
    with Server(flavour=flavour, folder=tmp_path_factory.mktemp(flavour) / "server") as server:
        yield server.url


@pytest.fixture
def client(shared_server: str) -> Iterator[redis.Redis]:
    """A client of the tests' own server, emptied before each test."""
    with redis.Redis.from_url(shared_server, protocol=2) as client:
        client.flushall()
        yield client


@pytest.fixture
def server_url(shared_server: str, client: redis.Redis) -> str:
    """Where the tests' own server is, emptied before each test."""
    del client  # it has emptied it
    return shared_server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real records; a test that needs it skips where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real records is not there")
    return folder


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """What runs commands without loading all they need each time."""
    with commands(tmp_path_factory.mktemp("commands")) as loaded:
        yield loaded


@pytest.fixture
def tidecast(server_url: str, loaded: Commands) -> Run:
    """Run a command of the worker against the tests' server and return what it said."""

    def run(command: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
        there = () if "--redis-url" in options else ("--redis-url", server_url)
        return loaded.run(command, *there, *map(str, options))

    return run
