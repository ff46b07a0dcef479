"""Forecasts that need no training: the honest floor beside every model."""

import numpy as np
import numpy.typing as npt

from trainer.dataset import Windows

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DAY = 86_400.0


def season_of(step_seconds: float | None) -> int:
    """Return the usual season in steps: a day below a day, a week, a year of weeks or months."""
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


def scales(windows: Windows, season: int) -> npt.NDArray[np.float64]:
    """Return the in-sample error that MASE divides by, per series and target ``[series, T]``.

    The mean absolute seasonal difference of the rows that training windows touch (Hyndman &
    Koehler 2006, "Another look at measures of forecast accuracy"). NaN where nothing ever changes
    or no two rows lie a season apart.
    """
    touched = windows.touched("train")
    result = np.full((int(windows.owner[-1]) + 1, windows.outputs.shape[1]), np.nan)
    rows = np.arange(season, len(touched))
    paired = touched[rows] & touched[rows - season]
    paired &= windows.segment_start[rows] <= rows - season
    rows = rows[paired]
    changes = np.abs(windows.outputs[rows] - windows.outputs[rows - season]).astype(np.float64)
    owner = windows.owner[rows]
    for series in np.unique(owner):
        mean = changes[owner == series].mean(axis=0)
        result[series] = np.where(mean > 0, mean, np.nan)
    return result
