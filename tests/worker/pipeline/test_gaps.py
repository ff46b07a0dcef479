"""How many entries went unread, from what a server knows of a stream."""

import pytest

from tidecast.worker.store.source import StreamFacts

EMPTY = StreamFacts(added=0, length=0, first=None, last="0-0")
WHOLE = StreamFacts(added=10, length=10, first="1-0", last="10-0")
TRIMMED = StreamFacts(added=10, length=3, first="8-0", last="10-0")
EMPTIED = StreamFacts(added=10, length=0, first=None, last="10-0")
HOLED = StreamFacts(added=10, length=8, first="1-0", last="10-0")
ANEW = StreamFacts(added=2, length=2, first="11-0", last="12-0")


@pytest.mark.parametrize(
    ("facts", "offset", "entries", "waiting", "unread"),
    [
        pytest.param(EMPTY, "0-0", 0, None, 0, id="nothing ever came"),
        pytest.param(WHOLE, "0-0", 0, None, 0, id="nothing read yet"),
        pytest.param(WHOLE, "10-0", 10, None, 0, id="all read, all held"),
        pytest.param(WHOLE, "4-0", 4, None, None, id="between, not counted"),
        pytest.param(WHOLE, "4-0", 4, 6, 0, id="between, all there"),
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
    facts: StreamFacts, offset: str, entries: int, waiting: int | None, unread: int | None
) -> None:
    assert facts.removed_unread(offset, entries, waiting) == unread


@pytest.mark.parametrize(
    ("first", "offset", "unread"),
    [("10-0", "9-0", 4), ("9-10", "9-9", 4), ("9-9", "9-10", None), ("9-0", "10-0", None)],
)
def test_ids_are_ordered_as_numbers(first: str, offset: str, unread: int | None) -> None:
    facts = StreamFacts(added=20, length=10, first=first, last="11-0")
    assert facts.removed_unread(offset, 6, None) == unread


@pytest.mark.parametrize("facts", [EMPTY, WHOLE, TRIMMED, EMPTIED, HOLED, ANEW])
def test_what_was_told_once_is_not_told_again(facts: StreamFacts) -> None:
    """Whoever adds the answer to his count hears of none the next time."""
    unread = facts.removed_unread("0-0", 0, facts.length)
    assert unread is not None
    assert facts.removed_unread("0-0", unread, facts.length) == 0
