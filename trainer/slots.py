"""A history as the slots that a worker would see: holes filled by the same code, and marked."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tidecast.trainer.series import History, Ints, Series
from tidecast.worker.contract import ModelSpec
from tidecast.worker.pipeline.grid import Grid, fill, grid_of, holes_of, slots_between

Bools = npt.NDArray[np.bool_]


def slotted(spec: ModelSpec, history: History) -> History:
    """Return a history in the slots of a model."""
    return in_slots(history, grid_of(spec), spec.features, spec.n_steps)


def in_slots(history: History, grid: Grid, features: tuple[str, ...], n_steps: int) -> History:
    """Return a history with a row for each slot, up to the longest gap that is filled.

    Rows that lack a feature are no readings and left out: where a gap is not filled, windows end
    before it all the same. As they are, where nothing is filled.

    Args:
        history: rows as they stand in the file, in step.
        grid: how slots follow one another.
        features: what a reading has.
        n_steps: slots in a window, for what is filled from one season before.
    """
    if not grid.most:
        return history
    places = np.array([history.columns.index(name) for name in features], np.int64)
    series = tuple(_in_slots(one, grid, places, n_steps) for one in history.series)
    return replace(history, series=series)


def _in_slots(series: Series, grid: Grid, places: Ints, n_steps: int) -> Series:
    if series.times is None or grid.step_ms is None:
        return series
    series, partly = _held(series, grid, places)
    there = np.flatnonzero(np.isfinite(series.values[:, places]).all(axis=1))
    if not len(there) or series.times is None:
        return series
    times = series.times[there]
    since = np.diff(times, prepend=times[:1])
    slots = slots_between(since, grid.step_ms)
    empties = np.where((slots > 1) & (slots <= 1 + grid.most), slots - 1, 0)
    ends = np.arange(len(there)) + np.cumsum(empties)
    count = len(there) + int(empties.sum())
    begins = _begins(ends, (slots != 1) & (empties == 0))
    holes = holes_of(empties, ends, ends - begins + 1)

    # Columns that are no features, too: what is measured against them is not to miss rows.
    laid = np.zeros((count, series.values.shape[1]), grid.column)
    laid[ends] = series.values[there]
    fill(laid, holes, grid, n_steps)
    values = np.empty(laid.shape)
    values[ends], values[holes.places] = series.values[there], laid[holes.places]
    filled = np.zeros(count, np.bool_)
    filled[holes.places] = True
    filled[ends[partly[there]]] = True
    moments = np.empty(count, np.int64)
    moments[ends] = times
    reach = np.repeat(since, empties)
    first = np.repeat(times - since, empties)
    moments[holes.places] = first + reach * holes.numbers // (holes.sizes + 1)
    rows = np.repeat(there, 1 + empties)
    return Series(series.name, moments, values, filled, rows, len(series))


def _held(series: Series, grid: Grid, places: Ints) -> tuple[Series, Bools]:
    """Give rows that lack some features those from before, if they are near; tell which ``[rows]``.

    As a worker does when a slot closes: what is more than ``grid.most`` slots old is not held.
    """
    values, times = series.values.copy(), series.times
    partly = np.zeros(len(values), np.bool_)
    known = np.isfinite(values[:, places])
    odd = known.any(axis=1) & ~known.all(axis=1)
    if times is None or grid.step_ms is None or not odd.any():
        return series, partly
    whole = np.maximum.accumulate(np.where(known.all(axis=1), np.arange(len(values)), -1))
    newest, fresh = -1, times[:1].repeat(len(places))
    for row in np.flatnonzero(odd).tolist():
        if whole[row] > newest:
            newest, fresh = int(whole[row]), times[whole[row]].repeat(len(places))
        lacks = ~known[row]
        if newest < 0 or (slots_between(times[row] - fresh, grid.step_ms)[lacks] > grid.most).any():
            continue
        values[row, places[lacks]] = values[newest, places[lacks]]
        fresh = np.where(lacks, fresh, times[row])
        newest, partly[row] = row, True
    return replace(series, values=values), partly


def _begins(ends: Ints, broken: Bools) -> Ints:
    """Return where the unbroken run of each reading begins."""
    starts: Ints = np.maximum.accumulate(np.where(broken, ends, 0))
    return starts
