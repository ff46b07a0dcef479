"""Every series' rolling window, kept in arrays and moved forward a batch at a time; pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import is_next_step
from tidecast.worker.pipeline.columns import Array, Column, ColumnSet, Table

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Advance:
    """What a batch of readings did to the windows.

    ``windows`` ``[k, n_steps, F]`` are the full windows that ``ready`` ``[k]``, positions in the
    batch in their given order, completed. ``refused`` maps the positions of readings that came too
    late to the reason.
    """

    windows: Floats
    ready: Ints
    refused: dict[int, str]


def columns_of(n_steps: int, n_features: int) -> ColumnSet:
    """Return what windows keep of a series.

    ``run`` is the length of the unbroken run of readings, ``n_steps`` at most, ``newest`` the time
    of its last one in milliseconds since 1970, ``tail`` ``[n_steps - 1, F]`` the values of its last
    ones.
    """
    tail = Column("tail", "<f4", (n_steps - 1, n_features), rolling=True)
    return ColumnSet("windows", 1, (Column("run", "<i4"), Column("newest", "<i8"), tail))


class WindowStore:
    """The newest ``n_steps - 1`` readings of every series, and the rule for gaps and late readings.

    A reading that follows its series' previous one by one step (``contract.is_next_step``) extends
    the run; after a gap the run starts anew with that reading; one at or before the previous time,
    or less than half a step after it, is refused and changes nothing. Without a step every reading
    extends the run. A window is full when the run is at least ``n_steps`` long.

    Args:
        table: holds the columns of ``columns_of``, a row for each series.
        n_steps: readings in a window.
        step_ms: milliseconds between readings; None: every reading is the next step.
    """

    def __init__(self, table: Table, n_steps: int, step_ms: float | None) -> None:
        self._table = table
        self._n_steps = n_steps
        self._step_ms = step_ms

    def shorten(self, rows: Ints, depth: int) -> None:
        """Take rows for no longer than ``depth``, if their tails come from ones of that depth."""
        if depth < self._n_steps - 1:
            self._runs[rows] = np.minimum(self._runs[rows], depth)

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
            runs[known & ~is_next_step(since, self._step_ms)] = 1
        windows = np.empty((len(rows), self._n_steps, self._tails.shape[2]), np.float32)
        windows[:, :-1], windows[:, -1] = self._tails[rows], values
        self._tails[rows] = windows[:, 1:]
        self._runs[rows] = np.minimum(runs, self._n_steps)
        self._newest[rows] = times
        self._table.moved[rows] += 1
        ready = np.flatnonzero(runs >= self._n_steps)
        if len(ready) == len(runs):
            return Advance(windows, kept, refused)
        return Advance(windows[ready], kept[ready], refused)

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
        if not len(rows):
            return Advance(self._none(), kept, refused)
        windows, ready = self._append(rows[order], times[order], values[order], order)
        return Advance(windows, kept[ready], refused)

    def _append(self, rows: Ints, times: Ints, values: Floats, order: Ints) -> tuple[Floats, Ints]:
        """Append readings sorted by row; return windows and their readings in the given order.

        The readings of a row are laid behind its tail, so that every window is one slice::

            tail a | readings a | tail b | readings b | ...
        """
        m, back = len(rows), self._n_steps - 1
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
        ends = np.r_[starts[1:], m]
        owners = rows[starts]
        group = np.repeat(np.arange(len(starts)), ends - starts)
        runs = self._advance_runs(rows, times, starts, group)

        places = np.arange(m) + back * (group + 1)
        laid = np.empty((m + back * len(starts), values.shape[1]), np.float32)
        laid[(starts + back * np.arange(len(starts)))[:, None] + np.arange(back)] = self._tails[
            owners
        ]
        laid[places] = values

        self._tails[owners] = laid[places[ends - 1][:, None] + np.arange(1 - back, 1)]
        self._runs[owners] = np.minimum(runs[ends - 1], self._n_steps)
        self._newest[owners] = times[ends - 1]
        self._table.moved[owners] += ends - starts

        position = np.empty(m, np.int64)
        position[order] = np.arange(m)
        ready = np.flatnonzero((runs >= self._n_steps)[position])
        slices = np.lib.stride_tricks.sliding_window_view(laid, self._n_steps, axis=0)
        return slices.swapaxes(1, 2)[places[position[ready]] - back], ready

    def _advance_runs(self, rows: Ints, times: Ints, starts: Ints, group: Ints) -> Ints:
        """Return the length of the unbroken run that ends with each sorted reading."""
        place = np.arange(len(rows))
        first = starts[group]
        runs: Ints = self._runs[rows] + place - first + 1
        if self._step_ms is None:
            return runs
        gaps = ~is_next_step(times - self._previous(rows, times), self._step_ms)
        gaps &= (self._runs[rows] > 0) | (place > first)
        broken = np.maximum.accumulate(np.where(gaps, place, -1))
        return np.where(broken >= first, place - broken + 1, runs)

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
