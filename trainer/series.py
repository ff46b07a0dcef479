"""Loads histories from CSV and Parquet files: wide or long, with gaps, in order of time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.errors import DataError
from worker.contract import is_next_step

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Part = Literal["train", "validation", "test"]

TIME_COLUMNS = ("timestamp", "ts", "time", "datetime", "date", "ds")
TIME_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
ZONED_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
MISSING = ["", "NA", "N/A", "null", "nan", "NaN", "None"]
STEADY_SHARE = 0.9
TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.1


@dataclass(frozen=True)
class Series:
    """One series.

    ``times`` are milliseconds since 1970 (None: unknown), ``values`` ``[rows, columns]`` NaN where
    the record has none.
    """

    name: str
    times: Ints | None
    values: Floats

    def __len__(self) -> int:
        """Return the number of rows, missing ones included."""
        return len(self.values)


@dataclass(frozen=True)
class History:
    """All series of a file, with the step between their rows (None: every row is the next step)."""

    columns: tuple[str, ...]
    series: tuple[Series, ...]
    step_seconds: float | None
    repeated: int = 0

    @property
    def rows(self) -> int:
        """The rows of all series."""
        return sum(map(len, self.series))

    @property
    def missing(self) -> int:
        """Rows without a value in some column."""
        return sum(int((~np.isfinite(s.values).all(axis=1)).sum()) for s in self.series)

    def select(self, columns: Sequence[str]) -> Floats:
        """Return these columns of all series, one below the other, ``[rows, len(columns)]``."""
        places = [self.columns.index(name) for name in columns]
        return np.concatenate([series.values[:, places] for series in self.series])


def load_history(
    path: Path,
    columns: Sequence[str],
    *,
    series_column: str | None = None,
    time_column: str | None = None,
    step_seconds: float | Literal["auto"] | None = "auto",
) -> History:
    """Load the named columns of a CSV or Parquet file.

    Rows are sorted by time; of rows of one series that share a time, the first counts, as with the
    worker. Empty cells and NaN are missing values.

    Raises:
        DataError: no such file or column, no rows, text in a number column, an unreadable time.
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
    parts = {f"c{i}": _numbers(path, table[name]) for i, name in enumerate(columns)}
    if time_column is not None:
        parts["time"] = _times(path, table[time_column])
    names = table[series_column].cast(pl.String) if series_column else pl.lit("")
    frame = pl.DataFrame(parts).with_columns(name=names)
    if time_column is not None:
        frame = frame.sort("time", maintain_order=True)
    unique = (
        frame.unique(["name", "time"], keep="first", maintain_order=True) if time_column else frame
    )
    series = tuple(
        _one_series(str(name[0]), part, len(columns))
        for name, part in unique.group_by("name", maintain_order=True)
    )
    step = _common_step(series) if step_seconds == "auto" else step_seconds
    if not any(series_.times is not None for series_ in series):
        step = None
    return History(tuple(columns), series, step, frame.height - unique.height)


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file; name a CSV or Parquet file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: an empty file; a header line and rows of numbers are needed")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema=False, null_values=MISSING)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a readable CSV or Parquet file ({reason})") from error


def _numbers(path: Path, column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Int8)
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


def _times(path: Path, column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        whole = column.cast(pl.Int64, strict=False)
        times = whole if whole.null_count() < len(column) else _parsed(column)
    elif column.dtype.is_temporal():
        times = column.cast(pl.Datetime("ms")).cast(pl.Int64)
    else:
        times = column.cast(pl.Int64, strict=False)
    if times.null_count():
        row = int(times.is_null().arg_max() or 0)
        raise DataError(
            f"{path}: column {column.name!r}, data row {row + 1}: {column[row]!r} is no time; "
            "ISO 8601 or milliseconds since 1970 are read, --time-column names another column"
        )
    return times


def _parsed(column: pl.Series) -> pl.Series:
    """Return ISO 8601 text as milliseconds since 1970, null where it is none."""
    text = pl.col(column.name).str.strip_chars()
    unit: Literal["ms"] = "ms"
    plain = [text.str.to_datetime(f, time_unit=unit, strict=False) for f in TIME_FORMATS]
    zoned = [
        text.str.to_datetime(f, time_unit=unit, strict=False).dt.replace_time_zone(None)
        for f in ZONED_FORMATS
    ]
    return column.to_frame().select(pl.coalesce(*plain, *zoned).cast(pl.Int64)).to_series()


def _one_series(name: str, part: pl.DataFrame, columns: int) -> Series:
    values = part.select(f"c{i}" for i in range(columns)).to_numpy().astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    times = part["time"].to_numpy().astype(np.int64) if "time" in part.columns else None
    return Series(name, times, values)


def _common_step(series: Sequence[Series]) -> float | None:
    """Return the median step in seconds if nearly all rows keep it, else None."""
    gaps = [np.diff(s.times) for s in series if s.times is not None and len(s) > 1]
    if not gaps:
        return None
    deltas = np.concatenate(gaps)
    step = float(np.median(deltas))
    steady = is_next_step(deltas, step).mean() >= STEADY_SHARE
    return step / 1000 if steady else None


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
