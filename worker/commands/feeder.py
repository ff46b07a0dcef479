"""Sends the rows of a file, or synthetic readings, to an input stream as if they were live.

Delivery: each row or reading at most once. They go in order, in pipelines that are never sent
again; when the connection breaks, the error says how many are confirmed. Of a file, ``--from-row``
goes on there.
"""

import csv
import gzip
import math
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from io import TextIOWrapper
from itertools import islice, pairwise
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TextIO

import redis

from tidecast.worker.commands.synthetic import Pipeline, SyntheticReadings
from tidecast.worker.errors import LostServerError, ServerError, SettingsError
from tidecast.worker.pipeline.cells import UnreadableError, time_of_text
from tidecast.worker.pipeline.epoch import TimeUnit, text_of
from tidecast.worker.pipeline.wire import HISTORY
from tidecast.worker.store.connection import RawConnection

TIME_COLUMNS = ("timestamp", "ts", "time", "datetime", "date", "ds")
STANDARD_INPUT = Path("-")
PARQUET = {".parquet", ".pq"}
GZIP = b"\x1f\x8b"
LARGEST_PIPELINE = 500
LONGEST_WAIT = 60.0

Fields = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class FileRows:
    """Rows of a file as stream entries: CSV, as it is or with gzip, or Parquet.

    A wide file is one series, ``series``; a long one names the series of each row in
    ``series_column``. ``time_column`` None takes the first usual name that the file has. Empty
    cells are left out of the entry; rows with nothing but empty cells are skipped. Entries name
    series and time in ``series_field`` and ``time_field``, as the workers are told; numbers that
    stand for times count ``time_unit``, in the file and on the stream.

    Those that are ``history`` say so: they move windows, and are not forecast.

    Rows come in the order of their times. A file that has them in another is held in memory. The
    path ``-`` is standard input, whose CSV is sent row by row as it comes.
    """

    path: Path
    series: str
    series_column: str | None = None
    time_column: str | None = None
    series_field: str = "series"
    time_field: str = "ts"
    time_unit: TimeUnit = "auto"
    first: int = 0
    last: int | None = None
    history: bool = False

    @property
    def is_live(self) -> bool:
        """Whether the rows come from standard input or another pipe, which can be read but once."""
        return self.path == STANDARD_INPUT or self.path.is_fifo()

    def __iter__(self) -> Iterator[tuple[int, Fields | None]]:
        """Yield the number of each row, from 0, and its fields, None for an empty one.

        Raises:
            SettingsError: the file is absent, empty, of another kind, or lacks a named column.
        """
        order = self._order
        with self._opened() as (columns, rows):
            time_column = self._time_column(columns)
            if order is not None:
                held = list(rows)
                rows = (held[place] for place in order)
            for number, row in islice(enumerate(rows), self.first, self.last):
                yield number, self._fields(row, time_column, number)

    @property
    def is_in_order(self) -> bool:
        """Whether the rows lie in the file in the order of their times."""
        return self._order is None

    @cached_property
    def _order(self) -> list[int] | None:
        """The places of rows by their times, None where they lie in that order.

        A row without a time stays behind the one before it.
        """
        if self.is_live:
            return None
        with self._opened() as (columns, rows):
            column = self._time_column(columns)
            if column is None:
                return None
            times, latest = [], 0
            for row in rows:
                with suppress(UnreadableError):
                    latest = time_of_text((row.get(column) or "").strip().encode(), self.time_unit)
                times.append(latest)
        if all(before <= after for before, after in pairwise(times)):
            return None
        return sorted(range(len(times)), key=times.__getitem__)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Sequence[str], Iterator[dict[str, str]]]]:
        """Yield the names of the columns, and the rows."""
        try:
            if self.path.suffix.lower() in PARQUET:
                yield _parquet(self.path)
                return
            with self._text() as file:
                rows = csv.DictReader(file)
                yield rows.fieldnames or [], iter(rows)
        except OSError as error:
            raise SettingsError(
                f"{self.path}: {error.strerror or error}; name a CSV or Parquet file with a header"
            ) from error
        except (UnicodeDecodeError, csv.Error, EOFError, zlib.error) as error:
            raise SettingsError(f"{self.path}: not a CSV file in UTF-8 ({error})") from error

    def _text(self) -> TextIO:
        if self.path == STANDARD_INPUT:
            # Of its own, as sys.stdin cannot be closed at the end while a thread waits for more.
            raw = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115 - read to its end
            return TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        if not self.is_live and self._is_packed():
            return gzip.open(self.path, "rt", encoding="utf-8-sig", newline="")
        return self.path.open(newline="", encoding="utf-8-sig")

    def _is_packed(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(len(GZIP)) == GZIP

    def _time_column(self, header: Sequence[str]) -> str | None:
        columns = list(header)
        if not columns:
            raise SettingsError(f"{self.path}: empty; a header line and rows are needed")
        free = set(columns) - {self.series_column, self._chosen_time(columns)}
        taken = free & {self.series_field, self.time_field}
        if taken:
            raise SettingsError(
                f"{self.path}: column {', '.join(sorted(taken))}: readings use that name for the "
                "series or the time; name it with --series-column or --time-column, or rename it"
            )
        for wanted in (self.series_column, self.time_column):
            if wanted is not None and wanted not in columns:
                raise SettingsError(
                    f"{self.path}: no column {wanted!r}; the file has {', '.join(columns)}"
                )
        return self._chosen_time(columns)

    def _chosen_time(self, columns: Sequence[str]) -> str | None:
        usual = (name for name in columns if name.lower() in TIME_COLUMNS)
        return self.time_column or next(usual, None)

    def _fields(self, row: dict[str, str], time_column: str | None, number: int) -> Fields | None:
        if None in row:
            raise SettingsError(f"{self.path}: row {number} has more cells than the header names")
        series = row.pop(self.series_column) if self.series_column else self.series
        time = row.pop(time_column) if time_column else None
        values = {name: cell.strip() for name, cell in row.items() if cell and cell.strip()}
        if not values:
            return None
        named = {self.series_field: series or self.series}
        if self.history:
            named[HISTORY.decode()] = "1"
        return named | ({self.time_field: _time(time, self.time_unit)} if time else {}) | values


def _parquet(path: Path) -> tuple[Sequence[str], Iterator[dict[str, str]]]:
    """Return the columns and rows of a Parquet file, cells as CSV would have them."""
    try:
        import polars as pl  # the trainer has it; a worker's few packages do without
    except ImportError as error:
        raise SettingsError(
            f"{path}: Parquet takes a package that is not installed: pip install "
            "'tidecast[trainer]', or name a CSV file"
        ) from error
    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise SettingsError(f"{path}: not a Parquet file ({error})") from error
    return frame.columns, (
        {name: "" if cell is None else str(cell) for name, cell in row.items()}
        for row in frame.iter_rows(named=True)
    )


def _time(time: str, unit: TimeUnit) -> str:
    """Return a time as the worker reads it to the millisecond; what is none as it stands."""
    try:
        return text_of(time_of_text(time.strip().encode(), unit), unit)
    except UnreadableError:
        return time.strip()


@dataclass(slots=True)
class FeedTally:
    """How many rows were read from the file and how many of them sent."""

    rows: int = 0
    sent: int = 0


def feed(
    client: redis.Redis,
    stream: str,
    rows: FileRows,
    *,
    rate: float,
    clock: Callable[[], float],
    sleep: Callable[[float], object],
    progress: Callable[[FeedTally], None],
    whole: Callable[[], AbstractContextManager[object]] = nullcontext,
    longest: int | None = None,
) -> FeedTally:
    """Send rows at ``rate`` per second (0: as fast as they come and the server takes them).

    ``whole`` holds interrupts back while rows are sent and counted, so that the count is of all
    that are in. With ``longest`` the stream keeps about so many entries.

    Raises:
        SettingsError: the file cannot be read.
        ServerError: the connection broke; the message says where to go on.
    """
    tally = FeedTally()
    start = clock()
    size = LARGEST_PIPELINE if rate == 0 else max(1, min(LARGEST_PIPELINE, int(rate / 50)))
    for chunk in _as_they_come(rows, size) if rows.is_live else _chunks(rows, size):
        if rate:
            sleep(max(0.0, start + tally.rows / rate - clock()))
        entries = [fields for _, fields in chunk if fields is not None]
        with whole():
            _send(client, stream, entries, longest, goes_on=chunk[0][0])
            tally.rows += len(chunk)
            tally.sent += len(entries)
            progress(tally)
    return tally


Row = tuple[int, Fields | None]


def _chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    waiting = iter(rows)
    while chunk := list(islice(waiting, size)):
        yield chunk


def _as_they_come(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Yield what has come, at most ``size`` rows; wait for the next one where that is nothing."""
    come: Queue[Row | Exception | None] = Queue(maxsize=size)

    def read() -> None:
        try:
            for row in rows:
                come.put(row)
            come.put(None)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            come.put(error)

    Thread(target=read, daemon=True).start()
    while True:
        chunk: list[Row] = []
        last: Row | Exception | None = come.get()
        while isinstance(last, tuple):
            chunk.append(last)
            if come.empty() or len(chunk) == size:
                break
            last = come.get()
        if chunk:
            yield chunk
        if isinstance(last, Exception):
            raise last
        if last is None:
            return


def _send(
    client: redis.Redis, stream: str, entries: list[Fields], longest: int | None, *, goes_on: int
) -> None:
    pipeline = client.pipeline(transaction=False)
    for fields in entries:
        pipeline.xadd(stream, dict(fields.items()), maxlen=longest)
    try:
        pipeline.execute()
    except redis.RedisError as error:
        raise ServerError(
            f"the server stopped taking readings ({error}); rows before {goes_on} are in, of the "
            f"next {len(entries)} some may be: go on with --from-row {goes_on} or later"
        ) from error


@dataclass(frozen=True, slots=True)
class Sent:
    """How many readings the server has confirmed, and after how many seconds."""

    readings: int
    seconds: float

    @property
    def rate(self) -> float:
        """Readings per second."""
        return self.readings / self.seconds if self.seconds else 0.0


def feed_synthetic(
    client: redis.Redis,
    readings: SyntheticReadings,
    *,
    rate: float,
    seconds: float,
    clock: Callable[[], float],
    now: Callable[[], int],
    wait: Callable[[float], object],
    stopping: Callable[[], bool],
    progress: Callable[[Sent], None],
) -> Sent:
    """Send readings for so many seconds, or until somebody wants to stop.

    Args:
        client: one connection is taken from its pool.
        readings: what to send.
        rate: readings per second, on average; 0: as many as the server takes.
        seconds: how long, may be infinite.
        clock: monotonic seconds.
        now: milliseconds since 1970.
        wait: waits so many seconds, or less.
        stopping: whether somebody wants to stop.
        progress: told after each pipeline.

    Raises:
        ServerError: the connection broke, or the server refuses.
        SettingsError: the readings' times have left the years that a worker takes.
    """
    start, taken = clock(), 0
    entries = readings.entries_at(rate)
    with closing(Pipelines(client)) as pipelines:

        def sent() -> Sent:
            return Sent(pipelines.confirmed, clock() - start)

        while not stopping() and (left := start + seconds - clock()) > 0:
            early = start + taken / (rate or math.inf) - clock()
            if early > 0:
                pipelines.settle()
                progress(sent())
                wait(min(early, left, LONGEST_WAIT))
                continue
            pipeline = readings.take(entries, now())
            pipelines.send(pipeline)
            taken += pipeline.readings
            progress(sent())
        pipelines.settle()
        return sent()


class Pipelines:
    """Sends packed commands over one connection; two pipelines are on their way at most.

    So the next one is made while the server works on the one before. ``confirmed`` counts the
    readings that the server has taken for certain.

    Every call raises ServerError when the server goes away or refuses.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.confirmed = 0
        self._under_way: deque[Pipeline] = deque()
        with self._errors():
            self._connection = RawConnection(client)

    def send(self, pipeline: Pipeline) -> None:
        """Send a pipeline, then wait until the server has taken the one before."""
        self._under_way.append(pipeline)
        with self._errors():
            self._connection.send_packed(pipeline.commands)
            self._confirm(but=1)

    def settle(self) -> None:
        """Wait until the server has taken all that was sent."""
        with self._errors():
            self._confirm(but=0)

    def close(self) -> None:
        """Give the connection up."""
        self._connection.close()

    def _confirm(self, *, but: int) -> None:
        while len(self._under_way) > but:
            self._connection.confirm(self._under_way[0].entries)
            self.confirmed += self._under_way.popleft().readings

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (ServerError, LostServerError) as error:
            doubtful = sum(pipeline.readings for pipeline in self._under_way)
            some = f", of the next {doubtful} some may be" if doubtful else ""
            raise ServerError(
                f"the server stopped taking readings ({error}); {self.confirmed} are in{some}: "
                "see to the server, then start again"
            ) from error
