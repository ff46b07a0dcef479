"""Columns by row: what is taken from one table and put into another is what stood there."""

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.pipeline.columns import FREE, Column, ColumnSet, Table

LAST = Column("last", "<i8")
PAIR = Column("pair", "<f4", (2,))


def table_of(depth: int, rows: int, deeper: int | None = None) -> Table:
    """A table of two sets: a rolling column each, of which one may be deeper."""
    first = ColumnSet("first", 1, (LAST, Column("ring", "<f4", (depth, 2), rolling=True)))
    second = ColumnSet("second", 4, (PAIR, Column("more", "<i4", (deeper or depth,), rolling=True)))
    table = Table([first, second])
    table.add(np.arange(rows))
    return table


def move(table: Table, row: int, value: int) -> None:
    """Let one reading come, as a stage would."""
    table["last"][row] = value
    table["pair"][row] = value, -value
    for name, item in (("ring", [value, 2 * value]), ("more", value)):
        table[name][row, :-1] = table[name][row, 1:]
        if table[name].shape[1]:
            table[name][row, -1] = item
    table.moved[row] += 1


def shown(table: Table, row: int) -> dict[str, list[float]]:
    return {column.name: table[column.name][row].tolist() for column in table.columns}


def carry(one: Table, other: Table, rows: list[int], *, whole: bool) -> None:
    moved, arrays = one.take(np.array(rows, np.int64), whole=whole)
    other.put(np.array(rows, np.int64), moved, one.columns, arrays)


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=5),
    st.integers(0, 4),
    st.integers(1, 6),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_what_came_since_the_last_time_brings_a_copy_up_to_date(
    rounds: list[list[int]], depth: int, deeper: int, wholes: list[bool]
) -> None:
    """However many readings came between, and whether whole rows or deltas are carried."""
    original, copy = table_of(depth, 4, deeper), table_of(depth, 4, deeper)
    for number, (readings, whole) in enumerate(zip(rounds, wholes, strict=False)):
        for place, row in enumerate(readings):
            move(original, row, 100 * number + place)
        carry(original, copy, sorted(set(readings)), whole=whole)
        assert [shown(copy, row) for row in range(4)] == [shown(original, row) for row in range(4)]
        assert original.moved[:4].tolist() == [0, 0, 0, 0]


def test_a_delta_holds_the_new_readings_and_no_more_than_a_row_is_deep() -> None:
    table = table_of(3, 3)
    for value in range(1, 6):
        move(table, 0, value)
    move(table, 2, 7)
    rows = np.array([0, 1, 2])
    assert table.weights(rows).tolist() == [16 + 3 * 12, 16, 16 + 12]
    moved, arrays = table.take(rows, whole=False)
    assert moved.tolist() == [5, 0, 1]
    assert arrays["more"].tolist() == [3, 4, 5, 7]
    assert arrays["ring"][:, 0].tolist() == [3, 4, 5, 7]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("theirs", [2, 3, 4])
def test_columns_of_another_depth_keep_the_newest(theirs: int, whole: bool) -> None:
    """::

    theirs    1 2 3 4          ours, 3 deep:   2 3 4
    theirs        3 4                          0 3 4

    A whole row goes over what stood there.
    """
    source, target = table_of(theirs, 1), table_of(3, 1)
    if whole:
        for _ in range(3):
            move(target, 0, 9)
    for value in range(1, 5):
        move(source, 0, value)
    carry(source, target, [0], whole=whole)
    known = [value if value > 4 - theirs else 0 for value in (2, 3, 4)]
    assert target["more"][0].tolist() == known
    assert target["ring"][0].tolist() == [[value, 2 * value] for value in known]


def test_a_column_that_only_one_side_knows_stays_as_it_is() -> None:
    both, less = table_of(2, 1), Table([ColumnSet("first", 1, (LAST,))])
    less.add(np.array([0]))
    move(both, 0, 5)
    carry(both, less, [0], whole=True)
    assert less["last"][0] == 5
    less["last"][0] = 9
    carry(less, both, [0], whole=True)
    assert shown(both, 0) == {"last": 9, "ring": [[0, 0], [5, 10]], "pair": [5, -5], "more": [0, 5]}


def test_a_row_that_is_given_on_remembers_nothing() -> None:
    table = table_of(2, 2)
    move(table, 1, 8)
    table.remove(np.array([1]))
    assert (table.slots[1], len(table)) == (FREE, 1)
    assert table.add(np.array([7])).tolist() == [1]
    assert (table.slots[1], table.moved[1], len(table)) == (7, 0, 2)
    assert shown(table, 1) == {"last": 0, "ring": [[0, 0], [0, 0]], "pair": [0, 0], "more": [0, 0]}


stories = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "move", "compact"]), st.integers(0, 30)),
    max_size=60,
)


@given(stories, st.integers(0, 9))
def test_rows_that_are_moved_together_hold_what_they_did(
    story: list[tuple[str, int]], room: int
) -> None:
    table, held = table_of(2, 0), dict[int, dict[str, list[float]]]()
    for number, (what, much) in enumerate(story, 1):
        rows = np.flatnonzero(table.slots[: table.size] != FREE)
        if what == "add":
            new = 100 * number + np.arange(much % 4)
            held |= dict.fromkeys(new.tolist(), shown(table_of(2, 1), 0))
            table.add(new)
        elif what == "compact":
            beside = table.moved[rows].tolist(), table.stirred[rows].tolist()
            table.compact(room)
            assert table.size == len(held)
            assert len(table.slots) >= max(room, len(held))
            assert (
                table.moved[: table.size].tolist(),
                table.stirred[: table.size].tolist(),
            ) == beside
        elif len(rows):
            row = int(rows[much % len(rows)])
            slot = int(table.slots[row])
            if what == "move":
                move(table, row, number)
                table.stirred[row] = number % 2
                held[slot] = shown(table, row)
            else:
                table.remove(np.array([row]))
                del held[slot]
        rows = np.flatnonzero(table.slots[: table.size] != FREE)
        assert {int(table.slots[row]): shown(table, row) for row in rows.tolist()} == held
        assert len(table) == len(held)


def test_rows_that_are_moved_together_are_in_no_place_twice() -> None:
    """A hundred MB of which a fifth stay, and then they alone are there."""
    gc.collect()
    tracemalloc.start()
    try:
        table = Table([ColumnSet("one", 1, (Column("wide", "<f8", (500,)),))])
        table.add(np.arange(25_000))
        table["wide"][:] = np.arange(len(table.slots))[:, None]
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        table.remove(np.flatnonzero(np.arange(25_000) % 5 > 0))
        table.compact()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (table["wide"][: table.size, 0] == 5 * np.arange(5000)).all()
    assert before > 100_000_000
    assert after < 0.22 * before
    assert peak < 1.06 * before


def test_room_grows_and_keeps_what_is_there() -> None:
    table = table_of(2, 1)
    move(table, 0, 3)
    before = shown(table, 0)
    table.add(np.arange(1, 200))
    assert shown(table, 0) == before
    assert table.slots[:200].tolist() == list(range(200))
    assert table.sets == {"first": 1, "second": 4}
