"""Live reads on a real server."""

import redis

from worker.source import LARGEST_READ, Streams


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
    assert len(reads[0]) == 20  # nothing is known of them yet
    assert len(reads[2]) <= 5
    assert len(reads[-2]) == 20  # and back, where they are small
