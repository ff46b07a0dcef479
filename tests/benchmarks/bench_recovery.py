"""How long a restart takes with many series, and what checkpoints cost under load.

    python -m tests.benchmarks.bench_recovery [--series 100000] [--n-steps 24]

Restart: seconds to load the checkpoint of that many series and stand at the committed offset,
beside a replay of the stream for the same. Cost: seconds spent in saving over seconds in all, when
every series has a reading between two checkpoints that are ``--every`` seconds apart.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson
import redis

from tests.model_files import write_lstm_model
from worker import embedded
from worker.checkpoint import Checkpoints
from worker.logs import LOGGER
from worker.recovery import Recovery
from worker.registry import load_registry
from worker.settings import Settings
from worker.source import Streams
from worker.wire import Position


def fill(client: redis.Redis, series: int, steps: int) -> None:
    """Put ``steps`` readings of each series on the stream, a thousand in an entry."""
    for step in range(steps):
        pipeline = client.pipeline(transaction=False)
        for first in range(0, series, 1000):
            names = [f"series-{i}" for i in range(first, min(first + 1000, series))]
            body = {"series": names, "ts": [step * 1000] * len(names), "value": [1.5] * len(names)}
            pipeline.xadd("readings", {"data": orjson.dumps(body)})
        pipeline.execute()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--n-steps", type=int, default=24)
    parser.add_argument("--every", type=float, default=5.0)
    options = parser.parse_args()
    LOGGER.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        model = write_lstm_model(Path(folder) / "m.onnx", n_steps=options.n_steps)
        fill(client, options.series, options.n_steps)
        client.set("readings:lease:default", "me")
        settings = Settings(models=model)
        streams = Streams(client=client, count=1000, block_ms=None)
        checkpoints = Checkpoints(client, "default", "me")
        recovery = Recovery(settings, load_registry(model), streams, checkpoints)
        facts = streams.facts("readings")
        here = Position(facts.last, facts.added)
        start = time.perf_counter()
        partition = recovery.restore("readings", here, lambda: True)
        replayed = time.perf_counter() - start
        recovery.save("readings", partition, 0.0)
        loads, saves = [], []
        for _ in range(5):
            start = time.perf_counter()
            partition = recovery.restore("readings", here, lambda: True)
            loads.append(time.perf_counter() - start)
        for _ in range(5):
            partition.pipeline.replay(_one_each(options.series))
            start = time.perf_counter()
            recovery.save("readings", partition, 0.0)
            saves.append(time.perf_counter() - start)
        load, save = float(np.median(loads)), float(np.median(saves))
        print(  # noqa: T201 - a script for people
            f"{options.series:,} series of {options.n_steps} steps: from the checkpoint "
            f"{load:.2f} s ({min(loads):.2f} to {max(loads):.2f}), by replay {replayed:.2f} s; "
            f"a checkpoint of all {save:.3f} s ({min(saves):.3f} to {max(saves):.3f}), "
            f"{save / options.every:.1%} of the time"
        )


def _one_each(series: int) -> list[tuple[bytes, list[bytes]]]:
    names = [f"series-{i}" for i in range(series)]
    body = {"series": names, "ts": [10**9] * series, "value": [2.5] * series}
    return [(b"99999999999999-0", [b"data", orjson.dumps(body)])]


if __name__ == "__main__":
    main()
