"""Measures and baselines against numbers worked out by hand."""

import numpy as np
import pytest

from tests.trainer.conftest import history_of
from trainer.baselines import naive, scales, season_of, seasonal_naive
from trainer.dataset import Windows, make_windows
from trainer.evaluate import evaluate_part, score


def windows_of(values: list[float], n_steps: int, horizon: int) -> Windows:
    return make_windows(
        history_of(values),
        ("value",),
        ("value",),
        n_steps=n_steps,
        horizon=horizon,
        train_rows=6,
        validation_rows=0,
    )


def test_score() -> None:
    forecast = np.array([[[1.0], [2.0]], [[3.0], [0.0]]])
    actual = np.array([[[2.0], [2.0]], [[1.0], [0.0]]])
    scores = score(forecast, actual, [2.0])
    assert scores.mae == (1.5, 0.0)
    assert scores.rmse == pytest.approx((np.sqrt(2.5), 0.0))
    assert scores.smape == pytest.approx(((200 / 3 + 100) / 2, 0.0))
    assert scores.mase == (0.75, 0.0)
    assert scores.overall()["mae"] == 0.75
    assert scores.overall()["rmse"] == pytest.approx(np.sqrt(1.25))


def test_mase_leaves_out_what_has_no_scale() -> None:
    forecast, actual = np.zeros((2, 1, 1)), np.array([[[1.0]], [[8.0]]])
    assert score(forecast, actual, [[np.nan], [4.0]]).mase == (2.0,)
    assert score(forecast, actual, [np.nan]).mase == (None,)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="must both be"):
        score(np.zeros((2, 1, 1)), np.zeros((2, 2, 1)), [1.0])


def test_baselines() -> None:
    windows = windows_of([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 2, 3)
    starts = np.array([3])
    assert naive(windows, starts)[0, :, 0].tolist() == [5, 5, 5]
    assert seasonal_naive(windows, starts, 2)[0, :, 0].tolist() == [4, 5, 4]
    assert seasonal_naive(windows, starts, 5)[0, :, 0].tolist() == [1, 2, 3]
    assert seasonal_naive(windows, starts, 7)[0, :, 0].tolist() == [5, 5, 1]


def test_scales_are_in_sample_seasonal_differences() -> None:
    windows = windows_of([1, 2, 4, 7, 11, 16, 99, 99, 99], 2, 1)
    assert scales(windows, 1).tolist() == [[3.0]]
    assert scales(windows, 2).tolist() == [[6.0]]
    assert np.isnan(scales(windows_of([5.0] * 10, 2, 1), 1)).all()


@pytest.mark.parametrize(
    ("step", "season"),
    [(None, 1), (3600, 24), (1800, 48), (300, 288), (86400, 7), (604800, 52), (30.4 * 86400, 12)],
)
def test_season_by_step(step: float | None, season: int) -> None:
    assert season_of(step) == season


def test_the_verdict_is_plain() -> None:
    windows = windows_of([float(v % 3) for v in range(20)], 3, 1)
    good = evaluate_part(lambda w: w[:, -3:-2, :], windows, "test", 1)
    bad = evaluate_part(lambda w: w[:, -3:-2, :] + 50, windows, "test", 1)
    assert "beats" in good.verdict()
    assert "LOSES to naive" in bad.verdict()
