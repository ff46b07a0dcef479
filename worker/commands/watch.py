"""The command ``tidecast-worker watch``: listens to forecast channels and shows what is heard.

Delivery: at most once, as with all pub/sub; the record is on the ``:forecasts`` stream.
"""

import datetime
import math
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
from tidecast.worker.logs import json_line, printable
from tidecast.worker.pipeline.epoch import LATEST_TIME
from tidecast.worker.pipeline.wire import DEFAULT_FLEET
from tidecast.worker.settings import WatchSettings
from tidecast.worker.store.keys import CHANNELS_OF_OTHERS, channel_of
from tidecast.worker.store.server import LONGEST_BLOCK_MS

BARS = "▁▂▃▄▅▆▇█"
MOST_ROWS = 30


@takes(WatchSettings)
def watch_command(
    settings: WatchSettings,
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
        for text in hear(client, settings.fleet, series):
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
    """Write a record as it was published, unless it could play with a terminal."""
    line = text.decode("utf-8", "backslashreplace")
    if not line.isprintable():
        said = forecast_of(text)
        line = printable(line) if said is None else json_line(said)
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()


def forecast_of(text: bytes) -> dict[str, Any] | None:
    """Return the forecast that was published, None where it is something else."""
    try:
        said = orjson.loads(text)
        sound = (
            all(isinstance(said[name], str) for name in ("series", "model"))
            and isinstance(said.get("version", ""), str)  # naive forecasts have none
            and 0 <= said["at"] <= LATEST_TIME
            and all(math.isfinite(sum(leads)) and leads for leads in said["forecast"].values())
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    return said if sound else None


def hear(client: redis.Redis, fleet: str, series: str | None) -> Iterator[bytes | None]:
    """Yield each forecast's JSON as it is published; None when nothing came for a while.

    Args:
        client: the server.
        fleet: whose forecasts.
        series: a series name or a glob (``boiler-*``); None for all.

    Raises:
        ServerError: the connection broke.
    """
    wanted, own = series or "*", channel_of(fleet)
    fits = glob_regex(wanted).fullmatch
    for name, is_glob in _channels(fleet, wanted):
        try:
            for heard in _heard(client, name, is_glob=is_glob):
                if heard is None:
                    yield None
                    continue
                channel = heard["channel"].decode("utf-8", "replace")
                if channel.startswith(own) and fits(channel.removeprefix(own)):
                    yield heard["data"]
        except redis.exceptions.NoPermissionError as error:
            refused = error
        except redis.RedisError as error:
            raise ServerError(
                f"the server hung up ({error}); start 'tidecast-worker watch' again"
            ) from error
    raise ServerError(
        f"the server does not let this user hear {own}* ({refused}); give it that right"
    ) from refused


def _channels(fleet: str, wanted: str) -> Iterator[tuple[str, bool]]:
    """Yield what to listen to and whether that is a glob, the narrowest first.

    Of globs, a server lets a user name those alone that it was given, as they are written.
    """
    own = re.sub(r"([\[\]\\*?])", r"\\\1", channel_of(fleet))
    if "*" in wanted or "?" in wanted:
        # In the server's globs brackets are special, too.
        yield own + re.sub(r"([\[\]\\])", r"\\\1", wanted), True
    else:
        yield channel_of(fleet, wanted), False
    yield f"{own}*", True
    if fleet != DEFAULT_FLEET:
        yield CHANNELS_OF_OTHERS, True


def _heard(client: redis.Redis, name: str, *, is_glob: bool) -> Iterator[dict[str, Any] | None]:
    """Yield what is published on a channel or a glob's; None when nothing came for a while."""
    with client.pubsub(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        ignore_subscribe_messages=True
    ) as channel:
        if is_glob:
            channel.psubscribe(name)
        else:
            channel.subscribe(name)
        while True:
            yield channel.get_message(timeout=LONGEST_BLOCK_MS / 1000)


class Board:
    """The newest forecast of each series, as a table to look at."""

    def __init__(self) -> None:
        self._newest: dict[str, dict[str, Any]] = {}
        self.heard = self.strange = 0

    def take(self, text: bytes) -> None:
        """Note a forecast; what else is published there is only counted."""
        forecast = forecast_of(text)
        if forecast is None:
            self.strange += 1
            return
        self._newest.pop(forecast["series"], None)
        self._newest[forecast["series"]] = forecast
        self.heard += 1

    def table(self) -> Table:
        """Return the table, the series heard last at the top."""
        strange = f", {self.strange} messages that are none" * bool(self.strange)
        table = Table(title=f"{self.heard} forecasts heard, {len(self._newest)} series{strange}")
        for heading in ("series", "after the reading at", "target", "leads", "forecast", "model"):
            table.add_column(heading)
        newest = list(reversed(self._newest.values()))[:MOST_ROWS]
        for forecast in newest:
            for target, leads in forecast["forecast"].items():
                table.add_row(
                    escape(printable(forecast["series"])),
                    _time(forecast["at"]),
                    escape(printable(target)),
                    _sparkline(leads),
                    ", ".join(f"{lead:.6g}" for lead in leads[:6]) + (" ..." * (len(leads) > 6)),
                    escape(printable(f"{forecast['model']} {forecast.get('version', '')}")),
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
