"""Leases and members on a real server: who has what, and what others see of it."""

from collections.abc import Callable
from typing import cast

import pytest
import redis

from tidecast.worker.errors import LostServerError, ServerError, WrongKeyError
from tidecast.worker.store.batch import AT_ONCE
from tidecast.worker.store.lease import Leases, members_of, owners_of

SECONDS = 30.0


@pytest.fixture
def member(client: redis.Redis) -> Callable[..., Leases]:
    """Make a member of fleet ``f`` that follows ``a`` and ``b``."""

    def make(token: str, seconds: float = SECONDS) -> Leases:
        return Leases(client, "f", token, ["a", "b"], seconds=seconds)

    return make


def only_member(client: redis.Redis) -> tuple[bytes, float]:
    """The only member as it is written, and when it was last heard of."""
    ((name, heard),) = cast(
        "list[tuple[bytes, float]]", client.zrange("tidecast:members:f", 0, -1, withscores=True)
    )
    return name, heard


def test_a_lease_has_one_owner(member: Callable[..., Leases]) -> None:
    one, other = member("one"), member("other")
    assert one.owners() == {"a": None, "b": None}
    assert one.acquire("a")
    assert not other.acquire("a")
    assert other.acquire("b")
    assert one.owners() == other.owners() == {"a": "one", "b": "other"}


def test_a_lease_lies_at_its_key_and_runs_out(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    assert member("one").acquire("a")
    assert client.get("a:lease:f") == b"one"
    assert (SECONDS - 10) * 1000 < client.pttl("a:lease:f") <= SECONDS * 1000


@pytest.mark.parametrize("call", ["renew", "acquire"])
def test_a_renewed_lease_runs_for_its_full_time(
    client: redis.Redis, member: Callable[..., Leases], call: str
) -> None:
    """Who asks for what is already his keeps it: the first answer may have been lost."""
    one = member("one")
    assert one.acquire("a")
    client.pexpire("a:lease:f", 5000)
    assert getattr(one, call)("a")
    assert client.pttl("a:lease:f") > 20_000


def test_who_finds_his_own_token_at_the_start_has_the_lease(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    """The answer to the first try was lost, and the next is another object's."""
    client.set("a:lease:f", "one", px=5000)
    assert member("one").acquire("a")
    assert client.pttl("a:lease:f") > 20_000


def test_what_is_lost_is_neither_renewed_nor_given_up(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    one, other = member("one"), member("other")
    assert not one.renew("a")  # never held
    assert one.acquire("a")
    client.delete("a:lease:f")
    assert not one.renew("a")
    assert other.acquire("a")
    one.release("a")
    assert not one.renew("a")
    assert other.owners()["a"] == "other"


def test_a_lease_that_is_given_up_is_free(member: Callable[..., Leases]) -> None:
    one, other = member("one"), member("other")
    one.release("a")  # not held: nothing to do
    assert one.acquire("a")
    one.release("a")
    assert one.owners()["a"] is None
    assert other.acquire("a")


def test_members_see_each_other_until_they_leave(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    one, other = member("one"), member("other")
    assert one.members() == {"one": ["a", "b"]}
    assert other.members() == {"one": ["a", "b"], "other": ["a", "b"]}
    assert client.zcard("tidecast:members:f") == 2
    one.leave()
    assert other.members() == {"other": ["a", "b"]}


def test_a_member_that_is_silent_for_a_lease_is_none(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    one, other = member("one"), member("other")
    one.members()
    name, heard = only_member(client)
    client.zadd("tidecast:members:f", {name: heard - SECONDS * 1000 + 10_000})
    assert other.members().keys() == {"one", "other"}
    client.zadd("tidecast:members:f", {name: heard - SECONDS * 1000 - 1})
    assert other.members().keys() == {"other"}


def test_a_member_of_a_clock_since_set_back_is_none(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    """It was heard of further ahead than a lease lasts, so nobody would see it die."""
    one, other = member("one"), member("other")
    one.members()
    name, heard = only_member(client)
    client.zadd("tidecast:members:f", {name: heard + SECONDS * 1000 + 60_000})
    assert other.members().keys() == {"other"}


def test_the_members_of_a_fleet_that_is_gone_are_forgotten(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    member("one").members()
    assert 9 * SECONDS * 1000 < client.pttl("tidecast:members:f") <= 10 * SECONDS * 1000


def test_what_is_no_lease_has_no_owner_and_is_named_when_it_is_to_be_taken(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    client.hset("b:lease:f", "in the", "way")
    one = member("one")
    assert one.acquire("a")
    assert one.owners() == {"a": "one", "b": None}
    one.check("a")
    with pytest.raises(
        WrongKeyError, match=r"what lies at b:lease:f is no string.*rename or delete"
    ):
        one.check("b")


def test_a_lease_that_may_not_be_read_has_no_owner(client: redis.Redis) -> None:
    client.acl_setuser("blind", enabled=True, nopass=True, commands=["+@all", "-get"], keys=["*"])
    try:
        client.auth("", "blind")
        assert owners_of(client, "f", ["a"]) == {"a": None}
    finally:
        client.auth("", "default")
        client.acl_deluser("blind")


def test_many_leases_are_renewed_together_and_each_is_told_of(
    client: redis.Redis, member: Callable[..., Leases]
) -> None:
    """More than are asked for at a time; scripts that the server has forgotten are sent again."""
    mine = member("me")
    streams = [f"s{number}" for number in range(AT_ONCE + 20)]
    for stream in streams:
        client.set(f"{stream}:lease:f", "me", px=5000)
    client.set("s7:lease:f", "another", px=5000)
    client.delete("s8:lease:f")
    client.delete("s9:lease:f")
    client.rpush("s9:lease:f", "no lease")
    client.script_flush()
    renewed = mine.renew_all(streams)
    assert list(renewed) == streams
    odd = {stream: renewed.pop(stream) for stream in ("s7", "s8", "s9")}
    assert set(renewed.values()) == {True}
    assert (odd["s7"], odd["s8"]) == (False, False)
    assert isinstance(odd["s9"], ServerError)
    assert "WRONGTYPE" in str(odd["s9"])
    assert client.pttl("s0:lease:f") > 5000
    assert client.pttl("s7:lease:f") <= 5000
    assert mine.renew_all([]) == {}


def test_a_server_that_has_nothing_to_say_says_nothing_of_leases(client: redis.Redis) -> None:
    """As a replica that has lost its primary, and may not tell what it has of old."""
    client.config_set("replica-serve-stale-data", "no")
    client.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(LostServerError, match="Link with MASTER is down"):
            owners_of(client, "f", ["a"])
    finally:
        client.replicaof("NO", "ONE")
        client.config_set("replica-serve-stale-data", "yes")


def test_members_are_read_as_they_are_written() -> None:
    written = [b'{"token":"x","inputs":["a"]}', b'{"token":"y","inputs":[],"later":1}']
    assert members_of(written) == {"x": ["a"], "y": []}
