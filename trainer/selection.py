"""Whether what was learned earns its place beside something simpler; pure."""

import math

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCKS = 8
CLEARLY = 2.0
"""How many of its own standard errors a gain must measure.

One stretch of luck measures 1.0; of gains by mere chance one in 23 measures more than this.
"""

CLOSE = 0.02
"""By which share of its error a mean may lose to one of what it is the mean of, and be taken.

What wins by little on some rows loses as often on others; a mean seldom loses by much.
"""


def unclear(found: float) -> str:
    """Say how a gain that is not clear compares, after what it is that errs."""
    if found <= 0:
        return f"errs {'more' if found else 'as much'} on the validation rows"
    tenths = math.floor(10 * found)  # rounded up, 1.96 would be the 2 that it is not
    size = f"{tenths / 10} standard errors" if tenths else "next to nothing"
    return f"errs less on the validation rows by {size}, and it takes {CLEARLY:g} to rule out luck"


def in_time(times: Ints, errors: Doubles) -> Doubles:
    """Return the errors of windows ``[k]`` in order of their times; of those at one time the mean.

    The time is the row of its series that a window begins with, so that series which end together
    go together.
    """
    _, place = np.unique(times, return_inverse=True)
    return np.bincount(place, errors) / np.bincount(place)


def gain(simple: Doubles, learned: Doubles) -> float | None:
    """Return by how many standard errors ``learned`` errs less than ``simple``; negative: more.

    Args:
        simple: the error of each window, in order of time, ``[k]``.
        learned: the other's errors on the same windows, ``[k]``.

    The difference of errors is averaged over ``BLOCKS`` stretches of time, whose means are nearly
    independent where neighbouring windows are not: the test of Diebold & Mariano (1995, "Comparing
    predictive accuracy") with the variance by batch means. None where there are too few windows.
    """
    difference = np.asarray(simple, np.float64) - np.asarray(learned, np.float64)
    if len(difference) < 2 * BLOCKS:
        return None
    means = np.array([block.mean() for block in np.array_split(difference, BLOCKS)])
    mean, deviation = float(means.mean()), float(means.std(ddof=1))
    if deviation == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / (deviation / math.sqrt(BLOCKS))
