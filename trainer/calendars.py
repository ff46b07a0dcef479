"""Which files have months or business days for steps: by their times, before anything is fitted."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import Calendar
from tidecast.worker.pipeline.calendar import DAY, MONDAY, STEPS, elapsed
from tidecast.worker.pipeline.grid import is_next_step

Ints = npt.NDArray[np.int64]
STEADY_SHARE = 0.9
"""Of rows that are the next step, so that a file is taken to have it."""
FEWEST_ROWS = 10
LONGEST_HOLIDAY = 3
"""Business days without rows that are no gap."""


def calendar_of(times: Sequence[Ints]) -> Calendar | None:
    """Return the calendar that the rows of series go by, None where they have another step.

    Months are 28 to 31 days apart, and not always equally far. Of business days none is a Saturday
    or a Sunday, and most are a day apart.
    """
    each = [distinct(some) for some in times]
    gaps = np.concatenate([np.zeros(0, np.int64), *map(np.diff, each)])
    if len(gaps) < FEWEST_ROWS:
        return None
    usual = float(np.median(gaps)) / DAY
    if 28 <= usual <= 31 and np.ptp(gaps) > 0:
        return "1mo" if _keep(each, "1mo") else None
    together = np.concatenate(each)
    weekends = ((together // DAY + MONDAY) % 7 >= 5).any()
    if usual == 1 and not weekends and gaps.max() > 2 * DAY:
        return "1bd" if _keep(each, "1bd") else None
    return None


def distinct(times: Ints) -> Ints:
    """Return times in order, each once; most come in order, which ``np.unique`` makes no use of."""
    ordered = times if (times[1:] >= times[:-1]).all() else np.sort(times)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _keep(times: Sequence[Ints], calendar: Calendar) -> bool:
    """Tell whether nearly all rows are the next step of a calendar."""
    gaps = np.concatenate([np.diff(elapsed(some, calendar)) for some in times])
    return float(np.mean(is_next_step(gaps, STEPS[calendar]))) >= STEADY_SHARE


def longest_holiday(times: Sequence[Ints]) -> int:
    """Return how many business days without rows follow each other at most, of short holidays.

    Args:
        times: of series' rows, by the clock of business days.
    """
    gaps = np.concatenate([np.zeros(0, np.int64), *(np.diff(some) // DAY - 1 for some in times)])
    return int(gaps[gaps <= LONGEST_HOLIDAY].max(initial=0))
