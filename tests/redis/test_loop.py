"""The loop on a real server, in this process: trouble that passes, and when to stop."""

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import orjson
import pytest
import redis

from tidecast.worker.pipeline.changelog import Changelog
from tidecast.worker.service.holdings import rest
from tidecast.worker.service.loop import Worker
from tidecast.worker.service.partition import Partition


def test_pauses_grow_until_a_commit_stands(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    """A full server lets the worker read and refuses its commits."""
    for value in range(3):
        client.xadd("readings", {"value": value})
    pauses: list[int] = []

    def pause(failures: int) -> None:
        pauses.append(failures)
        assert len(pauses) < 10
        if failures == 3:
            client.config_set("maxmemory", 0)

    worker = worker_of(lambda: False, pause)
    client.set("readings:offset:default", "0-0")
    client.config_set("maxmemory", 1)
    try:
        worker.run()
    finally:
        client.config_set("maxmemory", 0)
    assert pauses == [1, 2, 3]
    assert client.xlen("readings:forecasts") == 3
    assert worker.total.forecasts == 3


def test_a_stop_ends_a_replay(client: redis.Redis, worker_of: Callable[..., Worker]) -> None:
    pipeline = client.pipeline(transaction=False)
    for value in range(6001):
        pipeline.xadd("readings", {"value": value})
    *_, offset, _ = pipeline.execute()
    client.set("readings:offset:default", offset)
    asked: list[bool] = []

    def stopping() -> bool:
        asked.append(True)
        return len(asked) > 4  # not yet before the first block of 2,000

    worker = worker_of(stopping, pytest.fail)
    worker.run()
    assert len(asked) < 8  # it was in the midst of four blocks
    assert not client.exists("readings:checkpoint:default")  # of half-filled windows
    assert not client.exists("readings:forecasts")
    assert client.get("readings:offset:default") == offset


def many_in_an_entry(client: redis.Redis, entries: int, readings: int, value: object = 1.5) -> None:
    """Put entries on the stream that each hold many readings, as one document of columns."""
    body = orjson.dumps({"value": [value] * readings, "series": ["a"] * readings})
    pipeline = client.pipeline(transaction=False)
    for _ in range(entries):
        pipeline.xadd("readings", {"data": body})
    pipeline.execute()


def steps_of(worker: Worker) -> list[str]:
    """Run a worker and return the steps it reached."""
    steps: list[str] = []
    worker.reached = steps.append
    worker.run()
    return steps


def test_leases_are_renewed_within_a_commit(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    """Each look at the clock takes a second, a third of a lease three of them."""
    many_in_an_entry(client, entries=1, readings=20_000)
    worker = worker_of(lambda: False, pytest.fail, map(float, count()).__next__)
    steps = steps_of(worker)
    assert client.xlen("readings:forecasts") == 20_000
    assert steps[steps.index("read") : steps.index("stepped")].count("renewed") > 1


def test_leases_are_renewed_between_the_commits_of_a_read(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    many_in_an_entry(client, entries=200, readings=600, value="x")  # rejects need no model
    worker = worker_of(lambda: False, pytest.fail, map(float, count()).__next__, read_size=200)
    steps = steps_of(worker)
    assert client.xlen("readings:dead") == 120_000
    reads = [place for place, step in enumerate(steps) if step == "read"]
    first = steps[reads[0] : reads[1]]
    assert first.count("sent") > 3
    last = max(place for place, step in enumerate(first) if step == "sent")
    assert first[:last].count("renewed") > 1


def test_leases_are_renewed_while_a_long_read_is_replayed(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    many_in_an_entry(client, entries=300, readings=2000)
    newest: Any = client.xrevrange("readings", count=1)
    client.set("readings:offset:default", newest[0][0])
    worker = worker_of(lambda: False, pytest.fail, map(float, count()).__next__)
    steps = steps_of(worker)
    replay = steps[steps.index("acquired") : steps.index("restored")]
    assert replay.count("renewed") > 1


def test_leases_are_renewed_while_one_long_entry_is_replayed(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    """An array is parsed in slices; by itself, the replay of one entry is one part of the work."""
    readings = [{"value": 1, "x": {"y": {}, "z": []}}] * 95_000  # heavier parsed than as text
    entry: Any = client.xadd("readings", {"data": orjson.dumps(readings)})
    client.set("readings:offset:default", entry)
    worker = worker_of(lambda: False, pytest.fail, map(float, count()).__next__, lease=3.0)
    steps = steps_of(worker)
    replay = steps[steps.index("acquired") : steps.index("restored")]
    assert replay.count("renewed") > 6


def test_a_stop_ends_a_long_read_after_the_commit_in_hand(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    many_in_an_entry(client, entries=100, readings=2000)
    steps: list[str] = []
    worker = worker_of(lambda: "sent" in steps, pytest.fail, read_size=100)
    worker.reached = steps.append
    worker.run()
    assert steps.count("sent") == 1
    assert client.xlen("readings:forecasts") == worker.total.forecasts < 200_000
    again = worker_of(lambda: False, pytest.fail, read_size=100)
    again.run()
    assert client.xlen("readings:forecasts") == 200_000


@pytest.mark.parametrize(
    ("seconds", "between"), [(0.0, 5.0), (0.1, 5.0), (0.2, 8.0), (1.0, 40.0), (60.0, 50.0)]
)
def test_slow_checkpoints_come_less_often(seconds: float, between: float) -> None:
    assert rest(5.0, seconds, 0.025) == pytest.approx(between)


@pytest.mark.parametrize(("seconds", "times"), [(0.0, 40), (1.0, 5)])
def test_a_worker_saves_as_often_as_its_saves_allow(
    client: redis.Redis,
    worker_of: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    times: int,
) -> None:
    """Over 205 seconds of its own clock, with a checkpoint every five where they cost nothing."""
    client.xadd("readings", {"value": 1})
    now, saved = [0.0], []

    def clock() -> float:
        now[0] += 0.01
        return now[0]

    worker = worker_of(lambda: now[0] > 205, pytest.fail, clock, burst=False)
    save = worker.recovery.save

    def slow(
        stream: str, partition: Partition, pulse: Callable[[], object], *, whole: bool
    ) -> None:
        save(stream, partition, pulse, whole=whole)
        now[0] += seconds
        saved.append(now[0])

    monkeypatch.setattr(worker.recovery, "save", slow)
    worker.run()
    at_the_end = 1
    assert abs(len(saved) - at_the_end - times) <= times / 10 + 1, saved


def test_a_first_checkpoint_is_soon_finished_and_its_age_counts_from_then(
    client: redis.Redis, worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of six parts takes 0.05 s, and so has a rest of 2; later saves come every five."""
    client.xadd("readings", {"value": 1})
    now, saved, stands = [0.0], list[float](), list[float]()
    monkeypatch.setattr(Changelog, "is_complete", property(lambda _: len(saved) >= 6))

    def clock() -> float:
        now[0] += 0.01
        return now[0]

    worker = worker_of(lambda: len(saved) >= 8, pytest.fail, clock, burst=False)
    save = worker.recovery.save

    def slow(
        stream: str, partition: Partition, pulse: Callable[[], object], *, whole: bool
    ) -> None:
        save(stream, partition, pulse, whole=whole)
        stands.append(partition.stands_since)
        now[0] += 0.05
        saved.append(now[0])

    monkeypatch.setattr(worker.recovery, "save", slow)
    worker.run()
    pauses = np.diff(saved[:8])
    assert (np.abs(pauses[:5] - 2) < 1.1).all(), pauses
    assert (np.abs(pauses[5:] - 5) < 1.1).all(), pauses
    assert stands[:6] == [float("-inf")] * 6
    assert stands[6] == pytest.approx(saved[5], abs=0.1)


def test_leases_last_while_many_partitions_are_taken_and_saved(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    """Each of 30 partitions takes a while to get, all of them several leases."""
    client.xadd("many:{29}", {"value": 1})
    beats = []

    def slowly(step: str) -> None:
        if step in {"acquired", "saved"}:
            time.sleep(0.2)
        beats.append(worker.health.beat_at)

    worker = worker_of(
        lambda: False,
        lambda _: None,
        time.monotonic,
        reached=slowly,
        lease=4.0,
        input="many:{0..29}",
    )
    worker.run()
    assert worker.total.rebuilds == 0
    assert worker.total.forecasts == 1
    assert worker.health.outage == "stopped"
    assert len(set(beats)) > 30  # it said that it lives all the time


def test_a_loss_is_counted_once_however_often_the_connection_breaks(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    for value in range(3):
        client.xadd("readings", {"value": value})
    worker_of(lambda: False, lambda _: None).run()
    for value in range(10):
        client.xadd("readings", {"value": value})
    client.xtrim("readings", maxlen=0, approximate=False)
    lost = []
    for _ in range(3):  # each takes its state from the server anew
        again = worker_of(lambda: False, lambda _: None)
        again.run()
        lost.append(again.total.lost)
    assert lost == [10, 0, 0]


def lost_by(worker: Worker) -> int:
    """Run a worker to the stream's end and return how many entries it found removed unread."""
    worker.run()
    return worker.total.lost


def test_a_loss_that_was_told_is_stored_with_the_offset(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    """So it is not told again, though no checkpoint and no commit came after it."""
    for value in range(3):
        client.xadd("readings", {"value": value})
    worker_of(lambda: False, lambda _: None).run()
    for value in range(10):
        client.xadd("readings", {"value": value})
    client.xtrim("readings", maxlen=0, approximate=False)
    offset: Any = client.get("readings:offset:default")
    assert lost_by(worker_of(lambda: False, pytest.fail)) == 10
    client.delete("readings:checkpoint:default")
    client.xgroup_destroy("readings", "tidecast:default")
    assert client.get("readings:offset:default") == offset.replace(b" 3", b" 13")
    assert lost_by(worker_of(lambda: False, pytest.fail)) == 0


def test_a_loss_is_told_by_whoever_holds_the_lease(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    """Who has lost it cannot store the count; the next owner finds it again."""
    client.xadd("readings", {"value": 1})
    worker_of(lambda: False, lambda _: None).run()
    client.xadd("readings", {"value": 2})
    client.xtrim("readings", maxlen=0, approximate=False)

    def rob(step: str) -> None:
        if step == "restored":
            client.set("readings:lease:default", "another")

    robbed: Worker = worker_of(lambda: robbed.total.rebuilds > 0, pytest.fail, reached=rob)
    robbed.run()
    value: Any = client.get("readings:offset:default")
    assert value.endswith(b" 1")
    client.delete("readings:lease:default")
    assert lost_by(worker_of(lambda: False, pytest.fail)) == 1


def test_a_stream_made_anew_is_followed_and_its_losses_are_told(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    for value in range(30):
        client.xadd("readings", {"value": value})
    assert lost_by(worker_of(lambda: False, pytest.fail)) == 0
    client.delete("readings")
    for value in range(10):
        client.xadd("readings", {"value": value})
    assert lost_by(worker_of(lambda: False, pytest.fail)) == 0
    assert client.xlen("readings:forecasts") == 40
    for value in range(10):
        client.xadd("readings", {"value": value})
    client.xtrim("readings", maxlen=4, approximate=False)
    assert lost_by(worker_of(lambda: False, pytest.fail)) == 6
    assert client.xlen("readings:forecasts") == 44
