"""Which column of a table is what: times, series, values; pure.

Columns are found by what is in them, names only tell which of several is meant. ``rows_of`` turns a
table of any layout into rows of one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from tidecast.files.counts import compact_dates
from tidecast.files.dialect import kind_of, shown
from tidecast.files.errors import FileError
from tidecast.files.options import USUAL_TIMES, FileOptions
from tidecast.files.parts import joined, parts_in
from tidecast.files.table import Table
from tidecast.files.times import Read, iso, read_times

CLOCK = r"^\d{1,2}(:\d\d(:\d\d([.,]\d+)?)?( ?[aApP]\.?[mM]\.?)?|\.\d\d\.\d\d)$"
LOOKED_AT = 200
FEWEST, MOST_ALIKE = 8, 0.9
"""Rows, and the share of different texts in them, of which some may be times."""
ALL_HOURS = 0.8
"""The share of a file's hours that most days have, so that they are times of day."""
NO_COLUMN = "none"
ROWS = re.compile(r"V\d+")
TYPES: dict[pl.DataType, str] = {pl.Time(): "clock", pl.Date(): "date"}
VALUE = "value"
"""The column of values where each row is a series."""


@dataclass(frozen=True)
class Rows:
    """The rows of a file, each with its series.

    Attributes:
        table: with their values.
        series: the name of each ``[rows]``.
        times: in milliseconds since 1970 ``[rows]``; None: unknown.
        time_columns: where those came from.
        told: what was guessed, in words.
    """

    table: Table
    series: pl.Series
    times: pl.Series | None
    time_columns: tuple[str, ...]
    told: tuple[str, ...]

    @property
    def values(self) -> list[str]:
        """The columns that are neither times nor names."""
        taken = {*self.time_columns, self.table.options.series_column}
        return [name for name in self.table.frame.columns if name not in taken]

    def as_text(self) -> pl.DataFrame:
        """Return series, times (numbers) and values (text), in the order of times ``[rows, k]``.

        Values that are missing are null.
        """
        frame = self.table.frame.select(self.values)
        flags = [name for name, kind in frame.schema.items() if kind == pl.Boolean]
        frame = frame.with_columns(pl.col(flags).cast(pl.Int8)).cast(pl.String)
        times = self.times
        if times is None:
            times = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(frame))
        heads = [self.series.alias("series\n"), times.alias("time\n")]
        frame = pl.DataFrame(heads).hstack(frame)
        return frame if times.is_sorted() else frame.sort("time\n", maintain_order=True)


def rows_of(table: Table, wanted: Sequence[str] | None = ()) -> Rows:
    """Return the rows of a table with their series and times.

    Args:
        table: of a file.
        wanted: columns that hold values, and so no times; None: all that hold no times.

    Raises:
        FileError: a column is absent, or it may be understood in two ways.
    """
    table, spread = _one_value_a_row(table)
    options = table.options
    table.has(*(wanted or ()), options.series_column)
    columns = time_columns(table, wanted or ())
    if wanted is None:
        wanted = [n for n in table.frame.columns if n not in (*columns, options.series_column)]
    table = table.numbers(wanted)
    series, told = _names(table), (*table.told, *spread)
    if not columns:
        told = (*told, "no column of times: each row is the next step")
        return Rows(table, series, None, (), told)
    try:
        times, said = table.frame[columns[0]], ""
        if len(columns) > 1:
            times, said = joined(table.frame, columns)
        read = read_times(times, series, options)
    except FileError as error:
        raise FileError(f"{table.path}: {error}") from error
    told = (*told, *_told(read, columns, series, options), *[said] * bool(said))
    return Rows(table, series, read.times, columns, told)


def _told(
    read: Read, columns: Sequence[str], series: pl.Series, options: FileOptions
) -> Iterator[str]:
    """Say how times were read."""
    ends = (read.times.min(), read.times.max())
    span = " to ".join(iso(int(str(end))) for end in ends)
    *most, last = columns
    names = f"{', '.join(most)} and {last}" if most else last
    yield f"times in {names}, {span} UTC"
    if read.told:
        yield read.told
    if options.time_zone:
        yield f"local times of {options.time_zone}"
    if not _in_order(read.times, series):
        yield "rows sorted by time"


def _in_order(times: pl.Series, series: pl.Series) -> bool:
    """Tell whether the rows of each series stand in the order of their times."""
    if times.is_sorted():
        return True
    rows = pl.DataFrame({"time": times, "name": series})
    return bool(rows.select((pl.col("time").diff().over("name") >= 0).all()).item())


def _names(table: Table) -> pl.Series:
    """Return the name of each row's series."""
    column = table.options.series_column
    if column is None:
        return pl.Series([""]).new_from_index(0, len(table.frame))
    names = table.frame[column].cast(pl.String).str.strip_chars()
    nameless = (names.is_null() | (names == "")).fill_null(value=True)
    if nameless.any():
        raise FileError(
            f"{table.path}: column {column!r}, data row {int(nameless.arg_max() or 0) + 1}: no "
            "series is named there; write its name, or name another --series-column"
        )
    return names


def time_columns(table: Table, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the column of times, those of dates and times of day or of their parts, or none.

    Raises:
        FileError: there is no such column, or several of them.
    """
    options, frame = table.options, table.frame
    if options.time_column is not None:
        return _said_columns(table, options.time_column)
    taken = {*wanted, options.series_column}
    free = [name for name in frame.columns if name not in taken]
    kinds = {name: _kind(frame[name]) for name in free}
    steady = {name for name in free if _is_constant(frame[name])}
    clocks = _of_kind(kinds, "clock")
    days = [name for name in _of_kind(kinds, "date") if name not in steady]
    moments = [name for name in _of_kind(kinds, "moment") if name not in steady]
    usual = [name for name in free if name.lower() in USUAL_TIMES]
    if clocks and days and not set(usual) & set(moments):
        return _day_and_clock(table, days, clocks, moments)
    if not moments and not clocks and (parts := _parts(frame, free, days)):
        return parts
    known = [n for n in usual if n in {*moments, *days} or kinds[n] == "count"]
    if known:
        return (known[0],)
    if not moments and not days:
        if clocks:
            raise FileError(
                f"{table.path}: column {clocks[0]!r} holds times of day without their dates; name "
                f"the column of dates, too: --time-column DATE,{clocks[0]}, or another column"
            )
        if usual:
            return (usual[0],)
    counts = [name for name in _of_kind(kinds, "count") if _is_steady(frame[name])]
    found = _only(table, [*moments, *days] or counts)
    if not found:
        _refuse_unread(table, free)
    return found


def _said_columns(table: Table, said: str) -> tuple[str, ...]:
    """Return the columns of times that somebody named.

    Raises:
        FileError: there is no such column.
    """
    columns = table.frame.columns
    if said == NO_COLUMN and NO_COLUMN not in columns:
        return ()
    parts = tuple(one.strip() for one in said.split(","))
    if said not in columns and all(name in columns for name in parts):
        return parts
    table.has(said)
    return (said,)


def _parts(frame: pl.DataFrame, free: Sequence[str], days: Sequence[str]) -> tuple[str, ...]:
    """Return the columns from year downwards, or those of dates that repeat and of hours."""
    if not days:
        return parts_in(frame, free)
    hours = parts_in(frame, free, "hour")
    if not hours or len(days) > 1:
        return ()
    day, hour = frame[days[0]], frame[hours[0]]
    pairs, of_each = frame.select(days[0], hours[0]).n_unique(), day.n_unique() * hour.n_unique()
    # Hours worked, say, are others on each day.
    return (days[0], *hours) if pairs > day.n_unique() and pairs >= ALL_HOURS * of_each else ()


def _day_and_clock(
    table: Table, days: Sequence[str], clocks: Sequence[str], moments: Sequence[str]
) -> tuple[str, ...]:
    """Return a column of dates and one of times of day: each is half of a time.

    Raises:
        FileError: there are several.
    """
    if len(days) == len(clocks) == 1 and len(moments) < 2:
        return days[0], clocks[0]
    raise FileError(
        f"{table.path}: {', '.join(map(repr, (*days, *clocks)))} hold dates and times of day; say "
        f"which belong together, --time-column '{days[0]},{clocks[0]}', say"
    )


def _of_kind(kinds: dict[str, str], kind: str) -> list[str]:
    return [name for name, found in kinds.items() if found == kind]


def _is_steady(column: pl.Series) -> bool:
    """Tell whether numbers go one way alone, as times of rows in some order do."""
    numbers = column.cast(pl.Float64, strict=False)
    return numbers.is_sorted() or numbers.is_sorted(descending=True)


def _refuse_unread(table: Table, names: Sequence[str]) -> None:
    """Refuse a file in which a column holds another text with digits in each row.

    Raises:
        FileError: it may hold times, of a form that is not known.
    """
    for name in names:
        column = table.frame[name]
        if column.dtype != pl.String or len(column) < FEWEST or column.null_count():
            continue
        different = column.n_unique() > MOST_ALIKE * len(column)
        numbers = column.cast(pl.Float64, strict=False).null_count() < len(column) / 2
        if different and not numbers and column.str.contains(r"\d").mean() == 1:
            raise FileError(
                f"{table.path}: no column of times is seen, but {name!r} holds "
                f"{shown(column[0])!r} and another text in each row; if that is a time, say "
                "--time-format (as strptime has it), if not, --time-column none"
            )


def _only(table: Table, found: Sequence[str]) -> tuple[str, ...]:
    if len(found) > 1:
        raise FileError(
            f"{table.path}: {', '.join(map(repr, found))} hold times; say which are those of the "
            f"rows, --time-column {found[0]!r} or another"
        )
    return tuple(found)


def _is_constant(column: pl.Series) -> bool:
    if len(column) < 2 or column.head(LOOKED_AT).n_unique() > 1:  # as most that are not
        return False
    return column.n_unique() == 1


def _kind(column: pl.Series) -> str:
    """Return whether a column holds moments, dates or times of day ("clock"); else nothing."""
    if column.dtype.is_temporal():
        return TYPES.get(column.dtype, "moment")
    if column.dtype != pl.String:
        return _kind_of_numbers(column.drop_nulls().head(LOOKED_AT))
    sample = column.drop_nulls().head(LOOKED_AT).str.strip_chars()
    if sample.is_empty():
        return ""
    if sample.str.contains(CLOCK).all():
        return "clock"
    kinds = [kind_of(cell) for cell in sample]
    if kinds.count("time") > 0.5 * len(kinds):
        return "moment" if sample.str.contains(":", literal=True).any() else "date"
    numbers = sample.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        return _kind_of_numbers(numbers)
    return "moment" if kinds.count("text") == len(kinds) and _reads(sample) else ""


def _kind_of_numbers(numbers: pl.Series) -> str:
    """Return whether numbers may be dates without hyphens, or count since 1970 ("count")."""
    if not numbers.dtype.is_numeric() or numbers.is_empty():
        return ""
    plain = numbers.cast(pl.Float64)
    dated = compact_dates(plain.to_numpy()) if (plain >= FIRST_DATE).all() else None
    if dated is not None:
        return "date" if dated[1] == "%Y%m%d" else "moment"
    return "count" if _is_epoch(numbers) else ""


def _is_epoch(column: pl.Series) -> bool:
    """Tell whether numbers may be seconds, or milli-, micro- or nanoseconds, of our days."""
    if not column.dtype.is_numeric() or column.is_empty():
        return False
    least, most = column.min(), column.max()
    if not isinstance(least, int | float) or not isinstance(most, int | float):
        return False
    return any(EPOCH[0] * size <= least and most <= EPOCH[1] * size for size in (1, 1e3, 1e6, 1e9))


FIRST_DATE = 19_000_101
"""The smallest number that is a date without hyphens, and no count of a sensor's."""
EPOCH = 631_152_000.0, 2_524_608_000.0
"""Seconds since 1970 from 1990 to 2050."""


def _reads(sample: pl.Series) -> bool:
    """Tell whether text such as ``1 March 2024`` is a time."""
    if not sample.str.contains(r"\d").all():
        return False
    try:
        read_times(sample, sample)
    except FileError as error:
        return "may be" in str(error)
    return True


def _has_no_number(column: pl.Series) -> bool:
    return column.cast(pl.Float64, strict=False).null_count() == len(column)


def _one_value_a_row(table: Table) -> tuple[Table, tuple[str, ...]]:
    """Return the table of a file whose rows are series with a row for each value instead."""
    frame, options = table.frame, table.options
    rest = frame.columns[1:]
    spread = options.series_rows
    if spread is None:
        spread = len(rest) > 1 and (
            all(map(ROWS.fullmatch, rest)) or all(kind_of(name) == "time" for name in rest)
        )
        spread = spread and _has_no_number(frame[frame.columns[0]])
    if not spread:
        return table, ()
    name = options.series_column or frame.columns[0]
    table.has(name)
    values = [column for column in frame.columns if column != name]
    long = frame.with_row_index("row").unpivot(values, index=["row", name], value_name=VALUE)
    long = long.with_row_index("place").sort("row", "place")
    moments = all(kind_of(column) == "time" for column in values)
    long = long.rename({"variable": "time"}) if moments else long.drop("variable")
    # Behind the last value of a short series there is nothing; a hole within one stays.
    last = pl.col("place").filter(pl.col(VALUE).is_not_null()).max().over("row")
    long = long.filter(pl.col("place") <= last).drop("place", "row")
    found = replace(table, frame=long, options=replace(options, series_column=name))
    return found, (f"each row is a series, named in {name}, with its values in {VALUE}",)
