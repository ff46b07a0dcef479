"""Keras networks with their normalisation inside, made of built-in layers only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.config import FitConfig
from tidecast.trainer.plan import Plan
from tidecast.trainer.ridge import Line
from tidecast.trainer.scaling import Floats, Scaling
from tidecast.worker.contract import INPUT_NAME, OUTPUT_NAME, Numbers, limits_of

HEAD, LINE = "head", "line"
TRAINED = ("segment", "others", "lstm", HEAD)
"""How the names of layers begin that training changes."""
REFINEMENT, REFINING = "refinement", 0.1
"""The layer that refines a line, and its learning rate beside that of the others."""
LEAST_SPREAD = 0.1
"""What is added to the spread of a window's readings, in training units, before it divides them."""


def build_network(
    config: FitConfig,
    plan: Plan,
    scaling: Scaling,
    line: Line | None = None,
    *,
    members: int = 1,
    refining: bool = False,
    bounded: bool = False,
) -> Any:
    """Return an untrained ``keras.Model`` from ``window`` to ``forecast`` ``[b, horizon, T]``.

    Beside a line, networks begin at nothing. Several, each with layers of its own, answer their
    mean. While it is trained, a network may refine the line. Only what is ``bounded`` answers
    nothing beyond the bounds: what lies there has no gradient to learn by.

    Where windows are of 64 bits, so are the subtraction of the newest value, the normalisation and
    the way back; what lies between computes in 32 bits, of which the usual change has enough.
    """
    import keras

    shape = (plan.n_steps, len(config.features))
    window = keras.Input(shape, name=INPUT_NAME, dtype=plan.numbers)
    hidden, newest = _inward(plan, scaling, window)
    part = _stacked if config.arch == "lstm" else _segmented
    answers = [part(config, plan, scaling, hidden, line, member) for member in _suffixes(members)]
    forecast = keras.layers.Average(name="mean")(answers) if members > 1 else answers[0]
    if line is not None:
        own = _turned(_picked(hidden, scaling.own))
        forecast = forecast + _turned(_straight(own, line))
        if refining:
            forecast = forecast + _turned(_refinement(own, config.horizon))
    forecast = _outward(plan, scaling, forecast, newest)
    if bounded:
        forecast = _bounded(config, forecast, plan.numbers)
    expected = (None, config.horizon, len(config.targets))
    if tuple(forecast.shape) != expected:
        raise AssertionError(f"the network answers {forecast.shape}, not {expected}")
    return keras.Model(window, forecast, name="tidecast")


def unite(
    config: FitConfig,
    plan: Plan,
    scaling: Scaling,
    line: Line | None,
    members: Sequence[Any],
) -> Any:
    """Return the network that answers the mean of trained ones; their refinements join the line."""
    network = build_network(config, plan, scaling, line, members=len(members), bounded=True)
    weigh(network, scaling, line, members, share=1.0)
    return network


def weigh(
    network: Any, scaling: Scaling, line: Line | None, members: Sequence[Any], *, share: float
) -> None:
    """Let only a share of what its members add to the line count in a united network.

    For targets that have a line; of others all counts.
    """
    if line is not None and any(layer.name == REFINEMENT for layer in members[0].layers):
        kernels = [member.get_layer(REFINEMENT).get_weights()[0] for member in members]
        line = replace(line, weights=line.weights + share * REFINING * np.mean(kernels, axis=0))
        network.get_layer(LINE).set_weights(_weights_of(line))
    shares = np.where(scaling.own.any(axis=0), share, 1.0).astype(np.float32)
    for suffix, member in zip(_suffixes(len(members)), members, strict=True):
        for layer in member.layers:
            if layer.name.startswith(TRAINED):
                weights = layer.get_weights()
                if layer.name.startswith(HEAD) and line is not None:
                    weights = [(shares * each.T).T for each in weights]
                network.get_layer(layer.name + suffix).set_weights(weights)


@dataclass(frozen=True)
class Predictor:
    """A Keras network as a function from windows to forecasts.

    All forecasts of a network come from here, and what is exported is the same function. It leaves
    the number of windows open: where Keras knows that, it takes some sums for others (``added``).
    """

    network: Any

    @cached_property
    def function(self) -> Any:
        """The ``tf.function`` from ``window`` ``[b, n_steps, F]`` to ``forecast``."""
        import tensorflow as tf

        @tf.function(input_signature=self.signature)  # type: ignore[untyped-decorator]  # no types there
        def forecast(window: Any) -> dict[str, Any]:
            return {OUTPUT_NAME: self.network(window, training=False)}

        return forecast

    @property
    def numbers(self) -> Numbers:
        """What windows and forecasts are made of."""
        return "float64" if self.network.inputs[0].dtype == "float64" else "float32"

    @property
    def signature(self) -> list[Any]:
        """What the function takes."""
        import tensorflow as tf

        shape = (None, *self.network.input_shape[1:])
        return [tf.TensorSpec(shape, self.numbers, name=INPUT_NAME)]

    def __call__(self, windows: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
        """Return the forecasts of windows ``[k, n_steps, F]``, ``[k, horizon, T]``."""
        found = self.function(np.asarray(windows, self.numbers))
        forecasts: npt.NDArray[np.floating[Any]] = found[OUTPUT_NAME].numpy()
        return forecasts


def _suffixes(members: int) -> list[str]:
    """Return what the names of each member's layers end with."""
    return [f"_of_{number}" for number in range(1, members + 1)] if members > 1 else [""]


def _stacked(
    config: FitConfig, plan: Plan, _: Scaling, hidden: Any, line: Line | None, member: str
) -> Any:
    """One or two LSTMs over the readings as they come."""
    from keras import layers

    hidden = _lstms(config, plan, hidden, member)
    flat = layers.Dense(
        config.horizon * len(config.targets), kernel_initializer=_start(line), name=f"head{member}"
    )(hidden)
    return layers.Reshape((config.horizon, len(config.targets)), name=f"leads{member}")(flat)


def _start(line: Line | None) -> str:
    """Return how a head begins: beside a line, what is left to learn begins at nothing."""
    return "glorot_uniform" if line is None else "zeros"


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
    """An LSTM over projected segments, shared by all targets.

    Segments as in SegRNN (Lin et al. 2023). Targets stand beside each other in the batch of the
    LSTM; what tells them apart is a bias of the projection, and the head.
    """
    from keras import layers, ops

    targets, units = len(config.targets), plan.units
    missing = plan.segments * plan.segment - plan.n_steps
    if missing:  # the first segment begins with zeros
        hidden = layers.ZeroPadding1D((missing, 0))(hidden)
    readings, spread = _turned(_picked(hidden, scaling.own)), None
    if plan.normalization == "instance":
        square = ops.sum(ops.square(readings), axis=2, keepdims=True) / plan.n_steps
        spread = ops.sqrt(square) + LEAST_SPREAD
        readings = readings / spread
    cut = ops.reshape(readings, (-1, targets, plan.segments, plan.segment))
    steps = _each(cut, "btsw,wu->btsu", (targets, plan.segments, units), "tu", f"segment{member}")
    if plan.mix:
        beside = (-1, 1, plan.segments, plan.segment * len(config.features))
        others = layers.Dense(units, use_bias=False, name=f"others{member}")
        steps = added(others(ops.reshape(hidden, beside)), steps)
    steps = layers.Dropout(plan.dropout)(layers.ReLU()(steps))
    steps = _lstms(config, plan, ops.reshape(steps, (-1, plan.segments, units)), member)
    steps = ops.reshape(layers.Dropout(plan.dropout)(steps), (-1, targets, units))
    shape, start = (targets, config.horizon), _start(line)
    leads = _each(steps, "btu,tuh->bth", shape, "th", f"head{member}", start)
    if spread is not None:
        leads = leads * spread
    return _turned(leads)


def _each(
    values: Any,
    equation: str,
    shape: tuple[int, ...],
    bias: str,
    name: str,
    start: str = "glorot_uniform",
) -> Any:
    """Return an ``EinsumDense`` of values; for one target, whose axis is 1, a ``Dense``."""
    from keras import layers

    if values.shape[1] == 1:
        return layers.Dense(shape[-1], kernel_initializer=start, name=name)(values)
    return layers.EinsumDense(equation, shape, bias_axes=bias, kernel_initializer=start, name=name)(
        values
    )


def _straight(readings: Any, line: Line) -> Any:
    """Return what a line says of readings ``[b, T, n_steps]``: ``[b, T, horizon]``.

    As NLinear (Zeng et al. 2023) does. Training leaves it alone: it was fitted as well as can be.
    """
    from keras import layers

    own, _, horizon = line.weights.shape
    if own == 1:
        dense = layers.Dense(horizon, name=LINE, trainable=False)
    else:
        dense = layers.EinsumDense(
            "bts,tsh->bth", (own, horizon), bias_axes="th", name=LINE, trainable=False
        )
    leads = dense(readings)
    dense.set_weights(_weights_of(line))
    return leads


def _weights_of(line: Line) -> list[npt.NDArray[np.float32]]:
    """Return a line as the weights of its layer; one that all targets share has no axis of them."""
    weights = [line.weights.astype(np.float32), line.bias.astype(np.float32)]
    return [one[0] for one in weights] if len(line.weights) == 1 else weights


def _refinement(readings: Any, horizon: int) -> Any:
    """Return what is to be added to a line that all targets share, nothing at first.

    The readings are made small, which makes the learning rate of this layer as small beside that of
    the others: what ridge found is to be mended, not to be forgotten.
    """
    from keras import layers

    small = layers.Rescaling(REFINING)(readings)
    return layers.Dense(horizon, use_bias=False, kernel_initializer="zeros", name=REFINEMENT)(small)


def added(part: Any, whole: Any) -> Any:
    """Return the sum of two, of which the second has the sum's shape, ones aside the first too.

    In this order alone. Keras 3.15 on TensorFlow takes a second addend that has one axis above one
    for a bias, of the first's axis 1 if it is as long as that. So ``[b, h, 1] + [b, 1, 1]`` with as
    many windows as leads would give each window's value to a lead. An addend of the sum's own shape
    that has one axis above one is as long as the sum on that axis alone.
    """
    from keras import ops

    return ops.add(part, whole)


def _turned(values: Any) -> Any:
    """Return ``[b, m, n]`` as ``[b, n, m]``.

    Without a transpose where none is needed: tf2onnx 1.17 turns such a one into a reshape that
    keeps the first size of what comes before, and then leaves out what comes before.
    """
    from keras import layers

    _, rows, columns = values.shape
    if 1 in (rows, columns):
        return layers.Reshape((columns, rows))(values)
    return layers.Permute((2, 1))(values)


def _inward(plan: Plan, scaling: Scaling, window: Any) -> tuple[Any, Any]:
    """Return windows as a network sees them, and their newest values if those are subtracted."""
    import keras

    hidden, newest, kind = window, None, plan.numbers
    if scaling.base.any():
        newest = keras.layers.Cropping1D((plan.n_steps - 1, 0), name="newest", dtype=kind)(window)
        hidden = keras.layers.Subtract(name="centred", dtype=kind)([window, newest])
    if plan.normalization != "none":
        mean, scale = scaling.input_mean, scaling.input_scale
        hidden = _normalized(hidden, mean, scale, kind, invert=False)
    return hidden if kind == "float32" else keras.ops.cast(hidden, "float32"), newest


def _outward(plan: Plan, scaling: Scaling, forecast: Any, newest: Any) -> Any:
    """Undo ``_inward``: return a network's answers as forecasts."""
    import keras

    kind = plan.numbers
    if kind == "float64":
        forecast = keras.ops.cast(forecast, kind)
    if plan.normalization != "none":
        mean, scale = scaling.output_mean, scaling.output_scale
        forecast = _normalized(forecast, mean, scale, kind, invert=True)
    return forecast if newest is None else added(_picked(newest, scaling.base, kind), forecast)


def _bounded(config: FitConfig, forecast: Any, kind: Numbers) -> Any:
    """Return forecasts between the bounds of their targets; what is no number stays none."""
    from keras import ops

    least, most = limits_of(config.targets, config.bounds)
    if np.isfinite(least).any():
        forecast = ops.maximum(forecast, np.array(least, kind))
    if np.isfinite(most).any():
        forecast = ops.minimum(forecast, np.array(most, kind))
    return forecast


def _normalized(
    values: Any, mean: Floats, scale: Floats, kind: Numbers = "float32", *, invert: bool
) -> Any:
    """Return ``(values - mean) / scale``, or its inverse.

    By ``Rescaling``, as tf2onnx 1.17 loses the constants of Keras' ``Normalization``. The mean goes
    first, so that little is rounded where it is large beside the scale.
    """
    from keras.layers import Rescaling

    if invert:
        return Rescaling(scale.tolist(), offset=mean.tolist(), name="denormalized", dtype=kind)(
            values
        )
    if mean.any():
        values = Rescaling(1.0, offset=(-mean).tolist(), name="shifted", dtype=kind)(values)
    return Rescaling((1 / scale).tolist(), name="normalized", dtype=kind)(values)


def _picked(values: Any, pick: Floats, kind: Numbers = "float32") -> Any:
    """Return the feature that each target is, ``[b, steps, T]``; zeros for one that is none."""
    import keras

    if pick.shape[0] == pick.shape[1] and (pick == np.eye(len(pick))).all():
        return values
    layer = keras.layers.Dense(pick.shape[1], use_bias=False, trainable=False, dtype=kind)
    picked = layer(values)
    layer.set_weights([pick.astype(kind)])
    return picked
