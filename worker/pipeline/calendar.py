"""Months and business days as steps: a clock on which they are all equally long; pure.

Slots, gaps and jitter go by that clock, as they go by the usual one where a step is seconds.
Trainer and worker call the same functions.
"""

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import Calendar

Ints = npt.NDArray[np.int64]
DAY = 86_400_000
STEPS: dict[Calendar, int] = {"1mo": 31 * DAY, "1bd": DAY}
"""Milliseconds of a step on that clock: no less than the longest has, so that none is lost."""
WORDS: dict[Calendar, str] = {"1mo": "month", "1bd": "business day"}
SEASONS: dict[Calendar, int] = {"1mo": 12, "1bd": 5}
MONDAY = 3
"""Days from the Monday before 1970 to its first, a Thursday."""


def elapsed(times: Ints, calendar: Calendar | None) -> Ints:
    """Return what the clock shows at some times; of a weekend, that of the Monday behind it.

    Args:
        times: milliseconds since 1970, UTC ``[k]``.
        calendar: whose steps are equally long; None: times as they are.
    """
    if calendar is None:
        return times
    if calendar == "1mo":
        months = times.astype("datetime64[ms]").astype("datetime64[M]")
        first, length = _month(months)
        shown = months.astype(np.int64) * STEPS["1mo"]
        return np.asarray(shown + (times - first) * STEPS["1mo"] // length)
    days = times // DAY
    weeks, weekdays = np.divmod(days + MONDAY, 7)
    return np.where(weekdays < 5, (5 * weeks + weekdays) * DAY + times % DAY, 5 * (weeks + 1) * DAY)


def moment(shown: Ints, calendar: Calendar | None) -> Ints:
    """Return when the clock shows something, in milliseconds since 1970 ``[k]``."""
    if calendar is None:
        return shown
    steps, rest = np.divmod(shown, STEPS[calendar])
    if calendar == "1mo":
        first, length = _month(steps.astype("datetime64[M]"))
        return np.asarray(first - (-rest * length // STEPS["1mo"]))
    weeks, weekdays = np.divmod(steps, 5)
    return np.asarray((7 * weeks + weekdays - MONDAY) * DAY + rest)


def _month(months: npt.NDArray[np.datetime64]) -> tuple[Ints, Ints]:
    """Return when months begin, and how long they are, in milliseconds."""
    first, after = (
        month.astype("datetime64[ms]").astype(np.int64) for month in (months, months + 1)
    )
    return first, after - first
