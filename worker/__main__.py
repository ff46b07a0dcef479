"""The command line ``tidecast-worker``: composes objects, owns no logic."""

import functools
import gc
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import redis
import typer
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.live import Live
from typer.exceptions import TyperException

from tidecast.version import Version
from tidecast.worker.commands.dead_letters import commands
from tidecast.worker.commands.feed import register as register_feed
from tidecast.worker.commands.status import register as register_status
from tidecast.worker.commands.watch import Board, hear
from tidecast.worker.errors import TidecastError
from tidecast.worker.logs import LOGGER, start_logging
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.service import metrics, quota, web
from tidecast.worker.service.health import Health
from tidecast.worker.service.loop import Worker, untended
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.service.stop import Stop
from tidecast.worker.service.tally import Measures
from tidecast.worker.settings import Settings, load_settings
from tidecast.worker.store import embedded, server
from tidecast.worker.store.address import masked
from tidecast.worker.store.checkpoint import Checkpoints
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.source import Streams

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turn live readings on Redis streams into live forecasts.",
)

CTRL_C = 130
Url = Annotated[
    str | None,
    typer.Option(help="redis://host:6379/0 or redis+sentinel://host/service.  [default: embedded]"),
]
Config = Annotated[Path | None, typer.Option(help="TOML file with settings.")]


@app.callback()
def options_of_all(_version: Version = False) -> None:
    """Take what stands before a command."""


@app.command("run")
def run_command(
    redis_url: Url = None,
    models: Annotated[
        Path | None, typer.Option(help="Model file, or directory of them.  [default: models]")
    ] = None,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="Input stream; may be repeated; 'a:{0..3}' is four.  [default: readings]",
        ),
    ] = None,
    start: Annotated[
        Literal["earliest", "latest"] | None,
        typer.Option(
            "--from",
            help="Where a stream never read before starts (TIDECAST_START).  [default: latest]",
        ),
    ] = None,
    burst: Annotated[
        bool | None, typer.Option("--burst", help="Drain what is there and exit.")
    ] = None,
    fleet: Annotated[
        str | None, typer.Option(help="Workers that share one set of offsets.  [default: default]")
    ] = None,
    read_size: Annotated[
        int | None, typer.Option(help="Entries per read, at most.  [default: 1000]")
    ] = None,
    lease: Annotated[
        float | None,
        typer.Option(help="Seconds after which a dead worker's streams go over.  [default: 10]"),
    ] = None,
    checkpoint_every: Annotated[
        float | None, typer.Option(help="Seconds between checkpoints, at least.  [default: 5]")
    ] = None,
    max_series: Annotated[
        int | None,
        typer.Option(help="Series per stream; beyond, the stalest goes.  [default: 1000000]"),
    ] = None,
    trim: Annotated[
        bool | None,
        typer.Option("--trim", help="Remove readings that every fleet has checkpointed."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="ONNX Runtime threads per model, 1 being best for small ones; "
            "0: as many as the container's CPU quota allows.  [default: 1]"
        ),
    ] = None,
    connect_patience: Annotated[
        float | None, typer.Option(help="Seconds to wait for the server at start.  [default: 10]")
    ] = None,
    redis_user: Annotated[str | None, typer.Option(help="ACL user on the server.")] = None,
    redis_password_file: Annotated[
        Path | None, typer.Option(help="File with the user's password, read at each connection.")
    ] = None,
    redis_ca_file: Annotated[
        Path | None,
        typer.Option(help="PEM: who vouches for a rediss:// server.  [default: the system's]"),
    ] = None,
    redis_cert_file: Annotated[
        Path | None, typer.Option(help="PEM: our own certificate, for mutual TLS.")
    ] = None,
    redis_key_file: Annotated[
        Path | None, typer.Option(help="PEM: its key.  [default: in the certificate's file]")
    ] = None,
    redis_sentinel_password_file: Annotated[
        Path | None, typer.Option(help="File with the password that the sentinels ask for.")
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(help="Port for metrics and probes; 0: any free one.  [default: none]"),
    ] = None,
    http_host: Annotated[
        str | None, typer.Option(help="Address that port listens on.  [default: 127.0.0.1]")
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None, typer.Option(help="Log lines on stderr.  [default: text]")
    ] = None,
    config: Config = None,
) -> None:
    """Forecast every reading that arrives on the input streams.

    Every option is also an environment variable TIDECAST_<NAME> and a TOML key;
    several inputs there have commas between.

    Example: tidecast-worker run --models models/ --input readings --from earliest
    """
    settings = load_settings(
        config,
        redis_url=redis_url,
        redis_user=redis_user,
        redis_password_file=redis_password_file,
        redis_ca_file=redis_ca_file,
        redis_cert_file=redis_cert_file,
        redis_key_file=redis_key_file,
        redis_sentinel_password_file=redis_sentinel_password_file,
        models=models,
        input=tuple(input_) if input_ else None,
        start=start,
        burst=burst,
        fleet=fleet,
        read_size=read_size,
        lease=lease,
        checkpoint_every=checkpoint_every,
        max_series=max_series,
        trim=trim,
        threads=threads,
        connect_patience=connect_patience,
        http_port=http_port,
        http_host=http_host,
        log_format=log_format,
    )
    start_logging(settings.log_format)
    # Until there is a batch to finish, SIGTERM ends the command as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _warn_of_arguments(redis_url, LOGGER.warning)
    registry = load_registry(settings.models, threads=_threads(settings))
    for model in registry.models:
        LOGGER.info("model %s", model, extra={"facts": model.facts})
    health = Health()
    told = metrics.registry_of(health, [m.spec for m in registry.models], time.monotonic)
    if settings.http_port is not None:
        _serve_http(told, health, settings.http_host, settings.http_port)
    with _server(settings) as client:
        worker, stopping = compose(settings, registry, client, health)
        told.register(metrics.WorkerCollector(worker))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        gc.disable()  # the loop collects when it suits
        gc.freeze()
        worker.run()


def _serve_http(told: CollectorRegistry, health: Health, host: str, port: int) -> None:
    """Answer scrapes and probes from now on."""
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


def _warn_of_arguments(redis_url: str | None, notice: Callable[[str], object]) -> None:
    shown = redis_url is not None and any(redis_url in word for word in sys.argv)
    if redis_url is not None and shown and masked(redis_url) != redis_url:
        notice(
            "the password in --redis-url shows in the list of processes; "
            "TIDECAST_REDIS_PASSWORD_FILE or TIDECAST_REDIS_URL keep it out"
        )


def _threads(settings: Settings) -> int:
    """Return how many threads each model gets, which 0 leaves to the CPU quota."""
    if settings.threads:
        return settings.threads
    number = quota.cpus()
    plural = "s" * (number != 1)
    LOGGER.info("%d thread%s per model, as the CPU quota allows", number, plural)
    return number


@contextmanager
def _server(settings: Settings) -> Iterator[redis.Redis]:
    """Yield a client of the configured server, or of an embedded one that lives as long."""
    patience = settings.connect_patience
    if settings.url is not None:
        yield server.connect(
            settings.url, login=settings.login, patience=patience, notice=LOGGER.warning
        )
        return
    running = embedded.find() is not None
    with embedded.serve() as url:
        life = "runs already, is left running" if running else "in memory, ends with this worker"
        LOGGER.info("embedded server at %s (%s)", url, life)
        yield server.connect(url, patience=patience, notice=LOGGER.warning)


def _client_of(redis_url: str | None) -> redis.Redis:
    """Return a client of the named server, or of this user's running embedded one.

    How to enter it is told by the environment: ``TIDECAST_REDIS_USER`` and the other settings.
    """
    settings = load_settings(None, redis_url=redis_url)
    notice = functools.partial(typer.echo, err=True)
    _warn_of_arguments(redis_url, notice)
    url, patience = settings.url, settings.connect_patience
    if url is None:
        return server.connect(
            embedded.wait_for(patience=patience, notice=notice), patience=patience, notice=notice
        )
    return server.connect(url, login=settings.login, patience=patience, notice=notice)


register_feed(app, _client_of)


@app.command("watch")
def watch_command(
    redis_url: Url = None,
    series: Annotated[
        str | None, typer.Option(help="Series, or a glob such as 'boiler-*'.  [default: all]")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Each forecast's JSON on a line, as published.")
    ] = False,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many; 0: never.")] = 0,
) -> None:
    """Show forecasts as they are published; Ctrl-C ends it.

    Example: tidecast-worker watch --series 'boiler-*' --plain --count 10
    """
    client = _client_of(redis_url)
    heard = 0
    console = Console()
    board = Board()
    live = Live(board.table(), console=console, auto_refresh=False)
    plain = plain or not console.is_terminal
    if not plain:
        live.start()
    try:
        for text in hear(client, series):
            if text is not None:
                heard += 1
                board.take(text) if not plain else _write_line(text)
            if not plain:
                live.update(board.table(), refresh=text is None or heard % 10 == 0)
            if count and heard >= count:
                return
    except BrokenPipeError:  # who reads has heard enough, as with "| head -1"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        if not plain:
            live.update(board.table(), refresh=True)
            live.stop()


def _write_line(text: bytes) -> None:
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


app.add_typer(commands(_client_of), name="dead-letters")
register_status(app, _client_of)


def run_app(application: Callable[..., object]) -> int:
    """Run a command line; return its exit code, with one line on stderr for an error."""
    try:
        code = application(standalone_mode=False)
    except TyperException as error:
        typer.echo(f"tidecast-worker: {error.format_message()} See --help.", err=True)
        return 2
    except TidecastError as error:
        typer.echo(f"tidecast-worker: {error}", err=True)
        return error.exit_code
    except typer.Exit as ended:
        return ended.exit_code
    except (typer.Abort, KeyboardInterrupt, BrokenPipeError):
        return 0
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.echo(f"tidecast-worker: {reason}; name a place that can be used", err=True)
        return 2
    # Typer returns the code of an Exit, and one of its own for a Ctrl-C that no command minds.
    return code if isinstance(code, int) and code != CTRL_C else 0


def main() -> None:
    """Run the command line and exit: 0 success, 2 wrong usage or bad input, 1 anything else."""
    sys.exit(run_app(app))


if __name__ == "__main__":
    main()
