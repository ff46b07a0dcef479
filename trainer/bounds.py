"""Bounds that no forecast passes: as they are told, and what of the data lies beyond; pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.errors import ConfigError
from tidecast.trainer.figures import number
from tidecast.trainer.series import History
from tidecast.worker.contract import Bounds, limits_of

Floats = npt.NDArray[np.floating[Any]]


def bounds_of(
    at_least: Sequence[str], at_most: Sequence[str], targets: Sequence[str]
) -> dict[str, Bounds]:
    """Return the bounds of those targets that have some.

    Args:
        at_least: what no forecast falls below: ``0`` for all targets, ``temp=0`` for one.
        at_most: what none exceeds, likewise.
        targets: that there are.

    Raises:
        ConfigError: no number, or no target of that name.
    """
    low = _numbers("--at-least", at_least, targets)
    high = _numbers("--at-most", at_most, targets)
    return {
        target: (low.get(target), high.get(target))
        for target in targets
        if target in low or target in high
    }


def within(forecasts: Floats, targets: Sequence[str], bounds: Mapping[str, Bounds]) -> Floats:
    """Return forecasts ``[k, horizon, T]`` as near as the bounds of their targets allow."""
    if not bounds:
        return forecasts
    least, most = limits_of(targets, bounds)
    return np.clip(forecasts, np.array(least), np.array(most))


def beyond(history: History, bounds: Mapping[str, Bounds]) -> Iterator[str]:
    """Say for each target which of its values lie beyond its bounds."""
    for name, (least, most) in bounds.items():
        values = history.select([name])
        for limit, lie, edge in (
            (least, values < np.float64(-np.inf if least is None else least), np.nanmin),
            (most, values > np.float64(np.inf if most is None else most), np.nanmax),
        ):
            if limit is not None and lie.any():
                yield (
                    f"{int(lie.sum()):,} of {len(values):,} values of {name} lie beyond "
                    f"{number(limit)}, as far as {number(float(edge(values)))}; forecasts will not"
                )


def _numbers(option: str, told: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in told:
        name, _, figure = text.rpartition("=")
        try:
            limit = float(figure)
        except ValueError:
            limit = np.nan
        if not np.isfinite(limit):
            raise ConfigError(
                f"{option} {text!r}: {figure!r} is no number; write {option} 0 for all targets or "
                f"{option} {targets[0]}=0 for one"
            )
        if name and name.strip() not in targets:
            raise ConfigError(
                f"{option} {text!r}: {name!r} is no target; those are {', '.join(targets)}"
            )
        found |= {name.strip(): limit} if name else dict.fromkeys(targets, limit)
    return found
