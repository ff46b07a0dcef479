"""Every series' rolling window, kept in arrays and moved forward a batch at a time; pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.columns import Array, Column, ColumnSet, Table
from tidecast.worker.pipeline.grid import (
    Grid,
    extend,
    fill,
    holes_in,
    holes_of,
    is_next_step,
    opened_at,
    slots_between,
)
from tidecast.worker.pipeline.pace import Pace
from tidecast.worker.pipeline.wire import Pulse

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Bytes = npt.NDArray[np.uint8]
PARTS_AT_ONCE = 200
"""Parts of a batch that are taken without a pulse."""
UNKNOWN = -1
"""How many holes lie before a row that begins with one, if the reading before them is not known."""
NOTHING: Ints = np.zeros(0, np.int64)
EMPTY, PARTLY = 1, 2
"""Marks of a slot that no reading filled, and of one that has readings of some features alone."""
LONGEST_RUN = 2**30
"""Slots of a run that are counted."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What a batch of readings did to the windows.

    ``windows`` ``[k, n_steps, F]`` are the full windows that ``ready`` ``[k]``, positions in the
    batch in their given order, completed; ``runs`` ``[k]`` are the lengths of the runs that end
    there. ``refused`` maps the positions of readings that came too late to the reason. ``filled``
    ``[k]`` counts the slots of each window that no reading filled; None: of none of them any.
    ``amended`` are the positions of readings that changed slots that windows hold and completed
    none, ``ignored`` of those that said what was known, or came after one that counts.
    """

    windows: Floats
    ready: Ints
    runs: Ints
    refused: dict[int, str] = field(default_factory=dict)
    filled: Ints | None = None
    amended: Ints = field(default_factory=lambda: NOTHING)
    ignored: Ints = field(default_factory=lambda: NOTHING)


def column_sets(n_steps: int, n_features: int, grid: Grid) -> list[ColumnSet]:
    """Return all that a store of such windows keeps of a series."""
    kept = [columns_of(n_steps, n_features, grid.column)]
    if grid.step_ms is not None and grid.amends:
        kept.append(READ)
    return [*kept, marks_of(n_steps, n_features, grid.column)] if grid.most else kept


def marks_of(n_steps: int, n_features: int, values: str = "<f4") -> ColumnSet:
    """Return what windows keep of which slots no reading filled.

    ``holes`` ``[n_steps]`` is ``EMPTY`` for each such of ``tail`` and ``PARTLY`` for each that
    holds some features from before, ``spoiled`` how many both are. Where ``tail`` begins with one
    of the first kind, ``edge`` ``[F]`` is the reading before it and ``gone`` how many others
    lay between.
    """
    holes = Column("holes", "<u1", (n_steps,), rolling=True)
    edge = Column("edge", values, (n_features,)), Column("gone", "<i4")
    return ColumnSet("holes", 1, (Column("spoiled", "<i4"), *edge, holes))


READ = ColumnSet("read", 1, (Column("latest", "<i8"), Column("crowd", "<i4")))
"""What windows keep of the readings of their newest slot: the time of the latest, and how many of
different times there were."""


def columns_of(n_steps: int, n_features: int, values: str = "<f4") -> ColumnSet:
    """Return what windows keep of a series.

    ``run`` is the length of the unbroken run of slots, ``newest`` when its newest slot lies, in
    milliseconds since 1970 (``grid.opened_at``), ``tail`` ``[n_steps, F]`` the values of its newest
    slots, of a dtype.
    """
    tail = Column("tail", values, (n_steps, n_features), rolling=True)
    return ColumnSet("windows", 1, (Column("run", "<i4"), Column("newest", "<i8"), tail))


@dataclass(slots=True)
class _Newest:
    """The newest slot of a row: when it lies, its latest reading, and how many it had."""

    opened: int
    latest: int
    crowd: int = 1

    def holds(self, time: int, step: float, *, counts: bool) -> bool:
        """Tell whether a reading belongs to this slot or an older one; count it if it counts."""
        if 2 * (time - self.opened) > step:
            return False
        if counts and time > self.latest:
            self.latest, self.crowd = time, self.crowd + 1
        return True

    def open(self, time: int, step: float) -> None:
        """Become the slot that a later reading opens."""
        slots = slots_between(np.array([time - self.opened]), step)
        one = np.array([time]), np.array([self.opened])
        self.opened = int(opened_at(*one, slots, self.crowd > 1, step)[0])
        self.latest, self.crowd = time, 1


class WindowStore:
    """The newest ``n_steps`` slots of every series, and the rule for gaps and late readings.

    A reading that follows its series' previous one by one step (``grid.is_next_step``) extends
    the run; behind a gap that the grid fills, the filled slots do so before it, and behind another
    the run starts anew with that reading. One that comes half a step or less after it, or before,
    belongs to a slot that is there, and amends it where the grid does so (``_amend``); else, and
    where the window does not hold that slot, it is refused and changes nothing. Without a step
    every reading extends the run. A window counts when the run is at least ``n_steps`` long, or
    ``grid.min_steps``: what it lacks is then its oldest value.

    Args:
        table: holds the columns of ``column_sets``, a row for each series.
        n_steps: slots in a window.
        grid: how slots follow one another.
    """

    def __init__(self, table: Table, n_steps: int, grid: Grid) -> None:
        self._table = table
        self._n_steps = n_steps
        self._grid = grid
        self._step_ms = grid.step_ms
        self._fills = grid.most > 0
        self._amends = grid.step_ms is not None and grid.amends
        self._least = min(n_steps, grid.min_steps or n_steps)
        self.pace = Pace(grid.step_ms, amends=grid.amends)
        """How far apart the readings come."""

    def restored(self, rows: Ints, depth: int) -> None:
        """Make right what a table has put back into rows from tails of some depth.

        They are taken for no longer than that, and begin with a reading. Of a window that began
        anew only what has come since was written, so marks from before may still be there; and
        what they lack of their newest slot's readings was not kept by whoever wrote them.
        """
        if depth < self._n_steps:
            self._runs[rows] = np.minimum(self._runs[rows], depth)
        if self._amends:
            unread = rows[(self._table["crowd"][rows] == 0) & (self._runs[rows] > 0)]
            self._table["latest"][unread], self._table["crowd"][unread] = self._newest[unread], 1
        if not self._fills:
            return
        runs, age = self._runs[rows], np.arange(self._n_steps, 0, -1)
        counts = age <= runs[:, None]
        marks = np.where(counts, self._table["holes"][rows], 0)
        some = np.flatnonzero((runs > 0) & (runs < self._n_steps))
        first = np.argmax(counts[some] & (marks[some] != EMPTY), axis=1)
        self._runs[rows[some]] = self._n_steps - first
        marks[some[:, None], np.arange(self._n_steps)] *= np.arange(self._n_steps) >= first[:, None]
        self._table["holes"][rows] = marks
        self._table["spoiled"][rows] = np.count_nonzero(marks, axis=1)
        if depth != self._n_steps:
            self._table["gone"][rows] = UNKNOWN

    def is_known(self, rows: Ints) -> npt.NDArray[np.bool_]:
        """Tell which rows have a slot ``[k]``."""
        known: npt.NDArray[np.bool_] = self._runs[rows] > 0
        return known

    def is_crowded(self, rows: Ints) -> npt.NDArray[np.bool_]:
        """Tell of which rows the newest slot had several readings ``[k]``."""
        crowded: npt.NDArray[np.bool_] = self._table["crowd"][rows] > 1
        return crowded

    def longest(self, rows: Ints) -> tuple[int, int]:
        """Return how many slots the longest run of rows has, and how many windows are to have."""
        return int(self._runs[rows].max(initial=0)), self._least

    def newest(self, rows: Ints) -> Ints:
        """Return when the newest slot of each row lies ``[k]``."""
        newest: Ints = self._newest[rows]
        return newest

    def newest_values(self, rows: Ints) -> Floats:
        """Return what the newest slot of each row holds ``[k, F]``."""
        values: Floats = self._tails[rows, -1]
        return values

    def newest_mark(self, rows: Ints) -> Bytes:
        """Return the mark of the newest slot of each row ``[k]``."""
        return self._table["holes"][rows, -1] if self._fills else np.zeros(len(rows), np.uint8)

    @property
    def _runs(self) -> Array:
        return self._table["run"]

    @property
    def _newest(self) -> Array:
        return self._table["newest"]

    @property
    def _tails(self) -> Array:
        return self._table["tail"]

    def push(self, rows: Ints, times: Ints, values: Floats, pulse: Pulse = lambda: None) -> Advance:
        """Append readings and return the windows they complete.

        Args:
            rows: the series' row of each reading, ``[m]``, in the order the readings came.
            times: milliseconds since 1970, ``[m]``.
            values: finite numbers, ``[m, F]``.
            pulse: called now and then, where many readings have to be taken one by one.
        """
        if self.pace.looks():
            self._watch(rows, times)
        if len(rows) < 2 or bool((np.diff(np.sort(rows)) > 0).all()):
            return self._push_each_once(rows, times, values)
        order = np.argsort(rows, kind="stable")
        if self._step_ms is not None:
            late = self._behind(rows[order], times[order])
            if late.any():
                return self._push_with_late(rows, times, values, rows[order][late], pulse)
        return self._joined(rows, times, values, order)

    def _watch(self, rows: Ints, times: Ints) -> None:
        """See how far readings come behind those before them."""
        order = np.argsort(rows, kind="stable")
        rows, times = rows[order], times[order]
        first = np.r_[True, rows[1:] != rows[:-1]][: len(rows)]
        before = self._table["latest" if self._amends else "newest"][rows]
        before[~first] = times[:-1][~first[1:]]
        self.pace.see((times - before)[~first | (self._runs[rows] > 0)])

    def _push_each_once(self, rows: Ints, times: Ints, values: Floats) -> Advance:
        """Append readings of as many series; by far the most usual batch, and the quickest."""
        if self._step_ms is None:
            return self._extend(rows, times, times, values, self._runs[rows] + 1)
        runs, since = self._runs[rows] + 1, times - self._newest[rows]
        known = runs > 1
        behind = known & (2 * since <= self._step_ms)
        if behind.any():
            late, rest = np.flatnonzero(behind), np.flatnonzero(~behind)
            return self._together(
                [
                    (late, self._amend(rows[late], times[late], values[late])),
                    (rest, self._push_each_once(rows[rest], times[rest], values[rest])),
                ]
            )
        gaps = known & ~is_next_step(since, self._step_ms)
        if self._fills and gaps.any() and self._fillable(since[gaps]).any():
            return self._joined(rows, times, values, np.argsort(rows))
        runs[gaps] = 1
        if self._fills:
            self._unmark(rows[gaps])
        opened = times
        if self._amends:
            crowded = known & (self._table["crowd"][rows] > 1)
            if crowded.any():
                slots = slots_between(since, self._step_ms)
                opened = opened_at(times, self._newest[rows], slots, crowded, self._step_ms)
        return self._extend(rows, opened, times, values, runs)

    def _extend(self, rows: Ints, opened: Ints, times: Ints, values: Floats, runs: Ints) -> Advance:
        """Append a reading to each row, of which the slots lie and the runs are so long then."""
        windows = np.empty((len(rows), *self._tails.shape[1:]), self._tails.dtype)
        windows[:, :-1], windows[:, -1] = self._tails[rows, 1:], values
        filled = self._marked_once(rows) if self._fills else None
        self._tails[rows] = windows
        self._runs[rows] = np.minimum(runs, LONGEST_RUN)
        self._newest[rows] = opened
        self._table.moved[rows] += 1
        if self._amends:
            self._table["latest"][rows], self._table["crowd"][rows] = times, 1
        ready = np.flatnonzero(runs >= self._least)
        if len(ready) < len(runs):
            windows, runs = windows[ready], runs[ready]
            filled = None if filled is None else filled[ready]
        return Advance(windows, ready, runs, filled=self._extended(windows, runs, filled))

    def _together(self, parts: Sequence[tuple[Ints, Advance]]) -> Advance:
        """Return as one what parts of a batch did, each with its places there."""
        parts = [part for part in parts if len(part[0])]
        ready = np.concatenate([places[advance.ready] for places, advance in parts])
        order = np.argsort(ready)
        none = [np.zeros(len(advance.ready), np.int64) for _, advance in parts]
        filled = None
        if any(advance.filled is not None for _, advance in parts):
            some = (advance.filled for _, advance in parts)
            each = [n if one is None else one for n, one in zip(none, some, strict=True)]
            filled = np.concatenate(each)[order]
        return Advance(
            np.concatenate([advance.windows for _, advance in parts])[order],
            ready[order],
            np.concatenate([advance.runs for _, advance in parts])[order],
            {
                int(places[place]): reason
                for places, advance in parts
                for place, reason in advance.refused.items()
            },
            filled,
            np.concatenate([places[advance.amended] for places, advance in parts]),
            np.concatenate([places[advance.ignored] for places, advance in parts]),
        )

    def _push_with_late(
        self, rows: Ints, times: Ints, values: Floats, odd: Ints, pulse: Pulse
    ) -> Advance:
        """Append readings of which those of some rows, ``odd``, come late now and then.

        Readings of one row are taken in their order: what lies between two late ones at once, and
        late ones one by one.
        """
        mine = np.isin(rows, odd)
        usual, rest = np.flatnonzero(~mine), np.flatnonzero(mine)
        late, waves = self._waves(rows[rest], times[rest])
        parts = [usual] if len(usual) else []
        for wave in range(int(waves.max()) + 1):
            some = waves == wave
            parts += [part for part in (rest[some & ~late], rest[some & late]) if len(part)]
        told = []
        is_late = np.zeros(len(rows), np.bool_)
        is_late[rest] = late
        for number, part in enumerate(parts):
            if number % PARTS_AT_ONCE == PARTS_AT_ONCE - 1:
                pulse()
            some_rows, some_times, some_values = rows[part], times[part], values[part]
            if is_late[part[0]]:
                told.append((part, self._amend(some_rows, some_times, some_values)))
            else:
                order = np.argsort(some_rows, kind="stable")
                told.append((part, self._joined(some_rows, some_times, some_values, order)))
        return self._together(told)

    def _waves(self, rows: Ints, times: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Tell which readings are late ``[m]``, and after how many late ones of its row each comes.

        One by one, as each verdict hangs on the one before.
        """
        step, known = self._step_ms or 0.0, dict[int, _Newest]()
        behind: dict[int, int] = {}
        late, waves = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.int64)
        for i, (row, time) in enumerate(zip(rows.tolist(), times.tolist(), strict=True)):
            newest = known.get(row) or self._newest_of(row)
            late[i] = newest is not None and newest.holds(time, step, counts=self._amends)
            waves[i] = behind.get(row, 0)
            if late[i]:
                behind[row] = behind.get(row, 0) + 1
            elif newest is None:
                newest = _Newest(time, time)
            else:
                newest.open(time, step)
            if newest is not None:
                known[row] = newest
        return late, waves

    def _newest_of(self, row: int) -> "_Newest | None":
        """Return the newest slot of a row, None where it has none."""
        if not self._runs[row]:
            return None
        table = self._table
        read = (int(table["latest"][row]), int(table["crowd"][row])) if self._amends else (0, 1)
        return _Newest(int(self._newest[row]), *read)

    def _extended(self, windows: Floats, runs: Ints, filled: Ints | None) -> Ints | None:
        """Extend windows that lack something; return how much of each no reading filled."""
        if self._least == self._n_steps or not (runs < self._n_steps).any():
            return filled
        extend(windows, runs)
        lacking = np.maximum(0, self._n_steps - runs)
        return lacking if filled is None else filled + lacking

    def _unmark(self, rows: Ints) -> None:
        """Forget which slots of rows were filled, as their windows start anew."""
        some = rows[self._table["spoiled"][rows] > 0]
        self._table["holes"][some] = 0
        self._table["spoiled"][some] = 0

    def _fillable(self, since: Ints) -> npt.NDArray[np.bool_]:
        """Tell which of some readings, so much after the ones before, lie behind filled gaps."""
        if self._step_ms is None:
            return np.zeros(len(since), np.bool_)
        slots = slots_between(since, self._step_ms)
        fillable: npt.NDArray[np.bool_] = (slots > 1) & (slots <= 1 + self._grid.most)
        return fillable

    def _marked_once(self, rows: Ints) -> Ints | None:
        """Move the marks on by a reading of each row; return how many each window has ``[m]``."""
        spoiled = self._table["spoiled"][rows]
        some = np.flatnonzero(spoiled)
        if not len(some):
            return None
        marks, few = self._table["holes"], rows[some]
        going = marks[few, 0]
        gone = self._table["gone"][few]
        self._table["gone"][few] = np.where(
            going == EMPTY, np.where(gone < 0, UNKNOWN, gone + 1), 0
        )
        real = few[going != EMPTY]
        self._table["edge"][real] = self._tails[real, 0]
        spoiled[some] -= going > 0
        marks[few, :-1] = marks[few, 1:]
        marks[few, -1] = 0
        self._table["spoiled"][few] = spoiled[some]
        return spoiled.astype(np.int64) if spoiled.any() else None

    def _joined(self, rows: Ints, times: Ints, values: Floats, order: Ints) -> Advance:
        """Append readings, none late, of series that may come often; ``order`` puts them by row."""
        if not len(rows):
            return Advance(self.none(), order, order)
        return self._append(rows[order], times[order], values[order], order)

    def close(
        self,
        rows: Ints,
        opened: Ints,
        values: Floats,
        partly: npt.NDArray[np.bool_],
        latest: Ints,
        crowded: npt.NDArray[np.bool_],
    ) -> Advance:
        """Append slots that came together elsewhere, one to each row; see ``open_slots``.

        Args:
            rows: ``[k]``, each once.
            opened: when the slots lie, behind all that the rows have ``[k]``.
            values: finite ``[k, F]``.
            partly: which of them have features from before.
            latest: the times of their latest readings ``[k]``.
            crowded: which have readings of several times.
        """
        if self.pace.looks():
            self.pace.see((opened - self._newest[rows])[self._runs[rows] > 0])
        self._table["crowd"][rows] = 1  # or the slot would be laid where a crowd puts it
        advance = self._push_each_once(rows, opened, values)
        self._table["latest"][rows] = latest
        self._table["crowd"][rows] += crowded
        some = rows[partly]
        if len(some):
            self._table["holes"][some, -1] = PARTLY
            self._table["spoiled"][some] += 1
            none = np.zeros(len(advance.ready), np.int64)
            filled = none if advance.filled is None else advance.filled
            advance = replace(advance, filled=filled + partly[advance.ready])
        return advance

    def rewrite(
        self, rows: Ints, values: Floats, latest: Ints, crowded: npt.NDArray[np.bool_]
    ) -> Advance:
        """Give the newest slot of rows, each once, other values, and return their windows."""
        runs = self._runs[rows]
        self._put(rows, np.zeros(len(rows), np.int64), values, runs)
        self._table["latest"][rows] = latest
        self._table["crowd"][rows] = 1 + crowded
        ready = np.flatnonzero(runs >= self._least)
        return self._whole(rows[ready], ready)

    def complete(self, rows: Ints, times: Ints, values: Floats) -> Advance:
        """Put readings that may lack features (NaN) into slots that windows hold, each row once.

        What they lack stays as it is there. Those of a slot that is not held are refused.
        """
        since = times - self._table["latest"][rows]
        back = slots_between(self._newest[rows] - times, self._step_ms or 0.0)
        back = np.where(since >= 0, 0, back)
        held = back < np.minimum(self._runs[rows], self._n_steps)
        places = np.where(held, self._n_steps - 1 - back, 0)
        lacks = np.isnan(values)
        partly = lacks.any(axis=1) & held
        if self._fills:
            partly &= self._table["holes"][rows, places] > 0
        else:
            partly[:] = False
        values = np.where(lacks, self._tails[rows, places], values)
        sound = np.flatnonzero(held | ~lacks.any(axis=1))
        old = np.flatnonzero(~held & lacks.any(axis=1))
        advance = self._amend(rows[sound], times[sound], values[sound], partly[sound])
        refused = Advance(
            self.none(),
            *(old[:0], old[:0]),
            self._refused(rows[old], times[old], range(len(old))),
        )
        return self._together([(sound, advance), (old, refused)])

    def _whole(self, rows: Ints, ready: Ints) -> Advance:
        """Return the windows of rows as they are, at places of a batch."""
        windows, lengths = self._tails[rows], self._runs[rows]
        filled = self._table["spoiled"][rows].astype(np.int64) if self._fills else None
        return Advance(windows, ready, lengths, filled=self._extended(windows, lengths, filled))

    def _amend(
        self,
        rows: Ints,
        times: Ints,
        values: Floats,
        partly: npt.NDArray[np.bool_] | None = None,
    ) -> Advance:
        """Put readings into slots that are there, of rows that come once each.

        The reading of a slot that the window holds takes the place of what was there, and holes
        beside it are filled anew. One of the newest slot gives a forecast then; others do not, as
        what follows them was published. One of a slot before all that a short window holds begins
        it, as far as a gap between is filled. What says the same again, comes from before the
        newest slot's latest reading, or is the second where the first counts, is ignored. All
        others, and all where nothing is amended, are refused. ``partly`` tells which readings have
        some features from what was there; None: none.
        """
        if not self._grid.amends or self._step_ms is None:
            refused = self._refused(rows, times, range(len(rows)))
            return Advance(self.none(), rows[:0], rows[:0], refused)
        back = slots_between(self._newest[rows] - times, self._step_ms)
        runs, since = self._runs[rows], times - self._table["latest"][rows]
        back = np.where(since >= 0, 0, back)  # a step is no whole number of milliseconds, perhaps
        again = (back > 0) | (since == 0)
        held = back < np.minimum(runs, self._n_steps)
        begins = ~held & (back < self._n_steps) & (back - runs <= self._grid.most)
        places = np.where(held, self._n_steps - 1 - back, 0)
        real = held & (self._table["holes"][rows, places] == 0) if self._fills else held
        known = real & again & (self._tails[rows, places] == values).all(axis=1)
        known |= (back == 0) & (since < 0)
        if self._grid.twice == "first":
            known |= real & again
        changed = np.flatnonzero((held & ~known) | begins)
        some = False if partly is None else partly[changed]
        self._put(rows[changed], back[changed], values[changed], runs[changed], some)
        newer = changed[(back[changed] == 0) & (since[changed] > 0)]
        self._table["latest"][rows[newer]] = times[newer]
        self._table["crowd"][rows[newer]] += 1
        ready = changed[(back[changed] == 0) & (runs[changed] >= self._least)]
        old = np.flatnonzero(~held & ~begins).tolist()
        return replace(
            self._whole(rows[ready], ready),
            refused=self._refused(rows, times, old),
            amended=changed[back[changed] > 0],
            ignored=np.flatnonzero(known),
        )

    def _put(
        self,
        rows: Ints,
        back: Ints,
        values: Floats,
        runs: Ints,
        partly: npt.NDArray[np.bool_] | bool = False,
    ) -> None:
        """Write values into slots so far behind the newest of each row, and fill holes anew.

        ``partly`` tells which of these have some features from before.
        """
        places = self._n_steps - 1 - back
        self._tails[rows, places] = values
        self._runs[rows] = np.maximum(runs, back + 1)
        self._table.moved[rows] += self._n_steps  # a checkpoint takes all of the window then
        if not self._fills:
            return
        marks = self._table["holes"][rows]
        slots, each = np.arange(self._n_steps), np.arange(len(rows))
        beside = np.clip(places[:, None] + np.array([-1, 0, 1]), 0, self._n_steps - 1)
        fills = (marks[each[:, None], beside] == EMPTY).any(axis=1) | (back > runs)
        if self._grid.gaps == "seasonal":  # what is one season on may be a hole
            fills[:] = True
        marks[(slots > places[:, None]) & (slots < (self._n_steps - runs)[:, None])] = EMPTY
        marks[each, places] = np.where(partly, PARTLY, 0)
        self._table["holes"][rows] = marks
        self._table["spoiled"][rows] = np.count_nonzero(marks, axis=1)
        some = np.flatnonzero(fills)
        if len(some):
            self._fill_anew(rows[some], marks[some])

    def _fill_anew(self, rows: Ints, marks: Bytes) -> None:
        """Fill the holes of rows, which ``marks`` tell, by what lies around them now."""
        edges = self._table["edge"][rows]
        laid = np.concatenate([edges[:, None], self._tails[rows]], axis=1)
        holes = holes_in(marks, self._runs[rows], self._table["gone"][rows])
        fill(laid.reshape(-1, laid.shape[2]), holes, self._grid, self._n_steps)
        self._tails[rows] = laid[:, 1:]

    def _append(self, rows: Ints, times: Ints, values: Floats, order: Ints) -> Advance:
        """Append readings sorted by row.

        The slots of a row are laid behind its tail, so that every window is one slice::

            tail a | slots a | tail b | slots b | ...
        """
        m, back = len(rows), self._n_steps
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
        ends = np.r_[starts[1:], m]
        owners = rows[starts]
        group = np.repeat(np.arange(len(starts)), ends - starts)
        opened = self._opened(rows, times, starts)
        empties, broken = self._gaps(rows, times, opened, starts)
        runs = self._advance_runs(rows, starts, group, empties, broken)

        upto = np.cumsum(empties)
        places = np.arange(m) + upto + back * (group + 1)
        slots = m + int(upto[-1]) + back * len(starts)
        laid = np.empty((slots, values.shape[1]), self._tails.dtype)
        tails = (places[starts] - empties[starts])[:, None] + np.arange(-back, 0)
        laid[tails] = self._tails[owners]
        laid[places] = values
        holes = holes_of(empties, places, runs)
        fill(laid, holes, self._grid, self._n_steps)

        lasts = places[ends - 1]
        self._tails[owners] = laid[lasts[:, None] + np.arange(1 - back, 1)]
        self._runs[owners] = np.minimum(runs[ends - 1], LONGEST_RUN)
        self._newest[owners] = opened[ends - 1]
        if self._amends:
            self._table["latest"][owners], self._table["crowd"][owners] = times[ends - 1], 1
        self._table.moved[owners] += np.add.reduceat(1 + empties, starts)

        position = np.empty(m, np.int64)
        position[order] = np.arange(m)
        ready = np.flatnonzero((runs >= self._least)[position])
        chosen, long = places[position[ready]], runs[position[ready]]
        filled = None
        if self._fills:
            marks = self._marks(owners, tails, lasts, holes.places)
            if marks is not None:
                self._mark(owners, tails[:, 0], lasts, runs[ends - 1], marks, laid)
                upto = np.r_[0, np.cumsum(marks > 0)]
                filled = upto[chosen + 1] - upto[chosen + 1 - np.minimum(long, self._n_steps)]
        slices = np.lib.stride_tricks.sliding_window_view(laid, self._n_steps, axis=0)
        windows: Floats = slices.swapaxes(1, 2)[chosen - back + 1]
        return Advance(windows, ready, long, filled=self._extended(windows, long, filled))

    def _marks(self, owners: Ints, tails: Ints, lasts: Ints, holes: Ints) -> Bytes | None:
        """Return which of laid out slots no reading filled ``[L]``, None if each has one.

        Args:
            owners: the rows ``[k]``.
            tails: where the tail of each is laid ``[k, n_steps]``.
            lasts: where the newest slot of each is laid ``[k]``.
            holes: where slots are laid that were filled just now.
        """
        if not len(holes) and not self._table["spoiled"][owners].any():
            return None
        marks = np.zeros(int(lasts[-1]) + 1, np.uint8)
        marks[tails] = self._table["holes"][owners]
        marks[holes] = EMPTY
        return marks

    def _mark(
        self, owners: Ints, firsts: Ints, lasts: Ints, runs: Ints, marks: Bytes, laid: Floats
    ) -> None:
        """Keep the marks of rows as they are laid out, and what lies before a hole at their edge.

        Args:
            owners: the rows ``[k]``.
            firsts: where the first slot of each is laid ``[k]``.
            lasts: where the newest is ``[k]``.
            runs: the lengths of the runs that end there ``[k]``.
            marks: which of the laid out slots no reading filled ``[L]``.
            laid: what these slots hold ``[L, F]``.
        """
        back = self._n_steps
        mine = marks[lasts[:, None] + np.arange(1 - back, 1)]
        mine[np.arange(back, 0, -1) > runs[:, None]] = 0
        self._table["holes"][owners] = mine
        self._table["spoiled"][owners] = np.count_nonzero(mine, axis=1)
        some = np.flatnonzero(mine[:, 0] == EMPTY)
        if not len(some):
            return
        before, few = lasts[some] - back, owners[some]
        real = np.maximum.accumulate(np.where(marks != EMPTY, np.arange(len(marks)), -1))[before]
        known = real >= firsts[some]
        gone = self._table["gone"][few]
        further = np.where(gone < 0, UNKNOWN, gone + before - firsts[some] + 1)
        self._table["gone"][few] = np.where(known, before - real, further)
        self._table["edge"][few[known]] = laid[real[known]]

    def _opened(self, rows: Ints, times: Ints, starts: Ints) -> Ints:
        """Return when the slots lie that sorted readings open ``[m]``, the first of a row each.

        ``starts`` are where rows begin; behind the first, each slot has one reading.
        """
        if not self._amends or self._step_ms is None:
            return times
        owners, newest = rows[starts], self._newest[rows[starts]]
        crowded = (self._runs[owners] > 0) & (self._table["crowd"][owners] > 1)
        if not crowded.any():
            return times
        slots = slots_between(times[starts] - newest, self._step_ms)
        opened = times.copy()
        opened[starts] = opened_at(times[starts], newest, slots, crowded, self._step_ms)
        return opened

    def _gaps(
        self, rows: Ints, times: Ints, opened: Ints, starts: Ints
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return how many filled slots lie before each sorted reading, and before which a break."""
        none, never = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        if self._step_ms is None:
            return none, never
        since = times - self._previous(rows, opened)
        known = self._runs[rows] > 0
        known |= ~np.isin(np.arange(len(rows)), starts)
        gaps = known & ~is_next_step(since, self._step_ms)
        if not self._fills or not gaps.any():
            return none, gaps
        slots = slots_between(since, self._step_ms)
        fillable = gaps & self._fillable(since)
        return np.where(fillable, slots - 1, 0), gaps & ~fillable

    def _advance_runs(
        self,
        rows: Ints,
        starts: Ints,
        group: Ints,
        empties: Ints,
        broken: npt.NDArray[np.bool_],
    ) -> Ints:
        """Return the length of the unbroken run of slots that ends with each sorted reading."""
        upto = np.cumsum(1 + empties)
        before = (upto - 1 - empties)[starts][group]
        runs: Ints = self._runs[rows] + upto - before
        if not broken.any():
            return runs
        place = np.arange(len(rows))
        last = np.maximum.accumulate(np.where(broken, place, -1))
        return np.where(last >= starts[group], upto - upto[np.maximum(last, 0)] + 1, runs)

    def _previous(self, rows: Ints, opened: Ints) -> Ints:
        """Return when the slot before that of each sorted reading lies."""
        before = np.empty_like(opened)
        before[1:] = opened[:-1]
        first = np.r_[True, rows[1:] != rows[:-1]]
        before[first] = self._newest[rows[first]]
        return before

    def _behind(self, rows: Ints, times: Ints) -> npt.NDArray[np.bool_]:
        """Tell which sorted readings come half a step or less after the one before, or earlier."""
        known = self._runs[rows] > 0
        known[1:] |= rows[1:] == rows[:-1]
        opened = self._opened(rows, times, np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]]))
        since = times - self._previous(rows, opened)
        behind: npt.NDArray[np.bool_] = known & (2 * since <= (self._step_ms or 0.0))
        return behind

    def _refused(self, rows: Ints, times: Ints, places: Sequence[int]) -> dict[int, str]:
        """Return why readings are refused, by their places."""
        return {
            place: self._reason(int(times[place]), int(self._newest[rows[place]]))
            for place in places
        }

    def _reason(self, time: int, last: int) -> str:
        if time == last:
            return f"late: repeats the time {time} of the series' newest reading"
        if time < last:
            return f"late: {last - time} ms before the series' newest reading"
        step = self._step_ms or 0.0
        return f"off step: {time - last} ms after the last, the step is {step:g} ms"

    def none(self) -> Floats:
        """Return no window."""
        return np.empty((0, self._n_steps, self._tails.shape[2]), self._tails.dtype)
