"""Reads input streams: live, with the next read under way, and replay between two ids.

Delivery: every entry after the given position once, in stream order, as long as the object lives.
Positions are entry ids as text and mean "last consumed". Nothing is acknowledged here; the position
is stored by the commit.
"""

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from importlib.resources import files
from typing import Any

import redis

from tidecast.worker.errors import ServerError
from tidecast.worker.pipeline.wire import Entry, Position, Pulse
from tidecast.worker.store.batch import run_for_each
from tidecast.worker.store.connection import RawConnection, TooLargeError
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.position import LAST_ID, START, StreamFacts, order_of

MANY = 1000
MANY_AT_ONCE = 100
MOST_REPLAYED = 2000
FACTS = files("tidecast.worker.store").joinpath("facts.lua").read_text()
TOO_LARGE = files("tidecast.worker.store").joinpath("too_large.lua").read_text()
LARGEST_READ = 500_000
"""Bytes of one read, about, of streams that are likely to have as many: what lies around before its
turn comes has left the processor's cache by then, and the server has made it at one go."""
LARGEST_ANSWER = 32_000_000
"""Bytes of one live read, about, if every stream that is asked has a great deal all at once."""
LARGEST_REPLY = 128_000_000
"""Bytes of one read, at most; a larger entry is not read at all. ``Budget`` may say less."""
FIRST_READ = 16
"""Entries of a reader's first read, of all streams, while it is not known how large they are."""
UNSEEN = 1.0
"""Bytes of an entry at least, and as long as none has been seen."""
WEIGHED = 12
"""Entries of an answer that are weighed, evenly spread."""
FORGOTTEN = 0.5
"""How much of the weight of large entries still counts with the next read: more may follow."""
WORTH_A_TURN = 1 / 64
"""The part of a read that a stream must have filled to be taken for one that has more: where few
entries are asked for, as others' are large, one that gave as many may have no more."""


class Weight:
    """How much to ask for, by the bytes of what came.

    Args:
        most: entries of one stream, however small.
        largest: bytes of a reply, at most.
    """

    def __init__(self, most: int, largest: int = LARGEST_REPLY) -> None:
        self._most = most
        self._answer = min(LARGEST_ANSWER, largest / 4)
        self._each: dict[bytes, float] = {}

    @property
    def known(self) -> bool:
        """Whether anything came."""
        return bool(self._each)

    def count(self, streams: Collection[bytes]) -> int:
        """Return how many entries to ask for of each of some streams, any of which may fill."""
        if not self._each:
            return max(1, min(self._most, FIRST_READ // len(streams)))
        room = min(LARGEST_READ, self._answer / len(streams))
        return max(1, min(self._most, int(room / self._largest(streams))))

    def full(self, streams: Iterable[bytes], count: int) -> Iterator[bytes]:
        """Yield of some streams, each of which is likely to have so many entries, a readful."""
        room, unseen = min(LARGEST_READ, self._answer), self._unseen
        for number, stream in enumerate(streams):
            room -= count * self._each.get(stream, unseen)
            if number and room < 0:
                return
            yield stream

    def weigh(self, stream: bytes, entries: Sequence[Entry]) -> float:
        """Note what came of a stream; the next ones are likely to be as large.

        Returns which part of a read that was, about.
        """
        before = FORGOTTEN * self._each.get(stream, UNSEEN)
        if not entries:
            if stream in self._each:
                self._each[stream] = max(before, UNSEEN)
            return 0.0
        some = entries[:: max(1, len(entries) // WEIGHED)]
        weight = sum(sum(map(len, fields)) for _, fields in some) / len(some)
        self._each[stream] = max(weight, before, UNSEEN)
        return weight * len(entries) / min(LARGEST_READ, self._answer)

    def expect_as(self, other: "Weight", streams: Collection[bytes]) -> None:
        """Expect entries of some streams that are as large as another has seen."""
        theirs = other._each  # noqa: SLF001 - its own kind
        self._each = {stream: theirs[stream] for stream in streams if stream in theirs}

    def shrink(self, streams: Collection[bytes], count: int) -> None:
        """Note that so many of each of some streams were far too much."""
        room = min(LARGEST_READ, self._answer / len(streams))
        self._each |= dict.fromkeys(streams, room / max(1, count // 8))

    @property
    def _unseen(self) -> float:
        """The bytes of an entry of a stream not seen yet: as of any."""
        return max(self._each.values(), default=UNSEEN)

    def _largest(self, streams: Iterable[bytes]) -> float:
        """Return the bytes of an entry of some streams."""
        unseen = self._unseen
        return max(self._each.get(stream, unseen) for stream in streams)


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The input streams of one server.

    Args:
        client: where to read.
        count: entries per stream and read, at most; fewer where they are large.
        block_ms: how long a live read waits for news; None: not at all, so that it returns nothing
            once all is read.
        largest: bytes of one read, at most. An entry that has more comes without its fields.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses.
    """

    client: redis.Redis
    count: int
    block_ms: int | None
    largest: int = LARGEST_REPLY

    def follow(
        self,
        positions: dict[str, str],
        like: "LiveReader | None" = None,
        pulse: Pulse = lambda: None,
    ) -> "LiveReader":
        """Read live what comes after the position (the last entry consumed) of each stream.

        ``like`` is a reader that has seen how large such entries are. ``pulse`` is called whenever
        an answer was too large and is asked for again.
        """
        return LiveReader(self, positions, like, pulse)

    def facts_of(self, streams: Sequence[str]) -> dict[str, StreamFacts | ServerError]:
        """Return what the server knows of each stream, or the error where it refuses that."""
        answers = run_for_each(self.client, FACTS, [(stream, ()) for stream in streams])
        return {
            stream: answer if isinstance(answer, ServerError) else _facts(answer)
            for stream, answer in zip(streams, answers, strict=True)
        }

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
            some = 0
            for entries in self.replay(stream, behind.offset, facts.last):
                some += len(entries)
                if some > MANY:
                    return facts
            if self._known(stream).removed == facts.removed:
                return replace(facts, behind=some)
        return facts

    def beginning(self, stream: str, *, at_end: bool) -> Position:
        """Return the position before all that a stream holds, or behind all of it."""
        facts = self.facts(stream)
        return Position(facts.last, facts.added) if at_end else Position(START, facts.removed)

    def entries_at(self, stream: str, position: Position) -> Generator[None, None, int]:
        """Return how many entries were added up to a position; yields after each part of the work.

        Where it does not say, because somebody set it by hand: as if none behind it were removed
        unread. All that lies behind it is read for that, which may be millions.
        """
        if position.entries is not None:
            return position.entries
        facts, behind = self.facts(stream), 0
        for some in self.replay(stream, position.offset, facts.last):
            behind += len(some)
            yield
        return facts.added - behind

    @driver_errors()
    def groups(self, stream: str) -> dict[bytes, str]:
        """Return each consumer group of a stream with the oldest entry that it may still need.

        That is the entry before which everything is delivered and acknowledged.
        """
        if not self.client.exists(stream):
            return {}
        needs = {}
        answer: Any = self.client.xinfo_groups(stream)
        for group in answer:
            oldest = group["last-delivered-id"].decode()
            if group["pending"]:
                pending: Any = self.client.xpending(stream, group["name"])
                oldest = min(oldest, pending["min"].decode(), key=order_of)
            needs[group["name"]] = oldest
        return needs

    def newest(self, stream: str) -> list[Entry]:
        """Return a stream's newest ``count`` entries, in its order; fewer where they are large."""
        connection, asked = RawConnection(self.client), self.count
        try:
            while True:
                connection.send("XREVRANGE", stream, "+", "-", "COUNT", asked)
                try:
                    entries: list[Entry] = connection.read_within(self.largest)
                except TooLargeError:
                    if asked == 1:
                        raise ServerError(
                            f"{stream}: its newest entry has more than {self.largest} bytes, which "
                            "may not be read at once; a worker refuses it unread"
                        ) from None
                    asked = max(1, asked // 8)
                    continue
                return entries[::-1]
        finally:
            connection.give_back()

    @driver_errors()
    def trim(self, stream: str, below: str) -> int:
        """Remove a stream's entries before the id ``below``, about; return how many."""
        return self.client.xtrim(stream, minid=below, approximate=True)

    def replay(
        self, stream: str, after: str, until: str, *, count: int = MOST_REPLAYED
    ) -> Iterator[list[Entry]]:
        """Yield the entries of a stream behind the id ``after``, up to and with ``until``.

        Of about ``LARGEST_READ`` bytes at a time, and ``count`` entries at most.
        """
        # The client's own xrange() makes a dictionary of each entry, which costs more than the
        # read.
        connection = RawConnection(self.client)
        weight, key = Weight(count, self.largest), stream.encode()
        try:
            while order_of(after) < LAST_ID:  # behind which nothing can be asked for
                asked = weight.count([key])
                connection.send("XRANGE", stream, f"({after}", until, "COUNT", asked)
                try:
                    entries: list[Entry] = connection.read_within(self.largest)
                except TooLargeError:
                    if asked > 1:
                        weight.shrink([key], asked)
                        continue
                    entries = self.without_fields(stream, after, until)
                    if not entries:
                        continue
                if entries:
                    yield entries
                if len(entries) < asked:
                    return
                weight.weigh(key, entries)
                after = entries[-1][0].decode()
        finally:
            connection.give_back()

    @driver_errors()
    def without_fields(self, stream: str, after: str, until: str = "+") -> list[Entry]:
        """Return the entry behind the id ``after`` without its fields, if it is too large to read.

        Return none where it is not; what was too large has been removed since.
        """
        words = (after, until, self.largest)
        found: Any = self.client.register_script(TOO_LARGE)(keys=[stream], args=words)
        return [] if found is None else [(found, [])]

    @driver_errors()
    def _known(self, stream: str) -> StreamFacts:
        return _facts(self.client.register_script(FACTS)(keys=[stream]))


def _facts(answer: Any) -> StreamFacts:
    if not answer:
        return StreamFacts(0, 0, None, START)
    added, length, first, last = answer
    return StreamFacts(added, length, first and first.decode(), last.decode())


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
    def after(most: int, *, more: bool) -> "Next":
        """Return how it stands after an answer.

        Args:
            most: how many entries the answer held of the stream that it held most of.
            more: whether some stream is likely to have as many as are asked for.
        """
        if more:
            return Next.FLOWING
        return Next.DUE if most >= MANY_AT_ONCE else Next.RESTING


class LiveReader:
    """Live entries of several streams, over a connection that it keeps until ``close``.

    ``Next`` draws when it asks for answers and takes them. One that it took before it is read is
    held until then, however the one after it stands.

    A stream that had as many entries as were asked for is likely to have more: it is ``_behind``.
    All others are asked every time, and of those a few, in turn, so that an answer is worked off
    while it is at hand, and nobody's news wait for the others' backlog.

    An answer that turns out larger than ``Streams.largest`` is broken off and asked for again:
    with fewer entries of each stream, then of fewer streams. ``_suspects`` have together what was
    too large, and are halved until it is found.
    """

    def __init__(
        self,
        streams: Streams,
        positions: dict[str, str],
        like: "LiveReader | None" = None,
        pulse: Pulse = lambda: None,
    ) -> None:
        self._pulse = pulse
        self._streams = streams
        self._positions = {stream.encode(): last.encode() for stream, last in positions.items()}
        self._weight = Weight(streams.count, streams.largest)
        self._behind = dict.fromkeys(self._positions)
        """In the order of their turns; of a new stream nothing else is known."""
        if like is not None:
            self._weight.expect_as(like._weight, self._positions)  # noqa: SLF001 - its own kind
            theirs = [s for s in like._behind if s in self._positions]  # noqa: SLF001
            new = [s for s in self._positions if s not in like._positions]  # noqa: SLF001
            self._behind = dict.fromkeys(theirs + new)
        self._asked: list[bytes] = []
        self._count = 0
        self._suspects: list[bytes] = []
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
        answer = self._received()
        heard = set(self._asked)
        while not answer and len(heard) < len(self._positions):
            # Whoever hears that nothing came is to know it of all streams.
            self._pulse()
            self._ask(but=heard)
            answer = self._received()
            heard.update(self._asked)
        most = max((len(entries) for _, entries in answer), default=0)
        self._next = Next.after(most, more=bool(self._behind or self._suspects))
        if self._next is Next.FLOWING:
            self._ask()
        return {stream.decode(): entries for stream, entries in answer}

    def _received(self) -> list[tuple[bytes, list[Entry]]]:
        """Return the answer, or a smaller one in its place; note what it says of the next."""
        while True:
            try:
                answer = self._connection.read_within(self._streams.largest) or []
                break
            except TooLargeError:
                self._connection.close()
                self._connection = RawConnection(self._streams.client)
                self._pulse()
                if self._count > 1:
                    self._weight.shrink(self._asked, self._count)
                elif len(self._asked) > 1:
                    self._suspects = self._asked
                else:
                    (stream,) = self._asked
                    last = self._positions[stream].decode()
                    entries = self._streams.without_fields(stream.decode(), last)
                    if entries:
                        answer = [(stream, entries)]
                        break
                self._ask(but=())
        self._note(answer)
        return answer

    def _note(self, answer: Sequence[tuple[bytes, list[Entry]]]) -> None:
        """Note where each stream stands now, who has more, and how large entries are."""
        came = dict(answer)
        for stream in self._asked:
            was_behind = stream in self._behind
            self._behind.pop(stream, None)
            entries = came.get(stream, ())
            share = self._weight.weigh(stream, entries)
            if entries:
                self._positions[stream] = entries[-1][0]
            if len(entries) == self._count and (was_behind or share >= WORTH_A_TURN):
                self._behind[stream] = None
        if self._suspects:
            asked = set(self._asked)
            self._suspects = [stream for stream in self._suspects if stream not in asked]

    def _move(self, to: Next) -> None:
        """Send for the next answer, where that is the way to ``to``."""
        if to is not self._next:
            self._next = to
            self._ask()

    def _ask(self, *, but: Collection[bytes] | None = None) -> None:
        """Send for the next answer; ``but``: of other streams than these, and it is not to wait."""
        self._asked, self._count = self._chosen(but or ())
        everybody = len(self._asked) == len(self._positions)
        block = self._block if but is None and everybody else ()
        lasts = [self._positions[stream] for stream in self._asked]
        head = ("XREAD", "COUNT", self._count, *block, "STREAMS")
        self._connection.send(*head, *self._asked, *lasts)

    def _chosen(self, but: Collection[bytes]) -> tuple[list[bytes], int]:
        """Return the streams to ask next, and for how many entries of each."""
        if self._suspects:
            return self._suspects[: max(1, len(self._suspects) // 2)], 1
        behind = [stream for stream in self._behind if stream not in but]
        others = [s for s in self._positions if s not in self._behind and s not in but]
        if but or not self._weight.known:  # next to nobody has anything, or nobody knows
            return [*others, *behind], self._weight.count([*others, *behind])
        count = self._weight.count([*others, *behind[:1]])
        return [*others, *self._weight.full(behind, count)], count
