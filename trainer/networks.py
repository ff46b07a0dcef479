"""Keras networks with their normalisation inside, made of built-in layers only."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.config import FitConfig
from trainer.plan import Plan
from trainer.ridge import Line
from trainer.scaling import Floats, Scaling
from worker.contract import INPUT_NAME

TRAINED = ("segment", "others", "lstm", "head", "line")
"""How the names of layers begin that training changes."""
LEAST_SPREAD = 0.1
"""What is added to the spread of a window's readings, in training units, before it divides them."""


def build_network(
    config: FitConfig, plan: Plan, scaling: Scaling, line: Line | None = None, members: int = 1
) -> Any:
    """Return an untrained ``keras.Model`` from ``window`` to ``forecast`` ``[b, horizon, T]``.

    A segmented network with a line begins as the line: what is left to learn begins at nothing.
    Several members, each with layers of its own, answer their mean.
    """
    import keras

    window = keras.Input((plan.n_steps, len(config.features)), name=INPUT_NAME)
    hidden, newest = window, None
    if scaling.base.any():
        newest = keras.layers.Cropping1D((plan.n_steps - 1, 0), name="newest")(window)
        hidden = keras.layers.Subtract(name="centred")([window, newest])
    if config.normalization != "none":
        hidden = _normalized(hidden, scaling.input_mean, scaling.input_scale, invert=False)
    answers = [
        _stacked(config, plan, hidden, member)
        if config.arch == "lstm"
        else _segmented(config, plan, scaling, hidden, line, member)
        for member in _suffixes(members)
    ]
    forecast = keras.layers.Average(name="mean")(answers) if members > 1 else answers[0]
    if config.normalization != "none":
        forecast = _normalized(forecast, scaling.output_mean, scaling.output_scale, invert=True)
    if newest is not None:
        forecast = keras.layers.Add(name="restored")([forecast, _picked(newest, scaling.base)])
    expected = (None, config.horizon, len(config.targets))
    if tuple(forecast.shape) != expected:
        raise AssertionError(f"the network answers {forecast.shape}, not {expected}")
    return keras.Model(window, forecast, name="tidecast")


def take_over(network: Any, members: Sequence[Any]) -> None:
    """Give a network of several members the weights of networks with one."""
    for suffix, member in zip(_suffixes(len(members)), members, strict=True):
        for name in TRAINED:
            for layer in member.layers:
                if layer.name.startswith(name):
                    network.get_layer(layer.name + suffix).set_weights(layer.get_weights())


def _suffixes(members: int) -> list[str]:
    """Return what the names of each member's layers end with."""
    return [f"_of_{number}" for number in range(1, members + 1)] if members > 1 else [""]


def _stacked(config: FitConfig, plan: Plan, hidden: Any, member: str) -> Any:
    """One or two LSTMs over the readings as they come."""
    from keras import layers

    hidden = _lstms(config, plan, hidden, member)
    flat = layers.Dense(config.horizon * len(config.targets), name=f"head{member}")(hidden)
    return layers.Reshape((config.horizon, len(config.targets)), name=f"leads{member}")(flat)


def _lstms(config: FitConfig, plan: Plan, steps: Any, member: str) -> Any:
    """Return the last state of one LSTM, or of the second above the first's steps."""
    from keras import layers

    for number in range(config.layers):
        steps = layers.LSTM(
            plan.units,
            activation=config.activation,
            return_sequences=number < config.layers - 1,
            name=f"lstm_{number + 1}{member}",
        )(steps)
    return steps


def _segmented(
    config: FitConfig, plan: Plan, scaling: Scaling, hidden: Any, line: Line | None, member: str
) -> Any:
    """An LSTM over projected segments beside a line, both shared by all targets.

    Segments as in SegRNN (Lin et al. 2023), the line as in NLinear (Zeng et al. 2023). The targets
    stand beside each other in the batch: ``[b, n_steps, T]`` becomes ``[b * T, n_steps]``.
    """
    from keras import layers, ops

    targets = len(config.targets)
    own = layers.Permute((2, 1))(_picked(hidden, scaling.own))
    readings = ops.reshape(own, (-1, plan.n_steps))
    straight, spread = readings, None
    if config.normalization == "instance":
        spread = ops.sqrt(ops.mean(ops.square(readings), axis=1, keepdims=True)) + LEAST_SPREAD
        readings = readings / spread
    steps = layers.Dense(plan.units, name=f"segment{member}")(_cut(readings, plan, 1))
    if plan.mix:
        others = layers.Dense(plan.units, use_bias=False, name=f"others{member}")(
            _cut(hidden, plan, len(config.features))
        )
        beside = ops.reshape(steps, (-1, targets, *steps.shape[1:]))
        mixed = beside + ops.reshape(others, (-1, 1, *others.shape[1:]))
        steps = ops.reshape(mixed, (-1, *steps.shape[1:]))
    steps = layers.Dropout(config.dropout)(layers.ReLU()(steps))
    steps = _lstms(config, plan, steps, member)
    steps = layers.Dropout(config.dropout)(steps)
    start = "glorot_uniform" if line is None else "zeros"
    leads = layers.Dense(config.horizon, kernel_initializer=start, name=f"head{member}")(steps)
    if spread is not None:
        leads = leads * spread
    if line is not None:
        dense = layers.Dense(config.horizon, name=f"line{member}")
        leads = leads + dense(straight)
        dense.set_weights([line.weights.astype(np.float32), line.bias.astype(np.float32)])
    return layers.Permute((2, 1), name=f"leads{member}")(
        ops.reshape(leads, (-1, targets, config.horizon))
    )


def _cut(readings: Any, plan: Plan, features: int) -> Any:
    """Return readings in segments, ``[k, segments, segment * features]``.

    Where the lookback is no multiple of the segment, the first one begins with zeros.
    """
    from keras import layers, ops

    count = -(-plan.n_steps // plan.segment)
    missing = count * plan.segment - plan.n_steps
    if missing:
        readings = ops.reshape(readings, (-1, plan.n_steps, features))
        readings = layers.ZeroPadding1D((missing, 0))(readings)
    return ops.reshape(readings, (-1, count, plan.segment * features))


def _normalized(values: Any, mean: Floats, scale: Floats, *, invert: bool) -> Any:
    """Return ``(values - mean) / scale``, or its inverse.

    By ``Rescaling``, as tf2onnx 1.17 loses the constants of Keras' ``Normalization``. The mean goes
    first, so that little is rounded where it is large beside the scale.
    """
    from keras.layers import Rescaling

    if invert:
        return Rescaling(scale.tolist(), offset=mean.tolist(), name="denormalized")(values)
    if mean.any():
        values = Rescaling(1.0, offset=(-mean).tolist(), name="shifted")(values)
    return Rescaling((1 / scale).tolist(), name="normalized")(values)


def _picked(values: Any, pick: Floats) -> Any:
    """Return the feature that each target is, ``[b, steps, T]``; zeros for one that is none."""
    import keras

    if pick.shape[0] == pick.shape[1] and (pick == np.eye(len(pick))).all():
        return values
    layer = keras.layers.Dense(pick.shape[1], use_bias=False, trainable=False)
    picked = layer(values)
    layer.set_weights([pick.astype(np.float32)])
    return picked
