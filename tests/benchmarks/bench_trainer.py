"""Training from lazily made windows beside the same step on data in memory, and beside PyTorch.

    python -m tests.benchmarks.bench_trainer [--rounds 5] [--torch PYTHON]

One network, LSTM(64) over 24 readings and a dense layer, is trained in turn on shuffled windows as
``fit`` makes them and on one batch that is already in memory: as ``fit`` does it, with its steps
unrolled, compiled by XLA, and as ``torch.nn.LSTM`` of the same size with the same optimizer, if
``--torch`` names the Python of an environment with PyTorch. Ratios are of the same round.
"""

import argparse
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tidecast.trainer.backend import load_tensorflow
from tidecast.trainer.dataset import Windows

N_STEPS, UNITS, BATCH = 24, 64, 256
STEPS = 60
LAZY = "windows made lazily"
PEER = Path(__file__).parent / "peers" / "torch_lstm.py"

Round = Callable[[], float]
"""Trains ``STEPS`` steps and returns the seconds."""


def windows_of(rows: int) -> Windows:
    """One long series of noise; every window of it is for training."""
    values = np.random.default_rng(0).normal(size=(rows, 1)).astype(np.float32)
    starts = np.arange(rows - N_STEPS)
    return Windows(
        inputs=values,
        outputs=values,
        starts={"train": starts, "validation": starts[:0], "test": starts[:0]},
        owner=np.zeros(rows, np.int64),
        segment_start=np.zeros(rows, np.int64),
        n_steps=N_STEPS,
        horizon=1,
    )


def keras_rounds(windows: Windows) -> dict[str, Round]:
    """Return rounds from shuffled windows, and from memory in three ways."""
    import tensorflow as tf

    batch = windows.gather(windows.starts["train"][:BATCH])
    memory = tf.data.Dataset.from_tensors(tuple(map(tf.constant, batch))).repeat()
    plain = network_of()
    return {
        LAZY: keras_round(plain, windows.shuffled(BATCH, 1)),
        "in memory": keras_round(plain, memory),
        "in memory, unrolled": keras_round(network_of(unroll=True), memory),
        "in memory, compiled by XLA": keras_round(network_of(jit_compile=True), memory),
    }


def keras_round(network: Any, dataset: Any) -> Round:
    """Return a round of a network; the iterator goes on from round to round."""
    batches = iter(dataset)

    def run() -> float:
        begun = time.perf_counter()
        for _ in range(STEPS):
            network.train_on_batch(*next(batches))
        return time.perf_counter() - begun

    return run


def network_of(*, unroll: bool = False, jit_compile: bool = False) -> Any:
    """Return a network ready to train."""
    import keras

    network = keras.Sequential(
        [
            keras.Input((N_STEPS, 1)),
            keras.layers.LSTM(UNITS, unroll=unroll),
            keras.layers.Dense(1),
            keras.layers.Reshape((1, 1)),
        ]
    )
    network.compile(keras.optimizers.AdamW(1e-3), loss="mae", jit_compile=jit_compile)
    return network


@contextmanager
def torch_round(python: Path | None) -> Iterator[dict[str, Round]]:
    """Give a round of PyTorch in a process of its own, if there is one."""
    if python is None:
        yield {}
        return
    command = [str(python), str(PEER), *map(str, (N_STEPS, UNITS, BATCH, STEPS))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:

        def run() -> float:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("both are pipes")
            process.stdin.write("\n")
            return float(process.stdout.readline())

        yield {"PyTorch, in memory": run}


def measured(rounds: dict[str, Round], count: int) -> dict[str, list[float]]:
    """Return windows per second of each, round by round."""
    for run in rounds.values():
        run()  # traced and warm
    rates: dict[str, list[float]] = {name: [] for name in rounds}
    for number in range(count):
        for name in list(rounds)[:: -1 if number % 2 else 1]:
            rates[name].append(STEPS * BATCH / rounds[name]())
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--torch", type=Path, metavar="PYTHON")
    options = parser.parse_args()
    load_tensorflow()
    with torch_round(options.torch) as torch:
        rates = measured(keras_rounds(windows_of(options.rows)) | torch, options.rounds)
    table = Table("", "windows/s", "windows made lazily, to it", "least-most")
    for name, found in rates.items():
        ratios = [lazy / rate for lazy, rate in zip(rates[LAZY], found, strict=True)]
        table.add_row(
            name,
            f"{median(found):,.0f}",
            f"{median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
