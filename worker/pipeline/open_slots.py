"""Slots that are not whole yet: readings joined by feature, aggregated by rule; pure.

A slot is closed when all its features are there (and the last reading of each counts), when stream
time has passed its end, or when a later slot of its series is whole. ``docs/time.md`` draws it.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import Rule
from tidecast.worker.pipeline.aggregate import NAMES, Cells, Rules, kept_of
from tidecast.worker.pipeline.columns import Array, Column, ColumnSet, Table
from tidecast.worker.pipeline.grid import Grid, opened_at, slots_between
from tidecast.worker.pipeline.snapshot import State
from tidecast.worker.pipeline.windows import PARTLY, Advance, WindowStore
from tidecast.worker.pipeline.wire import Pulse

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
FREE, OPEN, WHOLE = 0, 1, 2
"""What a place for a slot holds: none, one that is to be forecast, one that was and may change."""
SHARES = 8
"""Parts of a step, at whose ends it is seen which slots of joined features are to be closed."""
TURNS_AT_ONCE = 20
"""Readings of a series that are taken without a pulse, where they are taken one by one."""
NEVER = -(2**62)
BY_SLOT = {"state", "slot", "opened", "first", "crowded", "loud", *NAMES}
"""Columns that have a place for each open slot."""
LAST: tuple[Rule, ...] = ("last",)


def depth_of(grid: Grid, lateness: float) -> int:
    """Return how many slots of a series may be open at once, 0 where none ever is.

    Args:
        grid: how slots follow one another.
        lateness: milliseconds that they stay open behind their ends.
    """
    if grid.step_ms is None or not (grid.rules or grid.joins):
        return 0
    return int(lateness // grid.step_ms) + (2 if grid.rules else 3)


def open_set(grid: Grid, n_features: int, lateness: float) -> ColumnSet:
    """Return what is kept of a series' open slots, each in a place that its number tells.

    ``slot`` is that number, ``state`` as in ``FREE``, ``opened`` when the slot lies, ``first`` the
    time of its first reading, ``crowded`` whether others came at another time, ``loud`` whether one
    is to be forecast; the next are ``aggregate.Cells``. ``fresh`` ``[F]`` is the slot of each
    feature's last reading, while the window's newest slot has some features from before. ``before``
    is when the last slot lay that was left out, ``was`` 0 where there is none, 2 where that was
    crowded.
    """
    depth, kept = depth_of(grid, lateness), kept_of(grid.rules)
    cells = depth, n_features
    columns = [
        Column("state", "<u1", (depth,)),
        Column("slot", "<i8", (depth,)),
        Column("opened", "<i8", (depth,)),
        Column("first", "<i8", (depth,)),
        Column("crowded", "<u1", (depth,)),
        Column("loud", "<u1", (depth,)),
        Column("at", "<i8", (*cells, kept)),
        Column("value", grid.column, (*cells, kept)),
        Column("count", "<i4", cells),
        Column("folded", "<f8", cells),
        Column("fresh", "<i8", (n_features,)),
        Column("before", "<i8"),
        Column("was", "<u1"),
    ]
    return ColumnSet("open", 2, tuple(columns))


@dataclass(frozen=True, slots=True)
class Closed:
    """Slots that were closed together.

    ``rows`` ``[k]`` are their series' and ``times`` when they lie; ``advance`` holds the windows of
    those that are forecast, ``ready`` being places in these. ``loud`` tells which have a reading
    that is no history. ``broken`` rows had a slot that lacked features for too long, ``lacking``.
    """

    rows: Ints
    times: Ints
    loud: Bools
    advance: Advance
    broken: Ints
    lacking: list[int]


@dataclass(slots=True)
class Taken:
    """What became of a batch of readings.

    ``parts`` are what they did to the windows, with their places in the batch and when what is
    forecast lies (None: at the reading). ``joined`` wait in a slot, ``ignored`` say nothing new.
    ``closed`` are slots that later ones closed, and the places of the readings that did.
    """

    parts: list[tuple[Ints, Advance, Ints | None]] = field(default_factory=list)
    joined: int = 0
    ignored: int = 0
    closed: list[tuple[Ints, Closed]] = field(default_factory=list)


class OpenSlots:
    """The open slots of a model's series.

    Where features are joined, slots lie as those of windows do and reach half a step either way;
    where readings are aggregated, they begin at whole steps since 1970. No wall clock decides
    anything.

    Args:
        table: holds the columns of ``open_set`` beside those of the windows.
        windows: takes slots that are closed.
        grid: how slots follow one another.
        n_features: of a reading.
        lateness: milliseconds that slots stay open behind their ends.
    """

    def __init__(
        self, table: Table, windows: WindowStore, grid: Grid, n_features: int, lateness: float
    ) -> None:
        self._table, self._windows, self._most = table, windows, grid.most
        self._step = float(grid.step_ms or 0.0)
        self._aggregates = bool(grid.rules)
        self._rules = Rules(
            grid.rules or LAST * n_features, grid.twice, kept_of(grid.rules), grid.column
        )
        self._lateness = lateness
        self.depth = depth_of(grid, lateness)
        """How many slots of a series may be open at once."""
        self._share = self._step if self._aggregates else self._step / SHARES
        self.due: float = NEVER
        """Slots that end before that are closed."""
        self._earliest: float = NEVER
        """No open slot ends before that, if it is known."""
        self._left_out = True
        """Whether slots of some row may have been left out."""
        self._beats = 0

    @property
    def any(self) -> bool:
        """Whether a slot is open, or one was left out behind which the next one lies."""
        size = self._table.size
        if self._earliest < np.inf and self._table["state"][:size].any():
            return True
        self._left_out = self._left_out and bool(self._table["was"][:size].any())
        return self._left_out

    def restored(self) -> None:
        """Take note that others wrote into the table."""
        self._earliest, self._left_out = NEVER, True

    def wants(self, values: Floats) -> bool:
        """Tell whether such readings ``[m, F]`` have to do with open slots."""
        return self._aggregates or self.any or bool(np.isnan(values).any())

    def parts(self, stream: Ints, before: int) -> list[tuple[int, int, float | None]]:
        """Cut readings where slots are due: ``(first, beyond, end)``.

        At the first reading of a part, slots that end up to ``end`` are to be closed; None: none.

        Args:
            stream: stream time at each reading ``[m]``.
            before: the same before the first.
        """
        ends = np.floor((np.r_[before, stream] - self._lateness) / self._share) * self._share
        self.due = float(ends[0])
        cuts = np.flatnonzero(ends[1:] != ends[:-1]).tolist()
        edges = sorted({0, *cuts, len(stream)})
        due = {cut: float(ends[cut + 1]) for cut in cuts}
        return [(first, beyond, due.get(first)) for first, beyond in pairwise(edges)]

    def close(
        self,
        due: float,
        names: Callable[[Ints], tuple[Ints, list[bytes]]],
        without: Collection[int] = (),
        most: int = 10_000,
    ) -> Iterator[Closed]:
        """Close the slots that end up to then, some at a time.

        Of a series the older ones come first, and of several series in the order of their names.

        Args:
            due: milliseconds since 1970.
            names: returns the roster's slots of rows and the names of their series.
            without: the roster's slots of series that are left alone.
            most: slots at a time.
        """
        self.due = due
        table = self._table
        if self._earliest > due:
            return
        spared = np.isin(table.slots[: table.size], list(without)) if without else None
        while True:
            rows, places = np.nonzero(table["state"][: table.size])
            passed = self._ends(rows, places)
            over = passed <= due if self._aggregates else passed < due
            if spared is not None:
                over &= ~spared[rows]
            if not over.any():
                self._earliest = float(self._ends(rows, places).min(initial=np.inf))
                return
            rows, places = self._oldest(rows[over], places[over])
            named = names(rows)[1]
            order = np.array(sorted(range(len(rows)), key=named.__getitem__))
            for first in range(0, len(rows), most):
                some = order[first : first + most]
                yield from self._close(rows[some], places[some])

    def take(
        self, rows: Ints, times: Ints, values: Floats, loud: Bools, pulse: Pulse = lambda: None
    ) -> Taken:
        """Take readings of which none makes a slot due.

        Args:
            rows: the series' row of each ``[m]``, in the order they came.
            times: milliseconds since 1970 ``[m]``.
            values: ``[m, F]``, NaN where one lacks a feature; none lacks all.
            loud: which are to be forecast ``[m]``.
            pulse: called now and then.
        """
        taken, order = Taken(), np.argsort(rows, kind="stable")
        firsts = np.flatnonzero(np.r_[True, np.diff(rows[order]) != 0])
        ends = np.append(firsts[1:], len(rows))
        partial = np.asarray(self._aggregates | np.isnan(values).any(axis=1))
        following = np.where(partial[order], np.arange(len(rows)), len(rows))
        following = np.minimum.accumulate(following[::-1])[::-1]
        while len(firsts):
            each = order[firsts]
            beyond = np.minimum(following[firsts], ends)
            beyond = np.where(self._is_open(rows[each]), firsts, beyond)
            if (beyond > firsts).any():  # whole readings of rows that have no slot open
                some = np.sort(order[_ranges(firsts, beyond)])
                advance = self._windows.push(rows[some], times[some], values[some], pulse)
                taken.parts.append((some, advance, None))
            going_on = beyond < ends
            firsts, ends = beyond[going_on], ends[going_on]
            each = order[firsts]
            if len(each):
                self._take_each(each, rows[each], times[each], values[each], loud[each], taken)
            firsts = firsts + 1
            firsts, ends = firsts[firsts < ends], ends[firsts < ends]
            self.beat(pulse)
        return taken

    def beat(self, pulse: Pulse) -> None:
        """Call ``pulse`` now and then."""
        self._beats += 1
        if self._beats % TURNS_AT_ONCE == 0:
            pulse()

    def _take_each(
        self, each: Ints, rows: Ints, times: Ints, values: Floats, loud: Bools, taken: Taken
    ) -> None:
        """Take readings, one of each row, at places of a batch."""
        numbers, opened, held = self._numbers(rows, times)
        places = numbers % self.depth
        if self._aggregates:
            late = (numbers + 1) * self._step <= self.due
            if late.any():
                taken.parts.append((each[late], self._late(int(late.sum())), None))
        else:
            late = held & ~self._is_there(rows, places, numbers)
            if late.any():
                advance = self._windows.complete(rows[late], times[late], values[late])
                taken.parts.append((each[late], advance, None))
            before = self._make_way(each, rows, places, np.where(late, NEVER, numbers), taken)
            if before.any():
                advance = self._late(int(before.sum()))
                taken.parts.append((each[before], advance, None))
            late |= before
        some = np.flatnonzero(~late)
        each, rows, times, values = each[some], rows[some], times[some], values[some]
        numbers, places, loud = numbers[some], places[some], loud[some]
        self._open(rows, places, numbers, opened[some], times)
        cells = self._cells(rows, places)
        news = self._rules.take(cells, times, values)
        self._keep(rows, places, cells)
        self._table["loud"][rows, places] |= loud & news
        taken.ignored += int((~news).sum())
        whole = news & cells.known.all(axis=1)
        if self._aggregates or not whole.any():
            taken.joined += int(news.sum())
            return
        taken.joined += int((news & ~whole).sum())
        self._complete(each[whole], rows[whole], places[whole], taken)

    def _complete(self, each: Ints, rows: Ints, places: Ints, taken: Taken) -> None:
        """Give the windows slots, one of each row, that are whole since readings of a batch."""
        table, again = self._table, self._table["state"][rows, places] == WHOLE
        self._close_older(each, rows, table["slot"][rows, places], taken)
        cells, crowded = self._cells(rows, places), table["crowded"][rows, places] > 0
        latest, values = cells.latest, self._rules.settle(cells)
        never, opened = np.zeros(len(rows), np.bool_), table["opened"][rows, places]
        old, new = np.flatnonzero(again), np.flatnonzero(~again)
        if len(old):
            said = rows[old], values[old], latest[old], crowded[old]
            taken.parts.append((each[old], self._windows.rewrite(*said), latest[old]))
        if len(new):
            advance = self._windows.close(
                rows[new], opened[new], values[new], never[new], latest[new], crowded[new]
            )
            table["state"][rows[new], places[new]] = WHOLE
            self._forget_left_out(rows[new], opened[new])
            taken.parts.append((each[new], advance, latest[new]))

    def _close_older(self, each: Ints, rows: Ints, numbers: Ints, taken: Taken) -> None:
        """Close slots before these numbers, of rows of which each has a reading of a batch."""
        table, order = self._table, np.argsort(rows)
        while True:
            older = (table["state"][rows] > FREE) & (table["slot"][rows] < numbers[:, None])
            owners, places = np.nonzero(older)
            if not len(owners):
                return
            for closed in self._close(*self._oldest(rows[owners], places)):
                mine = order[np.searchsorted(rows[order], closed.rows)]
                taken.closed.append((each[mine], closed))

    def _close(self, rows: Ints, places: Ints) -> list[Closed]:
        """Close slots, one of each row; what they lack is held from before, if that is not long."""
        table = self._table
        table.stirred[rows] = True
        done = table["state"][rows, places] == WHOLE
        table["state"][rows[done], places[done]] = FREE
        rows, places = rows[~done], places[~done]
        if not len(rows):
            return []
        cells, opened = self._cells(rows, places), table["opened"][rows, places]
        loud = table["loud"][rows, places] > 0
        table["state"][rows, places] = FREE
        values, known = self._rules.settle(cells), self._windows.is_known(rows)
        lacks = np.isnan(values)
        fresh = np.where(known[:, None], self._fresh(rows), opened[:, None])
        gaps = slots_between((opened[:, None] - fresh).ravel(), self._step).reshape(fresh.shape)
        sound = ~(lacks & ((gaps > self._most) | ~known[:, None])).any(axis=1)
        some = np.flatnonzero(sound)
        self._left_out |= not sound.all()
        self._forget_left_out(rows, opened)
        table["before"][rows[~sound]] = opened[~sound]
        crowded = table["crowded"][rows, places] > 0
        table["was"][rows[~sound]] = 1 + crowded[~sound]
        mine, partly = rows[some], np.asarray(lacks[some].any(axis=1))
        table["fresh"][mine] = np.where(lacks[some], fresh[some], opened[some, None])
        values = np.where(lacks[some], self._windows.newest_values(mine), values[some])
        times = opened if self._aggregates else cells.latest
        advance = self._windows.close(
            mine, opened[some], values, partly, times[some], crowded[some]
        )
        lacking = np.flatnonzero(lacks[~sound].any(axis=0)).tolist()
        return [Closed(mine, times[some], loud[some], advance, rows[~sound], lacking)]

    def _fresh(self, rows: Ints) -> Ints:
        """Return when the slot of each feature's last reading lies ``[k, F]``, of known rows."""
        newest = self._windows.newest(rows)
        fresh: Ints = self._table["fresh"][rows]
        partly = self._windows.newest_mark(rows) == PARTLY
        return np.where(partly[:, None], fresh, newest[:, None])

    def _numbers(self, rows: Ints, times: Ints) -> tuple[Ints, Ints, Bools]:
        """Return the number of each reading's slot, when it lies, and which ones windows have.

        Slots are counted from the newest one of the row, as ``windows`` counts them.
        """
        if self._aggregates:
            numbers = np.floor(times / self._step).astype(np.int64)
            opened = np.rint(numbers * self._step).astype(np.int64)
            return numbers, opened, np.zeros(len(rows), np.bool_)
        known, newest = self._windows.is_known(rows), self._windows.newest(rows)
        held = known & (2 * (times - newest) <= self._step)
        number, base, crowded, has_base = self._newest(rows)
        since = times - base
        ahead = slots_between(since, self._step)
        back = slots_between(-since, self._step)
        # What the window does not have comes after all that it has.
        most = np.where(known, slots_between(base - newest, self._step) - 1, back)
        back = np.where(held, back, np.maximum(np.minimum(back, most), 0))
        numbers = np.where(has_base, number + ahead - back, 0)
        opened = opened_at(times, base, ahead, crowded, self._step)
        earlier = base - np.rint(back * self._step).astype(np.int64)
        opened = np.where(has_base & (ahead == 0), earlier, np.where(has_base, opened, times))
        return numbers, opened, held

    def _newest(self, rows: Ints) -> tuple[Ints, Ints, Bools, Bools]:
        """Return the newest slot of each row, an open one or else the window's.

        That is its number, when it lies, whether it has readings of several times, and whether
        there is one at all.
        """
        table, each = self._table, np.arange(len(rows))
        numbers = np.where(table["state"][rows] > FREE, table["slot"][rows], NEVER)
        place = numbers.argmax(axis=1)
        number = numbers[each, place]
        idle = number == NEVER
        known, base = self._windows.is_known(rows), self._windows.newest(rows)
        crowded = self._windows.is_crowded(rows)
        was, before = table["was"][rows], table["before"][rows]
        later = self._is_behind(rows)
        base, crowded = np.where(later, before, base), np.where(later, was > 1, crowded)
        base = np.where(idle, base, table["opened"][rows, place])
        crowded = np.where(idle, crowded, table["crowded"][rows, place] > 0)
        return np.where(idle, 0, number), base, crowded, ~idle | known | later

    def _open(self, rows: Ints, places: Ints, numbers: Ints, opened: Ints, times: Ints) -> None:
        """Open the slots that are not, each at its place; note who comes to those that are."""
        table, there = self._table, self._is_there(rows, places, numbers)
        crowd = there & (table["first"][rows, places] != times)
        table["crowded"][rows[crowd], places[crowd]] = 1
        rows, places = rows[~there], places[~there]
        if len(rows):
            table["state"][rows, places] = OPEN
            table["slot"][rows, places] = numbers[~there]
            table["opened"][rows, places] = opened[~there]
            table["first"][rows, places] = times[~there]
            table["crowded"][rows, places] = table["loud"][rows, places] = 0
            self._earliest = min(self._earliest, float(self._ends(rows, places).min()))
            self._keep(rows, places, self._rules.empty(len(rows)))

    def _make_way(self, each: Ints, rows: Ints, places: Ints, numbers: Ints, taken: Taken) -> Bools:
        """Close slots that are in the way of later ones of these numbers ``[k]``.

        Tells which of these are in the way of later ones themselves, and get no place.
        """
        taker = self._table["slot"][rows, places]
        taker = np.where(self._table["state"][rows, places] > FREE, taker, NEVER)
        some = np.flatnonzero((taker > NEVER) & (taker < numbers))
        if len(some):
            self._close_older(each[some], rows[some], taker[some] + 1, taken)
        earlier: Bools = (numbers > NEVER) & (taker > numbers)
        return earlier

    def _late(self, count: int) -> Advance:
        """Refuse so many readings, of slots that were closed."""
        none = np.zeros(0, np.int64)
        said = "late: its slot was closed before; --lateness keeps slots open for longer"
        refused = dict.fromkeys(range(count), said)
        return Advance(self._windows.none(), none, none, refused)

    def _is_there(self, rows: Ints, places: Ints, numbers: Ints) -> Bools:
        there: Bools = self._table["state"][rows, places] > FREE
        there &= self._table["slot"][rows, places] == numbers
        return there

    def _ends(self, rows: Ints, places: Ints) -> Array:
        """Return when slots end."""
        if self._aggregates:  # as stream time is cut, whatever a step is
            return np.asarray((self._table["slot"][rows, places] + 1) * self._step)
        return np.asarray(self._table["opened"][rows, places] + self._step / 2)

    def _is_open(self, rows: Ints) -> Bools:
        """Tell which rows have an open slot, or one behind their window that was left out."""
        found = (self._table["state"][rows] > FREE).any(axis=1)
        return np.asarray(found | self._is_behind(rows))

    def _is_behind(self, rows: Ints) -> Bools:
        """Tell of which rows a slot was left out that lies behind their window ``[k]``."""
        before, newest = self._table["before"][rows], self._windows.newest(rows)
        later = ~self._windows.is_known(rows) | (before > newest)
        return np.asarray((self._table["was"][rows] > 0) & later)

    def _forget_left_out(self, rows: Ints, opened: Ints) -> None:
        """Forget slots that were left out, of rows that have a later one now."""
        self._table["was"][rows[self._table["before"][rows] <= opened]] = 0

    def _oldest(self, rows: Ints, places: Ints) -> tuple[Ints, Ints]:
        """Return of each row the oldest of some of its slots."""
        order = np.lexsort((self._table["slot"][rows, places], rows))
        rows, places = rows[order], places[order]
        first = np.r_[True, rows[1:] != rows[:-1]]
        return rows[first], places[first]

    def _cells(self, rows: Ints, places: Ints) -> Cells:
        return Cells(*(self._table[name][rows, places] for name in NAMES))

    def _keep(self, rows: Ints, places: Ints, cells: Cells) -> None:
        for name in NAMES:
            self._table[name][rows, places] = getattr(cells, name)


def _ranges(firsts: Ints, ends: Ints) -> Ints:
    """Return the numbers from each of ``firsts`` to before its end, one behind the other."""
    counts = ends - firsts
    behind = np.cumsum(counts)
    return np.asarray(np.arange(counts.sum()) + np.repeat(firsts - behind + counts, counts))


def reshaped(state: State, depth: int) -> State:
    """Return a state whose open slots have places for so many of a series.

    Where that is too few, later ones stay.
    """
    if "state" not in state.arrays or state.arrays["state"].shape[1] == depth:
        return state
    rows, places = np.nonzero(state.arrays["state"])
    order = np.argsort(state.arrays["slot"][rows, places], kind="stable")
    rows, places = rows[order], places[order]
    there = state.arrays["slot"][rows, places] % depth
    columns, arrays = [], dict(state.arrays)
    for column in state.columns:
        if column.name in BY_SLOT:
            column = replace(column, shape=(depth, *column.shape[1:]))
            array = np.zeros((len(state.names), *column.shape), column.dtype)
            array[rows, there] = state.arrays[column.name][rows, places]
            arrays[column.name] = array
        columns.append(column)
    return replace(state, columns=columns, arrays=arrays)
