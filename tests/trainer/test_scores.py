"""Measures and baselines against numbers worked out by hand."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats  # type: ignore[import-untyped]  # it ships no types

from tests.trainer.conftest import history_of
from tidecast.trainer.baselines import drift, naive, scales, season_of, seasonal_naive
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.evaluate import Evaluation, Predict, evaluate_part
from tidecast.trainer.ridge import best_line
from tidecast.trainer.scaling import measure_scaling
from tidecast.trainer.scores import MEASURES, Scale, Tally, diebold_mariano, score
from tidecast.trainer.series import History, Series


def windows_of(
    values: list[float], n_steps: int, horizon: int, validation_rows: int = 0
) -> Windows:
    return make_windows(
        history_of(values),
        ("value",),
        ("value",),
        n_steps=n_steps,
        horizon=horizon,
        train_rows=6,
        validation_rows=validation_rows,
    )


def scale_of(absolute: npt.ArrayLike, square: float = 1.0, unit: float = 1.0) -> Scale:
    return Scale(absolute, [square], [unit])


def test_score() -> None:
    forecast = np.array([[[1.0], [2.0]], [[3.0], [0.0]]])
    actual = np.array([[[2.0], [2.0]], [[1.0], [0.0]]])
    scores = score(forecast, actual, scale_of([2.0], square=0.5, unit=4.0))
    assert scores.mae == (1.5, 0.0)
    assert scores.rmse == pytest.approx((np.sqrt(2.5), 0.0))
    assert scores.bias == (0.5, 0.0)
    assert scores.smape == pytest.approx(((200 / 3 + 100) / 2, 0.0))
    assert scores.mase == (0.75, 0.0)
    assert scores.rmsse == pytest.approx((np.sqrt(2.5) / 0.5, 0.0))
    assert scores.unit_mae == (1.5 / 4, 0.0)
    assert scores.unit_mse == (2.5 / 16, 0.0)
    overall = scores.overall()
    assert set(overall) == set(MEASURES)
    assert overall["mae"] == 0.75
    assert overall["rmse"] == pytest.approx(np.sqrt(1.25))
    assert overall["rmsse"] == pytest.approx(np.sqrt(1.25) / 0.5)


def test_parts_add_up_to_the_whole() -> None:
    random = np.random.default_rng(3)
    forecast, actual = random.normal(size=(2, 90, 3, 2))
    absolute = np.where(random.random((90, 2)) < 0.2, np.nan, 2.0)
    whole, tally = score(forecast, actual, scale_of(absolute)), Tally(3)
    for first in range(0, 90, 40):
        part = slice(first, first + 40)
        tally.add(forecast[part], actual[part], scale_of(absolute[part]))
    for name in MEASURES:
        assert getattr(tally.scores(), name) == pytest.approx(getattr(whole, name))


def test_what_has_no_scale_is_left_out() -> None:
    forecast, actual = np.zeros((2, 1, 1)), np.array([[[1.0]], [[8.0]]])
    assert score(forecast, actual, scale_of([[np.nan], [4.0]])).mase == (2.0,)
    assert score(forecast, actual, scale_of([np.nan])).mase == (None,)
    assert score(forecast, actual, scale_of([0.0])).overall()["mase"] is None


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="must both be"):
        score(np.zeros((2, 1, 1)), np.zeros((2, 2, 1)), scale_of([1.0]))


def test_a_difference_is_told_from_chance() -> None:
    """The statistic for one lead is the mean over its standard error, by hand."""
    random = np.random.default_rng(2)
    one, other = random.gamma(2, size=(2, 200))
    difference = one - other
    t = difference.mean() / (difference.std(ddof=1) / np.sqrt(200))
    expected = 2 * stats.t.sf(abs(t), 199)
    assert diebold_mariano(one, other, 1) == pytest.approx(expected, rel=1e-6)
    assert (diebold_mariano(one, one + 0.3 + 0.1 * other, 3) or 1) < 1e-6
    assert diebold_mariano(one, one, 1) is None
    assert diebold_mariano(one[:9], other[:9], 1) is None


@pytest.mark.parametrize("horizon", [2, 5])
def test_overlapping_windows_widen_the_standard_error(horizon: int) -> None:
    """Newey & West 1987 by hand: Bartlett's weights over twice the horizon's lags."""
    difference = np.convolve(np.random.default_rng(3).normal(0.1, 1, 90), np.ones(horizon))
    count, lags = len(difference), 2 * horizon
    rest = difference - difference.mean()
    variance = rest @ rest + 2 * sum(
        (1 - lag / (lags + 1)) * (rest[lag:] @ rest[:-lag]) for lag in range(1, lags + 1)
    )
    error = np.sqrt(variance * count / (count - 1)) / count
    expected = 2 * stats.t.sf(abs(difference.mean()) / error, count - 1)
    found = diebold_mariano(difference, np.zeros(count), horizon)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("horizon", "fewest"), [(1, 10), (2, 10), (3, 12)])
def test_few_windows_tell_nothing_of_chance(horizon: int, fewest: int) -> None:
    errors = np.random.default_rng(3).gamma(2, size=fewest)
    nothing = np.zeros(fewest)
    assert diebold_mariano(errors[1:], nothing[1:], horizon) is None
    assert diebold_mariano(errors, nothing, horizon) is not None


def test_baselines() -> None:
    windows = windows_of([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2, 3)
    starts = np.array([3])
    assert naive(windows, starts)[0, :, 0].tolist() == [5, 5, 5]
    assert seasonal_naive(windows, starts, 2)[0, :, 0].tolist() == [4, 5, 4]
    assert seasonal_naive(windows, starts, 5)[0, :, 0].tolist() == [1, 2, 3]
    assert seasonal_naive(windows, starts, 7)[0, :, 0].tolist() == [5, 5, 1]
    assert drift(windows, starts)[0, :, 0].tolist() == [6, 7, 8]
    single = windows_of([1, 2, 4, 8, 16, 32, 64], 1, 2)
    assert drift(single, np.array([2, 3]))[:, :, 0].tolist() == [[4, 4], [8, 8]]
    three = windows_of([1, 2, 5, 8, 16, 32, 64], 3, 2)
    assert drift(three, np.array([0, 1]))[:, :, 0].tolist() == [[7, 9], [11, 14]]


@pytest.mark.parametrize("validation_rows", [0, 2])
def test_scales_are_in_sample(validation_rows: int) -> None:
    windows = windows_of([1, 2, 4, 7, 11, 16, 99, 99, 99], 2, 1, validation_rows)
    absolute, square, unit = scales(windows, 1)
    assert absolute.tolist() == [[3.0]]
    assert square.tolist() == [[pytest.approx(np.sqrt(11))]]
    assert unit.tolist() == [[pytest.approx(np.std([1, 2, 4, 7, 11, 16]))]]
    assert scales(windows, 2)[0].tolist() == [[6.0]]
    assert all(np.isnan(each).all() for each in scales(windows_of([5.0] * 10, 2, 1), 1))


def test_scales_are_of_each_series_and_no_pair_straddles_a_gap() -> None:
    """Five training rows each, a gap in the first series, and wild rows behind them."""
    even = np.arange(8) * 60_000
    times = even + 600_000 * (np.arange(8) > 2)
    values = ([0, 1, 3, 100, 104, 9e5, 0, 9e5], [0, 10, 20, 30, 40, 9e5, 0, 9e5])
    parts = tuple(
        Series(str(number), each, np.array(column, np.float64)[:, None])
        for number, (each, column) in enumerate(zip((times, even), values, strict=True))
    )
    history = History(("value",), parts, 60.0)
    names = ("value",)
    windows = make_windows(
        history, names, names, n_steps=1, horizon=1, train_rows=5, validation_rows=1
    )
    absolute, square, unit = scales(windows, 1)
    assert absolute.tolist() == [[pytest.approx(7 / 3)], [10]]
    assert square.tolist() == [[pytest.approx(np.sqrt(7))], [10]]
    deviation = np.std([0, 1, 3, 100, 104, 0, 10, 20, 30, 40])
    assert unit.tolist() == [[pytest.approx(deviation)]] * 2
    assert scales(windows, 2)[0].tolist() == [[3], [20]]
    three = scales(windows, 3)[0]
    assert np.isnan(three[0, 0])  # only across the gap
    assert three[1, 0] == 30


@pytest.mark.parametrize(
    ("step", "season"),
    [
        (None, 1),
        (3600, 24),
        (1800, 48),
        (300, 288),
        (50_000, 2),
        (70_000, 1),
        (86_400, 7),
        (91_000, 7),
        (2 * 86_400, 1),
        (604_800, 52),
        (30.4 * 86_400, 12),
        (31 * 86_400, 12),
        (91.3 * 86_400, 4),
        (365 * 86_400, 1),
    ],
)
def test_season_by_step(step: float | None, season: int) -> None:
    assert season_of(step) == season


def evaluated(predict: Predict, values: list[float]) -> Evaluation:
    history = history_of(values)
    windows = windows_of(values, 3, 1)
    return evaluate_part(predict, history, windows, "test", 1, (("value",), ("value",)))


def test_the_verdict_is_plain() -> None:
    noise = np.random.default_rng(0).normal(size=60)
    values = [float(v % 3 + n / 5) for v, n in zip(range(60), noise, strict=True)]
    good = evaluated(lambda w: np.round(w[:, -3:-2, :]), values)
    bad = evaluated(lambda w: w[:, -3:-2, :] + 50, values)
    assert set(good.baselines) == {"naive", "seasonal naive", "drift", "ridge", "ETS"}
    assert bad.best == "ridge"
    assert "the model LOSES to ridge" in bad.verdict()
    assert bad.verdict().endswith("use ridge instead")
    assert good.model.mae < good.naive.mae
    assert "the model beats" in good.verdict()


def test_the_ridge_itself_is_no_better_than_ridge() -> None:
    values = np.random.default_rng(0).normal(size=200).cumsum()
    windows = windows_of(values.tolist(), 3, 1)
    scaling = measure_scaling(windows, ("value",), ("value",))
    line = best_line(windows, scaling, classic=True)
    found = evaluated(lambda w: line.forecast(w, scaling).astype(np.float32), values.tolist())
    assert found.model.mae == pytest.approx(found.baselines["ridge"].mae, rel=1e-5)
    assert found.best != "ridge" or "about equal" in found.verdict()


def test_each_series_is_scored_by_itself() -> None:
    one, two = np.random.default_rng(1).normal(size=(2, 80)).cumsum(axis=1)
    parts = tuple(
        Series(name, np.arange(80) * 60_000, values[:, None])
        for name, values in (("calm", one), ("wild", 100 * two))
    )
    history = History(("value",), parts, 60.0)
    windows = make_windows(
        history,
        ("value",),
        ("value",),
        n_steps=3,
        horizon=1,
        train_rows=40,
        validation_rows=10,
    )
    spoilt = {"calm": 0.0, "wild": 7.0}

    def predict(inputs: Any) -> Any:
        wild = np.ptp(inputs, axis=1, keepdims=True) > 20
        return inputs[:, -1:, :] + spoilt["wild"] * wild

    found = evaluate_part(predict, history, windows, "test", 1, (("value",), ("value",)))
    assert {each.series for each in found.by_series} == {"calm", "wild"}
    assert sum(each.windows for each in found.by_series) == found.windows
    assert found.by_series[0].series == "wild"
    for each in found.by_series:  # of one scale, whatever it is
        assert each.mase is not None
        assert each.baseline_mase is not None
        assert each.mase / each.baseline_mase == pytest.approx(each.mae / each.baseline_mae)
