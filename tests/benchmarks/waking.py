"""What a rest costs: the model alone, run after run and after some milliseconds of idling.

A machine gives an idle core away, clocks it down or puts its caches to other use, so a short piece
of work after a rest takes longer than the same in a loop. No program can be quicker than that.
"""

import time

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tests.benchmarks.cases import Bench

Floats = npt.NDArray[np.float32]

WINDOWS = (1, 64, 256)
RESTS_MS = (0, 1, 4)

Waking = list[tuple[int, list[float]]]
"""For each number of windows in a run: microseconds of a run after each of the rests."""


def measure(bench: Bench) -> Waking:
    """Return how long the small model takes, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(bench.small, options)
    shape = session.get_inputs()[0].shape[1:]
    random = np.random.default_rng(0)
    found: Waking = []
    for count in WINDOWS:
        feed = {"window": random.normal(50, 10, (count, *shape)).astype(np.float32)}
        found.append(
            (count, [_run_microseconds(session, feed, rest, bench.size) for rest in RESTS_MS])
        )
    return found


def _run_microseconds(
    session: ort.InferenceSession, feed: dict[str, Floats], rest_ms: float, size: float
) -> float:
    """Return the median of some runs, each after a rest."""
    taken = []
    for _ in range(max(5, round(400 * size))):
        if rest_ms:
            time.sleep(rest_ms / 1000)
        start = time.perf_counter()
        session.run(None, feed)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e6
