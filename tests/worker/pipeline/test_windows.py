"""The rolling window against a reference of ten lines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.pipeline.columns import Table
from tidecast.worker.pipeline.windows import Advance, WindowStore, columns_of

STEP = 100


def reference(
    readings: list[tuple[int, int, float]], n_steps: int, step: float | None
) -> list[list[float] | None]:
    """Return the window that each reading completes, None where it completes none."""
    runs: dict[int, list[tuple[int, float]]] = {}
    windows: list[list[float] | None] = []
    for row, time, value in readings:
        run = runs.get(row, [])
        delta = time - run[-1][0] if run and step else None
        if delta is not None and step and 2 * delta <= step:
            windows.append(None)
            continue
        gap = delta is not None and step and 2 * delta >= 3 * step
        runs[row] = run = [*([] if gap else run), (time, value)]
        windows.append([v for _, v in run[-n_steps:]] if len(run) >= n_steps else None)
    return windows


def store_of(n_steps: int, n_features: int, step: float | None, rows: int) -> WindowStore:
    table = Table([columns_of(n_steps, n_features)])
    for slot in range(rows):
        table.add(slot)
    return WindowStore(table, n_steps, step)


def push(store: WindowStore, readings: list[tuple[int, int, float]]) -> Advance:
    rows, times, values = zip(*readings, strict=True)
    return store.push(
        np.array(rows, np.int64), np.array(times, np.int64), np.array([values], np.float32).T
    )


readings_lists = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12).map(lambda t: t * 50), st.integers(0, 9)),
    min_size=1,
    max_size=60,
)


@given(
    readings_lists,
    st.integers(1, 5),
    st.sampled_from([None, float(STEP)]),
    st.lists(st.integers(1, 20), min_size=60, max_size=60),
    st.booleans(),
)
def test_windows_match_the_reference(
    readings: list[tuple[int, int, float]],
    n_steps: int,
    step: float | None,
    cuts: list[int],
    ordered: bool,
) -> None:
    """However the readings are cut into batches, each window is the reference's."""
    if ordered:
        readings = sorted(readings, key=lambda reading: reading[1])
    store = store_of(n_steps, 1, step, rows=4)
    got: list[list[float] | None] = []
    rest = readings
    for cut in cuts:
        if not rest:
            break
        batch, rest = rest[:cut], rest[cut:]
        advance = push(store, batch)
        windows = dict(zip(advance.ready.tolist(), advance.windows[:, :, 0].tolist(), strict=True))
        got += [windows.get(i) for i in range(len(batch))]
        assert not set(windows) & set(advance.refused)
    assert got == reference(readings, n_steps, step)


def test_a_gap_starts_the_run_anew() -> None:
    """::

    time   0   100  200  |  400  500  600
    ready            x                 x
    """
    store = store_of(3, 1, STEP, rows=1)
    advance = push(store, [(0, t, t) for t in (0, 100, 200, 400, 500, 600)])
    assert advance.ready.tolist() == [2, 5]
    assert advance.windows[1, :, 0].tolist() == [400, 500, 600]


@pytest.mark.parametrize(
    ("time", "reason"),
    [(100, "repeats"), (0, "100 ms before"), (150, "off step: 50 ms after")],
)
def test_late_readings_are_refused_with_a_reason(time: int, reason: str) -> None:
    store = store_of(2, 1, STEP, rows=1)
    push(store, [(0, 0, 1.0), (0, 100, 2.0)])
    advance = push(store, [(0, time, 9.0), (0, 200, 3.0)])
    assert list(advance.refused) == [0]
    assert reason in advance.refused[0]
    assert advance.ready.tolist() == [1]
    assert advance.windows[0, :, 0].tolist() == [2.0, 3.0]


def test_jitter_of_less_than_half_a_step_is_forgiven() -> None:
    store = store_of(3, 1, STEP, rows=1)
    assert push(store, [(0, 0, 1.0), (0, 149, 2.0), (0, 200, 3.0)]).ready.tolist() == [2]


def test_several_features_stay_together() -> None:
    store = store_of(2, 2, None, rows=2)
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    advance = store.push(np.array([0, 1, 0, 1]), np.zeros(4, np.int64), values)
    assert advance.ready.tolist() == [2, 3]
    assert advance.windows.tolist() == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]


def test_room_grows_with_the_series() -> None:
    store, rows = store_of(2, 1, None, rows=1000), range(1000)
    push(store, [(row, 0, float(row)) for row in rows])
    advance = push(store, [(row, 0, 0.0) for row in reversed(rows)])
    assert advance.windows[:, 0, 0].tolist() == [float(row) for row in reversed(rows)]


@pytest.mark.parametrize("several", [False, True], ids=["each once", "several of one"])
def test_a_table_knows_by_how_many_readings_its_rows_have_moved(several: bool) -> None:
    table = Table([columns_of(3, 1)])
    for slot in range(3):
        table.add(slot)
    store = WindowStore(table, 3, STEP)
    push(store, [(0, 0, 1.0), (2, 0, 1.0)])
    late = (0, 0, 9.0)
    push(store, [late, (2, 100, 2.0), *([(2, 200, 3.0)] if several else [])])
    assert table.moved[:3].tolist() == [1, 0, 2 + several]


def test_a_window_from_a_shorter_tail_is_no_longer_than_that() -> None:
    store = store_of(4, 1, None, rows=2)
    push(store, [(row, 0, float(i)) for i in range(4) for row in (0, 1)])
    store.shorten(np.array([0]), 2)  # what stood in the tail came from one of two readings
    assert push(store, [(0, 0, 4.0), (1, 0, 4.0)]).ready.tolist() == [1]
    assert push(store, [(0, 0, 5.0)]).ready.tolist() == [0]
