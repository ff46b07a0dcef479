"""What counts as a clear gain."""

import numpy as np
import pytest
from numpy.random import Generator

from tidecast.trainer.selection import CLEARLY, gain, in_time, unclear


@pytest.fixture
def random() -> Generator:
    """Each test draws its own numbers, whatever runs before it."""
    return np.random.default_rng(5)


def test_a_steady_gain_is_clear(random: Generator) -> None:
    errors = random.gamma(2, size=400)
    assert (gain(errors, 0.9 * errors) or 0) > 5
    assert (gain(0.9 * errors, errors) or 0) < -5


def test_one_lucky_stretch_is_not() -> None:
    errors = np.ones(400)
    lucky = errors.copy()
    lucky[:50] = 0.0
    assert gain(errors, lucky) == pytest.approx(1.0)
    assert CLEARLY > 1.0


def test_noise_is_seldom_clear(random: Generator) -> None:
    """By the t distribution with seven degrees of freedom, 4.3 % of the time."""
    draws = random.normal(size=(2000, 2, 80)) ** 2
    clear = np.mean([(gain(simple, learned) or 0) >= CLEARLY for simple, learned in draws])
    assert 0.03 < clear < 0.06


@pytest.mark.parametrize(
    ("simple", "learned", "expected"),
    [
        (np.ones(15), np.zeros(15), None),
        (np.ones(80), np.zeros(80), np.inf),
        ([3.0] * 80,) * 2 + (0.0,),
    ],
)
def test_few_windows_and_equal_errors(
    simple: list[float], learned: list[float], expected: float | None
) -> None:
    assert gain(np.array(simple), np.array(learned)) == expected


def test_errors_of_one_time_count_once() -> None:
    """As their mean, in order of time: many series at once are no more evidence than one."""
    times, errors = np.array([7, 2, 7, 2, 5]), np.array([1.0, 2.0, 3.0, 6.0, 9.0])
    assert in_time(times, errors).tolist() == [4.0, 9.0, 2.0]


def test_a_gain_is_the_mean_of_stretches_over_its_standard_error() -> None:
    """Of eight stretches of two windows each; by hand."""
    stretches = np.array([3.0, 1.0, 2.0, 2.0, 4.0, 0.0, 3.0, 1.0])
    simple = np.repeat(stretches, 2) + np.tile([0.5, -0.5], 8)
    expected = 2.0 / (np.sqrt(12 / 7) / np.sqrt(8))
    assert gain(simple, np.zeros(16)) == pytest.approx(expected)
    assert gain(np.zeros(16), simple) == pytest.approx(-expected)
    assert gain(np.zeros(80), np.ones(80)) == -np.inf


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (1.96, "errs less on the validation rows by 1.9 standard errors, and it takes 2 to"),
        (0.04, "errs less on the validation rows by next to nothing, and it takes 2 to"),
        (0.0, "errs as much on the validation rows"),
        (-0.01, "errs more on the validation rows"),
        (-np.inf, "errs more on the validation rows"),
    ],
)
def test_what_is_not_clear_is_said_in_words_that_hold(found: float, told: str) -> None:
    """No 2.0 that is less than 2, and nothing infinite."""
    assert unclear(found).startswith(told)
    assert "inf" not in unclear(found)
