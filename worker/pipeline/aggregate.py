"""Several readings of one slot -> one value of each feature, for trainer and worker alike; pure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import LARGEST_FLOAT32, Rule
from tidecast.worker.pipeline.grid import Twice

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
EMPTY: dict[Rule, float] = {"min": np.inf, "max": -np.inf}
"""What the readings before the first are, for a rule; 0 for others."""


@dataclass(slots=True)
class Cells:
    """What is known of slots that are still open, for each of their features ``[k, F]``.

    ``at`` and ``value`` are the latest reading's, ``count`` how many there were. ``folded`` holds
    all but the latest, so that one of the same time can still take its place.
    """

    at: Ints
    value: Floats
    count: npt.NDArray[np.int32]
    folded: Doubles

    @property
    def known(self) -> Bools:
        """Tell which cells have a reading."""
        known: Bools = self.count > 0
        return known

    def some(self, places: Ints) -> "Cells":
        """Return a copy of some slots' cells."""
        return Cells(*(getattr(self, name)[places] for name in NAMES))

    def put(self, places: Ints, others: "Cells") -> None:
        """Give slots, each once, others' cells."""
        for name in NAMES:
            getattr(self, name)[places] = getattr(others, name)


NAMES = tuple(field.name for field in fields(Cells))


class Rules:
    """How each feature's readings of one slot become one value.

    ``mean`` is of the readings and not of time; sums are of 64 bits.

    Args:
        rules: one for each feature.
        twice: which of two readings of one time counts, if their values differ.
    """

    def __init__(self, rules: Sequence[Rule], twice: Twice = "last") -> None:
        self._rules = list(enumerate(rules))
        self._last = np.array([rule == "last" for rule in rules])
        self._begins = np.array([EMPTY.get(rule, 0.0) for rule in rules])
        self._twice = twice

    def empty(self, slots: int) -> Cells:
        """Return the cells of slots that no reading has come to."""
        shape = slots, len(self._rules)
        return Cells(
            np.zeros(shape, np.int64),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.int32),
            np.tile(self._begins, (slots, 1)),
        )

    def take(self, cells: Cells, times: Ints, values: Floats) -> Bools:
        """Put a reading into each slot; tell which of them say anything new ``[k]``.

        Of one time, the same value again is nothing new, and another one takes the first's place,
        or does not (``twice``). What is ``last`` does not look at readings before that.

        Args:
            cells: of the slots; written over.
            times: milliseconds since 1970 ``[k]``.
            values: ``[k, F]``, NaN where a reading lacks a feature.
        """
        there, known, when = ~np.isnan(values), cells.known, times[:, None]
        newer = there & (~known | (when > cells.at))
        older = there & known & (when < cells.at) & ~self._last
        other = there & known & (when == cells.at) & (values != cells.value)
        if self._twice == "first":
            other[:] = False
        self._fold(cells.folded, cells.value, newer & known)
        self._fold(cells.folded, values, older)
        changed = newer | other
        cells.value[changed] = values[changed]
        cells.at[newer] = np.broadcast_to(when, newer.shape)[newer]
        cells.count += newer | older
        told: Bools = (changed | older).any(axis=1)
        return told

    def _fold(self, folded: Doubles, values: Floats, some: Bools) -> None:
        for place, rule in self._rules:
            mine = some[:, place]
            if rule in ("last", "count") or not mine.any():
                continue
            before, now = folded[mine, place], values[mine, place].astype(np.float64)
            if rule == "min":
                folded[mine, place] = np.minimum(before, now)
            elif rule == "max":
                folded[mine, place] = np.maximum(before, now)
            else:
                folded[mine, place] = before + now

    def settle(self, cells: Cells) -> Floats:
        """Return each slot's values ``[k, F]``.

        NaN where no reading has a feature; what is too large for 32 bits is as large as can be.
        """
        values = cells.value.astype(np.float64)
        for place, rule in self._rules:
            latest, folded = values[:, place], cells.folded[:, place]
            count = cells.count[:, place]
            if rule == "min":
                values[:, place] = np.minimum(folded, latest)
            elif rule == "max":
                values[:, place] = np.maximum(folded, latest)
            elif rule == "sum":
                values[:, place] = folded + latest
            elif rule == "mean":
                values[:, place] = (folded + latest) / np.maximum(count, 1)
            elif rule == "count":
                values[:, place] = count
        settled = np.clip(values, -LARGEST_FLOAT32, LARGEST_FLOAT32).astype(np.float32)
        settled[~cells.known] = np.nan
        return settled
