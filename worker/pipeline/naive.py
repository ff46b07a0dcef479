"""What can be forecast without a model: the newest value, or those of one season before; pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import ModelSpec

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Naive:
    """The naive forecasts of a model's targets.

    Args:
        targets: where each target is among the features ``[T]``.
        horizon: leads.
        season: slots; 1: none is known, or a window does not hold one.
        least: what no forecast of a target falls below ``[T]``.
        most: what none exceeds ``[T]``.
    """

    targets: Ints
    horizon: int
    season: int
    least: Doubles
    most: Doubles

    def seasonal(self, runs: Ints) -> npt.NDArray[np.bool_]:
        """Tell which windows hold a season, by the lengths of their runs ``[k]``."""
        return (runs >= self.season) & (self.season > 1)

    def newest(self, windows: Floats) -> Floats:
        """Return the newest value of each target for each lead, ``[k, horizon, T]``."""
        return self._within(np.repeat(windows[:, -1:, self.targets], self.horizon, axis=1))

    def season_before(self, windows: Floats) -> Floats:
        """Return the values of one season before each lead, ``[k, horizon, T]``."""
        leads = np.arange(self.horizon) % self.season
        slots = windows.shape[1] - self.season + leads
        return self._within(windows[:, slots][:, :, self.targets])

    def _within(self, forecasts: Floats) -> Floats:
        return np.clip(forecasts, self.least, self.most).astype(forecasts.dtype, copy=False)


def naive_of(spec: ModelSpec) -> Naive | None:
    """Return how to forecast without a model, None if some target is no feature."""
    if not set(spec.targets) <= set(spec.features):
        return None
    places = np.array([spec.features.index(target) for target in spec.targets], np.int64)
    season = spec.training.season if spec.training.season <= spec.n_steps else 1
    least, most = spec.limits()
    return Naive(places, spec.horizon, season, np.array(least), np.array(most))
