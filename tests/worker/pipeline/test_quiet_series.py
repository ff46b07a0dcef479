"""Series that are forgotten as they were quiet for too long, and the memory that comes back."""

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from tests.model_files import spec_of
from tests.worker.pipeline.test_open_slots import (
    Draft,
    Section,
    entries_of,
    kinds,
    records_of,
    registry_of,
    worked,
)
from tidecast.worker.pipeline.changelog import Changelog
from tidecast.worker.pipeline.columns import Table
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.series import FEW, SHARE, HeldSeries
from tidecast.worker.pipeline.snapshot import decode, encode
from tidecast.worker.pipeline.step import Pipeline

Story = list[tuple[int, int, int, int | None, int]]
SERIES = 100_000
TTL = 2000.0

stories = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 2, 12]),  # how many series say something
        st.sampled_from([0, 250, 250, 1000, 2500]),  # so much later than the ones before
        st.integers(0, 11),  # the first of them
        st.integers(0, 5) | st.none(),
        st.integers(0, 5),
    ),
    max_size=40,
)
QUIET: Story = [(12, 0, 0, 1, 1), *[(2, 1000, 10, 2, 3)] * 12]


def drafts_of(story: Story) -> list[Draft]:
    found, now = list[Draft](), 0
    for many, later, first, a, b in story:
        now += later
        found += [(f"s{(first + n) % 12}", now + 20 * n, a, b, False) for n in range(many)]
    return found


def pipeline_of(kind: int, few: int, most: int) -> Pipeline:
    registry = registry_of(kind)
    pipeline = Pipeline(registry, Decoder("s", registry.features), most, ttl=TTL, lateness=700)
    pipeline.held.few = few
    return pipeline


@given(stories, kinds, st.integers(1, 50), st.integers(4, 20), st.sets(st.integers(0, 80)))
@example(QUIET, 0, 3, 20, {0, 16})
@example(QUIET, 1, 3, 20, {12, 20})
def test_where_series_are_held_is_seen_in_nothing(
    story: Story,
    kind: int,
    size: int,
    most: int,
    saves: set[int],
) -> None:
    """Rows are moved together or not, and checkpoints are taken before and after."""
    entries = entries_of(drafts_of(story))
    still, moving = pipeline_of(kind, 10**9, most), pipeline_of(kind, 0, most)
    log = Changelog[Any](slice_size=300)
    expected = worked(still, entries, len(entries) or 1)
    commits, begun = worked(moving, [], 1), 0
    for save in sorted({min(save, len(entries)) for save in saves} | {len(entries)}):
        commits += worked(moving, entries[begun:save], size)
        begun = save
        moving.held.save(log, lambda state: Section(encode(state)), whole=True)
        again = restored(pipeline_of(kind, 0, most), moving, log)
        rest = entries[save:]
        after = worked(again, rest, 4)
        assert records_of(commits) + records_of(after) == records_of(expected)
        assert sum(c.forgotten for c in commits + after) == sum(c.forgotten for c in expected)
        assert moving.held.evicted + again.held.evicted == still.held.evicted
    assert moving.fates == still.fates
    assert started_of(commits) == started_of(expected)
    assert len(moving.held) == len(still.held)


def started_of(commits: list[Commit]) -> list[str]:
    return sorted(name for commit in commits for name in commit.started)


def restored(pipeline: Pipeline, before: Pipeline, log: Changelog[Section]) -> Pipeline:
    """The pipeline that goes on from a checkpoint of one before it."""
    states = [decode(section.content) for section in log.sections]
    list(pipeline.held.restore(states, before.held.clock, len(before.held)))
    pipeline.stream_time.latest = before.stream_time.latest
    pipeline.silence.marks = list(before.silence.marks)
    return pipeline


def test_rows_of_series_that_stay_are_moved_together() -> None:
    """::

    second   0                     1   2   ...
    series   0 1 2 3 ... 11    10 11 10 11 ...     of twelve two stay, when the others are forgotten
    """
    pipeline = pipeline_of(1, 0, 20)
    worked(pipeline, entries_of(drafts_of(QUIET)), 5)
    [table] = pipeline.held.tables
    assert (len(pipeline.held), table.size, table.compacted) == (2, 2, 1)
    assert pipeline.held.base(0, 0, table.size).names == [b"s10", b"s11"]


def bytes_of(table: Table) -> int:
    return sum(table[column.name].nbytes for column in table.columns)


def test_a_hundredth_of_the_series_takes_a_hundredth_of_the_memory() -> None:
    """Forgotten some at a time, so rows are moved now and then, and not many in all."""
    held = HeldSeries([spec_of(n_steps=24)], lambda _: 0, 2 * SERIES)
    names = [b"s%d" % number for number in range(SERIES)]
    kept = names[7 :: SERIES // 1000]
    slots = held.place(names).slots
    rows = held.routes[slots, 1]
    held.tables[0]["tail"][rows, -1, 0] = np.arange(SERIES)
    full, moved, size = bytes_of(held.tables[0]), 0, held.tables[0].size
    assert full > 10_000_000
    for first in range(0, SERIES, 10_000):
        held.place(names[first:])
        held.place(kept)
        held.forget_untouched(held.clock - len(names[first:]) - len(kept))
        if held.tables[0].size < size:
            size = held.tables[0].size
            moved += size
    held.place(kept)
    held.forget_untouched(held.clock - len(kept))
    slots = held.place(kept).slots
    table, rows = held.tables[0], held.routes[slots, 1]
    assert (len(held), table.size, len(held.routes)) == (1000, 1000, 1000)
    assert table["tail"][rows, -1, 0].tolist() == list(range(7, SERIES, SERIES // 1000))
    assert held.names(0, rows)[1] == kept
    assert bytes_of(table) < full / 50
    assert moved < SERIES / (SHARE - 1)


def test_few_rows_are_left_where_they_are() -> None:
    held = HeldSeries([spec_of()], lambda _: 0, SERIES)
    held.place([b"%d" % number for number in range(FEW)])
    held.place([b"0"])
    held.forget_untouched(held.clock - 1)
    assert (len(held), held.tables[0].size, held.tables[0].compacted) == (1, FEW, 0)


def test_room_that_was_set_aside_stays_there() -> None:
    """It takes no memory before it is written to, and growing would take twice of it."""
    spec = spec_of(n_steps=24)
    held = HeldSeries([spec], lambda _: 0, SERIES, 10_000_000, 100)
    room = len(held.tables[0].slots)
    held.place([b"%d" % number for number in range(2 * FEW)])
    held.place([b"0"])
    held.forget_untouched(held.clock - 1)
    assert held.tables[0].compacted == 1
    assert len(held.tables[0].slots) == room
