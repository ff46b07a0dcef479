"""A packed command is what the server's protocol says, as the driver's own parser reads it."""

import hiredis
from hypothesis import example, given
from hypothesis import strategies as st

from tidecast.worker.store.connection import _HEADS, LONGEST_KNOWN, packed


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=20))
@example([b"x" * LONGEST_KNOWN, b"y" * (LONGEST_KNOWN + 1), b""])
def test_a_packed_command_is_read_back(words: list[bytes]) -> None:
    reader = hiredis.Reader()
    reader.feed(packed(words))
    assert reader.gets() == words


def test_heads_of_long_words_are_not_kept() -> None:
    """They would be as many as there are lengths."""
    packed([b"x" * size for size in range(LONGEST_KNOWN - 10, LONGEST_KNOWN + 10)])
    assert max(_HEADS) == LONGEST_KNOWN
    assert LONGEST_KNOWN - 10 in _HEADS
