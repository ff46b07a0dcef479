"""The one atomic write: forecasts, rejects and the offset they bring a stream to.

Delivery: with the server's primary alive, each forecast and each reject is on its stream exactly
once, because the script stores the new offset with them, and only if the writer holds the stream's
lease and the stored offset is the one the batch started from. The pub/sub copy is live and at most
once. The fleet's consumer group follows the offset, for the server's own tools.
"""

from collections import deque
from collections.abc import Sequence
from importlib.resources import files
from itertools import chain
from typing import cast

import redis

from tidecast.worker.errors import LeaseError, PositionError, WrongKeyError
from tidecast.worker.pipeline.wire import Position, Reject
from tidecast.worker.store.connection import RawConnection, packed
from tidecast.worker.store.driver import driver_errors, text_of
from tidecast.worker.store.fleets import Fleets
from tidecast.worker.store.keys import (
    channel_of,
    dead_key,
    forecasts_key,
    group_of,
    lease_key,
    offset_key,
)
from tidecast.worker.store.position import is_entry_id, position_of, stored
from tidecast.worker.store.server import forget

SCRIPT = files("tidecast.worker.store").joinpath("commit.lua").read_text()
UNDER_WAY = 2
"""Commits on their way at once: the server has the next one when it is done with one."""


class Committer:
    """Sends commits of any number of streams over one connection, ``UNDER_WAY`` at a time.

    A commit may be sent before it is known how the one before went: if that one was not written,
    the offset is not where this one expects it, so this one is not written either. Commits of
    other streams stand.

    Args:
        client: one connection is taken from its pool until ``close``.
        fleet: independent fleets keep offsets of their own.
        token: what the leases of this worker hold.
        longest_forecasts: about how many forecasts a stream keeps, 0 for all.
        longest_dead: about how many rejects a stream keeps, 0 for all.
        script: what the server runs.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses.
    """

    @driver_errors()
    def __init__(
        self,
        client: redis.Redis,
        fleet: str,
        token: str,
        *,
        longest_forecasts: int,
        longest_dead: int,
        script: str = SCRIPT,
    ) -> None:
        forget(client)
        self._client = client
        self._fleets = Fleets(client)
        self._fleet = fleet
        self._token = token
        self._limits = (longest_forecasts, longest_dead)
        self._sha = client.script_load(script)
        self._connection = RawConnection(client)
        self._under_way: deque[tuple[str, str]] = deque()

    @property
    def under_way(self) -> int:
        """How many of the newest commits are not known to be written yet."""
        return len(self._under_way)

    @driver_errors()
    def position(self, stream: str) -> Position | None:
        """Return where the fleet stands in a stream, None before it has begun.

        Raises:
            WrongKeyError: what lies at the offset's key is no entry id.
        """
        key = offset_key(stream, self._fleet)
        value = cast("bytes | None", self._client.get(key))
        if value is None:
            return None
        position = position_of(value)
        if not is_entry_id(position.offset):
            raise WrongKeyError(
                f"what lies at {key} is no entry id: {position.offset!r}; set it to the last entry "
                "consumed, or delete it to begin where --from says"
            )
        return position

    @driver_errors()
    def begin(self, stream: str, position: Position) -> None:
        """Store where a fleet starts in a stream; a position that stands already is kept."""
        self._fleets.sign(stream, self._fleet, begins=True)  # before it needs anything of it
        if self._client.set(offset_key(stream, self._fleet), stored(position), nx=True):
            with_group = ("CREATE", stream, group_of(self._fleet), position.offset, "MKSTREAM")
            try:
                self._client.execute_command(  # type: ignore[no-untyped-call]
                    "XGROUP", *with_group, "ENTRIESREAD", position.entries or 0
                )
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def resume(self, stream: str) -> None:
        """Go on where the fleet stands in a stream: it is on the list there, and has its group."""
        self._fleets.sign(stream, self._fleet)
        self._fleets.show(stream, self._fleet)

    def recount(self, stream: str, position: Position) -> None:
        """Store another count of entries with the offset that stands; return when it is written.

        Raises what ``settle`` raises.
        """
        self.send(stream, position.offset, position, (), (), ())
        self.settle()

    def send(
        self,
        stream: str,
        expected: str,
        new: Position,
        series: Sequence[bytes],
        records: Sequence[bytes],
        rejects: Sequence[Reject],
    ) -> None:
        """Send a commit; ``settle`` says how it went.

        Where ``UNDER_WAY`` are on their way already, wait for the oldest and say how it went.

        Args:
            stream: the input stream.
            expected: the offset the batch started from.
            new: where the batch brings it.
            series: the series of each forecast.
            records: the JSON of each forecast.
            rejects: what was not forecast, and why.
        """
        self._settle(but=UNDER_WAY - 1)
        head = (
            "EVALSHA",
            self._sha,
            5,
            offset_key(stream, self._fleet),
            forecasts_key(stream, self._fleet),
            dead_key(stream, self._fleet),
            lease_key(stream, self._fleet),
            stream,
            self._token,
            expected,
            new.offset,
            group_of(self._fleet),
            new.entries or 0,
            *self._limits,
            self._fleet,
            channel_of(self._fleet),
            len(series),
        )
        rejected = chain.from_iterable((r.reason.encode(), r.entry, r.payload) for r in rejects)
        words = [str(word).encode() for word in head]
        words += chain.from_iterable(zip(series, records, strict=True))
        words += rejected
        self._connection.send_packed(packed(words))
        self._under_way.append((stream, expected))

    def settle(self, *, but: int = 0) -> None:
        """Wait until no more than ``but`` commits are under way; the oldest ends first.

        An error is about the oldest and ends the wait; those behind it can still be waited for.

        Raises:
            PositionError: another writer moved the offset; nothing was written.
            LeaseError: the stream is no longer this worker's; nothing was written.
            LostServerError: the outcome is unknown; the stored offset tells.
        """
        self._settle(but=but)

    def close(self) -> None:
        """Give the connection up."""
        self._connection.close()

    def _settle(self, *, but: int) -> None:
        """Wait until so many commits are under way."""
        while len(self._under_way) > but:
            stream, expected = self._under_way.popleft()
            answer, _, instead = text_of(self._connection.read()).partition(" ")
            if answer == "lost":
                raise LeaseError(
                    f"{stream}: its lease is held by {instead}, no longer by this worker"
                )
            if answer == "at":
                raise PositionError(
                    f"{stream}: the stored offset is {instead!r}, this worker stood at "
                    f"{expected!r}: somebody moved the offset of fleet {self._fleet!r}"
                )
