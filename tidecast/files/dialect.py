"""How the text of a file is laid out: separator, header, comments, lines before the rows; pure.

It is told by the file's head. What may be laid out in two ways is refused, with the option that
settles it.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import clevercsv

from tidecast.files.errors import FileError
from tidecast.files.numbers import COMMA, DOTTED, FRACTION
from tidecast.files.options import USUAL, USUAL_TIMES, FileOptions
from tidecast.worker.pipeline.cells import MARKERS

Kind = Literal["", "number", "time", "text"]
SAMPLE = 300
"""Lines that are looked at."""
SEPARATORS = ";,\t|"
WORDS = {",": ",", ";": ";", "\t": "tabs", "|": "|", " ": "blanks"}
COMMENT = "#"
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""A first line by which spreadsheets are told what stands between columns."""
NUMBER = re.compile(r"[+-]?(\d[\d.,' \u00a0\u202f]*|[.,]\d+)([eE][+-]?\d+)?")
TIME = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([T ].*)?|\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[aApP]\.?[mM]\.?)?"
    r"|\d{4}-\d\d"
)
SHOWN = 40


@dataclass(frozen=True)
class Dialect:
    """How rows are laid out.

    Attributes:
        separator: between cells.
        names: of the columns, one for each cell of a row.
        nameless: those of them that the header has no name for.
        beyond: those of these that lie behind its last.
        lines: of text before the first row.
        quoted: whether cells stand in quotes somewhere.
        blanks: whether quotes stand behind a separator and a blank.
        comma: whether some cells have a decimal comma.
        dotted: columns with numbers whose point may stand between thousands.
        comments: whether lines that begin with ``#`` are none of the rows.
        told: what somebody should know of how it was read.
    """

    separator: str
    names: tuple[str, ...]
    nameless: frozenset[str]
    beyond: frozenset[str]
    lines: int
    quoted: bool
    blanks: bool
    comma: bool
    dotted: frozenset[str]
    comments: bool
    told: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One row of the head: its cells, and how many lines of the text end with it."""

    cells: tuple[str, ...]
    end: int
    comment: bool = False


def dialect_of(head: str, options: FileOptions = USUAL) -> Dialect:
    """Return how a file with that head is laid out.

    Raises:
        FileError: it has no rows, no header, or lines before its header.
    """
    lines = head.split("\n")[: SAMPLE + (options.skip_lines or 0)]
    said = SEPARATOR_LINE.fullmatch(lines[0]) if options.skip_lines is None else None
    skipped = options.skip_lines or int(said is not None)
    body = lines[skipped:]
    bare = [line for line in body if line.strip() and not line.startswith(COMMENT)]
    if not bare:
        raise FileError("no rows; a header line and rows of numbers are needed")
    separator = options.separator or (said[1] if said else separator_of(bare))
    rows = _rows(body, separator, skipped)
    rows = _uncommented(rows)
    first = first_row_of_data([row.cells for row in rows if not row.comment])
    plain = [row for row in rows if not row.comment]
    if not plain:
        raise FileError("no rows; a header line and rows of numbers are needed")
    header, told = _header(rows, plain, first, options)
    width = _width([row.cells for row in plain[first:]])
    if options.separator is None and separator != ",":
        told.insert(0, f"{WORDS.get(separator, separator)} between columns")
    names = named(header.cells, width)
    cells = [*header.cells, *[""] * (len(names) - len(header.cells))]
    return Dialect(
        separator,
        names,
        frozenset(name for name, cell in zip(names, cells, strict=True) if not cell.strip()),
        frozenset(names[len(header.cells) :]),
        _lines_before(plain, first, header),
        quoted=any('"' in line for line in body),
        blanks=any(f'{separator} "' in line for line in body),
        comma=any(re.match(COMMA, cell) for row in plain[first:] for cell in row.cells),
        dotted=_dotted(names, [row.cells for row in plain[first:]]),
        comments=_has_comments(rows, _lines_before(plain, first, header), width),
        told=tuple(told),
    )


def _uncommented(rows: list[Line]) -> list[Line]:
    """Return rows of which those behind the header that look like data are no comments."""
    width = _width([row.cells for row in rows if not row.comment])
    seen, found = 0, []
    for row in rows:
        data = row.comment and seen > 1 and len(row.cells) == width > 1
        found.append(replace(row, comment=False) if data else row)
        seen += not row.comment
    return found


def separator_of(lines: Sequence[str]) -> str:
    """Return what stands between the cells of lines; a comma where nothing does."""
    text = "\n".join(lines)
    for allowed in (SEPARATORS, " "):
        try:
            dialect = clevercsv.Sniffer().sniff(text, delimiters=allowed)
        except clevercsv.Error:
            continue
        found = dialect and dialect.delimiter
        if found and sum(found in line for line in lines) > len(lines) / 2:
            return str(found)
    return ","


def _rows(lines: Sequence[str], separator: str, skipped: int) -> list[Line]:
    """Return the rows of lines that are not blank; comments among them."""
    rows, place = [], 0
    reader = csv.reader(
        (line.rstrip("\r") + "\n" for line in lines),
        delimiter=separator,
        skipinitialspace=True,
    )
    try:
        for cells in reader:
            comment = lines[place].startswith(COMMENT)
            place = reader.line_num
            if any(cell.strip() for cell in cells):
                stripped = tuple(cell.strip() for cell in cells)
                rows.append(Line(stripped, skipped + place, comment))
    except csv.Error as error:
        raise FileError(f"line {skipped + reader.line_num}: {error}") from error
    return rows


def _dotted(names: Sequence[str], rows: Sequence[Sequence[str]]) -> frozenset[str]:
    """Return the columns of which a number may have a point between thousands, and all others."""
    found = set()
    for place, name in enumerate(names):
        cells = [row[place] for row in rows if place < len(row)]
        may = any(re.match(DOTTED, cell) for cell in cells)
        if may and not any(re.match(FRACTION, cell) for cell in cells):
            found.add(name)
    return frozenset(found)


def _has_comments(rows: Sequence[Line], lines: int, width: int) -> bool:
    """Tell whether lines among the rows are comments: none has as many cells as they have."""
    among = [row for row in rows if row.comment and row.end > lines]
    return bool(among) and all(len(row.cells) != width or width == 1 for row in among)


def kind_of(cell: str) -> Kind:
    """Return what a cell seems to hold; nothing, where it is missing."""
    if cell.lower().encode() in MARKERS:
        return ""
    if TIME.fullmatch(cell):
        return "time"
    return "number" if NUMBER.fullmatch(cell) else "text"


def first_row_of_data(rows: Sequence[Sequence[str]]) -> int:
    """Return the first row whose cells are like those of most rows; 1 where none has numbers.

    Where columns hold times, such a row has one in them. Else it has as many numbers as not.
    """
    kinds = [[kind_of(cell) for cell in row] for row in rows]
    usual = [
        Counter(row[place] for row in kinds if place < len(row) and row[place]).most_common(1)
        for place in range(_width(rows))
    ]
    times = [place for place, found in enumerate(usual) if found and found[0][0] == "time"]
    numbers = [place for place, found in enumerate(usual) if found and found[0][0] == "number"]
    for number, row in enumerate(kinds):
        here = [place for place in times if place < len(row) and row[place] == "time"]
        if times and here:
            return number
        there = [row[place] for place in numbers if place < len(row) and row[place]]
        if not times and there and there.count("number") > there.count("text"):
            return number
    return 1


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return how many cells most rows have."""
    return Counter(map(len, rows)).most_common(1)[0][0] if rows else 0


def _header(
    rows: Sequence[Line], plain: Sequence[Line], first: int, options: FileOptions
) -> tuple[Line, list[str]]:
    """Return the names of columns, and what is to be told of them.

    Raises:
        FileError: there is none, or other lines stand before it.
    """
    before = list(plain[:first])
    if options.columns:
        if len(before) > 1 and options.skip_lines is None:
            raise _preamble(before[0], before[-1].end, "--columns names the columns, but ")
        told = [_left_out(before)] if before else []
        return Line(options.columns, before[-1].end if before else options.skip_lines or 0), told
    if first == 0:
        above = [row for row in rows if row.comment and row.end < plain[0].end]
        if above and len(above[-1].cells) == len(plain[0].cells):
            names = (above[-1].cells[0].lstrip(COMMENT).strip(), *above[-1].cells[1:])
            return Line(names, above[-1].end), [f"the header of line {above[-1].end}, a comment"]
        some = ",".join(shown(cell) for cell in plain[0].cells[:4])
        example = {1: "value", 2: "time,value"}.get(len(plain[0].cells), "time,temp,...")
        raise FileError(
            f"the first row holds numbers ({some}): it has no header; name its "
            f"{len(plain[0].cells)} column{'s'[: len(plain[0].cells) - 1]}, --columns {example}"
        )
    width = _width([row.cells for row in plain[first:]])
    said = options.skip_lines is not None and len(plain[0].cells) == width
    if first > 1 and not said and not _are_units(before, width):
        raise _which_header(before, width)
    return plain[0], [_left_out(before[1:])] if before[1:] else []


def _are_units(before: Sequence[Line], width: int) -> bool:
    """Tell whether the first of the lines before the rows has all names, and no other has."""
    full = [len(line.cells) == width and all(line.cells) for line in before]
    return len(full) > 1 and full[0] and not any(full[1:])


def _left_out(lines: Sequence[Line]) -> str:
    """Say that lines between the header and the rows are no rows."""
    where = (
        f"line {lines[0].end}" if len(lines) == 1 else f"lines {lines[0].end} to {lines[-1].end}"
    )
    return f"{where} ({_text(lines[0])}) left out"


def _which_header(before: Sequence[Line], width: int) -> FileError:
    """Return what is wrong with lines of which one has to be the header."""
    full = [line for line in before if len(line.cells) == width and all(line.cells)]
    timed = [line for line in full if any(cell.lower() in USUAL_TIMES for cell in line.cells)]
    if len(full) < 2 or len(timed) == 1:
        return _preamble(before[0], (timed or full or before)[-1].end - 1, "")
    first, last = full[0], full[-1]
    return FileError(
        f"line {first.end} ({_text(first)}) and line {last.end} ({_text(last)}) may both name the "
        f"columns: say --skip-lines {first.end - 1} if the first does, --skip-lines {last.end - 1} "
        "for the other; what stands between the header and the rows is left out"
    )


def _preamble(line: Line, count: int, but: str) -> FileError:
    return FileError(
        f"{but}line {line.end}, {_text(line)}, stands before the header; --skip-lines {count} "
        "leaves it out, or as many lines as there are"
    )


def _text(line: Line) -> str:
    return repr(shown(" ".join(cell for cell in line.cells if cell)))


def _lines_before(plain: Sequence[Line], first: int, header: Line) -> int:
    return max(header.end, plain[first - 1].end if 0 < first <= len(plain) else 0)


def named(header: Sequence[str], width: int) -> tuple[str, ...]:
    """Return a name for each cell of a row, each once."""
    names: list[str] = []
    for place in range(max(width, len(header))):
        name = header[place].strip().lstrip("\ufeff") if place < len(header) else ""
        name = name or f"column {place + 1}"
        count = 1 + sum(name == other.split(" (twice")[0] for other in names)
        names.append(name if count == 1 else f"{name} (twice, {count})")
    return tuple(names)


def shown(cell: str) -> str:
    """Return a cell as a message may show it."""
    return cell if len(cell) <= SHOWN else f"{cell[:SHOWN]}..."
