"""One cell of a reading: a series' name, a time, a number; each by itself or many at once; pure.

The functions for many read whole columns at a time, and what those cannot take in one go cell by
cell, by the functions for one. These alone say what is wrong: the others return the places of bad
cells, and faults of numbers, which cost a reading no more than that feature. A negative zero is
read as zero, as JSON knows no such integer.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import orjson

from tidecast.worker.pipeline.epoch import (
    FIRST_SECOND,
    LATEST_TIME,
    NO_TIME,
    TimeUnit,
    is_date,
    millisecond,
    milliseconds,
    milliseconds_of_floats,
)
from tidecast.worker.pipeline.iso import iso_times

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Faults = dict[int, str]
"""What is wrong with a cell, by its place."""
Places = list[int]
LONGEST_NAME = 512
DECIMAL = re.compile(rb"[0-9]{1,20}\.[0-9]{1,20}")
MARKERS = frozenset(rb"null nan na n/a n.a. #n/a <na> none nil \n - -- ?".split()) | {
    *(b"", b"no data", b"unknown", b"unavailable", b"missing")
}
LONGEST_MARKER = 16
MOST_WORDS = 8
"""Of those that a feature may hold, in a message."""
MISSING = "is missing"
"""The fault of a feature that a reading names, and says to have no value."""
A_NUMBER = "seconds, milliseconds, microseconds or nanoseconds since 1970"


class Absent(Enum):
    """The type of ``ABSENT``."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""Stands in a column of JSON values where an object has none."""


class Milliseconds(int):
    """A time among JSON values that has been read already: milliseconds since 1970."""


class UnreadableError(ValueError):
    """An entry or an item of one cannot be read; the message is the reason, ``kind`` its class."""

    kind: Literal["malformed", "series", "time"] = "malformed"


class BadSeriesError(UnreadableError):
    """It names its series by what is no name."""

    kind = "series"


class BadTimeError(UnreadableError):
    """Its time is none, or none that we can serve."""

    kind = "time"


def numbers_in(cells: Sequence[bytes]) -> tuple[Floats, Faults]:
    """Return the numbers in cells ``[k]``, NaN where one holds none, and what is wrong with these.

    Infinities pass.
    """
    # Read as one JSON array, most numbers take a quarter of the time. Where it has as many items as
    # there are cells and each is a number, no comma came from within a cell.
    together = b",".join(cells)
    try:
        found = orjson.loads(b"[%b]" % together)
    except orjson.JSONDecodeError:
        found = []
    if len(found) == len(cells) and set(map(type, found)) <= {int, float}:
        return np.array(found, np.float64) + 0.0, {}
    # Python's float() forgives underscores, the wire does not.
    read = _float if b"_" not in together else _float_without_underscore
    return _explained(np.array(list(map(read, cells)), np.float64), cells)


def numbers_in_json(cells: Sequence[Any]) -> tuple[Floats, Faults]:
    """Return the numbers in JSON values ``[k]``, as above; ``ABSENT`` is NaN, and nothing wrong."""
    if set(map(type, cells)) <= {int, float}:
        numbers = np.array(cells, np.float64) + 0.0
        return (numbers, {}) if not np.isnan(numbers).any() else _explained(numbers, cells)
    if set(map(type, cells)) == {str}:
        return numbers_in([cell.encode("utf-8", "surrogatepass") for cell in cells])
    plain = (int, float)
    return _explained(
        np.array([cell if type(cell) in plain else np.nan for cell in cells], np.float64), cells
    )


def codes_in(cells: Sequence[Any], codes: Mapping[bytes, float]) -> tuple[Floats, Faults]:
    """Return the numbers of words in cells ``[k]``, text or JSON values, as above."""
    found = [codes.get(cell) if isinstance(cell, bytes) else None for cell in cells]
    faults: Faults = {}
    for place in [place for place, code in enumerate(found) if code is None]:
        cell = cells[place]
        word = cell.encode("utf-8", "surrogatepass") if isinstance(cell, str) else cell
        found[place] = codes.get(word.strip()) if isinstance(word, bytes) else None
        if found[place] is None and cell is not ABSENT:
            missing = number_of(cell)[1] == MISSING
            faults[place] = MISSING if missing else f"is {shown(cell)}, none of {_some(codes)}"
    return np.array(found, np.float64), faults


def _some(codes: Mapping[bytes, float]) -> str:
    """Return the first few words."""
    few = [word.decode() for word in codes][:MOST_WORDS]
    return ", ".join(few) + ", ..." * (len(codes) > MOST_WORDS)


def _explained(numbers: Floats, cells: Sequence[Any]) -> tuple[Floats, Faults]:
    """Return numbers, and what is wrong where they are none but there is a cell."""
    faults = {}
    for place in np.flatnonzero(np.isnan(numbers)).tolist():
        if cells[place] is not ABSENT:
            numbers[place], fault = number_of(cells[place])
            if fault:
                faults[place] = fault
    return numbers + 0.0, faults


def _float(cell: bytes) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _float_without_underscore(cell: bytes) -> float:
    return np.nan if b"_" in cell else _float(cell)


def times_in(cells: Sequence[bytes], unit: TimeUnit = "auto") -> tuple[Ints, Places]:
    """Return the milliseconds since 1970 in cells ``[k]``, and the places of those without one.

    Numbers are of that unit.
    """
    read_one = partial(time_of_text, unit=unit)
    if b"".join(cells).isdigit():  # int() forgives signs, blanks and underscores, the wire does not
        with suppress(orjson.JSONDecodeError, OverflowError):
            found = np.array(orjson.loads(b"[%b]" % b",".join(cells)), np.int64)
            return _bounded_times(milliseconds(found, unit))
        # An empty one, a leading zero, too large a number.
        times, rest = np.zeros(len(cells), np.int64), list(range(len(cells)))
    else:
        times, read = iso_times(cells)
        rest = np.flatnonzero(~read | (times < 0) | (times > LATEST_TIME)).tolist()
    return times, _read_each(times, rest, cells, read_one)


def times_in_json(cells: Sequence[Any], unit: TimeUnit = "auto") -> tuple[Ints, Places]:
    """Return the milliseconds since 1970 in JSON values ``[k]``, and the places without one."""
    kinds = set(map(type, cells))
    if kinds <= {int, Milliseconds}:
        with suppress(OverflowError):
            numbers = np.array(cells, np.int64)
            if Milliseconds not in kinds:
                return _bounded_times(milliseconds(numbers, unit))
            own = np.array([type(cell) is int for cell in cells], np.bool_)
            numbers[own] = milliseconds(numbers[own], unit)
            return _bounded_times(numbers)
    if kinds == {float}:
        return _bounded_times(milliseconds_of_floats(np.array(cells, np.float64), unit))
    if kinds == {str}:
        texts = [cell.encode("utf-8", "surrogatepass") for cell in cells]
        return times_in(texts, unit)
    times = np.zeros(len(cells), np.int64)
    return times, _read_each(times, range(len(cells)), cells, partial(time_of_json, unit=unit))


def _bounded_times(times: Ints) -> tuple[Ints, Places]:
    """Return times, and the places of those that lie outside the years 1970 to 9999."""
    if not len(times) or 0 <= times.min() <= times.max() <= LATEST_TIME:
        return times, []
    return times, np.flatnonzero((times < 0) | (times > LATEST_TIME)).tolist()


def _read_each(
    times: Ints, places: Iterable[int], cells: Sequence[Any], read: Callable[[Any], int]
) -> Places:
    """Read the times at some places, and return the places of those that are none."""
    odd = []
    for place in places:
        try:
            times[place] = read(cells[place])
        except BadTimeError:
            odd.append(place)
    return odd


def odd_names(names: Sequence[bytes]) -> Places:
    """Return the places of what ``checked_name`` lets not pass."""
    if names and b"" not in names and max(map(len, names)) <= LONGEST_NAME:
        # No character reaches across the line breaks, so the whole is UTF-8 if each name is.
        with suppress(UnicodeDecodeError):
            b"\n".join(names).decode()
            return []
    return [place for place, name in enumerate(names) if not _is_name(name)]


def _is_name(name: bytes) -> bool:
    try:
        checked_name(name)
    except BadSeriesError:
        return False
    return True


def names_in_json(cells: Sequence[Any]) -> tuple[list[bytes], Places]:
    """Return the series' names that JSON values give ``[k]``, and the places of those without one.

    Bytes are names already.
    """
    with suppress(TypeError, UnicodeEncodeError):
        names = list(map(str.encode, cells))
        return names, odd_names(names)
    if set(map(type, cells)) == {bytes}:
        return list(cells), odd_names(cells)
    names, odd = [], []
    for place, cell in enumerate(cells):
        try:
            names.append(cell if isinstance(cell, bytes) else name_of_json(cell))
        except BadSeriesError:
            names.append(b"?")
            odd.append(place)
    return names, sorted({*odd, *odd_names(names)})


def checked_name(name: bytes) -> bytes:
    """Return a series' name that is UTF-8 of 1 to ``LONGEST_NAME`` bytes."""
    if not name or len(name) > LONGEST_NAME:
        raise BadSeriesError(f"a series name of {len(name)} bytes; 1 to {LONGEST_NAME} are allowed")
    try:
        name.decode()
    except UnicodeDecodeError as error:
        raise BadSeriesError(f"series name {shown(name)} is not UTF-8") from error
    return name


def name_of_json(name: Any) -> bytes:
    """Return the series' name that a JSON value gives.

    Raises:
        BadSeriesError: it is none, or is such an error, which says why there is none.
    """
    if isinstance(name, BadSeriesError):
        raise name
    if isinstance(name, str):
        return name.encode("utf-8", "surrogatepass")
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name).encode()
    raise BadSeriesError(f"series is {shown(name)}, not a name")


def time_of_id(entry_id: bytes) -> int:
    """Return the milliseconds of an entry's id."""
    return _bounded(int(entry_id.partition(b"-")[0]), entry_id)


def time_of_text(text: bytes, unit: TimeUnit = "auto") -> int:
    """Return milliseconds since 1970 of a number, or of ISO 8601 (UTC where it has no zone).

    Raises:
        UnreadableError: it is neither, or lies outside the years 1970 to 9999.
    """
    if text.isdigit():
        return _of_number(int(text.lstrip(b"0")[:32] or b"0"), text, unit)
    if DECIMAL.fullmatch(text):
        return _of_number(float(text), text, unit)
    try:
        moment = datetime.datetime.fromisoformat(text.decode())
    except ValueError as error:
        raise BadTimeError(f"time {shown(text)} is neither {A_NUMBER} nor ISO 8601") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return _bounded(since // datetime.timedelta(milliseconds=1), text)


def time_of_json(time: Any, unit: TimeUnit = "auto") -> int:
    """Return milliseconds since 1970 of a JSON value: a number, or text as above."""
    if isinstance(time, str):
        return time_of_text(time.encode("utf-8", "surrogatepass"), unit)
    if isinstance(time, Milliseconds):
        return _bounded(time, time)
    if isinstance(time, int | float) and not isinstance(time, bool):
        return _of_number(time, time, unit)
    raise BadTimeError(f"time is {shown(time)}, not {A_NUMBER} nor ISO 8601")


def _of_number(number: float, said: object, unit: TimeUnit) -> int:
    """Return milliseconds since 1970 of a number."""
    if isinstance(number, int):
        time = millisecond(number, unit)
    else:
        time = int(milliseconds_of_floats(np.array([number]), unit)[0])
    if time == NO_TIME and unit == "auto" and 0 <= number < FIRST_SECOND:
        may_be = "a date or a number since 1970" if is_date(int(number)) else "of any unit"
        raise BadTimeError(f"time {shown(said)} may be {may_be}; send ISO 8601, or say --time-unit")
    return _bounded(time, said)


def _bounded(time: int, said: object) -> int:
    if not 0 <= time <= LATEST_TIME:
        raise BadTimeError(f"time {shown(said)} lies outside the years 1970 to 9999")
    return time


def number_of(cell: Any) -> tuple[float, str]:
    """Return the number in a cell and no fault, or NaN and what is wrong; infinities pass.

    What stands for no value is ``MISSING``.
    """
    if isinstance(cell, str):
        cell = cell.encode("utf-8", "surrogatepass")
    if cell is None or (isinstance(cell, bytes) and is_missing(cell)):
        return np.nan, MISSING
    if isinstance(cell, bytes) and b"_" not in cell:
        try:
            number = float(cell)
        except ValueError:
            return np.nan, f"is {shown(cell)}, not a number"
        return number + 0.0, "is nan, not a finite number" if number != number else ""
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        try:
            return (np.nan, MISSING) if cell != cell else (float(cell) + 0.0, "")
        except OverflowError:
            return np.inf if cell > 0 else -np.inf, ""
    return np.nan, f"is {shown(cell)}, not a number"


def is_missing(text: bytes) -> bool:
    """Tell whether a text stands for no value, in whatever case its letters are."""
    return len(text) <= LONGEST_MARKER and text.strip().lower() in MARKERS


def shown(value: object) -> str:
    """Return a value for a message, cut to 60 characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    try:
        form = repr(text)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return form if len(form) <= 60 else form[:57] + "..."
