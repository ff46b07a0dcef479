"""What counting costs a worker, being scraped every second, and being pestered.

    python -m tests.benchmarks.bench_metrics [--series 1000] [--steps 2000] [--rounds 7]

Forecasts per second of a real worker process, in turns: without an HTTP port; scraped once a
second, as by Prometheus; and pestered: 150 connections that send a byte now and then, and every
tenth of a second a head that is too long, one that is nonsense and one that asks for no route.
Counted: seconds that the loop spends on what only metrics want of a commit, as a share of what a
commit takes.
"""

import argparse
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median

import redis

from tests.benchmarks.bench_recovery import fill
from tests.benchmarks.workers import command, rate_of
from tests.model_files import write_lstm_model
from tests.redis.servers import HOST, free_port
from worker import embedded
from worker.logs import LOGGER
from worker.pipeline import LARGEST_COMMIT, Commit
from worker.tally import Measures

SLOW = 150
NONSENSE = (
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01 what\r\n\r\n",
    b"GET /admin HTTP/1.1\r\n\r\n",
)
COUNTED = 10_000


@contextmanager
def every(seconds: float, visit: Callable[[], object]) -> Iterator[list[int]]:
    """Visit something again and again for the length of the block; yield a list of good visits."""
    over, good = threading.Event(), list[int]()

    def visits() -> None:
        while not over.wait(seconds):
            with suppress(OSError):
                visit()
                good.append(1)

    thread = threading.Thread(target=visits)
    thread.start()
    try:
        yield good
    finally:
        over.set()
        thread.join()


def scrape(port: int) -> None:
    """Ask for the metrics as Prometheus does."""
    url = f"http://{HOST}:{port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        answer.read()


class Pest:
    """A stranger at a port, who keeps connections half said and sends nonsense."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._slow: list[socket.socket] = []

    def visit(self) -> None:
        """Send a byte on each slow connection, replace those that were cut off, talk nonsense."""
        still = []
        for connection in self._slow:
            with suppress(OSError):
                connection.send(b"y")
                still.append(connection)
        self._slow = still
        while len(self._slow) < SLOW:
            self._slow.append(socket.create_connection((HOST, self._port), 5))
            self._slow[-1].send(b"GET /livez HTTP/1.1\r\nX: ")
        for words in NONSENSE:
            with socket.create_connection((HOST, self._port), 5) as connection:
                connection.send(words)
                connection.recv(100)


def counting() -> float:
    """Return the seconds that counting one large commit takes."""
    measures = Measures(["tiny"])
    commit = Commit("1-0", "2-0", 1, LARGEST_COMMIT, [], inference=[("tiny", 0.001)])
    start = time.perf_counter()
    for _ in range(COUNTED):
        measures.add(commit, time.time())
    return (time.perf_counter() - start) / COUNTED


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2000, help="forecasts of each series and run")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    LOGGER.setLevel("ERROR")
    modes, visits = ("no port", "scraped", "pestered"), {"scraped": 0, "pestered": 0}
    speeds: dict[str, list[float]] = {mode: [] for mode in modes}
    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        model = write_lstm_model(Path(folder) / "m.onnx", n_steps=5)
        for turn in range(options.rounds):
            for mode in modes if turn % 2 else reversed(modes):
                client.flushall()
                fill(client, "load", options.series, options.steps + 4)
                words, port = command(url, model, "load", "--from", "earliest"), free_port()
                made = options.series * options.steps
                if mode == "no port":
                    speeds[mode].append(rate_of(client, "load", words, made))
                    continue
                scraped = mode == "scraped"
                visit = partial(scrape, port) if scraped else Pest(port).visit
                with every(1.0 if scraped else 0.1, visit) as good:
                    words += ["--http-port", str(port)]
                    speeds[mode].append(rate_of(client, "load", words, made))
                visits[mode] += len(good)
            print(  # noqa: T201 - a script for people
                f"round {turn + 1}: "
                + ", ".join(f"{mode} {speeds[mode][-1]:,.0f} forecasts/s" for mode in modes),
                flush=True,
            )
    for mode, number in visits.items():
        ratios = [one / bare for one, bare in zip(speeds[mode], speeds["no port"], strict=True)]
        print(  # noqa: T201
            f"{mode}: median ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), "
            f"{number} visits"
        )
    share = counting() * median(speeds["no port"]) / LARGEST_COMMIT
    print(f"counting a commit takes {1e6 * counting():.1f} us, {share:.2%} of it")  # noqa: T201


if __name__ == "__main__":
    main()
