"""Forecasts that need no network: the honest floor beside every model."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.dataset import Windows
from tidecast.worker.contract import Calendar
from tidecast.worker.pipeline.calendar import SEASONS

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

DAY = 86_400.0


def season_of(step_seconds: float | None, calendar: Calendar | None = None) -> int:
    """Return the usual season in steps: a day below a day, a week, a year of weeks or months."""
    if calendar is not None:
        return SEASONS[calendar]
    if step_seconds is None:
        return 1
    if step_seconds < DAY:
        return max(1, round(DAY / step_seconds))
    for step, season in ((DAY, 7), (7 * DAY, 52), (30.4 * DAY, 12), (91.3 * DAY, 4)):
        if abs(step_seconds / step - 1) < 0.1:
            return season
    return 1


def naive(windows: Windows, starts: Ints) -> Floats:
    """Return the newest target repeated for every lead, ``[k, horizon, T]``."""
    newest = windows.outputs[starts + windows.n_steps - 1]
    return np.repeat(newest[:, None, :], windows.horizon, axis=1)


def seasonal_naive(windows: Windows, starts: Ints, season: int) -> Floats:
    """Return for every lead the newest value a whole number of seasons before it.

    Where the unbroken run of rows does not reach back so far, the newest value stands in.
    ``[k, horizon, T]``.
    """
    newest = starts[:, None] + windows.n_steps - 1
    leads = np.arange(1, windows.horizon + 1)
    rows = newest + leads - season * np.ceil(leads / season).astype(np.int64)
    reaches = rows >= windows.segment_start[newest]
    return windows.outputs[np.where(reaches, rows, newest)]


def drift(windows: Windows, starts: Ints) -> Floats:
    """Return the line through a window's first and newest target, drawn on; ``[k, horizon, T]``."""
    first, newest = windows.outputs[starts], windows.outputs[starts + windows.n_steps - 1]
    slope = (newest - first) / newest.dtype.type(max(1, windows.n_steps - 1))
    leads = np.arange(1, windows.horizon + 1, dtype=newest.dtype)
    return newest[:, None, :] + leads[:, None] * slope[:, None, :]


def scales(windows: Windows, season: int) -> tuple[Doubles, Doubles, Doubles]:
    """Return what errors are divided by, per series and target, ``[series, T]`` each.

    Of the rows that training windows touch: the mean absolute seasonal difference, for MASE
    (Hyndman & Koehler 2006, "Another look at measures of forecast accuracy"); the root of its mean
    square, for RMSSE; the standard deviation of all series' rows together. NaN where nothing ever
    changes or no two rows lie a season apart.
    """
    touched = windows.touched("train")
    shape = (int(windows.owner[-1]) + 1, windows.outputs.shape[1])
    absolute, square = np.full(shape, np.nan), np.full(shape, np.nan)
    rows = np.arange(season, len(touched))
    paired = touched[rows] & touched[rows - season]
    paired &= windows.segment_start[rows] <= rows - season
    rows = rows[paired]
    changes = np.abs(windows.outputs[rows] - windows.outputs[rows - season]).astype(np.float64)
    owner = windows.owner[rows]
    for series in np.unique(owner):
        mine = changes[owner == series]
        moves = mine.mean(axis=0) > 0
        absolute[series] = np.where(moves, mine.mean(axis=0), np.nan)
        square[series] = np.where(moves, np.sqrt((mine**2).mean(axis=0)), np.nan)
    deviation = windows.outputs[touched].astype(np.float64).std(axis=0)
    unit = np.broadcast_to(np.where(deviation > 0, deviation, np.nan), shape)
    return absolute, square, unit
