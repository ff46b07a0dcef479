"""One cell of a reading: a series' name, a time, a number; each by itself or many at once; pure.

What the functions for many accept, those for one read alike; the former raise ValueError (or
OverflowError) for anything else, so that the caller goes on one by one. A negative zero is read as
zero, as JSON knows no such integer.
"""

import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

LATEST_TIME = 253_402_300_799_999
LONGEST_NAME = 512


class UnreadableError(ValueError):
    """An entry or an item of one cannot be read; the message is the reason, ``kind`` its class."""

    kind: Literal["malformed", "series", "time"] = "malformed"


class BadSeriesError(UnreadableError):
    """It names its series by what is no name."""

    kind = "series"


class BadTimeError(UnreadableError):
    """Its time is none, or none that we can serve."""

    kind = "time"


def numbers_of(cells: list[bytes]) -> npt.NDArray[np.float64]:
    """Return the numbers in many cells; infinities pass."""
    # Read as one JSON array, most numbers take a quarter of the time. Where it has as many items as
    # there are cells and each is a number, no comma came from within a cell.
    try:
        found = orjson.loads(b"[%b]" % b",".join(cells))
    except orjson.JSONDecodeError:
        found = []
    if len(found) == len(cells) and set(map(type, found)) <= {int, float}:
        return np.array(found, np.float64) + 0.0
    if b"_" in b"".join(cells):
        raise ValueError("Python's float() forgives underscores, the wire does not")
    numbers = np.array(list(map(float, cells)), np.float64) + 0.0
    if np.isnan(numbers).any():
        raise ValueError("NaN has a fault of its own")
    return numbers


def times_of(cells: list[bytes]) -> npt.NDArray[np.int64]:
    """Return the milliseconds since 1970 in many cells."""
    if not b"".join(cells).isdigit():
        raise ValueError("Python's int() forgives signs, blanks and underscores, the wire does not")
    try:
        found = orjson.loads(b"[%b]" % b",".join(cells))
    except orjson.JSONDecodeError:  # it takes no leading zeros
        found = list(map(int, cells))
    return bounded_times(np.array(found, np.int64))


def bounded_times(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return times that lie in the years 1970 to 9999."""
    if len(times) and not 0 <= times.min() <= times.max() <= LATEST_TIME:
        raise ValueError("a time is out of bounds")
    return times


def check_names(names: list[bytes]) -> None:
    """Demand that every name is one that ``checked_name`` lets pass."""
    if names and (b"" in names or max(map(len, names)) > LONGEST_NAME):
        raise ValueError("a name is empty or too long")
    # No character reaches across the line breaks, so the whole is UTF-8 if each name is.
    b"\n".join(names).decode()


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
    """Return the series' name that a JSON value gives."""
    if isinstance(name, str):
        return name.encode("utf-8", "surrogatepass")
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name).encode()
    raise BadSeriesError(f"series is {shown(name)}, not a name")


def time_of_id(entry_id: bytes) -> int:
    """Return the milliseconds of an entry's id."""
    return _bounded(int(entry_id.partition(b"-")[0]), entry_id)


def time_of_text(text: bytes) -> int:
    """Return milliseconds since 1970 of such a number, or of ISO 8601 (UTC where it has no zone).

    Raises:
        UnreadableError: it is neither, or lies outside the years 1970 to 9999.
    """
    if text.isdigit():
        return _bounded(int(text.lstrip(b"0")[:32] or b"0"), text)
    try:
        moment = datetime.datetime.fromisoformat(text.decode())
    except ValueError as error:
        raise BadTimeError(
            f"time {shown(text)} is neither milliseconds since 1970 nor ISO 8601"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return _bounded(since // datetime.timedelta(milliseconds=1), text)


def time_of_json(time: Any) -> int:
    """Return milliseconds since 1970 of a JSON value: such a number, or text as above."""
    if isinstance(time, str):
        return time_of_text(time.encode("utf-8", "surrogatepass"))
    if isinstance(time, float) and time.is_integer():
        time = int(time)
    if isinstance(time, int) and not isinstance(time, bool):
        return _bounded(time, time)
    raise BadTimeError(f"time is {shown(time)}, not milliseconds since 1970 nor ISO 8601")


def _bounded(time: int, said: object) -> int:
    if not 0 <= time <= LATEST_TIME:
        raise BadTimeError(f"time {shown(said)} lies outside the years 1970 to 9999")
    return time


def number_of(cell: Any) -> tuple[float, str]:
    """Return the number in a cell and no fault, or NaN and what is wrong; infinities pass."""
    if isinstance(cell, bytes) and b"_" not in cell:
        try:
            number = float(cell)
        except ValueError:
            return np.nan, f"is {shown(cell)}, not a number"
        return number + 0.0, "is nan, not a finite number" if number != number else ""
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        try:
            return float(cell) + 0.0, ""
        except OverflowError:
            return np.inf if cell > 0 else -np.inf, ""
    return np.nan, f"is {shown(cell)}, not a number"


def shown(value: object) -> str:
    """Return a value for a message, cut to 60 characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    try:
        form = repr(text)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return form if len(form) <= 60 else form[:57] + "..."
