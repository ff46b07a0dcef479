"""What normalisation subtracts and divides by, measured on the training windows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidecast.trainer.config import Normalization
from tidecast.trainer.dataset import Ints, Windows

Floats = npt.NDArray[np.float64]

SAMPLE = 20_000
ROUNDING = 1e-12
"""Of the largest value; what spreads less does not change."""
LARGEST_SAMPLE = 20_000_000
"""Readings that normalisation is measured on, at most."""


@dataclass(frozen=True)
class Scaling:
    """What normalisation subtracts and divides by.

    The inputs' mean and scale ``[F]`` apply after the newest value is subtracted, if it is; the
    outputs' ``[T]`` likewise. ``own`` ``[F, T]`` picks the feature that each target is: none for a
    virtual sensor. ``base`` ``[F, T]`` picks the feature whose newest value is added back to each
    target: ``own`` where the newest value is subtracted, else nothing. ``unit`` ``[T]`` is the
    targets' standard deviation, in which errors are measured.
    """

    input_mean: Floats
    input_scale: Floats
    output_mean: Floats
    output_scale: Floats
    own: Floats
    base: Floats
    unit: Floats

    @property
    def mine(self) -> Ints:
        """The places of the features that are targets."""
        return np.flatnonzero(self.own.any(axis=1))

    def inward(self, inputs: npt.ArrayLike) -> Floats:
        """Return windows ``[k, n_steps, F]`` as a network sees them."""
        values = np.asarray(inputs, np.float64)
        if self.base.any():
            values = values - values[:, -1:, :]
        return (values - self.input_mean) / self.input_scale

    def outward(self, inputs: npt.ArrayLike, outputs: npt.ArrayLike) -> Floats:
        """Return what followed windows, ``[k, horizon, T]``, as a network is to answer it."""
        newest = np.asarray(inputs, np.float64)[:, -1:, :]
        return (np.asarray(outputs, np.float64) - newest @ self.base - self.output_mean) / (
            self.output_scale
        )

    def restored(self, inputs: npt.ArrayLike, answers: npt.ArrayLike) -> Floats:
        """Undo ``outward``: return a network's answers ``[k, horizon, T]`` as forecasts."""
        newest = np.asarray(inputs, np.float64)[:, -1:, :]
        return np.asarray(answers, np.float64) * self.output_scale + (
            self.output_mean + newest @ self.base
        )


def measure_scaling(
    windows: Windows,
    features: tuple[str, ...],
    targets: tuple[str, ...],
    normalization: Normalization = "last",
    *,
    shared: bool = True,
) -> Scaling:
    """Measure the normalisation on (at most ``SAMPLE`` evenly spread) training windows.

    ``shared`` gives a feature and the target that it is one scale, as what is shared by several
    targets wants it.
    """
    readings = windows.n_steps * len(features) + windows.horizon * len(targets)
    sample = spread(windows, min(SAMPLE, max(100, LARGEST_SAMPLE // readings)))
    inputs, outputs = (part.astype(np.float64) for part in windows.gather(sample))
    own = np.array([[float(f == t) for t in targets] for f in features], np.float64)
    sizes = [np.abs(part).max(axis=(0, 1), initial=0.0) for part in (inputs, outputs)]
    unit = _floored(outputs.std(axis=(0, 1)), sizes[1])
    if normalization == "none":
        ones = np.ones(len(features)), np.ones(len(targets))
        return Scaling(ones[0] * 0, ones[0], ones[1] * 0, ones[1], own, own * 0, unit)
    virtual = own.sum(axis=0) == 0
    if normalization == "standard" or virtual.all():  # no newest value to subtract
        mean, scale = inputs.mean(axis=(0, 1)), _floored(inputs.std(axis=(0, 1)), sizes[0])
        out_mean, out_scale = outputs.mean(axis=(0, 1)), unit
        base = own * 0
    else:
        newest = inputs[:, -1:, :]
        changes = outputs - newest @ own
        mean = np.zeros(len(features))
        scale = _floored(np.sqrt(((inputs - newest) ** 2).mean(axis=(0, 1))), sizes[0])
        out_mean = np.where(virtual, outputs.mean(axis=(0, 1)), 0.0)
        out_scale = _floored(np.sqrt(((changes - out_mean) ** 2).mean(axis=(0, 1))), sizes[1])
        base = own
    if shared:
        out_mean = np.where(virtual, out_mean, mean @ own)
        out_scale = np.where(virtual, out_scale, scale @ own)
    return Scaling(mean, scale, out_mean, out_scale, own, base, unit)


def spread(windows: Windows, most: int) -> Ints:
    """Return the first rows of training windows, evenly spread, ``most`` at most."""
    starts = windows.starts["train"]
    return starts[np.linspace(0, len(starts) - 1, min(most, len(starts))).astype(np.int64)]


def _floored(scale: Floats, size: Floats) -> Floats:
    """Replace the scale of what never changes, but for rounding beside its size, by one."""
    return np.where(scale > ROUNDING * size, scale, 1.0)
