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
from tidecast.worker.pipeline.roster import UNSERVED, Roster
from tidecast.worker.pipeline.snapshot import SeriesState, rows_within
from tidecast.worker.pipeline.windows import WindowStore
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
SECTION = 4_000_000
"""Bytes of one part of a checkpoint, about."""


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
        self._stores = [
            WindowStore(s.n_steps, len(s.features), s.step_seconds and s.step_seconds * 1000)
            for s in (model.spec for model in registry.models)
        ]
        self._writers = [RecordWriter(model.spec) for model in registry.models]
        self._roster = Roster(max_series, lambda name: registry.match(name.decode()) is not None)
        self._routes = np.empty((0, 2), np.int64)
        self._started = np.zeros(0, np.bool_)
        widest = max(m.spec.horizon * len(m.spec.targets) for m in registry.models)
        self._largest = min(LARGEST_COMMIT, LARGEST_COMMIT_BYTES // (200 + 14 * widest))

    @property
    def series(self) -> int:
        """How many series have a window."""
        return len(self._roster)

    @property
    def clock(self) -> int:
        """How many readings have been numbered."""
        return self._roster.clock

    @property
    def evicted(self) -> int:
        """How many series were forgotten to make room, in replays too."""
        return self._roster.evicted

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

    def changed(self, since: int) -> Iterator[SeriesState]:
        """Yield the state of all series touched by readings from number ``since`` on, in parts."""
        slots = self._roster.touched_since(since)
        for number, (model, store) in enumerate(
            zip(self._registry.models, self._stores, strict=True)
        ):
            mine = slots[self._routes[slots, 0] == number]
            size = rows_within(SECTION, model.spec.n_steps, len(model.spec.features))
            for first in range(0, len(mine), size):
                part = mine[first : first + size]
                names = [self._roster.names[slot] for slot in part.tolist()]
                newest, runs, tails = store.state(self._routes[part, 1])
                yield SeriesState(number, names, self._roster.touched[part], newest, runs, tails)

    def restore(self, states: Sequence[SeriesState], clock: int, held: int) -> None:
        """Take over what ``changed`` yielded, over some time and in that order.

        Args:
            states: a later state of a series replaces an earlier one.
            clock: the number of readings at the end.
            held: how many series were held at the end. They are the ones touched last, as whoever
                had to go was touched before all who stayed.
        """
        where: dict[bytes, int] = {}
        firsts = np.cumsum([0, *(len(state.names) for state in states)])
        for first, state in zip(firsts.tolist(), states, strict=False):
            where.update(zip(state.names, range(first, first + len(state.names)), strict=True))
        chosen = np.sort(np.fromiter(where.values(), np.int64, len(where)))
        touched = np.concatenate([np.zeros(0, np.int64), *(s.touched for s in states)])[chosen]
        if len(chosen) > held:
            kept = np.sort(np.argsort(touched)[len(chosen) - held :])
            chosen, touched = chosen[kept], touched[kept]
        names: list[bytes] = []
        routes = [np.empty((0, 2), np.int64)]
        for first, state in zip(firsts.tolist(), states, strict=False):
            low, high = np.searchsorted(chosen, [first, first + len(state.names)])
            mine = chosen[low:high] - first
            names += [state.names[i] for i in mine.tolist()]
            store = self._stores[state.model]
            rows = store.restore(state.newest[mine], state.runs[mine], state.tails[mine])
            routes.append(np.stack([np.full(len(mine), state.model), rows], axis=1))
        self._roster.restore(names, touched, clock)
        self._routes = np.concatenate(routes)
        self._started = np.zeros(len(names), np.bool_)

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
        slots, added, gone = self._roster.place(readings.series)
        for slot in added:
            self._open(slot)
        served = np.arange(len(slots))
        if not self._roster.all_served:
            served = np.flatnonzero(slots != UNSERVED)
            commit.unserved = len(slots) - len(served)
        numbers, rows = self._routes[slots[served]].T
        if len(self._stores) == 1:
            parts = [self._serve(0, readings, served, rows, commit, pulse)]
        else:
            each = [(number, numbers == number) for number in np.unique(numbers).tolist()]
            parts = [
                self._serve(number, readings, served[mine], rows[mine], commit, pulse)
                for number, mine in each
            ]
        self._collect(parts, slots, readings, commit)
        self._close(gone)
        commit.evicted = len(gone)
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
        advance = self._stores[number].push(rows, readings.times[chosen], values)
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
        fresh = slots[ready][~self._started[slots[ready]]]
        if len(fresh):
            self._started[fresh] = True
            commit.started = [self._roster.names[i].decode() for i in np.unique(fresh).tolist()]

    def _open(self, slot: int) -> None:
        """Give the new series in a slot its model and its window."""
        name = self._roster.names[slot]
        if slot >= len(self._routes):
            grown = max(64, slot)
            self._routes = np.concatenate([self._routes, np.zeros((grown, 2), np.int64)])
            self._started = np.concatenate([self._started, np.zeros(grown, np.bool_)])
        number = self._registry.match(name.decode())
        if number is None:
            raise AssertionError(f"{name!r} has a slot and no model")
        self._routes[slot] = number, self._stores[number].add()
        self._started[slot] = False

    def _close(self, slots: list[int]) -> None:
        for slot in slots:
            number, row = self._routes[slot].tolist()
            self._stores[number].remove(row)
        self._roster.release(slots)


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
