"""Loads histories from CSV and Parquet files: wide or long, with gaps, in order of time."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from tidecast.trainer.calendars import calendar_of
from tidecast.trainer.errors import DataError
from tidecast.trainer.figures import duration
from tidecast.trainer.interleaved import check_apart
from tidecast.trainer.resample import one_row_a_slot
from tidecast.trainer.zones import in_utc, told
from tidecast.worker.contract import Calendar, Rule
from tidecast.worker.pipeline.calendar import STEPS, WORDS, elapsed, moment
from tidecast.worker.pipeline.cells import MARKERS
from tidecast.worker.pipeline.epoch import (
    NO_TIME,
    TimeUnit,
    milliseconds,
    milliseconds_of_floats,
    unit_of,
)
from tidecast.worker.pipeline.grid import is_next_step

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Part = Literal["train", "validation", "test"]

TIME_COLUMNS = ("timestamp", "ts", "time", "datetime", "date", "ds")
DAYTIMES = ("T%H:%M:%S%.f", " %H:%M:%S%.f", "T%H:%M", " %H:%M")
TIME_FORMATS = (*(f"%Y-%m-%d{daytime}" for daytime in DAYTIMES), "%Y-%m-%d")
ZONED_FORMATS = tuple(f"%Y-%m-%d{daytime}%#z" for daytime in DAYTIMES)
EARLIEST_TIME, LATEST_TIME = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999
MISSING = ["", "NA", "N/A", "null", "nan", "NaN", "None"]
STEADY_SHARE = 0.9
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
    ``calendar``, times and ``step_seconds`` are of its clock (``calendar.elapsed``). ``remark`` is
    what people should know of the file.
    """

    columns: tuple[str, ...]
    series: tuple[Series, ...]
    step_seconds: float | None
    dropped: int = 0
    calendar: Calendar | None = None
    remark: str = ""

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
    features: Sequence[str] | None = None,
    series_column: str | None = None,
    time_column: str | None = None,
    time_unit: TimeUnit = "auto",
    time_zone: str | None = None,
    step_seconds: float | Literal["auto"] | None = "auto",
    calendar: Calendar | None = None,
    rules: Mapping[str, Rule] | None = None,
    joins: bool = True,
) -> History:
    """Load the named columns of a CSV or Parquet file.

    Rows are sorted by time, and those of one step made one, as readings are by a worker: the last
    counts, unless ``rules`` say otherwise, and ``features`` (None: all columns) that stand in
    several rows are joined, unless ``joins`` is False. Empty cells, NaN and numbers beyond 32-bit
    floats are missing values.

    Raises:
        DataError: no such file or column, no rows, text in a number column, an unreadable time,
            several series read as one.
    """
    table = _read(path)
    if table.is_empty():
        raise DataError(f"{path}: no rows; a header line and rows of numbers are needed")
    for wanted in (*columns, series_column, time_column):
        if wanted is not None and wanted not in table.columns:
            raise DataError(
                f"{path}: no column {wanted!r}; the file has {', '.join(table.columns)}"
            )
    usual = (name for name in table.columns if name.lower() in TIME_COLUMNS)
    time_column = time_column or next((name for name in usual if name not in columns), None)
    try:
        frame = _frame(path, table, columns, series_column, time_column, time_unit, time_zone)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: a column is no plain number, time or name ({reason}); choose other columns"
        ) from error
    series = tuple(
        _one_series(str(name[0]), part, len(columns))
        for name, part in frame.group_by("name", maintain_order=True)
    )
    if time_column is None:
        step_seconds = calendar = None
    series, step, calendar = _by_the_clock(series, step_seconds, calendar)
    features = features or columns
    if time_column is not None and not rules:
        carried = [columns.index(name) for name in features]
        rows = frame.filter(pl.all_horizontal(pl.col(f"c{i}").is_finite() for i in carried))
        read = {*columns, time_column, series_column}
        spare = table.select(name for name in table.columns if name not in read)
        check_apart(path, rows, spare, series_column=series_column, stepwise=step is not None)
    if step is not None:
        series = tuple(in_step(one, step, columns, features, rules, joins=joins) for one in series)
    elif rules:
        raise DataError(f"{path}: no steps in which rows could be aggregated; give --step 5m, say")
    kept = sum(map(len, series))
    remark = "" if time_column is None or time_zone else _changes(frame)
    return History(tuple(columns), series, step, frame.height - kept, calendar, remark)


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


def _frame(
    path: Path,
    table: pl.DataFrame,
    columns: Sequence[str],
    series_column: str | None,
    time_column: str | None,
    time_unit: TimeUnit,
    time_zone: str | None,
) -> pl.DataFrame:
    """Return the rows by time: columns ``c0``, ``c1``, ..., ``name`` and, if known, ``time``.

    ``row`` is the row of the table that it was.
    """
    names = pl.Series([""]).new_from_index(0, len(table))
    if series_column:
        names = table[series_column].cast(pl.String)
    parts = {f"c{i}": _numbers(path, table[name]) for i, name in enumerate(columns)}
    if time_column is not None:
        parts["time"] = _times(path, table[time_column], time_unit, names, time_zone)
    frame = pl.DataFrame(parts).with_columns(name=names).with_row_index("row")
    return frame if time_column is None else frame.sort("time", maintain_order=True)


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file; name a CSV or Parquet file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: an empty file; a header line and rows of numbers are needed")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pl.read_parquet(path, glob=False)
        return pl.read_csv(path, infer_schema=False, null_values=MISSING, glob=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a readable CSV or Parquet file ({reason})") from error


def _numbers(path: Path, column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Int8)
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        missing = text.str.to_lowercase().is_in([marker.decode() for marker in MARKERS])
        column = text.set(missing, None)
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


def _times(
    path: Path, column: pl.Series, unit: TimeUnit, names: pl.Series, zone: str | None
) -> pl.Series:
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        whole = column.cast(pl.Float64, strict=False)
        counts = whole.null_count() < len(column)
        times = _counted(path, column, unit) if counts else _parsed(column, names, zone)
    elif column.dtype.is_temporal():
        local = zone is not None and getattr(column.dtype, "time_zone", None) is None
        column = column.cast(pl.Datetime("ms"))
        times = (in_utc(column, names, zone) if local and zone else column).cast(pl.Int64)
    else:
        times = _counted(path, column, unit)
    unread = times.is_null() | ~times.is_between(EARLIEST_TIME, LATEST_TIME)
    if unread.any():
        row = int(unread.arg_max() or 0)
        raise DataError(
            f"{path}: column {column.name!r}, data row {row + 1}: {column[row]!r} is no time; ISO "
            "8601 or a number since 1970 is (seconds to nanoseconds), and a date has hyphens; "
            f"--time-column names another column{_never(zone)}"
        )
    return times


def _counted(path: Path, column: pl.Series, unit: TimeUnit) -> pl.Series:
    """Return numbers as milliseconds since 1970, null where they are no times.

    Raises:
        DataError: by their sizes, they would be of several units.
    """
    numbers = column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    if unit == "auto" and len(units := {unit_of(one) for one in _ends(numbers)}) > 1:
        least, most = _ends(numbers)
        raise DataError(
            f"{path}: column {column.name!r} goes from {least:g} to {most:g}: by their size, these "
            f"count {' and '.join(sorted(units))} since 1970; say --time-unit s, ms, us or ns"
        )
    whole = column.cast(pl.Int64, strict=False)
    if not column.dtype.is_float() and whole.null_count() == column.null_count():
        times = milliseconds(whole.fill_null(NO_TIME).to_numpy(), unit)
    else:
        times = milliseconds_of_floats(numbers, unit)
    return pl.Series(times).set(pl.Series(times) == NO_TIME, None)


def _ends(numbers: Floats) -> list[float]:
    """Return the smallest and the largest of numbers; none of what is no number, or below 0."""
    some = numbers[numbers >= 0]
    return [some.min(), some.max()] if len(some) else []


def _never(zone: str | None) -> str:
    return f"; in {zone}, clocks may have gone forward over it" if zone else ""


def _parsed(column: pl.Series, names: pl.Series, zone: str | None) -> pl.Series:
    """Return ISO 8601 text as milliseconds since 1970, null where it is none.

    Without a zone of its own it is a time in ``zone``; None: UTC.
    """
    text = pl.col(column.name).str.strip_chars()
    unit: Literal["ms"] = "ms"
    plain = [text.str.to_datetime(f, time_unit=unit, strict=False) for f in TIME_FORMATS]
    zoned = [
        text.str.to_datetime(f, time_unit=unit, strict=False).dt.replace_time_zone(None)
        for f in ZONED_FORMATS
    ]
    found = column.to_frame().select(local=pl.coalesce(*plain), utc=pl.coalesce(*zoned))
    local = in_utc(found["local"], names, zone) if zone else found["local"]
    return pl.select(pl.coalesce(local, found["utc"]).cast(pl.Int64)).to_series()


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
        gaps = [np.diff(np.unique(times)) for times in each if len(times) > 1]
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
) -> Series:
    """Return a series with one row for each slot at most; see ``resample``."""
    if series.times is None:
        return series
    times, values = one_row_a_slot(
        series.times, series.values, step_seconds, columns, features, rules or {}, joins=joins
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
