"""The series of a partition: what is kept of each, where, and how it is saved and restored; pure.

Series have a slot in the roster and a row in the table of the model that serves them. Whatever the
stages declare as columns of these tables is carried by what is written here.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import ModelSpec
from tidecast.worker.pipeline.changelog import NAME_SIZE, SECTION, Changelog, Section
from tidecast.worker.pipeline.columns import FREE, Ints, Table
from tidecast.worker.pipeline.roster import UNSERVED, Roster
from tidecast.worker.pipeline.snapshot import State, StateKey
from tidecast.worker.pipeline.windows import WindowStore, columns_of


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a batch's readings belong.

    ``slots`` ``[m]`` are ``UNSERVED`` where no model serves the series, ``unserved`` of them.
    ``gone`` are slots whose series are forgotten after this batch, to be given to ``release``.
    """

    slots: Ints
    unserved: int
    gone: list[int]


class HeldSeries:
    """The series of a partition, of a bounded number.

    ``tables`` hold their state, ``windows`` move it, one of each for each model; ``routes[slot]``
    is the number of the series' model and its row.

    Args:
        specs: the models.
        match: returns the number of the model that serves a series, None if none does.
        longest: how many series are held; beyond, the one longest without a reading is forgotten.
    """

    def __init__(
        self, specs: Sequence[ModelSpec], match: Callable[[str], int | None], longest: int
    ) -> None:
        self._match = match
        self._longest = longest
        self._keys = [StateKey(s.features, s.step_seconds) for s in specs]
        self.tables = [Table([columns_of(s.n_steps, len(s.features))]) for s in specs]
        self.windows = [
            WindowStore(table, s.n_steps, s.step_seconds and s.step_seconds * 1000)
            for table, s in zip(self.tables, specs, strict=True)
        ]
        self._roster = Roster(longest, lambda name: match(name.decode()) is not None)
        self.routes = np.empty((0, 2), np.int64)
        self._started = np.zeros(0, np.bool_)

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
        for slot in added:
            self._open(slot)
        unserved = 0 if self._roster.all_served else int((slots == UNSERVED).sum())
        return Placed(slots, unserved, gone)

    def release(self, slots: Sequence[int]) -> None:
        """Give the rows of series that are no longer held to others."""
        for slot in slots:
            number, row = self.routes[slot].tolist()
            self.tables[number].remove(row)
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
        for one in log.begin(self.tables, everything=whole):
            log.rebased(one, write(self.base(one.table, one.first, one.beyond)))
        slots = self._roster.touched_since(log.clock)
        for number in range(len(self.tables)):
            rows = self.routes[slots[self.routes[slots, 0] == number], 1]
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

    def restore(self, states: Iterable[State], clock: int, held: int) -> Generator[None, None, int]:
        """Take over what ``save`` wrote, over some time and in that order.

        Yields after each state, as many take long. Series go to the models that serve them now.
        Returns how many are left out, as no model serves them, or one with other features or
        another step.

        Args:
            states: a later one goes over what an earlier one said of a series.
            clock: the number of readings at the end.
            held: how many series were held at the end. They are the ones touched last, as whoever
                had to go was touched before all who stayed.
        """
        strangers: dict[bytes, int] = {}
        for state in states:
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
            longer = state.arrays["run"] > [self._length(name) for name in state.names]
            touched = np.maximum(state.touched + behind, 0)
            self._adopt(replace(state, touched=touched).only(longer))
        slots = self._roster.touched_since(0)
        stalest = np.argsort(self._roster.touched[slots], kind="stable")
        self._forget(slots[stalest[: max(0, len(slots) - self._longest)]])

    def _forget(self, slots: Ints) -> None:
        self._roster.drop(slots.tolist())
        self.release(slots.tolist())

    def _length(self, name: bytes) -> int:
        """Return the length of a series' run, 0 where it is not held."""
        slot = self._roster.slot_of(name)
        if slot == UNSERVED:
            return 0
        number, row = self.routes[slot].tolist()
        return int(self.tables[number]["run"][row])

    def _adopt(self, state: State) -> npt.NDArray[np.bool_]:
        """Put a state into the tables; tell which series have a model that it fits ``[k]``."""
        serving = [self._serving(name) for name in state.names]
        fitting = [number for number, key in enumerate(self._keys) if key == state.key]
        fits = np.isin(np.array(serving, np.int64), fitting)
        state = state if fits.all() else state.only(fits)
        slots, added = self._roster.admit(state.names, state.touched)
        for slot in added:
            self._open(slot)
        for number in np.unique(self.routes[slots, 0]).tolist():
            mine = self.routes[slots, 0] == number
            part, rows = state if mine.all() else state.only(mine), self.routes[slots[mine], 1]
            self.tables[number].put(rows, part.moved, part.columns, part.arrays)
            tail = next(column for column in part.columns if column.name == "tail")
            self.windows[number].shorten(rows, tail.shape[0])
        return fits

    def _serving(self, name: bytes) -> int:
        """Return the number of a series' model, ``UNSERVED`` where it has none."""
        slot = self._roster.slot_of(name)
        if slot != UNSERVED:
            return int(self.routes[slot, 0])
        number = self._match(name.decode())
        return UNSERVED if number is None else number

    def _open(self, slot: int) -> None:
        """Give the new series in a slot its model and its row."""
        name = self._roster.names[slot]
        if slot >= len(self.routes):
            grown = max(64, slot)
            self.routes = np.concatenate([self.routes, np.zeros((grown, 2), np.int64)])
            self._started = np.concatenate([self._started, np.zeros(grown, np.bool_)])
        number = self._match(name.decode())
        if number is None:
            raise AssertionError(f"{name!r} has a slot and no model")
        self.routes[slot] = number, self.tables[number].add(slot)
        self._started[slot] = False
