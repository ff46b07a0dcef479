"""From how many readings on a model is worth more than what needs no model."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.trainer.conftest import history_of
from tidecast.trainer.beginnings import lengths_of, pick_min_steps
from tidecast.trainer.dataset import Windows, make_windows

Floats = npt.NDArray[np.float32]
UNIT = np.ones(1)
N_STEPS = 30


@pytest.fixture
def windows() -> Windows:
    """Of a slope, where repeating errs by 1 for each lead."""
    return windows_of(np.arange(600.0))


def windows_of(values: npt.NDArray[np.float64]) -> Windows:
    names = ("value",)
    return make_windows(
        history_of(values),
        names,
        names,
        n_steps=N_STEPS,
        horizon=1,
        train_rows=None,
        validation_rows=None,
    )


def test_two_readings_are_enough_for_who_needs_no_more(windows: Windows) -> None:
    def slope(inputs: Floats) -> Floats:
        return 2 * inputs[:, -1:] - inputs[:, -2:-1]

    assert pick_min_steps(slope, windows, 1, UNIT) == 2


@pytest.mark.parametrize("needed", [3, 8, 21])
def test_who_looks_further_back_needs_more(windows: Windows, needed: int) -> None:
    """It looks at the slope over so many steps, which a shorter window makes flatter."""

    def predict(inputs: Floats) -> Floats:
        whole = (inputs[:, -1] - inputs[:, -needed])[:, None] > needed - 1.5
        return inputs[:, -1:] + np.where(whole, 1, -1).astype(np.float32)

    found = pick_min_steps(predict, windows, 1, UNIT)
    assert found == min(length for length in lengths_of(N_STEPS) if length >= needed)


def test_who_errs_more_than_the_newest_value_waits_for_full_windows(windows: Windows) -> None:
    assert pick_min_steps(lambda inputs: inputs[:, -1:] - 9, windows, 1, UNIT) == N_STEPS


def test_the_season_is_a_rival_too() -> None:
    season = windows_of(np.tile([0.0, 5.0, 9.0], 200))
    assert pick_min_steps(lambda inputs: inputs[:, -1:] + 1, season, 3, UNIT) == N_STEPS


def test_without_validation_windows_full_ones_are_waited_for() -> None:
    assert pick_min_steps(lambda inputs: inputs[:, -1:], windows_of(np.arange(40.0)), 1, UNIT) == 30


def test_lengths_grow_from_two_readings_on() -> None:
    assert lengths_of(30) == [23, 16, 12, 8, 6, 4, 3, 2]
    assert lengths_of(2) == lengths_of(1) == []
