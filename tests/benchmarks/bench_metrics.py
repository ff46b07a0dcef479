"""What counting costs a worker, being scraped every second, and being pestered.

    python -m tests.benchmarks.bench_metrics [--series 1000] [--steps 12000]

One real worker works off a full stream. Second by second it is left alone, scraped once, as by
Prometheus, and pestered: 150 connections that send a byte ten times a second, each time beside a
head that is too long, one that is nonsense and one that asks for no route. Ratio: forecasts in such
a second, to the mean of the quiet seconds next to it. A scrape: the processor's time that an idle
worker spends on one. Counted: what the loop spends on what only metrics want of a commit, as a
share of what a commit takes.
"""

import argparse
import itertools
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import mean, median, quantiles

import redis

from tests.benchmarks.bench_recovery import fill
from tests.benchmarks.workers import added, command, running, wait_for
from tests.model_files import write_lstm_model
from tests.redis.servers import HOST, free_port
from worker import embedded
from worker.logs import LOGGER
from worker.pipeline import LARGEST_COMMIT, Commit
from worker.tally import Measures

KEY = "load:forecasts"
MODES = ("quiet", "scraped", "quiet", "pestered")
VISITS = 10
SLOW = 150
SCRAPES = 500
NONSENSE = (
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01 what\r\n\r\n",
    b"GET /admin HTTP/1.1\r\n\r\n",
)
COUNTED = 10_000


def scrape(port: int) -> float:
    """Ask for the metrics as Prometheus does; return the worker's seconds of processor so far."""
    url = f"http://{HOST}:{port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return float(text.partition("\nprocess_cpu_seconds_total ")[2].split()[0])


def seconds_of_scrape(port: int) -> float:
    """Return the seconds of processor that an idle worker spends on one scrape."""
    begun, before = time.perf_counter(), scrape(port)
    for _ in range(SCRAPES):
        middle = scrape(port)
    time.sleep(time.perf_counter() - begun)
    idle = scrape(port) - middle
    return (middle - before - idle) / SCRAPES


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
            with (
                suppress(ConnectionError),
                socket.create_connection((HOST, self._port), 5) as connection,
            ):
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


def speeds(client: redis.Redis, port: int, forecasts: int) -> Iterator[tuple[str, float]]:
    """Yield what is done in each second, and the forecasts in it, until there are so many."""
    pest = Pest(port)
    for mode in itertools.cycle(MODES):
        start, before = time.perf_counter(), added(client, KEY)
        for visit in range(VISITS):
            if mode == "scraped" and visit == 0:
                scrape(port)
            if mode == "pestered":
                pest.visit()
            time.sleep(max(0.0, start + (visit + 1) / VISITS - time.perf_counter()))
        after = added(client, KEY)
        if after >= forecasts:
            return
        yield mode, (after - before) / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=12_000, help="forecasts of each series")
    options = parser.parse_args()
    LOGGER.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        model, port = write_lstm_model(Path(folder) / "m.onnx", n_steps=5), free_port()
        fill(client, "load", options.series, options.steps + 4)
        words = command(url, model, "load", "--from", "earliest", "--http-port", port)
        with running(words) as process:
            wait_for(lambda: bool(client.exists(KEY)), process)
            seconds = list(speeds(client, port, options.series * options.steps))
            time.sleep(2)
            asking = seconds_of_scrape(port)
    quiet = median(speed for mode, speed in seconds if mode == "quiet")
    print(f"{len(seconds)} seconds, quiet ones {quiet:,.0f} forecasts/s (median)")  # noqa: T201
    for wanted in ("scraped", "pestered"):
        ratios = [
            speed / mean((before[1], after[1]))
            for before, (mode, speed), after in zip(seconds, seconds[1:], seconds[2:], strict=False)
            if mode == wanted
        ]
        low, _, high = quantiles(ratios, n=4)
        print(  # noqa: T201
            f"{wanted}: median ratio {median(ratios):.3f} (quartiles {low:.3f}, {high:.3f})"
        )
    print(  # noqa: T201
        f"a scrape takes {1000 * asking:.2f} ms of processor: {asking:.2%} of a core at one a "
        f"second, {asking / 15:.3%} at one in 15 s"
    )
    each = counting()
    share = each * quiet / LARGEST_COMMIT
    print(f"counting a commit takes {1e6 * each:.1f} us, {share:.2%} of it")  # noqa: T201


if __name__ == "__main__":
    main()
