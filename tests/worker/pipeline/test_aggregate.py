"""Readings of one slot as one value, against a list of all of them."""

from typing import get_args

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tests.slow_slots import OpenSlot
from tidecast.worker.contract import Rule
from tidecast.worker.pipeline.aggregate import Rules
from tidecast.worker.pipeline.grid import Twice

cells = st.integers(-9, 9) | st.none()
readings = st.lists(st.tuples(st.integers(-4, 5), cells, cells), max_size=30)
rules = st.lists(st.sampled_from(get_args(Rule)), min_size=2, max_size=2)
sets = st.lists(readings, min_size=1, max_size=4)


@given(sets, rules, st.sampled_from(["last", "first"]), st.integers(1, 5))
@example([[(0, 1, None), (1, 2, None), (0, 3, None)]], ["last", "sum"], "last", 3)
def test_however_readings_come_a_slot_is_what_all_of_them_say(
    slots: list[list[tuple[int, int | None, int | None]]],
    some: list[Rule],
    twice: Twice,
    kept: int,
) -> None:
    """In any order, twice, and more of them than are known one by one; of several slots at once."""
    folding, slow = Rules(some, twice, kept), [OpenSlot(0, 0, [[], []], kept=kept) for _ in slots]
    known = folding.empty(len(slots))
    for turn in range(max(map(len, slots))):
        mine = np.array([place for place, each in enumerate(slots) if turn < len(each)])
        now = [slots[place][turn] for place in mine.tolist()]
        values = [[np.nan if cell is None else cell for cell in each] for _, *each in now]
        taken = known.some(mine)
        times = np.array([time for time, *_ in now])
        news = folding.take(taken, times, np.array(values, np.float32))
        known.put(mine, taken)
        pairs = [(slow[place], one) for place, one in zip(mine.tolist(), now, strict=True)]
        expected = [slot.take(one[0], one[1:], tuple(some), twice) for slot, one in pairs]
        assert news.tolist() == expected
    settled = [[np.nan if v is None else v for v in one.settled(tuple(some))] for one in slow]
    np.testing.assert_array_equal(folding.settle(known), np.array(settled, np.float32))
    times_of = [[[time for time, _ in mine] for mine in one.said] for one in slow]
    latest = [max(max(each, default=0) for each in both) for both in times_of]
    assert known.latest.tolist() == latest


@given(st.permutations(range(16)), st.sampled_from(["sum", "mean"]))
def test_sums_are_those_of_readings_in_the_order_of_their_times(
    order: list[int], rule: Rule
) -> None:
    """Bit for bit, as long as no more of them come late than are known one by one."""
    values = np.array([1e17, 1, -1e17, 3, 2e17, 5, -2e17, 7] * 2, np.float32)

    def made(times: list[int], kept: int) -> bytes:
        folding = Rules([rule], kept=kept)
        taken = folding.empty(1)
        for time in times:
            folding.take(taken, np.array([time]), values[None, None, time])
        return folding.settle(taken).tobytes()

    assert made(order, 16) == made(list(range(16)), 1)
