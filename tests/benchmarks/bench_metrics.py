"""What counting costs a worker, and being scraped every second.

    python -m tests.benchmarks.bench_metrics [--series 1000] [--steps 2000] [--rounds 7]

Scraped: forecasts per second of a real worker process that Prometheus' scrape would hit once a
second, against one without an HTTP port; in turns. Counted: seconds that the loop spends on what
only metrics want of a commit, as a share of what a commit takes in the same run.
"""

import argparse
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import redis

from tests.benchmarks.bench_recovery import fill
from tests.benchmarks.workers import command, rate_of
from tests.model_files import write_lstm_model
from tests.redis.servers import free_port
from worker import embedded
from worker.logs import LOGGER
from worker.pipeline import LARGEST_COMMIT, Commit
from worker.tally import Measures

SCRAPE_EVERY = 1.0
COUNTED = 10_000


@contextmanager
def scraping(port: int) -> Iterator[list[int]]:
    """Ask a port for its metrics every second; yield the sizes of the answers so far."""
    over, sizes = threading.Event(), list[int]()

    def scrape() -> None:
        while not over.wait(SCRAPE_EVERY):
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer,
            ):
                sizes.append(len(answer.read()))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield sizes
    finally:
        over.set()
        thread.join()


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
    made, ratios, plain, scrapes = options.series * options.steps, [], [], 0
    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        model = write_lstm_model(Path(folder) / "m.onnx", n_steps=5)
        for turn in range(options.rounds):
            speeds: dict[bool, float] = {}
            for scraped in (False, True) if turn % 2 else (True, False):
                client.flushall()
                fill(client, "load", options.series, options.steps + 4)
                port = free_port()
                words = command(url, model, "load", "--from", "earliest")
                with scraping(port) as sizes:
                    asked = ["--http-port", str(port)] if scraped else []
                    speeds[scraped] = rate_of(client, "load", [*words, *asked], made)
                scrapes += len(sizes)
            ratios.append(speeds[True] / speeds[False])
            plain.append(speeds[False])
            print(  # noqa: T201 - a script for people
                f"round {turn + 1}: scraped {speeds[True]:,.0f} forecasts/s, without a port "
                f"{speeds[False]:,.0f}, ratio {ratios[-1]:.3f}",
                flush=True,
            )
    print(  # noqa: T201
        f"median ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"{scrapes} scrapes"
    )
    share = counting() * median(plain) / LARGEST_COMMIT
    print(f"counting a commit takes {1e6 * counting():.1f} us, {share:.2%} of it")  # noqa: T201


if __name__ == "__main__":
    main()
