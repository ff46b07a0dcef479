"""Which sections a save writes and which make a checkpoint, with state that is one number a row.

A section here says what each of its rows held; restored in order, they must say what rows hold.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.pipeline.changelog import NAME_SIZE, SLOWEST, Changelog
from tidecast.worker.pipeline.columns import Column, ColumnSet, Table

ROW = NAME_SIZE + 8
PER_SLICE = 3


@dataclass(frozen=True)
class Part:
    """What a section says of series, and its size."""

    rows: dict[int, int]
    size: int


class Partition:
    """One table whose rows hold numbers; ``touched`` since the last save.

    ``names`` are those of the series in its rows, None where there is none.
    """

    def __init__(self, rows: int, log: Changelog[Part] | None = None, largest: int = 10**9) -> None:
        self.table = Table([ColumnSet("one", 1, (Column("value", "<i8"),))])
        self.values: list[int] = []
        self.names: list[int | None] = []
        self.named = 0
        self.touched: set[int] = set()
        self.log = log or Changelog[Part](slice_size=PER_SLICE * ROW, largest=largest)
        self.grow(rows)

    def grow(self, rows: int) -> None:
        for _ in range(rows):
            [row] = self.table.add(np.array([len(self.values)])).tolist()
            self.names[row:] = [self.named, *self.names[row + 1 :]]
            self.named += 1
            self.touch(row, 0)

    def touch(self, row: int, value: int) -> None:
        self.values[row:] = [value, *self.values[row + 1 :]]
        self.touched.add(row)

    def forget(self, row: int) -> None:
        if self.names[row] is not None:
            self.table.remove(np.array([row]))
            self.names[row] = None
            self.touched.discard(row)

    def compact(self) -> None:
        kept = [row for row, name in enumerate(self.names) if name is not None]
        self.table.compact()
        self.touched = {kept.index(row) for row in self.touched}
        self.values = [self.values[row] for row in kept]
        self.names = [self.names[row] for row in kept]

    @property
    def held(self) -> dict[int, int]:
        pairs = zip(self.names, self.values, strict=True)
        return {name: value for name, value in pairs if name is not None}

    def save(self, *, everything: bool = False) -> tuple[list[Part], list[Part]]:
        """Return the bases and the deltas that a save writes."""
        bases, deltas = [], []
        for one in self.log.begin([self.table], everything=everything):
            rows = range(one.first, min(one.beyond, len(self.values)))
            bases.append(self.part(list(rows)))
            self.log.rebased(one, bases[-1])
        rows = self.log.need_delta(0, np.array(sorted(self.touched), np.int64)).tolist()
        if rows:
            deltas.append(self.part(rows))
            self.log.added(deltas[-1])
        self.touched.clear()
        self.log.end(0)
        return bases, deltas

    def part(self, rows: list[int]) -> Part:
        named = [(self.names[row], self.values[row]) for row in rows]
        return Part({name: value for name, value in named if name is not None}, ROW * len(rows))

    def restored(self) -> list[int]:
        found: dict[int, int] = {}
        for part in self.log.sections:
            found |= part.rows
        if None in self.names or self.named > len(self.names):
            found = {name: found[name] for name in self.held}  # others are known to be forgotten
        return [found[name] for name in sorted(found)]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("touch"), st.integers(0, 11)),
        st.tuples(st.just("grow"), st.integers(1, 4)),
        st.tuples(st.just("save"), st.integers(0, 1)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 11)),
        st.tuples(st.just("compact"), st.just(0)),
    ),
    max_size=60,
)


@given(steps, st.integers(0, 12), st.sampled_from([1, 2 * ROW, 5 * ROW, 10**9]))
def test_a_complete_log_restores_the_rows_as_they_were_saved(
    story: list[tuple[str, int]], rows: int, largest: int
) -> None:
    one = Partition(rows, largest=largest)
    for number, (what, much) in enumerate(story, 1):
        if what == "touch" and one.held:
            some = [row for row, name in enumerate(one.names) if name is not None]
            one.touch(some[much % len(some)], number)
        elif what == "grow":
            one.grow(much)
        elif what == "again" and one.log.is_complete:
            # A restart: all sections are inherited, and rows are cut into slices anew.
            log = Changelog(one.log.sections, slice_size=PER_SLICE * ROW, largest=largest)
            one.compact()
            values, names, touched, named = one.values, one.names, one.touched, one.named
            one = Partition(0, log)
            one.grow(len(values))
            one.values, one.names, one.touched, one.named = values, names, touched, named
        elif what == "forget" and one.values:
            one.forget(much % len(one.values))
        elif what == "compact":
            one.compact()
        elif what == "save":
            one.save(everything=bool(much))
            if much:
                assert one.log.is_complete
            if one.log.is_complete:
                assert one.restored() == [one.held[name] for name in sorted(one.held)]
    assert len(one.log.sections) <= 60 + 5


def test_at_first_bases_alone_are_written_a_part_a_save() -> None:
    """::

    save        1            2                 3
    slices   0 and 1     2 (and 3)     what is left; complete
    """
    one = Partition(11, largest=2 * PER_SLICE * ROW)
    bases, deltas = one.save()
    assert ([len(b.rows) for b in bases], deltas, one.log.is_complete) == ([3, 3], [], False)
    one.touch(0, 5)
    one.touch(10, 6)  # has no base yet, and needs no delta
    bases, deltas = one.save()
    assert [sorted(b.rows) for b in bases] == [[6, 7, 8], [9, 10]]
    assert [d.rows for d in deltas] == [{0: 5}]
    assert one.log.is_complete
    assert one.restored() == one.values


def test_all_of_it_is_written_where_a_checkpoint_must_stand() -> None:
    one = Partition(11, largest=1)
    bases, _ = one.save(everything=True)
    assert len(bases) == 4
    assert one.log.is_complete


def test_as_many_bytes_go_into_bases_as_into_deltas_oldest_first() -> None:
    one = Partition(9)
    one.save()
    renewed = []
    for number in range(1, 13):
        one.touch(number % 9, number)
        bases, (delta,) = one.save()
        assert len(delta.rows) == 1
        renewed += [min(base.rows) for base in bases]
        assert one.restored() == one.values
    assert renewed == [0, 3, 6, 0][: len(renewed)]
    assert 3 <= len(renewed) <= 4  # 12 rows changed, and a slice has three


def test_bases_keep_up_with_however_much_changes() -> None:
    one = Partition(60, largest=1)
    one.save(everything=True)
    for number in range(30):
        for row in range(60):
            one.touch(row, number)
        one.save()
        # A base holds what would be a delta otherwise.
        assert sum(part.size for part in one.log.sections) <= 3 * 60 * ROW
        assert one.restored() == one.values


def test_deltas_older_than_every_base_are_dropped() -> None:
    one = Partition(6)
    one.save()
    one.log.outdated = False
    longest = 0
    for number in range(200):
        one.touch(number % 6, number)
        one.save()
        longest = max(longest, len(one.log.sections))
    assert longest <= 2 + 6 + 1  # two bases, and deltas that weigh about as much
    assert one.log.outdated


def test_however_little_changes_bases_are_renewed() -> None:
    one = Partition(300)  # a delta of one row weighs a third of a hundredth of that
    one.save()
    for number in range(3 * SLOWEST):
        one.touch(0, number)
        one.save()
    assert len(one.log.sections) <= 100 + SLOWEST + 2
    assert one.restored() == one.values


def test_new_rows_need_no_base_once_a_checkpoint_stands() -> None:
    one = Partition(3)
    one.save()
    one.grow(6)
    bases, deltas = one.save()
    assert bases == []
    assert [sorted(d.rows) for d in deltas] == [[3, 4, 5, 6, 7, 8]]
    assert one.log.is_complete
    assert one.restored() == one.values


def test_what_stood_before_rows_were_moved_together_goes_with_the_next_saves() -> None:
    """::

    slices    0-2  3-5  6-8  ...  57-59       of which 0, 10, 20, ... stay
    then      0-2  3-5                        new ones, of other rows
    """
    one = Partition(60)
    one.save()
    for row in range(60):
        if row % 10:
            one.forget(row)
    one.compact()
    one.touch(1, 7)
    bases, deltas = one.save()
    assert [sorted(base.rows) for base in bases] == [[0, 10, 20], [30, 40, 50]]
    assert deltas == []
    assert one.log.sections == bases
    assert one.restored() == [0, 7, 0, 0, 0, 0]


def test_what_is_inherited_goes_when_every_slice_has_a_base() -> None:
    first = Partition(9)
    first.save()
    for number in range(8):
        first.touch(number, number + 1)
        first.save()
    second = Partition(0, Changelog(first.log.sections, slice_size=PER_SLICE * ROW))
    second.grow(9)
    second.values, second.touched = first.values, set()
    before = set(map(id, second.log.sections))
    for number in range(40):
        second.touch(number % 9, 100 + number)
        second.save()
        assert second.restored() == second.values
    assert not before & set(map(id, second.log.sections))


@pytest.mark.parametrize("rows", [0, 5])
def test_a_save_of_nothing_new_writes_nothing_and_stands(rows: int) -> None:
    one = Partition(rows)
    one.save()
    assert one.log.is_complete
    for _ in range(5):
        assert one.save() == ([], [])
    assert one.restored() == one.values
