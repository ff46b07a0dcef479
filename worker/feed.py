"""Sends the rows of a CSV file to an input stream, as if they were live readings.

Delivery: each row at most once. Rows go in file order, in pipelines that are never sent again; when
the connection breaks, the error says how many rows are confirmed, and ``--from-row`` goes on there.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import redis

from worker.cells import UnreadableError, time_of_text
from worker.errors import ServerError, SettingsError

TIME_COLUMNS = ("timestamp", "ts", "time", "datetime", "date", "ds")
LARGEST_PIPELINE = 500

Fields = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class CsvRows:
    """Rows of a CSV file as stream entries.

    A wide file is one series, ``series``; a long one names the series of each row in
    ``series_column``. ``time_column`` None takes the first usual name that the file has. Empty
    cells are left out of the entry; rows with nothing but empty cells are skipped.
    """

    path: Path
    series: str
    series_column: str | None = None
    time_column: str | None = None
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
        taken = {"series", "ts"} & set(columns) - {self.series_column, self._chosen_time(columns)}
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
        named = {"series": series or self.series} | ({"ts": _milliseconds(time)} if time else {})
        return named | values


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
) -> FeedTally:
    """Send rows at ``rate`` per second (0: as fast as the server takes them).

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
        _send(client, stream, entries, goes_on=chunk[0][0])
        tally.rows += len(chunk)
        tally.sent += len(entries)
        progress(tally)
    return tally


def _send(client: redis.Redis, stream: str, entries: list[Fields], *, goes_on: int) -> None:
    pipeline = client.pipeline(transaction=False)
    for fields in entries:
        pipeline.xadd(stream, dict(fields.items()))
    try:
        pipeline.execute()
    except redis.RedisError as error:
        raise ServerError(
            f"the server stopped taking readings ({error}); rows before {goes_on} are in, of the "
            f"next {len(entries)} some may be: go on with --from-row {goes_on} or later"
        ) from error
