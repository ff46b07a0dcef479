"""Others on the same server: what is theirs stays theirs, and takes no worker down."""

import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry
from rich.console import Console

from tests.commands import Commands
from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.servers import Server
from tests.redis.waiting import wait_for
from tidecast.worker.commands.watch import Board
from tidecast.worker.errors import LeaseError, ServerError
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.wire import Position, Reject
from tidecast.worker.service import web
from tidecast.worker.service.loop import Worker
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.settings import Settings
from tidecast.worker.store.checkpoint import Checkpoints, Manifest
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.dead_letters import DeadLetters
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.fleets import Fleets
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.server import connect
from tidecast.worker.store.source import Streams
from tidecast.worker.store.status import fleets


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mean_model(tmp_path / "mean.onnx", name="mean", n_steps=3)


def add(client: redis.Redis, first: int, beyond: int) -> None:
    pipeline = client.pipeline(transaction=False)
    for value in range(first, beyond):
        pipeline.xadd("readings", {"value": value})
    pipeline.execute()


def drain(tidecast: Run, model: Path, *options: str) -> str:
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", *options)
    assert result.returncode == 0, result.stderr
    return result.stderr


def clerk_of(client: redis.Redis, server_url: str, *rules: str) -> redis.Redis:
    """Return a client of a user who may do all but what the rules take away."""
    all_but = ["reset", "on", "nopass", "~*", "&*", "+@all", *rules]
    client.execute_command("ACL", "SETUSER", "clerk", *all_but)  # type: ignore[no-untyped-call]
    login: dict[str, Any] = {"username": "clerk", "password": "x"}
    return redis.Redis.from_url(server_url, protocol=2, **login)


def groups(client: redis.Redis) -> dict[str, dict[str, Any]]:
    found: Any = client.xinfo_groups("readings")
    return {group["name"].decode(): group for group in found}


# Consumer groups


def test_a_group_of_others_called_like_the_fleet_is_left_alone(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 1000)
    client.xgroup_create("readings", "default", id="0")
    client.xreadgroup("default", "one", {"readings": ">"}, count=99)
    drain(tidecast, model)
    add(client, 1000, 1010)
    drain(tidecast, model)
    found = groups(client)
    assert set(found) == {"default", "tidecast:default"}
    assert (found["default"]["lag"], found["default"]["pending"]) == (911, 99)
    assert found["tidecast:default"]["lag"] == 0
    left: Any = client.xreadgroup("default", "one", {"readings": ">"}, count=2000)
    assert len(left[0][1]) == 911


def earlier(client: redis.Redis, offset: str, entries: int) -> None:
    """Leave the keys of a fleet of before, whose group was called as itself."""
    client.set("readings:offset:default", f"{offset} {entries}")
    client.xgroup_create("readings", "default", id=offset, entries_read=entries)


def test_the_group_of_a_fleet_of_before_gets_its_new_name(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 10)
    offset: Any = client.xinfo_stream("readings")["last-generated-id"]
    earlier(client, offset.decode(), 10)
    log = drain(tidecast, model)
    assert "consumer group default of readings is called tidecast:default from now on" in log
    found = groups(client)
    assert set(found) == {"tidecast:default"}
    assert (found["tidecast:default"]["lag"], found["tidecast:default"]["entries-read"]) == (0, 10)
    client.xgroup_create("readings", "default", id=offset, entries_read=10)  # somebody else's, now
    drain(tidecast, model)
    assert set(groups(client)) == {"default", "tidecast:default"}


def _read_on(client: redis.Redis) -> None:
    client.xgroup_setid("readings", "default", id="1-0", entries_read=1)


def _count(client: redis.Redis) -> None:
    client.xgroup_setid("readings", "default", id="5-0", entries_read=4)


def _consume(client: redis.Redis) -> None:
    client.xgroup_createconsumer("readings", "default", "one")


def _set_by_hand(client: redis.Redis) -> None:
    client.set("readings:offset:default", "5-0")


@pytest.mark.parametrize("change", [_read_on, _count, _consume, _set_by_hand])
def test_a_group_that_is_not_proved_to_be_ours_stays(
    client: redis.Redis, change: Callable[[redis.Redis], None]
) -> None:
    for number in range(1, 9):
        client.xadd("readings", {"value": number}, id=f"{number}-0")
    earlier(client, "5-0", 5)
    change(client)
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    committer.resume("readings")
    committer.close()
    assert "default" in groups(client)


def test_a_user_who_may_not_destroy_groups_is_told_what_is_left(
    client: redis.Redis, server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.xadd("readings", {"value": 1}, id="5-0")
    earlier(client, "5-0", 1)
    with clerk_of(client, server_url, "-xgroup|destroy") as clerk:
        committer = Committer(clerk, "default", "me", longest_forecasts=0, longest_dead=0)
        committer.resume("readings")
        committer.close()
    assert set(groups(client)) == {"default", "tidecast:default"}
    assert "XGROUP DESTROY readings default" in caplog.text


# What --trim leaves to others


def test_trimming_waits_for_a_fleet_whose_group_is_gone(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 300)
    drain(tidecast, model, "--fleet", "slow")
    for group in groups(client):
        client.xgroup_destroy("readings", group)
    add(client, 300, 2000)
    drain(tidecast, model, "--trim")
    assert client.xlen("readings") >= 1700
    assert "removed from the stream" not in drain(tidecast, model, "--fleet", "slow")


def test_trimming_waits_for_a_fleet_of_before_that_signed_no_list(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    """It is found by its offset, once; fleets of a stream with a longer name are others."""
    add(client, 0, 300)
    drain(tidecast, model, "--fleet", "slow")
    client.delete("readings:fleets")
    client.xgroup_destroy("readings", "tidecast:slow")
    client.set("readings:offset:of:offset:another", "1-0")
    client.set("readings:offset:\udcff".encode("utf-8", "surrogateescape"), "1-0")
    add(client, 300, 2000)
    drain(tidecast, model, "--trim")
    assert client.xlen("readings") >= 1700
    assert client.smembers("readings:fleets") == {b"slow", b"default", b"{all}", b"{new}"}
    before: Any = client.info("commandstats")["cmdstat_scan"]["calls"]
    drain(tidecast, model, "--trim")
    assert client.info("commandstats")["cmdstat_scan"]["calls"] == before


def test_a_fleet_that_is_given_up_is_waited_for_no_more(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 2000)
    drain(tidecast, model, "--fleet", "gone")
    client.delete("readings:offset:gone", "readings:checkpoint:gone")
    drain(tidecast, model, "--trim")
    assert client.xlen("readings") <= 100


@pytest.mark.parametrize("before", [True, False])
def test_who_may_not_look_for_fleets_of_before_trims_nothing_and_says_so(
    client: redis.Redis,
    server_url: str,
    worker_of: Callable[..., Worker],
    model: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    before: bool,
) -> None:
    """A stream that the first fleet has begun to read since has no such fleets."""
    add(client, 0, 500)
    worker_of(lambda: False, pytest.fail, read_size=100).run()
    assert client.smembers("readings:fleets") == {b"default", b"{new}"}
    if before:
        client.delete("readings:fleets")
        worker_of(lambda: False, pytest.fail).run()
    with clerk_of(client, server_url, "-scan") as clerk:
        settings, registry = Settings(models=model), load_registry(model)
        streams = Streams(client=clerk, count=1, block_ms=None)
        recovery = Recovery(settings, registry, streams, Checkpoints(clerk, "default", "me"))
        if before:
            assert [recovery.trim("readings") for _ in range(2)] == [0, 0]
            assert caplog.text.count("SADD readings:fleets {all}") == 1
            client.sadd("readings:fleets", "{all}")
        assert recovery.trim("readings") >= 400


def test_a_stream_without_entries_is_resumed(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    """Somebody deleted it, and nobody has written to it since."""
    add(client, 0, 5)
    worker_of(lambda: False, pytest.fail).run()
    client.delete("readings")
    Fleets(client).show("readings", "default")
    assert not client.exists("readings")


def test_a_stream_that_nobody_has_written_to_has_no_fleet_of_before(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    """So its workers need no right to look at all keys."""
    worker_of(lambda: False, pytest.fail).run()
    assert client.smembers("readings:fleets") == {b"default", b"{all}", b"{new}"}


@pytest.mark.parametrize("key", ["checkpoint", "offset", "manifest"])
def test_what_cannot_be_read_of_another_fleet_keeps_all_readings(
    client: redis.Redis, worker_of: Callable[..., Worker], key: str
) -> None:
    """Its key is no trouble of ours, and it may have read nothing yet."""
    add(client, 0, 500)
    client.sadd("readings:fleets", "other", "{all}")
    if key == "manifest":
        worker_of(lambda: False, pytest.fail, read_size=100).run()
        saved: Any = client.hget("readings:checkpoint:default", "manifest")
        told = re.sub(rb'"offset":"[^"]*"', b'"offset":"noon"', saved)
        client.hset("readings:checkpoint:other", "manifest", told)
        client.set("readings:offset:other", "1-0")
    else:
        client.lpush(f"readings:{key}:other", "in the way")
    worker = worker_of(lambda: False, pytest.fail, trim=True, read_size=100)
    worker.run()
    assert (client.xlen("readings"), worker.total.rebuilds) == (500, 0)


# Streams that have used up their ids


LARGEST = 2**64 - 1
LAST = f"{LARGEST}-{LARGEST}"
LETTER = Reject("why", b"1-0", b"{}")


@pytest.mark.parametrize("left", [0, 1, 20])
@pytest.mark.parametrize("key", ["readings:forecasts", "readings:dead"])
def test_a_commit_is_not_half_written_where_ids_are_used_up(
    client: redis.Redis, key: str, left: int
) -> None:
    client.xadd(key, {"a": "b"}, id=f"{LARGEST}-{LARGEST - left}")
    client.xdel(key, f"{LARGEST}-{LARGEST - left}")  # the stream remembers it
    client.set("readings:lease:default", "me")
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    committer.begin("readings", Position("0-0", 0))
    new = Position("5-0", 30)
    committer.send("readings", "0-0", new, [b"a"] * 30, [b"{}"] * 30, [LETTER] * 30)
    with pytest.raises(ServerError, match=f"{key} has no ids left"):
        committer.settle()
    assert client.xlen("readings:forecasts") == client.xlen("readings:dead") == 0
    assert committer.position("readings") == Position("0-0", 0)
    committer.close()


@pytest.mark.parametrize("key", ["readings:forecasts", "readings:dead"])
def test_used_up_ids_are_trouble_with_a_name_and_a_remedy(
    client: redis.Redis, worker_of: Callable[..., Worker], key: str
) -> None:
    add(client, 0, 27)
    client.xadd("readings", {"value": "abc"})
    client.xadd(key, {"a": "b"}, id=LAST)
    with pytest.raises(ServerError, match=f"{key} has no ids left.*rename or delete it"):
        worker_of(lambda: False, lambda _: None, read_size=100).run()
    assert client.xlen("readings:forecasts") + client.xlen("readings:dead") == 1
    client.rename(key, "aside")
    worker_of(lambda: False, pytest.fail, read_size=100).run()
    assert (client.xlen("readings:forecasts"), client.xlen("readings:dead")) == (27, 1)


def test_a_letter_at_the_largest_id_is_listed_and_dropped(client: redis.Redis) -> None:
    client.xadd("readings:dead", {"reason": "b", "entry": "1-0", "payload": "{}"}, id=LAST)
    box = DeadLetters(client, "readings")
    (letter,) = box.oldest_first()
    assert [one.id for one in box.newest_first()] == [LAST]
    assert box.drop(letter)


def test_a_retry_onto_a_stream_without_ids_keeps_the_letter(client: redis.Redis) -> None:
    client.xadd("readings:dead", {"reason": "b", "entry": "1-0", "payload": '{"value": "1"}'})
    client.xadd("readings", {"value": 1}, id=LAST)
    box = DeadLetters(client, "readings")
    with pytest.raises(ServerError, match="readings has no ids left"):
        box.retry(next(box.newest_first()))
    assert (box.count(), client.xlen("readings")) == (1, 1)


def test_a_reading_at_the_largest_id_is_read_and_replayed(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    add(client, 0, 3)
    client.xadd("readings", {"value": 1}, id=LAST)
    worker_of(lambda: False, pytest.fail).run()
    client.delete("readings:checkpoint:default")
    worker_of(lambda: False, pytest.fail).run()
    client.set("readings:offset:default", LAST)  # by hand, so that what lies behind it is counted
    worker_of(lambda: False, pytest.fail).run()
    assert (client.xlen("readings:forecasts"), client.xlen("readings:dead")) == (3, 1)


# Leases that outlast any


def test_a_dead_workers_lease_runs_out_though_the_clock_was_set_back(
    client: redis.Redis, worker_of: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    add(client, 0, 5)
    client.set("readings:lease:default", "dead-\x1b[31m", px=300_000)
    worker_of(
        lambda: client.xlen("readings:forecasts") == 5, pytest.fail, time.monotonic, lease=0.5
    ).run()
    assert client.xlen("readings:forecasts") == 5
    assert "for longer than leases last" in caplog.text


@pytest.mark.parametrize(("token", "ttl"), [("other", 300_000), ("dead", 50_000), ("dead", None)])
def test_a_lease_that_may_stand_is_left_alone(
    client: redis.Redis,
    worker_of: Callable[..., Worker],
    caplog: pytest.LogCaptureFixture,
    token: str,
    ttl: int | None,
) -> None:
    """It is a living member's, with a longer lease than ours; or runs out in time, or never."""
    Leases(client, "default", "other", ["readings"], seconds=600).members()
    client.set("readings:lease:default", token, px=ttl)
    looks: list[str] = []
    worker_of(
        *(lambda: len(looks) > 5, pytest.fail, time.monotonic),
        reached=looks.append,
        burst=False,
        lease=60.0,  # for as long the other lives, however long this takes
    ).run()
    left: Any = client.pttl("readings:lease:default")
    assert left > 60_000 if ttl == 300_000 else left <= 50_000
    assert client.get("readings:lease:default") == token.encode()
    told = caplog.text.count("DEL readings:lease:default if that is not wanted")
    assert told == (1 if ttl is None else 0)


# What others wrote where something of ours belongs


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("readings:offset:default", b"\xff\x1b[31m", "is no entry id"),
        ("readings:offset:default", b"99999999999999999999-0", "is no entry id"),
        pytest.param("readings:offset:default", b"1-0 " + b"9" * 5000, "", id="5000 digits"),
        ("readings:offset:default", b"1-0 \xd9\xa1", ""),
        ("readings:checkpoint:default", b"\xff", "its manifest cannot be read"),
        ("readings:checkpoint:default", b'{"layout": 1}', "it has layout 1"),
    ],
)
def test_foreign_bytes_are_a_line(
    client: redis.Redis, tidecast: Run, model: Path, key: str, value: bytes, told: str
) -> None:
    add(client, 0, 5)
    if "offset" in key:
        client.set(key, value)
    else:
        client.hset(key, "manifest", value)
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", "--trim")
    assert "Traceback" not in result.stderr
    assert told in result.stderr
    assert result.stderr.replace("\n", "").isprintable()


def test_a_lease_of_foreign_bytes_is_waited_for(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    add(client, 0, 5)
    client.set("readings:lease:default", b"\xff\x1b", px=300)
    worker_of(lambda: False, pytest.fail, time.monotonic).run()
    assert client.xlen("readings:forecasts") == 5


def test_a_commit_and_a_checkpoint_name_a_holder_of_foreign_bytes(client: redis.Redis) -> None:
    client.set("readings:lease:default", b"\xff")
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    committer.begin("readings", Position("0-0", 0))
    committer.send("readings", "0-0", Position("5-0", 1), [b"a"], [b"{}"], [])
    with pytest.raises(LeaseError, match=r"held by \\xff"):
        committer.settle()
    committer.close()
    manifest: Any = dict.fromkeys(["entries", "clock", "series", "evicted", "lost"], 0)
    manifest |= {"fleet": "default", "models": [], "sets": {}, "offset": "1-0", "sections": []}
    with pytest.raises(LeaseError, match=r"held by \\xff"):
        Checkpoints(client, "default", "me").publish("readings", Manifest(**manifest), tidy=True)


@pytest.mark.parametrize(
    "member", [b"\xff\x1b", b"5", b"[]", b'{"token": 5, "inputs": []}', b'{"token": "a"}', b"{"]
)
def test_what_is_no_member_is_left_out_and_told_once(
    client: redis.Redis, caplog: pytest.LogCaptureFixture, member: bytes
) -> None:
    seconds, micros = client.time()
    client.zadd("tidecast:members:f", {member: 1000 * seconds + micros // 1000})
    leases = Leases(client, "f", "me", ["a"], seconds=100)
    assert [leases.members() for _ in range(2)] == [{"me": ["a"]}] * 2
    assert caplog.text.count("is no member; it is left out") == 1
    (fleet,) = fleets(client, None)
    assert fleet.error is not None
    assert "is no member" in fleet.error


def test_members_of_another_type_are_told_with_their_key_until_they_are_mended(
    client: redis.Redis, worker_of: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    add(client, 0, 5)
    client.set("tidecast:members:default", "in the way")
    worker_of(lambda: False, lambda _: client.delete("tidecast:members:default")).run()
    assert "what lies at tidecast:members:default is no sorted set" in caplog.text
    assert client.xlen("readings:forecasts") == 5


def test_groups_of_foreign_bytes_are_waited_for(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 1000)
    entries: Any = client.xrange("readings", count=300)
    for name, at in ((b"\xff", entries[-1][0]), (b"\\xff", "$"), (b"\xfe\x1b", "$")):
        client.xgroup_create("readings", name, id=at)
    drain(tidecast, model, "--trim")
    assert 700 <= client.xlen("readings") <= 800
    result = tidecast("status")
    assert (result.returncode, "Traceback" in result.stderr) == (0, False)


@pytest.mark.parametrize(
    "text", [b"\xff\x1b[2J", b"no\nJSON", b"[1]", b"{}", b'{"series": "\xc2\x9b"}', b"5", b"null"]
)
def test_foreign_messages_are_shown_harmlessly(
    client: redis.Redis, server_url: str, loaded: Commands, text: bytes
) -> None:
    board = Board()
    board.take(text)
    assert (board.heard, board.strange) == (0, 1)
    board.table()
    sent = b'{"series":"a","forecast":{}}'
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(
            loaded.run, "watch", "--plain", "--count", "2", "--redis-url", server_url
        )
        wait_for(lambda: client.pubsub_numpat() == 1)
        client.publish("forecast:x", text)
        client.publish("forecast:x", sent)
        result = watching.result()
    first, second = result.stdout.splitlines()
    assert first.isprintable()
    assert second == sent.decode()


def test_names_reach_a_board_in_printable_characters() -> None:
    nasty = "a\x1b[2J\x9b\u202e"
    record = {"series": nasty, "at": 0, "model": nasty, "version": nasty, "forecast": {nasty: [1]}}
    board = Board()
    board.take(json.dumps(record).encode())
    console = Console(width=200)
    with console.capture() as capture:
        console.print(board.table())
    assert all(line.isprintable() for line in capture.get().splitlines())


# What is told in plain words


def test_a_stream_whose_ids_begin_anew_below_the_offset_is_told(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    client.xadd("readings", {"value": 1}, id="500-0")
    drain(tidecast, model)
    client.delete("readings")
    for number in range(1, 5):
        client.xadd("readings", {"value": number}, id=f"{number}-0")
    result = tidecast("run", "--models", model, "--burst")
    assert result.returncode == 2
    assert "the stream was deleted and made anew with smaller ids" in result.stderr
    client.set("readings:offset:default", "0-0")  # as it says
    drain(tidecast, model)
    assert client.xlen("readings:forecasts") == 2


def test_ids_that_begin_anew_under_a_running_worker_are_told(
    client: redis.Redis, worker_of: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    client.xadd("readings", {"value": 1}, id="500-0")

    def meddle(step: str) -> None:
        if step == "settled" and client.xlen("readings:forecasts") == 1:
            client.delete("readings")
            client.xadd("readings", {"value": 1}, id="1-0")

    def told() -> bool:
        return "made anew with smaller ids" in caplog.text

    worker_of(told, pytest.fail, time.monotonic, burst=False, reached=meddle).run()


def test_a_server_that_evicts_is_warned_of(client: redis.Redis, server_url: str) -> None:
    notices: list[str] = []
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        connect(server_url, patience=0, notice=notices.append).close()
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    (notice,) = notices
    assert "maxmemory-policy allkeys-lru" in notice
    assert "set noeviction" in notice
    connect(server_url, patience=0, notice=pytest.fail).close()


def test_a_node_of_a_cluster_is_told_and_nothing_is_written(
    server_flavour: str, tmp_path: Path, loaded: Commands, model: Path
) -> None:
    directives = ("cluster-enabled yes",)
    with (
        Server(flavour=server_flavour, folder=tmp_path / "s", directives=directives) as server,
        server.client() as client,
    ):
        client.execute_command("CLUSTER ADDSLOTSRANGE", "0", "16383")
        wait_for(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        for words in (("run", "--models", str(model)), ("feed", "--synthetic"), ("status",)):
            result = loaded.run(*words, "--redis-url", server.url)
            assert result.returncode == 2
            assert "it is a node of a cluster" in result.stderr
        assert client.dbsize() == 0
        # Who may not ask at the start learns it here.
        with pytest.raises(ServerError, match="it is a node of a cluster"), driver_errors():
            client.mget("a", "b")


def test_metrics_are_served_on_all_addresses() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    for host in ("::", "[::]"):
        port = web.serve(web.application_of(CollectorRegistry(), {}), host, 0)
        for address in ("127.0.0.1", "[::1]"):
            with urllib.request.urlopen(f"http://{address}:{port}/metrics") as answer:
                assert answer.status == 200
