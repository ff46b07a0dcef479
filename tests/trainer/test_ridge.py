"""The closed-form line from readings to leads, on numbers that can be worked out."""

import numpy as np
import pytest

from trainer.ridge import PENALTIES, Line, Rows, fit_ridge


def fitted(training: Rows, validation: Rows) -> Line:
    line = fit_ridge(training, validation)
    assert line is not None
    return line


RANDOM = np.random.default_rng(7)


def test_an_exact_rule_is_found() -> None:
    readings = RANDOM.normal(size=(400, 3))
    weights = np.array([[1.0, 0.0], [0.0, -2.0], [0.5, 3.0]])
    leads = readings @ weights + np.array([4.0, -1.0])
    line = fitted([(readings, leads)], [(readings[:50], leads[:50])])
    assert line.penalty == PENALTIES[0]
    np.testing.assert_allclose(line.weights, weights, atol=1e-3)
    np.testing.assert_allclose(line.bias, [4.0, -1.0], atol=1e-3)


def test_parts_give_what_the_whole_gives() -> None:
    readings, leads = RANDOM.normal(size=(300, 4)), RANDOM.normal(size=(300, 2))
    parts = [(readings[i : i + 70], leads[i : i + 70]) for i in range(0, 300, 70)]
    whole, cut = (fitted(rows, parts[:1]) for rows in ([(readings, leads)], parts))
    np.testing.assert_allclose(cut.weights, whole.weights, atol=1e-12)
    assert cut.penalty == whole.penalty


def test_noise_earns_the_largest_penalty() -> None:
    """Where readings say nothing of the leads, the best line on other rows is a flat one."""
    rows = [(RANDOM.normal(size=(60, 30)), RANDOM.normal(size=(60, 1))) for _ in range(2)]
    line = fitted(rows[:1], rows[1:])
    assert line.penalty >= 1000
    assert np.abs(line.weights).max() < 0.1


def test_without_validation_rows_the_training_rows_choose() -> None:
    readings = RANDOM.normal(size=(50, 2))
    line = fitted([(readings, readings[:, :1])], [])
    assert line.weights.ravel().tolist() == pytest.approx([1, 0], abs=1e-3)


def test_no_rows_give_no_line() -> None:
    assert fit_ridge([], []) is None


def test_readings_all_alike_have_a_line_too() -> None:
    """Also where they are so large that a small penalty drowns in the rounding."""
    readings = np.full((50, 4), 1e7)
    line = fitted([(readings, readings[:, :2])], [(readings, readings[:, :2])])
    np.testing.assert_allclose(readings @ line.weights + line.bias, 1e7, rtol=1e-3)
