"""How far a partition's readings have come, by their own times, and which run too far ahead; pure.

Stream time is the latest time that a partition's readings have had. It goes by what the stream
holds and by nothing else, so a replay decides the same.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.cells import BadTimeError, time_of_id
from tidecast.worker.pipeline.epoch import FIRST_MS

Ints = npt.NDArray[np.int64]
NEVER = -1


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
        # Ids ascend, so what is not ahead of the first is not ahead of its own.
        if high <= max(self.latest, _bound(ids[0])) + self.max_skew:
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
