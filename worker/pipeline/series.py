"""The series of a partition: what is kept of each, where, and how it is saved and restored; pure.

Series have a slot in the roster and a row in the table of the model that serves them. Whatever the
stages declare as columns of these tables is carried by what is written here.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import ModelSpec
from tidecast.worker.pipeline.changelog import NAME_SIZE, SECTION, Changelog, Section
from tidecast.worker.pipeline.columns import FREE, ColumnSet, Ints, Table
from tidecast.worker.pipeline.grid import Grid, Twice, grid_of
from tidecast.worker.pipeline.naive import naive_of
from tidecast.worker.pipeline.open_slots import OpenSlots, depth_of, open_set, reshaped
from tidecast.worker.pipeline.roster import BOUNDLESS, UNSERVED, Roster
from tidecast.worker.pipeline.snapshot import State, StateKey, forgetting
from tidecast.worker.pipeline.windows import WindowStore, column_sets

BESIDE_COLUMNS = 320
"""Bytes of a series beside its columns and its name's letters, about: places in the roster and the
tables, and what a save looks at."""
FEW = 1000
"""Rows, of which no more than that are not worth moving together."""
SHARE = 4
"""Rows are moved together when fewer than one of so many holds a series: far fewer are moved then
than have been forgotten since the last time."""


def series_size(specs: Sequence[ModelSpec], lateness: float = 0.0) -> int:
    """Return how many bytes of memory are kept of a series at most, beside its name's letters."""
    places = 8 * len(specs)  # a table says of each of its rows which series it is
    sizes = (sum(c.size for each in _sets(spec, lateness) for c in each.columns) for spec in specs)
    return BESIDE_COLUMNS + places + max(sizes)


def _sets(spec: ModelSpec, lateness: float) -> list[ColumnSet]:
    """Return all that is kept of a model's series."""
    grid = grid_of(spec)
    sets = column_sets(spec.n_steps, len(spec.features), grid)
    if depth_of(grid, lateness):
        sets.append(open_set(grid, len(spec.features), lateness))
    return sets


def _key(spec: ModelSpec) -> StateKey:
    more: tuple[str, ...] = (spec.calendar,) if spec.calendar else ()
    # 32-bit windows are too coarse to begin 64-bit ones with.
    more += (spec.numbers,) if spec.numbers != "float32" else ()
    return StateKey(spec.features, spec.step_seconds, (*more, *grid_of(spec).rules))


def _grid(spec: ModelSpec, twice: Twice, *, early: bool) -> Grid:
    grid = grid_of(spec, twice)
    return replace(grid, min_steps=1) if early and naive_of(spec) is not None else grid


def newest(states: Iterable[State], most: int) -> Generator[None, None, Ints]:
    """Return marks of the ``most`` series that were touched last; yields after each state."""
    marks, touched = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for state in states:
        if state.forgets:
            kept = ~np.isin(marks, _marks(state.names))
            marks, touched = marks[kept], touched[kept]
            continue
        marks = np.concatenate([marks, _marks(state.names)])
        touched = np.concatenate([touched, state.touched])
        order = np.lexsort((touched, marks))
        last = np.append(np.diff(marks[order]) != 0, True)[: len(order)]
        marks, touched = marks[order][last], touched[order][last]
        yield
    return marks[np.argsort(touched)[::-1][:most]]


def _marks(names: Sequence[bytes]) -> Ints:
    """Return a number that stands for each name in this process; two of a million never agree."""
    return np.array(list(map(hash, names)), np.int64)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a batch's readings belong.

    ``slots`` ``[m]`` are ``UNSERVED`` where no model serves the series, ``unserved`` of them.
    ``gone`` are slots whose series are forgotten after this batch, to be given to ``release``, each
    with the place of the reading that it had to go for.
    """

    slots: Ints
    unserved: int
    gone: dict[int, int]


class HeldSeries:
    """The series of a partition, of a bounded number.

    ``tables`` hold their state, ``windows`` move it, one of each for each model; ``routes[slot]``
    is the number of the series' model and its row.

    Args:
        specs: the models.
        match: returns the number of the model that serves a series, None if none does.
        longest: how many series are held; beyond, the one longest without a reading is forgotten.
        room: bytes of memory that they may take, about, likewise; None: any.
        spare: how many more there may be within a batch, before ``release``; these are of the room.
        twice: which of several readings of one slot counts.
        early: whether windows count from the first reading on, whatever a model says, where there
            is a forecast without it.
        lateness: milliseconds that slots stay open behind their ends.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        match: Callable[[str], int | None],
        longest: int,
        room: int | None = None,
        spare: int = 0,
        twice: Twice = "last",
        early: bool = False,
        lateness: float = 0.0,
    ) -> None:
        self._match = match
        self.few = FEW
        """Rows that are left where they are, however many of them are free."""
        self._keys = [_key(spec) for spec in specs]
        self.tables = [Table(_sets(spec, lateness)) for spec in specs]
        grids = [_grid(spec, twice, early=early) for spec in specs]
        self.windows = [
            WindowStore(table, spec.n_steps, grid)
            for table, spec, grid in zip(self.tables, specs, grids, strict=True)
        ]
        self.open = [
            OpenSlots(table, windows, grid, len(spec.features), lateness)
            if depth_of(grid, lateness)
            else None
            for table, windows, grid, spec in zip(
                self.tables, self.windows, grids, specs, strict=True
            )
        ]
        """What comes before the windows, where readings are joined or aggregated."""
        each = series_size(specs, lateness)
        self._roster = Roster(
            longest,
            lambda name: match(name.decode()) is not None,
            each=each,
            room=BOUNDLESS if room is None else max(0, room - spare * each),
        )
        self._kept = 0 if room is None else self._roster.most + spare
        for table in self.tables:
            # Growing would take twice the memory for a while, and room alone takes none.
            table.reserve(self._kept)
        self.routes = np.empty((0, 2), np.int64)
        self._started = np.zeros(0, np.bool_)
        self._forgotten: list[bytes] = []

    def __len__(self) -> int:
        """Return how many series are held."""
        return len(self._roster)

    @property
    def clock(self) -> int:
        """How many readings have been numbered."""
        return self._roster.clock

    @property
    def evicted(self) -> int:
        """How many series were forgotten to make room, in replays too."""
        return self._roster.evicted

    def place(self, series: Sequence[bytes]) -> Placed:
        """Return where the readings of these series belong; new ones get a row."""
        slots, added, gone = self._roster.place(series)
        if added:
            numbers = [self._number(self._roster.names[slot]) for slot in added]
            self._open(np.array(added), np.array(numbers))
        unserved = 0 if self._roster.all_served else int((slots == UNSERVED).sum())
        return Placed(slots, unserved, gone)

    def names(self, number: int, rows: Ints) -> tuple[Ints, list[bytes]]:
        """Return the roster's slots of the series in rows of a model's table, and their names."""
        slots = self.tables[number].slots[rows]
        return slots, [self._roster.names[slot] for slot in slots.tolist()]

    def release(self, slots: Collection[int]) -> None:
        """Give the rows of series that are no longer held to others."""
        numbers, rows = self.routes[np.fromiter(slots, np.int64, len(slots))].T
        for number in np.unique(numbers).tolist():
            self.tables[number].remove(rows[numbers == number])
        self._roster.release(slots)

    def start(self, slots: Ints) -> list[str]:
        """Return the names of those series that have not been started before."""
        fresh = slots[~self._started[slots]]
        if not len(fresh):
            return []
        self._started[fresh] = True
        return [self._roster.names[slot].decode() for slot in np.unique(fresh).tolist()]

    def save(
        self, log: Changelog[Section], write: Callable[[State], Section], *, whole: bool = False
    ) -> None:
        """Write what is due; ``whole``: the log is to be complete then, however much that takes."""
        slices = log.begin(self.tables, everything=whole)
        if self._forgotten:
            log.forgot(write(forgetting(self._forgotten)))
            self._forgotten = []
        for one in slices:
            log.rebased(one, write(self.base(one.table, one.first, one.beyond)))
        slots = self._roster.touched_since(log.clock)
        for number in range(len(self.tables)):
            rows = self.routes[slots[self.routes[slots, 0] == number], 1]
            stirred = np.flatnonzero(self.tables[number].stirred[: self.tables[number].size])
            rows = np.union1d(rows, stirred) if len(stirred) else rows
            for delta in self._deltas(number, log.need_delta(number, rows)):
                log.added(write(delta))
        log.end(self.clock)

    def base(self, number: int, first: int, beyond: int) -> State:
        """Return all of the state of a table's rows from ``first`` to before ``beyond``."""
        rows = np.arange(first, min(beyond, self.tables[number].size))
        return self._taken(number, rows[self.tables[number].slots[rows] != FREE], whole=True)

    def _deltas(self, number: int, rows: Ints) -> Iterator[State]:
        """Yield what has come to a table's rows since the last base or delta, in parts."""
        parts = (np.cumsum(self.tables[number].weights(rows) + NAME_SIZE) - 1) // SECTION
        for part in np.split(rows, np.flatnonzero(np.diff(parts)) + 1) if len(rows) else ():
            yield self._taken(number, part, whole=False)

    def _taken(self, number: int, rows: Ints, *, whole: bool) -> State:
        table = self.tables[number]
        slots = table.slots[rows]
        names = [self._roster.names[slot] for slot in slots.tolist()]
        moved, arrays = table.take(rows, whole=whole)
        touched = self._roster.touched[slots]
        return State(self._keys[number], whole, names, touched, moved, table.columns, arrays)

    @property
    def most(self) -> int:
        """How many series there is room for, at most."""
        return self._roster.most

    def restore(
        self, states: Iterable[State], clock: int, held: int, chosen: Ints | None = None
    ) -> Generator[None, None, int]:
        """Take over what ``save`` wrote, over some time and in that order.

        Yields after each state, as many take long. Series go to the models that serve them now.
        Returns how many are left out, as no model serves them, or one with other features or
        another step.

        Args:
            states: a later one goes over what an earlier one said of a series.
            clock: the number of readings at the end.
            held: how many series were held at the end. They are the ones touched last, as whoever
                had to go was touched before all who stayed.
            chosen: those that there is room for, as ``newest`` tells; None: all.
        """
        strangers: dict[bytes, int] = {}
        for table in self.tables:
            table.reserve(
                min(held, self._roster.most)
            )  # growing would take twice the memory, and room alone takes none
        for each in states:
            if each.forgets:
                for name in each.names:
                    strangers.pop(name, None)
                self._drop(each.names)
                continue
            state = each if chosen is None else each.only(np.isin(_marks(each.names), chosen))
            fits = self._adopt(state)
            for place in np.flatnonzero(~fits).tolist():
                strangers[state.names[place]] = int(state.touched[place])
            yield
        self._roster.clock = clock
        slots, others = self._roster.touched_since(0), list(strangers.values())
        touched = np.sort(np.concatenate([self._roster.touched[slots], np.array(others, np.int64)]))
        if len(touched) > held:
            self._forget(slots[self._roster.touched[slots] < (touched[-held] if held else clock)])
        return len(strangers)

    def absorb(self, other: "HeldSeries") -> None:
        """Take over the windows that others have made of the same stream, if longer.

        Beyond ``longest``, those longest without a reading are left out.
        """
        behind = self.clock - other.clock
        for number, table in enumerate(other.tables):
            state = other.base(number, 0, table.size)
            open_ones = state.arrays.get("state", np.zeros((len(state.names), 1))).any(axis=1)
            further = 2 * state.arrays["run"].astype(np.int64) + open_ones
            longer = further > [self._progress(name) for name in state.names]
            touched = np.maximum(state.touched + behind, 0)
            self._adopt(replace(state, touched=touched).only(longer))
        slots = self._roster.touched_since(0)
        stalest = np.argsort(self._roster.touched[slots], kind="stable")
        self._forget(slots[stalest[: max(0, len(slots) - self._roster.most)]])

    def forget_untouched(self, number: int) -> int:
        """Forget series without a reading of this number or a later one; return how many."""
        quiet = self._roster.untouched_since(number)
        if len(quiet):
            self._forget(quiet)
        return len(quiet)

    def forget(self, name: bytes) -> bool:
        """Drop all that is kept of a series, here and in the next save; tell if that was any."""
        if not self._drop([name]):
            return False
        self._forgotten.append(name)
        return True

    def _drop(self, names: Sequence[bytes]) -> int:
        # Between two saves, a series may have been forgotten twice.
        slots = self._roster.slots_of(list(dict.fromkeys(names)))
        self._forget(slots[slots != UNSERVED])
        return int((slots != UNSERVED).sum())

    def _forget(self, slots: Ints) -> None:
        self._roster.drop(slots.tolist())
        self.release(slots.tolist())
        self._compact()

    def _compact(self) -> None:
        """Give memory back where most rows are free, and most slots."""
        for table in self.tables:
            if self._is_sparse(len(table), table.size):
                table.compact(self._kept)
                self.routes[table.slots[: table.size], 1] = np.arange(table.size)
        before = len(self._roster.names)
        if self._is_sparse(len(self), before):
            kept = self._roster.compact()
            self.routes, self._started = self.routes[kept], self._started[kept]
            slots = np.full(before + 1, FREE)  # the last is where ``FREE`` leads
            slots[kept] = np.arange(len(kept))
            for table in self.tables:
                table.slots = slots[table.slots]

    def _is_sparse(self, held: int, rows: int) -> bool:
        return rows > self.few and SHARE * held < rows

    def _progress(self, name: bytes) -> int:
        """Return twice the length of a series' run, and 1 more with a slot open; 0: not held."""
        slot = self._roster.slot_of(name)
        if slot == UNSERVED:
            return 0
        number, row = self.routes[slot].tolist()
        table, opens = self.tables[number], self.open[number]
        return 2 * int(table["run"][row]) + int(opens is not None and table["state"][row].any())

    def _adopt(self, state: State) -> npt.NDArray[np.bool_]:
        """Put a state into the tables; tell which series have a model that it fits ``[k]``."""
        serving = self._serving(state.names)
        fitting = [number for number, key in enumerate(self._keys) if key == state.key]
        fits = np.isin(serving, fitting)
        if not fits.all():
            state, serving = state.only(fits), serving[fits]
        slots, new = self._roster.admit(state.names, state.touched)
        self._open(slots[new], serving[new])
        for number in np.unique(serving).tolist():
            mine = serving == number
            if (opens := self.open[number]) is not None:
                opens.restored()
                state = reshaped(state, opens.depth)
            part, rows = state if mine.all() else state.only(mine), self.routes[slots[mine], 1]
            self.tables[number].put(rows, part.moved, part.columns, part.arrays)
            tail = next(column for column in part.columns if column.name == "tail")
            self.windows[number].restored(rows, tail.shape[0])
        return fits

    def _serving(self, names: Sequence[bytes]) -> Ints:
        """Return the number of each series' model ``[k]``, ``UNSERVED`` where it has none."""
        slots = self._roster.slots_of(names)
        new = np.flatnonzero(slots == UNSERVED)
        serving: Ints = np.full(len(names), UNSERVED)
        held = slots != UNSERVED
        serving[held] = self.routes[slots[held], 0]
        serving[new] = [self._number(names[place]) for place in new.tolist()]
        return serving

    def _number(self, name: bytes) -> int:
        number = self._match(name.decode())
        return UNSERVED if number is None else number

    def _open(self, slots: Ints, numbers: Ints) -> None:
        """Give new series in slots ``[k]`` rows in the tables of their models ``[k]``."""
        if not len(slots):
            return
        lacking = slots.max() + 1 - len(self.routes)
        if lacking > 0:
            grown = max(64, lacking, len(self.routes))
            self.routes = np.concatenate([self.routes, np.zeros((grown, 2), np.int64)])
            self._started = np.concatenate([self._started, np.zeros(grown, np.bool_)])
        for number in np.unique(numbers).tolist():
            mine = slots[numbers == number]
            self.routes[mine, 0], self.routes[mine, 1] = number, self.tables[number].add(mine)
        self._started[slots] = False
