"""Reading a large plain file beside polars alone, in turn in one run.

    python -m tests.benchmarks.bench_files [--rows 10000000] [--rounds 3]

polars reads the same file twice: as it is, times being text then, and with times looked for. Ours
guesses the file's layout, reads its times and checks that each row has one.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from tidecast.files.layout import rows_of
from tidecast.files.table import read_table


def written(folder: Path, rows: int) -> Path:
    """A file of one value a minute."""
    path = folder / "plain.csv"
    first = np.datetime64("2005-01-01T00:00:00", "ms")
    times = pl.Series(first + 60_000 * np.arange(rows))
    values = np.random.default_rng(1).normal(20, 5, rows).round(3)
    text = times.dt.strftime("%Y-%m-%dT%H:%M:%S")
    pl.DataFrame({"time": text, "power": values}).write_csv(path)
    return path


def seconds(read: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of processors."""
    wall, own = time.perf_counter(), time.process_time()
    read()
    return time.perf_counter() - wall, time.process_time() - own


def main() -> None:
    """Read the file in each way, and print medians of the rounds' ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), options.rows)
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda: rows_of(read_table(path, floats=["power"]), ["power"]),
            "polars, times as text": lambda: pl.read_csv(path),
            "polars, times looked for": lambda: pl.read_csv(path, try_parse_dates=True),
        }
        rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(options.rounds)]
    table = Table(title=f"{options.rows:,} rows, medians of {options.rounds}", title_justify="left")
    for heading in ("reader", "s", "s of processors", "ours to it", "ours to it, of processors"):
        table.add_column(heading)
    for name in ways:
        wall, own = zip(*(one[name] for one in rounds), strict=True)
        ratios = [median(one["ours"][k] / one[name][k] for one in rounds) for k in (0, 1)]
        table.add_row(name, *(f"{number:.2f}" for number in (median(wall), median(own), *ratios)))
    Console().print(table)


if __name__ == "__main__":
    main()
