"""Live reads on a real server."""

import pytest
import redis

from tidecast.worker.store.source import FIRST_READ, LARGEST_READ, Streams


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
