"""Entries in, one commit out: decode -> windows -> model -> records; pure, no IO."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import ModelSpec
from tidecast.worker.pipeline.cells import MISSING
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.documents import MOST_READINGS
from tidecast.worker.pipeline.epoch import iso_of
from tidecast.worker.pipeline.fates import Fates
from tidecast.worker.pipeline.grid import Twice, grid_of
from tidecast.worker.pipeline.naive import Naive, naive_of
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.records import RecordWriter
from tidecast.worker.pipeline.registry import Registry
from tidecast.worker.pipeline.roster import UNSERVED
from tidecast.worker.pipeline.series import HeldSeries, series_size
from tidecast.worker.pipeline.stream_time import Silence, StreamTime
from tidecast.worker.pipeline.windows import Advance
from tidecast.worker.pipeline.wire import Entry, Kind, Pulse, Reject

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Late = Literal["drop", "dead"]
LARGEST_COMMIT = 1000
"""Readings in one commit, about: while the server writes it, it does nothing else, and many more no
longer fit its processor's cache."""
LARGEST_COMMIT_BYTES = 8_000_000
"""Bytes of forecasts in one commit, about."""
LARGEST_DECODE = 500_000
"""Bytes of entries that are decoded at a time, about."""
MOST_AT_ONCE = 10_000
"""Readings that windows are moved by at a time; an entry may hold more."""
HOLE_SIZE, HOLE_VALUE_SIZE = 80, 32
"""Bytes that a slot takes while it is filled, about, and each of its values."""
NOT_FINITE = "the model answers with a non-finite forecast"
MOST_LETTERS = 1000
"""Readings of an entry that are rejected by a letter each; the rest share one."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of memory that parts of a pipeline may take, about.

    ``series`` all that is kept of a stream's series (None: any), ``windows`` those that go through
    a model at once, ``forecasts`` those that one entry makes: they are one commit, however many.
    """

    series: int | None = None
    windows: int = 32_000_000
    forecasts: int = 64_000_000


ANY_ROOM = Room()


def most_readings(specs: Sequence[ModelSpec], room: Room = ANY_ROOM) -> int:
    """Return how many readings an entry may hold, so that no commit takes too long."""
    return max(1, min(MOST_READINGS, room.forecasts // largest_forecast(specs)))


def most_at_once(specs: Sequence[ModelSpec], room: Room = ANY_ROOM) -> int:
    """Return how many readings windows are moved by at a time."""
    most = min(MOST_AT_ONCE, room.windows // max(map(_passing_size, specs)))
    if room.series is not None:  # series that have to go are there until that is done
        most = min(most, room.series // 4 // series_size(specs))
    return max(1, most)


def _passing_size(spec: ModelSpec) -> int:
    """Return how many bytes a reading takes while it moves its window, at most, about."""
    features = len(spec.features)
    holes = grid_of(spec).most * (HOLE_SIZE + HOLE_VALUE_SIZE * features)
    return 4 * spec.n_steps * features + holes


def largest_forecast(specs: Sequence[ModelSpec]) -> int:
    """Return how many bytes a forecast has at most, about."""
    return 200 + 14 * max(spec.horizon * len(spec.targets) for spec in specs)


@dataclass(slots=True)
class _Told:
    """What has been told of an entry's readings that were rejected for one kind of reason.

    ``letters`` of them have one each, the ``last`` of which tells of the others, too: these are
    ``rest``, and share the one at ``place``.
    """

    letters: int = 0
    last: Reject | None = None
    rest: int = 0
    place: int = 0

    def share(self, count: int, rejects: list[Reject]) -> None:
        """Count so many more readings with the letter that they share."""
        if self.last is None:
            raise AssertionError("the first readings of an entry have a letter each")
        if not self.rest:
            self.place = len(rejects)
            rejects.append(self.last)
        self.rest += count
        said = f"{self.rest} more readings of this entry, as the one before: {self.last.reason}"
        entry, kind = self.last.entry, self.last.kind
        rejects[self.place] = Reject(said, entry, b'"left out"', kind, self.rest)


@dataclass(slots=True)
class Commit:
    """What one micro-batch writes, and what it was made of.

    ``oldest`` and ``newest`` are the ids of the first and last of its ``entries``, ``series[i]``
    and ``records[i]`` the i-th forecast in stream order; ``started`` names series that forecast for
    the first time; ``fates`` counts its readings and what became of them, ``filled`` the forecasts
    from windows of which some slots had no reading; ``evicted`` counts series that were forgotten
    to make room, ``forgotten`` those that were quiet for too long; ``inference`` holds the seconds
    that models took, by their name; ``remarks`` are for people; ``told`` what rejects say of each
    entry.
    """

    oldest: str
    newest: str
    entries: int
    fates: Fates
    rejects: list[Reject]
    series: list[bytes] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    filled: int = 0
    forgotten: int = 0
    evicted: int = 0
    inference: list[tuple[str, float]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    told: dict[tuple[bytes, Kind], _Told] = field(default_factory=dict, repr=False, compare=False)


class Pipeline:
    """The windows and models behind one input stream; ``step`` is all it does.

    Args:
        stream: the input stream's name.
        registry: the models.
        decoder: reads the features that the registry's models want.
        max_series: how many series have a window at most; beyond, the one longest without a
            reading is forgotten.
        room: how much memory it may take.
        max_skew: milliseconds that a reading may be ahead of its entry and of all before it.
        twice: which of several readings of one slot counts.
        ttl: milliseconds of stream time after which a quiet series is forgotten; None: never.
        naive: whether readings whose window is too short for their model are forecast without it.
        late: whether a reading of a slot that no window holds any more is a dead letter, or counted
            alone.
        clock: seconds, to measure how long models take.
    """

    def __init__(
        self,
        registry: Registry,
        decoder: Decoder,
        max_series: int,
        *,
        room: Room = ANY_ROOM,
        max_skew: float = np.inf,
        twice: Twice = "last",
        late: Late = "drop",
        ttl: float | None = None,
        naive: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._pulse: Pulse = lambda: None
        self.stream_time = StreamTime(max_skew)
        """How far the readings have come; what is ahead of it is refused."""
        self.silence = Silence(ttl)
        self.fates = Fates()
        """What became of all readings so far."""
        self._letters_of_late = late == "dead"
        self._registry = registry
        self._decoder = decoder
        specs = [model.spec for model in registry.models]
        self._at_once = most_at_once(specs, room)
        self.held = HeldSeries(
            specs,
            registry.match,
            max_series,
            room=room.series,
            spare=self._at_once,
            twice=twice,
            early=naive,
        )
        """The series that have a window, and all that is kept of them."""
        self._watched = set(range(len(specs)))
        self._writers = [RecordWriter(spec, decoder.fleet) for spec in specs]
        self._beginners = [beginner_of(spec, decoder.fleet) if naive else None for spec in specs]
        self._largest = min(LARGEST_COMMIT, LARGEST_COMMIT_BYTES // largest_forecast(specs))

    def step(self, entries: Sequence[Entry], pulse: Pulse = lambda: None) -> Iterator[Commit]:
        """Move the windows forward by ``entries`` and yield the forecasts they give.

        That is one commit; several where entries hold more than ``LARGEST_DECODE`` bytes or more
        readings than ``LARGEST_COMMIT``, or make more than ``LARGEST_COMMIT_BYTES``, as the server
        does nothing else while it writes one. The windows have moved by what was yielded.

        Args:
            entries: in stream order.
            pulse: called whenever a part of the work is done, none of which takes long.
        """
        self._pulse = pulse
        for readings, commit in self._decode(entries, pulse):
            yield self._forecast(readings, commit, pulse)

    def replay(self, entries: Sequence[Entry], pulse: Pulse = lambda: None) -> Iterator[int]:
        """Move the windows forward by entries whose forecasts are already committed.

        Yields how many entries each part of the work took, none of which takes long.
        """
        self._pulse = pulse
        for readings, commit in self._decode(entries, pulse):
            yield self._forecast(readings, commit, None).entries

    def _decode(self, entries: Sequence[Entry], pulse: Pulse) -> Iterator[tuple[Readings, Commit]]:
        """Yield the readings of each commit that ``entries`` make, and what it holds so far."""
        parts = self._decoder.decode_in_parts(entries, LARGEST_DECODE, pulse)
        for part, readings, rejects in parts:
            if len(readings) <= self._largest:
                ids = part[0][0].decode(), part[-1][0].decode()
                yield readings, Commit(*ids, len(part), Fates(len(readings)), rejects)
                continue
            for low, high, first, beyond in _pieces(readings.places, len(part), self._largest):
                own = {entry_id for entry_id, _ in part[low:high]} if rejects else ()
                mine = [reject for reject in rejects if reject.entry in own]
                ids = part[low][0].decode(), part[high - 1][0].decode()
                commit = Commit(*ids, high - low, Fates(beyond - first), mine)
                yield readings.part(first, beyond), commit

    def _forecast(self, readings: Readings, commit: Commit, pulse: Pulse | None) -> Commit:
        """Put the readings' forecasts into the commit and return it; none in a replay."""
        if len(readings) <= self._at_once:
            self._advance(readings, commit, pulse)
        else:
            for first in range(0, len(readings), self._at_once):
                part = readings.part(first, min(first + self._at_once, len(readings)))
                self._advance(part, commit, pulse)
        self.fates.add(commit.fates)
        return commit

    def _advance(self, readings: Readings, commit: Commit, pulse: Pulse | None) -> None:
        """Move the windows on by readings, and put their forecasts behind those in the commit."""
        latest = self.stream_time.latest
        ahead = self.stream_time.take(readings.times, readings.ids)
        if len(ahead):
            _reject(
                readings, ahead, partial(_said_ahead, readings, self.stream_time), "ahead", commit
            )
            readings = readings.take(np.delete(np.arange(len(readings)), ahead))
        if not len(readings):
            return
        parts = self.silence.parts(readings.times, latest)
        for first, beyond, begun in parts:
            if begun is not None:
                number = self.silence.begin(begun, latest, self.held.clock)
                commit.forgotten += self.held.forget_untouched(number)
                self._pulse()
            part = readings if len(parts) == 1 else readings.part(first, beyond)
            latest = max(latest, int(part.times.max()))
            self._move(part, commit, pulse)

    def _move(self, readings: Readings, commit: Commit, pulse: Pulse | None) -> None:
        """Move the windows on by readings of one period."""
        placed = self.held.place(readings.series)
        served = np.arange(len(readings))
        if placed.unserved:
            served = np.flatnonzero(placed.slots != UNSERVED)
            commit.fates.unserved += placed.unserved
        numbers, rows = self.held.routes[placed.slots[served]].T
        if len(self.held.windows) == 1:
            parts = self._serve(0, readings, served, rows, commit, pulse)
        else:
            each = [(number, numbers == number) for number in np.unique(numbers).tolist()]
            parts = [
                part
                for number, mine in each
                for part in self._serve(number, readings, served[mine], rows[mine], commit, pulse)
            ]
        self._collect(parts, placed.slots, readings, commit)
        self.held.release(placed.gone)
        commit.evicted += len(placed.gone)

    def _serve(
        self,
        number: int,
        readings: Readings,
        chosen: Ints,
        rows: Ints,
        commit: Commit,
        pulse: Pulse | None,
    ) -> list[tuple[Ints, list[bytes]]]:
        """Run one model over its readings; return those that forecast and their records.

        Those that are forecast without it are a part of their own.
        """
        model = self._registry.models[number]
        values = _matrix(readings, model.spec.features, chosen)
        if not np.isfinite(values).all():
            finite = np.isfinite(values).all(axis=1)
            unfit = _without_holes(readings, chosen, values, model.spec.features)
            commit.fates.missing += int((~finite).sum()) - len(unfit)
            _reject_unfit(readings, chosen[unfit], values[unfit], model.spec.features, commit)
            chosen, rows, values = chosen[finite], rows[finite], values[finite]
        advance = self.held.windows[number].push(rows, readings.times[chosen], values, self._pulse)
        silent = None if readings.silent is None else readings.silent[chosen]
        _count(advance, len(chosen), silent, commit.fates)
        if advance.refused and not self._letters_of_late and model.spec.spec_version > 1:
            commit.fates.dropped += len(advance.refused)
        elif advance.refused:
            reasons = {int(chosen[place]): reason for place, reason in advance.refused.items()}
            _reject(readings, np.array(sorted(reasons)), reasons.__getitem__, "late", commit)
        if silent is not None:
            advance = _without(advance, silent)
        if pulse is not None:
            self._remark(number, commit)
        if pulse is None or not len(advance.ready):
            return []
        parts = []
        beginner = self._beginners[number]
        if beginner is not None and (short := advance.runs < beginner.least).any():
            early, advance = _some(advance, short), _some(advance, ~short)
            parts.append(beginner.forecast(early, readings, chosen))
        ready, filled = chosen[advance.ready], advance.filled
        start = self._clock()
        answer = model.predict(advance.windows, pulse)
        forecasts = answer.forecasts
        commit.inference.append((model.spec.name, self._clock() - start))
        if not np.isfinite(forecasts).all():
            finite = np.isfinite(forecasts).all(axis=(1, 2))
            reasons = {
                int(ready[place]): answer.failed.get(place, NOT_FINITE)
                for place in np.flatnonzero(~finite).tolist()
            }
            _reject(readings, ready[~finite], reasons.__getitem__, "forecast", commit)
            ready, forecasts = ready[finite], forecasts[finite]
            filled = None if filled is None else filled[finite]
        commit.filled += 0 if filled is None else int((filled > 0).sum())
        records = self._writers[number].write(
            _chosen(readings.series, ready),
            readings.times[ready],
            _chosen(readings.ids, ready),
            forecasts,
            filled,
        )
        return [*parts, (ready, records)]

    def _remark(self, number: int, commit: Commit) -> None:
        """Say once of a model that its readings come at another pace than it was fitted for."""
        if number in self._watched and self.held.windows[number].pace.is_known:
            self._watched.remove(number)
            if remark := self.held.windows[number].pace.remark():
                name = self._registry.models[number].spec.name
                commit.remarks.append(f"model {name}: {remark}")

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
        ready, made = parts[0]
        if len(parts) > 1:
            together = np.concatenate([part[0] for part in parts])
            records = [record for part in parts for record in part[1]]
            order = np.argsort(together)
            ready, made = together[order], [records[i] for i in order.tolist()]
        commit.records += made
        commit.series += _chosen(readings.series, ready)
        commit.started += self.held.start(slots[ready])


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


def _said_ahead(readings: Readings, stream_time: StreamTime, reading: int) -> str:
    """Say that the time of a reading is refused."""
    return (
        f"time {iso_of(int(readings.times[reading]))} is more than "
        f"{stream_time.max_skew / 1000:g} s ahead of its entry and of all readings before: set the "
        "sender's clock right, or raise --max-skew"
    )


@dataclass(frozen=True, slots=True)
class Beginner:
    """Forecasts without a model while windows have fewer than ``least`` slots, too few for it."""

    least: int
    naive: Naive
    newest: RecordWriter
    seasonal: RecordWriter

    def forecast(
        self, advance: Advance, readings: Readings, chosen: Ints
    ) -> tuple[Ints, list[bytes]]:
        """Return the readings that such windows belong to, of the ``chosen`` ones, and records."""
        ready, windows = chosen[advance.ready], advance.windows
        records = _written(self.newest, readings, ready, self.naive.newest(windows))
        some = np.flatnonzero(self.naive.seasonal(advance.runs))
        if len(some):
            before = self.naive.season_before(windows[some])
            others = _written(self.seasonal, readings, ready[some], before)
            for place, record in zip(some.tolist(), others, strict=True):
                records[place] = record
        return ready, records


def beginner_of(spec: ModelSpec, fleet: str) -> Beginner | None:
    """Return what forecasts until a model can, None where there is nothing to repeat."""
    naive = naive_of(spec)
    if naive is None:
        return None
    writers = (RecordWriter(spec, fleet, name) for name in ("naive", "seasonal-naive"))
    return Beginner(min(spec.n_steps, grid_of(spec).min_steps or spec.n_steps), naive, *writers)


def _written(
    writer: RecordWriter, readings: Readings, ready: Ints, forecasts: Floats
) -> list[bytes]:
    series, ids = _chosen(readings.series, ready), _chosen(readings.ids, ready)
    return writer.write(series, readings.times[ready], ids, forecasts)


def _some(advance: Advance, some: npt.NDArray[np.bool_]) -> Advance:
    return replace(
        advance,
        windows=advance.windows[some],
        ready=advance.ready[some],
        runs=advance.runs[some],
        filled=None if advance.filled is None else advance.filled[some],
    )


def _count(
    advance: Advance, pushed: int, silent: npt.NDArray[np.bool_] | None, fates: Fates
) -> None:
    """Count what became of so many readings, of which some are history, without a forecast."""
    fates.amended += len(advance.amended)
    fates.ignored += len(advance.ignored)
    moved = np.ones(pushed, np.bool_)
    for places in (advance.amended, advance.ignored, list(advance.refused)):
        moved[places] = False
    if silent is not None:
        fates.history += int((moved & silent).sum())
        moved &= ~silent
    moved[advance.ready] = False
    fates.waiting += int(moved.sum())


def _without(advance: Advance, silent: npt.NDArray[np.bool_]) -> Advance:
    """Leave out the windows of readings that are not to be forecast."""
    return _some(advance, ~silent[advance.ready])


def _without_holes(
    readings: Readings, chosen: Ints, values: Floats, features: Sequence[str]
) -> Ints:
    """Return the places of the readings of which some value is none, and not said to be missing.

    A reading whose other values are numbers is a hole of its series; the window goes on without it.
    """
    odd = ~np.isfinite(values)
    places = np.flatnonzero(odd.any(axis=1))
    if not readings.faults:
        return places
    return np.array(
        [
            place
            for place in places.tolist()
            if any(
                readings.faults.get((int(chosen[place]), features[feature])) != MISSING
                for feature in np.flatnonzero(odd[place]).tolist()
            )
        ],
        np.int64,
    )


def _reject_unfit(
    readings: Readings, unfit: Ints, values: Floats, features: Sequence[str], commit: Commit
) -> None:
    """Reject readings of which some value ``[k, F]`` is not finite."""
    finite = np.isfinite(values)
    places = dict(zip(unfit.tolist(), range(len(unfit)), strict=True))

    def reason(reading: int) -> str:
        sound = zip(features, finite[places[reading]].tolist(), strict=True)
        return "; ".join(readings.fault(reading, name) for name, is_sound in sound if not is_sound)

    _reject(readings, unfit, reason, "value", commit)


def _reject(
    readings: Readings,
    refused: Ints,
    reason: Callable[[int], str],
    kind: Kind,
    commit: Commit,
) -> None:
    """Reject readings, of each entry the first ``MOST_LETTERS`` by themselves and the rest as one.

    Args:
        readings: all of the commit.
        refused: which, ascending.
        reason: says why, of one that is rejected by itself.
        kind: the same in a word.
        commit: takes the rejects.
    """
    _, firsts, counts = np.unique(readings.places[refused], return_index=True, return_counts=True)
    some = refused.tolist()
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        key = readings.ids[some[first]], kind
        told = commit.told.get(key) or commit.told.setdefault(key, _Told())
        mine = some[first : first + min(count, MOST_LETTERS - told.letters)]
        told.letters += len(mine)
        commit.rejects += [
            Reject(reason(reading), readings.ids[reading], readings.payload(reading), kind)
            for reading in mine
        ]
        if mine:
            told.last = commit.rejects[-1]
        if count > len(mine):
            told.share(count - len(mine), commit.rejects)
