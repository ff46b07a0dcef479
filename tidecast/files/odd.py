"""Values that may stand for missing ones: far outside of all others, or a lonely 0; pure."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SENTINELS = frozenset(
    sign * number
    for sign in (1.0, -1.0)
    for number in (*(10.0**k - 1 for k in range(2, 10)), 32767, 65535, 2147483647, 4294967295)
) | {-32768.0, -2147483648.0, -1.0, -888.0, -8888.0, 8888.0, 1e20, -1e20, 1e30, -1e30}
"""What loggers write where they have no value."""
REPEATS = 3
"""So often does any other number have to come, exactly alike, to be told of."""
MOST = 3
"""Numbers of a column that are told of, at either end."""
FEWEST = 20
RARE = 0.1
"""The share of values that are odd at most; what is more is how the record is."""
CLOSE = 0.3
"""Of the median: where all other values lie above it, a zero is odd."""


def odd_values(values: Floats) -> list[tuple[float, int]]:
    """Return numbers that may stand for missing ones, and how often each comes.

    Such a number lies further outside than all others are apart, and is one that loggers use or
    comes several times, exactly alike; or it is 0 where all others are far from it.

    Args:
        values: of a column; NaN is missing.
    """
    values = values[np.isfinite(values)]
    if len(values) < FEWEST:
        return []
    found: list[tuple[float, int]] = []
    for end in (np.min, np.max):
        rest = values
        for _ in range(MOST):
            value = float(end(rest))
            others = rest[rest != value]
            count = len(rest) - len(others)
            if len(others) < FEWEST or count > RARE * len(values):
                break
            away = others.min() - value if end is np.min else value - others.max()
            known = value in SENTINELS or count >= REPEATS
            if not known or away <= np.ptp(others):
                break
            found.append((value, count))
            rest = others
    zeros = int((values == 0).sum())
    if 0 < zeros <= RARE * len(values) and 0.0 not in [value for value, _ in found]:
        others = np.abs(values[values != 0])
        if others.min() > CLOSE * np.median(others):
            found.append((0.0, zeros))
    return found


def told(name: str, values: Floats) -> list[str]:
    """Say which values of a column may stand for missing ones, with the remedy."""
    said = []
    for value, count in odd_values(values):
        rest = values[np.isfinite(values) & (values != value)]
        often = "once" if count == 1 else f"{count:,} times"
        said.append(
            f"column {name!r} is {value:g} {often}, and else {rest.min():g} to {rest.max():g}; if "
            f"that says 'no value': --missing={value:g}"
        )
    return said
