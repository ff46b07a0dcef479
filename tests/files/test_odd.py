"""Values that may stand for missing ones: told, and nothing told of what records hold."""

import numpy as np
import numpy.typing as npt
import pytest

from tidecast.files.odd import odd_values, told

RANDOM = np.random.default_rng(1)
WAVE = 20 + 5 * np.sin(np.arange(500) / 7) + RANDOM.normal(0, 1, 500)


def with_some(value: float, count: int) -> npt.NDArray[np.float64]:
    values = WAVE.copy()
    values[RANDOM.choice(500, count, replace=False)] = value
    return values


@pytest.mark.parametrize(
    ("value", "count"),
    [(-999, 1), (-999, 30), (9999, 2), (65535, 1), (-99, 3), (0, 4), (1234.5, 3), (1e20, 1)],
)
def test_what_may_stand_for_a_missing_value(value: float, count: int) -> None:
    assert odd_values(with_some(value, count)) == [(value, count)]


@pytest.mark.parametrize(
    "values",
    [
        WAVE,
        with_some(80.25, 1),  # an outlier of its own
        with_some(27, 20),
        np.where(WAVE > 20, WAVE, 0),  # often zero
        RANDOM.poisson(2, 500).astype(float),
        np.cumsum(RANDOM.normal(0, 1, 500)),
        np.full(500, 7.0),
        np.array([-999.0, 1, 2]),  # too few to tell
        np.arange(500) * 1.0,
        np.concatenate([np.zeros(200), 100 * np.sin(np.arange(300) / 100)]),
    ],
)
def test_what_records_hold(values: npt.NDArray[np.float64]) -> None:
    assert odd_values(values) == []


def test_it_is_told_with_the_remedy() -> None:
    values = np.array([*np.linspace(1, 9, 50), -999, np.nan])
    (said,) = told("power", values)
    assert said == (
        "column 'power' is -999 once, and else 1 to 9; if that says 'no value': --missing=-999"
    )
