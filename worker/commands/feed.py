"""The command ``tidecast-worker feed``: its options, its progress and how it ends."""

import math
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from tidecast.files.command import takes_file
from tidecast.files.options import FileOptions
from tidecast.worker.commands.connection import client_of
from tidecast.worker.commands.feeder import (
    FeedTally,
    Sent,
    feed,
    feed_synthetic,
)
from tidecast.worker.commands.options import takes
from tidecast.worker.commands.rows import STANDARD_INPUT, FileRows, LiveRows, Rows, Wire, name_of
from tidecast.worker.commands.synthetic import SyntheticReadings, synthetic_readings
from tidecast.worker.commands.terminal import tell
from tidecast.worker.errors import ServerError, SettingsError
from tidecast.worker.service.stop import Stop
from tidecast.worker.settings import FeedSettings

FASTEST = 1e9
USUAL_RATE = 100.0
UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|)")
MOST_SERIES = 10_000_000
MOST_WAVES = 10_000_000
"""Series times features; each has a phase of its own in memory."""
MOST_VALUES = 1_000_000
"""Values in one entry."""


def rate_of(text: str) -> float:
    """Return readings per second, 0 for ``max``."""
    try:
        rate = 0.0 if text == "max" else float(text)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= FASTEST:
        raise typer.BadParameter(f"{text!r} is neither 'max' nor a number from 0 to {FASTEST:g}.")
    return rate


def duration_of(text: str) -> float:
    """Return the seconds of a duration such as ``500ms``, ``30s``, ``5m``, ``1h`` or ``30``."""
    found = DURATION.fullmatch(text)
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if seconds < 0.001:
        raise typer.BadParameter(f"{text!r} is no duration of 1 ms or more, such as 500ms or 30s.")
    return seconds


OF_FILE, OF_SYNTHETIC = "File", "Made-up readings (--synthetic)"

Data = Annotated[
    Path | None,
    typer.Argument(
        help="CSV, Parquet, JSON lines or Excel file, packed or not; - reads CSV from standard "
        "input; none with --synthetic."
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        help="Series name; with --synthetic: how many series.  [default: the file's name; 10]"
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        parser=rate_of,
        metavar="RATE",
        help="Readings per second; max or 0: no pause.  [default: 100; max from standard input]",
    ),
]
Longest = Annotated[
    int | None,
    typer.Option(min=1, help="Entries the stream keeps, about.  [default: all]"),
]
Synthetic = Annotated[bool, typer.Option("--synthetic", help="Send made-up readings.")]
FromRow = Annotated[
    int | None,
    typer.Option(min=0, help="First row to send, from 0.  [default: 0]", rich_help_panel=OF_FILE),
]
ToRow = Annotated[
    int | None, typer.Option(min=0, help="Row to stop before.", rich_help_panel=OF_FILE)
]
History = Annotated[
    bool,
    typer.Option(
        "--history",
        help="Send rows that move windows and are not forecast, so that a new series starts with "
        "a full one.",
        rich_help_panel=OF_FILE,
    ),
]
For = Annotated[
    float | None,
    typer.Option(
        "--for",
        parser=duration_of,
        metavar="DURATION",
        help="How long: 500ms, 30s, 5m, 1h.  [default: until Ctrl-C]",
        rich_help_panel=OF_SYNTHETIC,
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        help="Fields of a reading, commas between.  [default: value]",
        rich_help_panel=OF_SYNTHETIC,
    ),
]
PerEntry = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100_000,
        help="Readings per entry; over 1: JSON columns.  [default: 1]",
        rich_help_panel=OF_SYNTHETIC,
    ),
]
Step = Annotated[
    float | None,
    typer.Option(
        parser=duration_of,
        metavar="DURATION",
        help="Event time between a series' readings.  [default: the clock's times]",
        rich_help_panel=OF_SYNTHETIC,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(min=0, help="Of the values.  [default: 0]", rich_help_panel=OF_SYNTHETIC),
]


@takes(FeedSettings)
@takes_file(but=("time_unit",))
def feed_command(
    settings: FeedSettings,
    file: FileOptions,
    data: Data = None,
    series: Series = None,
    rate: Rate = None,
    longest: Longest = None,
    from_row: FromRow = None,
    to_row: ToRow = None,
    history: History = False,
    synthetic: Synthetic = False,
    for_: For = None,
    features: Features = None,
    per_entry: PerEntry = None,
    step: Step = None,
    seed: Seed = None,
) -> None:
    """Send the rows of a file, or made-up readings, as if they were live.

    Rows are sent in the order of their times.

    Example: tidecast-worker feed taxi.csv --input readings --series taxi --rate 100

    Example: tidecast-worker feed taxi.csv --to-row 5000 --history --rate max

    Example: tail -n +1 -F live.csv | tidecast-worker feed - --series boiler-7

    Example: tidecast-worker feed --synthetic --series 1000 --rate max --for 30s
    """
    of_file = {
        "DATA": data,
        "--series-column": file.series_column,
        "--time-column": file.time_column,
        "--from-row": from_row,
        "--to-row": to_row,
        "--history": history or None,
    }
    of_synthetic = {
        "--for": for_,
        "--features": features,
        "--per-entry": per_entry,
        "--step": step,
        "--seed": seed,
    }
    if synthetic:
        _refuse(of_file, "tells of a file and cannot go with --synthetic; leave one out")
        if settings.time_unit not in ("auto", "ms"):
            raise SettingsError(
                f"--time-unit {settings.time_unit}: made-up readings count ms; leave it out"
            )
        readings = _readings(
            settings,
            series=_series_count("10" if series is None else series),
            features=tuple(("value" if features is None else features).split(",")),
            per_entry=per_entry or 1,
            step_ms=None if step is None else round(1000 * step),
            longest=longest,
            seed=seed or 0,
        )
        _feed_synthetic(settings, readings, USUAL_RATE if rate is None else rate, for_ or math.inf)
        return
    _refuse(of_synthetic, "is for made-up readings; add --synthetic or leave it out")
    if data is None:
        raise SettingsError(
            "name a file to send, - for standard input, or --synthetic for made-up readings"
        )
    wire = Wire(
        series=series or _name_of(data, file.series_column),
        series_field=_series_field(settings),
        time_field=settings.naming.time[0],
        time_unit=settings.time_unit,
        history=history,
        first=from_row or 0,
        last=to_row,
    )
    rows = _rows(data, wire, file)
    if rate is None:
        rate = 0.0 if rows.is_live else USUAL_RATE
    _feed_rows(settings, rows, rate, longest)


def _rows(data: Path, wire: Wire, file: FileOptions) -> Rows:
    """Return the rows to send, and say how a file was read."""
    if data == STANDARD_INPUT or data.is_fifo():
        known = FileOptions(series_column=file.series_column, time_column=file.time_column)
        if file != known:
            raise SettingsError(
                f"{data}: of what is sent as it comes, --series-column and --time-column alone can "
                "be told; write it into a file for the other options"
            )
        return LiveRows(
            path=data, wire=wire, series_column=file.series_column, time_column=file.time_column
        )
    rows = FileRows(path=data, wire=wire, file=file)
    tell(f"{data}: read {len(rows):,} rows; {'; '.join(rows.told)}")
    return rows


def _series_field(settings: FeedSettings) -> str:
    """Return the field that names the series, which is one alone where readings are sent."""
    first, *more = settings.naming.series
    if more:
        raise SettingsError(
            f"--series-field {settings.series_field}: feed names each series in one field; name "
            f"one, such as {first}, and tell the worker the same"
        )
    return first


def _name_of(path: Path, series_column: str | None) -> str:
    """Return the series that a file is called after."""
    if path == STANDARD_INPUT and series_column is None:
        raise SettingsError("--series is missing: standard input has no name to take; add it")
    return name_of(path)


def _refuse(options: Mapping[str, object], reason: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise SettingsError(f"{name} {reason}")


def _series_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_SERIES:
        raise SettingsError(
            f"--series {text!r}: with --synthetic it is how many series, 1 to {MOST_SERIES}"
        )
    return int(text)


def _readings(
    settings: FeedSettings,
    *,
    series: int,
    features: tuple[str, ...],
    per_entry: int,
    step_ms: int | None,
    longest: int | None,
    seed: int,
) -> SyntheticReadings:
    """Return what is to be sent, unless it is too much to hold or has no usable names."""
    series_field, time_field = _series_field(settings), settings.naming.time[0]
    taken = {"", series_field, time_field}
    clear = all(name.isprintable() and name not in taken for name in features)
    if not clear or len(set(features)) < len(features):
        raise SettingsError(
            f"--features {','.join(features)!r}: names of fields with commas between, each once; "
            f"{series_field} and {time_field} are taken"
        )
    if series * len(features) > MOST_WAVES or per_entry * len(features) > MOST_VALUES:
        raise SettingsError(
            f"{len(features)} --features: at most {MOST_WAVES} times --series, and at most "
            f"{MOST_VALUES} times --per-entry; name fewer"
        )
    return synthetic_readings(
        os.fsencode(settings.input),
        series=series,
        features=features,
        per_entry=per_entry,
        step_ms=step_ms,
        longest=longest,
        random=np.random.default_rng(seed),
        series_field=series_field,
        time_field=time_field,
    )


def _feed_rows(settings: FeedSettings, rows: Rows, rate: float, longest: int | None) -> None:
    """Send a file's rows and say how many, or where to go on after a Ctrl-C."""
    client, stream = client_of(settings), settings.input
    with _bar(TaskProgressColumn()) as bar, _about(stream):
        task = bar.add_task(escape(f"feeding {stream}"), total=rows.total)

        def show(tally: FeedTally) -> None:
            bar.update(task, completed=tally.rows)

        try:
            tally = feed(
                client,
                stream,
                rows,
                rate=rate,
                clock=time.monotonic,
                sleep=time.sleep,
                progress=show,
                whole=_interrupts_later,
                longest=longest,
            )
        except KeyboardInterrupt:
            fed = rows.wire.first + int(bar.tasks[task].completed)
            said = f"after {fed} rows" if rows.is_live else f"go on with --from-row {fed}"
            tell(f"interrupted; {said}")
            raise typer.Exit(1) from None
    skipped = f", {tally.rows - tally.sent} empty rows skipped" * (tally.rows > tally.sent)
    tell(f"sent {tally.sent} readings to {stream}{skipped}")


def _feed_synthetic(
    settings: FeedSettings, readings: SyntheticReadings, rate: float, seconds: float
) -> None:
    """Send made-up readings until their time is over or somebody stops it, and say how many."""
    client, stream = client_of(settings), settings.input
    total = seconds if math.isfinite(seconds) else None
    with _bar(TextColumn("{task.fields[sent]}")) as bar, _about(stream):
        task = bar.add_task(escape(f"feeding {stream}"), total=total, sent="")

        def show(sent: Sent) -> None:
            told = f"{sent.readings:,} sent, {sent.rate:,.0f}/s"
            bar.update(task, completed=sent.seconds, sent=told)

        with _stop_by_signal() as stopping:
            sent = feed_synthetic(
                client,
                readings,
                rate=rate,
                seconds=seconds,
                clock=time.monotonic,
                now=lambda: time.time_ns() // 1_000_000,
                wait=stopping.wait,
                stopping=stopping.is_set,
                progress=show,
            )
    tell(f"sent {sent.readings} readings to {stream} ({sent.rate:.0f}/s)")


@contextmanager
def _about(stream: str) -> Iterator[None]:
    """Name the stream that the server refuses to take readings for."""
    try:
        yield
    except ServerError as error:
        raise ServerError(f"{stream}: {error}") from error


def _bar(column: ProgressColumn) -> Progress:
    """Return a progress bar on stderr, where that is a terminal, with a column of the user's."""
    columns = (TextColumn("{task.description}"), BarColumn(), column, TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold a Ctrl-C back until the block is done; another one ends it at once."""
    heard = False

    def later(number: int, _: object) -> None:
        nonlocal heard
        heard = True
        signal.signal(number, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


@contextmanager
def _stop_by_signal() -> Iterator[Stop]:
    """Yield a wish to stop that Ctrl-C or SIGTERM brings; another Ctrl-C ends the command hard."""
    stopping = Stop()

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.default_int_handler)
        stopping.set()

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield stopping
    finally:
        for number, handler in before:
            signal.signal(number, handler)
