"""How long a restart takes with many series, and what checkpoints cost under load.

    python -m tests.benchmarks.bench_recovery [--series 100000] [--n-steps 24] [--rounds 5]

Restart: seconds to load the checkpoint of that many series and stand at the committed offset,
beside a replay of the stream for the same. A save: seconds for a first checkpoint of all of them,
and for one after each has had another reading. Cost: forecasts per second of a real worker process
that saves every ``--every`` seconds, while every series has readings all the time, against one that
never saves but at its end; in turns.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import redis

from tests.benchmarks.workers import command, rate_of
from tests.model_files import write_lstm_model
from tidecast.worker.logs import LOGGER
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.wire import Position
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.settings import Settings
from tidecast.worker.store import embedded
from tidecast.worker.store.checkpoint import Checkpoints
from tidecast.worker.store.source import Streams

WIDE = 7


def fill(client: redis.Redis, stream: str, series: int, steps: int) -> None:
    """Put ``steps`` readings of each series on a stream, a thousand in an entry."""
    for step in range(steps):
        pipeline = client.pipeline(transaction=False)
        for first in range(0, series, 1000):
            names = [f"series-{i}" for i in range(first, min(first + 1000, series))]
            body = {"series": names, "ts": [step * 1000] * len(names), "value": [1.5] * len(names)}
            pipeline.xadd(stream, {"data": orjson.dumps(body)})
        pipeline.execute()


def restart(client: redis.Redis, model: Path, series: int, n_steps: int) -> None:
    """Time loads, replay and saves in this process, and print them."""
    fill(client, "readings", series, n_steps)
    client.set("readings:lease:default", "me")
    settings = Settings(models=model)
    streams = Streams(client=client, count=1000, block_ms=None)
    checkpoints = Checkpoints(client, "default", "me")
    recovery = Recovery(settings, load_registry(model), streams, checkpoints)
    facts = streams.facts("readings")
    here = Position(facts.last, facts.added)
    start = time.perf_counter()
    *_, partition = recovery.restore("readings", here)
    replayed = time.perf_counter() - start
    assert partition is not None
    start = time.perf_counter()
    recovery.save("readings", partition, whole=True)
    first = time.perf_counter() - start
    loads, saves = [], []
    for _ in range(5):
        start = time.perf_counter()
        *_, partition = recovery.restore("readings", here)
        loads.append(time.perf_counter() - start)
        assert partition is not None
        assert partition.saved is not None  # else it was a replay that was timed
    for _ in range(5):
        list(partition.pipeline.replay(_one_each(series)))
        start = time.perf_counter()
        recovery.save("readings", partition)
        saves.append(time.perf_counter() - start)
    print(  # noqa: T201 - a script for people
        f"{series:,} series of {n_steps} steps: from the checkpoint {median(loads):.2f} s "
        f"({min(loads):.2f} to {max(loads):.2f}), by replay {replayed:.2f} s; the first checkpoint "
        f"{first:.3f} s at one go, one after a reading of each {median(saves):.3f} s "
        f"({min(saves):.3f} to {max(saves):.3f})",
        flush=True,
    )


def weigh(client: redis.Redis, model: Path, series: int, n_steps: int, saves: int) -> None:
    """Print what checkpoints of wide windows write for each reading, and how long a save takes.

    Each series has one reading between two saves; the very first saves are told apart.
    """
    features = [f"f{i}" for i in range(WIDE)]
    names = [f"series-{i}" for i in range(series)]
    client.set("wide:lease:default", "me")
    streams = Streams(client=client, count=1000, block_ms=None)
    recovery = Recovery(
        Settings(models=model), load_registry(model), streams, Checkpoints(client, "default", "me")
    )
    *_, partition = recovery.restore("wide", Position("0-0", 0))
    assert partition is not None

    def read(rounds: int) -> None:
        for _ in range(rounds):
            body = {"series": names} | {name: [1.5] * series for name in features}
            list(partition.pipeline.replay([(b"1-0", [b"data", orjson.dumps(body)])]))

    def save() -> float:
        start = time.perf_counter()
        recovery.save("wide", partition)
        return time.perf_counter() - start

    read(n_steps)
    first = [save()]
    while partition.saved is None:
        first.append(save())
    before, seconds = written(client), []
    for _ in range(saves):
        read(1)
        seconds.append(save())
    each = (written(client) - before) / (saves * series)
    print(  # noqa: T201
        f"{series:,} series of {n_steps} steps and {WIDE} features: {each:.0f} bytes a reading "
        f"over {saves} saves of {1000 * median(seconds):.0f} ms, {1000 * max(seconds):.0f} ms at "
        f"most; the first {len(first)} {1000 * max(first):.0f} ms at most",
        flush=True,
    )


def written(client: redis.Redis) -> int:
    """Return how many bytes the server has been sent in all."""
    told: Any = client.info("stats")
    return int(told["total_net_input_bytes"])


def cost(url: str, client: redis.Redis, model: Path, options: argparse.Namespace) -> None:
    """Time a worker that saves against one that does not, and print them."""
    ratios = []
    for turn in range(options.rounds):
        speeds = []
        for every in (options.every, 1e6) if turn % 2 else (1e6, options.every):
            stream = f"load-{turn}-{every:g}"
            fill(client, stream, options.series, options.n_steps + options.steps)
            words = command(url, model, stream, "--from", "earliest", "--checkpoint-every", every)
            made = options.series * (options.steps + 1)
            speeds.append((every, rate_of(client, stream, words, made)))
        with_saves, without = (speed for _, speed in sorted(speeds))
        ratios.append(with_saves / without)
        print(  # noqa: T201
            f"round {turn + 1}: a checkpoint every {options.every:g} s {with_saves:,.0f} "
            f"forecasts/s, none {without:,.0f}, ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")  # noqa: T201


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--n-steps", type=int, default=24)
    parser.add_argument("--wide-series", type=int, default=10_000)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=10, help="forecasts of each series and run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    LOGGER.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        model = write_lstm_model(Path(folder) / "m.onnx", n_steps=options.n_steps)
        restart(client, model, options.series, options.n_steps)
        client.flushall()
        features = tuple(f"f{i}" for i in range(WIDE))
        wide = write_lstm_model(
            Path(folder) / "wide.onnx", n_steps=336, features=features, targets=features
        )
        weigh(client, wide, options.wide_series, 336, 150)
        client.flushall()
        cost(url, client, model, options)


def _one_each(series: int) -> list[tuple[bytes, list[bytes]]]:
    names = [f"series-{i}" for i in range(series)]
    body = {"series": names, "ts": [10**9] * series, "value": [2.5] * series}
    return [(b"99999999999999-0", [b"data", orjson.dumps(body)])]


if __name__ == "__main__":
    main()
