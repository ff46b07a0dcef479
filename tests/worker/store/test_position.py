"""Where a fleet stands, and how many entries went unread, from what a server knows."""

from dataclasses import replace

import pytest

from tidecast.worker.pipeline.wire import Position
from tidecast.worker.store.position import StreamFacts, position_of, stored

EMPTY = StreamFacts(added=0, length=0, first=None, last="0-0")
WHOLE = StreamFacts(added=10, length=10, first="1-0", last="10-0")
TRIMMED = StreamFacts(added=10, length=3, first="8-0", last="10-0")
EMPTIED = StreamFacts(added=10, length=0, first=None, last="10-0")
HOLED = StreamFacts(added=10, length=8, first="1-0", last="10-0")
ANEW = StreamFacts(added=2, length=2, first="11-0", last="12-0")


@pytest.mark.parametrize(
    ("facts", "offset", "entries", "behind", "unread"),
    [
        pytest.param(EMPTY, "0-0", 0, None, 0, id="nothing ever came"),
        pytest.param(WHOLE, "0-0", 0, None, 0, id="nothing read yet"),
        pytest.param(WHOLE, "10-0", 10, None, 0, id="all read, all held"),
        pytest.param(WHOLE, "4-0", 4, None, None, id="between, not counted"),
        pytest.param(WHOLE, "4-0", 4, 6, 0, id="between, all there"),
        pytest.param(WHOLE, "4-0", None, 6, None, id="its own count unknown"),
        pytest.param(WHOLE, "1-0", 1, None, None, id="at the oldest, not counted"),
        pytest.param(TRIMMED, "0-0", 0, None, 7, id="trimmed before the first read"),
        pytest.param(TRIMMED, "4-0", 4, None, 3, id="trimmed past the reader"),
        pytest.param(TRIMMED, "7-0", 7, None, 0, id="trimmed up to the reader"),
        pytest.param(TRIMMED, "8-0", 8, 2, 0, id="trimmed behind the reader"),
        pytest.param(TRIMMED, "10-0", 10, None, 0, id="trimmed when all was read"),
        pytest.param(TRIMMED, "9-0", 6, 1, 3, id="trimmed past the reader, read on"),
        pytest.param(TRIMMED, "10-0", 7, None, 3, id="trimmed past the reader, read to the end"),
        pytest.param(EMPTIED, "10-0", 10, None, 0, id="emptied when all was read"),
        pytest.param(EMPTIED, "4-0", 4, None, 6, id="emptied before the reader"),
        pytest.param(HOLED, "4-0", 4, 4, 2, id="two deleted ahead of the reader"),
        pytest.param(HOLED, "4-0", 4, 5, 1, id="one deleted on either side of the reader"),
        pytest.param(HOLED, "4-0", 4, 6, 0, id="two deleted when they were read"),
        pytest.param(HOLED, "4-0", 4, None, None, id="two deleted somewhere, not counted"),
        pytest.param(HOLED, "8-0", 8, 0, 2, id="the newest two deleted unread"),
        pytest.param(HOLED, "10-0", 8, None, 2, id="two deleted, read to the end"),
        pytest.param(ANEW, "10-0", 10, None, -10, id="made anew"),
        pytest.param(EMPTY, "10-0", 10, None, -10, id="gone"),
    ],
)
def test_removed_unread(
    facts: StreamFacts, offset: str, entries: int | None, behind: int | None, unread: int | None
) -> None:
    assert replace(facts, behind=behind).removed_unread(Position(offset, entries)) == unread


@pytest.mark.parametrize(
    ("first", "offset", "unread"),
    [("10-0", "9-0", 4), ("9-10", "9-9", 4), ("9-9", "9-10", None), ("9-0", "10-0", None)],
)
def test_ids_are_ordered_as_numbers(first: str, offset: str, unread: int | None) -> None:
    facts = StreamFacts(added=20, length=10, first=first, last="11-0")
    assert facts.removed_unread(Position(offset, 6)) == unread


@pytest.mark.parametrize("facts", [EMPTY, WHOLE, TRIMMED, EMPTIED, HOLED, ANEW])
def test_what_was_told_once_is_not_told_again(facts: StreamFacts) -> None:
    """Whoever adds the answer to his count hears of none the next time."""
    counted = replace(facts, behind=facts.length)
    unread = counted.removed_unread(Position("0-0", 0))
    assert unread is not None
    assert counted.removed_unread(Position("0-0", unread)) == 0


@pytest.mark.parametrize("position", [Position("5-0", 0), Position("17-3", 12)])
def test_a_position_is_read_as_it_is_stored(position: Position) -> None:
    assert position_of(stored(position).encode()) == position


@pytest.mark.parametrize(
    ("value", "offset"),
    [(b"5-0", "5-0"), (b"5-0 many", "5-0"), (b"5-0 -1", "5-0"), (b"noon", "noon"), (b"", "")],
)
def test_what_somebody_set_by_hand_has_no_count(value: bytes, offset: str) -> None:
    """What is no id comes back as it lies there: the server says so."""
    assert position_of(value) == Position(offset, None)
