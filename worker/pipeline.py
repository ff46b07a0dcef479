"""Entries in, one commit out: decode -> windows -> model -> records; pure, no IO."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import orjson

from worker.decode import Decoder
from worker.readings import Readings
from worker.registry import Registry
from worker.windows import WindowStore
from worker.wire import Entry, Reject

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
UNSERVED = -1
LARGEST_COMMIT = 20_000


@dataclass(slots=True)
class Commit:
    """What one micro-batch writes, and what it was made of.

    ``newest`` is the id of its last entry, ``series[i]`` and ``records[i]`` the i-th forecast in
    stream order; ``started`` names series that forecast for the first time.
    """

    newest: str
    readings: int
    series: list[bytes]
    records: list[bytes]
    rejects: list[Reject]
    started: list[str] = field(default_factory=list)
    unserved: int = 0


class Pipeline:
    """The windows and models behind one input stream; ``step`` is all it does.

    Args:
        stream: the input stream's name.
        registry: the models.
        decoder: reads the features that the registry's models want.
    """

    def __init__(self, stream: str, registry: Registry, decoder: Decoder) -> None:
        self._stream = stream
        self._registry = registry
        self._decoder = decoder
        self._stores = [
            WindowStore(s.n_steps, len(s.features), s.step_seconds and s.step_seconds * 1000)
            for s in (model.spec for model in registry.models)
        ]
        self._writers = [_RecordWriter(number, registry) for number in range(len(self._stores))]
        self._slots: dict[bytes, int] = {}
        self._names: list[bytes] = []
        self._prefixes: list[bytes] = []
        self._routes = np.empty((0, 2), np.int64)
        self._started = np.zeros(0, np.bool_)

    @property
    def series(self) -> int:
        """How many series have a window."""
        return sum(len(store) for store in self._stores)

    def step(self, entries: Sequence[Entry]) -> Iterator[Commit]:
        """Move the windows forward by ``entries`` and yield the forecasts they give.

        That is one commit; several where entries hold more than ``LARGEST_COMMIT`` readings, as the
        server does nothing else while it writes one.
        """
        return self._run(entries, predict=True)

    def replay(self, entries: Sequence[Entry]) -> None:
        """Move the windows forward by entries whose forecasts are already committed."""
        for _ in self._run(entries, predict=False):
            pass

    def _run(self, entries: Sequence[Entry], *, predict: bool) -> Iterator[Commit]:
        readings, rejects = self._decoder.decode(entries)
        pieces = math.ceil(len(readings) / LARGEST_COMMIT)
        if pieces <= 1:
            newest = entries[-1][0].decode()
            yield self._forecast(readings, Commit(newest, len(readings), [], [], rejects), predict)
            return
        size = math.ceil(len(entries) / pieces)
        places = {entry_id: place for place, (entry_id, _) in enumerate(entries)}
        owners = np.array([places[entry_id] for entry_id in readings.ids])
        for low in range(0, len(entries), size):
            high = min(low + size, len(entries))
            first, beyond = np.searchsorted(owners, [low, high]).tolist()
            mine = [reject for reject in rejects if low <= places[reject.entry] < high]
            commit = Commit(entries[high - 1][0].decode(), beyond - first, [], [], mine)
            yield self._forecast(readings.part(first, beyond), commit, predict)

    def _forecast(self, readings: Readings, commit: Commit, predict: bool) -> Commit:
        """Put the readings' forecasts into the commit and return it."""
        if not len(readings):
            return commit
        slots = self._slots_of(readings.series)
        routes = self._routes[slots]
        numbers = np.unique(routes[:, 0])
        parts = []
        for number in numbers.tolist():
            chosen = np.flatnonzero(routes[:, 0] == number)
            if number == UNSERVED:
                commit.unserved = len(chosen)
                continue
            served = self._serve(number, readings, chosen, routes[chosen, 1], commit, predict)
            if served is not None:
                parts.append(served)
        self._collect(parts, slots, readings, commit)
        return commit

    def _serve(
        self,
        number: int,
        readings: Readings,
        chosen: Ints,
        rows: Ints,
        commit: Commit,
        predict: bool,
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
        if not predict or not len(advance.ready):
            return None
        ready = chosen[advance.ready]
        forecasts = model.predict(advance.windows)
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
        prefixes, names, ids = self._prefixes, self._names, readings.ids
        commit.series = [names[slot] for slot in chosen]
        commit.records = [
            b"".join((prefixes[slot], time, middle, ids[reading], ending))
            for slot, time, middle, reading, ending in zip(
                chosen, times[1:-1].split(b","), middles, ready.tolist(), endings, strict=True
            )
        ]
        fresh = np.unique(slots[ready][~self._started[slots[ready]]])
        self._started[fresh] = True
        commit.started = [names[slot].decode() for slot in fresh.tolist()]

    def _slots_of(self, series: list[bytes]) -> Ints:
        slots = list(map(self._slots.get, series))
        if None in slots:
            for place, name in enumerate(series):
                if slots[place] is None:
                    slots[place] = self._slots.get(name, -1)
                    if slots[place] == -1:
                        slots[place] = self._add(name)
        return np.array(slots, np.int64)

    def _add(self, name: bytes) -> int:
        slot = len(self._names)
        if slot == len(self._routes):
            grown = max(64, 2 * slot)
            self._routes = np.resize(self._routes, (grown, 2))
            self._started = np.r_[self._started, np.zeros(grown - slot, np.bool_)]
        text = name.decode()
        number = self._registry.match(text)
        row = -1 if number is None else self._stores[number].add()
        self._routes[slot] = UNSERVED if number is None else number, row
        self._slots[name] = slot
        self._names.append(name)
        self._prefixes.append(b'{"series":%b,"at":' % orjson.dumps(text))
        return slot


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
