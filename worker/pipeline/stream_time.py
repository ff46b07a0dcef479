"""How far a partition's readings have come, by their own times, and which run too far ahead; pure.

Stream time is the latest time that a partition's readings have had. It goes by what the stream
holds and by nothing else, so a replay decides the same.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.cells import BadTimeError, time_of_id
from tidecast.worker.pipeline.epoch import FIRST_MS

Ints = npt.NDArray[np.int64]
NEVER = -1
PERIODS = 8
"""Into how many periods the time after which a series is forgotten is cut."""


class StreamTime:
    """The latest time of a partition's readings, and the bound of how far it may leap.

    A reading whose time is more than ``max_skew`` ahead of both its entry's own and the latest one
    before it is refused and counts for nothing: it would make all later ones of its series late.
    Simulated and accelerated time goes on step by step. Ids that are no clock's times set no bound.

    Args:
        max_skew: milliseconds; infinity: nothing is refused.
    """

    def __init__(self, max_skew: float = np.inf) -> None:
        self.max_skew = max_skew
        self.latest = NEVER

    def take(self, times: Ints, ids: Sequence[bytes]) -> Ints:
        """Move on by readings in stream order; return the places of those too far ahead.

        Args:
            times: milliseconds since 1970 ``[k]``.
            ids: the entries that they came in.
        """
        if not len(times):
            return np.zeros(0, np.int64)
        high = int(times.max())
        # Ids ascend, so what is not ahead of the first is not ahead of its own, unless that one is
        # no clock's and others are.
        first = _bound(ids[0])
        if first == np.inf and _bound(ids[-1]) != np.inf:
            first = NEVER
        if high <= max(self.latest, first) + self.max_skew:
            self.latest = max(self.latest, high)
            return np.zeros(0, np.int64)
        return self._take_each(times, ids)

    def _take_each(self, times: Ints, ids: Sequence[bytes]) -> Ints:
        bounds = dict.fromkeys(ids, np.inf)
        bounds = {entry_id: _bound(entry_id) + self.max_skew for entry_id in bounds}
        ahead = np.flatnonzero(times > np.array([bounds[entry_id] for entry_id in ids]))
        rest = times.copy()
        rest[ahead] = NEVER
        latest_before = np.maximum.accumulate(np.concatenate([[self.latest], rest]))
        refused, leapt = [], NEVER
        for place in ahead.tolist():
            time = int(times[place])
            if time > max(int(latest_before[place]), leapt) + self.max_skew:
                refused.append(place)
            else:
                leapt = max(leapt, time)
        self.latest = max(int(latest_before[-1]), leapt)
        return np.array(refused, np.int64)


def _bound(entry_id: bytes) -> float:
    """Return the time of an entry's id, infinity where that is no clock's."""
    try:
        time = time_of_id(entry_id)
    except BadTimeError:
        return np.inf
    return time if time >= FIRST_MS else np.inf


class Silence:
    """Tells which series have been quiet for so long, by stream time, that they are forgotten.

    Stream time is cut into periods of an eighth of ``ttl``. At the reading that begins one, those
    series are forgotten of which no reading came for ``ttl`` before that; so a series goes at the
    latest after nine eighths of it, at the same reading however the stream is cut into batches.

    Args:
        ttl: milliseconds; None: nothing is forgotten.
    """

    def __init__(self, ttl: float | None) -> None:
        self._ttl = ttl
        self._period = max(1, int((ttl or 0) / PERIODS))
        self.marks: list[tuple[int, int]] = []
        """Stream times and numbers: readings of a lower number came before that time."""

    def parts(self, times: Ints, latest: int) -> list[tuple[int, int, int | None]]:
        """Cut readings where a period begins: ``(first, beyond, when)``, None where none does.

        Args:
            times: milliseconds since 1970 ``[k]``, at least one.
            latest: stream time before them.
        """
        if self._ttl is None:
            return [(0, len(times), None)]
        periods = np.maximum(np.maximum.accumulate(times), latest) // self._period
        before = np.concatenate([[latest // self._period], periods[:-1]])
        cuts = np.flatnonzero(periods != before).tolist()
        edges = sorted({0, *cuts, len(times)})
        begun = {cut: int(periods[cut]) * self._period for cut in cuts}
        return [(a, b, begun.get(a)) for a, b in pairwise(edges)]

    def begin(self, when: int, latest: int, number: int) -> int:
        """Begin a period; return the number before which a series' last reading is too old.

        Args:
            when: it begins, by stream time.
            latest: stream time until now.
            number: of the reading that begins it.
        """
        self.marks.append(((latest // self._period + 1) * self._period, number))
        old = [mark for mark in self.marks if mark[0] <= when - (self._ttl or 0)]
        self.marks = self.marks[len(old) :]
        return old[-1][1] if old else 0
