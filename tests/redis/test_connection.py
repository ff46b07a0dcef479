"""What a raw connection takes of redis-py, held to real servers: a breaking upgrade fails here."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis.servers import HOST, Server, flavours
from tests.redis.tls import tls_house
from tests.redis.waiting import wait_for
from tidecast.worker.errors import LostServerError, ServerError
from tidecast.worker.store.connection import LARGEST_READ, RawConnection, TooLargeError, packed
from tidecast.worker.store.login import Login
from tidecast.worker.store.server import client_of


def client_of_one(url: str, **options: Any) -> redis.Redis:
    """A client that has one connection, no more, and never retries a command."""
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, protocol=2, max_connections=1, retry=retry, **options)


@pytest.fixture
def own(server_url: str) -> Iterator[redis.Redis]:
    with client_of_one(server_url) as own:
        yield own


@pytest.fixture
def connection(own: redis.Redis) -> Iterator[RawConnection]:
    with closing(RawConnection(own)) as connection:
        yield connection


def ask(connection: RawConnection, *words: str | bytes | int) -> Any:
    connection.send(*words)
    return connection.read()


@pytest.mark.usefixtures("client")
def test_replies_come_in_order_and_as_bytes(server_url: str) -> None:
    """Also where a client's own commands would make text of them."""
    texts = client_of_one(server_url, decode_responses=True)
    with texts, closing(RawConnection(texts)) as connection:
        connection.send("SET", "a", b"\xff\x00")
        connection.send_packed(packed([b"GET", b"a"]) + packed([b"GET", b"nothing"]))
        connection.send("XADD", "s", 7, "field", 1)
        connection.send("XRANGE", "s", "-", "+", "COUNT", 1)
        replies = [connection.read() for _ in range(5)]
    assert replies == [b"OK", b"\xff\x00", None, b"7-0", [[b"7-0", [b"field", b"1"]]]]


def test_a_reply_is_seen_when_it_has_come(connection: RawConnection, client: redis.Redis) -> None:
    assert not connection.has_reply()
    connection.send("BLPOP", "list", 0)
    assert not connection.has_reply()
    client.rpush("list", "x" * 3 * LARGEST_READ)
    wait_for(connection.has_reply)
    assert connection.has_reply()  # looking takes nothing away
    assert connection.read() == [b"list", b"x" * 3 * LARGEST_READ]
    assert not connection.has_reply()


def test_a_second_reply_is_seen_that_came_with_the_first(connection: RawConnection) -> None:
    connection.send_packed(packed([b"PING"]) + packed([b"ECHO", b"second"]))
    connection.read()
    assert connection.has_reply()
    assert connection.read() == b"second"


def test_what_was_confirmed_is_done(connection: RawConnection, client: redis.Redis) -> None:
    commands = [packed([b"RPUSH", b"list", b"%d" % number]) for number in range(30_000)]
    echo = packed([b"ECHO", b"x" * 2 * LARGEST_READ])
    connection.send_packed(b"".join(commands[:20_000]))
    connection.send_packed(b"".join(commands[20_000:]) + echo)
    connection.confirm(20_000)
    assert int(client.llen("list")) >= 20_000
    connection.confirm(10_001)
    assert client.llen("list") == 30_000


def test_a_refusal_among_the_confirmed_is_told(
    connection: RawConnection, client: redis.Redis
) -> None:
    client.set("text", "in the way")
    push, wrong = packed([b"RPUSH", b"list", b"x"]), packed([b"RPUSH", b"text", b"x"])
    connection.send_packed(push + wrong + push)
    connection.confirm(1)
    with pytest.raises(ServerError, match="refuses: WRONGTYPE"):
        connection.confirm(2)


def test_what_passes_is_told_from_a_refusal_there_too(
    connection: RawConnection, client: redis.Redis
) -> None:
    client.config_set("maxmemory", 1)
    try:
        connection.send("SET", "a", "b")
        with pytest.raises(LostServerError, match="OOM"):
            connection.confirm(1)
    finally:
        client.config_set("maxmemory", 0)


def test_after_a_refusal_it_goes_on(connection: RawConnection) -> None:
    with pytest.raises(ServerError, match="wrong number of arguments"):
        ask(connection, "GET")
    assert ask(connection, "PING") == b"PONG"


def test_one_is_in_use_until_it_is_given_up(own: redis.Redis) -> None:
    first = RawConnection(own)
    with pytest.raises(LostServerError, match="connections"):
        RawConnection(own)
    number = ask(first, "CLIENT", "ID")
    first.give_back()
    second = RawConnection(own)
    assert ask(second, "CLIENT", "ID") == number
    second.close()
    third = RawConnection(own)
    assert ask(third, "CLIENT", "ID") != number
    third.close()


def test_closing_drops_a_reply_on_its_way(own: redis.Redis, client: redis.Redis) -> None:
    connection = RawConnection(own)
    number = ask(connection, "CLIENT", "ID")
    connection.send("BLPOP", "list", 0)
    connection.close()
    wait_for(lambda: str(number) not in {one["id"] for one in client.client_list()})
    client.rpush("list", "x")
    assert own.ping() is True
    assert client.llen("list") == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda connection: connection.read(),
        lambda connection: connection.confirm(1),
        lambda connection: connection.read_within(10),
        lambda connection: [connection.has_reply(), connection.read()],
    ],
    ids=["read", "confirm", "read_within", "has_reply"],
)
def test_a_connection_that_is_cut_is_told(
    connection: RawConnection, client: redis.Redis, call: Callable[[RawConnection], object]
) -> None:
    number = ask(connection, "CLIENT", "ID")
    connection.send("BLPOP", "list", 0)
    client.client_kill_filter(_id=str(number))
    with pytest.raises(LostServerError, match="closed by server"):
        call(connection)


def test_a_reply_is_read_up_to_its_bound(connection: RawConnection, client: redis.Redis) -> None:
    """Beyond it the connection hangs up, and begins anew with the next command."""
    client.set("small", b"x" * 1000)
    client.set("large", b"x" * 10_000_000)
    for _ in range(2):
        connection.send("GET", "small")
        assert connection.read_within(1000) == b"x" * 1000
        connection.send("GET", "large")
        with pytest.raises(TooLargeError):
            connection.read_within(1_000_000)
    connection.send("GET", "large")
    assert len(connection.read_within(20_000_000)) == 10_000_000
    connection.send("LPUSH", "small", 1)
    with pytest.raises(ServerError, match="WRONGTYPE"):
        connection.read_within(1000)
    connection.send("XRANGE", "nothing", "-", "+")
    assert connection.read_within(1000) == []


@pytest.mark.parametrize(
    "read", [RawConnection.read, lambda one: one.read_within(1000)], ids=["read", "read_within"]
)
def test_a_reply_that_comes_too_late_is_not_the_next_ones(
    server_url: str, client: redis.Redis, read: Callable[[RawConnection], object]
) -> None:
    """After a failed read the driver has hung up."""
    with client_of_one(server_url, socket_timeout=0.05) as hasty:
        connection = RawConnection(hasty)
        connection.send("BLPOP", "list", 0)
        with pytest.raises(LostServerError, match="Timeout"):
            read(connection)
        connection.give_back()
        client.rpush("list", "late")
        assert hasty.ping() is True


@pytest.mark.parametrize(
    "read",
    [RawConnection.read, lambda one: one.read_within(1000), lambda one: one.confirm(1)],
    ids=["read", "read_within", "confirm"],
)
def test_a_server_that_is_full_is_one_that_may_have_room_again(
    connection: RawConnection, read: Callable[[RawConnection], object]
) -> None:
    """It says so in place of the first answer, as a script does here."""
    connection.send("EVAL", "return redis.error_reply('ERR max number of clients reached')", 0)
    with pytest.raises(LostServerError, match="max number of clients"):
        read(connection)


def test_a_server_that_is_gone_is_told(tmp_path: Path) -> None:
    with (
        Server(flavour="valkey", folder=tmp_path / "server") as server,
        client_of(server.url) as client,
    ):
        connection = RawConnection(client)
        assert connection.peer == (HOST, server.port)
        assert not connection.encrypted
        server.kill()
        with pytest.raises(LostServerError):
            ask(connection, "PING")
        connection.close()
        with pytest.raises(LostServerError):
            RawConnection(client)


def test_a_socket_of_this_machine_has_no_peer(connection: RawConnection) -> None:
    assert connection.peer is None


@pytest.mark.skipif(
    "redis" not in flavours() and "CI" not in os.environ, reason="no redis-server is installed"
)
def test_the_same_over_tls(tmp_path: Path) -> None:
    with tls_house(tmp_path / "house", acl=False) as house:
        certificate, key = house.file("client.pem"), house.file("client.key")
        login = Login(ca_file=house.file("ca.pem"), cert_file=certificate, key_file=key)
        with client_of(house.url, login) as client, closing(RawConnection(client)) as connection:
            assert connection.encrypted
            assert connection.peer == ("localhost", house.tls_port)
            connection.send_packed(packed([b"PING"]) + packed([b"ECHO", b"x" * LARGEST_READ]))
            connection.read()
            wait_for(connection.has_reply)
            assert connection.read() == b"x" * LARGEST_READ
            connection.send_packed(packed([b"ECHO", b"x" * LARGEST_READ]) * 3)
            connection.confirm(3)
