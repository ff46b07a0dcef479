"""Histories: the series of a file, with gaps, in order of time and in steps."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from tidecast.files import odd
from tidecast.files.categories import with_indicators
from tidecast.files.errors import FileError
from tidecast.files.interleaved import check_apart
from tidecast.files.layout import Rows, rows_of
from tidecast.files.options import USUAL, FileOptions
from tidecast.files.table import read_table
from tidecast.files.zones import told
from tidecast.trainer.calendars import calendar_of, distinct
from tidecast.trainer.errors import DataError
from tidecast.trainer.figures import duration
from tidecast.trainer.precision import numbers_of
from tidecast.trainer.resample import one_row_a_slot
from tidecast.worker.contract import Calendar, Numbers, Rule
from tidecast.worker.pipeline.calendar import STEPS, WORDS, elapsed, moment
from tidecast.worker.pipeline.grid import is_next_step

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Part = Literal["train", "validation", "test"]

STEADY_SHARE = 0.9
FEW = 3
"""Different values, missing ones among them, of which none is odd."""
MOST_DROPPED = 0.5
"""Of the rows of a file, where nobody said which step it has."""
MOST_LOOKED_AT = 20
"""Series in whose times a change of the clock is looked for."""
TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.1


@dataclass(frozen=True)
class Series:
    """One series.

    ``times`` are milliseconds since 1970 (None: unknown), ``values`` ``[rows, columns]`` NaN where
    the record has none. In slots (``slots.py``), ``filled`` tells which of them no row of the file
    is in, and ``rows`` which of its ``file_rows`` rows is in each, or in the next that has one.
    """

    name: str
    times: Ints | None
    values: Floats
    filled: npt.NDArray[np.bool_] | None = None
    rows: Ints | None = None
    file_rows: int | None = None

    def __len__(self) -> int:
        """Return the number of rows, missing ones included."""
        return len(self.values)

    @property
    def real(self) -> npt.NDArray[np.bool_]:
        """Tell which rows are in the file ``[rows]``."""
        return np.ones(len(self), np.bool_) if self.filled is None else ~self.filled

    def parts(
        self, train_rows: int | None, validation_rows: int | None
    ) -> dict[Part, tuple[int, int]]:
        """Return the rows ``(first, beyond the last)`` of each part, as ``split_rows`` does."""
        if self.rows is None or self.file_rows is None:
            return split_rows(len(self), train_rows, validation_rows)
        parts = split_rows(self.file_rows, train_rows, validation_rows)
        edges = {part: np.searchsorted(self.rows, rows).tolist() for part, rows in parts.items()}
        return {part: (first, beyond) for part, (first, beyond) in edges.items()}


@dataclass(frozen=True)
class History:
    """All series of a file, with the step between their rows (None: every row is the next step).

    ``dropped`` rows of the file went into another of the same step. Where the step is one of a
    ``calendar``, times and ``step_seconds`` are of its clock (``calendar.elapsed``). ``remarks``
    are what people should know of the file, ``told`` how it was read. ``numbers`` are what windows
    of it are made of.
    """

    columns: tuple[str, ...]
    series: tuple[Series, ...]
    step_seconds: float | None
    dropped: int = 0
    calendar: Calendar | None = None
    remarks: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    numbers: Numbers = "float32"

    def moments(self, series: Series) -> Ints | None:
        """Return the times of a series' rows, in milliseconds since 1970; None if unknown."""
        return None if series.times is None else moment(series.times, self.calendar)

    @property
    def step(self) -> str:
        """The step in words, where there is one."""
        return WORDS[self.calendar] if self.calendar else duration(self.step_seconds or 0)

    @property
    def rows(self) -> int:
        """The rows of all series."""
        return sum(map(len, self.series))

    @property
    def missing(self) -> int:
        """Rows without a value in some column."""
        return sum(int((~np.isfinite(s.values).all(axis=1)).sum()) for s in self.series)

    def digest(self) -> str:
        """Return the fingerprint of names, times and numbers, in hexadecimal digits."""
        digest = hashlib.sha256(repr((self.columns, self.step_seconds)).encode())
        for series in self.series:
            digest.update(series.name.encode())
            digest.update(b"" if series.times is None else series.times.tobytes())
            digest.update(np.ascontiguousarray(series.values).tobytes())
        return digest.hexdigest()

    def select(self, columns: Sequence[str]) -> Floats:
        """Return these columns of all series, one below the other, ``[rows, len(columns)]``."""
        places = [self.columns.index(name) for name in columns]
        return np.concatenate([series.values[:, places] for series in self.series])


def load_history(
    path: Path,
    columns: Sequence[str],
    *,
    file: FileOptions = USUAL,
    features: Sequence[str] | None = None,
    step_seconds: float | Literal["auto"] | None = "auto",
    calendar: Calendar | None = None,
    rules: Mapping[str, Rule] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    joins: bool = True,
    numbers: Numbers | None = None,
) -> History:
    """Load the named columns of a file; see ``tidecast.files`` for what it may be.

    ``categories`` are columns of words, for each of which ``columns`` may name ``column=word``.

    Rows are sorted by time, and those of one step made one, as readings are by a worker: the last
    counts, unless ``rules`` say otherwise, and ``features`` (None: all columns) that stand in
    several rows are joined, unless ``joins`` is False. ``numbers`` are what windows are to be made
    of; None: what it takes to tell the file's values apart (``precision.py``). Empty cells, NaN and
    numbers beyond 32-bit floats are missing values.

    Raises:
        DataError: no such file or column, no rows, text in a number column, an unreadable time,
            several series read as one, or most rows would be left out.
    """
    try:
        table = with_indicators(read_table(path, file, columns), categories or {})
        rows = rows_of(table, columns)
    except FileError as error:
        raise DataError(str(error)) from error
    frame = _frame(path, rows, columns)
    series = tuple(
        _one_series(str(name[0]), part, len(columns))
        for name, part in frame.group_by("name", maintain_order=True)
    )
    numbers = numbers or numbers_of(one.values for one in series)
    if rows.times is None:
        step_seconds = calendar = None
    steps_are_seen = step_seconds == "auto" and calendar is None
    series, step, calendar = _by_the_clock(series, step_seconds, calendar)
    features = features or columns
    if not rules:
        read = {*columns, *(categories or {})}
        spare = rows.table.frame.select(name for name in rows.values if name not in read)
        _check_apart(rows, frame, [columns.index(name) for name in features], spare, step)
    if step is not None:
        series = tuple(
            in_step(one, step, columns, features, rules, joins=joins, numbers=numbers)
            for one in series
        )
    elif rules:
        raise DataError(f"{path}: no steps in which rows could be aggregated; give --step 5m, say")
    dropped = frame.height - sum(map(len, series))
    if steps_are_seen and not rules and len(features) == 1:
        _check_dropped(path, dropped, frame.height, History(tuple(columns), series, step).step)
    return History(
        tuple(columns),
        series,
        step,
        dropped,
        calendar,
        tuple(_remarks(path, rows, frame, columns, file)),
        (f"read {frame.height:,} rows", *rows.told),
        numbers,
    )


def _check_apart(
    rows: Rows,
    frame: pl.DataFrame,
    carried: Sequence[int],
    spare: pl.DataFrame,
    step: float | None,
) -> None:
    """Refuse rows of several series that would be read as one.

    Args:
        rows: of the file.
        frame: these by time.
        carried: the columns that make a reading.
        spare: the columns of the file that nothing is read from.
        step: in which one row is kept; None: there is none.

    Raises:
        DataError: a column tells several series apart.
    """
    whole = frame.filter(pl.all_horizontal(pl.col(f"c{i}").is_finite() for i in carried))
    if rows.times is None:
        whole = whole.with_columns(time=pl.col("row").cast(pl.Int64))
    table = rows.table
    try:
        check_apart(table.path, whole, spare, table.options, stepwise=step is not None)
    except FileError as error:
        raise DataError(str(error)) from error


def _check_dropped(path: Path, dropped: int, rows: int, step: str) -> None:
    """Refuse a file of which most rows would be left out.

    Raises:
        DataError: they would.
    """
    if dropped > rows * MOST_DROPPED:
        raise DataError(
            f"{path}: {dropped:,} of {rows:,} rows would be left out, as later ones are in the "
            f"same step of {step}: --step with --aggregate mean, say, makes one value of them, "
            "--step none takes each for the next step, and --series-column names the series of each"
        )


def _remarks(
    path: Path, rows: Rows, frame: pl.DataFrame, columns: Sequence[str], file: FileOptions
) -> Iterator[str]:
    """Yield what people should know of a file."""
    if rows.times is not None and not file.time_zone and (said := _changes(frame)):
        yield f"{path}: {said}"
    for place, name in enumerate(columns):
        if rows.table.frame[name].n_unique() <= FEW:
            continue
        for said in odd.told(name, frame[f"c{place}"].to_numpy()):
            yield f"{path}: {said}"


def _changes(frame: pl.DataFrame) -> str:
    """Say that the clock of a file's times seems to be a local one; empty if not."""
    for part in frame.sort("row").partition_by("name", maintain_order=True)[:MOST_LOOKED_AT]:
        if said := told(part["time"].to_numpy()):
            return (
                f"its times have no zone and are taken for UTC, but {said}: --time-zone "
                "Europe/Berlin, say, reads them as local times of there"
            )
    return ""


def _by_the_clock(
    series: tuple[Series, ...],
    step_seconds: float | Literal["auto"] | None,
    calendar: Calendar | None,
) -> tuple[tuple[Series, ...], float | None, Calendar | None]:
    """Return series by a calendar's clock, if their step is one's; the step there; and it."""
    if step_seconds == "auto" and calendar is None:
        calendar = calendar_of([one.times for one in series if one.times is not None])
    if calendar is None:
        return series, _common_step(series) if step_seconds == "auto" else step_seconds, None
    shown = tuple(
        one if one.times is None else replace(one, times=elapsed(one.times, calendar))
        for one in series
    )
    return shown, STEPS[calendar] / 1000, calendar


def _frame(path: Path, rows: Rows, columns: Sequence[str]) -> pl.DataFrame:
    """Return the rows by time: columns ``c0``, ``c1``, ..., ``name`` and, if known, ``time``.

    ``row`` is the row of the table that it was.
    """
    table = rows.table.frame
    parts = {f"c{i}": _numbers(path, table[name]) for i, name in enumerate(columns)}
    if rows.times is not None:
        parts["time"] = rows.times
    frame = pl.DataFrame(parts).with_columns(name=rows.series).with_row_index("row")
    if rows.times is None or rows.times.is_sorted():
        return frame
    return frame.sort("time", maintain_order=True)


def _numbers(path: Path, column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Int8)
    if column.dtype.is_nested() or column.dtype.is_temporal():
        raise DataError(
            f"{path}: column {column.name!r} holds no plain numbers ({column.dtype}); choose other "
            "columns"
        )
    numbers = column.cast(pl.Float64, strict=False)
    text = numbers.is_null() & column.is_not_null()
    if text.any():
        row = int(text.arg_max() or 0)
        raise DataError(
            f"{path}: column {column.name!r}, data row {row + 1}: {str(column[row])[:40]!r} is not "
            "a number; leave a missing value empty, or choose other columns"
        )
    if not numbers.is_finite().any():
        raise DataError(f"{path}: column {column.name!r} holds no number at all")
    return numbers


def _one_series(name: str, part: pl.DataFrame, columns: int) -> Series:
    values = part.select(f"c{i}" for i in range(columns)).to_numpy().astype(np.float64)
    with np.errstate(over="ignore"):
        values[~np.isfinite(values.astype(np.float32))] = np.nan
    times = part["time"].to_numpy().astype(np.int64) if "time" in part.columns else None
    return Series(name, times, values)


def _common_step(series: Sequence[Series]) -> float | None:
    """Return the median step in seconds if nearly all rows keep it, else None.

    Of rows, or of each column's where columns stand in rows of their own.
    """
    known = [(one.times, np.isfinite(one.values)) for one in series if one.times is not None]
    rows = [times for times, _ in known]
    columns = [times[there] for times, values in known for there in values.T]
    for each in (rows, columns):
        gaps = [np.diff(distinct(times)) for times in each if len(times) > 1]
        deltas = np.concatenate([np.zeros(0, np.int64), *gaps])
        step = float(np.median(deltas)) if len(deltas) else 0.0
        if step and is_next_step(deltas, step).mean() >= STEADY_SHARE:
            return step / 1000
    return None


def in_step(
    series: Series,
    step_seconds: float,
    columns: Sequence[str],
    features: Sequence[str],
    rules: Mapping[str, Rule] | None = None,
    *,
    joins: bool = True,
    numbers: Numbers = "float32",
) -> Series:
    """Return a series with one row for each slot at most; see ``resample``."""
    if series.times is None:
        return series
    times, values = one_row_a_slot(
        series.times,
        series.values,
        step_seconds,
        columns,
        features,
        rules or {},
        joins=joins,
        numbers=numbers,
    )
    return Series(series.name, times, values)


def segments(series: Series, step_seconds: float | None) -> list[tuple[int, int]]:
    """Return the unbroken runs of rows ``(first, beyond the last)``: no missing value, no gap."""
    whole = np.asarray(np.isfinite(series.values).all(axis=1))
    joined = whole[1:] & whole[:-1]
    if step_seconds is not None and series.times is not None:
        joined &= is_next_step(np.diff(series.times), 1000 * step_seconds)
    cuts = np.flatnonzero(~joined) + 1
    edges = [0, *cuts.tolist(), len(series)]
    return [(a, b) for a, b in pairwise(edges) if b > a and whole[a]]


def split_rows(
    rows: int, train_rows: int | None, validation_rows: int | None
) -> dict[Part, tuple[int, int]]:
    """Return the rows ``(first, beyond the last)`` of each part of a series, in order of time."""
    train = int(rows * TRAIN_SHARE) if train_rows is None else min(train_rows, rows)
    if validation_rows is None:
        validation_rows = int(rows * VALIDATION_SHARE)
    validation = min(train + validation_rows, rows)
    return {"train": (0, train), "validation": (train, validation), "test": (validation, rows)}
