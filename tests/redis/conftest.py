"""Servers of every flavour for tests that break them, and a worker in this process."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.model_files import write_mean_model
from tests.redis.servers import FLAVOURS, Server, needed
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.service.loop import Worker
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.settings import Settings
from tidecast.worker.store.checkpoint import Checkpoints
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.source import Streams


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


@pytest.fixture
def worker_of(client: redis.Redis, tmp_path: Path) -> Callable[..., Worker]:
    """Make a worker that drains the stream; unless said, its time stands still."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)

    def make(
        stopping: Callable[[], bool],
        pause: Callable[[int], object],
        clock: Callable[[], float] = lambda: 0.0,
        *,
        burst: bool = True,
        read_size: int = 1,
        block_ms: int | None = None,
        reached: Callable[[str], object] = lambda _: None,
        **told: Any,
    ) -> Worker:
        settings = Settings(
            models=model, burst=burst, start="earliest", read_size=read_size, **told
        )
        streams = Streams(client=client, count=read_size, block_ms=block_ms)
        checkpoints = Checkpoints(client, "default", "me")
        return Worker(
            settings,
            streams,
            Leases(client, "default", "me", settings.input, seconds=settings.lease),
            Recovery(settings, load_registry(model), streams, checkpoints),
            partial(Committer, client, "default", "me", longest_forecasts=0, longest_dead=0),
            clock=clock,
            stopping=stopping,
            wait=lambda _: None,
            pause=pause,
            reached=reached,
            longest_pause=0.1,
            restored_for=0.0,
        )

    return make
