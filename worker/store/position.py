"""Where a fleet stands in a stream, as it is stored, and what was removed before it was read; pure.

A stream numbers its entries by ids, which leave holes, and counts all that it ever held. So a
position is the id of the last entry consumed together with how many were added up to it; the commit
stores both in one value. What the stream no longer holds, and the position has not counted, was
removed unread. Who has told of that counts it as consumed and stores the position again.
"""

import re
from dataclasses import dataclass

from tidecast.worker.pipeline.wire import ENTRY_ID, Position

START = "0-0"
LAST_ID = (2**64 - 1, 2**64 - 1)
"""The largest entry id there is, as ``order_of`` returns it."""
FEW_IDS = 1_000_000
"""A stream with fewer ids left is used up; see also ``commit.lua``."""


def order_of(entry_id: str) -> tuple[int, int]:
    """Return what entry ids are ordered by."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


def is_entry_id(text: str) -> bool:
    """Tell whether a text is an entry id that a stream can have."""
    return bool(ENTRY_ID.fullmatch(text)) and max(order_of(text)) <= LAST_ID[0]


def is_used_up(last_id: str) -> bool:
    """Tell whether a stream whose newest entry had this id has none left for what a commit adds."""
    milliseconds, number = order_of(last_id)
    return milliseconds == LAST_ID[0] and LAST_ID[1] - number < FEW_IDS


def stored(position: Position) -> str:
    """Return a position as its key holds it: ``<id> <entries>``; see also ``commit.lua``."""
    return position.offset if position.entries is None else f"{position.offset} {position.entries}"


def position_of(value: bytes) -> Position:
    """Return the position that a key holds; an id alone, set by hand, has no count."""
    offset, _, entries = value.decode("utf-8", "replace").partition(" ")
    return Position(offset, int(entries) if re.fullmatch("[0-9]{1,19}", entries) else None)


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What the server knows of a stream.

    ``added`` counts the entries it ever held, ``length`` those it holds. ``first`` and ``last`` are
    the ids of its oldest entry (None: it holds none) and of the newest it ever held. ``behind`` is
    how many it holds behind the position that was asked about; None: not counted.
    """

    added: int
    length: int
    first: str | None
    last: str
    behind: int | None = None

    @property
    def removed(self) -> int:
        """How many entries it no longer holds."""
        return self.added - self.length

    def removed_unread(self, position: Position) -> int | None:
        """Return how many entries behind a position were removed before they were read.

        None where that takes a count that is missing: of those held behind it, or the position's
        own. A negative number says that the stream was made anew.
        """
        read = position.entries
        if read is None:
            return None
        if self.first is None or order_of(self.first) > order_of(position.offset):
            return self.removed - read
        if position.offset == self.last:
            return self.added - read
        return None if self.behind is None else self.added - self.behind - read
