"""The command ``tidecast-worker run``: composes a worker, owns no logic."""

import functools
import gc
import os
import secrets
import signal
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import redis
from prometheus_client import CollectorRegistry
from pydantic import ByteSize

from tidecast.worker.commands.connection import served_client, warn_of_arguments
from tidecast.worker.commands.options import takes
from tidecast.worker.contract import ModelSpec
from tidecast.worker.errors import SettingsError
from tidecast.worker.logs import LOGGER, start_logging
from tidecast.worker.pipeline.grid import grid_of
from tidecast.worker.pipeline.naive import naive_of
from tidecast.worker.pipeline.open_slots import depth_of
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.pipeline.series import series_size
from tidecast.worker.pipeline.step import largest_forecast, most_at_once
from tidecast.worker.pipeline.wire import DEFAULT_FLEET
from tidecast.worker.service import metrics, quota
from tidecast.worker.service.budget import (
    SHARE_BESIDE_A_SERVER,
    SHARE_OF_CONTAINER,
    Budget,
    budget_of,
    least,
)
from tidecast.worker.service.health import Health
from tidecast.worker.service.holdings import untended
from tidecast.worker.service.loop import Worker
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.service.rules import override
from tidecast.worker.service.stop import Stop
from tidecast.worker.service.tally import Measures
from tidecast.worker.settings import Settings
from tidecast.worker.store import server
from tidecast.worker.store.checkpoint import Checkpoints
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.keys import channel_of, forecasts_key
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.source import Streams

STOPS = (signal.SIGTERM, signal.SIGINT)
MOST_OPEN = 100
"""Slots of a series that may be open at once."""
MOST_NAMED = 10
"""Features that are named to say which there are."""


@takes(Settings)
def run_command(settings: Settings) -> None:
    """Forecast every reading that arrives on the input streams.

    Every option but --config is also an environment variable TIDECAST_<NAME> and a key of the TOML
    file, where --from is START and start.

    Example: tidecast-worker run --models models/ --input readings --from earliest
    """
    start_logging(settings.log_format)
    warn_of_arguments(settings, LOGGER.warning)
    registry = _load(settings)
    for said in override(registry.models, settings):
        LOGGER.info("%s", said)
    for model in registry.models:
        if settings.cold_start == "naive" and naive_of(model.spec) is None:
            LOGGER.warning(
                "--cold-start naive: model %s forecasts what it does not read, so there is nothing "
                "to repeat; its new series wait",
                model.spec.name,
            )
        LOGGER.info("model %s", model, extra={"facts": model.facts})
    if settings.series_ttl is not None and settings.series_ttl < settings.max_skew:
        LOGGER.warning(
            "--series-ttl %g is shorter than --max-skew %g: one clock that is ahead by less than "
            "that makes every series go; lower --max-skew",
            settings.series_ttl,
            settings.max_skew,
        )
    _check_naming(settings, registry.features)
    _check_lateness(settings.lateness, [model.spec for model in registry.models])
    if kept := kept_forecasts(settings, registry):
        option = "--keep-forecasts" if settings.longest_forecasts is None else "--longest-forecasts"
        LOGGER.info("each stream keeps its newest %d forecasts or so (%s)", kept, option)
    if settings.fleet != DEFAULT_FLEET:
        LOGGER.info(
            "fleet %s publishes on %s<series> and writes to %s",
            *(settings.fleet, channel_of(settings.fleet)),
            forecasts_key(settings.input[0], settings.fleet),
        )
    budget = _budget(settings, registry)
    health = Health()
    told = metrics.registry_of(health, [m.spec for m in registry.models], time.monotonic)
    if settings.http_port is not None:
        _serve_http(told, health, settings.http_host, settings.http_port)
    with served_client(settings) as client:
        worker, stopping = compose(settings, registry, client, health, budget)
        told.register(metrics.WorkerCollector(worker))
        for number in STOPS:
            signal.signal(number, lambda *_: stopping.set())
        gc.disable()  # the loop collects when it suits
        gc.freeze()
        worker.run()


def _check_naming(settings: Settings, features: Sequence[str]) -> None:
    """Say what of the names of fields changes nothing."""
    for feature, name in settings.naming.values:
        if feature not in features:
            LOGGER.warning(
                "--value %s=%s changes nothing: no model has such a feature; they have %s",
                *(feature, name, ", ".join(features[:MOST_NAMED])),
            )
    if settings.value_field != "value" and settings.feature_field is None:
        LOGGER.warning(
            "--value-field %s changes nothing: say with --feature-field which field names the "
            "feature",
            settings.value_field,
        )


def _check_lateness(lateness: float, specs: Sequence[ModelSpec]) -> None:
    """Refuse to keep very many slots open, and say where there are none.

    Raises:
        SettingsError: some model has steps that are too short for that.
    """
    depths = {spec.name: depth_of(grid_of(spec), 1000 * lateness) for spec in specs}
    for spec in specs:
        if depths[spec.name] > MOST_OPEN:
            least = (spec.step_seconds or 0) * MOST_OPEN
            raise SettingsError(
                f"--lateness {lateness:g} keeps {depths[spec.name]:,} slots of each series open "
                f"for model {spec.name} (its step is {spec.step_seconds:g} s): at most {MOST_OPEN} "
                f"are kept; choose less than {least:g} seconds"
            )
    if lateness and not any(depths.values()):
        LOGGER.warning(
            "--lateness %g changes nothing: no model joins features or aggregates readings",
            lateness,
        )


def _load(settings: Settings) -> Registry:
    """Load the models, and end the process at once on a wish to stop.

    ONNX Runtime may say nothing to Python for minutes, and Python tells the main thread alone of
    signals. So models load in another one, which nothing but the end of the process can stop.
    """
    threads = _threads(settings)
    for number in STOPS:
        signal.signal(number, lambda *_: os._exit(0))  # nothing is begun that would need an end
    try:
        with ThreadPoolExecutor(max_workers=1) as loading:
            return loading.submit(load_registry, settings.models, threads=threads).result()
    finally:
        # Until there is a batch to finish, SIGTERM ends the command as Ctrl-C does.
        for number in STOPS:
            signal.signal(number, signal.default_int_handler)


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
    LOGGER.info("probes and metrics at http://%s:%d/metrics", web.shown(host), port)


def compose(
    settings: Settings,
    registry: Registry,
    client: redis.Redis,
    health: Health,
    budget: Budget,
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
        client=client,
        count=settings.read_size,
        block_ms=None if settings.burst else block,
        largest=budget.reply,
    )
    worker = Worker(
        settings,
        streams,
        Leases(client, settings.fleet, token, settings.input, seconds=settings.lease),
        Recovery(
            settings, registry, streams, Checkpoints(client, settings.fleet, token), budget.room
        ),
        functools.partial(
            Committer,
            client,
            settings.fleet,
            token,
            longest_forecasts=kept_forecasts(settings, registry),
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


def _budget(settings: Settings, registry: Registry) -> Budget:
    """Return how memory is divided, and say so where there is a limit.

    Raises:
        SettingsError: it is too little.
    """
    container = quota.memory()
    most, source = settings.max_memory, "--max-memory"
    if most is None:
        if container is None:
            return Budget()
        share = SHARE_BESIDE_A_SERVER if settings.url is None else SHARE_OF_CONTAINER
        most, source = ByteSize(container * share), f"{share} of the container's limit"
    used, streams = quota.resident(), len(settings.input)
    specs = [model.spec for model in registry.models]
    lateness = 1000 * settings.lateness
    each = series_size(specs, lateness)
    if most < least(used, streams, each):
        said = (
            f"{_megabytes(most)} of memory ({source}): models and libraries take "
            f"{_megabytes(used)}, a series of the largest {each} bytes; give it "
            f"{_megabytes(least(used, streams, each))} or more for {streams} streams"
        )
        if settings.max_memory is not None:
            raise SettingsError(said)
        LOGGER.warning("%s, or the worker may be killed", said)
    budget = budget_of(most, used, streams)
    room = budget.room.series or 0
    LOGGER.info(
        "memory: %s (%s), of which %s for the series of each stream: %d or so",
        *(_megabytes(most), source, _megabytes(room)),
        min(settings.max_series, room // each - most_at_once(specs, budget.room, lateness)),
    )
    return budget


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def kept_forecasts(settings: Settings, registry: Registry) -> int:
    """Return how many forecasts an input stream keeps, 0 for all."""
    if settings.longest_forecasts is not None or not settings.keep_forecasts:
        return settings.longest_forecasts or 0
    return max(1, settings.keep_forecasts // largest_forecast([m.spec for m in registry.models]))


def _threads(settings: Settings) -> int:
    """Return how many threads each model gets, which 0 leaves to the CPU quota."""
    if settings.threads:
        return settings.threads
    number = quota.cpus()
    plural = "s" * (number != 1)
    LOGGER.info("%d thread%s per model, as the CPU quota allows", number, plural)
    return number
