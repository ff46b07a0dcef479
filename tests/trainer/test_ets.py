"""Exponential smoothing as a baseline: its recursion against statsmodels', and gaps."""

import numpy as np
import pytest
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from tests.trainer.conftest import history_of
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.ets import (
    NAIVE,
    NAMES,
    _best,
    _first_seasons,
    _slots,
    fit_parameters,
    roll,
    smooth,
)
from tidecast.trainer.series import History, Series

SEASON = 6
RANDOM = np.random.default_rng(5)
WAVE = np.sin(np.arange(400) * 2 * np.pi / SEASON) * 3 + RANDOM.normal(size=400).cumsum() / 5


def windows_of(history: History, horizon: int) -> Windows:
    return make_windows(
        history,
        ("value",),
        ("value",),
        n_steps=4,
        horizon=horizon,
        train_rows=250,
        validation_rows=50,
    )


def test_the_recursion_is_that_of_statsmodels() -> None:
    """The same start and parameters: the same forecast of every row, and the same way on."""
    pattern = WAVE[:SEASON] - WAVE[:SEASON].mean()
    model = ETSModel(
        WAVE,
        trend="add",
        damped_trend=True,
        seasonal="add",
        seasonal_periods=SEASON,
        initialization_method="known",
        initial_level=1.0,
        initial_trend=0.1,
        initial_seasonal=pattern[::-1],  # it wants the newest first
    )
    wanted = {"smoothing_level": 0.4, "smoothing_trend": 0.05, "smoothing_seasonal": 0.2}
    wanted["damping_trend"] = 0.9
    theirs = model.smooth([wanted[name] for name in model.param_names])
    parameters = np.array([[[*(wanted[name] for name in NAMES), 1.0]]])
    grid = np.concatenate([np.full(SEASON, np.nan), WAVE])[:, None, None]
    level, trend, seasonal = roll(grid, parameters, SEASON)
    # The starts differ, so the two agree once both have forgotten them.
    ahead = level[SEASON:-1] + 0.9 * trend[SEASON:-1] + seasonal[1:-SEASON]
    np.testing.assert_allclose(ahead[300:, 0, 0], np.asarray(theirs.fittedvalues)[301:], atol=1e-4)


def test_forecasts_go_on_as_statsmodels_goes_on() -> None:
    history = history_of(WAVE)
    windows = windows_of(history, 15)
    states = smooth(history, windows, ("value",), SEASON)
    last = np.array([len(WAVE) - 4])
    found = states.forecast(windows, last)[0, :, 0]
    level, trend, damping, *_ = states.level[-1, 0], states.trend[-1, 0], states.damping[0, 0]
    for lead, value in enumerate(found, start=1):
        slots = states.seasonal[-SEASON:, 0]
        reach = sum(damping**k for k in range(1, lead + 1))
        assert value == pytest.approx(level + reach * trend + slots[(lead - 1) % SEASON])
    assert np.abs(found - WAVE[-1]).max() > 1  # the season goes on


def test_a_season_is_learned_and_beats_repeating() -> None:
    history = history_of(WAVE)
    windows = windows_of(history, 3)
    assert fit_parameters(windows, 1, SEASON)[0, 0, 4] == 1.0
    starts = windows.starts["test"]
    actual = windows.gather(starts)[1]
    error = np.abs(smooth(history, windows, ("value",), SEASON).forecast(windows, starts) - actual)
    naive = np.abs(actual - windows.outputs[starts + 3][:, None])
    assert error.mean() < 0.5 * naive.mean()


def test_what_is_missing_keeps_the_season_in_step() -> None:
    """Rows left out and rows of no value: the pattern goes on behind them at its place in time."""
    pattern = np.tile([0.0, 5.0, 1.0, -4.0, 2.0, -4.0], 70)
    keep = np.ones(420, np.bool_)
    keep[100:111] = False
    keep[200 : 200 + 41 * SEASON // 6] = False
    values, times = pattern[keep].copy(), (np.arange(420) * 60_000)[keep]
    values[150:153] = np.nan
    history = History(("value",), (Series("", times, values[:, None]),), 60.0)
    windows = windows_of(history, 2)
    starts = windows.starts["test"]
    forecast = smooth(history, windows, ("value",), SEASON).forecast(windows, starts)
    np.testing.assert_allclose(forecast, windows.gather(starts)[1], atol=0.05)


def test_many_series_go_side_by_side_as_each_alone() -> None:
    """Also of unequal lengths, and more than are fitted to."""
    lengths = [60, 90, 300, 310]
    parts = tuple(
        Series(str(n), np.arange(length) * 60_000, RANDOM.normal(size=(length, 1)).cumsum(axis=0))
        for n, length in enumerate(lengths)
    )
    history = History(("value",), parts, 60.0)
    windows = make_windows(
        history, ("value",), ("value",), n_steps=4, horizon=3, train_rows=50, validation_rows=2
    )
    together = smooth(history, windows, ("value",), SEASON)
    for number, part in enumerate(parts):
        single = History(("value",), (part,), 60.0)
        alone = make_windows(
            single, ("value",), ("value",), n_steps=4, horizon=3, train_rows=50, validation_rows=2
        )
        first = int(np.searchsorted(windows.owner, number))
        starts = alone.starts["test"][-5:]
        np.testing.assert_allclose(
            together.forecast(windows, starts + first),
            smooth(single, alone, ("value",), SEASON).forecast(alone, starts),
        )


def test_what_never_changes_is_repeated() -> None:
    history = history_of([5.0] * 400)
    windows = windows_of(history, 2)
    assert fit_parameters(windows, 1, SEASON)[0, 0].tolist() == list(NAIVE)
    starts = windows.starts["test"]
    found = smooth(history, windows, ("value",), SEASON).forecast(windows, starts)
    assert (found == 5.0).all()


def test_ten_rows_are_fitted_to_and_fewer_are_repeated() -> None:
    ramp = np.arange(10.0) + RANDOM.normal(0, 0.1, 10)
    assert _best(ramp, 1) != NAIVE
    assert _best(ramp[1:], 1) == NAIVE


def test_the_seasonal_start_is_that_of_the_first_ten_seasons() -> None:
    pattern = np.array([-1.0, 0.0, 1.0])
    grid = np.tile(pattern, 12) + np.repeat(np.arange(12.0), 3)
    grid[30:] *= -5  # the eleventh and twelfth are nothing like the others
    mean, found = _first_seasons(grid[:, None, None], 3)
    assert mean.item() == 0.0
    np.testing.assert_allclose(found.ravel(), pattern)
    few = _first_seasons(grid[:4, None, None], 3)[1]  # a season and a bit
    np.testing.assert_allclose(few.ravel(), pattern)


def test_of_a_long_gap_as_much_is_left_as_keeps_the_place_in_the_season() -> None:
    times = np.cumsum([0, 1, 2, 12, 13, 600]) * 60_000
    series = Series("", times, np.zeros((6, 1)))
    gaps = np.diff(_slots(series, 60.0, 6)).tolist()
    assert gaps == [1, 2, 12, 6 + 13 % 6, 6 + 600 % 6]
    assert _slots(series, None, 6).tolist() == list(range(6))
