"""Sends the rows of a CSV file, or synthetic readings, to an input stream as if they were live.

Delivery: each row or reading at most once. They go in order, in pipelines that are never sent
again; when the connection breaks, the error says how many are confirmed. Of a file, ``--from-row``
goes on there.
"""

import csv
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import redis

from tidecast.worker.commands.synthetic import Pipeline, SyntheticReadings
from tidecast.worker.errors import LostServerError, ServerError, SettingsError
from tidecast.worker.pipeline.cells import UnreadableError, time_of_text
from tidecast.worker.store.connection import RawConnection

TIME_COLUMNS = ("timestamp", "ts", "time", "datetime", "date", "ds")
LARGEST_PIPELINE = 500
LONGEST_WAIT = 60.0

Fields = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class CsvRows:
    """Rows of a CSV file as stream entries.

    A wide file is one series, ``series``; a long one names the series of each row in
    ``series_column``. ``time_column`` None takes the first usual name that the file has. Empty
    cells are left out of the entry; rows with nothing but empty cells are skipped. Entries name
    series and time in ``series_field`` and ``time_field``, as the workers are told.
    """

    path: Path
    series: str
    series_column: str | None = None
    time_column: str | None = None
    series_field: str = "series"
    time_field: str = "ts"
    first: int = 0
    last: int | None = None

    def __iter__(self) -> Iterator[tuple[int, Fields | None]]:
        """Yield the number of each row, from 0, and its fields, None for an empty one.

        Raises:
            SettingsError: the file is absent, empty, not CSV, or lacks a named column.
        """
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file)
                time_column = self._time_column(rows.fieldnames or [])
                for number, row in islice(enumerate(rows), self.first, self.last):
                    yield number, self._fields(row, time_column, number)
        except OSError as error:
            raise SettingsError(
                f"{self.path}: {error.strerror}; name a CSV file with a header line"
            ) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise SettingsError(f"{self.path}: not a CSV file in UTF-8 ({error})") from error

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
        return named | ({self.time_field: _milliseconds(time)} if time else {}) | values


def _milliseconds(time: str) -> str:
    """Return a time as milliseconds since 1970; what is none as it stands, for the worker."""
    try:
        return str(time_of_text(time.strip().encode()))
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
    rows: CsvRows,
    *,
    rate: float,
    clock: Callable[[], float],
    sleep: Callable[[float], object],
    progress: Callable[[FeedTally], None],
    longest: int | None = None,
) -> FeedTally:
    """Send rows at ``rate`` per second (0: as fast as the server takes them).

    With ``longest`` the stream keeps about so many entries.

    Raises:
        SettingsError: the file cannot be read.
        ServerError: the connection broke; the message says where to go on.
    """
    tally = FeedTally()
    start = clock()
    waiting = iter(rows)
    size = LARGEST_PIPELINE if rate == 0 else max(1, min(LARGEST_PIPELINE, int(rate / 50)))
    while chunk := list(islice(waiting, size)):
        if rate:
            sleep(max(0.0, start + tally.rows / rate - clock()))
        entries = [fields for _, fields in chunk if fields is not None]
        _send(client, stream, entries, longest, goes_on=chunk[0][0])
        tally.rows += len(chunk)
        tally.sent += len(entries)
        progress(tally)
    return tally


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
