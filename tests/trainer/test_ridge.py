"""The closed-form line from readings to leads, on numbers that can be worked out."""

from dataclasses import astuple, replace

import numpy as np
import numpy.typing as npt
import pytest
from numpy.random import Generator

from tests.trainer.conftest import history_of
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.ridge import (
    EVEN,
    PENALTIES,
    RISING,
    Judges,
    Line,
    Moments,
    best_line,
    combined,
    fit_line,
    fit_own,
    judged,
    moments_of,
)
from tidecast.trainer.scaling import measure_scaling

Doubles = npt.NDArray[np.float64]


@pytest.fixture
def random() -> Generator:
    """Each test draws its own numbers, whatever runs before it."""
    return np.random.default_rng(7)


def rows_of(readings: Doubles, leads: Doubles) -> Moments:
    """The moments of rows ``[k, n_steps]`` and ``[k, horizon]`` of one feature."""
    wide = np.concatenate([readings, np.ones((len(readings), 1))], axis=1)
    return Moments((wide.T @ wide)[None], (wide.T @ leads)[None], np.square(leads).sum()[None])


def test_an_exact_rule_is_found(random: Generator) -> None:
    readings = random.normal(size=(400, 3))
    weights = np.array([[1.0, 0.0], [0.0, -2.0], [0.5, 3.0]])
    leads = readings @ weights + np.array([4.0, -1.0])
    line = fit_line(rows_of(readings, leads), rows_of(readings[:50], leads[:50]))
    assert line.penalty == PENALTIES[0]
    np.testing.assert_allclose(line.weights[0], weights, atol=1e-3)
    np.testing.assert_allclose(line.bias[0], [4.0, -1.0], atol=1e-3)


def test_the_textbook_formula(random: Generator) -> None:
    """Centred readings, an even penalty: ``(X'X + penalty)^-1 X'Y``."""
    readings, leads = random.normal(size=(60, 4)), random.normal(size=(60, 1))
    line = fit_line(rows_of(readings, leads), rows_of(readings, leads), (EVEN,))
    x, y = readings - readings.mean(axis=0), leads - leads.mean(axis=0)
    expected = np.linalg.solve(x.T @ x + (line.penalty or 0) * np.eye(4), x.T @ y)
    np.testing.assert_allclose(line.weights[0], expected, rtol=1e-6)


def test_noise_earns_the_largest_penalty(random: Generator) -> None:
    """Where readings say nothing of the leads, the best line on other rows is a flat one."""
    one, other = (
        rows_of(random.normal(size=(60, 30)), random.normal(size=(60, 1))) for _ in range(2)
    )
    line = fit_line(one, other)
    assert (line.penalty or 0) >= 1000
    assert np.abs(line.weights).max() < 0.1


def test_old_readings_that_say_nothing_are_held_down(random: Generator) -> None:
    """Only the newest reading matters: a penalty that rises with age errs less on new rows."""
    readings = random.normal(size=(3, 80, 60))
    leads = readings[:, :, -1:] + random.normal(size=(3, 80, 1))
    training, validation, test = (rows_of(x, y) for x, y in zip(readings, leads, strict=True))
    even, rising = (fit_line(training, validation, (power,)) for power in (EVEN, RISING))
    assert test.error(rising) < test.error(even)


def test_a_judge_is_not_swayed_by_a_few_rows_that_are_far_off(random: Generator) -> None:
    readings = random.normal(size=(1, 200, 3))
    leads = readings[:, :, :1].copy()
    leads[0, :8] += 500.0
    rows = rows_of(readings[0], readings[0, :, :1])
    judge = Judges(readings, leads, np.arange(200))
    line = fit_line(rows, judge)
    assert line.penalty == PENALTIES[0]
    assert judge.error(line) == pytest.approx(500 * 8 / 200, rel=1e-3)


def test_lines_are_fitted_to_training_rows_and_judged_by_validation_rows(random: Generator) -> None:
    """The former end at row 200, the latter at row 280; other values elsewhere change neither."""
    values = random.normal(size=(300, 1))
    scaling = measure_scaling(windows_of(values), ("c0",), ("c0",))

    def seen(poisoned: slice) -> tuple[Doubles, ...]:
        spoilt = values.copy()
        spoilt[poisoned] += 5
        training, judge = judged(windows_of(spoilt), scaling)
        assert isinstance(judge, Judges)
        return training.gram, training.product, judge.readings, judge.leads

    sound, test, validation, training = map(
        seen, (slice(0), slice(280, None), slice(200, 280), slice(0, 195))
    )
    for place, one in enumerate(sound):
        np.testing.assert_array_equal(test[place], one)
        assert (validation[place] == one).all() == (place < 2)
        assert (training[place] == one).all() == (place >= 2)


@pytest.mark.parametrize(("features", "fitted", "judging"), [(50, 1200, 400), (100, 1000, 200)])
def test_of_many_features_some_windows_fit_and_judge(
    random: Generator, features: int, fitted: int, judging: int
) -> None:
    """Of 1,500 and 800: evenly spread ones, as many as there are readings to work on."""
    columns = tuple(map(str, range(features)))
    windows = make_windows(
        history_of(random.normal(size=(2400, features)), columns=columns),
        columns,
        columns,
        n_steps=2,
        horizon=1,
        train_rows=1502,
        validation_rows=800,
    )
    training, judge = judged(windows, measure_scaling(windows, columns, columns))
    assert isinstance(judge, Judges)
    assert training.gram[0, -1, -1] == fitted
    assert np.diff(judge.times).tolist() == [800 // judging] * (judging - 1)


def test_without_validation_rows_the_training_rows_choose(random: Generator) -> None:
    values = random.normal(size=(300, 1)).cumsum(axis=0)
    windows = windows_of(values)
    windows = replace(windows, starts=windows.starts | {"validation": windows.starts["train"][:0]})
    training, judge = judged(windows, measure_scaling(windows, ("c0",), ("c0",)))
    assert judge is training


def test_no_rows_give_no_line() -> None:
    nothing = rows_of(np.zeros((0, 2)), np.zeros((0, 1)))
    with pytest.raises(ValueError, match="no readings"):
        fit_line(nothing, nothing)


def test_readings_all_alike_have_a_line_too() -> None:
    """Also where they are so large that a small penalty drowns in the rounding."""
    readings = np.full((50, 4), 1e7)
    rows = rows_of(readings, readings[:, :2])
    line = fit_line(rows, rows)
    np.testing.assert_allclose(readings @ line.weights[0] + line.bias[0], 1e7, rtol=1e-3)


def test_a_feature_leans_on_others_as_far_as_they_help(random: Generator) -> None:
    """One rule for both: few rows of one's own want the other's. Two rules: they do not."""
    few, many = random.normal(size=(12, 8)), random.normal(size=(3000, 8))
    rule, other = random.normal(size=(2, 8, 1))

    def noise(rows: int) -> Doubles:
        return 0.5 * random.normal(size=(rows, 1))

    def together(second: Doubles) -> Moments:
        one, two = rows_of(few, few @ rule + noise(12)), rows_of(many, many @ second + noise(3000))
        pairs = zip(*map(astuple, (one, two)), strict=True)
        return Moments(*(np.concatenate(each) for each in pairs))

    new = random.normal(size=(2, 500, 8))
    judge = Judges(new, new @ rule, np.arange(500))
    alike, unlike = (fit_own(together(second), judge, 0) for second in (rule, other))
    assert np.abs(alike.weights[0] - rule).max() < 0.1
    assert np.abs(unlike.weights[0] - other).max() > 0.5


def test_a_line_of_ones_own_must_clearly_better_the_shared_one(random: Generator) -> None:
    """One stretch of loud rows is not enough, even where it decides the mean."""
    readings = random.normal(size=(800, 4))
    own, other = random.normal(size=(2, 4, 1))
    shared = (own + other) / 2
    both = (rows_of(readings, readings @ rule) for rule in (own, other))
    training = Moments(*(np.concatenate(each) for each in zip(*map(astuple, both), strict=True)))

    def weights(rows: Doubles, leads: Doubles) -> Doubles:
        judge = Judges(rows[None], leads[None], np.arange(800))
        assert judge.error(Line(own[None], np.zeros((1, 1)))) < judge.error(
            Line(shared[None], np.zeros((1, 1)))
        )
        return np.asarray(fit_own(training, judge, 0).weights[0])

    loud = readings.copy()
    loud[:100] *= 20
    lucky = np.where(np.arange(800)[:, None] < 100, loud @ own, loud @ shared)
    np.testing.assert_allclose(weights(readings, readings @ own), own, atol=0.05)
    np.testing.assert_allclose(weights(loud, lucky), shared, atol=0.05)


def windows_of(values: Doubles) -> Windows:
    columns = tuple(f"c{i}" for i in range(values.shape[1]))
    history = history_of(values, columns=columns)
    return make_windows(
        history,
        columns,
        columns,
        n_steps=5,
        horizon=2,
        train_rows=200,
        validation_rows=80,
    )


def test_moments_of_a_shorter_lookback_are_those_of_its_windows(random: Generator) -> None:
    windows = windows_of(random.normal(size=(300, 2)).cumsum(axis=0))
    scaling = measure_scaling(windows, ("c0", "c1"), ("c0", "c1"))
    starts = windows.starts["train"]
    moments = moments_of(windows, scaling, starts)
    readings = scaling.inward(windows.gather(starts)[0])[:, -3:, 1]
    leads = scaling.outward(*windows.gather(starts))[:, :, 1]
    expected = rows_of(readings, leads)
    np.testing.assert_allclose(moments.newest(3).gram[1], expected.gram[0], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(
        moments.newest(3).product[1], expected.product[0], rtol=1e-6, atol=1e-4
    )


def test_targets_with_rules_of_their_own_have_lines_of_their_own(random: Generator) -> None:
    """One goes on as it went, one swings back; a line for both can do neither."""
    steps = random.normal(size=(400, 2))
    values = np.stack([steps[:, 0].cumsum(), steps[:, 1]], axis=1)
    windows = windows_of(values)
    scaling = measure_scaling(windows, ("c0", "c1"), ("c0", "c1"))
    inputs, actual = windows.gather(windows.starts["test"])
    own, shared = best_line(windows, scaling), best_line(windows, scaling, classic=True)
    assert (len(own.weights), len(shared.weights)) == (2, 1)
    errors = [np.abs(line.forecast(inputs, scaling) - actual).mean() for line in (own, shared)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(("features", "lines"), [(1, 1), (2, 2), (32, 32), (33, 1)])
def test_up_to_32_features_have_lines_of_their_own(
    random: Generator, features: int, lines: int
) -> None:
    names = tuple(f"c{i}" for i in range(features))
    windows = windows_of(random.normal(size=(300, features)))
    assert len(best_line(windows, measure_scaling(windows, names, names)).weights) == lines


def test_lines_from_parts_of_the_lookback_are_averaged(random: Generator) -> None:
    readings, leads = random.normal(size=(200, 8)), random.normal(size=(200, 2))
    training, validation = (
        rows_of(readings[:150], leads[:150]),
        rows_of(readings[150:], leads[150:]),
    )
    found = combined(training, validation)
    new = random.normal(size=(5, 8))
    parts: list[Doubles] = []
    for lookback in (8, 4, 2):
        line = fit_line(training.newest(lookback), validation.newest(lookback))
        parts.append(new[:, -lookback:] @ line.weights[0] + line.bias[0])
    np.testing.assert_allclose(new @ found.weights[0] + found.bias[0], np.mean(parts, axis=0))


def test_a_whole_lookback_that_is_needed_is_not_averaged_away(random: Generator) -> None:
    readings = random.normal(size=(200, 8))
    rows = rows_of(readings, readings[:, :1])
    assert combined(rows, rows).weights[0, 0, 0] == pytest.approx(1, abs=1e-3)


def test_a_flat_line_repeats_the_newest_value(random: Generator) -> None:
    windows = windows_of(random.normal(size=(300, 1)).cumsum(axis=0))
    scaling = measure_scaling(windows, ("c0",), ("c0",))
    inputs, _ = windows.gather(windows.starts["test"])
    forecast = Line.flat(5, 2).forecast(inputs, scaling)
    np.testing.assert_allclose(forecast, np.repeat(inputs[:, -1:], 2, axis=1), rtol=1e-6)
