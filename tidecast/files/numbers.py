"""Numbers as people write them: decimal comma, thousands, markers of missing values; pure.

A whole column is looked at before any cell of it is read: ``1,234`` is over a thousand to some and
one and a quarter to others. What may be both is refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from tidecast.files.errors import FileError
from tidecast.worker.pipeline.cells import MARKERS

Mark = Literal[".", ","]
BLANKS_AROUND = 4
"""Around a marker, at most."""
BLANKS = "[ \u00a0\u202f']"
"""Between thousands, where they are no mistake."""
SPACED = rf"^[+-]?\d{{1,3}}({BLANKS}\d{{3}})+([.,]\d+)?$"
COMMA = (
    r"^[+-]?(\d*,(\d{1,2}|\d{4,})|(0\d*|\d{4,}),\d{3}|\d*,\d+[eE][+-]?\d+|\d{1,3}(\.\d{3})+,\d+)$"
)
"""Numbers whose comma can only be a decimal mark; a dot is between thousands, then."""
POINT = r"^[+-]?(\d{1,3}(,\d{3})+\.\d*|\d{1,3}(,\d{3}){2,})$"
"""Numbers whose comma can only stand between thousands."""
EITHER = r"^[+-]?[1-9]\d{0,2},\d{3}$"
FRACTION = r"^[+-]?\d*\.(\d{1,2}|\d{4,})([eE][+-]?\d+)?$|^[+-]?0*\.\d+$|^[+-]?(0\d*|\d{4,})\.\d+$"
"""Numbers whose point can only be a decimal mark."""
DOTTED = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"
"""Numbers whose point may stand between thousands, where a comma is the decimal mark."""
LIKE_A_NUMBER = rf"^[+-]?[\d.,]([\d.,]|{BLANKS})*([eE][+-]?\d+)?$"
AFFIXED = re.compile(
    r"(?P<sign>[+-]?)(?P<before>[$€£¥]? ?)(?P<number>[+-]?[\d.,](?:[\d.,]|[ \u00a0\u202f'](?=\d))*)"
    r"(?P<after>[ \u00a0\u202f]?(?:[^\W\d_]|[%°$€£¥µ‰])[^\d,;\"]{0,15})?"
)
"""A number with a currency before it, or a unit behind it."""
MOSTLY = 0.9
MARKS = {",": "comma", ".": "point"}
NUMBER = {
    ",": r"^[+-]?(\d{1,3}(\.\d{3})+|\d*)(,\d+)?([eE][+-]?\d+)?$",
    ".": r"^[+-]?(\d{1,3}(,\d{3})+|\d*)(\.\d*)?([eE][+-]?\d+)?$",
}


def without_markers(text: pl.Series, more: Sequence[str] = ()) -> pl.Series:
    """Return text, or numbers, null where they say that there is no value ``[rows]``.

    Short text loses the blanks around it.

    Markers are the same as on a stream, in any case of letters, and those in ``more``, of which
    -999 is -999.0 too.
    """
    if text.dtype != pl.String:
        return text.set(text.is_in(_numbers(more)).fill_null(value=False), None)
    markers = [marker.decode() for marker in MARKERS] + [one.strip().lower() for one in more]
    short = text.str.len_bytes() <= BLANKS_AROUND + max(map(len, markers))
    if not short.any():  # as of most columns of times
        return text
    bare = text.str.strip_chars()
    found = bare.str.to_lowercase().is_in(markers)
    if numbers := _numbers(more):
        found |= bare.cast(pl.Float64, strict=False).is_in(numbers)
    return bare.set(found.fill_null(value=False), None)


def _numbers(words: Sequence[str]) -> list[float]:
    cells = pl.Series(list(words), dtype=pl.String).cast(pl.Float64, strict=False)
    return [float(number) for number in cells.drop_nulls()]


def without_unit(text: pl.Series) -> tuple[pl.Series, str]:
    """Return numbers without the one unit or currency that all of them have, and that ``[rows]``.

    Args:
        text: null where it is missing; other text than such numbers comes back as it is, with "".
    """
    first = text.drop_nulls().head(1)
    found = AFFIXED.fullmatch(first[0]) if len(first) else None
    before, after = (found["before"], found["after"] or "") if found else ("", "")
    if not before.strip() and not after.strip():
        return text, ""
    sign, rest = text.str.extract("^([+-]?)", 1), text.str.strip_chars_start("+-")
    fit = rest.str.starts_with(before) & rest.str.ends_with(after)
    bare = sign + rest.str.strip_prefix(before).str.strip_suffix(after)
    if not (fit & bare.str.contains(LIKE_A_NUMBER)).all():  # nulls count as true
        return text, ""
    return bare.alias(text.name), (before or after).strip()


def is_of_numbers(text: pl.Series) -> bool:
    """Tell whether most cells of a column look like numbers."""
    known = text.drop_nulls()
    return bool(known.str.contains(LIKE_A_NUMBER).sum() >= MOSTLY * len(known))


def marks_of(
    columns: Mapping[str, pl.Series], decimal: Mark | None = None, *, comma: bool = False
) -> dict[str, Mark]:
    """Return the decimal mark of each column that has other numbers than ``-1234.5e-6``.

    Args:
        columns: text by name ``[rows]``, null where it is missing; some may hold no numbers.
        decimal: the decimal mark of all of them, where somebody said it.
        comma: whether other numbers of the file have a decimal comma.

    Raises:
        FileError: a column may be read in two ways.
    """
    columns = {n: _unspaced(text) for n, text in columns.items() if is_of_numbers(text)}
    if decimal is not None:
        return dict.fromkeys(columns, decimal)
    found: dict[str, Mark] = {}
    commas, dots = {}, {}
    for name, text in columns.items():
        whole, point, broken = (_first(text, pattern) for pattern in (COMMA, POINT, FRACTION))
        if whole and (against := point or broken):
            raise FileError(
                f"column {name!r}: {whole!r} has a decimal comma and {against!r} a decimal point; "
                "write one of them in another way, or say --decimal , or --decimal ."
            )
        if whole or point:
            found[name] = "," if whole else "."
        elif not broken and (either := _first(text, EITHER)):
            commas[name] = either
        elif not broken and (either := _first(text, DOTTED)):
            dots[name] = either
    marks = set(found.values())
    if comma:
        marks.add(",")
    if commas and len(marks) != 1:
        raise _two_numbers(*next(iter(commas.items())), ",")
    _check_dots(columns, dots, comma="," in marks)
    return found | dict.fromkeys(commas, ("," if "," in marks else "."))


def _check_dots(columns: Mapping[str, pl.Series], dots: Mapping[str, str], *, comma: bool) -> None:
    """Refuse a point with three digits behind it where it may stand between thousands.

    Raises:
        FileError: other numbers have a decimal comma, or all below a thousand have no point.
    """
    for name, either in dots.items():
        short, long = (_first(columns[name], pattern) for pattern in (r"^\d{1,3}$", r"^\d{4,}$"))
        if comma or (short and not long):
            raise _two_numbers(name, either, ".")


def _two_numbers(name: str, cell: str, mark: Mark) -> FileError:
    whole, part = cell.replace(mark, ""), cell.replace(mark, ".")
    thousands, other = (".", ",") if mark == "," else (",", ".")
    return FileError(
        f"column {name!r}: {cell!r} may be {whole} or {part}: say --decimal {thousands} for the "
        f"first, --decimal {other} for the second"
    )


def _first(text: pl.Series, pattern: str) -> str | None:
    found = text.filter(text.str.contains(pattern).fill_null(value=False))
    return None if found.is_empty() else str(found[0])


def _unspaced(text: pl.Series) -> pl.Series:
    """Return numbers without what stands between thousands, where that is a blank ``[rows]``."""
    spaced = text.str.contains(SPACED).fill_null(value=False)
    if not spaced.any():
        return text
    bare = text.str.replace_all(BLANKS, "")
    return pl.select(pl.when(spaced).then(bare).otherwise(text)).to_series()


def plain(text: pl.Series, mark: Mark | None = None) -> pl.Series:
    """Return numbers as all programs read them ``[rows]``; other text as it is.

    Args:
        text: null where it is missing.
        mark: the decimal mark; None: numbers are plain, but for blanks.

    Raises:
        FileError: a number has another decimal mark.
    """
    name = text.name
    text = _unspaced(text)
    if mark is not None:
        number = text.str.contains(NUMBER[mark]).fill_null(value=False)
        if (odd := _first(text.filter(~number), r"^[+-]?\d*[.,]\d+$")) is not None:
            raise FileError(
                f"column {name!r}: {odd!r} has no decimal {MARKS[mark]}, as others have"
            )
        bare = text.str.replace_all("." if mark == "," else ",", "", literal=True)
        bare = bare.str.replace(",", ".", literal=True)
        text = pl.select(pl.when(number).then(bare).otherwise(text)).to_series()
    return text.alias(name)
