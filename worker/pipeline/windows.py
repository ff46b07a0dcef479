"""Every series' rolling window, kept in arrays and moved forward a batch at a time; pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.columns import Array, Column, ColumnSet, Table
from tidecast.worker.pipeline.grid import (
    Grid,
    extend,
    fill,
    holes_of,
    is_next_step,
    slots_between,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Advance:
    """What a batch of readings did to the windows.

    ``windows`` ``[k, n_steps, F]`` are the full windows that ``ready`` ``[k]``, positions in the
    batch in their given order, completed. ``refused`` maps the positions of readings that came too
    late to the reason. ``filled`` ``[k]`` counts the slots of each window that no reading filled;
    None: of none of them any.
    """

    windows: Floats
    ready: Ints
    refused: dict[int, str]
    filled: Ints | None = None


def column_sets(n_steps: int, n_features: int, grid: Grid) -> list[ColumnSet]:
    """Return all that a store of such windows keeps of a series."""
    kept = [columns_of(n_steps, n_features)]
    return [*kept, marks_of(n_steps)] if grid.most else kept


def marks_of(n_steps: int) -> ColumnSet:
    """Return what windows keep of which slots no reading filled.

    ``holes`` ``[n_steps - 1]`` is 1 for each such of ``tail``, ``spoiled`` how many they are.
    """
    holes = Column("holes", "<u1", (n_steps - 1,), rolling=True)
    return ColumnSet("holes", 1, (Column("spoiled", "<i4"), holes))


def columns_of(n_steps: int, n_features: int) -> ColumnSet:
    """Return what windows keep of a series.

    ``run`` is the length of the unbroken run of readings, ``n_steps`` at most, ``newest`` the time
    of its last one in milliseconds since 1970, ``tail`` ``[n_steps - 1, F]`` the values of its last
    ones.
    """
    tail = Column("tail", "<f4", (n_steps - 1, n_features), rolling=True)
    return ColumnSet("windows", 1, (Column("run", "<i4"), Column("newest", "<i8"), tail))


class WindowStore:
    """The newest ``n_steps - 1`` slots of every series, and the rule for gaps and late readings.

    A reading that follows its series' previous one by one step (``grid.is_next_step``) extends
    the run; behind a gap that the grid fills, the filled slots do so before it, and behind another
    the run starts anew with that reading; one at or before the previous time, or less than half a
    step after it, is refused and changes nothing. Without a step every reading extends the run. A
    window counts when the run is at least ``n_steps`` long, or ``grid.min_steps``: what it lacks
    is then its oldest value.

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
        self._least = min(n_steps, grid.min_steps or n_steps)

    def shorten(self, rows: Ints, depth: int) -> None:
        """Take rows for no longer than ``depth``, if their tails come from ones of that depth."""
        if depth < self._n_steps - 1:
            self._runs[rows] = np.minimum(self._runs[rows], depth)

    def restored(self, rows: Ints) -> None:
        """Make right which slots of rows were filled, after a table has put those back.

        Of a window that began anew only what has come since was written, so marks from before may
        still be there; and they may come from longer windows.
        """
        if self._fills:
            age = np.arange(self._n_steps - 1, 0, -1)
            marks = np.where(age > self._runs[rows][:, None], 0, self._table["holes"][rows])
            self._table["holes"][rows] = marks
            self._table["spoiled"][rows] = marks.sum(axis=1)

    @property
    def _runs(self) -> Array:
        return self._table["run"]

    @property
    def _newest(self) -> Array:
        return self._table["newest"]

    @property
    def _tails(self) -> Array:
        return self._table["tail"]

    def push(self, rows: Ints, times: Ints, values: Floats) -> Advance:
        """Append readings and return the windows they complete.

        Args:
            rows: the series' row of each reading, ``[m]``, in the order the readings came.
            times: milliseconds since 1970, ``[m]``.
            values: finite numbers, ``[m, F]``.
        """
        once = len(rows) < 2 or bool((np.diff(np.sort(rows)) > 0).all())
        return (
            self._push_each_once(rows, times, values) if once else self._push(rows, times, values)
        )

    def _push_each_once(self, rows: Ints, times: Ints, values: Floats) -> Advance:
        """Append readings of as many series; by far the most usual batch, and the quickest."""
        kept = np.arange(len(rows))
        refused: dict[int, str] = {}
        runs = self._runs[rows] + 1
        if self._step_ms is not None:
            known, since = runs > 1, times - self._newest[rows]
            if (known & (2 * since <= self._step_ms)).any():
                refused = self._late(rows, times)
                kept = np.delete(kept, list(refused))
                rows, times, values, runs = rows[kept], times[kept], values[kept], runs[kept]
                known, since = known[kept], since[kept]
            gaps = known & ~is_next_step(since, self._step_ms)
            if self._fills and gaps.any() and self._fillable(since[gaps]).any():
                order = np.argsort(rows)
                return self._joined(rows, times, values, order, kept, refused)
            runs[gaps] = 1
            if self._fills:
                self._unmark(rows[gaps])
        windows = np.empty((len(rows), self._n_steps, self._tails.shape[2]), np.float32)
        windows[:, :-1], windows[:, -1] = self._tails[rows], values
        self._tails[rows] = windows[:, 1:]
        self._runs[rows] = np.minimum(runs, self._n_steps)
        self._newest[rows] = times
        self._table.moved[rows] += 1
        filled = self._marked_once(rows) if self._fills else None
        ready = np.flatnonzero(runs >= self._least)
        if len(ready) < len(runs):
            windows, kept, runs = windows[ready], kept[ready], runs[ready]
            filled = None if filled is None else filled[ready]
        return Advance(windows, kept, refused, self._extended(windows, runs, filled))

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
        left = spoiled[some] - marks[few, 0]
        marks[few, :-1] = marks[few, 1:]
        marks[few, -1] = 0
        self._table["spoiled"][few] = left
        return spoiled.astype(np.int64)

    def _push(self, rows: Ints, times: Ints, values: Floats) -> Advance:
        """Append readings of series that may occur more than once."""
        kept = np.arange(len(rows))
        refused: dict[int, str] = {}
        order = np.argsort(rows, kind="stable")
        if self._step_ms is not None and self._some_late(rows[order], times[order]):
            refused = self._late(rows, times)
            kept = np.delete(kept, list(refused))
            rows, times, values = rows[kept], times[kept], values[kept]
            order = np.argsort(rows, kind="stable")
        return self._joined(rows, times, values, order, kept, refused)

    def _joined(
        self,
        rows: Ints,
        times: Ints,
        values: Floats,
        order: Ints,
        kept: Ints,
        refused: dict[int, str],
    ) -> Advance:
        """Append what is left of a batch, ``order`` by row; ``kept`` are its positions there."""
        if not len(rows):
            return Advance(self._none(), kept, refused)
        windows, ready, filled = self._append(rows[order], times[order], values[order], order)
        return Advance(windows, kept[ready], refused, filled)

    def _append(
        self, rows: Ints, times: Ints, values: Floats, order: Ints
    ) -> tuple[Floats, Ints, Ints | None]:
        """Append readings sorted by row.

        Returns windows, their readings in the given order and how many slots of each are filled.
        The slots of a row are laid behind its tail, so that every window is one slice::

            tail a | slots a | tail b | slots b | ...
        """
        m, back = len(rows), self._n_steps - 1
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
        ends = np.r_[starts[1:], m]
        owners = rows[starts]
        group = np.repeat(np.arange(len(starts)), ends - starts)
        empties, broken = self._gaps(rows, times, starts)
        runs = self._advance_runs(rows, starts, group, empties, broken)

        upto = np.cumsum(empties)
        places = np.arange(m) + upto + back * (group + 1)
        laid = np.empty((m + int(upto[-1]) + back * len(starts), values.shape[1]), np.float32)
        tails = (places[starts] - empties[starts])[:, None] + np.arange(-back, 0)
        laid[tails] = self._tails[owners]
        laid[places] = values
        holes = holes_of(empties, places, runs)
        fill(laid, holes, self._grid, self._n_steps)

        lasts = places[ends - 1]
        self._tails[owners] = laid[lasts[:, None] + np.arange(1 - back, 1)]
        self._runs[owners] = np.minimum(runs[ends - 1], self._n_steps)
        self._newest[owners] = times[ends - 1]
        self._table.moved[owners] += np.add.reduceat(1 + empties, starts)

        position = np.empty(m, np.int64)
        position[order] = np.arange(m)
        ready = np.flatnonzero((runs >= self._least)[position])
        chosen, long = places[position[ready]], runs[position[ready]]
        filled = None
        if self._fills:
            filled = self._marked(owners, tails, lasts, runs[ends - 1], holes.places, chosen, long)
        slices = np.lib.stride_tricks.sliding_window_view(laid, self._n_steps, axis=0)
        windows: Floats = slices.swapaxes(1, 2)[chosen - back]
        return windows, ready, self._extended(windows, long, filled)

    def _marked(
        self,
        owners: Ints,
        tails: Ints,
        lasts: Ints,
        lengths: Ints,
        holes: Ints,
        chosen: Ints,
        runs: Ints,
    ) -> Ints | None:
        """Move the marks of rows on; return how many each window has that ends at ``chosen``.

        Args:
            owners: the rows ``[k]``.
            tails: where the tail of each is laid ``[k, n_steps - 1]``.
            lasts: where the newest slot of each is laid ``[k]``.
            lengths: of the runs that end there ``[k]``.
            holes: where filled slots are laid.
            chosen: where the newest slots of windows are laid ``[w]``.
            runs: the lengths of the runs that end there ``[w]``.
        """
        spoiled, back = self._table["spoiled"], self._n_steps - 1
        if not len(holes) and not spoiled[owners].any():
            return None
        laid = np.zeros(int(lasts[-1]) + 1, np.uint8)
        laid[tails] = self._table["holes"][owners]
        laid[holes] = 1
        marks = laid[lasts[:, None] + np.arange(1 - back, 1)]
        marks[np.arange(back, 0, -1) > lengths[:, None]] = 0
        self._table["holes"][owners] = marks
        spoiled[owners] = marks.sum(axis=1)
        upto = np.r_[0, np.cumsum(laid)]
        counts: Ints = upto[chosen + 1] - upto[chosen + 1 - np.minimum(runs, self._n_steps)]
        return counts

    def _gaps(self, rows: Ints, times: Ints, starts: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return how many filled slots lie before each sorted reading, and before which a break."""
        none, never = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        if self._step_ms is None:
            return none, never
        since = times - self._previous(rows, times)
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

    def _previous(self, rows: Ints, times: Ints) -> Ints:
        """Return the time of the reading before each sorted one."""
        before = np.empty_like(times)
        before[1:] = times[:-1]
        first = np.r_[True, rows[1:] != rows[:-1]]
        before[first] = self._newest[rows[first]]
        return before

    def _some_late(self, rows: Ints, times: Ints) -> bool:
        if not len(rows):
            return False
        known = self._runs[rows] > 0
        known[1:] |= rows[1:] == rows[:-1]
        step = self._step_ms or 0.0
        return bool((known & (2 * (times - self._previous(rows, times)) <= step)).any())

    def _late(self, rows: Ints, times: Ints) -> dict[int, str]:
        """Return the readings to refuse; one by one, as each verdict hangs on the one before."""
        step = self._step_ms or 0.0
        newest: dict[int, int] = {}
        refused = {}
        for i, (row, time) in enumerate(zip(rows.tolist(), times.tolist(), strict=True)):
            last = newest.get(row, int(self._newest[row]) if self._runs[row] else None)
            if last is None or 2 * (time - last) > step:
                newest[row] = time
            elif time == last:
                refused[i] = f"late: repeats the time {time} of the series' newest reading"
            elif time < last:
                refused[i] = f"late: {last - time} ms before the series' newest reading"
            else:
                refused[i] = f"off step: {time - last} ms after the last, the step is {step:g} ms"
        return refused

    def _none(self) -> Floats:
        return np.empty((0, self._n_steps, self._tails.shape[2]), np.float32)
