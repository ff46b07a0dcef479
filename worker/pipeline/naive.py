"""What can be forecast without a model: the newest value, or those of one season before; pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import ModelSpec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Naive:
    """The naive forecasts of a model's targets.

    Args:
        targets: where each target is among the features ``[T]``.
        horizon: leads.
        season: slots; 1: none is known, or a window does not hold one.
    """

    targets: Ints
    horizon: int
    season: int

    def seasonal(self, runs: Ints) -> npt.NDArray[np.bool_]:
        """Tell which windows hold a season, by the lengths of their runs ``[k]``."""
        return (runs >= self.season) & (self.season > 1)

    def newest(self, windows: Floats) -> Floats:
        """Return the newest value of each target for each lead, ``[k, horizon, T]``."""
        return np.repeat(windows[:, -1:, self.targets], self.horizon, axis=1)

    def season_before(self, windows: Floats) -> Floats:
        """Return the values of one season before each lead, ``[k, horizon, T]``."""
        leads = np.arange(self.horizon) % self.season
        slots = windows.shape[1] - self.season + leads
        chosen: Floats = windows[:, slots][:, :, self.targets]
        return chosen


def naive_of(spec: ModelSpec) -> Naive | None:
    """Return how to forecast without a model, None if some target is no feature."""
    if not set(spec.targets) <= set(spec.features):
        return None
    places = np.array([spec.features.index(target) for target in spec.targets], np.int64)
    season = spec.training.season if spec.training.season <= spec.n_steps else 1
    return Naive(places, spec.horizon, season)
