"""What a file holds, what would be made of it, and which command fits it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tidecast.files import categories
from tidecast.files.dialect import shown
from tidecast.files.errors import FileError, InterleavedError
from tidecast.files.layout import Rows, rows_of
from tidecast.files.options import USUAL, FileOptions
from tidecast.files.table import read_table
from tidecast.trainer.baselines import season_of
from tidecast.trainer.errors import DataError
from tidecast.trainer.series import History, load_history

Floats = npt.NDArray[np.float64]
NUMBERS = 0.9
"""The share of a column's cells that are numbers, so that it is one of numbers."""
FEW_NAMES = 5
FEW_VALUES = 2
"""Different values of a column, at most, that is none to forecast."""
SELDOM = 10
"""Rows for each number, at least, so that numbers may be names."""
USUAL_HORIZON = 12


@dataclass(frozen=True)
class ColumnLook:
    """One column: its values (None: it holds text) and how many rows have none.

    ``unread`` is the first cell of a column of numbers that is none, with its row, from 0.
    """

    name: str
    values: Floats | None
    missing: int
    distinct: int
    unread: tuple[int, str] | None = None


@dataclass(frozen=True)
class Look:
    """What a file holds.

    Attributes:
        path: of the file.
        rows: its rows, with their times and series.
        options: by which they were read.
        columns: of values.
        history: of the columns of numbers; None where there is none.
        notes: what is odd.
    """

    path: Path
    rows: Rows
    options: FileOptions
    columns: tuple[ColumnLook, ...]
    history: History | None
    notes: tuple[str, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that may be forecast."""
        return () if self.history is None else self.history.columns

    @property
    def slots(self) -> int:
        """The steps from first to last row, over all series; the rows where there is no step."""
        history = self.history
        if history is None or not history.step_seconds:
            return 0 if history is None else history.rows
        step = 1000 * history.step_seconds
        known = [one.times for one in history.series if one.times is not None]
        return sum(round(float(times[-1] - times[0]) / step) + 1 for times in known)

    def command(self, program: str = "tidecast-trainer") -> str:
        """Return the command that fits a model to it."""
        if not self.targets or self.history is None:
            return ""
        words = [program, "fit", str(self.path), "--target", self.targets[0]]
        season = season_of(self.history.step_seconds, self.history.calendar)
        words += ["--horizon", str(min(season, 48) if season > 1 else USUAL_HORIZON)]
        return " ".join(map(shlex.quote, [*words, *_options(self.options)]))


def _options(options: FileOptions) -> list[str]:
    """Return what was said of a file as words of a command line."""
    words = []
    for name, value in vars(options).items():
        flag = {"rename": "--name-feature"}.get(name, "--" + name.replace("_", "-"))
        if value == getattr(USUAL, name):
            continue
        if name == "series_rows":
            words.append(flag if value else f"--no-{name.replace('_', '-')}")
        elif value is True:
            words.append(flag)
        elif name == "rename":
            words += [f"{flag}={column}={renamed}" for column, renamed in value]
        elif name == "missing":
            words += [f"{flag}={marker}" for marker in value]
        else:
            words.append(f"{flag}={','.join(value) if name == 'columns' else value}")
    return words


def look(path: Path, options: FileOptions = USUAL) -> Look:
    """Look at a file.

    Where its rows are of several series and a column tells them apart, it is read by that.

    Raises:
        DataError: it cannot be read, or may be read in two ways.
    """
    try:
        rows = rows_of(read_table(path, options), None)
    except FileError as error:
        raise DataError(str(error)) from error
    columns = tuple(_column(rows.table.frame[name]) for name in rows.values)
    numbers = [one for one in columns if one.values is not None]
    counters = [one.name for one in numbers if _counts(one.values)]
    sound = [one for one in numbers if one.unread is None and one.distinct > FEW_VALUES]
    whole = [one.name for one in sound if one.name not in counters]
    notes = [_unread(path, one) for one in numbers if one.unread is not None]
    notes += [f"{path}: column {name!r} numbers the rows" for name in counters]
    notes += [_words(path, rows.table.frame[one.name]) for one in columns if _has_words(one)]
    notes += [
        f"{path}: column {one.name!r} is always the same" for one in numbers if one.distinct == 1
    ]
    history = None
    if not numbers:
        notes += [_text(path, rows.table.frame[one.name]) for one in columns]
    if whole:
        try:
            history = load_history(path, whole, file=options, joins=False)
        except DataError as error:
            column = _telling(error, path, [one for one in sound if one.name in whole], options)
            if column:
                told = look(path, replace(options, series_column=column))
                return replace(told, notes=(*told.notes, f"{path}: read with {_by(column)}"))
            notes.append(str(error))
        else:
            notes += history.remarks
    return Look(path, rows, options, columns, history, tuple(notes))


def _telling(
    error: DataError, path: Path, columns: Sequence[ColumnLook], options: FileOptions
) -> str | None:
    """Return the column that tells several series apart; numbers of few values may be names."""
    found = error.__cause__
    if options.series_column or not isinstance(found, InterleavedError):
        return None
    if found.column:
        return found.column
    most = max(columns, key=lambda one: one.distinct)
    values = [
        one.name
        for one in columns
        if one is most or one.values is None or not _may_name(one.values)
    ]
    if len(values) == len(columns):
        return None
    try:
        load_history(path, values, file=options, joins=False)
    except DataError as again:
        return getattr(again.__cause__, "column", None)
    return None


def _may_name(values: Floats) -> bool:
    """Tell whether numbers are few whole ones that come again and again."""
    known = values[np.isfinite(values)]
    return bool((known == np.floor(known)).all()) and len(np.unique(known)) <= len(known) / SELDOM


def _by(column: str) -> str:
    return f"--series-column {shlex.quote(column)}, as several series would be one without it"


def _unread(path: Path, column: ColumnLook) -> str:
    row, cell = column.unread or (0, "")
    return (
        f"{path}: column {column.name!r}, data row {row + 1}: {cell!r} is not a number; if that "
        f"says 'no value': {shlex.quote(f'--missing={cell}')}"
    )


def _counts(values: Floats | None) -> bool:
    """Tell whether numbers go up by one from row to row."""
    return values is not None and len(values) > FEW_VALUES and bool((np.diff(values) == 1).all())


def _has_words(column: ColumnLook) -> bool:
    return column.values is None and categories.FEWEST <= column.distinct <= categories.MOST


def _words(path: Path, column: pl.Series) -> str:
    """Say how words can be of use."""
    words = [str(word) for word in column.drop_nulls().unique(maintain_order=True)]
    more = ", ..." if len(words) > FEW_NAMES else ""
    return (
        f"{path}: column {column.name!r} holds {len(words)} words "
        f"({', '.join(words[:FEW_NAMES])}{more}); --categories {shlex.quote(column.name)} makes "
        "features of them"
    )


def _text(path: Path, column: pl.Series) -> str:
    """Say why a column is none of numbers."""
    known = column.drop_nulls()
    if known.is_empty():
        return f"{path}: column {column.name!r} has no values"
    row = int(column.is_not_null().arg_max() or 0)
    cell = shown(str(known[0]))
    return f"{path}: column {column.name!r}, data row {row + 1}: {cell!r} is not a number"


def _column(column: pl.Series) -> ColumnLook:
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Int8)
    missing, distinct = column.null_count(), column.n_unique()
    if column.dtype.is_nested() or column.dtype.is_temporal():
        return ColumnLook(column.name, None, missing, 0)
    numbers = column.cast(pl.Float64, strict=False)
    there = len(column) - missing
    if not there or (len(column) - numbers.null_count()) < NUMBERS * there:
        return ColumnLook(column.name, None, missing, distinct - bool(missing))
    text = numbers.is_null() & column.is_not_null()
    first = int(text.arg_max() or 0)
    unread = (first, str(column[first])[:40]) if text.any() else None
    values = numbers.fill_null(float("nan")).to_numpy().astype(np.float64)
    return ColumnLook(column.name, values, missing, distinct - bool(missing), unread)


def names_of(history: History) -> str:
    """Return the first few series and how many rows each has."""
    some = [f"{one.name} ({len(one):,} rows)" for one in history.series[:FEW_NAMES]]
    more = len(history.series) - len(some)
    return ", ".join(some) + (f" and {more:,} more" if more else "")


def thinned(times: Sequence[float] | Floats, values: Floats, most: int) -> tuple[Floats, Floats]:
    """Return at most so many points that look like all of them: the ends of each stretch.

    Args:
        times: of values ``[rows]``.
        values: ``[rows]``, NaN where missing.
        most: how many points.
    """
    places, values = np.asarray(times, np.float64), np.asarray(values, np.float64)
    if len(values) <= most:
        return places, values
    size = -(-len(values) // (most // 2))
    whole = len(values) // size * size
    stretches = values[:whole].reshape(-1, size)
    known = np.isfinite(stretches)
    low = np.where(known, stretches, np.inf).argmin(axis=1)
    high = np.where(known, stretches, -np.inf).argmax(axis=1)
    ends = np.sort(np.stack([low, high], axis=1), axis=1)
    kept = (np.arange(len(stretches))[:, None] * size + ends).ravel()
    return places[kept], values[kept]
