"""What a worker takes besides time per forecast: memory, start, idling, disk."""

import time
from importlib.metadata import distribution, requires
from pathlib import Path

from packaging.requirements import Requirement

from tests.benchmarks.cases import N_STEPS, Bench, names
from tests.benchmarks.streams import fill_columns
from tests.benchmarks.workers import (
    clear,
    command,
    cpu_seconds,
    resident_bytes,
    running,
    wait_for,
)


def memory_per_series(bench: Bench, series: int) -> float:
    """Return the bytes that a worker holds for each series, over its raw window.

    The memory of a worker that has forecast so many series, less that of one that has forecast
    1,000 from entries of the same size.
    """
    held = [_resident(bench, count) for count in (1000, series)]
    raw = N_STEPS * 4
    return (held[1] - held[0]) / (series - 1000) - raw


def _resident(bench: Bench, series: int) -> int:
    rounds = N_STEPS if series > 100_000 else N_STEPS - 1 + 100
    fill_columns(bench.client, "many", names(series), rounds)
    made = (rounds - N_STEPS + 1) * series
    words = command(bench.url, bench.small, "many", "--from", "earliest")
    with running(words) as process:
        wait_for(lambda: bench.client.xlen("many:forecasts") >= min(made, 990_000), process)
        time.sleep(2.0)
        held = resident_bytes(process.pid)
    clear(bench.client, "many")
    return held


def start_seconds(bench: Bench) -> float:
    """Return the time from the start of the process to its first forecast on the stream."""
    fill_columns(bench.client, "start", ["a"], N_STEPS, per_entry=1)
    begin = time.perf_counter()
    with running(command(bench.url, bench.small, "start", "--from", "earliest")) as process:
        wait_for(lambda: bool(bench.client.exists("start:forecasts")), process)
        taken = time.perf_counter() - begin
    clear(bench.client, "start")
    return taken


def idle_share(bench: Bench, seconds: float) -> float:
    """Return the share of a core that a worker uses while nothing arrives."""
    with running(command(bench.url, bench.small, "idle")) as process:
        wait_for(lambda: bool(bench.client.exists("idle:offset:default")), process)
        time.sleep(2.0)
        before, begin = cpu_seconds(process.pid), time.perf_counter()
        time.sleep(seconds)
        share = (cpu_seconds(process.pid) - before) / (time.perf_counter() - begin)
    clear(bench.client, "idle")
    return share


def installed_bytes() -> int:
    """Return the size of the worker and of every package that it needs, as they lie on disk."""
    todo, seen = ["tidecast"], {"tidecast"}
    while todo:
        for line in requires(todo.pop()) or []:
            needed = Requirement(line)
            extras = [""] if needed.marker else []
            wanted = not needed.marker or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            )
            if wanted and needed.name.lower() not in seen:
                seen.add(needed.name.lower())
                todo.append(needed.name)
    files = {
        Path(str(file.locate()))
        for name in seen - {"tidecast"}
        for file in distribution(name).files or []
    }
    files |= set((Path(__file__).parents[2] / "worker").rglob("*.*"))
    return sum(file.stat().st_size for file in files if file.is_file())
