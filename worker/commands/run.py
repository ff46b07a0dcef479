"""The command ``tidecast-worker run``: composes a worker, owns no logic."""

import functools
import gc
import os
import secrets
import signal
import socket
import time

import redis
from prometheus_client import CollectorRegistry

from tidecast.worker.commands.connection import served_client, warn_of_arguments
from tidecast.worker.commands.options import takes
from tidecast.worker.logs import LOGGER, start_logging
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.service import metrics, quota
from tidecast.worker.service.health import Health
from tidecast.worker.service.holdings import untended
from tidecast.worker.service.loop import Worker
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.service.stop import Stop
from tidecast.worker.service.tally import Measures
from tidecast.worker.settings import Settings
from tidecast.worker.store import server
from tidecast.worker.store.checkpoint import Checkpoints
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.source import Streams


@takes(Settings)
def run_command(settings: Settings) -> None:
    """Forecast every reading that arrives on the input streams.

    Every option but --config is also an environment variable TIDECAST_<NAME> and a key of the TOML
    file, where --from is START and start.

    Example: tidecast-worker run --models models/ --input readings --from earliest
    """
    start_logging(settings.log_format)
    # Until there is a batch to finish, SIGTERM ends the command as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warn_of_arguments(settings, LOGGER.warning)
    registry = load_registry(settings.models, threads=_threads(settings))
    for model in registry.models:
        LOGGER.info("model %s", model, extra={"facts": model.facts})
    health = Health()
    told = metrics.registry_of(health, [m.spec for m in registry.models], time.monotonic)
    if settings.http_port is not None:
        _serve_http(told, health, settings.http_host, settings.http_port)
    with served_client(settings) as client:
        worker, stopping = compose(settings, registry, client, health)
        told.register(metrics.WorkerCollector(worker))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        gc.disable()  # the loop collects when it suits
        gc.freeze()
        worker.run()


def _serve_http(told: CollectorRegistry, health: Health, host: str, port: int) -> None:
    """Answer scrapes and probes from now on."""
    # Loading it takes 7 ms, which every start of every command would pay.
    from tidecast.worker.service import web

    probes: dict[str, web.Why] = {
        "/startupz": health.not_started,
        "/readyz": health.not_ready,
        "/livez": lambda: health.not_alive(time.monotonic()),
    }
    port = web.serve(web.application_of(told, probes), host, port)
    shown = f"[{host}]" if ":" in host else host
    LOGGER.info("probes and metrics at http://%s:%d/metrics", shown, port)


def compose(
    settings: Settings, registry: Registry, client: redis.Redis, health: Health
) -> tuple[Worker, Stop]:
    """Put a worker together; return it and what stops it."""
    stopping, backoff = Stop(), server.backoff(longest=5.0)

    def pause(failures: int) -> None:
        if failures == 1:
            backoff.reset()
        stopping.wait(backoff.compute(failures))

    token = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    # A read must not outlast the time at which leases are looked after.
    block = min(server.LONGEST_BLOCK_MS, round(1000 * untended(settings.lease)))
    streams = Streams(
        client=client, count=settings.read_size, block_ms=None if settings.burst else block
    )
    worker = Worker(
        settings,
        streams,
        Leases(client, settings.fleet, token, settings.input, seconds=settings.lease),
        Recovery(settings, registry, streams, Checkpoints(client, settings.fleet, token)),
        functools.partial(
            Committer,
            client,
            settings.fleet,
            token,
            longest_forecasts=settings.longest_forecasts,
            longest_dead=settings.longest_dead,
        ),
        clock=time.monotonic,
        stopping=stopping.is_set,
        wait=stopping.wait,
        pause=pause,
        now=time.time,
        health=health,
        measures=Measures([model.spec.name for model in registry.models]),
    )
    return worker, stopping


def _threads(settings: Settings) -> int:
    """Return how many threads each model gets, which 0 leaves to the CPU quota."""
    if settings.threads:
        return settings.threads
    number = quota.cpus()
    plural = "s" * (number != 1)
    LOGGER.info("%d thread%s per model, as the CPU quota allows", number, plural)
    return number
