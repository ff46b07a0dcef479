"""Times in ISO 8601, many at once; pure.

The usual shapes are read as columns of digits. Anything else is left to who reads one by one.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
TEMPLATE = b"0000-00-00T00:00:00"
SHAPES = {19: (0, 0), 20: (0, 1), 23: (3, 0), 24: (3, 1), 25: (0, 6), 26: (6, 0), 27: (6, 1)} | {
    29: (3, 6),
    32: (6, 6),
}
"""By its length: how many digits of a fraction, and how long a zone (``Z``, ``+01:00``) it has."""


def iso_times(cells: Sequence[bytes]) -> tuple[Ints, Flags]:
    """Return milliseconds since 1970 of texts ``[k]``, and whether each was read here.

    Those read have the form ``2024-01-31T23:59:59``, with a blank or a T, perhaps three or six
    digits of a fraction, and a zone of ``Z`` or ``+01:00``; without one it is UTC. What is finer
    than a millisecond is cut.
    """
    times, read = np.zeros(len(cells), np.int64), np.zeros(len(cells), np.bool_)
    sizes = np.fromiter(map(len, cells), np.int64, len(cells))
    for size in SHAPES.keys() & set(sizes.tolist()):
        alike = np.flatnonzero(sizes == size)
        text = b"".join([cells[place] for place in alike.tolist()])
        grid = np.frombuffer(text, np.uint8).reshape(len(alike), size)
        times[alike], read[alike] = _read(grid, *SHAPES[size])
    return times, read


def _read(grid: Bytes, fraction: int, zone: int) -> tuple[Ints, Flags]:
    """Return the times in texts of one shape ``[k, size]``, and which of them are times."""
    good = np.ones(len(grid), np.bool_)
    for place, wanted in enumerate(TEMPLATE):
        if wanted == ord("T"):
            good &= (grid[:, place] == ord("T")) | (grid[:, place] == ord(" "))
        elif wanted != ord("0"):
            good &= grid[:, place] == wanted
    year, month, day, hour, minute, second = (
        _number(grid[:, first:beyond], good)
        for first, beyond in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))
    )
    good &= (year >= 1) & (month >= 1) & (month <= 12)
    good &= (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0)
    starts, ends = (_first_day(months), _first_day(months + 1))
    good &= (day >= 1) & (day <= ends - starts)
    seconds = (((starts + day - 1) * 24 + hour) * 60 + minute) * 60 + second
    milliseconds = np.zeros(len(grid), np.int64)
    if fraction:
        good &= grid[:, 19] == ord(".")
        digits = _number(grid[:, 20 : 20 + fraction], good)
        milliseconds = digits if fraction == 3 else digits // 1000
    if zone == 1:
        good &= grid[:, -1] == ord("Z")
    elif zone:
        seconds = seconds - _offset(grid[:, -zone:], good)
    return seconds * 1000 + milliseconds, good


def _offset(grid: Bytes, good: Flags) -> Ints:
    """Return the seconds of ``+01:00``; where it is none, ``good`` becomes False."""
    sign = np.where(grid[:, 0] == ord("-"), -1, 1)
    hours, minutes = _number(grid[:, 1:3], good), _number(grid[:, 4:6], good)
    good &= (grid[:, 0] == ord("+")) | (grid[:, 0] == ord("-"))
    good &= (grid[:, 3] == ord(":")) & (hours < 24) & (minutes < 60)
    offset: Ints = sign * (hours * 60 + minutes) * 60
    return offset


def _first_day(months: Ints) -> Ints:
    """Return the first days of months, both counted from January 1970."""
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _number(grid: Bytes, good: Flags) -> Ints:
    """Return the numbers that digits ``[k, n]`` make; where one is none, ``good`` becomes False."""
    digits = grid.astype(np.int64) - ord("0")
    good &= ((digits >= 0) & (digits <= 9)).all(axis=1)
    number: Ints = digits @ 10 ** np.arange(digits.shape[1])[::-1]
    return number
