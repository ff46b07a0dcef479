"""Several series that would be read as one: seen by the times that repeat, counted, refused."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tidecast.files.errors import FileError
from tidecast.files.layout import Rows

FEW = 0.1
"""The share of rows at another row's time from which on a column that explains them is believed."""
MOST = 0.5
"""The share from which on they are refused even where no column explains them."""
KEYS = ("name", "time")
SPARE = "spare "
"""Stands before the file's own names of columns, among which may be those."""
RARELY = 0.01
"""The share of rows that a column may fail to tell apart; records do repeat a row."""


def check_apart(
    path: Path,
    rows: pl.DataFrame,
    spare: pl.DataFrame,
    series_column: str | None,
    *,
    stepwise: bool,
) -> None:
    """Refuse rows that share their times because they are of several series.

    Args:
        path: of the file.
        rows: those that have all features, with ``name`` and ``time`` and their ``row`` in
            ``spare``.
        spare: the columns of the file that nothing is read from.
        series_column: that names the series, if one was given.
        stepwise: whether only one of the rows at one time is kept.

    Raises:
        FileError: over a tenth of the rows repeat a time and a column tells them apart, or half
            of them do.
    """
    repeated = _repeated(rows, KEYS)
    if repeated <= FEW * len(rows):
        return
    beside = [spare[name].gather(rows["row"]).alias(SPARE + name) for name in spare.columns]
    rows = rows.select(KEYS).hstack(beside)
    column = _telling(rows, spare.columns)
    if column is None and (repeated < MOST * len(rows) or not stepwise):
        return
    fate = "left out" if stepwise else "taken for one series with those"
    raise FileError(
        f"{path}: {repeated:,} of {len(rows):,} rows have the time of another row and would be "
        f"{fate}: {_way_out(rows, column, series_column)}"
    )


def check_rows(rows: Rows) -> None:
    """Refuse rows that share their times because a column of names tells several series apart.

    Raises:
        FileError: see ``check_apart``.
    """
    if rows.times is None:
        return
    frame = pl.DataFrame({"name": rows.series, "time": rows.times}).with_row_index("row")
    names = [
        name
        for name in rows.values
        if (cells := rows.table.frame[name]).dtype == pl.String
        and cells.cast(pl.Float64, strict=False).null_count() == len(cells)
    ]
    spare = rows.table.frame.select(names)
    column = rows.table.options.series_column
    check_apart(rows.table.path, frame, spare, column, stepwise=False)


def _repeated(rows: pl.DataFrame, keys: Sequence[str]) -> int:
    """Return how many rows have all their keys from a row before them."""
    return len(rows) - rows.select(keys).n_unique()


def _telling(rows: pl.DataFrame, spare: Sequence[str]) -> str | None:
    """Return the column of fewest values within each of which hardly a time repeats."""
    found = {}
    for column in spare:
        values = rows[SPARE + column].n_unique()
        if 2 <= values <= len(rows) / 2:
            left = _repeated(rows, (*KEYS, SPARE + column))
            if left <= RARELY * len(rows):
                found[column] = values
    return min(found, key=found.__getitem__, default=None)


def _way_out(rows: pl.DataFrame, column: str | None, series_column: str | None) -> str:
    if column is None:
        return (
            "no column tells them apart; give a file with one row for each time, or with a column "
            "that names the series of each row, and its name as --series-column"
        )
    if series_column is None:
        return (
            f"several series in one file? Give --series-column {shlex.quote(column)}, whose "
            f"{rows[SPARE + column].n_unique():,} values tell them apart"
        )
    return (
        f"beside {series_column!r} it is {column!r} that tells them apart; write both into one "
        "column, and name that as --series-column"
    )
