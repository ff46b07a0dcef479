"""Numbers as times: dates without hyphens, a spreadsheet's days, counts since 1970; pure.

The whole column is looked at: what is a date in all rows but a few is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tidecast.files.errors import FileError
from tidecast.files.options import FileOptions
from tidecast.worker.pipeline.epoch import (
    NO_TIME,
    TimeUnit,
    milliseconds,
    milliseconds_of_floats,
    unit_of,
)

Floats = npt.NDArray[np.float64]
EXCEL = "excel"
"""A ``time_format``: days since the end of 1899."""
EXCEL_DAYS = 20_000, 80_000
"""From 1954 to 2119."""
EXCEL_EPOCH = 25_569
"""The day of 1970 as spreadsheets count."""
DAY = 86_400_000
MOST_DAYS = 31
"""Between rows, so that numbers may be a spreadsheet's days."""
MOSTLY = 0.9
"""The share of a column's numbers that are dates, so that they all are to be."""
FIRST_BEYOND = 3e6
"""Days, in the year 10113."""
ENOUGH = 3
"""Numbers of few digits that have to be dates, so that they are believed to be."""
EARLIEST = 315_532_800_000
"""Milliseconds since 1970, in 1980: what counts to before it counts something else, mostly."""
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


@dataclass(frozen=True)
class Form:
    """How dates are written in so many digits: what is added to read them, and which years."""

    form: str
    read: str
    more: str = ""
    years: tuple[int, int] = (1900, 2100)
    enough: int = 1


FORMS: Mapping[int, Form] = {
    4: Form("%Y", "%Y%m%d", "0101", (1500, 2200), ENOUGH),
    6: Form("%Y%m", "%Y%m%d", "01", enough=ENOUGH),
    8: Form("%Y%m%d", "%Y%m%d"),
    10: Form("%Y%m%d%H", "%Y%m%d%H%M", "00", enough=ENOUGH),
    12: Form("%Y%m%d%H%M", "%Y%m%d%H%M"),
    14: Form("%Y%m%d%H%M%S", "%Y%m%d%H%M%S"),
    17: Form("%Y%m%d%H%M%S%3f", "%Y%m%d%H%M%S%3f"),
}
SHOWN = "%-d %B %Y"


@dataclass(frozen=True)
class Counted:
    """Moments of rows, null where a number is none, whether they are local, and what was guessed.

    What counts since 1970 is of UTC; a date is of wherever it was written.
    """

    moments: pl.Series
    is_local: bool
    told: str = ""


def of_numbers(column: pl.Series, options: FileOptions) -> Counted:
    """Return numbers as moments ``[rows]``.

    Args:
        column: numbers, or text that holds some.
        options: what they are, where somebody said it.

    Raises:
        FileError: they may be read in two ways.
    """
    numbers = column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
    if (days := _spreadsheet_days(column, numbers, options)) is not None:
        return Counted(days, is_local=True)
    if options.time_unit == "auto" and (dates := compact_dates(numbers)) is not None:
        moments, form = dates
        place = int(moments.is_not_null().arg_max() or 0)
        told = f"{str(column[place])!r} is {moments[place].strftime(SHOWN)} ({form})"
        return Counted(moments, is_local=True, told=told)
    unit = _unit(column, numbers) if options.time_unit == "auto" else options.time_unit
    times = _counted(column, numbers, options.time_unit).cast(pl.Datetime("ms"))
    if options.time_unit == "auto" and times.min() is not None:
        _check_early(column, times, unit)
    return Counted(times, is_local=False, told=f"{UNITS[unit]} since 1970")


def _unit(column: pl.Series, numbers: Floats) -> TimeUnit:
    """Return what numbers count, by their size."""
    some = numbers[numbers >= 0]
    units = {unit_of(float(one)) for one in (some.min(), some.max())} if len(some) else {"ms"}
    if len(units) > 1:
        raise FileError(
            f"column {column.name!r} goes from {some.min():g} to {some.max():g}: by their size, "
            f"these count {' and '.join(sorted(units))} since 1970; say --time-unit s, ms, us or ns"
        )
    return unit_of(float(some.max())) if len(some) else "ms"


def _check_early(column: pl.Series, times: pl.Series, unit: TimeUnit) -> None:
    """Refuse counts that would lie before there were sensors to speak of.

    Raises:
        FileError: the first does.
    """
    place = int(times.arg_min() or 0)
    if times.cast(pl.Int64)[place] < EARLIEST:
        raise FileError(
            f"column {column.name!r}, data row {place + 1}: {str(column[place])[:40]!r} would be "
            f"{times[place].strftime(SHOWN)}, if it counts {UNITS[unit]} since 1970. If that is "
            f"meant: --time-unit {unit}; if it is a date: --time-format %d%m%Y, or whichever form; "
            "if it numbers the rows: --time-column none, and each row is the next step"
        )


def _spreadsheet_days(column: pl.Series, numbers: Floats, options: FileOptions) -> pl.Series | None:
    """Return days since 1900, as spreadsheets count them; None where nobody said that they are.

    Raises:
        FileError: they may as well be milliseconds.
    """
    known = np.isfinite(numbers)
    sound = numbers[known]
    if options.time_format == EXCEL:
        return _days(numbers, known)
    inside = len(sound) > 1 and EXCEL_DAYS[0] <= sound.min() and sound.max() <= EXCEL_DAYS[1]
    if options.time_unit != "auto" or not inside:
        return None
    if 0 < np.median(np.diff(np.sort(sound))) <= MOST_DAYS:
        first = _days(sound[:1], np.ones(1, np.bool_))[0]
        raise FileError(
            f"column {column.name!r}: '{sound[0]:.10g}' may be {first.strftime(SHOWN)}, as "
            "spreadsheets count days, or milliseconds since 1970; say --time-format excel for the "
            "first, or --time-unit ms"
        )
    return None


def _days(numbers: Floats, known: npt.NDArray[np.bool_]) -> pl.Series:
    """Return days as moments, null where none is known or one is beyond all calendars."""
    known = known & (np.abs(numbers) < FIRST_BEYOND)
    since = np.round(np.where(known, numbers - EXCEL_EPOCH, 0) * DAY).astype(np.int64)
    return pl.Series(since).set(pl.Series(~known), None).cast(pl.Datetime("ms"))


def compact_dates(numbers: Floats) -> tuple[pl.Series, str] | None:
    """Return dates without hyphens, and their form; None where most are none.

    Args:
        numbers: NaN where one is missing.

    Returns:
        Datetimes, null where a number is no date of that form; and ``strptime``'s name of it.
    """
    known = np.isfinite(numbers) & (np.abs(numbers) < 10.0**17)
    sound = numbers[known]
    if not len(sound) or (sound != np.floor(sound)).any() or sound.min() < 0:
        return None
    form = FORMS.get(len(str(int(np.median(sound)))))
    if form is None:
        return None
    text = pl.Series(np.where(known, numbers, 0).astype(np.int64)).cast(pl.String) + form.more
    moments = text.str.to_datetime(form.read, time_unit="ms", strict=False)
    inside = moments.dt.year().is_between(*form.years).fill_null(value=False)
    moments = moments.set(~(inside & pl.Series(known)), None)
    read = len(moments) - moments.null_count()
    if read < form.enough or read < MOSTLY * len(sound):
        return None
    return moments, form.form


def _counted(column: pl.Series, numbers: Floats, unit: TimeUnit) -> pl.Series:
    """Return counts since 1970 as milliseconds, null where they are no times."""
    whole = column.cast(pl.Int64, strict=False)
    if not column.dtype.is_float() and whole.null_count() == column.null_count():
        times = milliseconds(whole.fill_null(NO_TIME).to_numpy(), unit)
    else:
        times = milliseconds_of_floats(numbers, unit)
    return pl.Series(times).set(pl.Series(times) == NO_TIME, None)
