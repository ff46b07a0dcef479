"""Networks before training: normalisation, line, members, with numbers worked out by hand."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import RAMP, config_of, history_of, network_of, scaling_of, untrained
from tidecast.trainer.networks import (
    REFINEMENT,
    REFINING,
    Predictor,
    added,
    build_network,
    unite,
    weigh,
)
from tidecast.trainer.plan import make_plan
from tidecast.trainer.ridge import Line


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
    some = unite(config, plan, scaling, Line.flat(4, 1), [network])
    weigh(some, scaling, Line.flat(4, 1), [network], share=share)
    window = np.array([[5.0], [6.0], [9.0], [7.0]], np.float32) * np.ones((1, 1, 2), np.float32)
    value, soft = np.asarray(some(window)).ravel() - [7.0, scaling.output_mean[1]]
    assert value == pytest.approx(share * scaling.output_scale[0], rel=1e-4)
    assert soft == pytest.approx(scaling.output_scale[1], rel=1e-4)


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
    united = unite(config, plan, scaling, line, members)
    for share, refined in ((1.0, 3.5), (0.5, 1.75), (1.0, 3.5)):
        weigh(united, scaling, line, members, share=share)
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


def test_a_sum_is_the_same_at_every_horizon_and_batch_size() -> None:
    """Keras takes some addends for a bias; NumPy never does. Up to 300 leads, many batch sizes."""
    random = np.random.default_rng(0)
    newest, leads = random.normal(size=(301, 1, 1)), random.normal(size=(301, 300, 1))
    for horizon in range(1, 301):
        for size in {1, 7, 256, max(1, horizon - 1), horizon, horizon + 1}:
            part, whole = newest[:size], leads[:size, :horizon]
            found = np.asarray(added(tf.constant(part), tf.constant(whole)))
            assert (found == part + whole).all(), f"{horizon} leads, {size} windows"


KINDS: dict[str, dict[str, Any]] = {
    "univariate": {"targets": "a", "features": "a"},
    "several targets": {"targets": "abc", "features": "abc"},
    "mix": {"targets": "ab", "features": "abc", "mix": True},
    "mix of one unit": {"targets": "ab", "features": "abc", "mix": True, "units": 1, "segment": 2},
    "one segment": {"targets": "ab", "features": "abc", "mix": True, "units": 1, "segment": 4},
    "virtual sensors": {"targets": "ad", "features": "abc"},
    "instance": {"targets": "a", "features": "a", "normalization": "instance"},
    "standard": {"targets": "a", "features": "a", "normalization": "standard"},
    "lstm": {"targets": "ab", "features": "abc", "arch": "lstm"},
    "lstm of one unit": {"targets": "a", "features": "a", "arch": "lstm", "units": 1},
    "members": {"targets": "a", "features": "a", "members": 2},
}


@pytest.fixture(scope="module", params=KINDS)
def restless(request: pytest.FixtureRequest) -> Any:
    """A network of each kind, five leads beside a line that is refined; all weights are random."""
    choices = {"segment": 1} | KINDS[request.param]
    if choices.get("arch") == "lstm":
        del choices["segment"]
    names = {role: tuple(choices.pop(role)) for role in ("targets", "features")}
    config = config_of(**names, **choices, horizon=5)
    history = history_of(np.random.default_rng(0).normal(size=(200, 4)), columns=tuple("abcd"))
    plan, windows = make_plan(config, history), untrained(config, history)[1]
    line = Line.flat(4, 5) if config.arch == "segmented" else None
    network = build_network(
        config,
        plan,
        scaling_of(config, windows),
        line,
        members=config.members,
        refining=line is not None,
    )
    random = np.random.default_rng(1)
    network.set_weights([random.normal(size=each.shape) for each in network.get_weights()])
    return network


def test_a_forecast_does_not_hang_on_how_many_windows_stand_beside_it(restless: Any) -> None:
    """Also where they are as many as leads, targets or segments, and Keras knows it."""
    windows = np.random.default_rng(2).normal(size=(6, *restless.input_shape[1:]))
    expected = Predictor(restless)(windows)
    for size in range(1, len(windows) + 1):
        found = np.asarray(restless(windows[:size].astype(np.float32), training=False))
        np.testing.assert_allclose(found, expected[:size], rtol=1e-4, atol=1e-5)


def test_the_second_addend_has_the_shape_of_the_sum(restless: Any) -> None:
    """In every addition of every network, as ``added`` wants it, whatever the horizon."""
    sums = [one for one in restless.operations if type(one).__name__ == "Add"]
    pairs = [(one.input, one.output) for one in sums if isinstance(one.input, list)]
    for (_, whole), total in pairs:
        assert whole.shape == total.shape


def test_a_predictor_is_right_even_of_a_network_with_an_unsafe_sum() -> None:
    """A file of an earlier version may hold such a one."""
    window = keras.Input((4, 1))
    leads = keras.layers.Reshape((4, 1))(keras.layers.Dense(1)(window))
    newest = keras.layers.Cropping1D((3, 0))(window)
    predict = Predictor(keras.Model(window, keras.layers.Add()([leads, newest])))
    windows = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)
    (kernel, bias) = predict.network.get_weights()
    np.testing.assert_allclose(predict(windows), windows * kernel + bias + windows[:, -1:], 1e-5)


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
