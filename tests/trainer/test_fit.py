"""A whole fit: what earns its place, what is never looked at, and what is refused."""

from typing import Any

import numpy as np
import pytest

from tests.trainer.conftest import RAMP, config_of, history_of, scaling_of, untrained
from tidecast.trainer.config import FitConfig
from tidecast.trainer.errors import ConfigError, DataError
from tidecast.trainer.fit import _Fitting, fit
from tidecast.trainer.networks import build_network
from tidecast.trainer.plan import make_plan
from tidecast.trainer.ridge import Line
from tidecast.trainer.series import History, split_rows


def test_an_untouched_line_is_never_made_worse() -> None:
    """With a learning rate that ruins everything, the line is what stands."""
    noise = np.random.default_rng(3).normal(size=300).cumsum()
    config = config_of(learning_rate=5.0, epochs=2)
    fitted = fit(config, history_of(noise))
    idle = config.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    alone = fit(idle, history_of(noise))
    windows, _ = fitted.windows.gather(fitted.windows.starts["test"])
    np.testing.assert_allclose(
        np.asarray(fitted.network(windows)), np.asarray(alone.network(windows)), atol=1e-4
    )


def fitting_of(config: FitConfig, history: History) -> _Fitting:
    """A fit that has yet to begin."""
    windows = untrained(config, history)[1]
    scaling = scaling_of(config, windows)
    return _Fitting(config, make_plan(config, history), windows, scaling, progress=None, keep=None)


def test_the_newest_value_stands_unless_the_line_clearly_betters_it() -> None:
    """On a random walk nothing does; here a line wins by luck, within two standard errors."""
    walk = np.random.default_rng(5).normal(size=400).cumsum()
    lucky = fitting_of(config_of(), history_of(walk))
    assert not lucky.line().weights.any()
    (remark,) = lucky.remarks
    assert "ridge errs less on the validation rows by 1.4 standard errors" in remark
    wave = fitting_of(config_of(), history_of(np.sin(np.arange(400) / 4)))
    assert wave.line().weights.any()
    assert not wave.remarks


def test_one_stretch_of_luck_does_not_let_training_count() -> None:
    """A change of 1 errs as none does where a ramp rises by 0.5, but less in the first eighth."""
    rises = np.full(300, 0.5)
    rises[210:214] = 1.0
    config, line = config_of(), Line.flat(4, 1)
    fitting = fitting_of(config, history_of(rises.cumsum()))
    settled = fitting.settled([adding(1.0, fitting)], line)
    window = np.array([[[5.0], [6.0], [9.0], [7.0]]], np.float32)
    assert settled(window).item() == 7
    (remark,) = fitting.remarks
    assert "what training made errs less on the validation rows by " in remark
    assert fitting.kind(line) == "naive"


def adding(change: float, fitting: _Fitting) -> Any:
    """A network that adds the same to every forecast of a flat line."""
    network = build_network(fitting.config, fitting.plan, fitting.scaling, Line.flat(4, 1))
    kernel, bias = network.get_layer("head").get_weights()
    network.get_layer("head").set_weights(
        [kernel * 0, bias + change / fitting.scaling.output_scale]
    )
    return network


@pytest.mark.parametrize(
    ("added", "counted", "remark"),
    [(1.0, 1.0, None), (4 / 3, 2 / 3, "half of what"), (-1.0, 0.0, "the line stands alone")],
)
def test_what_training_adds_counts_wholly_half_or_not_at_all(
    added: float, counted: float, remark: str | None
) -> None:
    """The line says that a ramp stands still; what is added to it is right, too much, or wrong."""
    history = history_of(np.arange(300) + np.random.default_rng(3).normal(0, 0.01, 300))
    fitting = fitting_of(config_of(), history)
    settled = fitting.settled([adding(added, fitting)], Line.flat(4, 1))
    window = np.array([[[5.0], [6.0], [9.0], [7.0]]], np.float32)
    assert settled(window).item() == pytest.approx(7 + counted)
    assert [each[: len(remark or "")] for each in fitting.remarks] == [remark] * bool(remark)
    assert fitting.levels is not None
    line, served = fitting.levels
    assert served < line if counted else served == line
    assert served == pytest.approx(abs(1 - counted) * line, abs=0.05 * line)
    assert fitting.kind(Line.flat(4, 1)) == ("network" if counted else "naive")
    straight = Line(np.ones((1, 4, 1)), np.zeros((1, 1)))
    assert fitting.kind(straight) == ("line and network" if counted else "line")
    assert fitting.kind(None) == "network"


@pytest.mark.parametrize(
    ("tells", "given", "mix", "trainings"),
    [
        (True, None, True, 2),
        (False, None, False, 2),
        (False, True, True, 1),
        (True, False, False, 1),
    ],
)
def test_other_features_are_mixed_in_where_they_help(
    tells: bool, given: bool | None, mix: bool, trainings: int
) -> None:
    """One tells what the target will be next, or nothing; what is asked for stays."""
    leading = np.random.default_rng(4).normal(size=400)
    beside = leading if tells else np.random.default_rng(5).normal(size=400)
    history = history_of(np.stack([np.roll(leading, 1), beside], axis=1), columns=("a", "b"))
    epochs = 4
    choices = {"features": ("a", "b"), "targets": ("a",), "units": 8, "epochs": epochs}
    config = config_of(**choices, learning_rate=0.02, dropout=0.1, mix=given)
    numbers: list[int] = []
    fitted = fit(config, history, lambda number, *_: numbers.append(number))
    assert fitted.plan.mix is mix
    assert (max(numbers) - 1) // epochs + 1 == trainings
    assert len(fitted.losses) == 1
    assert any("features that are no" in one for one in fitted.remarks) is (
        given is None and not mix
    )


@pytest.mark.parametrize("members", [1, 2])
def test_the_test_rows_do_not_touch_the_model(members: int) -> None:
    """Poisoned test rows, the very same forecasts of a network that has learned something.

    One member also chooses whether features are mixed, which trains twice; two are told.
    """
    leading = np.random.default_rng(4).normal(size=400)  # what ``a`` will be, no line can know
    values = np.stack([np.roll(leading, 1), leading], axis=1)
    poisoned = values.copy()
    poisoned[split_rows(400, None, None)["test"][0] :] = 1e6
    config = config_of(features=("a", "b"), targets=("a",), units=8, epochs=4)
    mix = None if members == 1 else True
    config = config.model_copy(update={"members": members, "learning_rate": 0.02, "mix": mix})
    sound, spoilt = (
        fit(config, history_of(table, columns=("a", "b"))) for table in (values, poisoned)
    )
    assert (sound.plan, sound.remarks) == (spoilt.plan, spoilt.remarks)
    assert not any("alone" in remark for remark in sound.remarks)
    windows = np.random.default_rng(0).normal(0.6, 0.3, (20, 4, 2)).astype(np.float32)
    one, two = (np.asarray(fitted.network(windows)) for fitted in (sound, spoilt))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("arch", ["segmented", "lstm"])
def test_virtual_sensors_alone_are_learned(arch: str) -> None:
    pressure = 1013 + np.random.default_rng(2).normal(size=300)
    history = history_of(np.stack([pressure, 3 * pressure], axis=1), columns=("value", "soft"))
    fitted = fit(config_of(targets=("soft",), arch=arch, epochs=20, units=8), history)
    inputs, actual = fitted.windows.gather(fitted.windows.starts["test"])
    error = np.abs(np.asarray(fitted.network(inputs)) - actual)
    assert error.mean() < 4.0
    assert fitted.kind == "network"


def test_too_few_validation_windows_leave_the_line() -> None:
    fitted = fit(config_of(), history_of(np.sin(np.arange(120) / 4)))
    assert "too few to tell" in fitted.remarks[0]
    assert fitted.kind == "line"
    inputs, actual = fitted.windows.gather(fitted.windows.starts["test"])
    assert np.abs(np.asarray(fitted.network(inputs)) - actual).max() < 0.02


def test_a_constant_series_does_no_harm() -> None:
    fitted = fit(config_of(epochs=1), history_of(np.full(40, 5.0)))
    window = np.full((1, 4, 1), 5.0, np.float32)
    assert np.isfinite(np.asarray(fitted.network(window))).all()


def test_the_best_weights_are_kept() -> None:
    """With a learning rate far too large the last epoch is not the best."""
    wave = np.sin(np.arange(200) / 3) + np.random.default_rng(3).normal(size=200) / 5
    wild = {"learning_rate": 0.5, "epochs": 12, "patience": 12, "line": False, "loss": "mse"}
    fitted = fit(config_of(**wild), history_of(wave))
    losses = [validation for _, validation in fitted.losses[0] if validation is not None]
    assert losses[-1] > min(losses)
    (_, inputs, targets), *rest = fitted.windows.batches("validation")
    assert not rest
    unit = scaling_of(fitted.config, fitted.windows).unit
    errors = (np.asarray(fitted.network(inputs)) - targets) / unit
    assert float(np.square(errors).mean()) == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"horizon": 0}, "--horizon 0"),
        ({"n_steps": 0}, "--n-steps 0"),
        ({"targets": ("a", "a")}, "repeat a name"),
        ({"targets": ("a", "b")}, "one feature cannot drive 2 targets"),
        ({"features": ("ts",)}, "may not be called"),
        ({"name": "a/b"}, "--name 'a/b'"),
        ({"layers": 3}, "--layers 3"),
        ({"segment": 5}, "a segment of 5 does not fit into 4 steps"),
        ({"arch": "lstm", "normalization": "instance"}, "instance is for --arch segmented"),
        ({"arch": "lstm", "segment": 2}, "--segment is for --arch segmented"),
        ({"arch": "lstm", "mix": True}, "--mix is for --arch segmented"),
        ({"dropout": 1.0}, "--dropout 1.0"),
    ],
)
def test_wrong_choices_are_named(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(**choices)


def test_too_few_rows_are_counted() -> None:
    with pytest.raises(DataError, match=r"no train window of 4 steps \+ 1 leads .* 5 rows"):
        fit(config_of(), history_of(RAMP[:5]))


def test_progress_is_told_of_the_epochs_of_all_members() -> None:
    heard: list[tuple[int, int]] = []
    config = config_of(members=2, epochs=2, patience=9)
    fit(
        config,
        history_of(np.sin(np.arange(120) / 4)),
        lambda done, of, *_: heard.append((done, of)),
    )
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]
