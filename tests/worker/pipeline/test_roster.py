"""Which series are held, and which one goes, against an OrderedDict."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.pipeline.roster import UNSERVED, Roster

LONGEST = 1000
FLOOD = 200_000
BATCH = 700

names = st.lists(st.sampled_from([b"%c%d" % (c, i) for c in b"abx" for i in range(5)]), max_size=80)
cuts = st.lists(st.integers(1, 20), min_size=80, max_size=80)


def serves(name: bytes) -> bool:
    return not name.startswith(b"x")


def reference(series: Sequence[bytes], longest: int) -> tuple[list[bytes], int]:
    """Return the names held, the stalest first, and how many had to go."""
    held: OrderedDict[bytes, None] = OrderedDict()
    evicted = 0
    for name in filter(serves, series):
        held[name] = None
        held.move_to_end(name)
        if len(held) > longest:
            held.popitem(last=False)
            evicted += 1
    return list(held), evicted


def held_by(roster: Roster) -> list[bytes]:
    """Return the names held, the stalest first."""
    slots = roster.touched_since(0)
    order = slots[np.argsort(roster.touched[slots])]
    return [roster.names[slot] for slot in order.tolist()]


def feed(roster: Roster, series: Sequence[bytes]) -> None:
    """Place a batch and check that every reading's slot was its series' own."""
    placed, added, gone = roster.place(series)
    for slot, name in zip(placed.tolist(), series, strict=True):
        assert roster.names[slot] == name if serves(name) else slot == UNSERVED
    assert len(set(added)) == len(added)
    assert len(set(gone)) == len(gone)
    roster.release(gone)


def batches(series: Sequence[bytes], sizes: list[int]) -> Iterator[Sequence[bytes]]:
    first = 0
    for size in sizes:
        if first < len(series):
            yield series[first : first + size]
        first += size


@given(names, cuts, st.integers(1, 8))
def test_any_cut_into_batches_holds_the_same(
    series: list[bytes], sizes: list[int], longest: int
) -> None:
    roster = Roster(longest, serves)
    for batch in batches(series, sizes):
        feed(roster, batch)
    assert (held_by(roster), roster.evicted) == reference(series, longest)
    assert len(roster) == len(held_by(roster))
    assert roster.clock == len(series)


@given(names, names, cuts, st.integers(1, 8))
def test_a_restored_roster_goes_on_as_the_first_would(
    before: list[bytes], after: list[bytes], sizes: list[int], longest: int
) -> None:
    first = Roster(longest, serves)
    feed(first, before)
    slots = first.touched_since(0)
    second = Roster(longest, serves)
    second.admit([first.names[s] for s in slots.tolist()], first.touched[slots])
    second.clock = first.clock
    for batch in batches(after, sizes):
        feed(second, batch)
    held, evicted = reference(before + after, longest)
    assert (held_by(second), first.evicted + second.evicted) == (held, evicted)


@given(names, cuts, st.integers(1, 8), st.sets(st.integers(0, 20)), st.integers(0, 60))
def test_a_roster_whose_slots_are_numbered_anew_goes_on_as_before(
    series: list[bytes], sizes: list[int], longest: int, when: set[int], quiet: int
) -> None:
    """Between any batches; also where series were forgotten, so that slots are free."""
    one, other = Roster(longest, serves), Roster(longest, serves)
    for number, batch in enumerate(batches(series, sizes)):
        for roster in (one, other):
            feed(roster, batch)
            old = roster.untouched_since(roster.clock - quiet).tolist()
            roster.drop(old)
            roster.release(old)
        if number in when:
            names, touched = list(one.names), one.touched.copy()
            kept = one.compact()
            assert one.names == [names[slot] for slot in kept.tolist()]
            assert len(one.names) == len(one)
            assert (one.touched[: len(kept)] == touched[kept]).all()
            assert [one.slot_of(name) for name in one.names] == list(range(len(one)))
        assert held_by(one) == held_by(other)
        assert (one.evicted, one.all_served) == (other.evicted, other.all_served)


def test_who_goes_is_the_stalest_also_when_slots_were_numbered_anew() -> None:
    roster = Roster(4, serves)
    feed(roster, [b"a1", b"a2", b"a3", b"a4", b"a1"])
    feed(roster, [b"a5"])  # a2 goes, and it is noted that a3, a4 and a1 are next
    assert roster.compact().tolist() == [0, 2, 3, 4]
    feed(roster, [b"a6"])
    assert held_by(roster) == [b"a4", b"a1", b"a5", b"a6"]


@given(names, st.integers(0, 90))
def test_touched_since_are_those_of_the_newest_readings(series: list[bytes], number: int) -> None:
    roster = Roster(LONGEST, serves)
    feed(roster, series)
    since = {roster.names[slot] for slot in roster.touched_since(number).tolist()}
    assert since == set(filter(serves, series[number:]))


def test_a_lower_limit_after_a_restart_is_kept_from_the_next_new_series_on() -> None:
    roster = Roster(2, serves)
    roster.admit([b"a", b"b", b"c"], np.array([2, 0, 1]))
    roster.clock = 3
    feed(roster, [b"d"])
    assert held_by(roster) == [b"a", b"d"]
    assert roster.evicted == 2


def test_series_that_are_admitted_again_count_from_their_newest_reading() -> None:
    roster = Roster(3, serves)
    roster.clock = 9
    _, new = roster.admit([b"a", b"b"], np.array([4, 7]))
    assert new.tolist() == [0, 1]
    second, new = roster.admit([b"b", b"c", b"a"], np.array([5, 6, 8]))
    assert new.tolist() == [1]
    assert [roster.names[slot] for slot in second] == [b"b", b"c", b"a"]
    assert held_by(roster) == [b"c", b"b", b"a"]
    roster.drop([int(second[0])])
    roster.release([int(second[0])])
    assert held_by(roster) == [b"c", b"a"]
    feed(roster, [b"d", b"e"])  # the first takes the free slot, the second that of the stalest
    assert held_by(roster) == [b"a", b"d", b"e"]


def test_a_flood_of_names_takes_no_more_room_than_allowed() -> None:
    roster = Roster(LONGEST, serves)
    flood = [b"a%d" % i for i in range(FLOOD)]
    for batch in batches(flood, [BATCH] * FLOOD):
        feed(roster, batch)
        assert len(roster.names) <= LONGEST + BATCH
    assert held_by(roster) == flood[-LONGEST:]
    assert roster.evicted == FLOOD - LONGEST
    assert len(roster.touched) <= 2 * (LONGEST + BATCH)


@given(names, cuts, st.integers(0, 300))
def test_the_bytes_of_all_series_are_bounded(
    series: list[bytes], sizes: list[int], room: int
) -> None:
    """One is held in any case: what is read of it has to go somewhere."""
    roster = Roster(LONGEST, serves, each=40, room=room)
    held: OrderedDict[bytes, None] = OrderedDict()
    for batch in batches([name * 9 for name in series], sizes):
        feed(roster, batch)
        for name in filter(serves, batch):
            while name not in held and held and sum(40 + len(n) for n in [*held, name]) > room:
                held.popitem(last=False)
            held[name] = None
            held.move_to_end(name)
        assert held_by(roster) == list(held)
    assert roster.most == room // 40


def test_names_that_nobody_serves_are_not_all_remembered() -> None:
    """One that is remembered is not asked for again, so asking tells how many are."""
    asked = []

    def counted(name: bytes) -> bool:
        asked.append(name)
        return serves(name)

    roster = Roster(LONGEST, counted)
    feed(roster, [b"a"])
    flood = [b"x%d" % i for i in range(FLOOD)]
    for batch in batches(flood, [BATCH] * FLOOD):
        feed(roster, batch)
    asked.clear()
    for batch in batches(flood, [BATCH] * FLOOD):
        feed(roster, batch)
    assert len(asked) >= FLOOD - LONGEST
    assert held_by(roster) == [b"a"]
    assert len(roster) == 1
    assert len(roster.names) == 1
