"""The command ``tidecast-worker watch``: listens to forecast channels and shows what is heard.

Delivery: at most once, as with all pub/sub; the record is on the ``:forecasts`` stream.
"""

import datetime
import os
import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
import redis
import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from tidecast.worker.commands.connection import client_of
from tidecast.worker.commands.options import takes
from tidecast.worker.contract import glob_regex
from tidecast.worker.errors import ServerError
from tidecast.worker.settings import ServerSettings
from tidecast.worker.store.server import LONGEST_BLOCK_MS

BARS = "▁▂▃▄▅▆▇█"
MOST_ROWS = 30


@takes(ServerSettings)
def watch_command(
    settings: ServerSettings,
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
    client = client_of(settings)
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


def hear(client: redis.Redis, series: str | None) -> Iterator[bytes | None]:
    """Yield each forecast's JSON as it is published; None when nothing came for a while.

    Args:
        client: the server.
        series: a series name or a glob (``boiler-*``); None for all.

    Raises:
        ServerError: the connection broke.
    """
    wanted = series or "*"
    try:
        try:
            for heard in _heard(client, wanted):
                yield heard["data"] if heard else None
        except redis.exceptions.NoPermissionError:
            # A server that lets a user hear "forecast:*" does not let it name a narrower pattern.
            fits = glob_regex(wanted).fullmatch
            for heard in _heard(client, "*"):
                if heard is None or fits(heard["channel"].decode().removeprefix("forecast:")):
                    yield heard["data"] if heard else None
    except redis.RedisError as error:
        raise ServerError(
            f"the server hung up ({error}); start 'tidecast-worker watch' again"
        ) from error


def _heard(client: redis.Redis, glob: str) -> Iterator[dict[str, Any] | None]:
    """Yield what is published for a name or a glob; None when nothing came for a while."""
    with client.pubsub(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        ignore_subscribe_messages=True
    ) as channel:
        if "*" in glob or "?" in glob:
            channel.psubscribe(f"forecast:{_server_glob(glob)}")
        else:
            channel.subscribe(f"forecast:{glob}")
        while True:
            yield channel.get_message(timeout=LONGEST_BLOCK_MS / 1000)


def _server_glob(glob: str) -> str:
    """Return a glob of ``*`` and ``?`` in the server's words, where brackets are special too."""
    return re.sub(r"([\[\]\\])", r"\\\1", glob)


class Board:
    """The newest forecast of each series, as a table to look at."""

    def __init__(self) -> None:
        self._newest: dict[str, dict[str, Any]] = {}
        self.heard = 0

    def take(self, text: bytes) -> None:
        """Note a forecast."""
        forecast = orjson.loads(text)
        self._newest.pop(forecast["series"], None)
        self._newest[forecast["series"]] = forecast
        self.heard += 1

    def table(self) -> Table:
        """Return the table, the series heard last at the top."""
        table = Table(title=f"{self.heard} forecasts heard, {len(self._newest)} series")
        for heading in ("series", "after the reading at", "target", "leads", "forecast", "model"):
            table.add_column(heading)
        newest = list(reversed(self._newest.values()))[:MOST_ROWS]
        for forecast in newest:
            for target, leads in forecast["forecast"].items():
                table.add_row(
                    escape(forecast["series"]),
                    _time(forecast["at"]),
                    escape(target),
                    _sparkline(leads),
                    ", ".join(f"{lead:.6g}" for lead in leads[:6]) + (" ..." * (len(leads) > 6)),
                    f"{forecast['model']} {forecast['version']}",
                )
        return table


def _time(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _sparkline(values: list[float]) -> str:
    low, span = min(values), max(values) - min(values)
    if len(values) < 2 or span == 0:
        return "·" * len(values)
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)
