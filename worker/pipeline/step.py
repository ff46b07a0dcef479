"""Entries in, one commit out: decode -> windows -> model -> records; pure, no IO."""

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, pairwise
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import ModelSpec
from tidecast.worker.pipeline.bodies import MOST_READINGS
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.epoch import iso_of
from tidecast.worker.pipeline.fates import Fates
from tidecast.worker.pipeline.grid import Twice, grid_of
from tidecast.worker.pipeline.outcome import Commit, Hindrance, refuse, some_of
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.registry import Registry
from tidecast.worker.pipeline.roster import UNSERVED
from tidecast.worker.pipeline.series import HeldSeries, series_size
from tidecast.worker.pipeline.serving import Batch, Made, Serving
from tidecast.worker.pipeline.stream_time import Silence, StreamTime
from tidecast.worker.pipeline.suggest import suggest
from tidecast.worker.pipeline.wire import Entry, Forgotten, Pulse, Reject

Ints = npt.NDArray[np.int64]
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
MOST_ORDERS = 200
"""Orders to forget a series that are known to have been carried out; whoever gave one asks soon."""
MOST_LOOKED_AT = 20
"""Layouts of entries of which one is looked at for what would name a series or a time."""
MOST_NAMED = 3
"""Series without a model that a commit names."""
HOLE_SIZE, HOLE_VALUE_SIZE = 80, 32
"""Bytes that a slot takes while it is filled, about, and each of its values."""


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


def most_at_once(specs: Sequence[ModelSpec], room: Room = ANY_ROOM, lateness: float = 0.0) -> int:
    """Return how many readings windows are moved by at a time."""
    most = min(MOST_AT_ONCE, room.windows // max(map(_passing_size, specs)))
    if room.series is not None:  # series that have to go are there until that is done
        most = min(most, room.series // 4 // series_size(specs, lateness))
    return max(1, most)


def _passing_size(spec: ModelSpec) -> int:
    """Return how many bytes a reading takes while it moves its window, at most, about."""
    features = len(spec.features)
    holes = grid_of(spec).most * (HOLE_SIZE + HOLE_VALUE_SIZE * features)
    return 4 * spec.n_steps * features + holes


def largest_forecast(specs: Sequence[ModelSpec]) -> int:
    """Return how many bytes a forecast has at most, about."""
    return 200 + 14 * max(spec.horizon * len(spec.targets) for spec in specs)


class Rules(TypedDict, total=False):
    """What a pipeline does with readings that do not come step by step; see ``Pipeline``."""

    max_skew: float
    twice: Twice
    late: Late
    ttl: float | None
    naive: bool
    lateness: float


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
        lateness: milliseconds of stream time that slots stay open behind their ends.
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
        lateness: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._pulse: Pulse = lambda: None
        self.stream_time = StreamTime(max_skew)
        """How far the readings have come; what is ahead of it is refused."""
        self.silence = Silence(ttl)
        self.fates = Fates()
        """What became of all readings so far."""
        self.orders = deque[Forgotten](maxlen=MOST_ORDERS)
        """What became of the newest orders to forget a series."""
        self._decoder = decoder
        specs = [model.spec for model in registry.models]
        globs = some_of([repr(spec.series) for spec in specs])
        self._serve = f"{'models serve' if len(specs) > 1 else 'the model serves'} {globs}"
        self._at_once = most_at_once(specs, room, lateness)
        self.held = HeldSeries(
            specs,
            registry.match,
            max_series,
            room=room.series,
            spare=self._at_once,
            twice=twice,
            early=naive,
            lateness=lateness,
        )
        """The series that have a window, and all that is kept of them."""
        self._servings = [
            Serving(
                model,
                windows,
                slots,
                decoder.fleet,
                self._at_once,
                naive=naive,
                letters_of_late=late == "dead",
                clock=clock,
            )
            for model, windows, slots in zip(
                registry.models, self.held.windows, self.held.open, strict=True
            )
        ]
        self._looks: dict[tuple[bytes, ...], str] = {}
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
            yield self._forecast(readings, commit, forecasts=True)

    def replay(self, entries: Sequence[Entry], pulse: Pulse = lambda: None) -> Iterator[int]:
        """Move the windows forward by entries whose forecasts are already committed.

        Yields how many entries each part of the work took, none of which takes long.
        """
        self._pulse = pulse
        for readings, commit in self._decode(entries, pulse):
            yield self._forecast(readings, commit, forecasts=False).entries

    def _decode(self, entries: Sequence[Entry], pulse: Pulse) -> Iterator[tuple[Readings, Commit]]:
        """Yield the readings of each commit that ``entries`` make, and what it holds so far."""
        parts = self._decoder.decode_in_parts(entries, LARGEST_DECODE, pulse)
        for part, readings, rejects in parts:
            clues = self._nameless(part[0])
            if len(readings) <= self._largest:
                ids = part[0][0].decode(), part[-1][0].decode()
                fates = Fates(len(readings))
                yield readings, Commit(*ids, len(part), fates, rejects, clues=clues)
                continue
            for low, high, first, beyond in _pieces(readings.places, len(part), self._largest):
                own = {entry_id for entry_id, _ in part[low:high]} if rejects else ()
                mine = [reject for reject in rejects if reject.entry in own]
                ids = part[low][0].decode(), part[high - 1][0].decode()
                commit = Commit(*ids, high - low, Fates(beyond - first), mine, clues={**clues})
                yield readings.part(first, beyond), commit

    def _nameless(self, entry: Entry) -> dict[Hindrance, str]:
        """Return a clue if an entry names no series or no time, and has what looks like one."""
        layout = tuple(entry[1][::2])
        if layout not in self._looks and len(self._looks) < MOST_LOOKED_AT:
            found = suggest(entry[1], self._decoder.names)
            self._looks[layout] = str(found) if found.series or found.time else ""
        said = self._looks.get(layout)
        return {"nameless": said} if said else {}

    def _forecast(self, readings: Readings, commit: Commit, *, forecasts: bool) -> Commit:
        """Put the readings' forecasts into the commit and return it; none in a replay."""
        if len(readings) <= self._at_once and readings.orders is None:
            self._advance(readings, commit, forecasts=forecasts)
        else:
            for part in self._parts(readings, commit):
                self._advance(part, commit, forecasts=forecasts)
        # Letters come in the order of their entries, however these are cut into commits.
        commit.rejects.sort(key=_place_in_stream)
        commit.notes += self._decoder.news()
        commit.remarks += self._decoder.remarks()
        self.fates.add(commit.fates)
        return commit

    def _parts(self, readings: Readings, commit: Commit) -> Iterator[Readings]:
        """Yield parts of readings, of ``_at_once`` at most, and carry out the orders between."""
        orders = [] if readings.orders is None else np.flatnonzero(readings.orders).tolist()
        for first, beyond in pairwise([-1, *orders, len(readings)]):
            for low in range(first + 1, beyond, self._at_once):
                yield readings.part(low, min(low + self._at_once, beyond))
            if beyond < len(readings):
                self._forget(readings.series[beyond], readings.ids[beyond], commit)

    def _forget(self, name: bytes, entry_id: bytes, commit: Commit) -> None:
        """Drop a series' state, as an entry says."""
        done = Forgotten(entry_id.decode(), name.decode(), self.held.forget(name))
        self.orders.append(done)
        commit.orders.append(done)
        commit.fates.readings -= 1  # it is none

    def _advance(self, readings: Readings, commit: Commit, *, forecasts: bool) -> None:
        """Move the windows on by readings, and put their forecasts behind those in the commit."""
        latest = self.stream_time.latest
        ahead = self.stream_time.take(readings.times, readings.ids)
        if len(ahead):
            said = partial(_said_ahead, readings, self.stream_time, ahead)
            refuse(commit, readings, ahead, said, "ahead")
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
            self._move(part, latest, commit, forecasts=forecasts)
            latest = max(latest, int(part.times.max()))

    def _move(self, readings: Readings, latest: int, commit: Commit, *, forecasts: bool) -> None:
        """Move the windows on by readings of one period, of a stream time until then."""
        placed = self.held.place(readings.series)
        served = np.arange(len(readings))
        if placed.unserved:
            served = np.flatnonzero(placed.slots != UNSERVED)
            commit.fates.unserved += placed.unserved
            names = (readings.series[place] for place in np.flatnonzero(placed.slots == UNSERVED))
            some = dict.fromkeys(name.decode() for name in islice(names, MOST_NAMED))
            commit.clues.setdefault("unserved", f"series {', '.join(some)}; {self._serve}")
        numbers, rows = self.held.routes[placed.slots[served]].T
        stream = np.maximum(np.maximum.accumulate(readings.times), latest)
        batch = Batch(readings, placed.slots, latest, stream, placed.gone)
        made = []
        for number, serving in enumerate(self._servings):
            mine = numbers == number if len(self._servings) > 1 else np.ones(len(served), np.bool_)
            if mine.any() or serving.is_waiting:
                made += serving.serve(
                    batch,
                    served[mine],
                    rows[mine],
                    commit,
                    partial(self.held.names, number),
                    self._pulse,
                    forecasts=forecasts,
                )
        self._collect(made, commit)
        self.held.release(placed.gone)
        commit.evicted += len(placed.gone)

    def _collect(self, made: list[Made], commit: Commit) -> None:
        """Put all models' records into the commit in stream order, and note who forecasts."""
        made = [one for one in made if len(one.places)]
        if not made:
            return
        series, records, slots = made[0].series, made[0].records, made[0].slots
        if len(made) > 1:
            order = np.argsort(np.concatenate([one.places for one in made]), kind="stable").tolist()
            series = list(chain.from_iterable(one.series for one in made))
            records = list(chain.from_iterable(one.records for one in made))
            series, records = [series[i] for i in order], [records[i] for i in order]
            slots = np.concatenate([one.slots for one in made])
        commit.records += records
        commit.series += series
        commit.started += self.held.start(slots)


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


def _place_in_stream(reject: Reject) -> tuple[int, ...]:
    return tuple(map(int, reject.entry.split(b"-")))


def _said_ahead(readings: Readings, stream_time: StreamTime, ahead: Ints, place: int) -> str:
    """Say that the time of a reading is refused."""
    return (
        f"time {iso_of(int(readings.times[ahead[place]]))} is more than "
        f"{stream_time.max_skew / 1000:g} s ahead of its entry and of all readings before: set the "
        "sender's clock right, or raise --max-skew"
    )
