"""The rolling window against a reference of ten lines."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.slow_windows import Outcome, SlowWindow
from tidecast.worker.pipeline.columns import Table
from tidecast.worker.pipeline.grid import Grid
from tidecast.worker.pipeline.windows import Advance, WindowStore, column_sets, columns_of

STEP = 100
LARGE = 7e12
"""Added to what 64-bit windows read, as 32-bit ones would lose it."""
WITHOUT, UNFILLED = Grid(None), Grid(float(STEP))


def reference(readings: list[tuple[int, int, float]], n_steps: int, grid: Grid) -> list[Outcome]:
    """Return what becomes of each reading."""
    series: dict[int, SlowWindow] = {}
    return [
        series.setdefault(row, SlowWindow(n_steps, grid)).read(time, (value,))
        for row, time, value in readings
    ]


def store_of(n_steps: int, n_features: int, grid: Grid, rows: int) -> WindowStore:
    table = Table(column_sets(n_steps, n_features, grid))
    table.add(np.arange(rows))
    return WindowStore(table, n_steps, grid)


def push(store: WindowStore, readings: list[tuple[int, int, float]]) -> Advance:
    rows, times, values = zip(*readings, strict=True)
    return store.push(
        np.array(rows, np.int64),
        np.array(times, np.int64),
        np.array([values], store.none().dtype).T,
    )


readings_lists = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12).map(lambda t: t * 50), st.integers(0, 9)),
    min_size=1,
    max_size=60,
)


beginnings = st.none() | st.integers(1, 5)
grids = st.one_of(
    st.builds(Grid, st.none(), min_steps=beginnings),
    st.builds(
        Grid,
        st.just(float(STEP)),
        st.sampled_from(["linear", "hold", "seasonal", "none"]),
        st.integers(0, 4),
        st.integers(1, 4),
        beginnings,
        st.booleans(),
        st.sampled_from(["last", "first"]),
        numbers=st.sampled_from(["float32", "float64"]),
    ),
)


@given(
    readings_lists,
    st.integers(1, 5),
    grids,
    st.lists(st.integers(1, 20), min_size=60, max_size=60),
    st.booleans(),
)
def test_windows_match_the_reference(
    readings: list[tuple[int, int, float]],
    n_steps: int,
    grid: Grid,
    cuts: list[int],
    ordered: bool,
) -> None:
    """However the readings are cut into batches, each window is the reference's."""
    if ordered:
        readings = sorted(readings, key=lambda reading: reading[1])
    if grid.numbers == "float64":
        readings = [(row, time, LARGE + value) for row, time, value in readings]
    store = store_of(n_steps, 1, grid, rows=4)
    rest, expected = readings, reference(readings, n_steps, grid)
    for cut in cuts:
        if not rest:
            break
        (batch, rest), (due, expected) = (
            (rest[:cut], rest[cut:]),
            (expected[:cut], expected[cut:]),
        )
        advance = push(store, batch)
        filled = np.zeros(len(advance.ready)) if advance.filled is None else advance.filled
        whole = zip(advance.windows[:, :, 0].tolist(), filled.tolist(), strict=True)
        got = dict(zip(advance.ready.tolist(), whole, strict=True))
        assert got == {
            place: ([value for (value,) in one.window], one.filled)
            for place, one in enumerate(due)
            if one.window is not None
        }
        what = [one.what for one in due]
        assert sorted(advance.refused) == [i for i, one in enumerate(what) if one == "refused"]
        assert sorted(advance.ignored) == [i for i, one in enumerate(what) if one == "ignored"]
        assert sorted(advance.amended) == [
            i for i, one in enumerate(due) if one.what == "amended" and one.window is None
        ]


def test_a_gap_starts_the_run_anew() -> None:
    """::

    time   0   100  200  |  400  500  600
    ready            x                 x
    """
    store = store_of(3, 1, UNFILLED, rows=1)
    advance = push(store, [(0, t, t) for t in (0, 100, 200, 400, 500, 600)])
    assert advance.ready.tolist() == [2, 5]
    assert advance.windows[1, :, 0].tolist() == [400, 500, 600]


@pytest.mark.parametrize(
    ("time", "reason"),
    [(100, "repeats"), (0, "100 ms before"), (150, "off step: 50 ms after")],
)
def test_late_readings_are_refused_with_a_reason(time: int, reason: str) -> None:
    store = store_of(2, 1, UNFILLED, rows=1)
    push(store, [(0, 0, 1.0), (0, 100, 2.0)])
    advance = push(store, [(0, time, 9.0), (0, 200, 3.0)])
    assert list(advance.refused) == [0]
    assert reason in advance.refused[0]
    assert advance.ready.tolist() == [1]
    assert advance.windows[0, :, 0].tolist() == [2.0, 3.0]


def test_jitter_of_less_than_half_a_step_is_forgiven() -> None:
    store = store_of(3, 1, UNFILLED, rows=1)
    assert push(store, [(0, 0, 1.0), (0, 149, 2.0), (0, 200, 3.0)]).ready.tolist() == [2]


def test_several_features_stay_together() -> None:
    store = store_of(2, 2, WITHOUT, rows=2)
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    advance = store.push(np.array([0, 1, 0, 1]), np.zeros(4, np.int64), values)
    assert advance.ready.tolist() == [2, 3]
    assert advance.windows.tolist() == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]


def test_room_grows_with_the_series() -> None:
    store, rows = store_of(2, 1, WITHOUT, rows=1000), range(1000)
    push(store, [(row, 0, float(row)) for row in rows])
    advance = push(store, [(row, 0, 0.0) for row in reversed(rows)])
    assert advance.windows[:, 0, 0].tolist() == [float(row) for row in reversed(rows)]


@pytest.mark.parametrize("several", [False, True], ids=["each once", "several of one"])
def test_a_table_knows_by_how_many_readings_its_rows_have_moved(several: bool) -> None:
    table = Table([columns_of(3, 1)])
    table.add(np.arange(3))
    store = WindowStore(table, 3, UNFILLED)
    push(store, [(0, 0, 1.0), (2, 0, 1.0)])
    late = (0, 0, 9.0)
    push(store, [late, (2, 100, 2.0), *([(2, 200, 3.0)] if several else [])])
    assert table.moved[:3].tolist() == [1, 0, 2 + several]


def test_a_window_from_a_shorter_tail_is_no_longer_than_that() -> None:
    store = store_of(4, 1, WITHOUT, rows=2)
    push(store, [(row, 0, float(i)) for i in range(4) for row in (0, 1)])
    store.restored(np.array([0]), 2)  # what stood in the tail came from one of two readings
    assert push(store, [(0, 0, 4.0), (1, 0, 4.0)]).ready.tolist() == [1]
    assert push(store, [(0, 0, 5.0)]).ready.tolist() == [0]


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one batch"])
def test_what_was_filled_before_a_window_began_anew_is_not_counted_again(together: bool) -> None:
    """What is filled of the windows behind the break is what they lack."""
    store = store_of(5, 1, Grid(float(STEP), "hold", 2, min_steps=1), rows=1)
    readings = [(0, 0, 1.0), (0, 300, 1.0), (0, 1500, 1.0)]
    for batch in [readings] if together else [[reading] for reading in readings]:
        advance = push(store, batch)
    assert advance.filled is not None
    assert advance.filled.tolist()[-1] == 4
    assert filled(store, [(0, 1500 + 100 * step, 1.0) for step in (1, 2, 3, 4)]) == [
        *([3], [2], [1]),
        [],
    ]


def put_back(table: Table, saved: list[Any], n_steps: int, grid: Grid) -> WindowStore:
    """A store of what another's table has written, one after the other."""
    again = Table(column_sets(n_steps, 1, grid))
    again.add(np.array([0]))
    store = WindowStore(again, n_steps, grid)
    for moved, arrays in saved:
        columns = [column for column in table.columns if column.name in arrays]
        again.put(np.array([0]), moved, columns, arrays)
        store.restored(np.array([0]), table["tail"].shape[1])
    return store


def filled(store: WindowStore, readings: list[tuple[int, int, float]]) -> list[list[int]]:
    found = [push(store, [reading]).filled for reading in readings]
    return [[] if each is None else each.tolist() for each in found]


@pytest.mark.parametrize("depth", [6, 4])
def test_what_was_filled_before_a_window_began_anew_is_not_counted_after_a_restart(
    depth: int,
) -> None:
    """Also where windows are shorter then."""
    grid, after = Grid(float(STEP), "hold", 3), Grid(float(STEP), "hold", 2)
    store = store_of(6, 1, grid, rows=1)
    push(store, [(0, 0, 1.0), (0, 300, 1.0)])
    table = store._table  # noqa: SLF001 - what a checkpoint would write
    saved = [table.take(np.array([0]), whole=True)]
    push(store, [(0, 5000, 1.0)])
    saved.append(table.take(np.array([0]), whole=False))
    again = put_back(table, saved, depth, after)
    later = [(0, 5000 + 100 * step, 1.0) for step in (1, 2, 3, 4, 5, 7, 8)]
    assert filled(again, later)[-2:] == [[1], [1]]
    assert filled(again, [(0, 5900 + 100 * step, 1.0) for step in range(6)])[-1] == []


def test_marks_move_along_where_a_checkpoint_knows_none() -> None:
    """It was written while nothing was filled."""
    grid = Grid(float(STEP), "hold", 2)
    store = store_of(5, 1, grid, rows=1)
    push(store, [(0, 0, 1.0), (0, 100, 1.0), (0, 300, 1.0)])
    table = store._table  # noqa: SLF001 - as above
    moved, arrays = table.take(np.array([0]), whole=True)
    push(store, [(0, 400, 1.0)])
    later, newer = table.take(np.array([0]), whole=False)
    without = {name: each for name, each in newer.items() if name not in ("holes", "spoiled")}
    again = put_back(table, [(moved, arrays), (later, without)], 5, grid)
    assert filled(again, [(0, 500, 1.0), (0, 600, 1.0), (0, 700, 1.0)]) == [[1], [1], []]
    old = {name: each for name, each in arrays.items() if name not in ("holes", "spoiled")}
    assert filled(put_back(table, [(moved, old)], 5, grid), [(0, 400, 1.0)]) == [[]]


def test_many_late_readings_of_one_series_let_leases_be_looked_after() -> None:
    """They are taken one by one, so a writer may make it long."""
    store = store_of(3, 1, Grid(float(STEP), amends=True), rows=1)
    push(store, [(0, STEP * slot, 1.0) for slot in range(3)])
    pulses: list[int] = []
    rows, times = np.zeros(1001, np.int64), np.full(1001, STEP)
    values = np.arange(1001, dtype=np.float32)[:, None]
    advance = store.push(rows, times, values, lambda: pulses.append(1))
    assert len(advance.amended) == 1001
    assert len(pulses) == 5


LINEAR = Grid(float(STEP), "linear", 4, amends=True)


def test_what_a_window_kept_before_it_told_readings_apart_is_no_new_reading() -> None:
    """A checkpoint without the newest slot's readings, such as of a file of version 1."""
    store = store_of(3, 1, LINEAR, rows=1)
    push(store, [(0, STEP * slot, float(slot)) for slot in range(3)])
    table = store._table  # noqa: SLF001 - what a checkpoint would write
    moved, arrays = table.take(np.array([0]), whole=True)
    without = {name: each for name, each in arrays.items() if name not in ("latest", "crowd")}
    again = put_back(table, [(moved, without)], 3, LINEAR)
    assert push(again, [(0, 2 * STEP, 2.0)]).ignored.tolist() == [0]
    assert push(again, [(0, 2 * STEP, 9.0)]).windows[0, :, 0].tolist() == [0, 1, 9]
    assert table["crowd"][0] == 1


@pytest.mark.parametrize(
    ("before", "after", "slots", "amended", "expected"),
    [
        (8, 4, [1, 2, 3, 6, 7], 6, [20, 30, 99, 50]),
        (6, 9, [1, 2, 3, 7, 8, 9], 7, [99, 60, 70]),
    ],
    ids=["a shorter window", "a longer window"],
)
def test_a_hole_at_the_edge_of_another_models_window_is_not_filled_from_nowhere(
    before: int, after: int, slots: list[int], amended: int, expected: list[float]
) -> None:
    """Its reading before is not known there: a short window keeps it, a long one begins behind."""
    store = store_of(before, 1, LINEAR, rows=1)
    values = {1: 10.0, 2: 10.0, 3: 10.0, 6: 40.0, 7: 50.0, 8: 60.0, 9: 70.0}
    push(store, [(0, STEP * slot, values[slot]) for slot in slots])
    table = store._table  # noqa: SLF001 - as above
    again = put_back(table, [table.take(np.array([0]), whole=True)], after, LINEAR)
    push(again, [(0, STEP * amended, 99.0)])
    run = min(after, int(again._table["run"][0]))  # noqa: SLF001 - as above
    assert again._table["tail"][0, -run:, 0].tolist() == expected  # noqa: SLF001 - as above


def test_a_reading_of_a_slot_that_was_rounded_is_known_again() -> None:
    """The step is no whole number of milliseconds."""
    store = store_of(4, 1, Grid(33.3, "linear", 2, amends=True), rows=1)
    push(store, [(0, 0, 1.0), (0, 10, 2.0), (0, 50, 8.0)])
    assert push(store, [(0, 50, 8.0)]).ignored.tolist() == [0]


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one batch"])
def test_a_hole_at_the_edge_is_filled_anew_from_the_reading_that_has_left(together: bool) -> None:
    """::

    slot         0    1    2    3   4   5   6      a window of five
    until 5    -30 |(-10)(10)  30  40  50
    3 is 60        |  (0)(30)  60  40  50
    until 6    -30    (0)|(30) 60  40  50  60
    3 is 90              |(50) 90  40  50  60
    """
    store = store_of(5, 1, LINEAR, rows=1)

    def add(*readings: tuple[int, float]) -> list[float]:
        batch = [(0, STEP * slot, value) for slot, value in readings]
        for some in [batch] if together else [[reading] for reading in batch]:
            push(store, some)
        return store._table["tail"][0, :, 0].tolist()  # type: ignore[no-any-return]  # noqa: SLF001

    assert add((0, -30.0), (3, 30.0), (4, 40.0), (5, 50.0)) == [-10, 10, 30, 40, 50]
    assert add((3, 60.0)) == [0, 30, 60, 40, 50]
    assert add((6, 60.0)) == [30, 60, 40, 50, 60]
    assert add((3, 90.0)) == [50, 90, 40, 50, 60]


def test_a_hole_one_season_on_follows_what_was_amended() -> None:
    """::

    slot       0   1   2   3   4      season 2
    until 4    0   1   2  (1)  4
    1 is 9     0   9   2  (9)  4
    """
    store = store_of(6, 1, Grid(float(STEP), "seasonal", 2, 2, amends=True), rows=1)
    push(store, [(0, STEP * slot, float(slot)) for slot in (0, 1, 2, 4)])
    assert store._table["tail"][0, 1:, 0].tolist() == [0, 1, 2, 1, 4]  # noqa: SLF001
    push(store, [(0, STEP, 9.0)])
    assert store._table["tail"][0, 1:, 0].tolist() == [0, 9, 2, 9, 4]  # noqa: SLF001
