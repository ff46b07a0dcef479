"""One model at work: its series' readings -> slots -> windows -> forecasts -> records; pure."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import LARGEST_FLOAT32, Calendar, ModelSpec, Numbers
from tidecast.worker.pipeline.calendar import elapsed, moment
from tidecast.worker.pipeline.cells import MISSING
from tidecast.worker.pipeline.epoch import iso_of
from tidecast.worker.pipeline.grid import grid_of
from tidecast.worker.pipeline.model import Model
from tidecast.worker.pipeline.naive import Naive, naive_of
from tidecast.worker.pipeline.open_slots import Closed, OpenSlots, Taken
from tidecast.worker.pipeline.outcome import Commit, refuse, some_of
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.records import RecordWriter
from tidecast.worker.pipeline.windows import Advance, WindowStore
from tidecast.worker.pipeline.wire import Pulse

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
NOT_FINITE = "the model answers with a non-finite forecast"


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings that move windows on, and where their series are held.

    ``slots`` ``[m]`` are the roster's, ``before`` is stream time before them and ``stream`` ``[m]``
    at each. ``gone`` tells at which reading series had to go, by their slots.
    """

    readings: Readings
    slots: Ints
    before: int
    stream: Ints
    gone: dict[int, int]


@dataclass(frozen=True, slots=True)
class Due:
    """Windows to forecast from ``[k, n_steps, F]``.

    Each is forecast at the reading at one of ``places``, of ``series`` in the roster's ``slots``,
    and ``times`` are those of its newest reading. ``runs`` and ``filled`` as in ``Advance``.
    """

    windows: Floats
    runs: Ints
    filled: Ints | None
    places: Ints
    series: list[bytes]
    slots: Ints
    times: Ints

    def some(self, chosen: Bools) -> "Due":
        """Return the chosen ones ``[k]``."""
        if chosen.all():
            return self
        return Due(
            self.windows[chosen],
            self.runs[chosen],
            None if self.filled is None else self.filled[chosen],
            self.places[chosen],
            [self.series[place] for place in np.flatnonzero(chosen).tolist()],
            self.slots[chosen],
            self.times[chosen],
        )


@dataclass(frozen=True, slots=True)
class Made:
    """Records, each made at the reading at one of ``places``, of a series in one of ``slots``."""

    places: Ints
    series: list[bytes]
    slots: Ints
    records: list[bytes]


class Serving:
    """A model with what stands before and behind it.

    Args:
        model: forecasts.
        windows: of its series.
        slots: what comes before these; None: each reading is whole and counts by itself.
        fleet: whose forecasts these are.
        most: windows to forecast from at a time, about.
        naive: whether series whose window is too short for the model are forecast without it.
        letters_of_late: whether a reading that comes too late is a dead letter, or counted alone.
        clock: seconds, to measure how long the model takes.
    """

    def __init__(
        self,
        model: Model,
        windows: WindowStore,
        slots: OpenSlots | None,
        fleet: str,
        most: int,
        *,
        naive: bool,
        letters_of_late: bool,
        clock: Callable[[], float],
    ) -> None:
        self._model, self._windows, self._slots = model, windows, slots
        self._most, self._clock, self._letters_of_late = most, clock, letters_of_late
        self._writer = RecordWriter(model.spec, fleet)
        self._beginner = beginner_of(model.spec, fleet) if naive else None
        self._joins = grid_of(model.spec).joins
        self._calendar = model.spec.calendar
        self._told_broken = False

    @property
    def is_waiting(self) -> bool:
        """Whether a slot is open, which may have to be closed at any reading."""
        return self._slots is not None and self._slots.any

    def serve(
        self,
        batch: Batch,
        chosen: Ints,
        rows: Ints,
        commit: Commit,
        names: Callable[[Ints], tuple[Ints, list[bytes]]],
        pulse: Pulse,
        *,
        forecasts: bool,
    ) -> list[Made]:
        """Move windows on by the chosen readings of a batch, and forecast unless it is a replay.

        Args:
            batch: readings, of any model's series.
            chosen: those of this model's ``[k]``, ascending.
            rows: of their series ``[k]``.
            commit: takes what becomes of them but for the records.
            names: returns the roster's slots of rows and the names of their series.
            pulse: called now and then.
            forecasts: whether there are to be any.
        """
        waited = commit.fates.waiting
        chosen, rows, values = self._sound(batch.readings, chosen, rows, commit)
        if self._slots is None or not self._slots.wants(values):
            times = elapsed(batch.readings.times[chosen], self._calendar)
            advance = self._windows.push(rows, times, values, pulse)
            dues: Iterator[Due] = iter([self._due(batch, chosen, advance, None, commit)])
        else:
            dues = self._by_slots(self._slots, batch, chosen, rows, values, commit, names, pulse)
        made, ready, size = list[Made](), list[Due](), 0
        for due in dues:
            ready.append(due)
            size += len(due.places)
            if size >= self._most:
                made += self._forecast(ready, batch, commit, pulse) if forecasts else ()
                ready, size = [], 0
        if forecasts:
            self._remark(commit, rows if commit.fates.waiting > waited else rows[:0])
            made += self._forecast(ready, batch, commit, pulse)
        return made

    def _by_slots(
        self,
        slots: OpenSlots,
        batch: Batch,
        chosen: Ints,
        rows: Ints,
        values: Floats,
        commit: Commit,
        names: Callable[[Ints], tuple[Ints, list[bytes]]],
        pulse: Pulse,
    ) -> Iterator[Due]:
        """Move windows on where slots stand before them, and close those that are due."""
        readings = batch.readings
        loud = np.ones(len(chosen), np.bool_)
        if readings.silent is not None:
            loud = ~readings.silent[chosen]
        stream, before = elapsed(batch.stream, self._calendar), np.array([batch.before])
        parts = slots.parts(stream, int(elapsed(before, self._calendar)[0]))
        for low, high, due in parts:
            slots.beat(pulse)
            if due is not None:
                gone = {slot for slot, since in batch.gone.items() if since < low}
                for closed in slots.close(due, names, gone, self._most):
                    pulse()
                    yield self._closed(np.full(len(closed.rows), low), closed, commit, names)
            first, beyond = np.searchsorted(chosen, (low, high)).tolist()
            if first == beyond:
                continue
            some = slice(first, beyond)
            times = elapsed(readings.times[chosen[some]], self._calendar)
            taken = slots.take(rows[some], times, values[some], loud[some], pulse)
            yield from self._taken(batch, chosen[some], taken, commit, names)

    def _taken(
        self,
        batch: Batch,
        chosen: Ints,
        taken: Taken,
        commit: Commit,
        names: Callable[[Ints], tuple[Ints, list[bytes]]],
    ) -> Iterator[Due]:
        commit.fates.joined += taken.joined
        commit.fates.ignored += taken.ignored
        for places, closed in taken.closed:
            yield self._closed(chosen[places], closed, commit, names)
        for places, advance, times in taken.parts:
            yield self._due(batch, chosen[places], advance, times, commit)

    def _due(
        self, batch: Batch, chosen: Ints, advance: Advance, times: Ints | None, commit: Commit
    ) -> Due:
        """Return the windows that readings completed, and count what became of all of them."""
        readings = batch.readings
        silent = None if readings.silent is None else readings.silent[chosen]
        _count(advance, len(chosen), silent, commit)
        if advance.refused and "late" not in commit.clues:
            place = min(advance.refused)
            said = advance.refused[place]
            commit.clues["late"] = _late(readings, int(chosen[place]), said, self._calendar)
        if advance.refused and not self._letters_of_late and self._model.spec.spec_version > 1:
            commit.fates.dropped += len(advance.refused)
        elif advance.refused:
            places = np.array(sorted(advance.refused), np.int64)
            reasons = [advance.refused[place] for place in places.tolist()]
            order = np.argsort(chosen[places], kind="stable").tolist()
            reasons = [reasons[place] for place in order]
            refuse(commit, readings, chosen[places[order]], reasons.__getitem__, "late")
        ready = chosen[advance.ready]
        due = Due(
            advance.windows,
            advance.runs,
            advance.filled,
            ready,
            _chosen(readings.series, ready),
            batch.slots[ready],
            readings.times[ready] if times is None else self._moment(times[advance.ready]),
        )
        return due if silent is None else due.some(~silent[advance.ready])

    def _closed(
        self,
        places: Ints,
        closed: Closed,
        commit: Commit,
        names: Callable[[Ints], tuple[Ints, list[bytes]]],
    ) -> Due:
        """Return the windows that slots completed which closed at readings."""
        advance, ready = closed.advance, closed.advance.ready
        slots, series = names(closed.rows[ready])
        due = Due(
            advance.windows,
            advance.runs,
            advance.filled,
            places[ready],
            series,
            slots,
            self._moment(closed.times[ready]),
        ).some(closed.loud[ready])
        commit.fates.closed += len(due.places)
        commit.fates.broken += len(closed.broken)
        if len(closed.broken):
            some = some_of([name.decode() for name in names(closed.broken)[1]])
            lacking = [self._model.spec.features[place] for place in closed.lacking]
            commit.clues["values"] = (
                f"model {self._model.spec.name}: slots of series {some} are left out, as they have "
                f"no {' and no '.join(map(repr, lacking))}, nor has any within max_gap before (see "
                "docs/time.md); is the field called otherwise?"
            )
            if not self._told_broken:
                self._told_broken = True
                commit.remarks.append(commit.clues["values"])
        return due

    def _forecast(
        self, dues: Sequence[Due], batch: Batch, commit: Commit, pulse: Pulse
    ) -> list[Made]:
        """Return the records of what is due; those of one reading in the order of ``dues``."""
        dues = [due for due in dues if len(due.places)]
        if not dues:
            return []
        due = dues[0] if len(dues) == 1 else _together(dues)
        if (np.diff(due.places) < 0).any():
            due = _sorted(due)
        short = np.zeros(len(due.places), np.bool_)
        if self._beginner is not None:
            short = np.asarray(due.runs < self._beginner.least)
        if self._beginner is None or not short.any():
            return [self._made(due, batch, commit, pulse)[0]]
        early = due.some(short)
        ids = _chosen(batch.readings.ids, early.places)
        records = self._beginner.forecast(early, ids)
        naive = Made(early.places, early.series, early.slots, records)
        if short.all():
            return [naive]
        made, finite = self._made(due.some(~short), batch, commit, pulse)
        numbers = np.append(np.flatnonzero(short), np.flatnonzero(~short)[finite])
        return [_in_order(naive, made, np.argsort(numbers))]

    def _made(self, due: Due, batch: Batch, commit: Commit, pulse: Pulse) -> tuple[Made, Bools]:
        """Return the records that the model makes of windows, and of which it does ``[k]``."""
        start = self._clock()
        answer = self._model.predict(due.windows, pulse)
        forecasts = answer.forecasts
        commit.inference.append((self._model.spec.name, self._clock() - start))
        finite = np.asarray(np.isfinite(forecasts).all(axis=(1, 2)))
        if not finite.all():
            failed = np.flatnonzero(~finite).tolist()
            # What is forecast when a slot closes may be of another series than the reading.
            reasons = [
                f"series {due.series[place].decode()}: {answer.failed.get(place, NOT_FINITE)}"
                if due.series[place] != batch.readings.series[due.places[place]]
                else answer.failed.get(place, NOT_FINITE)
                for place in failed
            ]
            refuse(commit, batch.readings, due.places[failed], reasons.__getitem__, "forecast")
            due, forecasts = due.some(finite), forecasts[finite]
        commit.filled += 0 if due.filled is None else int((due.filled > 0).sum())
        ids = _chosen(batch.readings.ids, due.places)
        records = self._writer.write(due.series, due.times, ids, forecasts, due.filled)
        return Made(due.places, due.series, due.slots, records), finite

    def _moment(self, shown: Ints) -> Ints:
        """Return when the clock of the model's calendar shows something."""
        return moment(shown, self._calendar)

    def _remark(self, commit: Commit, waiting: Ints) -> None:
        """Say if readings come at another pace than the model's, and how far rows are that wait."""
        if remark := self._windows.pace.remark:
            commit.clues["pace"] = f"model {self._model.spec.name}: {remark}"
            commit.remarks += {commit.clues["pace"]}.difference(commit.remarks)
        if len(waiting):
            there, wanted = self._windows.longest(waiting)
            commit.clues["waiting"] = (
                f"of the {wanted} steps in a row that model {self._model.spec.name} forecasts "
                f"from, the longest window has {there}"
            )

    def _sound(
        self, readings: Readings, chosen: Ints, rows: Ints, commit: Commit
    ) -> tuple[Ints, Ints, Floats]:
        """Return those of the chosen readings that say something, with their rows and values.

        Others are counted or refused. Where features are joined, values may be NaN.
        """
        features = self._model.spec.features
        values = _matrix(readings, features, chosen, self._model.spec.numbers)
        finite = np.isfinite(values)
        if finite.all():
            return chosen, rows, values
        unfit = _unfit(readings, chosen, values, features, joins=self._joins)
        kept = np.asarray(finite.any(axis=1) if self._joins else finite.all(axis=1))
        kept[unfit] = False
        commit.fates.missing += int((~kept).sum()) - len(unfit)
        if len(unfit):
            _refuse_unfit(commit, readings, chosen[unfit], finite[unfit], features)
        return chosen[kept], rows[kept], values[kept]


@dataclass(frozen=True, slots=True)
class Beginner:
    """Forecasts without a model while windows have fewer than ``least`` slots, too few for it."""

    least: int
    naive: Naive
    newest: RecordWriter
    seasonal: RecordWriter

    def forecast(self, due: Due, ids: Sequence[bytes]) -> list[bytes]:
        """Return the records of such windows, at readings of entries with these ids."""
        newest = self.naive.newest(due.windows)
        records = self.newest.write(due.series, due.times, ids, newest)
        seasonal = self.naive.seasonal(due.runs)
        if seasonal.any():
            some, places = due.some(seasonal), np.flatnonzero(seasonal).tolist()
            before = self.naive.season_before(some.windows)
            own = [ids[place] for place in places]
            others = self.seasonal.write(some.series, some.times, own, before)
            for place, record in zip(places, others, strict=True):
                records[place] = record
        return records


def beginner_of(spec: ModelSpec, fleet: str) -> Beginner | None:
    """Return what forecasts until a model can, None where there is nothing to repeat."""
    naive = naive_of(spec)
    if naive is None:
        return None
    writers = (RecordWriter(spec, fleet, name) for name in ("naive", "seasonal-naive"))
    return Beginner(min(spec.n_steps, grid_of(spec).min_steps or spec.n_steps), naive, *writers)


def _together(dues: Sequence[Due]) -> Due:
    filled = None
    if any(due.filled is not None for due in dues):
        each = [np.zeros(len(d.places), np.int64) if d.filled is None else d.filled for d in dues]
        filled = np.concatenate(each)
    return Due(
        np.concatenate([due.windows for due in dues]),
        np.concatenate([due.runs for due in dues]),
        filled,
        np.concatenate([due.places for due in dues]),
        list(chain.from_iterable(due.series for due in dues)),
        np.concatenate([due.slots for due in dues]),
        np.concatenate([due.times for due in dues]),
    )


def _in_order(one: Made, other: Made, order: Ints) -> Made:
    """Return what two have made, in an order of both."""
    series, records = [*one.series, *other.series], [*one.records, *other.records]
    return Made(
        np.append(one.places, other.places)[order],
        [series[place] for place in order.tolist()],
        np.append(one.slots, other.slots)[order],
        [records[place] for place in order.tolist()],
    )


def _sorted(due: Due) -> Due:
    """Return the same by the readings at which they are forecast, else in their order."""
    order = np.argsort(due.places, kind="stable")
    return Due(
        due.windows[order],
        due.runs[order],
        None if due.filled is None else due.filled[order],
        due.places[order],
        [due.series[place] for place in order.tolist()],
        due.slots[order],
        due.times[order],
    )


def _late(readings: Readings, reading: int, said: str, calendar: Calendar | None) -> str:
    """Return an example of a reading that comes too late, for which ``said`` is the reason."""
    time = int(readings.times[reading])
    behind = re.match(r"late: (\d+) ms before", said)
    if behind and not calendar:
        said = f"whose newest reading is of {iso_of(time + int(behind[1]))}"
    name = readings.series[reading].decode()
    return f"one of series {name} of {iso_of(time)}, {said.removeprefix('late: ')}"


def _count(advance: Advance, pushed: int, silent: Bools | None, commit: Commit) -> None:
    """Count what became of so many readings, of which some are history, without a forecast."""
    fates = commit.fates
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


def _chosen(cells: list[bytes], places: Ints) -> list[bytes]:
    """Return the cells at places."""
    if len(places) == len(cells) and (np.diff(places) == 1).all():
        return cells
    return [cells[place] for place in places.tolist()]


def _matrix(readings: Readings, features: Sequence[str], chosen: Ints, numbers: Numbers) -> Floats:
    """Return features of the chosen readings ``[k, F]``; NaN where absent, inf where too large."""
    values: Floats = np.full((len(chosen), len(features)), np.nan, numbers)
    with np.errstate(over="ignore"):
        for place, name in enumerate(features):
            if name in readings.columns:
                values[:, place] = readings.columns[name][chosen]
    if numbers == "float64":  # a reading that one model refuses is refused by all
        values[np.abs(values) > LARGEST_FLOAT32] = np.inf
    return values


def _unfit(
    readings: Readings, chosen: Ints, values: Floats, features: Sequence[str], *, joins: bool
) -> Ints:
    """Return the places of the readings of which some value is none, and not said to be missing.

    Where features are joined, a reading that names one may be without others.
    """
    missing, wrong = _faults(readings, chosen, features)
    unfit = ~np.isfinite(values) & ~missing
    if joins:
        some = (np.isfinite(values) | missing).any(axis=1)
        unfit[some] &= wrong[some] | np.isinf(values[some])
    return np.flatnonzero(unfit.any(axis=1))


def _faults(readings: Readings, chosen: Ints, features: Sequence[str]) -> tuple[Bools, Bools]:
    """Tell which values of the chosen readings are said to be missing, and which are wrong."""
    missing, wrong = (np.zeros((len(chosen), len(features)), np.bool_) for _ in range(2))
    if readings.faults:
        rows = {reading: place for place, reading in enumerate(chosen.tolist())}
        columns = {name: place for place, name in enumerate(features)}
        for (reading, name), fault in readings.faults.items():
            if reading in rows and name in columns:
                marks = missing if fault == MISSING else wrong
                marks[rows[reading], columns[name]] = True
    return missing, wrong


def _refuse_unfit(
    commit: Commit, readings: Readings, unfit: Ints, finite: Bools, features: Sequence[str]
) -> None:
    """Refuse readings of which some value is not finite ``[k, F]``."""

    def reason(place: int) -> str:
        sound = zip(features, finite[place].tolist(), strict=True)
        reading = int(unfit[place])
        faults = (readings.fault(reading, name) for name, is_sound in sound if not is_sound)
        return "; ".join(dict.fromkeys(faults)) + readings.hint(reading)

    refuse(commit, readings, unfit, reason, "value")
