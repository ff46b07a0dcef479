"""Numbers as times: seconds to nanoseconds since 1970, told apart by their size; pure.

Trainer and worker read numbers by these functions. ``docs/time.md`` states the bounds.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
LATEST_TIME = 253_402_300_799_999
"""Milliseconds since 1970 until the end of the year 9999."""
FIRST_SECOND, FIRST_MS, FIRST_US, FIRST_NS = 10**8, 10**11, 10**14, 10**17
"""The smallest number of each unit, where nobody says which: March 1973, but for seconds, which end
in the year 5138. What is below counts milliseconds, as no record but a simulation's is so early."""
DATES = 19_000_101, 21_001_231
"""Numbers between which some are dates without hyphens."""
NO_TIME = -1
_EXACT = 2.0**63
_PER_UNIT = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def milliseconds(numbers: Ints, unit: TimeUnit = "auto") -> Ints:
    """Return milliseconds since 1970 of whole numbers ``[k]``; what is finer is cut.

    ``NO_TIME`` stands for what is none, see ``millisecond``.
    """
    if not len(numbers) or unit == "ms":
        return numbers
    if unit == "auto":
        if numbers.min() >= FIRST_MS and numbers.max() < FIRST_US:
            return numbers
        return _by_size(numbers)
    if unit == "s":
        odd = (numbers < 0) | (numbers > LATEST_TIME // 1000)
        return np.where(odd, NO_TIME, np.where(odd, 0, numbers) * 1000)
    return numbers // (1000 if unit == "us" else 1_000_000)


def _by_size(numbers: Ints) -> Ints:
    bounds = [FIRST_SECOND, FIRST_MS, FIRST_US, FIRST_NS]
    size = np.searchsorted(bounds, numbers, side="right")
    factors = np.array([1, 1000, 1, 1, 1])[size]
    times: Ints = numbers * factors // np.array([1, 1, 1, 1000, 1_000_000])[size]
    for place in np.flatnonzero((numbers >= DATES[0]) & (numbers <= DATES[1])).tolist():
        if is_date(int(numbers[place])):
            times[place] = NO_TIME
    return times


def unit_of(number: float) -> TimeUnit:
    """Return what a number counts since 1970, as its size tells."""
    bounds: list[tuple[int, TimeUnit]] = [
        (FIRST_NS, "ns"),
        (FIRST_US, "us"),
        (FIRST_MS, "ms"),
        (FIRST_SECOND, "s"),
    ]
    return next((unit for first, unit in bounds if number >= first), "ms")


def millisecond(number: int, unit: TimeUnit = "auto") -> int:
    """Return milliseconds since 1970 of one whole number, which may be of any size.

    ``NO_TIME`` where it may as well be a date (``is_date``) and nobody said which unit it has.
    """
    if abs(number) < 2**63:
        return int(milliseconds(np.array([number], np.int64), unit)[0])
    return number // 1_000_000 if unit in ("auto", "ns") else number


def milliseconds_of_floats(numbers: Floats, unit: TimeUnit = "auto") -> Ints:
    """Return milliseconds since 1970 of numbers ``[k]``; what is finer is cut.

    ``NO_TIME`` stands for what is none, and for small fractions, of which nobody says what they
    count. Microseconds, as far as a float has them, are rounded first.
    """
    sound = np.isfinite(numbers) & (np.abs(numbers) < _EXACT)
    numbers = np.where(sound, numbers, NO_TIME)
    whole = numbers == np.floor(numbers)
    times = np.full(len(numbers), NO_TIME)
    times[whole] = milliseconds(numbers[whole].astype(np.int64), unit)
    broken = ~whole
    if broken.any():
        some = numbers[broken]
        if unit == "auto":
            factors = np.where(some < FIRST_MS, 1000.0, np.where(some < FIRST_US, 1.0, 1e-3))
        else:
            factors = np.full(len(some), _PER_UNIT[unit])
        exact = np.floor(np.round(some * factors, 3))
        small = (exact > LATEST_TIME) | ((unit == "auto") & (some < FIRST_SECOND))
        times[broken] = np.where(small, NO_TIME, exact).astype(np.int64)
    return times


def is_date(number: int) -> bool:
    """Tell whether a number may be a date without hyphens, such as 20240131."""
    if not DATES[0] <= number <= DATES[1]:
        return False
    try:
        date(number // 10_000, number // 100 % 100, number % 100)
    except ValueError:
        return False
    return True


def text_of(time: int, unit: TimeUnit = "auto") -> str:
    """Return a time, milliseconds since 1970, as text that is read as that time again.

    That is the number where it can be, else ISO 8601; and the number beyond the year 9999.
    """
    if time > LATEST_TIME:
        return str(time)
    return str(time) if millisecond(time, unit) == time else iso_of(time)


def iso_of(time: int) -> str:
    """Return a time, milliseconds since 1970, in ISO 8601."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
