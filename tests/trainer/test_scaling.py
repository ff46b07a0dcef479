"""What normalisation measures, by hand, and that it looks at training rows alone."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.trainer.conftest import history_of
from tidecast.trainer.config import Normalization
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.scaling import Scaling, measure_scaling, spread

STEPS = [0.0, 1.0, 3.0, 6.0, 10.0]
"""Windows of two readings are 0 1, 1 3, 3 6, and what follows them 3, 6, 10."""


def windows_of(
    values: npt.ArrayLike,
    targets: tuple[str, ...] = ("a",),
    *,
    features: tuple[str, ...] = ("a",),
    train_rows: int = 5,
) -> Windows:
    columns = tuple(dict.fromkeys((*features, *targets)))
    return make_windows(
        history_of(np.asarray(values), columns=columns),
        features,
        targets,
        n_steps=2,
        horizon=1,
        train_rows=train_rows,
        validation_rows=5,
    )


def measured(scaling: Scaling) -> list[float]:
    """The mean and scale of the only feature, and of the only target."""
    found = (scaling.input_mean, scaling.input_scale, scaling.output_mean, scaling.output_scale)
    return [float(each.item()) for each in found]


@pytest.mark.parametrize("shared", [True, False])
def test_changes_from_the_newest_reading_are_measured(shared: bool) -> None:
    """They are -1 0, -2 0, -3 0, and after it 2, 3, 4; or the former serve for both."""
    scaling = measure_scaling(windows_of(STEPS), ("a",), ("a",), "last", shared=shared)
    inward, outward = np.sqrt(14 / 6), np.sqrt(29 / 3)
    assert measured(scaling) == pytest.approx([0, inward, 0, inward if shared else outward])
    assert scaling.unit == pytest.approx(np.std([3, 6, 10]))
    assert scaling.base.tolist() == scaling.own.tolist() == [[1.0]]


@pytest.mark.parametrize("shared", [True, False])
def test_standard_measures_readings_as_they_are(shared: bool) -> None:
    scaling = measure_scaling(windows_of(STEPS), ("a",), ("a",), "standard", shared=shared)
    inward = [14 / 6, np.std([0, 1, 1, 3, 3, 6])]
    outward = inward if shared else [19 / 3, np.std([3, 6, 10])]
    assert measured(scaling) == pytest.approx([*inward, *outward])
    assert scaling.base.tolist() == [[0.0]]


def test_none_measures_the_unit_alone() -> None:
    scaling = measure_scaling(windows_of(STEPS), ("a",), ("a",), "none")
    assert measured(scaling) == [0, 1, 0, 1]
    assert scaling.unit == pytest.approx(np.std([3, 6, 10]))
    assert scaling.base.tolist() == [[0.0]]


@pytest.mark.parametrize("shared", [True, False])
def test_a_virtual_sensor_is_measured_by_itself(shared: bool) -> None:
    """Beside a target that is a feature, and where there is none."""
    table = np.stack([STEPS, np.square(STEPS)], axis=1)
    soft = np.array([9.0, 36.0, 100.0])
    both = windows_of(table, ("a", "soft"))
    scaling = measure_scaling(both, ("a",), ("a", "soft"), "last", shared=shared)
    assert scaling.own.tolist() == scaling.base.tolist() == [[1.0, 0.0]]
    assert scaling.mine.tolist() == [0]
    assert scaling.output_mean == pytest.approx([0, soft.mean()])
    assert scaling.output_scale[1] == pytest.approx(soft.std())
    alone = windows_of(table, ("soft",))
    scaling = measure_scaling(alone, ("a",), ("soft",), "last", shared=shared)
    expected = [14 / 6, np.std([0, 1, 1, 3, 3, 6]), soft.mean(), soft.std()]
    assert measured(scaling) == pytest.approx(expected)
    assert scaling.base.tolist() == [[0.0]]


def test_what_never_changes_has_a_scale_of_one() -> None:
    for normalization in ("last", "standard"):
        scaling = measure_scaling(windows_of([5.0] * 5), ("a",), ("a",), normalization)
        assert [scaling.input_scale, scaling.output_scale, scaling.unit] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("normalization", ["last", "standard", "none"])
def test_validation_and_test_rows_do_not_touch_the_scale(normalization: Normalization) -> None:
    """Their values are what forecasts are judged by, so they must not be known."""
    values = np.random.default_rng(0).normal(size=(40, 2))
    poisoned = values.copy()
    poisoned[20:] = 1e6
    names = ("a", "b")
    sound, spoilt = (
        measure_scaling(
            windows_of(table, names, features=names, train_rows=20), names, names, normalization
        )
        for table in (values, poisoned)
    )
    for name, value in vars(sound).items():
        np.testing.assert_array_equal(getattr(spoilt, name), value, name)


def test_every_target_finds_its_feature() -> None:
    features, targets = ("a", "b", "c"), ("c", "soft", "a")
    table = np.random.default_rng(1).normal(size=(30, 4))
    scaling = measure_scaling(windows_of(table, targets, features=features), features, targets)
    assert scaling.own.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert scaling.mine.tolist() == [0, 2]


@pytest.mark.parametrize("normalization", ["last", "standard", "none"])
def test_what_goes_outward_comes_back(normalization: Normalization) -> None:
    features, targets = ("a", "b"), ("b", "soft")
    table = 7 + np.random.default_rng(1).normal(size=(30, 3))
    windows = windows_of(table, targets, features=features, train_rows=20)
    scaling = measure_scaling(windows, features, targets, normalization)
    inputs, outputs = windows.gather(windows.starts["train"])
    answers = scaling.outward(inputs, outputs)
    np.testing.assert_allclose(scaling.restored(inputs, answers), outputs, rtol=1e-6)
    if normalization != "none":  # what is measured by itself has deviation one
        assert answers[:, :, 1].mean() == pytest.approx(0, abs=1e-6)
        assert answers[:, :, 1].std() == pytest.approx(1)
        readings = scaling.inward(inputs)
        assert np.sqrt((readings**2).mean(axis=(0, 1))) == pytest.approx([1, 1])
    newest = inputs[:, -1:, 1] if normalization == "last" else 0
    plain = (outputs[:, :, 0] - newest - scaling.output_mean[0]) / scaling.output_scale[0]
    np.testing.assert_allclose(answers[:, :, 0], plain, rtol=1e-6)


def test_windows_are_spread_evenly_from_the_first_to_the_last() -> None:
    windows = windows_of(np.arange(40.0), train_rows=30)
    starts = windows.starts["train"]
    assert spread(windows, 4).tolist() == [0, 9, 18, 27]
    assert spread(windows, 1000).tolist() == starts.tolist() == list(range(28))
