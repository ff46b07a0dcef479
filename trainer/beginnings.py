"""Picks from how many readings on a model forecasts, its window extended by the oldest; pure."""

import numpy as np
import numpy.typing as npt

from tidecast.trainer.baselines import naive, seasonal_naive
from tidecast.trainer.dataset import Windows
from tidecast.trainer.evaluate import Predict
from tidecast.worker.pipeline.grid import extend

Doubles = npt.NDArray[np.float64]

FEWEST = 2
JUDGED = 500
"""Validation windows, at most, that are cut short."""
LONGER = 1.4
"""Of the lengths that are tried each is so many times as long as the one before, about."""


def lengths_of(n_steps: int) -> list[int]:
    """Return the lengths of windows that are tried, the longest first."""
    lengths, length = [], float(FEWEST)
    while length < n_steps:
        lengths.append(round(length))
        length = max(length + 1, length * LONGER)
    return lengths[::-1]


def pick_min_steps(predict: Predict, windows: Windows, season: int, unit: Doubles) -> int:
    """Return from how many readings on a model errs less than what needs no model.

    Validation windows are cut to their newest readings and extended to the left by the oldest of
    these, as a worker does. From each of the tried lengths on, the mean absolute error is less than
    that of repeating the newest value, and of repeating the season; ``n_steps`` where nothing
    shorter earns it, or there are no validation windows.

    Args:
        predict: the model.
        windows: cut from its history.
        season: in steps.
        unit: what errors of each target are measured by ``[T]``.
    """
    n_steps = windows.n_steps
    starts = windows.thinned("validation", JUDGED).starts["validation"]
    if not len(starts):
        return n_steps
    inputs, actual = windows.gather(starts)

    def error(forecast: npt.NDArray[np.floating]) -> float:
        return float(np.abs((forecast - actual) / unit).mean())

    rivals = naive(windows, starts), seasonal_naive(windows, starts, season)
    bound = min(map(error, rivals))
    best = n_steps
    for length in lengths_of(n_steps) if error(predict(inputs)) < bound else ():
        short = inputs.copy()
        extend(short, np.full(len(short), length))
        if error(predict(short)) >= bound:
            break
        best = length
    return best
