"""Servers of every flavour for tests that break them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis.servers import FLAVOURS, Server, needed


@pytest.fixture(params=FLAVOURS)
def server_flavour(request: pytest.FixtureRequest) -> str:
    """Each flavour of server; a missing one skips, and fails where CI is set."""
    flavour: str = request.param
    needed(flavour)
    return flavour


@pytest.fixture
def durable_server(server_flavour: str, tmp_path: Path) -> Iterator[Server]:
    """A running server that keeps every write it has acknowledged."""
    with Server(flavour=server_flavour, folder=tmp_path / "server", durable=True) as server:
        yield server
