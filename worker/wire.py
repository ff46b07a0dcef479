"""The shapes that pass between the stages: what the server sends, and what is sent back unread.

Imports nothing internal, so that the stages share these words without knowing each other.
"""

from dataclasses import dataclass

Entry = tuple[bytes, list[bytes]]
"""An entry as the server sends it: its id, then its fields and values in turn."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A reading that gets no forecast: why, which entry, and what it said (truncated)."""

    reason: str
    entry: bytes
    payload: bytes
