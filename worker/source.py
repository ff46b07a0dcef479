"""Reads input streams: live, with the next read under way, and replay between two ids.

Delivery: every entry after the given position once, in stream order, as long as the object lives.
Positions are entry ids as text and mean "last consumed". Nothing is acknowledged here; the position
is stored by the commit.
"""

from collections.abc import Iterator
from typing import Any, cast

import redis

from worker.decode import Entry

START = "0-0"


class StreamSource:
    """Live entries of several streams on a connection of its own.

    Args:
        client: where to read; one connection is taken from its pool until ``close``.
        positions: stream name -> the last entry consumed.
        count: entries per stream and read, at most.
        block_ms: how long a read waits for news; None: not at all, so that ``read`` returns nothing
            once all is read.
    """

    def __init__(
        self, client: redis.Redis, positions: dict[str, str], *, count: int, block_ms: int | None
    ) -> None:
        self._pool = client.connection_pool
        self._positions = {stream.encode(): last.encode() for stream, last in positions.items()}
        self._head: list[Any] = ["XREAD", "COUNT", count]
        if block_ms is not None:
            self._head += ["BLOCK", block_ms]
        self._connection: Any = self._pool.get_connection()
        self._taken: dict[str, list[Entry]] | None = None
        self._ask()

    def read(self) -> dict[str, list[Entry]]:
        """Return what has arrived in each stream and send for the next at once.

        Raises:
            redis.RedisError: the connection broke; make a new source from the stored offsets.
        """
        taken, self._taken = self._taken, None
        return self._take() if taken is None else taken

    def take_ahead(self) -> None:
        """Take an answer that waits off the socket, for the next ``read``; do not wait for one.

        A large answer does not fit the socket's buffer. Its rest would stay with the server until
        that has worked off whatever else it is sent, such as a commit.
        """
        if self._taken is None and self._connection.can_read(0):
            self._taken = self._take()

    def _take(self) -> dict[str, list[Entry]]:
        answer = self._connection.read_response(disable_decoding=True) or []
        for stream, entries in answer:
            self._positions[stream] = entries[-1][0]
        self._ask()
        return {stream.decode(): entries for stream, entries in answer}

    def close(self) -> None:
        """Give the connection up; an answer on its way is dropped and will be read again."""
        self._connection.disconnect()
        self._pool.release(self._connection)

    def _ask(self) -> None:
        streams = list(self._positions)
        lasts = list(self._positions.values())
        self._connection.send_command(*self._head, "STREAMS", *streams, *lasts)


def replay(
    client: redis.Redis, stream: str, until: str, *, count: int = 2000
) -> Iterator[list[Entry]]:
    """Yield the entries of a stream from its beginning up to and with the id ``until``."""
    # The client's own xrange() makes a dictionary of each entry, which costs more than the read.
    connection: Any = client.connection_pool.get_connection()
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
        client.connection_pool.release(connection)


def last_id(client: redis.Redis, stream: str) -> str:
    """Return the id of a stream's newest entry, ``0-0`` where there is none."""
    newest = cast("list[tuple[bytes, Any]]", client.xrevrange(stream, count=1))
    return newest[0][0].decode() if newest else START
