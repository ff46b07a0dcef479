"""Rows of a file, or of standard input, as the fields of stream entries."""

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from tidecast.files.options import USUAL, USUAL_TIMES, FileOptions
from tidecast.worker.errors import SettingsError
from tidecast.worker.pipeline.cells import UnreadableError, time_of_text
from tidecast.worker.pipeline.epoch import TimeUnit, text_of
from tidecast.worker.pipeline.wire import HISTORY

if TYPE_CHECKING:
    from tidecast.files.layout import Rows as Read

STANDARD_INPUT = Path("-")
PACKED = (".gz", ".zst", ".bz2", ".xz")

Fields = dict[str, str]
Row = tuple[int, Fields | None]
"""The number of a row, from 0, and its fields; None for one without values."""


def name_of(path: Path) -> str:
    """Return what a file is called, without its kind and packing."""
    name = path.name
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).stem


class Rows(Protocol):
    """Rows to send, in their order."""

    @property
    def wire(self) -> "Wire":
        """How they are told on a stream."""

    @property
    def is_live(self) -> bool:
        """Whether they come as somebody writes them, and can be read but once."""

    @property
    def total(self) -> int | None:
        """How many there are to send, where that is known."""

    def __iter__(self) -> Iterator[Row]:
        """Yield each row.

        Raises:
            SettingsError: the file is absent, of another kind, or may be read in two ways.
        """


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How rows are told on a stream.

    Attributes:
        series: of rows that name none.
        series_field: of entries.
        time_field: of entries.
        time_unit: what numbers that stand for times count, in the file and on the stream.
        history: whether rows move windows and are not forecast.
        first: the first row to send, from 0.
        last: the row to stop before.
    """

    series: str
    series_field: str = "series"
    time_field: str = "ts"
    time_unit: TimeUnit = "auto"
    history: bool = False
    first: int = 0
    last: int | None = None

    def fields(self, series: str, time: str | None, values: Fields) -> Fields | None:
        """Return the fields of an entry."""
        if not values:
            return None
        named = {self.series_field: series or self.series}
        if self.history:
            named[HISTORY.decode()] = "1"
        return named | ({self.time_field: time} if time else {}) | values

    def check(self, path: Path, columns: Sequence[str]) -> None:
        """Check that no column of values has the name of a field.

        Raises:
            SettingsError: one has.
        """
        taken = {self.series_field, self.time_field}.intersection(columns)
        if taken:
            raise SettingsError(
                f"{path}: column {', '.join(sorted(taken))}: readings use that name for the series "
                "or the time; name it with --series-column or --time-column, or rename it with "
                f"--name-feature '{min(taken)}=another'"
            )


@dataclass(frozen=True, kw_only=True)
class FileRows:
    """Rows of a file, in the order of their times; see ``tidecast.files`` for what it may be.

    A wide file is one series; a long one names that of each row in a column. Cells without a value
    are left out of an entry, and rows that have none are skipped.
    """

    path: Path
    wire: Wire
    file: FileOptions = USUAL

    is_live = False

    @cached_property
    def _read(self) -> "Read":
        try:
            from tidecast.files.errors import FileError
            from tidecast.files.interleaved import check_rows
            from tidecast.files.layout import rows_of
            from tidecast.files.table import read_table
        except ImportError as error:  # a worker's few packages do without
            raise SettingsError(
                f"{self.path}: files take packages that are not installed ({error.name}): pip "
                "install 'tidecast[files]'; CSV with a header can be sent to standard input, "
                f"feed - < {self.path}"
            ) from error
        try:
            options = replace(self.file, time_unit=self.wire.time_unit)
            rows = rows_of(read_table(self.path, options), None)
            check_rows(rows)
        except FileError as error:
            raise SettingsError(str(error)) from error
        self.wire.check(self.path, rows.values)
        return rows

    @property
    def total(self) -> int:
        """How many rows there are to send."""
        count = len(self._read.series)
        last = count if self.wire.last is None else min(self.wire.last, count)
        return max(0, last - self.wire.first)

    @property
    def told(self) -> tuple[str, ...]:
        """How the file was read, in words."""
        return self._read.told

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._read.series)

    def __iter__(self) -> Iterator[Row]:
        """Yield each row, see ``Rows``."""
        wire, columns = self.wire, self._read.values
        text = self._read.as_text()
        text = text.drop(name for name in columns if text[name].null_count() == len(text))
        columns = [name for name in columns if name in text.columns]
        rows = text.slice(wire.first)
        if wire.last is not None:
            rows = rows.head(max(0, wire.last - wire.first))
        for number, (series, time, *cells) in enumerate(rows.iter_rows(), wire.first):
            # An empty text says that there is no value: a worker counts it, and refuses no reading.
            values = {name: cell or "" for name, cell in zip(columns, cells, strict=True)}
            values = values if any(values.values()) else {}
            at = None if time is None else text_of(time, wire.time_unit)
            yield number, wire.fields(series, at, values)


@dataclass(frozen=True, kw_only=True)
class LiveRows:
    """Rows of CSV from standard input or another pipe, sent as they come.

    ``time_column`` None takes the first usual name that there is.
    """

    path: Path
    wire: Wire
    series_column: str | None = None
    time_column: str | None = None

    is_live = True
    total = None

    def __iter__(self) -> Iterator[Row]:
        """Yield each row, see ``Rows``."""
        try:
            with self._text() as file:
                rows = csv.DictReader(file)
                time_column = self._check(rows.fieldnames or ())
                for number, row in islice(enumerate(rows), self.wire.first, self.wire.last):
                    yield number, self._fields(row, time_column, number)
        except OSError as error:
            raise SettingsError(f"{self.path}: {error.strerror or error}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise SettingsError(f"{self.path}: not CSV in UTF-8 ({error})") from error

    def _text(self) -> TextIO:
        if self.path != STANDARD_INPUT:
            return self.path.open(newline="", encoding="utf-8-sig")
        # Of its own, as sys.stdin cannot be closed at the end while a thread waits for more.
        raw = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115 - read to its end
        return TextIOWrapper(raw, encoding="utf-8-sig", newline="")

    def _check(self, columns: Sequence[str]) -> str | None:
        """Return the column of times, if there is one."""
        if not columns:
            raise SettingsError(f"{self.path}: empty; a header line and rows are needed")
        for wanted in (self.series_column, self.time_column):
            if wanted is not None and wanted not in columns:
                raise SettingsError(
                    f"{self.path}: no column {wanted!r}; it has {', '.join(columns)}"
                )
        usual = (name for name in columns if name.lower() in USUAL_TIMES)
        time_column = self.time_column or next(usual, None)
        self.wire.check(
            self.path, [c for c in columns if c not in (self.series_column, time_column)]
        )
        return time_column

    def _fields(self, row: dict[str, str], time_column: str | None, number: int) -> Fields | None:
        if None in row:
            raise SettingsError(f"{self.path}: row {number} has more cells than the header names")
        series = row.pop(self.series_column) if self.series_column else ""
        time = row.pop(time_column) if time_column else None
        values = {name: cell.strip() for name, cell in row.items() if cell and cell.strip()}
        return self.wire.fields(series, _time(time, self.wire.time_unit) if time else None, values)


def _time(time: str, unit: TimeUnit) -> str:
    """Return a time as the worker reads it to the millisecond; what is none as it stands."""
    try:
        return text_of(time_of_text(time.strip().encode(), unit), unit)
    except UnreadableError:
        return time.strip()
