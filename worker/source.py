"""Reads input streams: live, with the next read under way, and replay between two ids.

Delivery: every entry after the given position once, in stream order, as long as the object lives.
Positions are entry ids as text and mean "last consumed". Nothing is acknowledged here; the position
is stored by the commit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import redis

from worker.server import driver_errors
from worker.wire import Entry

START = "0-0"


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The input streams of one server.

    Args:
        client: where to read.
        count: entries per stream and read, at most.
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
    def last_id(self, stream: str) -> str:
        """Return the id of a stream's newest entry, ``0-0`` where there is none."""
        newest = cast("list[tuple[bytes, Any]]", self.client.xrevrange(stream, count=1))
        return newest[0][0].decode() if newest else START

    def replay(self, stream: str, until: str, *, count: int = 2000) -> Iterator[list[Entry]]:
        """Yield the entries of a stream from its beginning up to and with the id ``until``."""
        # The client's own xrange() makes a dictionary of each entry, which costs more than the
        # read.
        with driver_errors():
            connection: Any = self.client.connection_pool.get_connection()
            first = "-"
            try:
                while True:
                    connection.send_command("XRANGE", stream, first, until, "COUNT", count)
                    entries: list[Entry] = connection.read_response(disable_decoding=True)
                    if entries:
                        yield entries
                    if len(entries) < count:
                        return
                    first = f"({entries[-1][0].decode()}"
            finally:
                self.client.connection_pool.release(connection)


class LiveReader:
    """Live entries of several streams, over a connection that it keeps until ``close``."""

    @driver_errors()
    def __init__(self, streams: Streams, positions: dict[str, str]) -> None:
        self._positions = {stream.encode(): last.encode() for stream, last in positions.items()}
        self._head: list[Any] = ["XREAD", "COUNT", streams.count]
        if streams.block_ms is not None:
            self._head += ["BLOCK", streams.block_ms]
        self._pool = streams.client.connection_pool
        self._connection: Any = self._pool.get_connection()
        self._taken: dict[str, list[Entry]] | None = None
        self._ask()

    @driver_errors()
    def read(self) -> dict[str, list[Entry]]:
        """Return what has arrived in each stream and send for the next at once.

        Raises:
            LostServerError: the connection broke; make a new reader from the stored offsets.
        """
        taken, self._taken = self._taken, None
        return self._take() if taken is None else taken

    @driver_errors()
    def take_ahead(self) -> None:
        """Take an answer that waits off the socket, for the next ``read``; do not wait for one.

        A large answer does not fit the socket's buffer. Its rest would stay with the server until
        that has worked off whatever else it is sent, such as a commit.
        """
        if self._taken is None and self._connection.can_read(0):
            self._taken = self._take()

    def close(self) -> None:
        """Give the connection up; an answer on its way is dropped and will be read again."""
        self._connection.disconnect()
        self._pool.release(self._connection)

    def _take(self) -> dict[str, list[Entry]]:
        answer = self._connection.read_response(disable_decoding=True) or []
        for stream, entries in answer:
            self._positions[stream] = entries[-1][0]
        self._ask()
        return {stream.decode(): entries for stream, entries in answer}

    def _ask(self) -> None:
        streams = list(self._positions)
        lasts = list(self._positions.values())
        self._connection.send_command(*self._head, "STREAMS", *streams, *lasts)
