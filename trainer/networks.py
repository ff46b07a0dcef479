"""Keras networks with their normalisation inside, made of built-in layers only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.config import FitConfig
from trainer.dataset import Windows
from worker.contract import INPUT_NAME

Floats = npt.NDArray[np.float64]

SAMPLE = 20_000


@dataclass(frozen=True)
class Scaling:
    """What normalisation subtracts and divides by.

    The inputs' mean and scale ``[F]`` apply after the newest value is subtracted, if it is; the
    outputs' ``[T]`` likewise. ``base`` ``[F, T]`` picks, under ``last``, the feature whose newest
    value is added back to each target: none for a target that is no feature.
    """

    input_mean: Floats
    input_scale: Floats
    output_mean: Floats
    output_scale: Floats
    base: Floats


def measure_scaling(config: FitConfig, windows: Windows) -> Scaling:
    """Measure the normalisation on (at most ``SAMPLE`` evenly spread) training windows."""
    starts = windows.starts["train"]
    chosen = starts[np.linspace(0, len(starts) - 1, min(SAMPLE, len(starts))).astype(np.int64)]
    inputs, outputs = (part.astype(np.float64) for part in windows.gather(chosen))
    base = np.array([[float(f == t) for t in config.targets] for f in config.features], np.float64)
    if config.normalization == "none":
        return Scaling(
            np.zeros(len(config.features)),
            np.ones(len(config.features)),
            np.zeros(len(config.targets)),
            np.ones(len(config.targets)),
            base * 0,
        )
    if config.normalization == "last":
        newest = inputs[:, -1:, :]
        virtual = base.sum(axis=0) == 0
        changes = outputs - newest @ base
        mean = np.where(virtual, outputs.mean(axis=(0, 1)), 0.0)
        return Scaling(
            np.zeros(len(config.features)),
            _floored(np.sqrt(((inputs - newest) ** 2).mean(axis=(0, 1)))),
            mean,
            _floored(np.sqrt(((changes - mean) ** 2).mean(axis=(0, 1)))),
            base,
        )
    return Scaling(
        inputs.mean(axis=(0, 1)),
        _floored(inputs.std(axis=(0, 1))),
        outputs.mean(axis=(0, 1)),
        _floored(outputs.std(axis=(0, 1))),
        base * 0,
    )


def _floored(scale: Floats) -> Floats:
    """Replace the scale of what never changes by one."""
    return np.where(scale > 1e-9, scale, 1.0)


def build_network(config: FitConfig, scaling: Scaling) -> Any:
    """Return an untrained ``keras.Model`` from ``window`` to ``forecast`` ``[b, horizon, T]``."""
    import keras

    layers = keras.layers
    features, targets = len(config.features), len(config.targets)
    window = keras.Input((config.n_steps, features), name=INPUT_NAME)
    hidden = window
    newest = None
    if config.normalization == "last":
        newest = layers.Cropping1D((config.n_steps - 1, 0), name="newest")(window)
        hidden = layers.Subtract(name="centred")([window, newest])
    if config.normalization != "none":
        hidden = _normalized(hidden, scaling.input_mean, scaling.input_scale, invert=False)
    for number in range(config.layers):
        hidden = layers.LSTM(
            config.units,
            activation=config.activation,
            return_sequences=number < config.layers - 1,
            name=f"lstm_{number + 1}",
        )(hidden)
    flat = layers.Dense(config.horizon * targets, name="head")(hidden)
    forecast = layers.Reshape((config.horizon, targets), name="leads")(flat)
    if config.normalization != "none":
        forecast = _normalized(forecast, scaling.output_mean, scaling.output_scale, invert=True)
    if newest is not None:
        forecast = layers.Add(name="restored")([forecast, _base(newest, scaling.base)])
    expected = (None, config.horizon, targets)
    if tuple(forecast.shape) != expected:
        raise AssertionError(f"the network answers {forecast.shape}, not {expected}")
    return keras.Model(window, forecast, name="tidecast")


def _normalized(values: Any, mean: Floats, scale: Floats, *, invert: bool) -> Any:
    """Return ``(values - mean) / scale``, or its inverse."""
    import keras

    name = "denormalized" if invert else "normalized"
    if not mean.any():
        # tf2onnx 1.17 loses a constant of zeros that TensorFlow moves across a subtraction.
        factor = scale if invert else 1 / scale
        return keras.layers.Rescaling(factor.tolist(), name=name)(values)
    return keras.layers.Normalization(
        mean=mean.tolist(), variance=(scale**2).tolist(), invert=invert, name=name
    )(values)


def _base(newest: Any, base: Floats) -> Any:
    """Return the newest value of each target's feature, ``[b, 1, T]``."""
    import keras

    if base.shape[0] == base.shape[1] and (base == np.eye(len(base))).all():
        return newest
    pick = keras.layers.Dense(base.shape[1], use_bias=False, trainable=False, name="picked")
    picked = pick(newest)
    pick.set_weights([base.astype(np.float32)])
    return picked
