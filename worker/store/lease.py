"""Who owns which partition, and whether it is fit to be owned: leases and the members of a fleet.

Guarantee: by the server's clock at most one member holds a partition's lease. A member that sleeps
through its lease does not know that it is gone; the commit and the checkpoint check it on the
server. Members are told apart by their token, which a process keeps for its life.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, cast

import orjson
import redis
from redis.exceptions import LockError, NoPermissionError
from redis.lock import Lock

from tidecast.worker.errors import ServerError, WrongKeyError
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.keys import (
    checkpoint_key,
    dead_key,
    forecasts_key,
    lease_key,
    members_key,
    offset_key,
)

HEARTBEAT = files("tidecast.worker.store").joinpath("heartbeat.lua").read_text()


class Leases:
    """One member's leases, and its view of the others.

    Args:
        client: the server.
        fleet: whose partitions these are.
        token: this member's name, unlike any other's.
        inputs: the partitions that it follows.
        seconds: how long a lease stands without being renewed.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses.
    """

    def __init__(
        self,
        client: redis.Redis,
        fleet: str,
        token: str,
        inputs: Sequence[str],
        *,
        seconds: float,
    ) -> None:
        self.token = token
        self._client = client
        self._fleet = fleet
        self._inputs = tuple(inputs)
        self._life = round(seconds * 1000)
        self._self = b""
        self._heartbeat = client.register_script(HEARTBEAT)
        self._locks = {
            stream: Lock(client, lease_key(stream, fleet), timeout=seconds, thread_local=False)
            for stream in inputs
        }

    @driver_errors()
    def members(self, but: Collection[str] = ()) -> dict[str, list[str]]:
        """Say that this member lives; return the partitions that each living member follows.

        Args:
            but: partitions that this member does not follow for now, so that they are others'.
        """
        before = self._self
        follows = [stream for stream in self._inputs if stream not in but]
        self._self = orjson.dumps({"token": self.token, "inputs": follows})
        alive = cast(
            "list[bytes]",
            self._heartbeat(keys=[members_key(self._fleet)], args=[self._self, self._life, before]),
        )
        return members_of(alive)

    @driver_errors()
    def owners(self) -> dict[str, str | None]:
        """Return who holds the lease of each partition, None where that is nobody or no lease."""
        return owners_of(self._client, self._fleet, self._inputs)

    @driver_errors()
    def check(self, stream: str) -> None:
        """See that what lies at a partition's keys is what belongs there.

        Raises:
            WrongKeyError: it is not.
            ServerError: this worker's user may not know.
        """
        # Each by a command that the worker needs anyway: its user may do no other.
        probes = [
            (stream, "stream", "XINFO STREAM"),
            (forecasts_key(stream), "stream", "TYPE"),
            (dead_key(stream), "stream", "TYPE"),
            (offset_key(stream, self._fleet), "string", "GET"),
            (lease_key(stream, self._fleet), "string", "GET"),
            (checkpoint_key(stream, self._fleet), "hash", "HGET"),
        ]
        pipeline = self._client.pipeline(transaction=False)
        for key, _, command in probes:
            words = (command, key, "saved_at") if command == "HGET" else (command, key)
            pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        for (key, kind, command), answer in zip(probes, answers, strict=True):
            if isinstance(answer, NoPermissionError):
                raise ServerError(
                    f"the server refuses {key} to this worker's user ({answer}); give it that right"
                )
            if _is_of_wrong_type(answer) or (
                command == "TYPE" and answer.decode() not in ("none", kind)
            ):
                raise WrongKeyError(
                    f"what lies at {key} is no {kind}; TYPE {key} tells what it is: rename or "
                    "delete it"
                )
            if isinstance(answer, Exception) and "no such key" not in str(answer):
                raise answer

    @driver_errors()
    def acquire(self, stream: str) -> bool:
        """Take a partition's lease if nobody holds it, or keep it; tell whether it is held."""
        lock = self._locks[stream]
        if lock.acquire(blocking=False, token=self.token):
            return True
        # The reply to an earlier attempt may have been lost.
        lock.local.token = self.token.encode()
        return self.renew(stream)

    @driver_errors()
    def renew(self, stream: str) -> bool:
        """Let a lease run for its full time again; tell whether it was still held."""
        try:
            return self._locks[stream].reacquire()
        except LockError:
            return False

    @driver_errors()
    def release(self, stream: str) -> None:
        """Give a lease up, if it is held."""
        with suppress(LockError):
            self._locks[stream].release()

    @driver_errors()
    def leave(self) -> None:
        """Be no member any more."""
        self._client.zrem(members_key(self._fleet), self._self)


def members_of(alive: Sequence[bytes]) -> dict[str, list[str]]:
    """Return the partitions of each member as written by ``Leases``."""
    members: list[dict[str, Any]] = [orjson.loads(member) for member in alive]
    return {member["token"]: member["inputs"] for member in members}


def owners_of(client: redis.Redis, fleet: str, streams: Sequence[str]) -> dict[str, str | None]:
    """Return who holds the lease of each stream; None: nobody, or no lease lies there."""
    pipeline = client.pipeline(transaction=False)
    for stream in streams:
        pipeline.get(lease_key(stream, fleet))
    owners: dict[str, str | None] = {}
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    for stream, answer in zip(streams, answers, strict=True):
        if _is_of_wrong_type(answer) or isinstance(answer, NoPermissionError):
            owners[stream] = None  # whoever tries to take it will see
        elif isinstance(answer, Exception):
            raise answer
        else:
            owners[stream] = answer.decode() if answer is not None else None
    return owners


def _is_of_wrong_type(answer: object) -> bool:
    return isinstance(answer, redis.ResponseError) and str(answer).startswith("WRONGTYPE")
