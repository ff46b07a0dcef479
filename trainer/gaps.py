"""Picks the longest gap that is filled: by the season, and by what a hole costs; pure."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.baselines import naive, seasonal_naive
from tidecast.trainer.dataset import Windows
from tidecast.trainer.ridge import best_line
from tidecast.trainer.scaling import measure_scaling
from tidecast.worker.pipeline.grid import Grid, fill, holes_of

Floats = npt.NDArray[np.floating[Any]]

SHARE_OF_SEASON = 0.25
WITHOUT_SEASON = 3
SIZES = (1, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48, 72, 96, 144, 288)
TOLERATED = 0.25
"""How much more may be erred just after a hole, as a share of the error on whole windows."""
LINE_WINDOWS, JUDGED = 4000, 1000
"""Windows, at most, that a line is fitted to, and that holes are cut into."""


def usual_gap(season: int) -> int:
    """Return how many slots are filled at most, by the season alone."""
    return max(1, round(SHARE_OF_SEASON * season)) if season > 1 else WITHOUT_SEASON


def pick_gap(
    windows: Windows, names: tuple[tuple[str, ...], tuple[str, ...]], grid: Grid
) -> tuple[int, str]:
    """Return the longest gap to fill, of ``grid.max_gap`` at most, and why.

    Holes are cut into validation windows just before the newest reading, where they cost most. The
    longest is taken from which a line errs no more than ``TOLERATED`` more, and less than repeating
    the newest value or the season; at least one slot is filled.

    Args:
        windows: cut with the longest gap that may be picked filled.
        names: features and targets.
        grid: that gap, the policy and the season.
    """
    by_season = f"a quarter of the season of {grid.season}" if grid.season > 1 else "no season"
    if grid.max_gap < usual_gap(grid.season):
        by_season = f"what a window of {windows.n_steps} leaves room for"
    starts = windows.thinned("validation", JUDGED).starts["validation"]
    if not len(starts) or not set(names[0]) & set(names[1]):
        return grid.max_gap, by_season
    some = windows.thinned("train", LINE_WINDOWS).thinned("validation", JUDGED)
    if not len(some.starts["train"]):
        return grid.max_gap, by_season
    scaling = measure_scaling(some, *names)
    line = best_line(some, scaling, classic=True)
    inputs, actual = windows.gather(starts)

    def error(forecast: npt.NDArray[np.floating]) -> float:
        return float(np.abs((forecast - actual) / scaling.unit).mean())

    whole = error(line.forecast(inputs, scaling))
    rivals = naive(windows, starts), seasonal_naive(windows, starts, grid.season)
    bound = min((1 + TOLERATED) * whole, *map(error, rivals))
    best, cost = 1, whole
    for size in [size for size in SIZES if size < grid.max_gap] + [grid.max_gap]:
        found = error(line.forecast(_with_holes(inputs, size, grid), scaling))
        if found > bound:
            break
        best, cost = size, found
    if best == grid.max_gap:
        return best, by_season
    more = cost / whole - 1 if whole else 0.0
    return best, f"a line errs {more:.0%} more just after such a hole than on whole windows"


def _with_holes(inputs: Floats, size: int, grid: Grid) -> Floats:
    """Return windows ``[k, n_steps, F]`` with so many slots before the newest filled."""
    k, n_steps, features = inputs.shape
    laid = inputs.reshape(k * n_steps, features).copy()
    ends = np.arange(1, k + 1) * n_steps - 1
    holes = holes_of(np.full(k, size), ends, np.full(k, n_steps))
    fill(laid, holes, replace(grid, max_gap=size), n_steps)
    return laid.reshape(k, n_steps, features)
