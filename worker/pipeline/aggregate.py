"""Several readings of one slot -> one value of each feature, for trainer and worker alike; pure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import LARGEST_FLOAT32, Rule
from tidecast.worker.pipeline.grid import Twice

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
EMPTY: dict[Rule, float] = {"min": np.inf, "max": -np.inf}
"""What the readings before the first are, for a rule; 0 for others."""
FOLDS: dict[Rule, np.ufunc] = {"min": np.minimum, "max": np.maximum, "sum": np.add, "mean": np.add}
"""How two values become one, for rules that look at all of them."""
KEPT = 16
"""Readings of a feature that are known one by one while their slot is open, where all count: the
latest ones, so that one that comes again is known among them."""


def kept_of(rules: Sequence[Rule]) -> int:
    """Return how many readings of a feature in an open slot are known one by one."""
    return 1 if set(rules) <= {"last"} else KEPT


@dataclass(slots=True)
class Cells:
    """What is known of slots that are still open, for each of their features ``[k, F]``.

    ``at`` and ``value`` ``[k, F, kept]`` are those of its latest readings in the order of their
    times, the latest last, ``count`` how many there were in all. ``folded`` holds all before these,
    so that another reading of the same time can still take the place of one of them.
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

    @property
    def held(self) -> Bools:
        """Tell where ``at`` and ``value`` hold a reading."""
        kept = self.at.shape[2]
        held: Bools = np.arange(kept) >= kept - self.count[:, :, None]
        return held

    @property
    def latest(self) -> Ints:
        """Return the time of the latest reading of each slot ``[k]``."""
        latest: Ints = self.at[:, :, -1].max(axis=1)
        return latest

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
        kept: readings of a feature that are known one by one; for those that come in the order of
            their times one is as good as many.
        values: of which dtype they are.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        twice: Twice = "last",
        kept: int = 1,
        values: npt.DTypeLike = "<f4",
    ) -> None:
        self._values = np.dtype(values)
        self._rules = list(enumerate(rules))
        self._last = np.array([rule == "last" for rule in rules])
        self._begins = np.array([EMPTY.get(rule, 0.0) for rule in rules])
        self._twice, self._kept = twice, kept

    def empty(self, slots: int) -> Cells:
        """Return the cells of slots that no reading has come to."""
        shape = slots, len(self._rules)
        return Cells(
            np.zeros((*shape, self._kept), np.int64),
            np.zeros((*shape, self._kept), self._values),
            np.zeros(shape, np.int32),
            np.tile(self._begins, (slots, 1)),
        )

    def take(self, cells: Cells, times: Ints, values: Floats) -> Bools:
        """Put a reading into each slot; tell which of them say anything new ``[k]``.

        Of a time that is still known, the same value again is nothing new, and another one takes
        the first's place, or does not (``twice``). What is ``last`` does not look at readings
        before that.

        Args:
            cells: of the slots; written over.
            times: milliseconds since 1970 ``[k]``.
            values: ``[k, F]``, NaN where a reading lacks a feature.
        """
        there, known, when = ~np.isnan(values), cells.known, times[:, None]
        latest = cells.at[:, :, -1]
        newer = there & (~known | (when > latest))
        if not (there & ~newer).any():  # by far the most usual readings
            self._append(cells, newer, np.broadcast_to(when, there.shape), values)
            return np.asarray(newer.any(axis=1))
        same = cells.held & (cells.at == when[:, :, None])
        same[:, self._last, :-1] = False
        older = there & known & (when < latest) & ~self._last & ~same.any(axis=2)
        other = same & there[:, :, None] & (cells.value != values[:, :, None])
        if self._twice == "first":
            other[:] = False
        cells.value = np.where(other, values[:, :, None], cells.value)
        self._insert(cells, newer | older, np.broadcast_to(when, there.shape), values)
        told: Bools = (newer | older | other.any(axis=2)).any(axis=1)
        return told

    def _append(self, cells: Cells, some: Bools, times: Ints, values: Floats) -> None:
        """Put readings of some cells ``[k, F]`` behind all of theirs, and fold what is too many."""
        self._fold(cells.folded, cells.value[:, :, 0], some & (cells.count >= self._kept))
        cells.count += some
        at = np.concatenate([cells.at[:, :, 1:], times[:, :, None]], axis=2)
        value = np.concatenate([cells.value[:, :, 1:], values[:, :, None]], axis=2)
        if not some.all():
            at = np.where(some[:, :, None], at, cells.at)
            value = np.where(some[:, :, None], value, cells.value)
        cells.at, cells.value = at, value

    def _insert(self, cells: Cells, some: Bools, times: Ints, values: Floats) -> None:
        """Put readings of some cells ``[k, F]`` among the latest, and fold what is no longer."""
        at, value = cells.at[some], cells.value[some]
        later = (cells.held[some] & (at > times[some][:, None])).sum(axis=1)
        place, places = self._kept - 1 - later, np.arange(self._kept)
        source = places + (places < place[:, None])  # what is before it moves to the left
        falls = np.array(values)
        falls[some] = np.where(place >= 0, value[:, 0], values[some])
        full = some & (cells.count >= self._kept)
        at, value = np.take_along_axis(at, source, 1), np.take_along_axis(value, source, 1)
        mine = np.flatnonzero(place >= 0)
        at[mine, place[mine]], value[mine, place[mine]] = times[some][mine], values[some][mine]
        cells.at[some], cells.value[some] = at, value
        cells.count += some
        self._fold(cells.folded, falls, full)

    def _fold(self, folded: Doubles, values: Floats, some: Bools) -> None:
        for place, rule in self._rules:
            mine = some[:, place]
            if rule in ("last", "count") or not mine.any():
                continue
            before, now = folded[mine, place], values[mine, place].astype(np.float64)
            folded[mine, place] = FOLDS[rule](before, now)

    def settle(self, cells: Cells) -> Floats:
        """Return each slot's values ``[k, F]``.

        NaN where no reading has a feature; what is too large for 32 bits is as large as can be.
        """
        values, held = cells.value[:, :, -1].astype(np.float64), cells.held
        for place, rule in self._rules:
            if rule == "count":
                values[:, place] = cells.count[:, place]
            if rule not in FOLDS:
                continue
            each = np.where(held[:, place], cells.value[:, place], self._begins[place])
            each = np.concatenate([cells.folded[:, place, None], each], axis=1)
            # One after the other, as they would have been folded, so that sums are equal.
            values[:, place] = FOLDS[rule].accumulate(each, axis=1)[:, -1]
            if rule == "mean":
                values[:, place] /= np.maximum(cells.count[:, place], 1)
        settled = np.clip(values, -LARGEST_FLOAT32, LARGEST_FLOAT32).astype(self._values)
        settled[~cells.known] = np.nan
        return settled
