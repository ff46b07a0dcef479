"""What counts as a clear gain."""

import numpy as np
import pytest

from tidecast.trainer.selection import CLEARLY, gain

RANDOM = np.random.default_rng(5)


def test_a_steady_gain_is_clear() -> None:
    errors = RANDOM.gamma(2, size=400)
    assert (gain(errors, 0.9 * errors) or 0) > 5
    assert (gain(0.9 * errors, errors) or 0) < -5


def test_one_lucky_stretch_is_not() -> None:
    errors = np.ones(400)
    lucky = errors.copy()
    lucky[:50] = 0.0
    assert gain(errors, lucky) == pytest.approx(1.0)
    assert CLEARLY > 1.0


def test_noise_is_seldom_clear() -> None:
    """By the t distribution with seven degrees of freedom, 4.3 % of the time."""
    draws = RANDOM.normal(size=(2000, 2, 80)) ** 2
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
