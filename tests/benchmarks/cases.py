"""What is measured as a rate: a worker in several situations, its peers, the model alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import redis

from tests.benchmarks.streams import fill_columns, fill_flat
from tests.benchmarks.workers import ROOT, command, rate_of
from tests.model_files import write_lstm_model, write_segmented_model

N_STEPS = 5
HEAVY = {"n_steps": 336, "horizon": 24}
HEAVY_FEATURES = tuple("abcdefg")
PEERS = ("Bytewax", "FastStream", "redis-py loop")
BATCHES = (64, 128, 256, 512, 1000)
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Bench:
    """Where the measurements take place.

    ``size`` scales how many readings a case takes; 1 is the full length.
    """

    client: redis.Redis
    url: str
    folder: Path
    size: float = 1.0

    @property
    def small(self) -> Path:
        """The model of most cases: ``LSTM(50)`` over 5 steps."""
        path = self.folder / "small" / "small.onnx"
        return path if path.exists() else write_lstm_model(path, name="small", n_steps=N_STEPS)

    @property
    def stepped(self) -> Path:
        """The same with a step of 1,000 s, whose windows are filled, amended and extended."""
        path = self.folder / "stepped" / "stepped.onnx"
        grid: dict[str, Any] = {"step_seconds": 1000.0, "gaps": "linear", "max_gap": 3}
        if not path.exists():
            write_lstm_model(path, name="stepped", n_steps=N_STEPS, min_steps=2, **grid)
        return path

    @property
    def heavy(self) -> Path:
        """An LSTM(128) over 14 segments of 336 steps, for each of seven features."""
        path = self.folder / "heavy" / "heavy.onnx"
        if not path.exists():
            write_segmented_model(
                path, name="heavy", features=HEAVY_FEATURES, targets=HEAVY_FEATURES, **HEAVY
            )
        return path

    def of(self, count: int) -> int:
        """Return a number of readings, scaled."""
        return max(1, round(count * self.size))


def alone(path: Path, seconds: float, batches: Sequence[int] = BATCHES) -> float:
    """Return windows per second of ONNX Runtime on one thread, at the best of some batch sizes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options)
    shape = session.get_inputs()[0].shape[1:]
    rates = []
    for batch in batches:
        windows = np.random.default_rng(0).normal(50, 10, (batch, *shape)).astype(np.float32)
        session.run(None, {"window": windows})
        runs, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / len(batches):
            session.run(None, {"window": windows})
            runs += 1
        rates.append(runs * batch / (time.perf_counter() - start))
    return max(rates)


def names(count: int) -> list[str]:
    """Return the names of so many series."""
    return [f"s{i}" for i in range(count)]


def flat(bench: Bench) -> float:
    """One reading in an entry, 1,000 series."""
    series, readings = 1000, bench.of(500_000) + 5000
    fill_flat(bench.client, "flat", readings, series)
    return _worker(bench, bench.small, "flat", readings - (N_STEPS - 1) * series)


def many(bench: Bench, series: int, forecasts: int, shape: str = "columns") -> float:
    """A thousand readings in an entry."""
    rounds = max(2, round(bench.of(forecasts) / series))
    fill_columns(bench.client, "many", names(series), rounds + N_STEPS - 1, shape=shape)
    return _worker(bench, bench.small, "many", rounds * series)


def heavy(bench: Bench) -> float:
    """The heavy model, 64 series."""
    series, rounds = 64, max(40, bench.of(100))
    fill_columns(
        bench.client,
        "heavy",
        names(series),
        HEAVY["n_steps"] - 1 + rounds,
        features=HEAVY_FEATURES,
        per_entry=series,
    )
    return _worker(bench, bench.heavy, "heavy", rounds * series)


def _worker(bench: Bench, models: Path, stream: str, forecasts: int, *options: object) -> float:
    words = command(bench.url, models, stream, "--from", "earliest", *options)
    return rate_of(bench.client, stream, words, forecasts)


def peer(bench: Bench, module: str, readings: int) -> float:
    """Another program that does the same job, one reading in an entry, 1,000 series."""
    series, readings = 1000, bench.of(readings) + 10_000
    fill_flat(bench.client, "flat", readings, series)
    words = [PEERS_PYTHON, "-m", f"tests.benchmarks.peers.{module}", "--redis-url", bench.url]
    words += ["--model", bench.small, "--input", "flat"]
    made = readings - (N_STEPS - 1) * series
    return rate_of(bench.client, "flat", list(map(str, words)), made)


CASES: dict[str, Callable[[Bench], float]] = {
    "ONNX Runtime alone, LSTM(50) over 5 steps": lambda b: alone(b.small, 2.0 * b.size + 0.5),
    "one reading per entry, 1,000 series": flat,
    "columns, 1,000 series": lambda b: many(b, 1000, 1_000_000),
    "arrays of objects, 1,000 series": lambda b: many(b, 1000, 500_000, "objects"),
    "columns, 100,000 series": lambda b: many(b, 100_000, 1_000_000),
    "columns, 1,000,000 series": lambda b: many(b, 1_000_000, 2_000_000),
    "Bytewax": lambda b: peer(b, "bytewax_peer", 60_000),
    "FastStream": lambda b: peer(b, "faststream_peer", 20_000),
    "redis-py loop": lambda b: peer(b, "loop_peer", 10_000),
    "ONNX Runtime alone, heavy model": lambda b: alone(b.heavy, 3.0 * b.size + 1.0, (16, 64, 256)),
    "heavy model": heavy,
}
"""Every rate by name, in forecasts (of ONNX Runtime: windows) per second."""
