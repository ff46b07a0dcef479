"""How memory is divided: all parts together are no more than there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.service.budget import (
    BUFFERS,
    COARSE,
    FEW_SERIES,
    MB,
    SMALLEST,
    Budget,
    budget_of,
    least,
)

sizes = st.integers(0, 10**12)


@given(sizes, sizes, st.integers(1, 4096))
def test_all_parts_are_no_more_than_there_is(most: int, used: int, streams: int) -> None:
    budget = budget_of(most, used, streams)
    assert budget.room.series is not None
    passing = 8 * max(budget.reply, budget.room.windows, budget.room.forecasts)
    taken = BUFFERS + streams * budget.room.series + passing
    assert taken <= max(most - used, BUFFERS + SMALLEST)
    assert used <= most - taken or most < least(used)
    assert min(budget.reply, budget.room.windows, budget.room.forecasts) >= SMALLEST // 16


def test_a_large_machine_changes_nothing_that_passes_through() -> None:
    budget, without = budget_of(100_000 * MB, 200 * MB, 4), Budget()
    assert budget.reply == without.reply
    assert budget.room.windows == without.room.windows
    assert budget.room.forecasts == without.room.forecasts
    assert without.room.series is None


@pytest.mark.parametrize("used", [90 * MB, 400 * MB])
def test_with_the_least_there_is_something_for_each_part(used: int) -> None:
    assert budget_of(least(used) - COARSE, used, 1) == budget_of(0, used, 1)
    assert budget_of(least(used) + 64 * MB, used, 1).reply > budget_of(0, used, 1).reply
    streams, each = 4096, 9_700
    series = budget_of(least(used, streams, each), used, streams).room.series
    assert series is not None
    assert series >= FEW_SERIES * each


def test_a_little_more_or_less_that_is_used_changes_nothing() -> None:
    """As from start to start: else a replay might keep other series than there were."""
    assert budget_of(1000 * MB, 97 * MB, 4) == budget_of(1000 * MB, 127 * MB, 4)
