"""Live reads, replay and what others need, on a real server."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from tests.redis.waiting import wait_for
from tidecast.worker.errors import ServerError
from tidecast.worker.pipeline.wire import Entry, Position
from tidecast.worker.store.position import StreamFacts
from tidecast.worker.store.source import (
    FIRST_READ,
    LARGEST_READ,
    MANY,
    LiveReader,
    Streams,
)


def test_reads_of_large_entries_take_fewer_of_them(client: redis.Redis) -> None:
    large = LARGEST_READ // 5
    sizes = [large] * 40 + [10] * 60
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


def test_the_first_read_of_many_streams_takes_few_entries_of_each(client: redis.Redis) -> None:
    """Later ones take of a few streams in turn what lies in one answer together."""
    streams = [f"readings:{number}" for number in range(FIRST_READ // 2)]
    size = LARGEST_READ // 5
    for stream in streams * 10:
        client.xadd(stream, {"data": b"x" * size})
    reader = Streams(client=client, count=1000, block_ms=None).follow(dict.fromkeys(streams, "0-0"))
    reads = list(iter(reader.read, {}))
    reader.close()
    assert {stream: len(entries) for stream, entries in reads[0].items()} == dict.fromkeys(
        streams, 2
    )
    assert {sum(map(len, read.values())) for read in reads[1:]} == {4}
    turns = [stream for read in reads[1:] for stream in read]
    assert turns == streams * 2  # nobody has a second turn before all had their first


@pytest.mark.parametrize("size", [LARGEST_READ // 20, LARGEST_READ // 5 * 3])
def test_news_of_a_stream_do_not_wait_for_the_backlog_of_others(
    client: redis.Redis, size: int
) -> None:
    count = LARGEST_READ // size + 60 * (size < LARGEST_READ // 10)
    behind = [f"behind:{number}" for number in range(10)]
    pipeline = client.pipeline(transaction=False)
    for stream in behind * (count + 8):
        pipeline.xadd(stream, {"x": b"x" * size})
    pipeline.execute()
    positions = dict.fromkeys(["quiet", *behind], "0-0")
    answers: list[dict[str, list[Entry]]] = []
    with closing(Streams(client=client, count=1000, block_ms=None).follow(positions)) as reader:
        while not answers or any(stream in answers[-1] for stream in behind):
            client.xadd("quiet", {"x": 1})
            answers += [reader.read(), reader.read()]  # the first may have been made before
            assert any("quiet" in answer for answer in answers[-2:])
    assert sum(len(answer.get(stream, [])) for answer in answers for stream in behind) == 10 * (
        count + 8
    )
    assert len(answers) > 10


@pytest.mark.parametrize("large", [LARGEST_READ // 10, 2 * LARGEST_READ])
@pytest.mark.parametrize("place", ["busy", "quiet"])
def test_a_large_entry_of_long_ago_does_not_make_reads_small_for_ever(
    client: redis.Redis, large: int, place: str
) -> None:
    """Also where the stream that had it, or one that never had any, is quiet since."""
    client.xadd(place, {"x": b"x" * large})
    pipeline = client.pipeline(transaction=False)
    for number in range(20_000):
        pipeline.xadd("busy", {"x": number})
    pipeline.execute()
    streams = Streams(client=client, count=1000, block_ms=None, largest=LARGEST)
    positions = dict.fromkeys(["quiet", "busy", "empty"], "0-0")
    with closing(streams.follow(positions)) as reader:
        reads = list(iter(reader.read, {}))
    assert sum(len(read.get("busy", [])) for read in reads) == 20_000 + (place == "busy")
    assert len(reads) < 60


def test_that_nothing_came_of_very_many_streams_is_soon_known(client: redis.Redis) -> None:
    streams = [f"readings:{number}" for number in range(64)]
    for stream in streams:
        client.xadd(stream, {"x": b"x" * (LARGEST_READ // 2)})
    pulses: list[int] = []
    following = Streams(client=client, count=1000, block_ms=None)
    positions = dict.fromkeys(streams, "0-0")
    with closing(following.follow(positions, pulse=lambda: pulses.append(1))) as reader:
        assert sum(map(len, iter(reader.read, {}))) == 64
    assert 1 <= len(pulses) <= 4


def test_readers_that_follow_one_another_keep_the_turns(client: redis.Redis) -> None:
    """While a worker takes its partitions there is a new one after each read or so."""
    streams = [f"readings:{number:02}" for number in range(20)]
    for stream in streams * 20:
        client.xadd(stream, {"x": b"x" * (LARGEST_READ // 5)})
    following = Streams(client=client, count=1000, block_ms=None)
    positions, read = dict.fromkeys(streams, "0-0"), dict.fromkeys(streams, 0)
    reader = following.follow(positions)
    for _ in range(40):
        for stream, entries in reader.read().items():
            positions[stream] = entries[-1][0].decode()
            read[stream] += len(entries)
        reader.close()
        reader = following.follow(positions, reader)
    reader.close()
    assert max(read.values()) - min(read.values()) <= 6


def test_a_new_reader_knows_who_is_behind(client: redis.Redis) -> None:
    """Readers follow one another quickly while a worker takes its partitions."""
    behind = [f"behind:{number}" for number in range(20)]
    for stream in behind * 10:
        client.xadd(stream, {"x": b"x" * (LARGEST_READ // 2)})
    streams = Streams(client=client, count=1000, block_ms=None)
    with closing(streams.follow(dict.fromkeys([*behind, "quiet"], "0-0"))) as first:
        begun = first.read()
        client.xadd("quiet", {"x": 1})
        positions = {stream: entries[-1][0].decode() for stream, entries in begun.items()}
        with closing(streams.follow(positions | {"quiet": "0-0", "new": "0-0"}, first)) as second:
            assert "quiet" in second.read()


def test_a_small_entry_after_large_ones_does_not_open_the_flood_gates(client: redis.Redis) -> None:
    sizes = [LARGEST_READ // 2] * 20 + [1] * 2 + [LARGEST_READ // 2] * 20
    for size in sizes:
        client.xadd("readings", {"data": b"x" * size})
    for blocks in (
        Streams(client=client, count=1000, block_ms=None).replay("readings", "0-0", "+"),
        _all_live(client),
    ):
        counts = [len(block) for block in blocks]
        assert counts[0] == FIRST_READ
        assert sum(counts) == len(sizes)
        assert max(counts[1:]) <= 4


# What is larger than may be read at once

LARGEST = 1_000_000


def readings_of(client: redis.Redis, streams: list[str], kind: str) -> list[list[Any]]:
    """The size of each entry of each read, 0 where its fields were left out; by stream."""
    bounded = Streams(client=client, count=1000, block_ms=None, largest=LARGEST)
    if kind == "replay":
        (stream,) = streams
        reads = [{stream: block} for block in bounded.replay(stream, "0-0", "+")]
    else:
        with closing(bounded.follow(dict.fromkeys(streams, "0-0"))) as reader:
            reads = list(iter(reader.read, {}))
    return [
        [(stream, sum(map(len, fields))) for stream, some in read.items() for _, fields in some]
        for read in reads
    ]


@pytest.mark.parametrize("kind", ["live", "replay"])
def test_no_read_is_larger_than_allowed_whatever_came_before(
    client: redis.Redis, kind: str
) -> None:
    """After thousands of small entries, a thousand is asked for; they may be large now."""
    sizes = [1] * 3000 + [LARGEST // 3] * 20 + [1] * 5 + [LARGEST - 10_000] * 3 + [1] * 3000
    pipeline = client.pipeline(transaction=False)
    for size in sizes:
        pipeline.xadd("readings", {"x": b"x" * size})
    pipeline.execute()
    reads = readings_of(client, ["readings"], kind)
    assert [size - 1 for read in reads for _, size in read] == sizes
    assert max(sum(size for _, size in read) for read in reads) < 1.1 * LARGEST


@pytest.mark.parametrize("kind", ["live", "replay"])
def test_an_entry_that_is_too_large_comes_without_its_fields(
    client: redis.Redis, kind: str
) -> None:
    sizes = [1, 3 * LARGEST, 2, 9 * LARGEST, 9 * LARGEST, 3]
    for size in sizes:
        client.xadd("readings", {"x": b"x" * size})
    found = [size for read in readings_of(client, ["readings"], kind) for _, size in read]
    assert found == [0 if size > LARGEST else size + 1 for size in sizes]


def test_many_streams_of_large_entries_are_read_in_turn(client: redis.Redis) -> None:
    """And no read says that nothing came while some stream has more."""
    streams = [f"readings:{number}" for number in range(12)]
    for stream in streams[::2]:
        for size in (LARGEST // 2, LARGEST // 2, 2 * LARGEST, 5):
            client.xadd(stream, {"x": b"x" * size})
    reads = readings_of(client, streams, "live")
    for stream in streams:
        sizes = [size for read in reads for name, size in read if name == stream]
        whole = [LARGEST // 2 + 1] * 2 + [0, 6]
        assert sizes == (whole if stream in streams[::2] else [])
    assert max(sum(size for _, size in read) for read in reads) < 1.1 * LARGEST
    firsts = [next(i for i, read in enumerate(reads) if s in dict(read)) for s in streams[::2]]
    lasts = [max(i for i, read in enumerate(reads) if s in dict(read)) for s in streams[::2]]
    assert max(firsts) < min(lasts)  # none waits until another has been read to its end


@pytest.mark.parametrize("place", [0, 31, 63])
def test_one_entry_that_is_too_large_is_soon_found_among_many_streams(
    client: redis.Redis, place: int
) -> None:
    """Each answer that is too large costs its bytes, and the leases wait meanwhile."""
    streams = [f"readings:{number:02}" for number in range(64)]
    client.xadd(streams[place], {"x": b"x" * 3 * LARGEST})
    client.xadd(streams[5], {"x": 1})
    bounded = Streams(client=client, count=1, block_ms=None, largest=LARGEST)
    pulses: list[int] = []
    positions = dict.fromkeys(streams, "0-0")
    with closing(bounded.follow(positions, pulse=lambda: pulses.append(1))) as reader:
        reads = list(iter(reader.read, {}))
    found = sorted((stream, entries[0][1]) for read in reads for stream, entries in read.items())
    assert found == sorted([(streams[place], []), (streams[5], [b"x", b"1"])])
    assert len(pulses) <= 8  # 64, 32, 16, 8, 4, 2, 1, and where nothing came of the rest


@pytest.mark.parametrize("kind", ["live", "replay"])
def test_what_follows_a_large_entry_that_is_removed_meanwhile_is_not_taken_for_it(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    large: Any = client.xadd("readings", {"x": b"x" * 3 * LARGEST})
    client.xadd("readings", {"x": 1})
    asked = Streams.without_fields

    def late(*words: Any) -> list[Entry]:
        client.xdel("readings", large)
        return asked(*words)

    monkeypatch.setattr(Streams, "without_fields", late)
    assert readings_of(client, ["readings"], kind) == [[("readings", 2)]]


@pytest.mark.parametrize("size", [LARGEST // 2, LARGEST - 300, LARGEST, LARGEST + 300])
def test_an_entry_about_as_large_as_allowed_comes_one_way_or_the_other(
    client: redis.Redis, size: int
) -> None:
    client.xadd("readings", {"x": b"x" * size})
    for kind in ("live", "replay"):
        ((found,),) = readings_of(client, ["readings"], kind)
        assert found[1] in ({size + 1} if size < LARGEST - 200 else {size + 1, 0})


def test_what_is_known_of_a_stream_is_little_however_large_its_entries(
    client: redis.Redis,
) -> None:
    streams = Streams(client=client, count=1000, block_ms=None)
    assert streams.facts("readings") == StreamFacts(0, 0, None, "0-0")
    for number in (5, 6, 7):
        client.xadd("readings", {"x": b"x" * LARGEST}, id=f"{number}-0")
    client.xtrim("readings", maxlen=2, approximate=False)
    before: Any = client.info("stats")
    assert streams.facts("readings") == StreamFacts(3, 2, "6-0", "7-0")
    after: Any = client.info("stats")
    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < LARGEST
    client.xtrim("readings", maxlen=0, approximate=False)
    assert streams.facts("readings") == StreamFacts(3, 0, None, "7-0")
    client.set("other", "no stream")
    with pytest.raises(ServerError, match="WRONGTYPE"):
        streams.facts("other")


def test_what_is_known_of_many_streams_is_asked_for_together(client: redis.Redis) -> None:
    streams = Streams(client=client, count=1000, block_ms=None)
    client.xadd("a", {"x": 1}, id="5-0")
    client.set("b", "no stream")
    client.script_flush()
    facts = streams.facts_of(["a", "b", "c"])
    assert (facts["a"], facts["c"]) == (streams.facts("a"), streams.facts("c"))
    assert isinstance(facts["b"], ServerError)


def test_a_new_reader_knows_how_large_entries_were(client: redis.Redis) -> None:
    """With many streams, readers follow one another quickly as the worker takes them."""
    for _ in range(300):
        client.xadd("readings", {"x": "y" * (LARGEST_READ // 100)})
    streams = Streams(client=client, count=1000, block_ms=None)
    with closing(streams.follow({"readings": "0-0"})) as first:
        assert len(first.read()["readings"]) == FIRST_READ
        with closing(streams.follow({"readings": "0-0"}, first)) as second:
            assert 90 < len(second.read()["readings"]) <= 100


def _all_live(client: redis.Redis) -> Iterator[list[Entry]]:
    streams = Streams(client=client, count=1000, block_ms=None)
    with closing(streams.follow({"readings": "0-0"})) as reader:
        while answer := reader.read():
            yield answer["readings"]


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
    parts = (entries > at) + (entries - at > FIRST_READ)  # a few to weigh, and then many
    assert counted(streams, Position(f"{at}-0", None)) == (at, parts)
    assert counted(streams, Position(f"{at}-0", 7)) == (7, 0)  # it says so


def counted(streams: Streams, position: Position) -> tuple[int, int]:
    """Return how many entries were added up to a position, and in how many parts that was found."""
    work, parts = streams.entries_at("readings", position), 0
    while True:
        try:
            next(work)
        except StopIteration as found:
            return found.value, parts
        parts += 1


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
    assert streams.groups("readings") == {b"idle": "0-0", b"slow": "7-0", b"done": "12-0"}
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
