"""Reads input streams: live, with the next read under way, and replay between two ids.

Delivery: every entry after the given position once, in stream order, as long as the object lives.
Positions are entry ids as text and mean "last consumed". Nothing is acknowledged here; the position
is stored by the commit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import redis

from tidecast.worker.pipeline.wire import Entry, Position
from tidecast.worker.store.connection import RawConnection
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.position import START, StreamFacts, order_of

MANY = 1000
MANY_AT_ONCE = 100
LARGEST_READ = 500_000
"""Bytes of one live read and stream, about: more would lie around until they are worked off."""
FIRST_READ = 16
"""Entries of a reader's first read, while it is not known how large they are."""
WEIGHED = 50
"""Entries of an answer that are weighed, evenly spread."""


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

    def facts(self, stream: str, behind: Position | None = None) -> StreamFacts:
        """Return what the server knows of a stream; of one that is not there, that it is empty.

        What lies behind a position is counted where ``removed_unread`` hangs on it and it is little
        enough. While readings pour in faster than they are read, that may take until the reader
        has caught up.
        """
        facts = self._known(stream)
        if behind is None or behind.entries is None or facts.added - behind.entries > MANY:
            return facts
        if facts.removed_unread(behind) is None:
            some = next(self.replay(stream, behind.offset, facts.last, count=MANY + 1), [])
            if len(some) <= MANY and self._known(stream).removed == facts.removed:
                return replace(facts, behind=len(some))
        return facts

    def beginning(self, stream: str, *, at_end: bool) -> Position:
        """Return the position before all that a stream holds, or behind all of it."""
        facts = self.facts(stream)
        return Position(facts.last, facts.added) if at_end else Position(START, facts.removed)

    def entries_at(self, stream: str, position: Position) -> int:
        """Return how many entries were added up to a position.

        Where it does not say, because somebody set it by hand: as if none behind it were removed
        unread. All that lies behind it is read for that.
        """
        if position.entries is not None:
            return position.entries
        facts = self.facts(stream)
        return facts.added - sum(map(len, self.replay(stream, position.offset, facts.last)))

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

    @driver_errors()
    def _known(self, stream: str) -> StreamFacts:
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


class Next(Enum):
    """How the next answer of a live reader stands.

    ::

                 +---------------------- read: ask -------------------+
                 v                                                    |
      start -> ASKED -- the answer holds -+-- little ------------> RESTING
                 ^                        |
                 |                        +-- many --------------> DUE
                 |                        |                         |
                 +------ read, or before other work: ask -----------+
                                          |
              FLOWING -- the answer holds +
                 ^                        |
                 +-- its fill: ask -------+

    What is asked for early is prepared by the server meanwhile. Where little comes, an answer made
    early would hold next to nothing, and what comes after it would wait for two more batches.
    """

    RESTING = auto()
    """Not asked for; there is time before it."""
    DUE = auto()
    """Not asked for yet, and likely to hold many."""
    ASKED = auto()
    """On its way; who reads waits for it."""
    FLOWING = auto()
    """On its way, and large: taken off the socket once it is there.

    It does not fit the socket's buffer, and the rest would stay with the server until that has
    worked off whatever else it is sent, such as a commit.
    """

    @property
    def at_read(self) -> "Next":
        """What it becomes when it is to be read."""
        return Next.ASKED if self is Next.RESTING or self is Next.DUE else self

    @property
    def at_other_work(self) -> "Next":
        """What it becomes before the server is sent other work."""
        return Next.ASKED if self is Next.DUE else self

    @staticmethod
    def after(most: int, count: int) -> "Next":
        """Return how it stands after an answer.

        Args:
            most: how many entries the answer held of the stream that it held most of.
            count: how many it may have held.
        """
        if most == count:
            return Next.FLOWING
        return Next.DUE if most >= MANY_AT_ONCE else Next.RESTING


class LiveReader:
    """Live entries of several streams, over a connection that it keeps until ``close``.

    ``Next`` draws when it asks for answers and takes them. One that it took before it is read is
    held until then, however the one after it stands.
    """

    def __init__(self, streams: Streams, positions: dict[str, str]) -> None:
        self._positions = {stream.encode(): last.encode() for stream, last in positions.items()}
        self._most = streams.count
        self._count = min(FIRST_READ, streams.count)
        self._block = () if streams.block_ms is None else ("BLOCK", streams.block_ms)
        self._connection = RawConnection(streams.client)
        self._held: dict[str, list[Entry]] | None = None
        self._next = Next.ASKED
        self._ask()

    def read(self) -> dict[str, list[Entry]]:
        """Return what has arrived in each stream; wait where nothing has.

        Raises:
            LostServerError: the connection broke; make a new reader from the stored offsets.
        """
        held, self._held = self._held, None
        if held is None:
            self._move(self._next.at_read)
            held = self._take()
        return held

    def look_ahead(self) -> None:
        """See to the next ``read`` before the server is sent other work; wait for nothing."""
        self._move(self._next.at_other_work)
        if self._next is Next.FLOWING and self._held is None and self._connection.has_reply():
            self._held = self._take()

    @property
    def caught_up(self) -> bool:
        """Whether the last answer held so little that there is time before the next."""
        return self._next is Next.RESTING and self._held is None

    def close(self) -> None:
        """Give the connection up; an answer on its way is dropped and will be read again."""
        self._connection.close()

    def _take(self) -> dict[str, list[Entry]]:
        answer = self._connection.read() or []
        most, weights = 0, [1.0]
        for stream, entries in answer:
            self._positions[stream] = entries[-1][0]
            most = max(most, len(entries))
            some = entries[:: max(1, len(entries) // WEIGHED)]
            weights.append(sum(sum(map(len, fields)) for _, fields in some) / len(some))
        self._next = Next.after(most, self._count)
        # The next ones are likely to be as large, and any stream may fill its part.
        if answer:
            self._count = max(1, min(self._most, int(LARGEST_READ / max(weights))))
        if self._next is Next.FLOWING:
            self._ask()
        return {stream.decode(): entries for stream, entries in answer}

    def _move(self, to: Next) -> None:
        """Send for the next answer, where that is the way to ``to``."""
        if to is not self._next:
            self._next = to
            self._ask()

    def _ask(self) -> None:
        streams = list(self._positions)
        lasts = list(self._positions.values())
        head = ("XREAD", "COUNT", self._count, *self._block, "STREAMS")
        self._connection.send(*head, *streams, *lasts)
