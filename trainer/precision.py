"""Whether 32-bit numbers tell a record's values apart finely enough to forecast them; pure."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tidecast.trainer.figures import number
from tidecast.worker.contract import Numbers

Doubles = npt.NDArray[np.float64]

TOO_COARSE = 1e-3
"""Of the usual change from row to row: 32-bit numbers that lie further apart lose too much."""
LEAST_CHANGE = 1e-12
"""Of the values; what changes less is rounding of 64 bits."""
FEWEST_CHANGES = 3


def numbers_of(parts: Iterable[Doubles]) -> Numbers:
    """Return what windows of series ``[rows, columns]`` each are to be made of."""
    return "float64" if any(_is_coarse(*_measure(part)).any() for part in parts) else "float32"


def lost(names: Sequence[str], parts: Iterable[Doubles]) -> str:
    """Say which of some columns 32-bit numbers are too coarse for, with figures; empty if none."""
    for values in parts:
        level, change = _measure(values)
        coarse = np.flatnonzero(_is_coarse(level, change))
        if len(coarse):
            place = int(coarse[0])
            apart = float(np.spacing(np.float32(level[place])))
            return (
                f"{names[place]} changes by {number(float(change[place]))} from row to row at "
                f"{number(float(level[place]))}, where 32-bit numbers lie {number(apart)} apart"
            )
    return ""


def _measure(values: Doubles) -> tuple[Doubles, Doubles]:
    """Return the usual size of each column, and its usual change ``[columns]``; 0 if unknown."""
    level, change = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for place, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        if not len(known):
            continue
        level[place] = np.median(np.abs(known))
        moves = np.abs(np.diff(known))
        moves = moves[moves > LEAST_CHANGE * level[place]]
        if len(moves) >= FEWEST_CHANGES:
            change[place] = np.median(moves)
    return level, change


def _is_coarse(level: Doubles, change: Doubles) -> npt.NDArray[np.bool_]:
    """Tell where 32-bit numbers lie too far apart ``[columns]``."""
    apart = np.spacing(level.astype(np.float32)).astype(np.float64)
    return np.asarray((change > 0) & (apart > TOO_COARSE * change))
