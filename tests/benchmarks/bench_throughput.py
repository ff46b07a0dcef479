"""Forecasts per second of a real worker process against ONNX Runtime alone, in one run.

    python -m tests.benchmarks.bench_throughput [--readings 500000] [--series 1000] [--rounds 3]

Readings are put on the stream first; the figure is the time the worker takes to commit a forecast
for each of them, from the growth of the forecast stream.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
import redis

from tests.model_files import write_lstm_model
from worker import embedded

N_STEPS = 5


def onnxruntime_alone(path: Path, seconds: float = 2.0) -> float:
    """Return windows per second of the model on one thread at batch 256."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options)
    windows = np.random.default_rng(0).normal(50, 10, (256, N_STEPS, 1)).astype(np.float32)
    session.run(None, {"window": windows})
    runs, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        session.run(None, {"window": windows})
        runs += 1
    return runs * len(windows) / (time.perf_counter() - start)


def fill(client: redis.Redis, stream: str, readings: int, series: int) -> None:
    """Put readings on a stream, round robin over the series."""
    values = np.random.default_rng(0).normal(50, 10, readings).round(2).tolist()
    for first in range(0, readings, 5000):
        pipeline = client.pipeline(transaction=False)
        for i in range(first, min(first + 5000, readings)):
            pipeline.xadd(stream, {"series": f"s{i % series}", "ts": i, "value": values[i]})
        pipeline.execute()


def worker_alone(
    client: redis.Redis, url: str, stream: str, models: Path, *options: object
) -> float:
    """Return forecasts per second between the first committed forecast and the last."""
    command = [sys.executable, "-m", "worker", "run", "--redis-url", url, "--models", str(models)]
    command += ["--input", stream, "--from", "earliest", "--burst", *map(str, options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    forecasts = f"{stream}:forecasts"
    while process.poll() is None and not client.xlen(forecasts):
        time.sleep(0.002)
    start, before = time.perf_counter(), int(client.xlen(forecasts))
    _, log = process.communicate()
    if process.returncode:
        raise SystemExit(f"the worker failed: {log.decode()}")
    done = int(client.xlen(forecasts)) - before
    # The process' own ending is no part of the work: the entries' ids say when it was done.
    info: Any = client.xinfo_stream(forecasts)
    first, last = (int(info[k][0].partition(b"-")[0]) for k in ("first-entry", "last-entry"))
    span = min((last - first) / 1000, time.perf_counter() - start)
    client.delete(stream, forecasts, f"{stream}:offset:default", f"{stream}:checkpoint:default")
    return done / span


def main() -> None:
    """Measure in turns and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readings", type=int, default=500_000)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--read-size", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        model = write_lstm_model(Path(folder) / "models" / "tiny.onnx", n_steps=N_STEPS)
        client = redis.Redis.from_url(url, protocol=2)
        alone, live = [], []
        for turn in range(options.rounds):
            alone.append(onnxruntime_alone(model))
            stream = f"readings-{turn}"
            fill(client, stream, options.readings, options.series)
            live.append(
                worker_alone(client, url, stream, model.parent, "--read-size", options.read_size)
            )
            print(  # noqa: T201 - a script for people
                f"round {turn + 1}: ONNX Runtime alone {alone[-1]:,.0f} windows/s, "
                f"worker {live[-1]:,.0f} forecasts/s, ratio {live[-1] / alone[-1]:.2f}",
                flush=True,
            )
    print(f"median: {median(live):,.0f} forecasts/s, ratio {median(live) / median(alone):.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
