"""Numbers as people write them: in messages, tables and pictures."""

import math
import re
from collections.abc import Iterable

DIGITS = 4
SMALLEST, LARGEST = 1e-6, 1e15
"""Beyond these a power of ten is easier to read than a row of noughts."""
UNIT = re.compile(r"[\[(]\s*([^\[\]()]{1,16}?)\s*[\])]\s*$")
SPANS = ((86_400, "d"), (3600, "h"), (60, "min"))


def number(value: float | None, digits: int = DIGITS, unit: str = "") -> str:
    """Return a number in so many digits, at least all before the point: 1,770 and 0.0012.

    None, and what is no number, is a dash.
    """
    if value is None or not math.isfinite(value):
        return "-"
    if value and not SMALLEST <= abs(value) < LARGEST:
        text = f"{value:.{digits}g}"
    else:
        before = math.floor(math.log10(abs(value))) + 1 if value else 1
        text = f"{value:,.{max(0, digits - before)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} {unit}".rstrip()


def chance(p: float) -> str:
    """Return how likely something is by chance."""
    return "p < 0.0001" if p < 1e-4 else f"p = {number(p, 2)}"


def duration(seconds: float) -> str:
    """Return a time in the largest unit that it is a whole number of: 30 min, 7 d."""
    for length, name in SPANS:
        if seconds >= length and seconds % length == 0:
            return number(seconds / length, 6, name)
    return number(seconds, 6, "s")


def unit_of(columns: Iterable[str]) -> str:
    """Return the unit that columns tell of themselves, as ``load [MW]`` does; empty if they differ.

    A unit stands in brackets at the end of the name.
    """
    units = {found.group(1) if (found := UNIT.search(name)) else "" for name in columns}
    return units.pop() if len(units) == 1 else ""
