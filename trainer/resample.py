"""The rows of a file as one row for each slot, as a worker joins and aggregates readings."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import Numbers, Rule
from tidecast.worker.pipeline.aggregate import Rules

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def one_row_a_slot(
    times: Ints,
    values: Floats,
    step_seconds: float,
    columns: Sequence[str],
    features: Sequence[str],
    rules: Mapping[str, Rule],
    *,
    joins: bool = True,
    numbers: Numbers = "float32",
) -> tuple[Ints, Floats]:
    """Put the rows of a series that belong to one slot into one.

    Of several values of a column the last one counts, unless a rule says otherwise; then slots
    begin at whole steps since 1970, and are told by that time. Else a slot lies where
    ``grid.opened_at`` says, and rows that have some of the features are joined.

    Args:
        times: milliseconds since 1970, ascending ``[rows]``.
        values: ``[rows, columns]``, NaN where the file has none.
        step_seconds: from slot to slot.
        columns: of the values.
        features: what a reading has; rows without any are no readings.
        rules: how columns are aggregated, for those of which not the last counts.
        joins: whether rows that have some of the features are readings; else all have to be there.
        numbers: what a worker aggregates.
    """
    carried = np.isfinite(values[:, [columns.index(name) for name in features]])
    step = 1000 * step_seconds
    if any(rule != "last" for rule in rules.values()):
        rows = np.flatnonzero(np.isfinite(values).any(axis=1))
        begun = np.rint(np.floor(times[rows] / step) * step).astype(np.int64)
        own = [rules.get(name, "last") for name in columns]
        return _aggregated(times[rows], values[rows], begun, own, numbers)
    rows = np.flatnonzero(carried.any(axis=1) if joins else carried.all(axis=1))
    if (np.diff(times[rows]) > step / 2).all():
        return times, values
    return _joined(times, values, rows, _opened(times[rows], step))


def _opened(times: Ints, step: float) -> Ints:
    """Return when the slot of each reading lies, in order of time ``[k]``."""
    opened = times.copy()
    slot = latest = crowd = 0
    for place, time in enumerate(times.tolist()):
        since = time - slot
        if place and 2 * since <= step:
            crowd, latest = crowd + (time > latest), time
            opened[place] = slot
            continue
        if place and crowd > 1:  # as grid.opened_at has it of one
            slots = 1 if 2 * since < 3 * step else max(2, int((2 * since + step) // (2 * step)))
            slot += round(slots * step)
        else:
            slot = time
        opened[place], latest, crowd = slot, time, 1
    return opened


def _joined(times: Ints, values: Floats, rows: Ints, opened: Ints) -> tuple[Ints, Floats]:
    """Return a row for each slot, at its first reading, and the rows that are no readings."""
    first = np.r_[True, opened[1:] != opened[:-1]]
    starts, read = np.flatnonzero(first), values[rows]
    values, times, kept = values.copy(), times.copy(), np.ones(len(times), np.bool_)
    for column in range(values.shape[1]):
        there = np.where(np.isfinite(read[:, column]), np.arange(len(rows)), -1)
        last = np.maximum.reduceat(there, starts)
        values[rows[starts], column] = np.where(last < 0, np.nan, read[last, column])
    times[rows], kept[rows] = opened, first
    return times[kept], values[kept]


def _aggregated(
    times: Ints, values: Floats, begun: Ints, rules: Sequence[Rule], numbers: Numbers
) -> tuple[Ints, Floats]:
    """Return a row for each slot that has a reading."""
    slots, owner = np.unique(begun, return_inverse=True)
    folding, turns, narrow = Rules(rules, values=numbers), _ranks(owner), values.astype(numbers)
    cells = folding.empty(len(slots))
    order = np.argsort(turns, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(turns[order])) + 1):
        some = cells.some(owner[mine])
        folding.take(some, times[mine], narrow[mine])
        cells.put(owner[mine], some)
    return slots, folding.settle(cells).astype(np.float64)


def _ranks(keys: Ints) -> Ints:
    """Return the how manieth of its key each is, from 0 ``[m]``, in their order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]][: len(keys)]
    place = np.arange(len(keys))
    found = np.empty(len(keys), np.int64)
    found[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return found
