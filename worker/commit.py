"""The one atomic write: forecasts, rejects and the offset they bring a stream to.

Delivery: with the server's primary alive, each forecast and each reject is on its stream exactly
once, because the script stores the new offset with them and only if the stored offset is the one
the batch started from. The pub/sub copy is live and at most once.
"""

from collections.abc import Sequence
from importlib.resources import files
from itertools import chain
from typing import Any, cast

import redis

from worker.errors import PositionError
from worker.server import driver_errors
from worker.wire import Reject

SCRIPT = files("worker").joinpath("commit.lua").read_text()


class Committer:
    """Sends commits of any number of streams over one connection, one on its way at a time.

    Args:
        client: one connection is taken from its pool until ``close``.
        fleet: independent fleets keep offsets of their own.
        longest_forecasts: about how many forecasts a stream keeps, 0 for all.
        longest_dead: about how many rejects a stream keeps, 0 for all.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses.
    """

    @driver_errors()
    def __init__(
        self, client: redis.Redis, fleet: str, *, longest_forecasts: int, longest_dead: int
    ) -> None:
        self._client = client
        self._fleet = fleet
        self._limits = (longest_forecasts, longest_dead)
        self._sha = client.script_load(SCRIPT)
        self._pool = client.connection_pool
        self._connection: Any = self._pool.get_connection()
        self._under_way: tuple[str, str] | None = None

    @driver_errors()
    def offset(self, stream: str) -> str | None:
        """Return the id of the last entry whose outcome is committed, None before the first."""
        stored = cast("bytes | None", self._client.get(self._offset_key(stream)))
        return stored.decode() if stored is not None else None

    @driver_errors()
    def begin(self, stream: str, position: str) -> str:
        """Store where a stream starts unless an offset stands; return the one that stands."""
        self._client.set(self._offset_key(stream), position, nx=True)
        return self.offset(stream) or position

    @driver_errors()
    def send(
        self,
        stream: str,
        expected: str,
        new: str,
        series: Sequence[bytes],
        records: Sequence[bytes],
        rejects: Sequence[Reject],
    ) -> None:
        """Send a commit; ``settle`` says how it went. At most one may be under way.

        Args:
            stream: the input stream.
            expected: the offset the batch started from.
            new: the batch's last entry.
            series: the series of each forecast.
            records: the JSON of each forecast.
            rejects: what was not forecast, and why.
        """
        self.settle()
        self._connection.send_command(
            "EVALSHA",
            self._sha,
            3,
            self._offset_key(stream),
            f"{stream}:forecasts",
            f"{stream}:dead",
            expected,
            new,
            *self._limits,
            len(series),
            *chain.from_iterable(zip(series, records, strict=True)),
            *chain.from_iterable((r.reason, r.entry, r.payload) for r in rejects),
        )
        self._under_way = (stream, expected)

    @driver_errors()
    def settle(self) -> None:
        """Wait for the commit under way, if there is one.

        Raises:
            PositionError: another writer moved the offset; nothing was written.
            LostServerError: the outcome is unknown; the stored offset tells.
        """
        if self._under_way is None:
            return
        stream, expected = self._under_way
        self._under_way = None
        answer = self._connection.read_response().decode()
        if answer not in ("ok", "done"):
            raise PositionError(
                f"{stream}: the stored offset is {answer.removeprefix('at ')!r}, this worker stood "
                f"at {expected!r}: another worker of fleet {self._fleet!r} follows the stream"
            )

    def close(self) -> None:
        """Give the connection up."""
        self._connection.disconnect()
        self._pool.release(self._connection)

    def _offset_key(self, stream: str) -> str:
        return f"{stream}:offset:{self._fleet}"
