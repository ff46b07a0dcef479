"""Entries in, one commit out: decode -> windows -> model -> records; pure, no IO."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.records import RecordWriter
from tidecast.worker.pipeline.registry import Registry
from tidecast.worker.pipeline.roster import UNSERVED
from tidecast.worker.pipeline.series import HeldSeries
from tidecast.worker.pipeline.wire import Entry, Kind, Reject

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Pulse = Callable[[], object]
LARGEST_COMMIT = 1000
"""Readings in one commit, about: while the server writes it, it does nothing else, and many more no
longer fit its processor's cache."""
LARGEST_COMMIT_BYTES = 8_000_000
"""Bytes of forecasts in one commit, about."""
LARGEST_DECODE = 500_000
"""Bytes of entries that are decoded at a time, about."""


@dataclass(slots=True)
class Commit:
    """What one micro-batch writes, and what it was made of.

    ``oldest`` and ``newest`` are the ids of the first and last of its ``entries``, ``series[i]``
    and ``records[i]`` the i-th forecast in stream order; ``started`` names series that forecast for
    the first time; ``evicted`` counts series that were forgotten to make room; ``inference`` holds
    the seconds that models took, by their name.
    """

    oldest: str
    newest: str
    entries: int
    readings: int
    rejects: list[Reject]
    series: list[bytes] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    unserved: int = 0
    evicted: int = 0
    inference: list[tuple[str, float]] = field(default_factory=list)


class Pipeline:
    """The windows and models behind one input stream; ``step`` is all it does.

    Args:
        stream: the input stream's name.
        registry: the models.
        decoder: reads the features that the registry's models want.
        max_series: how many series have a window at most; beyond, the one longest without a
            reading is forgotten.
        clock: seconds, to measure how long models take.
    """

    def __init__(
        self,
        registry: Registry,
        decoder: Decoder,
        max_series: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._decoder = decoder
        specs = [model.spec for model in registry.models]
        self.held = HeldSeries(specs, registry.match, max_series)
        """The series that have a window, and all that is kept of them."""
        self._writers = [RecordWriter(spec) for spec in specs]
        widest = max(s.horizon * len(s.targets) for s in specs)
        self._largest = min(LARGEST_COMMIT, LARGEST_COMMIT_BYTES // (200 + 14 * widest))

    def step(self, entries: Sequence[Entry], pulse: Pulse = lambda: None) -> Iterator[Commit]:
        """Move the windows forward by ``entries`` and yield the forecasts they give.

        That is one commit; several where entries hold more than ``LARGEST_DECODE`` bytes or more
        readings than ``LARGEST_COMMIT``, or make more than ``LARGEST_COMMIT_BYTES``, as the server
        does nothing else while it writes one. The windows have moved by what was yielded.

        Args:
            entries: in stream order.
            pulse: called whenever a part of the work is done, none of which takes long.
        """
        for readings, commit in self._decode(entries):
            yield self._forecast(readings, commit, pulse)

    def replay(self, entries: Sequence[Entry]) -> Iterator[int]:
        """Move the windows forward by entries whose forecasts are already committed.

        Yields how many entries each part of the work took, none of which takes long.
        """
        for readings, commit in self._decode(entries):
            yield self._forecast(readings, commit, None).entries

    def _decode(self, entries: Sequence[Entry]) -> Iterator[tuple[Readings, Commit]]:
        """Yield the readings of each commit that ``entries`` make, and what it holds so far."""
        for part, readings, rejects in self._decoder.decode_in_parts(entries, LARGEST_DECODE):
            if len(readings) <= self._largest:
                ids = part[0][0].decode(), part[-1][0].decode()
                yield readings, Commit(*ids, len(part), len(readings), rejects)
                continue
            for low, high, first, beyond in _pieces(readings.places, len(part), self._largest):
                own = {entry_id for entry_id, _ in part[low:high]} if rejects else ()
                mine = [reject for reject in rejects if reject.entry in own]
                ids = part[low][0].decode(), part[high - 1][0].decode()
                commit = Commit(*ids, high - low, beyond - first, mine)
                yield readings.part(first, beyond), commit

    def _forecast(self, readings: Readings, commit: Commit, pulse: Pulse | None) -> Commit:
        """Put the readings' forecasts into the commit and return it; none in a replay."""
        if not len(readings):
            return commit
        placed = self.held.place(readings.series)
        served = np.arange(len(readings))
        if placed.unserved:
            served = np.flatnonzero(placed.slots != UNSERVED)
            commit.unserved = placed.unserved
        numbers, rows = self.held.routes[placed.slots[served]].T
        if len(self.held.windows) == 1:
            parts = [self._serve(0, readings, served, rows, commit, pulse)]
        else:
            each = [(number, numbers == number) for number in np.unique(numbers).tolist()]
            parts = [
                self._serve(number, readings, served[mine], rows[mine], commit, pulse)
                for number, mine in each
            ]
        self._collect(parts, placed.slots, readings, commit)
        self.held.release(placed.gone)
        commit.evicted = len(placed.gone)
        return commit

    def _serve(
        self,
        number: int,
        readings: Readings,
        chosen: Ints,
        rows: Ints,
        commit: Commit,
        pulse: Pulse | None,
    ) -> tuple[Ints, list[bytes]]:
        """Run one model over its readings; return those that forecast and their records."""
        model = self._registry.models[number]
        values = _matrix(readings, model.spec.features, chosen)
        if not np.isfinite(values).all():
            finite = np.isfinite(values).all(axis=1)
            _reject_unfit(readings, chosen[~finite], values[~finite], model.spec.features, commit)
            chosen, rows, values = chosen[finite], rows[finite], values[finite]
        advance = self.held.windows[number].push(rows, readings.times[chosen], values)
        for place, reason in advance.refused.items():
            _reject(readings, int(chosen[place]), reason, "late", commit)
        if pulse is None or not len(advance.ready):
            return chosen[:0], []
        ready = chosen[advance.ready]
        start = self._clock()
        forecasts = model.predict(advance.windows, pulse)
        commit.inference.append((model.spec.name, self._clock() - start))
        if not np.isfinite(forecasts).all():
            finite = np.isfinite(forecasts).all(axis=(1, 2))
            for reading in ready[~finite].tolist():
                reason = "the model answers with a non-finite forecast"
                _reject(readings, reading, reason, "forecast", commit)
            ready, forecasts = ready[finite], forecasts[finite]
        records = self._writers[number].write(
            _chosen(readings.series, ready),
            readings.times[ready],
            _chosen(readings.ids, ready),
            forecasts,
        )
        return ready, records

    def _collect(
        self,
        parts: list[tuple[Ints, list[bytes]]],
        slots: Ints,
        readings: Readings,
        commit: Commit,
    ) -> None:
        """Put all models' records into the commit in stream order, and note who forecasts."""
        parts = [part for part in parts if len(part[0])]
        if not parts:
            return
        ready, commit.records = parts[0]
        if len(parts) > 1:
            together = np.concatenate([part[0] for part in parts])
            records = [record for part in parts for record in part[1]]
            order = np.argsort(together)
            ready, commit.records = together[order], [records[i] for i in order.tolist()]
        commit.series = _chosen(readings.series, ready)
        commit.started = self.held.start(slots[ready])


def _pieces(places: Ints, entries: int, largest: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut entries into runs of at most ``largest`` readings, or of one entry that has more.

    Args:
        places: the entry of each reading, ascending.
        entries: how many entries there are.
        largest: readings in a piece.

    Yields the first entry of each piece, the one beyond its last, and the same of its readings.
    """
    ends = np.searchsorted(places, np.arange(1, entries + 1)).tolist()  # readings up to each entry
    low = first = 0
    while low < entries:
        high = max(low + 1, bisect_right(ends, first + largest))
        yield low, high, first, ends[high - 1]
        low, first = high, ends[high - 1]


def _chosen(cells: list[bytes], places: Ints) -> list[bytes]:
    """Return some cells, at ascending places."""
    return cells if len(places) == len(cells) else [cells[place] for place in places.tolist()]


def _matrix(readings: Readings, features: Sequence[str], chosen: Ints) -> Floats:
    """Return features of the chosen readings ``[k, F]``; NaN where absent, inf where too large."""
    values = np.full((len(chosen), len(features)), np.nan, np.float32)
    with np.errstate(over="ignore"):
        for place, name in enumerate(features):
            if name in readings.columns:
                values[:, place] = readings.columns[name][chosen]
    return values


def _reject_unfit(
    readings: Readings, unfit: Ints, values: Floats, features: Sequence[str], commit: Commit
) -> None:
    """Reject readings of which some value ``[k, F]`` is not finite."""
    for reading, wrong in zip(unfit.tolist(), ~np.isfinite(values), strict=True):
        bad = [features[place] for place in np.flatnonzero(wrong).tolist()]
        reason = "; ".join(readings.fault(reading, name) for name in bad)
        _reject(readings, reading, reason, "value", commit)


def _reject(readings: Readings, reading: int, reason: str, kind: Kind, commit: Commit) -> None:
    commit.rejects.append(Reject(reason, readings.ids[reading], readings.payload(reading), kind))
