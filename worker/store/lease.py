"""Who owns which partition, and whether it is fit to be owned: leases and the members of a fleet.

Guarantee: by the server's clock at most one member holds a partition's lease. A member that sleeps
through its lease does not know that it is gone; the commit and the checkpoint check it on the
server. Members are told apart by their token, which a process keeps for its life.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from importlib.resources import files
from typing import Any

import orjson
import redis
from redis.exceptions import LockError, NoPermissionError
from redis.lock import Lock

from tidecast.worker.errors import LostServerError, ServerError, WrongKeyError
from tidecast.worker.logs import LOGGER
from tidecast.worker.store.batch import answers_to, run_for_each
from tidecast.worker.store.driver import driver_errors, text_of
from tidecast.worker.store.keys import (
    checkpoint_key,
    dead_key,
    fleets_key,
    forecasts_key,
    lease_key,
    members_key,
    offset_key,
)
from tidecast.worker.store.position import is_used_up

SHORTEN = files("tidecast.worker.store").joinpath("shorten.lua").read_text()
NOTHING: dict[str, tuple[str | int, ...]] = {
    "HGET": ("saved_at",),
    "XRANGE": ("-", "+", "COUNT", 0),
}
"""What lets a command answer next to nothing, however large what it is about."""
HEARTBEAT = files("tidecast.worker.store").joinpath("heartbeat.lua").read_text()


class Standing(StrEnum):
    """How a lease stands that is no living member's."""

    USUAL = ""
    """It runs out as leases do."""
    CUT = "cut"
    """It would have outlasted any, and no longer does."""
    ENDLESS = "endless"
    """It never runs out, so it is nobody's of ours."""


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
        self._told = set[bytes]()
        self._heartbeat = client.register_script(HEARTBEAT)
        self._shorten = client.register_script(SHORTEN)
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
        key = members_key(self._fleet)
        try:
            alive: Any = self._heartbeat(keys=[key], args=[self._self, self._life, before])
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            raise LostServerError(
                f"what lies at {key} is no sorted set; TYPE {key} tells what it is: rename or "
                "delete it"
            ) from error
        return dict(self._understood(alive))

    def _understood(self, alive: Sequence[bytes]) -> Iterator[tuple[str, list[str]]]:
        """Yield the members among what lies there, and tell once of what is none."""
        for one in alive:
            try:
                yield member_of(one)
            except ValueError as error:
                if one not in self._told:
                    self._told.add(one)
                    LOGGER.warning("%s: %s; it is left out", members_key(self._fleet), error)

    @driver_errors()
    def owners(self, streams: Sequence[str] | None = None) -> dict[str, str | None]:
        """Return who holds the lease of each partition, None where that is nobody or no lease.

        Args:
            streams: which, of this member or of others; None: those of this member.
        """
        chosen = self._inputs if streams is None else streams
        return owners_of(self._client, self._fleet, chosen)

    @driver_errors()
    def shorten(self, stream: str) -> Standing:
        """Let a lease run out in time that would outlast any; tell whether that was so.

        The server's clock may have been set back since its owner died. One who lives renews it.
        """
        answer: Any = self._shorten(keys=[lease_key(stream, self._fleet)], args=[self._life])
        return Standing(text_of(answer))

    @driver_errors()
    def check(self, stream: str) -> None:
        """See that what lies at a partition's keys is what belongs there.

        Raises:
            WrongKeyError: it is not.
            ServerError: this worker's user may not know.
        """
        # Each by a command that the worker needs anyway: its user may do no other.
        probes = [
            (stream, "stream", "XRANGE"),
            (forecasts_key(stream, self._fleet), "stream", "XINFO STREAM"),
            (dead_key(stream, self._fleet), "stream", "XINFO STREAM"),
            (offset_key(stream, self._fleet), "string", "GET"),
            (lease_key(stream, self._fleet), "string", "GET"),
            (checkpoint_key(stream, self._fleet), "hash", "HGET"),
            (fleets_key(stream), "set", "SMEMBERS"),
        ]
        pipeline = self._client.pipeline(transaction=False)
        for key, _, command in probes:
            pipeline.execute_command(  # type: ignore[no-untyped-call]
                command, key, *NOTHING.get(command, ())
            )
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        for (key, kind, _), answer in zip(probes, answers, strict=True):
            if isinstance(answer, NoPermissionError):
                raise ServerError(
                    f"the server refuses {key} to this worker's user ({answer}); give it that right"
                )
            if _is_of_wrong_type(answer):
                raise WrongKeyError(
                    f"what lies at {key} is no {kind}; TYPE {key} tells what it is: rename or "
                    "delete it"
                )
            if isinstance(answer, Exception) and "no such key" not in str(answer):
                raise answer
            if key != stream and isinstance(answer, dict):
                _see_that_it_takes_entries(key, answer["last-generated-id"].decode())

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

    def renew_all(self, streams: Sequence[str]) -> dict[str, bool | ServerError]:
        """Let leases run for their full time again; tell of each whether it was still held.

        A ServerError stands where the server refuses that.
        """
        calls = [(lease_key(s, self._fleet), (self.token, self._life)) for s in streams]
        answers = run_for_each(self._client, Lock.LUA_REACQUIRE_SCRIPT, calls)
        return {
            stream: answer if isinstance(answer, ServerError) else bool(answer)
            for stream, answer in zip(streams, answers, strict=True)
        }

    @driver_errors()
    def release(self, stream: str) -> None:
        """Give a lease up, if it is held."""
        with suppress(LockError):
            self._locks[stream].release()

    @driver_errors()
    def leave(self) -> None:
        """Be no member any more."""
        self._client.zrem(members_key(self._fleet), self._self)


def _see_that_it_takes_entries(key: str, last_id: str) -> None:
    if is_used_up(last_id):
        raise WrongKeyError(
            f"the stream at {key} has no ids left: its last entry was given {last_id}, and no "
            "larger one follows; rename or delete it"
        )


def members_of(alive: Sequence[bytes]) -> dict[str, list[str]]:
    """Return the partitions of each member as written by ``Leases``.

    Raises:
        ValueError: one of them is no member.
    """
    return dict(map(member_of, alive))


def member_of(text: bytes) -> tuple[str, list[str]]:
    """Return a member's token and the partitions that it follows.

    Raises:
        ValueError: it is no member.
    """
    with suppress(orjson.JSONDecodeError, KeyError, TypeError):
        said = orjson.loads(text)
        token, inputs = said["token"], said["inputs"]
        if isinstance(token, str) and all(isinstance(name, str) for name in [*inputs]):
            return token, [*inputs]
    raise ValueError(f"{text_of(text[:60])!r} is no member")


def owners_of(client: redis.Redis, fleet: str, streams: Sequence[str]) -> dict[str, str | None]:
    """Return who holds the lease of each stream; None: nobody, or no lease lies there."""
    answers = answers_to(client, [("GET", lease_key(stream, fleet)) for stream in streams])
    return {
        # Where it is refused, whoever tries to take it will see.
        stream: text_of(answer) if isinstance(answer, bytes) else None
        for stream, answer in zip(streams, answers, strict=True)
    }


def _is_of_wrong_type(answer: object) -> bool:
    return isinstance(answer, redis.ResponseError) and str(answer).startswith("WRONGTYPE")
