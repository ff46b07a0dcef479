"""The shapes that pass between the stages: what the server sends, and what is sent back unread.

Imports nothing internal, so that the stages share these words without knowing each other.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

Entry = tuple[bytes, list[bytes]]
"""An entry as the server sends it: its id, then its fields and values in turn."""
DEFAULT_FLEET = "default"
ADDRESSEE = b"tidecast:fleet"
"""The field of an entry that is for one fleet alone, such as a reading that is tried again."""
ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
LONGEST_REASON = 512
Pulse = Callable[[], object]
"""Called whenever a part of some long work is done, so that leases can be looked after."""
HISTORY = b"tidecast:history"
"""The field of an entry whose readings move windows and are not forecast; "0" is as none."""
FORGET = b"tidecast:forget"
"""The field of an entry that holds no reading: at it, all that is kept of the series that it names
is dropped."""
Kind = Literal["malformed", "series", "time", "value", "ahead", "late", "forecast"]
"""What was wrong with a reading, in a word: no reading at all, its series' name, its time, a value,
a time too far ahead, a slot that no window holds any more, or what the model answered."""
OF_READINGS: tuple[Kind, ...] = ("value", "ahead", "late", "forecast")
"""The kinds of rejects that are of readings; the others are of entries without one."""
KINDS: tuple[Kind, ...] = get_args(Kind)


def unaddressed(fields: list[bytes]) -> list[bytes]:
    """Return an entry's fields without the one that says which fleet it is for."""
    if ADDRESSEE not in fields[::2]:
        return fields
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [word for pair in pairs if pair[0] != ADDRESSEE for word in pair]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What became of an entry that says to forget a series: whether that was held."""

    entry: str
    series: str
    held: bool


@dataclass(frozen=True, slots=True)
class Position:
    """Where a fleet stands in a stream: the last entry consumed, and how many were added up to it.

    ``entries`` counts all that the stream ever held, removed ones too; None: not known.
    """

    offset: str
    entries: int | None


@dataclass(frozen=True, slots=True)
class Reject:
    """A reading that gets no forecast: why, which entry, and what it said (truncated).

    One may stand for ``count`` readings of an entry. A ``reason`` of more than ``LONGEST_REASON``
    bytes, such as one that names thousands of features, is cut.
    """

    reason: str
    entry: bytes
    payload: bytes
    kind: Kind = "malformed"
    count: int = 1

    def __post_init__(self) -> None:
        if len(self.reason) * 4 > LONGEST_REASON:  # UTF-8 takes 4 bytes a character at most
            object.__setattr__(self, "reason", _cut(self.reason.encode()))


def _cut(text: bytes) -> str:
    if len(text) <= LONGEST_REASON:
        return text.decode()
    return text[: LONGEST_REASON - 3].decode("utf-8", "ignore") + "..."
