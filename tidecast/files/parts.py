"""Times in several columns: a date and a time of day, or year, month, day and hour; pure."""

from collections.abc import Sequence

import polars as pl

PARTS: dict[str, tuple[tuple[str, ...], tuple[int, int]]] = {
    "year": (("year", "yr", "yyyy", "jahr", "annee", "año"), (1000, 2999)),
    "month": (("month", "mo", "mon", "mm", "monat", "mois", "mes"), (1, 12)),
    "day": (("day", "dy", "dd", "dom", "tag", "jour"), (1, 31)),
    "hour": (("hour", "hr", "hh", "stunde", "heure"), (0, 24)),
    "minute": (("minute", "min"), (0, 59)),
    "second": (("second", "sec"), (0, 59)),
}
"""Parts of a time from the largest: what their columns are called, and what they hold."""


def parts_in(frame: pl.DataFrame, free: Sequence[str], first: str = "year") -> tuple[str, ...]:
    """Return the columns that hold parts of times, from the largest; none is left out between.

    A column is one by its name and its whole numbers. A year alone is one if each row has its own.

    Args:
        frame: of a file.
        free: its columns that may be of times.
        first: the largest part: year, or hour beside a column of dates.
    """
    found: list[str] = []
    for part in list(PARTS)[list(PARTS).index(first) :]:
        names, bounds = PARTS[part]
        called = [name for name in free if name.strip().lower() in names]
        if len(called) != 1 or not _within(frame[called[0]], *bounds):
            break
        found += called
    if first == "year" and len(found) == 1 and frame[found[0]].n_unique() < len(frame):
        return ()
    return tuple(found)


def _within(column: pl.Series, least: int, most: int) -> bool:
    """Tell whether a column holds whole numbers within bounds, in each row."""
    numbers = column.cast(pl.Float64, strict=False)
    whole = (numbers.is_between(least, most) & (numbers == numbers.floor())).fill_null(value=False)
    return len(column) > 0 and bool(whole.all())


def joined(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.Series, str]:
    """Return the times of rows as text, and what was guessed of them ``[rows]``.

    Args:
        frame: of a file.
        columns: that of dates and that of times of day, or those from year or hour downwards.
    """
    date, rest = frame[columns[0]].cast(pl.String).str.strip_chars(), columns[1:]
    name, told = " and ".join(columns), ""
    years = _within(frame[columns[0]], *PARTS["year"][1])
    if len(columns) > 1 and years and (len(columns) > 2 or parts_in(frame, columns)):
        date, rest = _of_parts(frame, columns[:3]), columns[3:]
    if rest and _within(frame[rest[0]], *PARTS["hour"][1]):
        clock, told = _clock(frame, rest)
        date = date + " " + clock
    elif rest:
        date = date + " " + frame[rest[0]].cast(pl.String).str.strip_chars()
    return date.alias(name), told


def _clock(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.Series, str]:
    """Return times of day by hour, minute and second, and what was guessed of them."""
    hour, *more = (_whole(frame[column]) for column in columns)
    # Power markets count the hours of a day from 1, and call each by its end.
    ends = hour.min() == 1 and hour.max() == 24
    told = f"hours 1 to 24 in {columns[0]} are taken by their beginnings" if ends else ""
    clock = _padded(hour - int(ends))
    for part in more or [pl.Series([0])]:
        clock = clock + ":" + _padded(part)
    return clock, told


def _of_parts(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Return dates by year, month and day; the first of each where no day is known."""
    year, month, *rest = (_whole(frame[column]) for column in columns)
    day = _padded(rest[0]) if rest else pl.Series(["01"])
    return year.cast(pl.String) + "-" + _padded(month) + "-" + day


def _whole(column: pl.Series) -> pl.Series:
    return column.cast(pl.Float64, strict=False).cast(pl.Int64)


def _padded(numbers: pl.Series) -> pl.Series:
    return numbers.cast(pl.String).str.zfill(2)
