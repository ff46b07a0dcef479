"""Series that are taken over from others, and how much of them a save writes."""

from dataclasses import dataclass

import numpy as np

from tests.model_files import spec_of
from tidecast.worker.pipeline.changelog import NAME_SIZE, SECTION, Changelog
from tidecast.worker.pipeline.series import HeldSeries
from tidecast.worker.pipeline.snapshot import State


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
