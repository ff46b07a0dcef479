"""How fast a worker is whose readings lie in many partitions.

It has taken all of them and stands still, in the midst of its life, while readings come.
"""

import signal
import time
from typing import Any

from tests.benchmarks.cases import Bench
from tests.benchmarks.streams import START_MS, fill
from tests.benchmarks.workers import command, running, wait_for

SERIES = 20_480
"""In all partitions together."""
SETTLED = 4.0
"""Seconds after which a worker has looked after all that it took."""


def rate(bench: Bench, partitions: int) -> float:
    """Return readings per second of a worker that catches up with its partitions."""
    names = [f"part:{{{number}}}" for number in range(partitions)]
    readings = bench.of(1_200_000)
    # Its lease does not run out while it stands still.
    inputs = f"part:{{0..{partitions - 1}}}" if partitions > 1 else names[0]
    words = command(bench.url, bench.small, inputs, "--from", "earliest", "--lease", 600)
    with running(words) as worker:
        wait_for(lambda: None not in _offsets(bench, names), worker)
        time.sleep(SETTLED)
        worker.send_signal(signal.SIGSTOP)
        fill(bench.client, (_words(number, names) for number in range(readings)))
        last = [bench.client.xinfo_stream(name)["last-generated-id"] for name in names]
        begin = time.perf_counter()
        worker.send_signal(signal.SIGCONT)
        wait_for(lambda: _offsets(bench, names) == last, worker)
        seconds = time.perf_counter() - begin
    bench.client.flushall()
    return readings / seconds


def _words(number: int, names: list[str]) -> list[bytes]:
    stream, place = names[number % len(names)], number // len(names)
    series = b"s%d" % (place % (SERIES // len(names)))
    at = b"%d" % (START_MS + number)
    return [b"XADD", stream.encode(), b"*", b"series", series, b"ts", at, b"value", b"50.5"]


def _offsets(bench: Bench, names: list[str]) -> list[bytes | None]:
    found: Any = bench.client.mget([f"{name}:offset:default" for name in names])
    return [offset and offset.split()[0] for offset in found]
