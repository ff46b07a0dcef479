"""What befalls one partition, and what of it the others notice: nothing."""

import logging
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.redis.campaigns import end, nursery
from tests.redis.partition_campaigns import in_the_way
from tests.redis.servers import Server
from tests.redis.waiting import wait_for
from tidecast.worker.errors import LeaseError, ServerError, WrongKeyError
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.wire import Position
from tidecast.worker.service import holdings
from tidecast.worker.service.holdings import Holdings
from tidecast.worker.service.loop import Worker
from tidecast.worker.service.metrics import WorkerCollector
from tidecast.worker.service.partition import Partition, State
from tidecast.worker.service.share import share_out
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.connection import RawConnection
from tidecast.worker.store.keys import checkpoint_key, lease_key
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.source import FIRST_READ, LiveReader, Streams

TWO = ("one", "two")


def feed(client: redis.Redis, stream: str, count: int = 1) -> None:
    """Put readings on a stream, each of which is forecast."""
    pipeline = client.pipeline(transaction=False)
    for value in range(count):
        pipeline.xadd(stream, {"value": value})
    pipeline.execute()


def ran(
    worker_of: Callable[..., Worker], done: Callable[[Worker], bool], **wish: Any
) -> tuple[Worker, list[str]]:
    """Run a worker until something is so; return it and the steps it has reached."""
    last, steps = time.monotonic() + 120, list[str]()

    def stopping() -> bool:
        assert time.monotonic() < last
        return done(worker)

    worker = worker_of(stopping, pytest.fail, time.monotonic, burst=False, input=TWO, **wish)
    reached = worker.reached

    def noted(step: str) -> None:
        steps.append(step)
        reached(step)

    worker.reached = noted
    worker.run()
    return worker, steps


def test_an_offset_that_somebody_moved_is_taken_for_that_partition_alone(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    for stream in TWO:
        feed(client, stream, 3)

    def meddle(step: str) -> None:
        both = all(client.xlen(f"{stream}:forecasts") == 3 for stream in TWO)
        if step == "settled" and both and client.xlen("one") == 3:
            client.set("one:offset:default", "0-0")
            for stream in TWO:
                feed(client, stream)

    worker, steps = ran(
        worker_of, lambda _: client.xlen("one:forecasts") == 3 + 4, read_size=100, reached=meddle
    )
    assert steps.count("restored") == 3
    assert client.xlen("two:forecasts") == 4
    assert (worker.total.rebuilds, worker.total.reconnects) == (1, 0)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_partition_is_restored_in_parts_while_another_works(
    client: redis.Redis, worker_of: Callable[..., Worker], *, by_hand: bool
) -> None:
    """Also where all that lies behind an offset set by hand is to be counted."""
    feed(client, "one", 20_001)
    feed(client, "two", 200)
    last: Any = client.xinfo_stream("one")["last-generated-id"]
    client.set("one:offset:default", "0-1" if by_hand else last)
    both, started = [State.RUNNING] * 2, set[bool]()

    def done(worker: Worker) -> bool:
        if [*worker.states.values()] == both:
            return True
        started.add(worker.health.started)
        return False

    worker, steps = ran(worker_of, done, read_size=50)
    assert (started, worker.health.started) == ({False}, True)
    first = steps.index("restored")
    between = steps[first : steps.index("restored", first + 1)]
    assert between.count("sent") > 2
    assert client.xlen("one:forecasts") == 0


def test_who_reads_more_streams_knows_how_large_entries_were(
    client: redis.Redis, worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As each stream that is taken begins the read anew; and its leases are renewed meanwhile."""
    feed(client, "one", 20_001)
    client.set("one:offset:default", client.xinfo_stream("one")["last-generated-id"])
    feed(client, "two", 200)
    counts, pulses = dict[int, int](), list[Any]()
    send, follow = RawConnection.send, Streams.follow

    def noted(connection: RawConnection, *words: Any) -> None:
        if words[0] == "XREAD":
            counts.setdefault(len(words), words[2])
        send(connection, *words)

    def followed(streams: Streams, positions: Any, like: Any, pulse: Any) -> LiveReader:
        pulses.append(pulse)
        return follow(streams, positions, like, pulse)

    monkeypatch.setattr(RawConnection, "send", noted)
    monkeypatch.setattr(Streams, "follow", followed)
    worker, _ = ran(worker_of, lambda _: len(counts) == 2, read_size=1000)
    of_one, of_both = (counts[size] for size in sorted(counts))
    assert (of_one, of_both) == (FIRST_READ, 1000)
    assert {pulse.__func__ for pulse in pulses} == {Holdings.renew}
    assert client.xlen("two:forecasts") == 200
    assert worker.total.rebuilds == 0


def test_shares_are_computed_where_something_has_changed(
    client: redis.Redis, worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[object] = []

    def shared(*words: Any) -> dict[str, str]:
        computed.append(words)
        return share_out(*words)

    monkeypatch.setattr(holdings, "share_out", shared)
    looks: list[str] = []
    ran(worker_of, lambda _: looks.count("renewed") > 5, lease=0.5, reached=looks.append)
    assert len(computed) <= 3  # nobody has anything, then this worker has, and is a member
    assert client.exists("one:lease:default") == 0


def test_windows_are_made_while_a_quiet_stream_has_no_news(
    client: redis.Redis, worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are eleven parts, and no read between them waits for news."""
    feed(client, "one", 20_001)
    client.set("one:offset:default", client.xinfo_stream("one")["last-generated-id"])
    both, reads = [State.RUNNING] * 2, list[tuple[object, ...]]()
    send = RawConnection.send

    def noted(connection: RawConnection, *words: str | bytes | int) -> None:
        if words[0] == "XREAD":
            reads.append(words)
        send(connection, *words)

    monkeypatch.setattr(RawConnection, "send", noted)

    def meddle(step: str) -> None:
        if step == "restored":
            feed(client, "two")  # so that the last read does not wait, either

    ran(
        worker_of,
        lambda worker: [*worker.states.values()] == both,
        reached=meddle,
        block_ms=100,
    )
    assert len(reads) > 8
    assert sum("BLOCK" in words for words in reads) < 4  # those once all is made


def test_a_worker_is_ready_while_one_of_its_partitions_is_in_trouble(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    for stream in TWO:
        feed(client, stream)
    client.set("one:dead", "a string")
    told: list[Any] = []

    def ask(worker: Worker) -> bool:
        if worker.total.forecasts and worker.health.outage is None:
            told.append((worker.health.not_started(), worker.health.not_ready(), worker.states))
            told.append({m.name: m.samples for m in WorkerCollector(worker).collect()})
        return bool(told)

    _, steps = ran(worker_of, ask)
    assert steps.count("acquired") == 1  # a key in the way is seen before there is work
    assert told[0] == (None, None, {"one": State.TROUBLE, "two": State.RUNNING})
    states = told[1]["tidecast_partition_state"]
    stands = {(s.labels["stream"], s.labels["state"]) for s in states if s.value}
    assert stands == {("one", "trouble"), ("two", "running")}
    assert len(states) == 2 * len(State)


def test_a_worker_is_not_ready_while_all_its_partitions_are_in_trouble(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    for stream in TWO:
        client.set(stream, "a string")
    worker, _ = ran(worker_of, lambda worker: worker.health.stuck is not None)
    assert worker.health.started
    assert "what lies at one is no stream" in (worker.health.stuck or "")


def test_trouble_and_its_end_are_told_once_with_the_key(
    client: redis.Redis, worker_of: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    for stream in TWO:
        feed(client, stream)
    since: list[str] = []

    def meddle(step: str) -> None:
        if not since and step == "settled" and client.exists(*(f"{s}:forecasts" for s in TWO)) == 2:
            client.rename("one", "aside")
            client.set("one", "a string")
            since.append(step)
        elif since:
            since.append(step)
            if step == "renewed" and since.count(step) == 3:  # it has been tried again
                client.rename("aside", "one")
                feed(client, "one")

    with caplog.at_level(logging.INFO):
        _, steps = ran(
            worker_of, lambda worker: worker.total.forecasts == 3, lease=1.0, reached=meddle
        )
    told = [record.getMessage() for record in caplog.records if "trouble" in record.getMessage()]
    assert len(told) == 2, told
    assert told[0].startswith("one is in trouble: what lies at one is no stream; TYPE one tells")
    assert told[1].startswith("one is out of trouble after ")
    assert steps.count("restored") == 3
    assert client.xlen("one:forecasts") == 2


def test_the_commit_of_another_stream_stands_behind_one_that_is_refused(
    client: redis.Redis,
) -> None:
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    for stream, owner in (("one", "another"), ("two", "me")):
        client.set(f"{stream}:lease:default", owner)
        committer.begin(stream, Position("0-0", 0))
    for stream in TWO:
        committer.send(stream, "0-0", Position("5-0", 1), [b"a"], [b"{}"], [])
    with pytest.raises(LeaseError, match="one: its lease is held by another"):
        committer.settle(but=1)
    assert committer.under_way == 1
    committer.settle()
    assert (client.xlen("one:forecasts"), client.xlen("two:forecasts")) == (0, 1)
    committer.close()


TYPED = {"input", "forecasts", "dead", "offset", "lease", "checkpoint", "fleets"}


@pytest.mark.parametrize("name", sorted(TYPED))
def test_a_key_of_another_type_is_named(client: redis.Redis, name: str) -> None:
    leases = Leases(client, "default", "me", ["one"], seconds=600)
    leases.check("one")  # nothing lies there yet
    beside = {"input": "one"} | {name: f"one:{name}" for name in ("forecasts", "dead", "fleets")}
    key = beside.get(name, f"one:{name}:default")
    undo = in_the_way(lambda _: key)(client, "one")
    with pytest.raises(WrongKeyError, match=f"what lies at {key} is no "):
        leases.check("one")
    undo()
    leases.check("one")


def test_a_key_that_is_closed_to_the_user_is_named(client: redis.Redis, server_url: str) -> None:
    rules = ["reset", "on", "nopass", "+@all", "~one", "~one:dead", "~one:[olc]*"]
    client.execute_command("ACL SETUSER", "clerk", *rules)  # type: ignore[no-untyped-call]
    login: dict[str, Any] = {"username": "clerk", "password": "x"}
    with (
        redis.Redis.from_url(server_url, protocol=2, **login) as clerk,
        pytest.raises(ServerError, match="refuses one:forecasts to this worker's user"),
    ):
        Leases(clerk, "default", "me", ["one"], seconds=600).check("one")


def test_what_is_refused_to_one_worker_goes_to_another(
    tmp_path: Path, durable_server: Server
) -> None:
    with nursery(tmp_path / "nursery") as home, durable_server.client() as client:
        rules = ["reset", "on", ">secret", "+@all", "&*", "~one*", "~tidecast*", "~two:[olcd]*"]
        client.execute_command("ACL SETUSER", "clerk", *rules, "~two")
        url = f"redis://clerk:secret@127.0.0.1:{durable_server.port}"
        clerk = home.start(url, *TWO, longest_pause=5.0)  # in which others may see to it
        for stream in TWO:
            feed(client, stream, 10)
        wait_for(lambda: client.xlen("one:forecasts") > 0)
        wait_for(lambda: "two is in trouble: the server refuses" in home.log.read_text())
        assert not client.exists("two:forecasts")
        # It has more to do already, so the stream would be the clerk's, did that still follow it.
        chief = home.start(durable_server.url, "two", "three", "four")
        wait_for(lambda: client.xlen("two:forecasts") > 0)
        for pid in (clerk, chief):
            end(pid, signal.SIGTERM)


def test_members_that_follow_different_streams_agree_who_takes_one(
    tmp_path: Path, durable_server: Server
) -> None:
    """Where each saw the leases of its own streams alone, both would leave ``two`` to the other."""
    with nursery(tmp_path / "nursery") as home, durable_server.client() as client:
        workers = [home.start(durable_server.url, "one", "two")]
        feed(client, "two", 10)
        wait_for(lambda: client.xlen("two:forecasts") > 0)
        workers.append(home.start(durable_server.url, "two", "three", "four"))
        for stream in ("three", "four"):
            feed(client, stream, 10)
            wait_for(lambda s=stream: client.xlen(f"{s}:forecasts") > 0)  # type: ignore[misc]
        for _ in range(50):  # in which everybody looks after the shares more than once
            before = client.xlen("two:forecasts")
            feed(client, "two", 1)
            wait_for(lambda b=before: client.xlen("two:forecasts") > b)  # type: ignore[misc]
        for pid in workers:
            end(pid, signal.SIGTERM)


def test_who_was_heard_of_before_the_clock_was_set_back_does_not_count(client: redis.Redis) -> None:
    leases = Leases(client, "default", "me", ["one"], seconds=10)
    leases.members()
    now = client.time()[0] * 1000
    for name, at in (("early", now - 20_000), ("late", now + 20_000), ("near", now + 5000)):
        client.zadd("tidecast:members:default", {f'{{"token":"{name}","inputs":["one"]}}': at})
    assert set(leases.members()) == {"me", "near"}


def test_a_member_that_follows_less_is_listed_once(client: redis.Redis) -> None:
    leases = Leases(client, "default", "me", TWO, seconds=600)
    assert leases.members() == {"me": ["one", "two"]}
    assert leases.members(["one"]) == {"me": ["two"]}
    assert client.zcard("tidecast:members:default") == 1
    leases.leave()
    assert not client.exists("tidecast:members:default")


def test_the_lag_is_what_lies_behind_the_offset(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    feed(client, "one", 5)
    seen: list[float] = []

    def look(step: str) -> None:
        if step == "sent":
            told = {m.name: m.samples for m in WorkerCollector(workers[0]).collect()}
            seen.append(told["tidecast_partition_lag_entries"][0].value)

    workers = [worker_of(lambda: False, pytest.fail, input="one", reached=look)]
    workers[0].run()
    assert seen == [4, 3, 2, 1, 0]


def test_a_commit_that_is_refused_late_costs_its_partition_alone(
    client: redis.Redis, worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is lost with a commit under way, which is heard of when it is to be taken again."""
    for stream in TWO:
        feed(client, stream, 20)
    now, sent, lost = [0.0], Counter[str](), list[str]()
    true = Holdings.send

    def send(held: Holdings, stream: str, partition: Partition, commit: Commit) -> bool:
        sent[stream] += 1
        if stream == "one" and sent["one"] == 5:
            client.delete(lease_key("one", "default"))
        done = true(held, stream, partition, commit)
        if stream == "one" and sent["one"] == 5:
            now[0] += 3.5  # it is time to renew
            lost.append(stream)
        elif lost == ["one"]:
            now[0] += 1.1  # it is time to look after partitions
            lost.append(stream)
        return done

    monkeypatch.setattr(Holdings, "send", send)
    options = {"input": "one,two", "checkpoint_every": 1000.0}
    worker_of(lambda: False, lambda _: None, lambda: now[0] + time.monotonic(), **options).run()
    assert lost == ["one", "two"]
    assert {stream: client.xlen(f"{stream}:forecasts") for stream in TWO} == dict.fromkeys(TWO, 20)


def test_columns_of_another_layout_are_refused_by_name(
    client: redis.Redis, worker_of: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    feed(client, "one", 5)
    worker_of(lambda: False, pytest.fail, input="one").run()
    key = checkpoint_key("one", "default")
    saved: Any = client.hget(key, "manifest")
    client.hset(key, "manifest", saved.replace(b'"windows":1', b'"windows":7'))
    feed(client, "one", 5)
    worker_of(lambda: False, pytest.fail, input="one").run()
    assert "its columns 'windows' have layout 7, this worker reads 1" in caplog.text
    assert client.xlen("one:forecasts") == 10
