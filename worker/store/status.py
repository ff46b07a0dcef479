"""What is going on: who owns which partition, how far it is, and what lies beside it.

Read only. What lies at one key, and cannot be read as what belongs there, is said of that partition
or fleet and hides nothing of the others.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import NoPermissionError

from tidecast.worker.errors import CheckpointError
from tidecast.worker.store.checkpoint import Manifest, read_manifest
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.keys import (
    FLEET,
    checkpoint_key,
    dead_key,
    group_of,
    lease_key,
    members_key,
    offset_key,
)
from tidecast.worker.store.lease import members_of
from tidecast.worker.store.position import is_entry_id, position_of

AT_ONCE = 500
"""Partitions asked for in one go."""
LONGEST_ERROR = 300
LIVES_PER_EXPIRY = 10
"""A fleet's members expire after so many lives of one; see ``heartbeat.lua``."""


@dataclass(frozen=True, kw_only=True)
class PartitionStatus:
    """How one fleet stands on one stream; None: not known, or nothing is there.

    ``checkpoint_age`` is in seconds. ``series``, ``evicted`` (series forgotten to make room) and
    ``lost`` (entries removed unread) are as of the checkpoint, and so are ``fates``, which counts
    what became of all readings so far, and ``hindered``, which says what keeps most readings from
    being forecast. ``errors`` tell which keys hold what cannot be read,
    ``checkpoint_error`` why the checkpoint cannot.
    """

    fleet: str
    stream: str
    owner: str | None
    offset: str | None
    lag: int | None
    checkpoint_age: float | None
    checkpoint_offset: str | None
    checkpoint_error: str | None
    series: int | None
    evicted: int | None
    lost: int | None
    fates: dict[str, int] | None
    hindered: dict[str, str] | None
    dead_letters: int | None
    errors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A living worker: how many partitions it follows and how many of them it holds."""

    token: str
    follows: int
    holds: int


@dataclass(frozen=True, kw_only=True)
class FleetStatus:
    """A fleet's living members; ``error`` says why they cannot be read."""

    fleet: str
    members: tuple[Member, ...]
    error: str | None


class _Answers:
    """Answers to one partition's or fleet's questions; those refused are noted as errors."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def take(self, key: str, answer: Any, *, absent: Any = None) -> Any:
        """Return an answer, or ``absent`` where the server refuses this key."""
        if not isinstance(answer, Exception):
            return answer
        if "no such key" in str(answer):
            return absent
        # The driver cuts the word NOPERM off and makes it a class.
        refused = isinstance(answer, NoPermissionError) or str(answer).startswith("WRONGTYPE")
        if not refused:
            raise answer
        self.errors.append(_short(f"{key}: {answer}"))
        return absent


@driver_errors()
def statuses(client: redis.Redis, streams: Sequence[str] | None) -> list[PartitionStatus]:
    """Return how every fleet stands on the streams (None: on all), by fleet and stream.

    Raises:
        LostServerError: the server went away or failed.
        ServerError: it refuses.
    """
    found = _partitions(client, streams)
    result = []
    for first in range(0, len(found), AT_ONCE):
        result += _statuses(client, found[first : first + AT_ONCE])
    return result


@driver_errors()
def fleets(client: redis.Redis, streams: Sequence[str] | None) -> list[FleetStatus]:
    """Return the living members of every fleet that follows the streams (None: any).

    Raises:
        LostServerError: the server went away or failed.
        ServerError: it refuses.
    """
    reading = {fleet for fleet, _ in _partitions(client, streams)}
    names = {key.removeprefix(members_key("")) for key in _keys(client, members_key("*"))}
    result = []
    for fleet in sorted(reading | set(filter(FLEET.fullmatch, names))):
        status = _fleet(client, fleet, streams)
        if status.members or fleet in reading or (status.error and streams is None):
            result.append(status)
    return result


def _partitions(client: redis.Redis, streams: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return each fleet with each of the streams that it has read."""
    wanted, found = None if streams is None else set(streams), set()
    for key in _keys(client, offset_key("*", "*")):
        stream, fleet = key.rsplit(offset_key("", ""), 1)
        if FLEET.fullmatch(fleet) and (wanted is None or stream in wanted):
            found.add((fleet, stream))
    return sorted(found, key=_order)


def _order(partition: tuple[str, str]) -> tuple[str, list[tuple[int, str]]]:
    """Return what partitions are ordered by: ``readings:{10}`` comes after ``readings:{9}``."""
    fleet, stream = partition
    # A longer number is a larger one; texts stand at even places, all with the length 0.
    parts = re.split(r"([0-9]+)", stream)
    return fleet, [(len(part) if i % 2 else 0, part) for i, part in enumerate(parts)]


def _keys(client: redis.Redis, glob: str) -> Iterator[str]:
    """Yield the names that fit a glob; one that is no text is nobody's of ours."""
    for key in client.scan_iter(match=glob, count=1000):
        try:
            yield key.decode()
        except UnicodeDecodeError:
            continue


def _statuses(client: redis.Redis, found: Sequence[tuple[str, str]]) -> list[PartitionStatus]:
    pipeline = client.pipeline(transaction=False)
    for fleet, stream in found:
        pipeline.get(lease_key(stream, fleet))
        pipeline.get(offset_key(stream, fleet))
        pipeline.xinfo_groups(stream)
        pipeline.hmget(checkpoint_key(stream, fleet), ["manifest", "saved_at"])
        pipeline.xlen(dead_key(stream, fleet))
    pipeline.time()
    *answers, time = pipeline.execute(raise_on_error=False)
    now = _milliseconds(time)
    return [
        _status(fleet, stream, answers[5 * i : 5 * i + 5], now)
        for i, (fleet, stream) in enumerate(found)
    ]


def _status(fleet: str, stream: str, said: Sequence[Any], now: int) -> PartitionStatus:
    answers = _Answers()
    owner = answers.take(lease_key(stream, fleet), said[0])
    stands = answers.take(offset_key(stream, fleet), said[1])
    offset = None if stands is None else position_of(stands).offset
    if offset is not None and not is_entry_id(offset):
        answers.errors.append(_short(f"{offset_key(stream, fleet)}: {stands!r} is no entry id"))
        offset = None
    groups, name = answers.take(stream, said[2], absent=()), group_of(fleet).encode()
    saved, saved_at = answers.take(checkpoint_key(stream, fleet), said[3], absent=(None, None))
    manifest, unreadable = _manifest(saved)
    if isinstance(said[3], Exception):
        unreadable = answers.errors.pop()
    return PartitionStatus(
        fleet=fleet,
        stream=stream,
        owner=_text(owner),
        offset=offset,
        lag=next((group.get("lag") for group in groups if group["name"] == name), None),
        checkpoint_age=_age(saved_at, now),
        checkpoint_offset=manifest.offset if manifest else None,
        checkpoint_error=unreadable,
        series=manifest.series if manifest else None,
        evicted=manifest.evicted if manifest else None,
        lost=manifest.lost if manifest else None,
        fates=manifest.fates if manifest else None,
        hindered=manifest.hindered if manifest else None,
        dead_letters=answers.take(dead_key(stream, fleet), said[4]),
        errors=tuple(answers.errors),
    )


def _manifest(text: bytes | None) -> tuple[Manifest | None, str | None]:
    """Return a checkpoint's manifest, or None and why it cannot be read."""
    try:
        return (None if text is None else read_manifest(text)), None
    except CheckpointError as error:
        return None, _short(str(error))


def _fleet(client: redis.Redis, fleet: str, streams: Sequence[str] | None) -> FleetStatus:
    key, answers = members_key(fleet), _Answers()
    pipeline = client.pipeline(transaction=False)
    pipeline.zrange(key, 0, -1, withscores=True)
    pipeline.pttl(key)
    pipeline.time()
    scored, expiry, time = pipeline.execute(raise_on_error=False)
    scored = answers.take(key, scored, absent=())
    try:
        living = members_of(_living(scored, expiry, _milliseconds(time)))
        follow = {token: _chosen(inputs, streams) for token, inputs in living.items()}
    except ValueError as error:
        answers.errors.append(_short(f"{key}: its members cannot be read ({error})"))
        follow = {}
    owners = _owners(client, fleet, sorted(set().union(*follow.values())))
    members = tuple(
        Member(token=token, follows=len(inputs), holds=owners.count(token))
        for token, inputs in sorted(follow.items())
        if inputs or streams is None
    )
    return FleetStatus(fleet=fleet, members=members, error=next(iter(answers.errors), None))


def _chosen(inputs: Iterable[str], streams: Sequence[str] | None) -> set[str]:
    return set(inputs) if streams is None else set(inputs) & set(streams)


def _living(scored: Sequence[tuple[bytes, float]], expiry: int, now: int) -> list[bytes]:
    """Return the members that were heard of no longer ago than a lease lasts.

    How long that is follows from when the key expires, which the newest heartbeat has set.
    """
    if not scored or expiry < 0:
        return [member for member, _ in scored]
    life = (expiry + now - max(score for _, score in scored)) / LIVES_PER_EXPIRY
    return [member for member, score in scored if abs(now - score) <= life]


def _owners(client: redis.Redis, fleet: str, streams: Sequence[str]) -> list[str | None]:
    """Return who holds each stream's lease; what else lies there is told of the partition."""
    pipeline = client.pipeline(transaction=False)
    for stream in streams:
        pipeline.get(lease_key(stream, fleet))
    answers, noted = pipeline.execute(raise_on_error=False), _Answers()
    return [_text(noted.take(stream, a)) for stream, a in zip(streams, answers, strict=True)]


def _age(saved_at: bytes | None, now: int) -> float | None:
    """Return how many seconds ago that was."""
    if saved_at is None or not re.fullmatch(rb"\d{1,16}", saved_at):
        return None
    return max(0, now - int(saved_at)) / 1000


def _milliseconds(time: Any) -> int:
    if isinstance(time, Exception):
        raise time
    seconds, micros = time
    return int(seconds) * 1000 + int(micros) // 1000


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _short(text: str) -> str:
    """Return a text in one line that is not too long."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 3]}..."
