"""Normalisation, shapes and export, with numbers that can be worked out by hand."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest

from tests.model_files import spec_of, write_mean_model
from tests.trainer.conftest import config_of, history_of
from tidecast.trainer.config import FitConfig
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.errors import ConfigError, DataError, ExportError
from tidecast.trainer.export import (
    check_operators,
    check_parity,
    describe,
    export,
    relative_error,
    write_model,
)
from tidecast.trainer.fit import Fitted, _Fitting, fit
from tidecast.trainer.networks import REFINEMENT, REFINING, build_network, unite
from tidecast.trainer.patterns import EXAMPLES, Example
from tidecast.trainer.plan import make_plan
from tidecast.trainer.ridge import Line
from tidecast.trainer.scaling import Scaling, measure_scaling
from tidecast.trainer.series import History, split_rows

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
RAMP = np.arange(40, dtype=np.float64)


def scaling_of(config: FitConfig, windows: Windows) -> Scaling:
    normalization = config.normalization or "last"  # measured as "instance" is
    shared = config.arch == "segmented"
    return measure_scaling(windows, config.features, config.targets, normalization, shared=shared)


def untrained(config: FitConfig, history: History, line: Line | None = None) -> tuple[Any, Windows]:
    """A network that knows its scaling and perhaps a line, and the windows it was scaled by."""
    plan = make_plan(config, history)
    windows = make_windows(
        history,
        config.features,
        config.targets,
        n_steps=plan.n_steps,
        horizon=config.horizon,
        train_rows=None,
        validation_rows=None,
    )
    return build_network(config, plan, scaling_of(config, windows), line), windows


def network_of(config: FitConfig, history: History, head: float) -> Any:
    """A network whose LSTM says nothing and whose head answers ``head`` everywhere."""
    network, _ = untrained(config, history)
    kernel, bias = network.get_layer("head").get_weights()
    network.get_layer("head").set_weights([kernel * 0, bias * 0 + head])
    return network


def test_a_segmented_network_has_one_scale_for_readings_and_leads() -> None:
    """Over four steps of a ramp the readings are 3, 2, 1, 0 before the newest: 1.87 on average."""
    network = network_of(config_of(), history_of(RAMP), head=2.0)
    window = np.array([[[5.0], [6.0], [9.0], [7.0]]], np.float32)
    expected = 7 + 2 * np.sqrt((9 + 4 + 1) / 4)
    assert np.asarray(network(window)).item() == pytest.approx(expected)


def test_an_instance_is_scaled_by_its_own_spread() -> None:
    """Ten times as wild a window has ten times as wild a forecast, but for the floor."""
    config = config_of(normalization="instance")
    network = network_of(config, history_of(RAMP), head=1.0)
    scale = np.sqrt((9 + 4 + 1) / 4)
    window = np.array([[[5.0], [6.0], [9.0], [7.0]]])
    for factor in (0, 1, 10):
        wild = np.sqrt(np.square(factor * (window - 7)).mean())
        answer = np.asarray(network((7 + factor * (window - 7)).astype(np.float32))).item()
        assert answer == pytest.approx(7 + wild + 0.1 * scale, rel=1e-5)


@pytest.mark.parametrize("own", [1, 2])
@pytest.mark.parametrize("normalization", ["last", "instance", "standard", "none"])
def test_a_segmented_network_begins_as_its_line(normalization: str, own: int) -> None:
    """Each lead is the reading two steps back (before the newest is added), whatever the scale."""
    weights = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    line = Line(np.repeat(weights[None], own, axis=0), np.full((own, 2), 0.5), 1.0)
    wave = 20 + np.sin(np.arange(60) / 3)
    config = config_of(features=("a", "b"), targets=("b", "a"), normalization=normalization)
    config = config.model_copy(update={"horizon": 2})
    history = history_of(np.stack([wave, 5 * wave], axis=1), columns=("a", "b"))
    network, windows = untrained(config, history, line)
    window = np.random.default_rng(0).normal(10, 3, (3, 4, 2)).astype(np.float32)
    bias = 0.5 * scaling_of(config, windows).output_scale
    expected = np.repeat(window[:, 1:2, ::-1], 2, axis=1) + bias
    np.testing.assert_allclose(np.asarray(network(window)), expected, rtol=1e-4)


def test_an_untouched_line_is_never_made_worse() -> None:
    """With a learning rate that ruins everything, the line is what stands."""
    noise = np.random.default_rng(3).normal(size=300).cumsum()
    config = config_of(learning_rate=5.0, epochs=3)
    fitted = fit(config, history_of(noise))
    alone = fit(config.model_copy(update={"learning_rate": 1e-12}), history_of(noise))
    windows, _ = fitted.windows.gather(fitted.windows.starts["test"])
    np.testing.assert_allclose(
        np.asarray(fitted.network(windows)), np.asarray(alone.network(windows)), atol=1e-4
    )


@pytest.mark.parametrize(
    ("added", "counted", "remark"),
    [(1.0, 1.0, None), (4 / 3, 2 / 3, "half of what"), (-1.0, 0.0, "the line stands alone")],
)
def test_what_training_adds_counts_wholly_half_or_not_at_all(
    added: float, counted: float, remark: str | None
) -> None:
    """The line says that a ramp stands still; what is added to it is right, too much, or wrong."""
    config, line = config_of(), Line.flat(4, 1)
    history = history_of(np.arange(300) + np.random.default_rng(3).normal(0, 0.01, 300))
    network, windows = untrained(config, history, line)
    scaling, plan = scaling_of(config, windows), make_plan(config, history)
    kernel, bias = network.get_layer("head").get_weights()
    network.get_layer("head").set_weights([kernel * 0, bias + added / scaling.output_scale])
    fitting = _Fitting(config, plan, windows, scaling, progress=None, keep=None)
    settled = fitting.settled([network], line)
    window = np.array([[[5.0], [6.0], [9.0], [7.0]]], np.float32)
    assert np.asarray(settled(window)).item() == pytest.approx(7 + counted)
    assert [each[: len(remark or "")] for each in fitting.remarks] == [remark] * bool(remark)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_virtual_sensor_has_no_line_to_fall_back_on(share: float) -> None:
    """All that the network says of it counts, whatever counts of the target beside it."""
    config = config_of(features=("value", "other"), targets=("value", "soft"))
    table = np.stack([RAMP, RAMP, 5 + RAMP % 2], axis=1)
    history = history_of(table, columns=("value", "other", "soft"))
    network, windows = untrained(config, history, Line.flat(4, 1))
    kernel, bias = network.get_layer("head").get_weights()
    network.get_layer("head").set_weights([kernel * 0, bias + 1.0])
    scaling, plan = scaling_of(config, windows), make_plan(config, history)
    some = unite(config, plan, scaling, Line.flat(4, 1), [network], share)
    window = np.array([[5.0], [6.0], [9.0], [7.0]], np.float32) * np.ones((1, 1, 2), np.float32)
    value, soft = np.asarray(some(window)).ravel() - [7.0, scaling.output_mean[1]]
    assert value == pytest.approx(share * scaling.output_scale[0], rel=1e-4)
    assert soft == pytest.approx(scaling.output_scale[1], rel=1e-4)


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
    choices = {"features": ("a", "b"), "targets": ("a",), "units": 8, "epochs": 8}
    config = config_of(**choices, learning_rate=0.01, dropout=0.1, mix=given)
    numbers: list[int] = []
    fitted = fit(config, history, lambda number, *_: numbers.append(number))
    assert fitted.plan.mix is mix
    assert (max(numbers) - 1) // 8 + 1 == trainings
    assert len(fitted.losses) == 1
    assert any("features that are no" in one for one in fitted.remarks) is (
        given is None and not mix
    )


@pytest.mark.parametrize("own", [1, 2])
def test_what_training_refines_joins_the_line(own: int) -> None:
    config = config_of(features=("a", "b"), targets=("a", "b"))
    history = history_of(np.random.default_rng(0).normal(size=(60, 2)), columns=("a", "b"))
    plan, windows = make_plan(config, history), untrained(config, history)[1]
    scaling, line = scaling_of(config, windows), Line(np.ones((own, 4, 1)), np.ones((own, 1)))
    members = [build_network(config, plan, scaling, line, refining=True) for _ in range(2)]
    for number, member in enumerate(members):
        member.get_layer(REFINEMENT).set_weights([np.full((4, 1), 3.0 + number)])
        kernel, bias = member.get_layer("head").get_weights()
        member.get_layer("head").set_weights([kernel + 0.1 * number, bias + 0.2])
    window = np.random.default_rng(1).normal(size=(5, 4, 2)).astype(np.float32)
    expected = np.mean([np.asarray(member(window)) for member in members], axis=0)
    for share, refined in ((1.0, 3.5), (0.5, 1.75)):
        united = unite(config, plan, scaling, line, members, share)
        beside = np.asarray(build_network(config, plan, scaling, line)(window))
        np.testing.assert_allclose(
            np.asarray(united(window)), beside + share * (expected - beside), rtol=1e-4
        )
        weights = united.get_layer("line").get_weights()[0]
        np.testing.assert_allclose(weights, 1 + REFINING * refined, rtol=1e-6)


@pytest.mark.parametrize("arch", ["segmented", "lstm"])
def test_members_are_averaged(arch: str) -> None:
    config, history = config_of(arch=arch, line=False, normalization="standard"), history_of(RAMP)
    one, two = (network_of(config, history, head=head) for head in (1.0, 4.0))
    plan = make_plan(config, history)
    windows = untrained(config, history)[1]
    both = unite(config, plan, scaling_of(config, windows), None, [one, two])
    window = np.array([[[5.0], [6.0], [9.0], [7.0]]], np.float32)
    answers = [np.asarray(network(window)).item() for network in (one, two, both)]
    assert answers[2] == pytest.approx(np.mean(answers[:2]))
    assert answers[0] != pytest.approx(answers[1])


def test_members_differ_and_export_as_one(tmp_path: Path) -> None:
    history = history_of(np.random.default_rng(3).normal(size=200).cumsum())
    fitted = fit(config_of(members=3, line=False, normalization="standard"), history)
    assert [len(epochs) for epochs in fitted.losses] == [2, 2, 2]
    path, _ = write_model(tmp_path, fitted, MOMENT)
    graph = onnx.load(path).graph
    assert sum(node.op_type == "LSTM" for node in graph.node) == 3
    heads = [fitted.network.get_layer(f"head_of_{m}").get_weights()[0] for m in (1, 2)]
    assert not np.allclose(heads[0], heads[1])
    reopened = keras.models.load_model(path.with_suffix(".keras"))
    windows, _ = fitted.windows.gather(fitted.windows.starts["train"])
    np.testing.assert_array_equal(
        np.asarray(reopened(windows)), np.asarray(fitted.network(windows))
    )


@pytest.mark.parametrize("members", [1, 2])
def test_the_test_rows_do_not_touch_the_model(members: int) -> None:
    """Poisoned test rows, the very same forecasts of a network that has learned something."""
    leading = np.random.default_rng(4).normal(size=400)  # what ``a`` will be, no line can know
    values = np.stack([np.roll(leading, 1), leading], axis=1)
    poisoned = values.copy()
    poisoned[split_rows(400, None, None)["test"][0] :] = 1e6
    config = config_of(features=("a", "b"), targets=("a",), units=8, epochs=8)
    config = config.model_copy(update={"members": members, "learning_rate": 0.01})
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


def test_too_few_validation_windows_leave_the_line() -> None:
    fitted = fit(config_of(), history_of(np.sin(np.arange(120) / 4)))
    assert "too few to tell" in fitted.remarks[0]
    inputs, actual = fitted.windows.gather(fitted.windows.starts["test"])
    assert np.abs(np.asarray(fitted.network(inputs)) - actual).max() < 0.02


def test_last_adds_the_newest_value_back() -> None:
    """On a ramp the change one step ahead is always 1, so one unit of the head is 1."""
    network = network_of(config_of(arch="lstm"), history_of(RAMP), head=2.0)
    window = np.array([[[5.0], [6.0], [9.0], [7.0]]], np.float32)
    assert np.asarray(network(window)).ravel().tolist() == pytest.approx([9.0])


def test_standard_scales_by_the_training_rows() -> None:
    values = np.tile([10.0, 30.0], 20)
    config = config_of(normalization="standard", n_steps=2, arch="lstm")
    network = network_of(config, history_of(values), head=0.5)
    answer = float(np.asarray(network(np.zeros((1, 2, 1), np.float32))).item())
    assert answer == pytest.approx(values.mean() + 0.5 * 10, abs=0.4)


def test_none_leaves_everything_alone() -> None:
    network = network_of(config_of(normalization="none"), history_of(RAMP), head=3.0)
    assert np.asarray(network(np.ones((1, 4, 1), np.float32))).item() == 3.0


@pytest.mark.parametrize("arch", ["segmented", "lstm"])
def test_a_target_that_is_no_feature_is_not_shifted(arch: str) -> None:
    table = np.stack([RAMP, 5 + RAMP % 2], axis=1)
    config = config_of(targets=("soft",), arch=arch)
    history = history_of(table, columns=("value", "soft"))
    network = network_of(config, history, head=0.0)
    windows = [np.full((1, 4, 1), level, np.float32) for level in (0, 1000)]
    answers = [float(np.asarray(network(window)).item()) for window in windows]
    assert answers == pytest.approx([5.5, 5.5], abs=0.05)


@pytest.mark.parametrize("arch", ["segmented", "lstm"])
def test_each_target_gets_its_own_features_newest_value(arch: str) -> None:
    config = config_of(features=("a", "b"), targets=("b", "a"), horizon=2, arch=arch)
    history = history_of(np.stack([RAMP, 2 * RAMP], axis=1), columns=("a", "b"))
    network = network_of(config, history, head=0.0)
    window = np.arange(8, dtype=np.float32).reshape(1, 4, 2)
    assert np.asarray(network(window)).tolist() == [[[7, 6], [7, 6]]]


def test_a_constant_series_does_no_harm() -> None:
    fitted = fit(config_of(epochs=1), history_of(np.full(40, 5.0)))
    window = np.full((1, 4, 1), 5.0, np.float32)
    assert np.isfinite(np.asarray(fitted.network(window))).all()


NETWORKS = [
    {"arch": "lstm", "activation": "tanh", "layers": 1},
    {"arch": "lstm", "activation": "relu", "layers": 2},
    {"arch": "lstm", "activation": "tanh", "normalization": "standard"},
    {"arch": "segmented", "activation": "tanh", "layers": 1, "segment": 1},
    {"arch": "segmented", "activation": "relu", "layers": 2, "segment": 2, "mix": True},
    {"arch": "segmented", "activation": "tanh", "segment": 5, "normalization": "instance"},
    {"arch": "segmented", "activation": "tanh", "segment": 3, "normalization": "standard"},
]


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.pattern for e in EXAMPLES])
@pytest.mark.parametrize("choices", NETWORKS)
def test_every_pattern_exports_as_lstm_operators(
    example: Example, choices: dict[str, object]
) -> None:
    config = example.config().model_copy(update={"units": 5} | choices)
    network, windows = untrained(config, example.history())
    samples, _ = windows.gather(windows.starts["train"])
    described = spec_of(
        n_steps=5,
        horizon=example.horizon,
        features=example.features,
        targets=example.targets,
        golden_window=samples[0],
    )
    content, spec = export(network, described, samples)
    graph = onnx.load_from_string(content).graph
    assert sum(node.op_type == "LSTM" for node in graph.node) == config.layers
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    targets = len(example.targets)
    expected = [["batch", 5, len(example.features)], ["batch", example.horizon, targets]]
    assert shapes == expected
    golden = np.asarray(network(samples[:1]))[0]
    np.testing.assert_allclose(spec.golden.forecast, golden, rtol=1e-6)


def test_another_answer_than_keras_gives_is_refused(wave: Fitted) -> None:
    """The graph of one network against Keras' answers of another, that differs by a hair."""
    samples, _ = wave.windows.gather(wave.windows.starts["train"])
    content, _ = export(wave.network, describe(wave, MOMENT), samples)
    model = onnx.load_from_string(content)
    check_parity(model, wave.network, samples)
    weights = wave.network.get_weights()
    wave.network.set_weights([weight + np.float32(1e-3) for weight in weights])
    with pytest.raises(ExportError, match="differ by"):
        check_parity(model, wave.network, samples)
    wave.network.set_weights(weights)


def test_a_small_target_counts_beside_a_large_one() -> None:
    """An error of 1e-4 is nothing beside 1,000 and everything beside 0.001."""
    expected = np.array([[[1000.0, 0.001]]], np.float32)
    off = np.array([[[0.0, 1e-4]]], np.float32)
    scale = np.abs(expected[0, 0])
    assert relative_error(expected + off, expected, scale) == pytest.approx(0.1, rel=1e-3)
    assert relative_error(expected + off[..., ::-1], expected, scale) < 1e-6


def test_a_diverged_network_is_refused(wave: Fitted) -> None:
    lost = replace(wave.validation.model, mae=(np.nan, 1.0))
    with pytest.raises(ExportError, match="diverged"):
        describe(replace(wave, validation=replace(wave.validation, model=lost)), MOMENT)


def test_the_saved_network_opens_with_keras_alone(wave: Fitted, tmp_path: Path) -> None:
    samples, _ = wave.windows.gather(wave.windows.starts["train"])
    write_model(tmp_path, wave, MOMENT)
    network = keras.models.load_model(tmp_path / "m.keras")
    answers = [np.asarray(n(samples)) for n in (network, wave.network)]
    np.testing.assert_array_equal(answers[0], answers[1])


def test_a_graph_without_lstm_operators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not LSTM operators"):
        check_operators(onnx.load(write_mean_model(tmp_path / "mean.onnx")))


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
