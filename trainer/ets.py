"""Exponential smoothing (ETS) as a baseline: fitted by statsmodels, rolled over every origin.

Additive errors, a damped trend or none, an additive season or none: Hyndman, Koehler, Ord & Snyder
2008, "Forecasting with Exponential Smoothing".
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from tidecast.trainer.dataset import Windows
from tidecast.trainer.series import History, Series

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_FITTED = 20
"""Series that parameters are fitted to; others take the median."""
MOST_ROWS, FEWEST_ROWS = 3000, 10
"""Rows of a series' longest unbroken training run that are fitted to, the newest ones."""
LONGEST_SEASON = 1000
FIRST_SEASONS = 10
"""Seasons that the seasonal component starts from."""
NAMES = ("smoothing_level", "smoothing_trend", "smoothing_seasonal", "damping_trend")
NAIVE = (1.0, 0.0, 0.0, 1.0, 0.0)
"""The parameters of repeating the newest value."""


@dataclass(frozen=True)
class States:
    """Where smoothing stands after each row of a history.

    ``level`` and ``trend`` are ``[rows, T]``, ``damping`` ``[series, T]``. A slot is a place in
    time, also where a row is missing: ``seasonal`` is ``[slots, T]`` and ``slot`` each row's.
    """

    level: Doubles
    trend: Doubles
    damping: Doubles
    seasonal: Doubles
    slot: Ints
    season: int

    def forecast(self, windows: Windows, starts: Ints) -> Doubles:
        """Return what follows the newest row of each window, ``[k, horizon, T]``."""
        newest = starts + windows.n_steps - 1
        leads = np.arange(1, windows.horizon + 1)
        damping = self.damping[windows.owner[newest]][:, None, :]
        reach = np.cumsum(damping ** leads[:, None], axis=1)
        back = self.season * np.ceil(leads / self.season).astype(np.int64)
        straight: Doubles = self.level[newest][:, None, :] + reach * self.trend[newest][:, None, :]
        straight += self.seasonal[self.slot[newest][:, None] + leads - back]
        return straight


def smooth(history: History, windows: Windows, targets: Sequence[str], season: int) -> States:
    """Fit to the training rows of a history and roll over all its rows.

    Parameters are fitted once; what a missing reading would have changed stays as it is.
    """
    season = season if season <= LONGEST_SEASON else 1
    places = [history.columns.index(name) for name in targets]
    parameters = fit_parameters(windows, len(history.series), season)
    slots = [season + _slots(series, history.step_seconds, season) for series in history.series]
    counts = np.array([int(own[-1]) + 1 for own in slots])
    offsets = np.cumsum(counts) - counts
    level, trend = (np.zeros((history.rows, len(places))) for _ in range(2))
    seasonal = np.zeros((int(counts.sum()), len(places)))
    ends = np.cumsum([len(own) for own in slots])
    # Series of about one length go side by side, one place in time after the other.
    for size in np.unique(np.log2(counts).astype(int)):
        group = np.flatnonzero(np.log2(counts).astype(int) == size)
        grid = np.full((int(counts[group].max()), len(group), len(places)), np.nan)
        for column, number in enumerate(group):
            grid[slots[number], column] = history.series[number].values[:, places]
        found = roll(grid, parameters[group], season)
        for column, number in enumerate(group):
            rows = slice(ends[number] - len(slots[number]), ends[number])
            level[rows], trend[rows] = (each[slots[number], column] for each in found[:2])
            own = slice(offsets[number], offsets[number] + counts[number])
            seasonal[own] = found[2][: counts[number], column]
    slot = np.concatenate([own + offset for own, offset in zip(slots, offsets, strict=True)])
    return States(level, trend, parameters[:, :, 3], seasonal, slot, season)


def roll(grid: Doubles, parameters: Doubles, season: int) -> tuple[Doubles, Doubles, Doubles]:
    """Return level, trend and seasonal component after each slot, shaped as the grid.

    Args:
        grid: readings ``[slots, series, T]``, NaN where there is none, a season of NaN first.
        parameters: as ``NAIVE`` has them, ``[series, T, 5]``.
        season: in slots.
    """
    smoothing, trending, seasoning, damping, seasons = np.moveaxis(parameters, 2, 0)
    level, trend, seasonal = (np.zeros_like(grid) for _ in range(3))
    mean, pattern = _first_seasons(grid[season:], season)
    begin = np.where(seasons > 0, mean, _first(grid))
    seasonal[:season] = np.where(seasons > 0, pattern, 0)
    slope = np.zeros_like(begin)
    for slot in range(season, len(grid)):
        ahead, before = begin + damping * slope, seasonal[slot - season]
        error = grid[slot] - ahead - before
        error[np.isnan(error)] = 0
        level[slot] = begin = ahead + smoothing * error
        trend[slot] = slope = damping * slope + trending * error
        seasonal[slot] = before + seasoning * error
    return level, trend, seasonal


def fit_parameters(windows: Windows, count: int, season: int) -> Doubles:
    """Return each series' parameters, ``[series, T, 5]``, as ``NAIVE`` has them."""
    targets = windows.outputs.shape[1]
    parameters = np.tile(np.asarray(NAIVE), (count, targets, 1))
    trained = np.unique(windows.owner[windows.starts["train"]])
    chosen = trained[np.unique(np.linspace(0, len(trained) - 1, MOST_FITTED).astype(int))]
    rows = np.flatnonzero(windows.touched("train"))
    for number in chosen:
        own = rows[slice(*np.searchsorted(windows.owner[rows], (number, number + 1)))]
        starts, lengths = np.unique(windows.segment_start[own], return_counts=True)
        longest = own[windows.segment_start[own] == starts[lengths.argmax()]][-MOST_ROWS:]
        for target in range(targets):
            readings = windows.outputs[longest, target].astype(np.float64)
            parameters[number, target] = _best(readings, season)
    others = np.setdiff1d(np.arange(count), chosen)
    parameters[others] = np.median(parameters[chosen], axis=0)
    return parameters


def _best(readings: Doubles, season: int) -> tuple[float, ...]:
    """Return the parameters of the form with the least AIC (Akaike 1974)."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    spread = readings.std()
    if len(readings) < FEWEST_ROWS or not spread:
        return NAIVE
    scaled = (readings - readings.mean()) / spread
    seasons = (False, True) if 1 < season <= len(readings) // 3 else (False,)
    found, least = NAIVE, np.inf
    for damped, seasonal in product((False, True), seasons):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a search that stops early, its best counts
            model = ETSModel(
                scaled,
                trend="add" if damped else None,
                damped_trend=damped,
                seasonal="add" if seasonal else None,
                seasonal_periods=season if seasonal else None,
                initialization_method="heuristic",
            )
            fit = model.fit(disp=False)
        if fit.aic < least:
            values = dict(zip(model.param_names, fit.params.tolist(), strict=True))
            known = [values.get(name, usual) for name, usual in zip(NAMES, NAIVE, strict=False)]
            found, least = (*known, float(seasonal)), fit.aic
    return found


def _first_seasons(grid: Doubles, season: int) -> tuple[Doubles, Doubles]:
    """Return the first season's mean ``[series, T]`` and the first few's pattern about theirs."""
    whole = max(1, min(FIRST_SEASONS, len(grid) // season))
    some = np.full((whole * season, *grid.shape[1:]), np.nan)
    some[: len(grid)] = grid[: whole * season]
    some = some.reshape(whole, season, *grid.shape[1:])
    means = _mean(some, 1)
    return np.nan_to_num(means[0]), np.nan_to_num(_mean(some - means[:, None], 0))


def _mean(values: Doubles, axis: int) -> Doubles:
    """Return the mean of what is no NaN; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    mean: Doubles = np.where(count, total / np.maximum(count, 1), np.nan)
    return mean


def _first(grid: Doubles) -> Doubles:
    """Return the first reading there is, ``[series, T]``; 0 where there is none."""
    known = np.isfinite(grid)
    first = np.take_along_axis(grid, known.argmax(axis=0)[None], axis=0)[0]
    return np.where(known.any(axis=0), first, 0.0)


def _slots(series: Series, step_seconds: float | None, season: int) -> Ints:
    """Return each row's place in time, in steps from the first.

    Of a long gap as much is left as keeps the place in the season.
    """
    if step_seconds is None or series.times is None:
        return np.arange(len(series))
    gaps = np.maximum(1, np.rint(np.diff(series.times) / (1000 * step_seconds))).astype(np.int64)
    gaps = np.where(gaps > 2 * season, season + gaps % season, gaps)
    return np.concatenate([[0], np.cumsum(gaps)])
