"""From a reading sent to its forecast heard, in milliseconds."""

import re
import select
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import hiredis
import numpy as np

from tests.benchmarks.cases import Bench
from tests.benchmarks.streams import xadd
from tests.benchmarks.workers import added, clear, command, running, wait_for
from tidecast.worker.store.connection import packed
from tidecast.worker.store.keys import offset_key

SERIES = 10
WARM = 0.2
"""The share of a run that does not count."""
PATIENCE = 20.0
"""Seconds to wait for the last forecast, which comes after all the others."""


@dataclass
class Probe:
    """Sends readings at a steady rate, never waiting for an answer, and hears their forecasts.

    The time of a reading is its number, so a forecast tells which one it belongs to.
    """

    path: str
    stream: str
    heard: dict[int, float] = field(default_factory=dict)
    sent: dict[int, float] = field(default_factory=dict)

    def run(self, rate: float, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the milliseconds of each reading that was forecast, the first ones left out."""
        with ExitStack() as stack:
            sender, listener = (stack.enter_context(self._connected()) for _ in range(2))
            listener.sendall(packed([b"PSUBSCRIBE", b"forecast:probe-*"]))
            self._loop(sender, listener, rate, seconds)
        waits = [
            1000 * (at - self.sent[number])
            for number, at in self.heard.items()
            if number >= WARM * rate * seconds
        ]
        return np.array(waits)

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        return connection

    def _loop(
        self, sender: socket.socket, listener: socket.socket, rate: float, seconds: float
    ) -> None:
        reader, number, start = hiredis.Reader(), 0, time.perf_counter()
        last = int(rate * seconds) - 1
        while (now := time.perf_counter()) < start + seconds + PATIENCE and last not in self.heard:
            due = start + number / rate if number <= last else now + 1.0
            ready, _, _ = select.select([sender, listener], [], [], max(0.0, due - now))
            now = time.perf_counter()
            if listener in ready:
                reader.feed(listener.recv(1 << 20))
                while (message := reader.gets()) is not False:
                    self._take(message, now)
            if sender in ready:
                sender.recv(1 << 20)
            if now >= due:
                self.sent[number] = time.perf_counter()
                sender.sendall(xadd(self.stream, f"probe-{number % SERIES}", number, 50.5))
                number += 1

    def _take(self, message: list[bytes], now: float) -> None:
        found = re.search(rb'"at":(\d+)', message[3]) if message[0] == b"pmessage" else None
        if found:
            self.heard[int(found[1])] = now


def latency(
    bench: Bench, words: list[str], rate: float, seconds: float, *, load: float = 0
) -> tuple[float, float]:
    """Return median and 99th percentile of the milliseconds that a process takes.

    Args:
        bench: where.
        words: the process, a worker or the relay, that follows the stream ``live``.
        rate: readings per second that are timed.
        seconds: for how long.
        load: further readings per second of 1,000 other series, from the worker's own ``feed``.
    """
    client = bench.client
    client.xadd("live", {"series": "first", "ts": 1, "value": 1})
    with running(words) as process, ExitStack() as stack:
        wait_for(lambda: bool(client.exists(offset_key("live", "default"))), process)
        if load:
            stack.enter_context(running(_feed(bench.url, f"{load:.0f}")))
            time.sleep(3.0)  # until it has started and every series has its window
        waits = Probe(bench.url.removeprefix("unix://"), "live").run(rate, seconds)
        expected = (1 - WARM) * rate * seconds
        if len(waits) < 0.99 * expected:
            raise SystemExit(f"only {len(waits)} of about {expected:.0f} forecasts were heard")
    clear(client, "live")
    median, late = np.percentile(waits, [50, 99]).tolist()
    return median, late


def live_rate(bench: Bench, seconds: float) -> float:
    """Return forecasts per second while a feeder sends as many readings as the server takes."""
    client = bench.client
    made = "live:forecasts"
    with running(worker(bench)) as process, ExitStack() as stack:
        wait_for(lambda: bool(client.exists(offset_key("live", "default"))), process)
        stack.enter_context(running(_feed(bench.url, "max")))
        wait_for(lambda: bool(client.exists(made)), process)
        time.sleep(1.0)
        first, start = added(client, made), time.perf_counter()
        time.sleep(seconds)
        rate = (added(client, made) - first) / (time.perf_counter() - start)
    clear(client, "live")
    return rate


def worker(bench: Bench) -> list[str]:
    """Return the command line of the worker to be timed."""
    return command(bench.url, bench.small, "live")


def relay(bench: Bench) -> list[str]:
    """Return the command line of the relay."""
    return [
        *(sys.executable, "-m", "tests.benchmarks.relay"),
        *("--redis-url", bench.url, "--input", "live"),
    ]


def _feed(url: str, rate: str) -> list[str]:
    words = [sys.executable, "-m", "tidecast.worker", "feed", "--synthetic", "--redis-url", url]
    return [*words, "--input", "live", "--series", "1000", "--rate", rate]
