"""What is told of partitions and fleets, from keys that lie on a real server."""

import json
from dataclasses import astuple, replace

import pytest
import redis

from tidecast.worker.store.lease import Leases
from tidecast.worker.store.status import (
    AT_ONCE,
    LONGEST_ERROR,
    PartitionStatus,
    fleets,
    statuses,
)

NOTHING = PartitionStatus(
    fleet="f",
    stream="readings",
    owner=None,
    offset=None,
    lag=None,
    checkpoint_age=None,
    checkpoint_offset=None,
    checkpoint_error=None,
    series=None,
    evicted=None,
    lost=None,
    fates=None,
    hindered=None,
    dead_letters=0,
    errors=(),
)


def now(client: redis.Redis) -> int:
    """Milliseconds by the server's clock."""
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000


def heard(client: redis.Redis, fleet: str, **ago: int) -> None:
    """Say of members of a fleet, whose lease is ten seconds, how long ago they were heard of."""
    key, at = f"tidecast:members:{fleet}", now(client)
    for token, milliseconds in ago.items():
        member = json.dumps({"token": token, "inputs": ["r"]})
        client.zadd(key, {member: at - milliseconds})
    client.pexpire(key, 100_000 - min(ago.values()))


def test_a_partition_that_was_read_once_is_told(client: redis.Redis) -> None:
    client.set("readings:offset:f", "5-0")
    assert statuses(client, None) == [replace(NOTHING, offset="5-0")]


def test_all_that_is_known_of_a_partition_is_told(client: redis.Redis) -> None:
    for number in range(1, 8):
        client.xadd("readings", {"value": 1}, id=f"{number}-0")
    client.xgroup_create("readings", "other", "1-0", entries_read=1)
    client.xgroup_create("readings", "f", "1-0", entries_read=1)
    client.xgroup_create("readings", "tidecast:f", "5-0", entries_read=5)
    client.set("readings:offset:f", "5-0")
    client.set("readings:lease:f", "me")
    client.xadd("readings:dead:f", {"reason": "x"})
    (told,) = statuses(client, ["readings"])
    assert told == replace(NOTHING, offset="5-0", owner="me", lag=2, dead_letters=1)


def test_partitions_come_by_fleet_and_by_number(client: redis.Redis) -> None:
    for stream, fleet in [
        ("r:{10}", "f"),
        ("r:{9}", "f"),
        ("r:{9}", "e"),
        ("q", "f"),
        ("r:{9}a", "f"),
    ]:
        client.set(f"{stream}:offset:{fleet}", "1-0")
    found = [(one.fleet, one.stream) for one in statuses(client, None)]
    assert found == [("e", "r:{9}"), ("f", "q"), ("f", "r:{9}"), ("f", "r:{9}a"), ("f", "r:{10}")]
    found = [(one.fleet, one.stream) for one in statuses(client, ["r:{10}", "q", "none"])]
    assert found == [("f", "q"), ("f", "r:{10}")]


def test_a_stream_may_be_called_as_a_key_of_ours(client: redis.Redis) -> None:
    client.set("a:offset:b:offset:f", "1-0")
    client.set(b"\xff:offset:f", "1-0")  # no text, so none of our streams
    client.set("a:offset:", "1-0")
    client.set("a:offset:{x}", "1-0")
    client.set("a:offset:" + "x" * 129, "1-0")
    assert [(one.stream, one.fleet) for one in statuses(client, None)] == [("a:offset:b", "f")]


def test_more_partitions_than_are_asked_for_at_once_are_all_told(client: redis.Redis) -> None:
    count = 2 * AT_ONCE + 1
    pipeline = client.pipeline(transaction=False)
    for number in range(count):
        pipeline.set(f"r{number}:offset:f", f"{number}-0")
        pipeline.set(f"r{number}:lease:f", f"owner {number}")
    pipeline.execute()
    told = [(one.stream, one.offset, one.owner) for one in statuses(client, None)]
    assert told == [(f"r{i}", f"{i}-0", f"owner {i}") for i in range(count)]


@pytest.mark.parametrize("text", ["noon", "1", "1-0x", "x1-0", "1-", ""])
def test_an_offset_that_is_none_is_an_error_and_no_offset(client: redis.Redis, text: str) -> None:
    client.set("readings:offset:f", text)
    (told,) = statuses(client, None)
    assert told.offset is None
    assert told.errors == (f"readings:offset:f: {text.encode()!r} is no entry id",)


def test_an_error_is_one_line_of_bounded_length(client: redis.Redis) -> None:
    client.set("readings:offset:f", "x" * 1000)
    client.set("short:offset:f", "a  b")
    told, short = statuses(client, None)
    (error,) = told.errors
    assert len(error) == LONGEST_ERROR
    assert error.startswith("readings:offset:f: b'xxx")
    assert error.endswith("xx...")
    assert short.errors == ("short:offset:f: b'a b' is no entry id",)


@pytest.mark.parametrize(
    ("ago", "least", "most"), [(5_000, 5.0, 60.0), (0, 0.0, 60.0), (-90_000, 0.0, 0.0)]
)
def test_a_checkpoint_has_an_age_in_seconds(
    client: redis.Redis, ago: int, least: float, most: float
) -> None:
    """One of the future, as the clock was set back since, is no younger than none at all."""
    client.set("readings:offset:f", "1-0")
    client.hset("readings:checkpoint:f", "saved_at", now(client) - ago)
    (told,) = statuses(client, None)
    assert told.checkpoint_age is not None
    assert least <= told.checkpoint_age <= most


@pytest.mark.parametrize("saved_at", ["", "noon", "-5", "1.5", "1" * 17])
def test_an_age_that_cannot_be_read_is_none(client: redis.Redis, saved_at: str) -> None:
    client.set("readings:offset:f", "1-0")
    client.hset("readings:checkpoint:f", "saved_at", saved_at)
    (told,) = statuses(client, None)
    assert told == replace(NOTHING, offset="1-0")


def test_a_key_that_this_user_may_not_read_is_told_of_its_partition(client: redis.Redis) -> None:
    client.set("readings:offset:f", "1-0")
    client.set("readings:lease:f", "me")
    client.acl_setuser(
        "half",
        enabled=True,
        nopass=True,
        commands=["+@all"],
        keys=["readings", "*:offset:*", "*:checkpoint:*", "*:dead:*", "tidecast:*"],
    )
    try:
        client.auth("", "half")
        (told,) = statuses(client, None)
    finally:
        client.auth("", "default")
        client.acl_deluser("half")
    assert (told.owner, told.offset) == (None, "1-0")
    (error,) = told.errors
    assert error.startswith("readings:lease:f: ")


def test_members_are_told_with_what_they_follow_and_hold(client: redis.Redis) -> None:
    one = Leases(client, "f", "one", ["a", "b", "c"], seconds=600)
    two = Leases(client, "f", "two", ["c", "d"], seconds=600)
    for leases in (two, one):
        leases.members()
    assert one.acquire("a")
    assert one.acquire("c")
    (told,) = fleets(client, None)
    assert (told.fleet, told.error) == ("f", None)
    assert [astuple(member) for member in told.members] == [("one", 3, 2), ("two", 2, 0)]
    (asked,) = fleets(client, ["a", "d"])
    assert [astuple(member) for member in asked.members] == [("one", 1, 1), ("two", 1, 0)]
    (asked,) = fleets(client, ["d"])
    assert [member.token for member in asked.members] == ["two"]
    assert fleets(client, ["elsewhere"]) == []


def test_fleets_come_by_name_with_members_or_without(client: redis.Redis) -> None:
    heard(client, "c", x=0)
    client.set("readings:offset:a", "1-0")
    heard(client, "a:b", x=0)  # no name of a fleet
    heard(client, "b", x=50_000)  # nobody is left, and nothing was read
    found = fleets(client, None)
    assert [(fleet.fleet, len(fleet.members)) for fleet in found] == [("a", 0), ("c", 1)]
    assert [fleet.fleet for fleet in fleets(client, ["readings"])] == ["a"]


@pytest.mark.parametrize(("ago", "lives"), [(9_000, True), (11_000, False), (-11_000, False)])
def test_a_member_lives_as_long_as_a_lease(client: redis.Redis, ago: int, *, lives: bool) -> None:
    """Also one that was heard of in the future, by a clock that was set back since."""
    heard(client, "f", new=0, old=ago)
    (fleet,) = fleets(client, None)
    assert [member.token for member in fleet.members] == ["new", *["old"] * lives]


def test_members_without_an_expiry_are_all_told(client: redis.Redis) -> None:
    heard(client, "f", x=0, y=90_000, z=50_000)
    client.persist("tidecast:members:f")
    (fleet,) = fleets(client, None)
    assert [member.token for member in fleet.members] == ["x", "y", "z"]


@pytest.mark.parametrize("member", ["no JSON", '{"inputs":[]}', "5"])
def test_members_that_cannot_be_read_are_an_error_of_their_fleet(
    client: redis.Redis, member: str
) -> None:
    client.zadd("tidecast:members:f", {member: now(client)})
    heard(client, "g", x=0)
    broken, sound = fleets(client, None)
    assert broken.members == ()
    assert broken.error is not None
    assert broken.error.startswith("tidecast:members:f: its members cannot be read")
    assert (sound.error, len(sound.members)) == (None, 1)
    assert [fleet.fleet for fleet in fleets(client, ["r"])] == ["g"]


def test_a_fleets_key_of_another_type_is_an_error(client: redis.Redis) -> None:
    client.set("tidecast:members:f", "in the way")
    (fleet,) = fleets(client, None)
    assert fleet.members == ()
    assert fleet.error is not None
    assert fleet.error.startswith("tidecast:members:f: WRONGTYPE")


def test_what_else_lies_at_a_leases_key_is_nobodys_lease(client: redis.Redis) -> None:
    heard(client, "f", x=0)
    client.hset("r:lease:f", "in the", "way")
    (fleet,) = fleets(client, None)
    assert [astuple(member) for member in fleet.members] == [("x", 1, 0)]
