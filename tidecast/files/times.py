"""Columns of times: ISO 8601, dates as people write them, numbers since 1970 -> milliseconds; pure.

A column is read in one form, which all of its cells have. One that may be read in two ways (1 March
or 3 January) is refused, with both.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import product

import polars as pl

from tidecast.files.counts import EXCEL, SHOWN, of_numbers
from tidecast.files.dialect import kind_of, shown
from tidecast.files.errors import FileError
from tidecast.files.fixed import fixed_times
from tidecast.files.options import USUAL, FileOptions
from tidecast.files.periods import first_days, with_day
from tidecast.files.zones import in_utc

DAYTIMES = ("T%H:%M:%S%.f", " %H:%M:%S%.f", "T%H:%M", " %H:%M")
TIME_FORMATS = (*(f"%Y-%m-%d{daytime}" for daytime in DAYTIMES), "%Y-%m-%d")
ZONED_FORMATS = tuple(
    f"%Y-%m-%d{daytime}{zone}" for zone in ("%#z", " %#z") for daytime in DAYTIMES
)
DATES = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%m.%d.%Y", "%Y/%m/%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%y/%m/%d", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d"),
    *("%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%b %d %Y", "%b %d, %Y", "%a, %d %b %Y", "%Y %b %d"),
    *("%d %B %Y", "%B %d %Y", "%B %d, %Y", "%A, %d %B %Y", "%d %b %y", "%d-%b-%y", "%d. %B %Y"),
    *("%Y.%m.%d", "%y.%m.%d", "%Y%m%d", "%Y-%m-%d"),
)
CLOCKS = (
    *(" %H:%M:%S%.f", " %H:%M", " %I:%M:%S %p", " %I:%M %p", ", %H:%M:%S%.f", ", %H:%M", ""),
    *("T%H:%M:%S%.f", "T%H:%M", "T%H%M%S", ":%H:%M:%S", ", %I:%M:%S %p", ", %I:%M %p", "T%H%M%SZ"),
    *(" %H:%M:%S%.f UTC", " %H:%M:%S GMT", " %H.%M.%S", " %H.%M"),
)
WHOLE = (
    *("%a %b %d %H:%M:%S UTC %Y", "%a %b %d %H:%M:%S GMT %Y", "%a %b %d %H:%M:%S %Y"),
    *("[%d/%b/%Y:%H:%M:%S %z]", "%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %z"),
    *("%a, %d %b %Y %H:%M:%S GMT", "%d/%m/%Y %H:%M:%S %z"),
)
"""Forms that are no date with a time of day behind it: those of logs, mails and programs."""
EARLIEST_TIME, LATEST_TIME = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999
FIRST_YEAR, LAST_YEAR = 1000, 2999
"""Of dates that are no ISO 8601, so that a year of two digits is none of four."""
MOST_FOOTER = 5


@dataclass(frozen=True)
class Read:
    """Times of rows in milliseconds since 1970, null where a cell is none, and what was guessed."""

    times: pl.Series
    told: str = ""


def read_times(column: pl.Series, names: pl.Series, options: FileOptions = USUAL) -> Read:
    """Return the times in a column ``[rows]``.

    Args:
        column: text, numbers, or times already.
        names: of the series of each row.
        options: which form, unit and zone they have, where somebody said it.

    Raises:
        FileError: they may be read in two ways, or a cell is no time.
    """
    if column.dtype == pl.String:
        times = None if options.time_format else fixed_times(column)
        if times is not None and (options.time_zone is None or column[0].endswith("Z")):
            return Read(times)
        column = column.str.strip_chars()
        found = _of_text(column, names, options)
    elif column.dtype.is_temporal():
        local = options.time_zone is not None and getattr(column.dtype, "time_zone", None) is None
        column = column.cast(pl.Datetime("ms"))
        found = Read(_in_zone(column, names, options.time_zone if local else None))
    else:
        found = _of_numbers(column, names, options)
    unread = found.times.is_null() | ~found.times.is_between(EARLIEST_TIME, LATEST_TIME)
    if unread.any():
        raise FileError(_unread(column, unread, options))
    return found


def _in_zone(local: pl.Series, names: pl.Series, zone: str | None) -> pl.Series:
    """Return datetimes in a zone (None: UTC) as milliseconds since 1970."""
    return (in_utc(local, names, zone) if zone else local).cast(pl.Int64)


def _unread(column: pl.Series, unread: pl.Series, options: FileOptions) -> str:
    """Say which cell is no time, beside one that is, and what to do."""
    row = int(unread.arg_max() or 0)
    good = (~unread).arg_max()
    cell = column[row]
    beside = ""
    if good is not None and not unread.all():
        beside = f" as {_shown(column[good])} of data row {int(good) + 1} is"
    footer = len(column) - row
    stray = column.dtype == pl.String and kind_of(cell or "") != "time" and not unread.all()
    way = "ISO 8601 or a number since 1970 is (seconds to nanoseconds); --time-format says another "
    way += "form ('%d/%m/%Y %H:%M'), --time-column another column"
    if stray and footer <= MOST_FOOTER and int(unread.sum()) == footer:
        way = f"lines behind the last row? --skip-footer {footer} leaves them out"
    zone = options.time_zone
    never = f"; in {zone}, clocks may have gone forward over it" if zone else ""
    what = "missing" if cell is None else _shown(cell)
    return f"column {column.name!r}, data row {row + 1}: {what} is no time{beside}; {way}{never}"


def _shown(cell: object) -> str:
    return repr(shown(cell)) if isinstance(cell, str) else repr(cell)


def _of_text(column: pl.Series, names: pl.Series, options: FileOptions) -> Read:
    """Return the times in text, in the form that most of the cells have."""
    if options.time_format is not None and options.time_format != EXCEL:
        try:
            whole, form = with_day(column, options.time_format)
            local = whole.str.to_datetime(form, time_unit="ms", strict=False)
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise FileError(
                f"--time-format {options.time_format!r}: no form of times ({reason}); "
                "'%d/%m/%Y %H:%M' is one"
            ) from error
        zoned = getattr(local.dtype, "time_zone", None) is not None
        return Read(_in_zone(_bare(local), names, None if zoned else options.time_zone))
    if column.null_count() == len(column):
        return Read(column.cast(pl.Int64))
    numbers = column.cast(pl.Float64, strict=False)
    if 2 * numbers.count() > column.count():
        return _of_numbers(column, names, options)
    days, period = first_days(column)
    iso = _iso(days, names, options.time_zone)
    if iso.null_count() < len(column):
        told = f"{column.drop_nulls()[0]!r} is the {period} from {days.drop_nulls()[0]}"
        return Read(iso, told if period else "")
    return _of_dates(column, names, options.time_zone)


def _bare(moments: pl.Series) -> pl.Series:
    """Return moments of a zone as those of UTC without one."""
    if getattr(moments.dtype, "time_zone", None) is None:
        return moments
    return moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def _iso(column: pl.Series, names: pl.Series, zone: str | None) -> pl.Series:
    """Return ISO 8601 text as milliseconds since 1970, null where it is none.

    Without a zone of its own it is a time in ``zone``; None: UTC.
    """
    first = next(iter(column.drop_nulls().head(1)), "")
    for form in TIME_FORMATS:  # most files have one form throughout
        if _parsed(pl.Series([first]), form).null_count() == 0:
            whole = _parsed(column, form)
            if whole.null_count() == column.null_count():
                return _in_zone(whole, names, zone)
            break
    local = _coalesced(column, TIME_FORMATS)
    utc = _coalesced(column, ZONED_FORMATS)
    return pl.select(pl.coalesce(_in_zone(local, names, zone), utc.cast(pl.Int64))).to_series()


def _coalesced(column: pl.Series, formats: Sequence[str]) -> pl.Series:
    return pl.select(pl.coalesce(*(_parsed(column, form) for form in formats))).to_series()


def _parsed(column: pl.Series, form: str) -> pl.Series:
    return _bare(column.str.to_datetime(form, time_unit="ms", strict=False))


def _of_dates(column: pl.Series, names: pl.Series, zone: str | None) -> Read:
    """Return times of another form than ISO 8601, which one form must read in one way alone.

    Raises:
        FileError: two forms read all of them, to different times.
    """
    some = column.drop_nulls()
    found: list[tuple[str, pl.Series]] = []
    best = pl.Series([None] * len(column), dtype=pl.Datetime("ms"))
    for form in _forms([str(some[0]), str(some[-1])]):
        whole = _dated(column, form)
        if whole.null_count() < best.null_count():
            best = whole
        if whole.null_count() == column.null_count() and not any(whole.equals(w) for _, w in found):
            found.append((form, whole))
    if len(found) > 1:
        raise FileError(_two_ways(column, found))
    if not found:
        return Read(best.cast(pl.Int64))
    form, whole = found[0]
    cell, zone = str(some[0]), None if "%z" in form else zone
    return Read(_in_zone(whole, names, zone), f"{cell!r} is {_day(whole.drop_nulls()[0])} ({form})")


def _forms(cells: Sequence[str]) -> Iterator[str]:
    """Yield the forms that may read cells, by the look of the first and the last of them."""
    padded = all(cell[:2].isdigit() for cell in cells)
    for form, look in _looks():
        # Years of two digits that stand first have both of them, or 1/2/24 would be of 2001.
        if any(map(look.fullmatch, (cells[0], cells[-1]))) and (padded or form[:2] != "%y"):
            yield form


@cache
def _looks() -> list[tuple[str, re.Pattern[str]]]:
    """Return all forms, and what text of each looks like."""
    forms = [*(f"{date}{clock}" for date, clock in product(DATES, CLOCKS)), *WHOLE]
    return [(form, re.compile(_look(form))) for form in forms]


def _look(form: str) -> str:
    parts = re.split(r"(%\.f|%[A-Za-z])", form)
    return "".join(LOOKS.get(part, re.escape(part)) for part in parts)


LOOKS = {
    **dict.fromkeys(("%d", "%m", "%y", "%H", "%I", "%M", "%S"), r"\d\d?"),
    "%Y": r"\d{4}",
    "%b": "[A-Za-z]{3}",
    "%B": "[A-Za-z]{3,9}",
    "%p": "[aApP][mM]",
    "%a": "[A-Za-z]{3}",
    "%A": "[A-Za-z]{6,9}",
    "%.f": r"(\.\d+)?",
    "%z": r"[+-]\d\d:?\d\d",
}


def _dated(column: pl.Series, form: str) -> pl.Series:
    """Return dates of a form, null where they are none or of years that nobody means."""
    times = _parsed(column, form)
    return times.set(~times.dt.year().is_between(FIRST_YEAR, LAST_YEAR).fill_null(value=True), None)


def _two_ways(column: pl.Series, found: Sequence[tuple[str, pl.Series]]) -> str:
    (one, first), (other, second) = found[:2]
    row = int((first != second).fill_null(value=False).arg_max() or 0)
    return (
        f"column {column.name!r}, data row {row + 1}: {column[row]!r} may be {_day(first[row])} or "
        f"{_day(second[row])}; say --time-format '{one}' for the first, or --time-format '{other}'"
    )


def _day(moment: datetime) -> str:
    return moment.strftime(SHOWN)


def _of_numbers(column: pl.Series, names: pl.Series, options: FileOptions) -> Read:
    found = of_numbers(column, options)
    zone = options.time_zone if found.is_local else None
    return Read(_in_zone(found.moments, names, zone), found.told)


def iso(milliseconds: int) -> str:
    """Return a time as people read it, to the minute where it has no seconds."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M" if milliseconds % 60_000 == 0 else "%Y-%m-%d %H:%M:%S")
