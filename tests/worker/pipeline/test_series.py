"""Series that are taken over from others, and how much of them a save writes."""

import gc
import tracemalloc
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tests.model_files import spec_of
from tidecast.worker.pipeline.changelog import NAME_SIZE, SECTION, Changelog
from tidecast.worker.pipeline.naive import naive_of
from tidecast.worker.pipeline.series import HeldSeries, _key, newest, series_size
from tidecast.worker.pipeline.snapshot import State, StateKey, decode, encode
from tidecast.worker.service.recovery import identity_of, meaning_of


def held_of(*names: bytes, longest: int, rounds: int = 1) -> HeldSeries:
    held = HeldSeries([spec_of()], lambda _: 0, longest)
    for _ in range(rounds):
        placed = held.place(names)
        rows = held.routes[placed.slots, 1]
        held.tables[0]["run"][rows] += 1
    return held


def names_of(held: HeldSeries) -> list[bytes]:
    return sorted(held.base(0, 0, held.tables[0].size).names)


def test_no_more_series_are_taken_over_than_may_be_held() -> None:
    """The stalest are left out, whosever they are."""
    mine = held_of(b"a", b"b", b"c", longest=3)
    mine.absorb(held_of(b"d", b"e", longest=3))
    assert len(mine) == 3
    assert b"a" not in names_of(mine)
    assert {b"c", b"e"} < set(names_of(mine))


def test_of_two_windows_of_a_series_the_longer_is_taken() -> None:
    mine = held_of(b"a", b"b", longest=9)
    mine.absorb(held_of(b"b", b"c", longest=9, rounds=2))
    assert names_of(mine) == [b"a", b"b", b"c"]
    slots = mine.place([b"a", b"b", b"c"]).slots
    assert mine.tables[0]["run"][mine.routes[slots, 1]].tolist() == [1, 2, 2]


@dataclass(frozen=True)
class Written:
    """A section that says how many series it holds."""

    rows: int
    size: int = 1


def test_what_came_to_few_series_is_one_section_and_to_many_as_few_as_hold_it() -> None:
    held = held_of(*[b"s%d" % number for number in range(2000)], longest=10_000)
    log: Changelog[Written] = Changelog()
    written: list[int] = []

    def write(state: State) -> Written:
        written.append(len(state.names))
        return Written(len(state.names))

    held.save(log, write, whole=True)
    held.place([b"s1", b"s5", b"s9"])
    written.clear()
    held.save(log, write)
    assert written == [3]
    each = int(held.tables[0].weights(np.arange(1))[0]) + NAME_SIZE
    many = SECTION // each + 1
    held = held_of(*[b"%d" % number for number in range(many)], longest=many)
    log = Changelog()
    held.save(log, write, whole=True)
    held.place([b"%d" % number for number in range(many)])
    written.clear()
    held.save(log, write)
    assert len(written) == 2
    assert sum(written) == many
    assert written[0] == SECTION // each


def test_a_flood_of_names_stays_within_the_room_that_there_is() -> None:
    """Nothing is copied as the tables grow; without a bound it would be 150 MB."""
    spec = spec_of(n_steps=500, features=tuple("abcdefgh"), targets=("a",))
    room, spare = 40_000_000, 100
    gc.collect()
    tracemalloc.start()
    try:
        held = HeldSeries([spec], lambda _: 0, 1_000_000, room, spare)
        for first in range(0, 10_000, spare):
            placed = held.place([b"%d" % number for number in range(first, first + spare)])
            held.tables[0]["tail"][held.routes[placed.slots, 1]] = 1.0
            held.release(placed.gone)
        taken, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 * room < taken < room
    assert peak < 1.1 * room
    assert held.evicted > 5000


def test_a_restart_with_less_room_takes_over_the_newest_as_they_were() -> None:
    """Of each its whole window, though that lies in several sections, and of no other any."""
    spec = spec_of(n_steps=5)
    before = HeldSeries([spec], lambda _: 0, 1000)
    log: Changelog[Written] = Changelog()
    sections: list[bytes] = []

    def write(state: State) -> Written:
        sections.append(encode(state))
        return Written(len(state.names))

    series = [b"s%d" % number for number in range(100)]
    for turn, some in enumerate([series, series[:30], series[10:20], series[50:55]]):
        slots = before.place(some).slots
        times = np.full(len(some), turn)
        before.windows[0].push(before.routes[slots, 1], times, np.full((len(some), 1), turn + 1.0))
        before.save(log, write, whole=not turn)

    def restored(most: int) -> HeldSeries:
        held = HeldSeries([spec], lambda _: 0, most)
        *_, chosen = collected(newest(map(decode, sections), most))
        list(held.restore(map(decode, sections), before.clock, most, chosen))
        return held

    few, every = restored(15), restored(100)
    assert names_of(few) == sorted(series[10:20] + series[50:55])
    assert few.tables[0].size == 15  # there was never a row for any other
    assert names_of(every) == sorted(series)
    for held in (few, every):
        slots, wanted = (one.place(names_of(few)).slots for one in (held, before))
        for column in ("run", "newest", "tail"):
            found = held.tables[0][column][held.routes[slots, 1]]
            assert (found == before.tables[0][column][before.routes[wanted, 1]]).all()


def collected(work: Generator[None, None, Any]) -> list[Any]:
    """What some work yields, and at last what it returns."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(work))
        except StopIteration as done:
            return [*found, done.value]


def test_a_restart_takes_little_more_memory_than_what_it_restores() -> None:
    """Some 50 MB of windows, of which no part is held twice but the section in hand."""
    spec = spec_of(n_steps=500, features=tuple("abcdefgh"), targets=("a",))
    series = [b"s%d" % number for number in range(3000)]
    before = HeldSeries([spec], lambda _: 0, 10_000)
    before.place(series)
    sections: list[bytes] = []

    def write(state: State) -> Written:
        sections.append(encode(state))
        return Written(len(state.names))

    before.save(Changelog(), write, whole=True)
    assert len(sections) > 10
    gc.collect()
    tracemalloc.start()
    try:
        after = HeldSeries([spec], lambda _: 0, 10_000)
        list(after.restore(map(decode, sections), before.clock, len(before)))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert names_of(after) == sorted(series)
    assert held > 40_000_000
    assert peak < 1.3 * held


def test_a_forgotten_series_does_not_come_back_from_what_was_written_before() -> None:
    """It was touched last, so that by their numbers another would have been left out instead."""
    held = held_of(b"a", b"b", b"c", longest=9, rounds=3)
    log: Changelog[Kept] = Changelog(slice_size=1)  # a base of each row

    def restored() -> list[bytes]:
        again = HeldSeries([spec_of()], lambda _: 0, 9)
        states = [decode(section.content) for section in log.sections]
        list(again.restore(iter(states), held.clock, len(held)))
        *_, chosen = collected(newest(iter(states), len(held)))
        assert len(chosen) == len(held)
        return names_of(again)

    held.save(log, kept, whole=True)
    assert [held.forget(name) for name in (b"c", b"c", b"stranger")] == [True, False, False]
    held.place([b"a"])
    held.save(log, kept)
    assert restored() == [b"a", b"b"]
    held.place([b"c"])
    held.save(log, kept)
    assert restored() == [b"a", b"b", b"c"]
    for _ in range(2):
        assert held.forget(b"c")
        held.place([b"c"])  # and comes back before the save
    held.save(log, kept)
    assert restored() == [b"a", b"b", b"c"]
    for _ in range(200):  # until all bases are new
        held.place([b"a", b"b", b"c"])
        held.save(log, kept)
    assert restored() == [b"a", b"b", b"c"]
    assert not any(decode(section.content).forgets for section in log.sections)


MOST_GO = [("forget", number) for number in (0, 1, 3, 4, 5, 6)]
BACK_AGAIN: list[tuple[str, int]] = [*MOST_GO, ("save", 0), ("forget", 2), ("save", 0), ("read", 0)]


@example([*BACK_AGAIN, ("save", 0)])
@given(
    st.lists(
        st.tuples(st.sampled_from(["read", "forget", "forget", "save"]), st.integers(0, 7)),
        max_size=40,
    )
)
def test_what_was_forgotten_and_compacted_is_restored_as_it_is(ops: list[tuple[str, int]]) -> None:
    """Series come, go by orders and come back, between saves; tables are compacted all the time."""
    held, log = HeldSeries([spec_of()], lambda _: 0, 99), Changelog[Kept](slice_size=1)
    held.few = 0
    for operation, number in [*(("read", number) for number in range(8)), ("save", 0), *ops]:
        name = b"s%d" % number
        if operation == "read":
            placed = held.place([name])
            held.tables[0]["run"][held.routes[placed.slots, 1]] += 1
        elif operation == "forget":
            held.forget(name)
        else:
            held.save(log, kept)
    held.save(log, kept, whole=True)
    again = HeldSeries([spec_of()], lambda _: 0, 99)
    states = [decode(section.content) for section in log.sections]
    list(again.restore(iter(states), held.clock, len(held)))
    assert runs_of(again) == runs_of(held)


def runs_of(held: HeldSeries) -> dict[bytes, int]:
    """How many readings each series has had."""
    state = held.base(0, 0, held.tables[0].size)
    return dict(zip(state.names, state.arrays["run"].tolist(), strict=True))


@dataclass(frozen=True)
class Kept:
    """A section with what is in it."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)


def kept(state: State) -> Kept:
    return Kept(encode(state))


def test_windows_of_32_bits_are_no_beginning_for_64_bit_ones() -> None:
    """What they had lost would be in forecasts until the window has moved on."""
    usual, wide = (spec_of(numbers=numbers) for numbers in ("float32", "float64"))
    assert _key(usual) == StateKey(("value",), None)
    assert _key(wide) != _key(usual)
    assert meaning_of(identity_of(wide)) != meaning_of(identity_of(usual))
    assert series_size([wide]) == series_size([usual]) + 4 * usual.n_steps


def test_what_is_forecast_without_a_model_keeps_its_bounds() -> None:
    naive = naive_of(spec_of(n_steps=2, horizon=2, bounds={"value": (0.0, 5.0)}))
    assert naive is not None
    windows = np.array([[[3.0], [-1.0]], [[3.0], [7.0]]], np.float32)
    assert naive.newest(windows).tolist() == [[[0.0], [0.0]], [[5.0], [5.0]]]
    assert naive.newest(windows).dtype == np.float32
