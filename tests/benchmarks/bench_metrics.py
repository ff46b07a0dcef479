"""What counting costs a worker, being scraped every second, and being pestered.

    python -m tests.benchmarks.bench_metrics [--series 1000] [--steps 12000]

One real worker works off a full stream. Second by second it is left alone, scraped once, as by
Prometheus, and pestered: 150 connections send a byte ten times a second, each at its own moment,
and beside them heads that are too long, nonsense, and requests for no route come as fast as they
are answered. Pestered elsewhere: an idle worker is, so that the same load is on the machine.
Ratio: forecasts in such a second, to the mean of the quiet seconds next to it. A scrape, and what
worse strangers do: the processor's time that the idle worker spends on them. Counted: what the loop
spends on what only metrics want of a commit, as a share of what a commit takes.
"""

import argparse
import itertools
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from statistics import mean, median, quantiles

import redis

from tests.benchmarks.bench_recovery import fill
from tests.benchmarks.workers import added, command, running, wait_for
from tests.model_files import write_lstm_model
from tests.redis.servers import HOST, free_port
from tidecast.worker.logs import LOGGER
from tidecast.worker.pipeline.fates import Fates
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.step import LARGEST_COMMIT
from tidecast.worker.service.tally import Measures
from tidecast.worker.store import embedded

KEY = "load:forecasts"
MODES = ("quiet", "scraped", "quiet", "pestered", "quiet", "pestered elsewhere")
SLOW = 150
BYTES = 10
"""What a slow connection sends in a second."""
SCRAPES = 200
Pest = Callable[[int, threading.Event], None]
"""Disturbs a port until the event is set."""
PESTERED = 5.0
"""Seconds that an idle worker is pestered."""
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


def share_of_pestering(port: int, pests: Sequence[Pest]) -> float:
    """Return the share of a core that an idle worker spends on being pestered."""
    before = scrape(port)
    time.sleep(PESTERED)
    idle = scrape(port) - before
    with pestering(port, pests):
        before = scrape(port)
        time.sleep(PESTERED)
        return (scrape(port) - before - idle) / PESTERED


@contextmanager
def pestering(port: int, pests: Sequence[Pest]) -> Iterator[None]:
    """Have some strangers pester a port for the length of the block."""
    ended = threading.Event()
    threads = [threading.Thread(target=pest, args=(port, ended)) for pest in pests]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def trickle(port: int, ended: threading.Event) -> None:
    """Send a byte on one slow connection after the other; replace those that were cut off."""
    slow: list[socket.socket] = []
    for turn in itertools.count():
        if len(slow) < SLOW:
            slow.append(socket.create_connection((HOST, port), 5))
            slow[-1].send(b"GET /livez HTTP/1.1\r\nX: ")
            continue
        try:
            slow[turn % SLOW].send(b"y")
        except OSError:
            slow.pop(turn % SLOW).close()
        if ended.wait(1 / (SLOW * BYTES)):
            break
    for connection in slow:
        connection.close()


def babble(port: int, ended: threading.Event) -> None:
    """Send nonsense as fast as it is answered."""
    talk(port, ended, NONSENSE)


def ask(port: int, ended: threading.Event) -> None:
    """Scrape as fast as it is answered."""
    talk(port, ended, [b"GET /metrics HTTP/1.1\r\n\r\n"])


def knock(port: int, ended: threading.Event) -> None:
    """Connect and hang up, as fast as it goes."""
    while not ended.is_set():
        with suppress(OSError):
            socket.create_connection((HOST, port), 0.05).close()


def talk(port: int, ended: threading.Event, sayings: Iterable[bytes]) -> None:
    """Say one thing after the other, each on a connection of its own, and hear the answers."""
    for words in itertools.cycle(sayings):
        if ended.is_set():
            break
        with suppress(OSError), socket.create_connection((HOST, port), 5) as connection:
            connection.send(words)
            while connection.recv(65536):
                pass


MEAN: tuple[Pest, ...] = (trickle, babble)
MEANER: dict[str, tuple[Pest, ...]] = {
    "pestered": MEAN,
    "scraped by twenty at once": (ask,) * 20,
    "knocked at": (knock,),
}
"""What an idle worker has to bear."""


def counting() -> float:
    """Return the seconds that counting one large commit takes."""
    measures = Measures(["tiny"])
    commit = Commit("1-0", "2-0", 1, Fates(LARGEST_COMMIT), [], inference=[("tiny", 0.001)])
    start = time.perf_counter()
    for _ in range(COUNTED):
        measures.add(commit, time.time())
    return (time.perf_counter() - start) / COUNTED


def speeds(
    client: redis.Redis, port: int, idle: int, forecasts: int
) -> Iterator[tuple[str, float]]:
    """Yield what is done in each second, and the forecasts in it, until there are so many.

    ``port`` is the worker's own, ``idle`` that of one which has nothing to do.
    """
    pestered = {"pestered": port, "pestered elsewhere": idle}
    for mode in itertools.cycle(MODES):
        with pestering(pestered[mode], MEAN) if mode in pestered else nullcontext():
            start, before = time.perf_counter(), added(client, KEY)
            if mode == "scraped":
                scrape(port)
            time.sleep(max(0.0, start + 1.0 - time.perf_counter()))
            after, now = added(client, KEY), time.perf_counter()
        if after >= forecasts:
            return
        yield mode, (after - before) / (now - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=12_000, help="forecasts of each series")
    options = parser.parse_args()
    LOGGER.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        model = write_lstm_model(Path(folder) / "m.onnx", n_steps=5)
        port, idle = free_port(), free_port()
        fill(client, "load", options.series, options.steps + 4)
        words = command(url, model, "load", "--from", "earliest", "--http-port", port)
        others = command(url, model, "nothing", "--fleet", "idle", "--http-port", idle)
        with running(others), running(words) as process:
            wait_for(lambda: bool(client.exists(KEY)), process)
            seconds = list(speeds(client, port, idle, options.series * options.steps))
            time.sleep(2)
            asking = seconds_of_scrape(idle)
            shares = {name: share_of_pestering(idle, pests) for name, pests in MEANER.items()}
    quiet = median(speed for mode, speed in seconds if mode == "quiet")
    print(f"{len(seconds)} seconds, quiet ones {quiet:,.0f} forecasts/s (median)")  # noqa: T201
    for wanted in ("scraped", "pestered", "pestered elsewhere"):
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
    for name, share in shares.items():
        print(f"being {name} takes {share:.1%} of a core")  # noqa: T201
    each = counting()
    share = each * quiet / LARGEST_COMMIT
    print(f"counting a commit takes {1e6 * each:.1f} us, {share:.2%} of it")  # noqa: T201


if __name__ == "__main__":
    main()
