"""Several series that would be read as one: seen by the times that repeat, counted, refused."""

import re
import shlex
from collections.abc import Sequence
from itertools import combinations
from math import prod
from pathlib import Path

import polars as pl

from tidecast.files.dialect import kind_of
from tidecast.files.errors import InterleavedError
from tidecast.files.layout import Rows
from tidecast.files.options import FileOptions

FEW = 0.1
"""The share of rows at another row's time from which on a column that explains them is believed."""
MOST = 0.5
"""The share from which on they are refused even where no column explains them."""
KEYS = ("name", "time")
SPARE = "spare "
"""Stands before the file's own names of columns, among which may be those."""
MOST_PAIRED = 8
"""Columns that are tried in pairs, those of the fewest values."""
RARELY = 0.01
"""The share of rows that a column may fail to tell apart; records do repeat a row."""


TURNS = 4
"""So many rows or more for each name, on average, and so many changes of the name."""
IDENTITY = re.compile(
    r"(^|[_ .-])(id|ids|sensor|device|unit|station|meter|node|channel|series|entity|tag|host|site"
    r"|room)([_ .-]?(id|nr|no|name))?$|Id$",
    re.IGNORECASE,
)
"""Names of columns whose numbers, too, tell things apart."""
FLAGS = ("", "true", "false", "yes", "no", "on", "off")
"""What says how something is, and is no name."""
EXPLAINED = 0.5
"""The share of values' variance that lies between names, from which on they are believed."""


def check_apart(
    path: Path,
    rows: pl.DataFrame,
    spare: pl.DataFrame,
    options: FileOptions,
    *,
    stepwise: bool,
) -> None:
    """Refuse rows that are of several series and would be read as one.

    They share their times, or a column of names, which take turns, tells their values apart.

    Args:
        path: of the file.
        rows: those that have all features, with ``name`` and ``time`` and their ``row`` in
            ``spare``.
        spare: the columns of the file that nothing is read from.
        options: what was said of the file.
        stepwise: whether only one of the rows at one time is kept.

    Raises:
        InterleavedError: over a tenth of the rows repeat a time and a column tells them apart, or
            half of them do; or most of the values' variance lies between names.
    """
    if options.one_series:
        return
    series_column = options.series_column
    repeated = _repeated(rows, KEYS)
    if repeated <= FEW * len(rows):
        if series_column is None and (column := _mixed(rows, spare)):
            raise InterleavedError(
                f"{path}: the rows of the {spare[column].n_unique():,} names in column {column!r} "
                "take turns and have values of their own: several series in one file? Give "
                f"--series-column {shlex.quote(column)}, or --one-series if they are one",
                column,
            )
        return
    beside = [spare[name].gather(rows["row"]).alias(SPARE + name) for name in spare.columns]
    rows = rows.select(KEYS).hstack(beside)
    column = _telling(rows, spare.columns)
    if column is None and (repeated < MOST * len(rows) or not stepwise):
        return
    fate = "left out" if stepwise else "taken for one series with those"
    raise InterleavedError(
        f"{path}: {repeated:,} of {len(rows):,} rows have the time of another row and would be "
        f"{fate}: {_way_out(rows, column, series_column)}",
        column,
    )


def check_rows(rows: Rows) -> None:
    """Refuse rows that share their times because a column of names tells several series apart.

    Raises:
        InterleavedError: see ``check_apart``.
    """
    times = rows.times if rows.times is not None else pl.Series(range(len(rows.series)))
    frame = pl.DataFrame({"name": rows.series, "time": times}).with_row_index("row")
    numbers = rows.table.frame.select(pl.col(rows.values).cast(pl.Float64, strict=False))
    frame = frame.hstack([n.alias(f"c{i}") for i, n in enumerate(numbers)]).sort("time")
    names = [
        name
        for name in rows.values
        if (cells := rows.table.frame[name]).dtype == pl.String or IDENTITY.search(name)
        if IDENTITY.search(name) or cells.cast(pl.Float64, strict=False).null_count() == len(cells)
    ]
    spare = rows.table.frame.select(names)
    check_apart(rows.table.path, frame, spare, rows.table.options, stepwise=False)


def _mixed(rows: pl.DataFrame, spare: pl.DataFrame) -> str | None:
    """Return a column of names that take turns in time and tell values apart, if there is one."""
    values = [name for name in rows.columns if name[0] == "c" and name[1:].isdigit()]
    for column in spare.columns:
        names = spare[column].gather(rows["row"])
        named = bool(IDENTITY.search(column))
        if not named and (names.dtype != pl.String or kind_of(str(names[0])) in ("number", "time")):
            continue
        names = names.cast(pl.String).fill_null("")
        if not named and names.str.to_lowercase().is_in(FLAGS).all():
            continue
        count = names.n_unique()
        if not 2 <= count <= len(rows) / TURNS:
            continue
        turns = (names != names.shift()).sum() >= TURNS * count
        if (turns or named) and any(_explained(rows[v], names) > EXPLAINED for v in values):
            return column
    return None


def _explained(values: pl.Series, names: pl.Series) -> float:
    """Return the share of values' variance that lies between names."""
    known = pl.DataFrame({"value": values, "name": names}).filter(pl.col("value").is_finite())
    means = known.select(pl.col("value").mean().over("name")).to_series()
    total, between = known["value"].var(), means.var()
    if not isinstance(total, float) or not isinstance(between, float) or not total:
        return 0.0
    return between / total


def _repeated(rows: pl.DataFrame, keys: Sequence[str]) -> int:
    """Return how many rows have all their keys from a row before them."""
    if rows.is_empty():
        return 0
    if tuple(keys) == KEYS and (rows["name"] == rows["name"].first()).all():
        return int((rows["time"].sort().diff() == 0).sum())  # no hashes, where one series is all
    return len(rows) - rows.select(keys).n_unique()


def _telling(rows: pl.DataFrame, spare: Sequence[str]) -> str | None:
    """Return the column of fewest values within each of which hardly a time repeats, or two."""
    counts = {column: rows[SPARE + column].n_unique() for column in spare}
    some = [column for column in spare if 2 <= counts[column] <= len(rows) / 2]
    some.sort(key=counts.__getitem__)
    for ways in (combinations(some, 1), combinations(some[:MOST_PAIRED], 2)):
        found = [one for one in ways if _tell(rows, one)]
        if found:
            return ",".join(min(found, key=lambda one: prod(counts[name] for name in one)))
    return None


def _tell(rows: pl.DataFrame, columns: Sequence[str]) -> bool:
    left = _repeated(rows, (*KEYS, *(SPARE + column for column in columns)))
    return left <= RARELY * len(rows)


def _way_out(rows: pl.DataFrame, column: str | None, series_column: str | None) -> str:
    if column is None:
        return (
            "no column tells them apart; give a file with one row for each time, or with a column "
            "that names the series of each row, and its name as --series-column"
        )
    if series_column is None:
        return (
            f"several series in one file? Give --series-column {shlex.quote(column)}, whose "
            f"{_values(rows, column):,} values tell them apart"
        )
    return (
        f"beside {series_column!r} it is {column!r} that tells them apart: --series-column "
        f"{shlex.quote(f'{series_column},{column}')}"
    )


def _values(rows: pl.DataFrame, column: str) -> int:
    """Return how many different values a column has, or two of them together."""
    names = [SPARE + column] if SPARE + column in rows.columns else []
    return rows.select(names or [SPARE + one for one in column.split(",")]).n_unique()
