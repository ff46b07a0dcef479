"""Real servers and real processes for tests."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings

from worker import embedded

# A slow machine is no failure, so nothing is timed.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

TENSORFLOW = {"test_end_to_end.py", "test_demo.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that load TensorFlow in one process; it takes seconds, and half a gigabyte."""
    for item in items:
        if item.path.name in TENSORFLOW or item.path.parent.name == "trainer":
            item.add_marker(pytest.mark.xdist_group("tensorflow"))


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded.serve(tmp_path_factory.mktemp("valkey") / "private") as url:
        yield url


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    """A client of the tests' own server, emptied before each test."""
    with redis.Redis.from_url(server_url, protocol=2) as client:
        client.flushall()
        yield client


@pytest.fixture
def shared_data() -> Path:
    """The folder of real records; a test that needs it skips where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real records is not there")
    return folder


@pytest.fixture
def tidecast(server_url: str) -> Run:
    """Run a command of the worker against the tests' server and return what it said."""

    def run(command: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "worker", command]
        words += [] if "--redis-url" in options else ["--redis-url", server_url]
        return subprocess.run(
            [*words, *map(str, options)], capture_output=True, text=True, timeout=800, check=False
        )

    return run
