"""Entries in, one commit out: decode -> windows -> model -> records; pure, no IO."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import numpy.typing as npt
import orjson

from worker.decode import Decoder
from worker.readings import Readings
from worker.registry import Registry
from worker.roster import UNSERVED, Roster
from worker.snapshot import SeriesState, rows_within
from worker.windows import WindowStore
from worker.wire import Entry, Reject

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Pulse = Callable[[], object]
LARGEST_COMMIT = 20_000
"""Readings in one commit, about."""
LARGEST_COMMIT_BYTES = 8_000_000
"""Bytes of forecasts in one commit, about."""
LARGEST_DECODE = 500_000
"""Bytes of entries that are decoded at a time, about."""
SECTION = 4_000_000
"""Bytes of one part of a checkpoint, about."""


@dataclass(slots=True)
class Commit:
    """What one micro-batch writes, and what it was made of.

    ``newest`` is the id of its last entry of ``entries``, ``series[i]`` and ``records[i]`` the i-th
    forecast in stream order; ``started`` names series that forecast for the first time; ``evicted``
    counts series that were forgotten to make room.
    """

    newest: str
    entries: int
    readings: int
    rejects: list[Reject]
    series: list[bytes] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    unserved: int = 0
    evicted: int = 0


class Pipeline:
    """The windows and models behind one input stream; ``step`` is all it does.

    Args:
        stream: the input stream's name.
        registry: the models.
        decoder: reads the features that the registry's models want.
        max_series: how many series have a window at most; beyond, the one longest without a
            reading is forgotten.
    """

    def __init__(self, registry: Registry, decoder: Decoder, max_series: int) -> None:
        self._registry = registry
        self._decoder = decoder
        self._stores = [
            WindowStore(s.n_steps, len(s.features), s.step_seconds and s.step_seconds * 1000)
            for s in (model.spec for model in registry.models)
        ]
        self._writers = [_RecordWriter(number, registry) for number in range(len(self._stores))]
        self._roster = Roster(max_series, lambda name: registry.match(name.decode()) is not None)
        self._prefixes: list[bytes] = []
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
        for part in _parts(entries, LARGEST_DECODE):
            for readings, commit in self._decode(part):
                yield self._forecast(readings, commit, pulse)

    def replay(self, entries: Sequence[Entry]) -> Iterator[int]:
        """Move the windows forward by entries whose forecasts are already committed.

        Yields how many entries each part of the work took, none of which takes long.
        """
        for part in _parts(entries, LARGEST_DECODE):
            for readings, commit in self._decode(part):
                self._forecast(readings, commit, None)
            yield len(part)

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
        self._prefixes = [_prefix(name) for name in names]

    def _decode(self, entries: Sequence[Entry]) -> Iterator[tuple[Readings, Commit]]:
        """Yield the readings of each commit that ``entries`` make, and what it holds so far."""
        readings, rejects = self._decoder.decode(entries)
        pieces = math.ceil(len(readings) / self._largest)
        if pieces <= 1:
            newest = entries[-1][0].decode()
            yield readings, Commit(newest, len(entries), len(readings), rejects)
            return
        size = math.ceil(len(entries) / pieces)
        places = {entry_id: place for place, (entry_id, _) in enumerate(entries)}
        owners = np.array([places[entry_id] for entry_id in readings.ids])
        for low in range(0, len(entries), size):
            high = min(low + size, len(entries))
            first, beyond = np.searchsorted(owners, [low, high]).tolist()
            mine = [reject for reject in rejects if low <= places[reject.entry] < high]
            commit = Commit(entries[high - 1][0].decode(), high - low, beyond - first, mine)
            yield readings.part(first, beyond), commit

    def _forecast(self, readings: Readings, commit: Commit, pulse: Pulse | None) -> Commit:
        """Put the readings' forecasts into the commit and return it; none in a replay."""
        if not len(readings):
            return commit
        slots, added, gone = self._roster.place(readings.series)
        for slot in added:
            self._open(slot)
        routes = np.full((len(slots), 2), UNSERVED)
        routes[slots >= 0] = self._routes[slots[slots >= 0]]
        parts = []
        for number in np.unique(routes[:, 0]).tolist():
            chosen = np.flatnonzero(routes[:, 0] == number)
            if number == UNSERVED:
                commit.unserved = len(chosen)
                continue
            served = self._serve(number, readings, chosen, routes[chosen, 1], commit, pulse)
            if served is not None:
                parts.append(served)
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
    ) -> tuple[Ints, list[bytes]] | None:
        """Run one model over its readings; return those that forecast and their records' ends."""
        model = self._registry.models[number]
        values = _matrix(readings, model.spec.features, chosen)
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            _reject_unfit(readings, chosen[~finite], values[~finite], model.spec.features, commit)
            chosen, rows, values = chosen[finite], rows[finite], values[finite]
        advance = self._stores[number].push(rows, readings.times[chosen], values)
        for place, reason in advance.refused.items():
            _reject(readings, int(chosen[place]), reason, commit)
        if pulse is None or not len(advance.ready):
            return None
        ready = chosen[advance.ready]
        forecasts = model.predict(advance.windows, pulse)
        finite = np.isfinite(forecasts).all(axis=(1, 2))
        if not finite.all():
            for reading in ready[~finite].tolist():
                _reject(readings, reading, "the model answers with a non-finite forecast", commit)
            ready, forecasts = ready[finite], forecasts[finite]
        return ready, self._writers[number].endings(forecasts)

    def _collect(
        self,
        parts: list[tuple[Ints, list[bytes]]],
        slots: Ints,
        readings: Readings,
        commit: Commit,
    ) -> None:
        """Write the records of all models' forecasts in stream order."""
        parts = [part for part in parts if len(part[0])]
        if not parts:
            return
        ready = np.concatenate([part[0] for part in parts])
        endings = [ending for part in parts for ending in part[1]]
        if len(parts) > 1:
            order = np.argsort(ready)
            ready = ready[order]
            endings = [endings[i] for i in order.tolist()]
        chosen = slots[ready].tolist()
        middles = [self._writers[n].middle for n in self._routes[slots[ready], 0].tolist()]
        times = orjson.dumps(readings.times[ready], option=orjson.OPT_SERIALIZE_NUMPY)
        prefixes, names, ids = self._prefixes, readings.series, readings.ids
        commit.series = [names[reading] for reading in ready.tolist()]
        commit.records = [
            b"".join((prefixes[slot], time, middle, ids[reading], ending))
            for slot, time, middle, reading, ending in zip(
                chosen, times[1:-1].split(b","), middles, ready.tolist(), endings, strict=True
            )
        ]
        fresh = np.unique(slots[ready][~self._started[slots[ready]]])
        self._started[fresh] = True
        held = self._roster.names
        commit.started = [held[slot].decode() for slot in fresh.tolist()]

    def _open(self, slot: int) -> None:
        """Give the new series in a slot its model and its window."""
        name = self._roster.names[slot]
        if slot >= len(self._routes):
            grown = max(64, slot)
            self._routes = np.concatenate([self._routes, np.zeros((grown, 2), np.int64)])
            self._started = np.concatenate([self._started, np.zeros(grown, np.bool_)])
        if slot == len(self._prefixes):
            self._prefixes.append(b"")
        number = self._registry.match(name.decode())
        if number is None:
            raise AssertionError(f"{name!r} has a slot and no model")
        self._routes[slot] = number, self._stores[number].add()
        self._started[slot] = False
        self._prefixes[slot] = _prefix(name)

    def _close(self, slots: list[int]) -> None:
        for slot in slots:
            number, row = self._routes[slot].tolist()
            self._stores[number].remove(row)
        self._roster.release(slots)


def _parts(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    """Cut entries into parts of about ``size`` bytes; a larger entry is a part by itself."""
    if len(b"".join(chain.from_iterable(fields for _, fields in entries))) <= size:
        yield entries
        return
    first, filled = 0, 0
    for place, (_, fields) in enumerate(entries):
        weight = sum(map(len, fields))
        if place > first and filled + weight > size:
            yield entries[first:place]
            first, filled = place, 0
        filled += weight
    yield entries[first:]


def _prefix(name: bytes) -> bytes:
    return b'{"series":%b,"at":' % orjson.dumps(name.decode())


class _RecordWriter:
    """Writes the parts of a forecast's JSON that depend on the model alone or on its numbers."""

    def __init__(self, number: int, registry: Registry) -> None:
        spec = registry.models[number].spec
        step = None if spec.step_seconds is None else round(spec.step_seconds * 1000)
        self.middle = b',"step":%b,"model":%b,"version":%b,"entry":"' % (
            orjson.dumps(step),
            orjson.dumps(spec.name),
            orjson.dumps(spec.version),
        )
        keys = [orjson.dumps(target) for target in spec.targets]
        first = b'","forecast":{%b:[' % keys[0]
        self._openings = [first, *(b"],%b:[" % key for key in keys[1:])]

    def endings(self, forecasts: Floats) -> list[bytes]:
        """Return the text from the entry id's closing quote on, for each of ``[b, horizon, T]``."""
        columns = []
        for target, opening in enumerate(self._openings):
            leads = np.ascontiguousarray(forecasts[:, :, target])
            text = orjson.dumps(leads, option=orjson.OPT_SERIALIZE_NUMPY)
            columns.append((opening, text[2:-2].split(b"],[")))
        if len(columns) == 1:
            opening, numbers = columns[0]
            return [b"%b%b]}}" % (opening, leads) for leads in numbers] if len(forecasts) else []
        openings = [opening for opening, _ in columns]
        rows = zip(*(numbers for _, numbers in columns), strict=True)
        return [
            b"".join(part for pair in zip(openings, row, strict=True) for part in pair) + b"]}}"
            for row in rows
        ][: len(forecasts)]


def _matrix(readings: Readings, features: Sequence[str], chosen: Ints) -> Floats:
    """Return features of the chosen readings ``[k, F]``; NaN where absent, inf where too large."""
    absent = np.full(len(readings), np.nan)
    columns = [readings.columns.get(name, absent) for name in features]
    with np.errstate(over="ignore"):
        return np.stack([column[chosen] for column in columns], axis=1).astype(np.float32)


def _reject_unfit(
    readings: Readings, unfit: Ints, values: Floats, features: Sequence[str], commit: Commit
) -> None:
    """Reject readings of which some value ``[k, F]`` is not finite."""
    for reading, wrong in zip(unfit.tolist(), ~np.isfinite(values), strict=True):
        bad = [features[place] for place in np.flatnonzero(wrong).tolist()]
        reason = "; ".join(readings.fault(reading, name) for name in bad)
        _reject(readings, reading, reason, commit)


def _reject(readings: Readings, reading: int, reason: str, commit: Commit) -> None:
    commit.rejects.append(Reject(reason, readings.ids[reading], readings.payload(reading)))
