"""Live reads, replay and what others need, on a real server."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from tests.redis.waiting import wait_for
from tidecast.worker.pipeline.wire import Position
from tidecast.worker.store.source import FIRST_READ, LARGEST_READ, MANY, LiveReader, Streams


def test_reads_of_large_entries_take_fewer_of_them(client: redis.Redis) -> None:
    large = LARGEST_READ // 5
    sizes = [large] * 40 + [10] * 40
    for size in sizes:
        client.xadd("readings", {"data": b"x" * size})
    reader = Streams(client=client, count=20, block_ms=None).follow({"readings": "0-0"})
    reads = []
    while entries := reader.read().get("readings"):
        reads.append([len(fields[1]) for _, fields in entries])
    reader.close()
    assert [size for read in reads for size in read] == sizes
    assert len(reads[0]) == FIRST_READ  # nothing is known of them yet
    assert len(reads[2]) <= 5
    assert len(reads[-2]) == 20  # and back, where they are small


@pytest.mark.parametrize("streams", [("big", "small"), ("small", "big")])
def test_the_larger_entries_of_several_streams_count(
    client: redis.Redis, streams: tuple[str, str]
) -> None:
    for number in range(60):
        client.xadd("small", {"data": b"x"})
        # Now and then a small one among the large, that says nothing of the others.
        client.xadd("big", {"data": b"x" * (LARGEST_READ // 5 if number % 16 != 15 else 1)})
    positions = dict.fromkeys(streams, "0-0")
    reader = Streams(client=client, count=1000, block_ms=None).follow(positions)
    reads = []
    while answer := reader.read():
        reads.append(len(answer.get("big", [])))
    reader.close()
    assert sum(reads) == 60
    assert max(reads[1:]) <= 6


# When a live reader asks, and when it takes


def add(client: redis.Redis, count: int) -> None:
    """Add entries, numbered from the stream's length on."""
    pipeline = client.pipeline(transaction=False)
    for number in range(first := int(client.xlen("readings")), first + count):
        pipeline.xadd("readings", {"value": number}, id=f"{number + 1}-0")
    pipeline.execute()


@pytest.fixture
def reader(client: redis.Redis) -> Iterator[LiveReader]:
    """A reader that never waits for news, has seen that entries are small, and rests."""
    streams = Streams(client=client, count=1000, block_ms=None)
    with closing(streams.follow({"readings": "0-0"})) as reader:
        assert reader.read() == {}
        add(client, FIRST_READ)
        assert size(reader.read()) == FIRST_READ
        assert reader.read() == {}
        yield reader


def size(answer: dict[str, Any]) -> int:
    return len(answer.get("readings", []))


def asked(client: redis.Redis) -> int:
    """How many reads the server has answered, each answer on its way."""
    stats: Any = client.info("commandstats")
    client.ping()  # what is answered in one turn of the server is sent before the next
    return int(stats["cmdstat_xread"]["calls"])


def test_after_little_nothing_is_asked_before_it_is_wanted(
    client: redis.Redis, reader: LiveReader
) -> None:
    add(client, 3)
    assert size(reader.read()) == 3
    assert reader.caught_up
    reader.look_ahead()
    add(client, 1)
    assert size(reader.read()) == 1  # an answer made before would be empty


def test_after_many_the_next_is_asked_for_before_other_work(
    client: redis.Redis, reader: LiveReader
) -> None:
    add(client, 200)
    assert (size(reader.read()), reader.caught_up) == (200, False)
    before = asked(client)
    reader.look_ahead()
    wait_for(lambda: asked(client) == before + 1)
    add(client, 1)
    reader.look_ahead()
    assert (size(reader.read()), reader.caught_up) == (0, True)  # as it stood when it was asked for
    assert size(reader.read()) == 1


def test_after_many_a_read_alone_asks(client: redis.Redis, reader: LiveReader) -> None:
    add(client, 200)
    assert size(reader.read()) == 200
    add(client, 1)
    assert size(reader.read()) == 1


def test_a_full_answer_is_taken_before_other_work_and_held_until_it_is_read(
    client: redis.Redis, reader: LiveReader
) -> None:
    add(client, 2500)
    before = asked(client)
    assert size(reader.read()) == 1000
    wait_for(lambda: asked(client) == before + 2)
    reader.look_ahead()
    wait_for(lambda: asked(client) == before + 3)  # who has taken one that is full asks again
    reader.look_ahead()  # one is held: the next stays where it is
    assert not reader.caught_up
    assert [size(reader.read()) for _ in range(3)] == [1000, 500, 0]


def test_a_small_answer_that_is_held_leaves_no_time(
    client: redis.Redis, reader: LiveReader
) -> None:
    add(client, 1000)
    before = asked(client)
    assert size(reader.read()) == 1000
    wait_for(lambda: asked(client) == before + 2)
    reader.look_ahead()
    assert (reader.caught_up, size(reader.read()), reader.caught_up) == (False, 0, True)


# Replay


@pytest.mark.parametrize("entries", [0, 1, 4, 5, 6, 10, 11])
def test_a_replay_gives_every_entry_once_however_the_blocks_fall(
    client: redis.Redis, entries: int
) -> None:
    add(client, entries)
    streams = Streams(client=client, count=1, block_ms=None)
    blocks = list(streams.replay("readings", "0-0", "+", count=5))
    assert [len(block) for block in blocks[:-1]] == [5] * (len(blocks) - 1)
    found = [entry_id for block in blocks for entry_id, _ in block]
    assert found == [b"%d-0" % number for number in range(1, entries + 1)]


def test_a_replay_lies_between_two_ids(client: redis.Redis) -> None:
    add(client, 9)
    streams = Streams(client=client, count=1, block_ms=None)
    blocks = list(streams.replay("readings", "2-0", "7-0", count=2))
    assert [[entry_id for entry_id, _ in block] for block in blocks] == [
        [b"3-0", b"4-0"],
        [b"5-0", b"6-0"],
        [b"7-0"],
    ]


# What was removed unread


@pytest.mark.parametrize(("removed", "unread"), [(0, 0), (4, 0), (7, 3), (10, 6)])
def test_removed_unread_on_a_server(client: redis.Redis, removed: int, unread: int) -> None:
    add(client, 10)
    client.xtrim("readings", maxlen=10 - removed, approximate=False)
    here = Position("4-0", 4)
    facts = Streams(client=client, count=1, block_ms=None).facts("readings", here)
    assert facts.removed_unread(here) == unread


@pytest.mark.parametrize(
    ("held", "read", "unread"),
    [
        pytest.param(MANY, 1, 1, id="near"),
        pytest.param(MANY + 1, 1, None, id="not near"),
        pytest.param(MANY + 2, 500, None, id="near by a count from before it was made anew"),
    ],
)
def test_a_hole_is_told_once_the_reader_is_near(
    client: redis.Redis, held: int, read: int, unread: int | None
) -> None:
    """Counting what lies behind takes the longer the more that is."""
    add(client, held + 1)
    client.xdel("readings", "3-0")
    here = Position("1-0", read)
    facts = Streams(client=client, count=1, block_ms=None).facts("readings", here)
    assert facts.removed_unread(here) == unread


@pytest.mark.parametrize("entries", [0, 4, 2500])
def test_an_offset_set_by_hand_is_counted(client: redis.Redis, entries: int) -> None:
    add(client, entries)
    client.xtrim("readings", maxlen=2450, approximate=False)
    streams = Streams(client=client, count=1, block_ms=None)
    at = entries // 2
    assert streams.entries_at("readings", Position(f"{at}-0", None)) == at
    assert streams.entries_at("readings", Position(f"{at}-0", 7)) == 7  # it says so


# What others need


def test_a_group_needs_what_it_has_not_acknowledged(client: redis.Redis) -> None:
    add(client, 20)
    for name in ("idle", "slow", "done"):
        client.xgroup_create("readings", name, id="0")
    for name, count in (("slow", 15), ("done", 12)):
        client.xreadgroup(name, "somebody", {"readings": ">"}, count=count)
    client.xack("readings", "done", *[f"{number}-0" for number in range(1, 13)])
    client.xack("readings", "slow", *[f"{number}-0" for number in range(1, 16) if number != 7])
    streams = Streams(client=client, count=1, block_ms=None)
    assert streams.groups("readings") == {"idle": "0-0", "slow": "7-0", "done": "12-0"}
    assert streams.groups("nothing") == {}


def test_each_replay_gives_its_connection_back(client: redis.Redis, server_url: str) -> None:
    """Also one that is left in the midst."""
    add(client, 5)
    with redis.Redis.from_url(server_url, protocol=2, max_connections=1) as narrow:
        streams = Streams(client=narrow, count=2, block_ms=None)
        for _ in range(3):
            parts = list(streams.replay("readings", "1-0", "4-0", count=2))
            assert [[entry for entry, _ in part] for part in parts] == [[b"2-0", b"3-0"], [b"4-0"]]
            with closing(streams.replay("readings", "0-0", "5-0", count=2)) as left:  # type: ignore[type-var]  # a generator
                assert next(left)[0][0] == b"1-0"
