"""Series that are taken over from others."""

from tests.model_files import spec_of
from tidecast.worker.pipeline.series import HeldSeries


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
