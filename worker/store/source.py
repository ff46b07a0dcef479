"""Reads input streams: live, with the next read under way, and replay between two ids.

Delivery: every entry after the given position once, in stream order, as long as the object lives.
Positions are entry ids as text and mean "last consumed". Nothing is acknowledged here; the position
is stored by the commit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from tidecast.worker.pipeline.wire import Entry, Position
from tidecast.worker.store.connection import RawConnection
from tidecast.worker.store.driver import driver_errors

START = "0-0"
MANY = 1000
MANY_AT_ONCE = 100
LARGEST_READ = 500_000
"""Bytes of one live read and stream, about: more would lie around until they are worked off."""
FIRST_READ = 16
"""Entries of a reader's first read, while it is not known how large they are."""
WEIGHED = 50
"""Entries of an answer that are weighed, evenly spread."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What the server knows of a stream.

    ``added`` counts the entries it ever held, ``length`` those it holds. ``first`` and ``last`` are
    the ids of its oldest entry (None: it holds none) and of the newest it ever held.
    """

    added: int
    length: int
    first: str | None
    last: str

    @property
    def removed(self) -> int:
        """How many entries it no longer holds."""
        return self.added - self.length

    def removed_unread(self, offset: str, entries: int, waiting: int | None) -> int | None:
        """Return how many entries behind ``offset`` were removed before they were read.

        Args:
            offset: the last entry consumed.
            entries: how many were added up to it, as far as the reader knows.
            waiting: how many the stream holds behind it; None: not counted.

        None where that cannot be told. A negative number says that the stream was made anew.
        """
        if self.first is None or order_of(self.first) > order_of(offset):
            return self.removed - entries
        if offset == self.last:
            return self.added - entries
        return None if waiting is None else self.added - waiting - entries


def order_of(entry_id: str) -> tuple[int, int]:
    """Return what entry ids are ordered by."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The input streams of one server.

    Args:
        client: where to read.
        count: entries per stream and read, at most; fewer where they are large.
        block_ms: how long a live read waits for news; None: not at all, so that it returns nothing
            once all is read.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses.
    """

    client: redis.Redis
    count: int
    block_ms: int | None

    def follow(self, positions: dict[str, str]) -> "LiveReader":
        """Read live what comes after the position (the last entry consumed) of each stream."""
        return LiveReader(self, positions)

    @driver_errors()
    def facts(self, stream: str) -> StreamFacts:
        """Return what the server knows of a stream; of one that is not there, that it is empty."""
        try:
            answer: Any = self.client.xinfo_stream(stream)
        except redis.ResponseError as error:
            if "no such key" not in str(error):
                raise
            return StreamFacts(0, 0, None, START)
        first = answer["first-entry"]
        return StreamFacts(
            answer["entries-added"],
            answer["length"],
            first and first[0].decode(),
            answer["last-generated-id"].decode(),
        )

    def beginning(self, stream: str, *, at_end: bool) -> Position:
        """Return the position before all that a stream holds, or behind all of it."""
        facts = self.facts(stream)
        return Position(facts.last, facts.added) if at_end else Position(START, facts.removed)

    @driver_errors()
    def waiting(
        self, stream: str, offset: str, until: str = "+", *, most: int | None = None
    ) -> int | None:
        """Return how many entries lie behind an offset, None if more than ``most``."""
        count, first = 0, f"({offset}"
        while most is None or count <= most:
            some: Any = self.client.xrange(stream, min=first, max=until, count=MANY)
            count += len(some)
            if len(some) < MANY:
                return count
            first = f"({some[-1][0].decode()}"
        return None

    def removed_unread(self, stream: str, offset: str, entries: int) -> int | None:
        """Return how many entries behind an offset were removed unread; None: not to be told yet.

        ``entries`` is how many were added up to the offset. While readings pour in faster than they
        are read, it may take until the reader has caught up before this can be told.
        """
        facts = self.facts(stream)
        removed = facts.removed_unread(offset, entries, None)
        if removed is None and facts.added - entries <= MANY:
            waiting = self.waiting(stream, offset, facts.last, most=MANY)
            if self.facts(stream).removed == facts.removed:
                return facts.removed_unread(offset, entries, waiting)
        return removed

    @driver_errors()
    def groups(self, stream: str) -> dict[str, str]:
        """Return each consumer group of a stream with the oldest entry that it may still need.

        That is the entry before which everything is delivered and acknowledged.
        """
        if not self.client.exists(stream):
            return {}
        needs = {}
        answer: Any = self.client.xinfo_groups(stream)
        for group in answer:
            name, oldest = group["name"].decode(), group["last-delivered-id"].decode()
            if group["pending"]:
                pending: Any = self.client.xpending(stream, group["name"])
                oldest = min(oldest, pending["min"].decode(), key=order_of)
            needs[name] = oldest
        return needs

    @driver_errors()
    def trim(self, stream: str, below: str) -> int:
        """Remove a stream's entries before the id ``below``, about; return how many."""
        return self.client.xtrim(stream, minid=below, approximate=True)

    def replay(
        self, stream: str, after: str, until: str, *, count: int = 2000
    ) -> Iterator[list[Entry]]:
        """Yield the entries of a stream behind the id ``after``, up to and with ``until``."""
        # The client's own xrange() makes a dictionary of each entry, which costs more than the
        # read.
        connection = RawConnection(self.client)
        first = f"({after}"
        try:
            while True:
                connection.send("XRANGE", stream, first, until, "COUNT", count)
                entries: list[Entry] = connection.read()
                if entries:
                    yield entries
                if len(entries) < count:
                    return
                first = f"({entries[-1][0].decode()}"
        finally:
            connection.give_back()


class LiveReader:
    """Live entries of several streams, over a connection that it keeps until ``close``."""

    def __init__(self, streams: Streams, positions: dict[str, str]) -> None:
        self._positions = {stream.encode(): last.encode() for stream, last in positions.items()}
        self._most = streams.count
        self._count = min(FIRST_READ, streams.count)
        self._block = () if streams.block_ms is None else ("BLOCK", streams.block_ms)
        self._connection = RawConnection(streams.client)
        self._taken: dict[str, list[Entry]] | None = None
        self._asked = self._full = self._many = False
        self._ask()

    def read(self) -> dict[str, list[Entry]]:
        """Return what has arrived in each stream.

        Where it is as much as one answer holds, the next is sent for at once, so that the server
        prepares it meanwhile. Where it is little, only when it is wanted: an answer made earlier
        would hold next to nothing, and what comes after it would wait for two more batches.

        Raises:
            LostServerError: the connection broke; make a new reader from the stored offsets.
        """
        taken, self._taken = self._taken, None
        if taken is None:
            self._ask()
            taken = self._take()
        return taken

    def look_ahead(self) -> None:
        """See to the next ``read`` before the server is sent other work; wait for nothing.

        Where many readings come, ask for them. An answer that has come is taken off the socket: a
        large one does not fit its buffer, and the rest would stay with the server until that has
        worked off whatever else it is sent, such as a commit.
        """
        if self._many:
            self._ask()
        if self._full and self._taken is None and self._connection.has_reply():
            self._taken = self._take()

    @property
    def caught_up(self) -> bool:
        """Whether the last answer held so little that there is time before the next."""
        return not self._many and self._taken is None

    def close(self) -> None:
        """Give the connection up; an answer on its way is dropped and will be read again."""
        self._connection.close()

    def _take(self) -> dict[str, list[Entry]]:
        answer = self._connection.read() or []
        self._asked = False
        self._full = any(len(entries) == self._count for _, entries in answer)
        self._many = self._full or any(len(entries) >= MANY_AT_ONCE for _, entries in answer)
        weights = [1.0]
        for stream, entries in answer:
            self._positions[stream] = entries[-1][0]
            some = entries[:: max(1, len(entries) // WEIGHED)]
            weights.append(sum(sum(map(len, fields)) for _, fields in some) / len(some))
        # The next ones are likely to be as large, and any stream may fill its part.
        if answer:
            self._count = max(1, min(self._most, int(LARGEST_READ / max(weights))))
        if self._full:
            self._ask()
        return {stream.decode(): entries for stream, entries in answer}

    def _ask(self) -> None:
        """Send for the next answer, unless that is done."""
        if self._asked:
            return
        self._asked = True
        streams = list(self._positions)
        lasts = list(self._positions.values())
        head = ("XREAD", "COUNT", self._count, *self._block, "STREAMS")
        self._connection.send(*head, *streams, *lasts)
