"""Where the items of a JSON text lie, and how much it holds, told without making them; pure.

The text is looked at as bytes, in chunks: quotes tell what lies within strings, and brackets
outside of them how deep each byte lies. That takes some ten bytes for each one of a chunk.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
CHUNK = 250_000
"""Bytes that are looked at at a time."""
CONTAINER, VALUE, TEXT = 64, 40, 60
"""Bytes that Python takes for a list or dictionary that is next to empty, for any value with its
place in one, and for a text beside its characters."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What was seen of a JSON text that begins with ``[`` or ``{``.

    ``is_array`` tells which; it has ``items``, the first of which begins at ``start``, and each
    ends before one of ``ends``: a comma, or the closing bracket. ``memory`` is about how many bytes
    all of it takes once parsed. Of a text that is no JSON all that means nothing.
    """

    is_array: bool
    items: int
    start: int
    ends: list[int]
    memory: int


def memory_at_most(text: bytes) -> int:
    """Return how many bytes the values of a JSON text take, at most, once it is parsed."""
    containers = text.count(b"[") + text.count(b"{")
    return _memory(len(text), containers, text.count(b","), text.count(b'"'))


def _memory(size: int, containers: int, commas: int, quotes: int) -> int:
    values = commas + containers
    return size + CONTAINER * containers + VALUE * values + TEXT * (quotes // 2)


def outline(text: bytes, most: int = 0) -> Outline:
    """Return what a JSON text holds; of more than ``most`` items not where all of them end."""
    # Escaped backslashes and quotes are made what means nothing. Backslashes occur within strings
    # alone, and the first of a row is no escaped one.
    plain = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    seen = _Scan(most)
    for first in range(0, len(plain), CHUNK):
        seen.look(np.frombuffer(plain, np.uint8, min(CHUNK, len(plain) - first), first), first)
    start = len(text) - len(text.lstrip(b" \t\r\n"))
    last = len(text.rstrip(b" \t\r\n")) - 1
    memory = _memory(len(text), seen.containers, seen.commas, seen.quotes)
    is_array = text[start : start + 1] == b"["
    return Outline(is_array, seen.items + 1, start + 1, [*seen.ends, last], memory)


class _Scan:
    """Goes through a text chunk by chunk."""

    def __init__(self, most: int) -> None:
        self.ends: list[int] = []
        self.items = self.containers = self.commas = self.quotes = 0
        self._most = most
        self._depth = 0

    def look(self, chunk: Bytes, first: int) -> None:
        """Look at the next bytes, which lie from ``first`` on."""
        quotes = chunk == ord('"')
        inside = (np.cumsum(quotes) + self.quotes) % 2 == 1
        opening = ((chunk == ord("[")) | (chunk == ord("{"))) & ~inside
        closing = ((chunk == ord("]")) | (chunk == ord("}"))) & ~inside
        commas = (chunk == ord(",")) & ~inside
        depth = self._depth + np.cumsum(opening.astype(np.int8) - closing.astype(np.int8))
        ends = np.flatnonzero(commas & (depth == 1))
        self.items += len(ends)
        if self.items < self._most:
            self.ends += (ends + first).tolist()
        self.containers += int(opening.sum())
        self.commas += int(commas.sum())
        self.quotes += int(quotes.sum())
        self._depth = int(depth[-1])
