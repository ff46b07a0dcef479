"""Reads a file of readings into a table: CSV, Parquet, JSON lines or Excel."""

import csv
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import polars as pl

from tidecast.files.dialect import Dialect, dialect_of, shown
from tidecast.files.documents import json_rows
from tidecast.files.errors import FileError
from tidecast.files.numbers import marks_of, plain, without_markers, without_unit
from tidecast.files.opening import Text, not_utf8, text_of
from tidecast.files.options import USUAL, FileOptions
from tidecast.files.workbooks import sheet_of

EXCEL = {".xlsx", ".xls", ".xlsb", ".xlsm", ".ods"}
PARQUET = b"PAR1"
UNREAD = (pl.Binary, pl.Object, pl.Duration)
"""Types of which no number, word or time is made."""
USUAL_MARKERS = ["NA", "nan", "NaN", "null", "None", "N/A", "-", "?"]
FILES = "a CSV or Parquet file"


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        path: of the file.
        frame: its columns, text or typed; text is null where a value is missing.
        told: what was guessed, in words.
        options: what was said of it.
        comma: whether some of its numbers have a decimal comma.
    """

    path: Path
    frame: pl.DataFrame
    told: tuple[str, ...] = ()
    options: FileOptions = USUAL
    comma: bool = False

    def numbers(self, names: Sequence[str]) -> "Table":
        """Return the table with the numbers of these columns in plain text, or typed.

        Raises:
            FileError: they may be read in two ways.
        """
        text = {n: self.frame[n] for n in names if self.frame[n].dtype == pl.String}
        told = list(self.told)
        for name, column in text.items():
            text[name], unit = without_unit(column)
            told += [f"{name} in {unit}"] * bool(unit)
        try:
            marks = marks_of(text, self.options.decimal, comma=self.comma)
            changed = [plain(column, marks.get(name)) for name, column in text.items()]
        except FileError as error:
            raise FileError(f"{self.path}: {error}") from error
        if "," in marks.values() and self.options.decimal is None:
            told.append("decimal comma")
        elif any(_first_comma(text[name]) for name, mark in marks.items() if mark == "."):
            told.append("commas between thousands")
        return replace(self, frame=self.frame.with_columns(changed), told=tuple(told))

    def with_columns(self, columns: Sequence[pl.Series]) -> "Table":
        """Return the table with more columns."""
        return replace(self, frame=self.frame.with_columns(columns))

    def has(self, *names: str | None) -> None:
        """Check that there are these columns; None is any.

        Raises:
            FileError: there is none.
        """
        for name in names:
            if name is None or name in self.frame.columns:
                continue
            called = dict(self.options.rename).get(name)
            if called in self.frame.columns:
                raise FileError(f"{self.path}: --name-feature calls {name!r} {called!r}; say that")
            raise FileError(
                f"{self.path}: no column {name!r}; the file has {', '.join(self.frame.columns)}"
            )


def _first_comma(text: pl.Series) -> bool:
    return bool(text.str.contains(",", literal=True).any())


def read_table(path: Path, options: FileOptions = USUAL, floats: Sequence[str] = ()) -> Table:
    """Read a file.

    Args:
        path: of the file.
        options: what is known of it.
        floats: columns that are likely to hold plain numbers, which then come as such.

    Raises:
        FileError: there is no such file, it is of another kind, or may be read in two ways.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such file; name {FILES}")
    with path.open("rb") as file:
        start = file.read(4)
    try:
        if start == PARQUET or path.suffix.lower() in (".parquet", ".pq"):
            return _typed(path, pl.read_parquet(path, glob=False), options)
        if path.suffix.lower() in EXCEL:
            frame, which = sheet_of(path, options.sheet, options.skip_lines)
            return _typed(path, frame, options, [which] * bool(which))
        text = text_of(path, options.encoding)
        if text.head.lstrip()[:1] in ("{", "["):
            return _json(path, text, options)
        return _csv(path, text, options, _before(options, floats))
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise FileError(f"{path}: not {FILES} that can be read ({reason})") from error


def _typed(
    path: Path, frame: pl.DataFrame, options: FileOptions, told: Sequence[str] = ()
) -> Table:
    """Return a table whose columns have types; nested ones become columns named by dots."""
    while structs := [name for name, kind in frame.schema.items() if isinstance(kind, pl.Struct)]:
        frame = frame.unnest(*structs, separator=".")
    words = [name for name, kind in frame.schema.items() if kind in (pl.Categorical, pl.Enum)]
    exact = [name for name, kind in frame.schema.items() if kind == pl.Decimal]
    frame = frame.with_columns(pl.col(words).cast(pl.String), pl.col(exact).cast(pl.Float64))
    odd = [n for n, kind in frame.schema.items() if kind.is_nested() or kind in UNREAD]
    told = (*told, *(f"{name} is left out ({frame.schema[name]})" for name in odd))
    frame = _without_markers(frame.drop(odd), options)
    return _some(Table(path, frame, told=told, options=options))


def _without_markers(frame: pl.DataFrame, options: FileOptions) -> pl.DataFrame:
    """Return a frame with null where a cell says so; names of series stay as they are."""
    kept = {options.series_column}
    columns = [column for column in frame.get_columns() if column.name not in kept]
    bare = [
        without_markers(column, options.missing)
        for column in columns
        if column.dtype == pl.String or (options.missing and column.dtype.is_numeric())
    ]
    return frame.with_columns(bare)


def _before(options: FileOptions, names: Sequence[str]) -> list[str]:
    """Return what columns are called before they are renamed."""
    renamed = {name: column for column, name in options.rename}
    return [renamed.get(name, name) for name in names]


def _some(table: Table) -> Table:
    """Return a table with its columns renamed, if it has rows."""
    if table.frame.is_empty():
        raise FileError(f"{table.path}: no rows; a header line and rows of numbers are needed")
    table.has(*(column for column, _ in table.options.rename))
    names = dict(table.options.rename)
    after = [names.get(name, name) for name in table.frame.columns]
    for name in names.values():
        if after.count(name) > 1:
            raise FileError(
                f"{table.path}: two columns would be called {name!r}; see --name-feature"
            )
    return replace(table, frame=_with_series(table.frame.rename(names), table.options))


def _with_series(frame: pl.DataFrame, options: FileOptions) -> pl.DataFrame:
    """Return a frame in which several columns that name a series are one, joined as on a stream."""
    column = options.series_column or ""
    parts = [one.strip() for one in column.split(",")]
    if len(parts) < 2 or column in frame.columns or not set(parts) <= set(frame.columns):
        return frame
    names = [
        pl.col(name).cast(pl.String).str.strip_chars().str.replace_all(r"([\\/])", r"\$1")
        for name in parts
    ]
    series = pl.concat_str(names, separator="/").alias(column)
    return frame.with_columns(series).drop(parts)


def _json(path: Path, text: Text, options: FileOptions) -> Table:
    whole = text.whole.read_bytes() if isinstance(text.whole, Path) else text.whole
    try:
        frame, where = json_rows(whole)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    return _typed(path, frame, options, (*text.told, *[f"the rows in {where!r}"] * bool(where)))


def _csv(path: Path, text: Text, options: FileOptions, floats: Sequence[str]) -> Table:
    """Return the rows of a text file."""
    try:
        dialect = dialect_of(text.head, options)
    except FileError as error:
        raise FileError(f"{path}: {error}") from error
    frame = _parsed(path, text, dialect, floats, options.series_column)
    frame, again = _without_headers(_without_blanks(frame), dialect)
    frame = _without_markers(frame, options)
    if options.skip_footer:
        frame = frame.head(max(0, len(frame) - options.skip_footer))
    frame = _without_nameless(path, frame, dialect)
    told = (*text.told, *dialect.told, *again)
    return _some(Table(path, frame, told, options, dialect.comma))


def _without_blanks(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that say something; a marker of missing values does."""
    typed = [name for name, kind in frame.schema.items() if kind != pl.String]
    if any(not frame[name].null_count() for name in typed):
        return frame
    text = pl.col(pl.String).str.strip_chars().fill_null("") == ""
    return frame.filter(~pl.all_horizontal(text, *(pl.col(name).is_null() for name in typed)))


def _without_headers(frame: pl.DataFrame, dialect: Dialect) -> tuple[pl.DataFrame, list[str]]:
    """Return rows without those that say the header again, as files do that were put together."""
    if any(kind != pl.String for kind in frame.dtypes):
        return frame, []
    again = pl.lit(value=True)
    for name in dialect.names:
        again &= (pl.col(name).str.strip_chars() == name).fill_null(value=name in dialect.nameless)
    rest = frame.filter(~again)
    count = len(frame) - len(rest)
    return rest, [f"the header again in {count:,} rows, left out"] if count else []


def _parsed(
    path: Path, text: Text, dialect: Dialect, floats: Sequence[str], series: str | None
) -> pl.DataFrame:
    """Return the rows as text, but for columns of plain numbers that were asked for."""
    whole = text.whole
    if dialect.blanks or (dialect.separator == " " and "  " in text.head):
        whole = _even(whole, dialect)
    names = dialect.names
    # polars 2.1 panics over a lone quote at the end, where it reads numbers; as text it is read.
    floats = () if dialect.quoted or b'"' in _tail(whole) else floats
    # In a file of one column, a marker that is read as nothing would be a blank line.
    floats = [name for name in floats if name not in dialect.dotted] if len(names) > 1 else ()

    def read(typed: Sequence[str], *, strict: bool = False) -> pl.DataFrame:
        return pl.read_csv(
            whole,
            has_header=False,
            skip_lines=dialect.lines,
            schema={name: pl.Float64 if name in typed else pl.String for name in names},
            separator=dialect.separator,
            quote_char='"',
            comment_prefix="#" if dialect.comments else None,
            missing_columns=None if strict else "insert",
            null_values=None if strict or not typed else USUAL_MARKERS,
            glob=False,
        )

    try:
        # What a reader is asked for beyond the plain file costs it time, so the plain one is first.
        with suppress(pl.exceptions.PolarsError):
            return read(floats, strict=True)
        with suppress(pl.exceptions.PolarsError):
            frame = read(floats)
            # A series may be called NA; it was read for a missing one, then.
            if series not in frame.columns or not frame[series].null_count():
                return frame
        return read(())
    except pl.exceptions.PolarsError as error:
        if isinstance(whole, Path) and "utf" in str(error).lower():
            raise not_utf8(path) from error
        raise _ragged(path, whole, dialect) or error from error


def _tail(whole: Path | bytes) -> bytes:
    if isinstance(whole, bytes):
        return whole[-8:]
    with whole.open("rb") as file:
        file.seek(-min(8, whole.stat().st_size), 2)
        return file.read()


def _even(whole: Path | bytes, dialect: Dialect) -> bytes:
    """Return text whose separators have no blanks behind them, nor stand twice if they are some."""
    text = whole.read_bytes() if isinstance(whole, Path) else whole
    if dialect.separator == " ":
        return re.sub(rb"[ \t]+", b" ", text)
    return re.sub(
        re.escape(dialect.separator).encode() + rb' +(?=")', dialect.separator.encode(), text
    )


def _ragged(path: Path, whole: Path | bytes, dialect: Dialect) -> FileError | None:
    """Return the first row that has more cells than there are names, if there is one."""
    text = whole.read_bytes() if isinstance(whole, Path) else whole
    rows = csv.reader(StringIO(text.decode("utf-8", "replace")), delimiter=dialect.separator)
    for row in rows:
        comment = dialect.comments and row and row[0].startswith("#")
        if rows.line_num > dialect.lines and not comment and len(row) > len(dialect.names):
            return FileError(
                f"{path}, line {rows.line_num}: {len(row)} cells ({shown(','.join(row))}) where "
                f"{len(dialect.names)} columns have names ({', '.join(dialect.names[:4])}); quote "
                "cells that hold the separator, or name it with --separator"
            )
    return None


def _without_nameless(path: Path, frame: pl.DataFrame, dialect: Dialect) -> pl.DataFrame:
    """Return a frame without columns that have neither names nor values.

    Raises:
        FileError: the rows have values in columns beyond the header's last.
    """
    void = [name for name in frame.columns if frame[name].null_count() == len(frame)]
    frame = frame.drop(name for name in void if name in dialect.nameless)
    beyond = [name for name in frame.columns if name in dialect.beyond]
    if beyond:
        raise FileError(
            f"{path}: rows have {len(dialect.names)} cells, and the header names "
            f"{len(dialect.names) - len(dialect.beyond)} columns; --columns names all of them"
        )
    return frame
