"""Measure a real worker on a real server beside the model alone and its peers, all in one run.

    python -m tests.benchmarks [--quick] [--rounds 5] [--only latency ...] [--write] [--json FILE]

Everything that is compared is measured in turn, round by round; a row is the median of the rounds'
own ratios. ``--quick`` takes a twentieth of the readings, one round, and leaves out growth and a
million series. ``--only`` takes some of: rates, messy, latency, footprint, growth. ``--write``
writes the tables and pictures into docs/benchmarks.md, whose words around them stay.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import redis

from tests.benchmarks import footprint, growth, latency, messy, partitions, waking
from tests.benchmarks.cases import CASES, PEERS, PEERS_PYTHON, Bench
from tests.benchmarks.report import (
    HEADS,
    Row,
    document,
    growth_tables,
    machine,
    markdown,
    waking_table,
)
from tests.benchmarks.workers import ROOT
from tidecast.worker.store import embedded

ALONE, HEAVY_ALONE = "ONNX Runtime alone, LSTM(50) over 5 steps", "ONNX Runtime alone, heavy model"
FLAT, MANY = "one reading per entry, 1,000 series", "columns, 1,000 series"
ONE_PARTITION, PARTITIONS = "one partition", "1,024 partitions"
RATIOS = (
    (FLAT, ALONE, 0.35, 0.5),
    (MANY, ALONE, 0.55, 0.8),
    ("arrays of objects, 1,000 series", ALONE, 0.55, 0.8),
    ("columns, 100,000 series", MANY, 0.7, 0.9),
    ("columns, 1,000,000 series", MANY, 0.4, 0.7),
    (FLAT, "Bytewax", 8, 12),
    (FLAT, "FastStream", 25, 40),
    (FLAT, "redis-py loop", 40, 70),
    ("heavy model", HEAVY_ALONE, 0.85, 0.95),
    (PARTITIONS, ONE_PARTITION, 0.7, 0.8),
)
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
PAGE = ROOT / "docs" / "benchmarks.md"
KINDS = ("rates", "messy", "latency", "footprint", "growth")


def rates_of(bench: Bench, rounds: int, tell: Callable[[str], object]) -> dict[str, list[float]]:
    """Return each case's rate in each round; every other round goes backwards."""
    cases = CASES | {
        ONE_PARTITION: lambda b: partitions.rate(b, 1),
        PARTITIONS: lambda b: partitions.rate(b, 1024),
    }
    if bench.size < 1:
        del cases["columns, 1,000,000 series"]
    if not PEERS_PYTHON.exists():
        tell("no .venv-peers: the peers are left out ('make bench' makes it)")
        cases = {name: case for name, case in cases.items() if name not in PEERS}
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds):
        for name in list(cases)[:: -1 if number % 2 else 1]:
            rate = cases[name](bench)
            rates[name].append(rate)
            tell(f"round {number + 1} of {rounds}: {name}: {rate:,.0f}/s")
    return rates


def ratio_rows(rates: dict[str, list[float]]) -> list[Row]:
    """Return the rows that compare two rates."""
    rows = []
    for one, other, floor, reach in RATIOS:
        if rates.get(one) and rates.get(other):
            samples = [a / b for a, b in zip(rates[one], rates[other], strict=True)]
            middle = [sorted(rates[name])[len(samples) // 2] for name in (one, other)]
            about = f"{middle[0]:,.0f}/s against {middle[1]:,.0f}/s"
            unit = "x" if floor > 1 else ""
            rows.append(Row(f"{one}, to {other}", samples, floor, reach, unit, about=about))
    return rows


def messy_rows(bench: Bench, rounds: int, tell: Callable[[str], object]) -> list[Row]:
    """Return the rows of what streams that are not clean cost."""
    ratios = messy.measure(bench, rounds, tell)
    return [
        Row(
            f"processor time: {name}, to {k.beside}", ratios[name], k.floor, k.goal, "x", more=False
        )
        for name, k in messy.KINDS.items()
    ]


def latency_rows(bench: Bench, rounds: int, tell: Callable[[str], object]) -> list[Row]:
    """Return the rows of how long a reading waits for its forecast at 1,000 a second."""
    seconds = 2.0 if bench.size < 1 else 5.0
    pairs = []
    for _ in range(rounds):
        floor = latency.latency(bench, latency.relay(bench), 1000, seconds)
        found = latency.latency(bench, latency.worker(bench), 1000, seconds)
        pairs.append((found, floor))
        tell(
            f"latency at 1,000/s, p50 and p99: {found[0]:.2f} {found[1]:.2f} ms, "
            f"relay {floor[0]:.2f} {floor[1]:.2f} ms"
        )
    rows = []
    for place, name, floor_, reach in ((0, "p50", 1.5, 1.2), (1, "p99", 2.0, 1.5)):
        middle = [sorted(pair[side][place] for pair in pairs)[rounds // 2] for side in (0, 1)]
        rows.append(
            Row(
                f"latency {name} at 1,000/s, to a bare relay",
                [found[place] / floor[place] for found, floor in pairs],
                floor_,
                reach,
                "x",
                more=False,
                about=f"{middle[0]:.2f} ms against {middle[1]:.2f} ms",
            )
        )
    return rows


def load_rows(bench: Bench, rounds: int, stored: float, tell: Callable[[str], object]) -> list[Row]:
    """Return the rows of how long a reading waits among many others.

    ``stored`` is the rate at which a worker takes readings that lie on the stream already.
    """
    seconds = 4.0 if bench.size < 1 else 10.0
    live = latency.live_rate(bench, seconds)
    tell(f"readings that come while they are forecast: {live:,.0f}/s at most")
    rows = []
    for name, best in (("fed live", live), ("stored before", stored)):
        late = []
        for _ in range(rounds):
            late.append(
                latency.latency(bench, latency.worker(bench), 200, seconds, load=best / 2)[1]
            )
            tell(f"latency at {best / 2:,.0f}/s: 99 % within {late[-1]:.1f} ms")
        about = f"{best / 2:,.0f} readings/s from feed --synthetic on the same cores"
        what = f"latency p99 at half of the greatest rate of readings {name}"
        rows.append(Row(what, late, 25, 10, " ms", more=False, about=about))
    return rows


def footprint_rows(bench: Bench, rounds: int, tell: Callable[[str], object]) -> list[Row]:
    """Return the rows of what a worker takes besides time per forecast."""
    tell("memory, start, idling, disk")
    series = 1_000_000 if bench.size >= 1 else 100_000
    memory = [footprint.memory_per_series(bench, series) for _ in range(min(rounds, 3))]
    start = [footprint.start_seconds(bench) for _ in range(rounds)]
    idle = [
        100 * footprint.idle_share(bench, 10.0 if bench.size >= 1 else 4.0)
        for _ in range(min(rounds, 3))
    ]
    size = footprint.installed_bytes() / 1e6
    return [
        Row(
            f"memory per series over its raw window, {series:,} series",
            memory,
            300,
            150,
            " bytes",
            more=False,
        ),
        Row("start to first forecast", start, 1.5, 0.7, " s", more=False),
        Row("idle worker", idle, 1, 0.3, " % of a core", more=False),
        Row("installed size of what the worker needs", [size], 250, 180, " MB", more=False),
    ]


def page(rows: list[Row], woken: waking.Waking, found: growth.Growth, command: str) -> str:
    """Return the measured part of docs/benchmarks.md."""
    about = "\n".join(f"- {name}: {said}" for name, said in machine().items())
    table = markdown(HEADS, [row.cells() for row in rows])
    text = f"{date.today().isoformat()}, `{command}`\n\n{about}\n\n{table}\n"  # noqa: DTZ011
    if woken:
        text += f"\n## What a rest costs\n\n{waking_table(woken)}\n"
    if found:
        pictures = growth.draw(found, PAGE.parent / "benchmarks")
        text += f"\n## How cost grows\n\n{growth_tables(found, pictures, PAGE.parent)}"
    return text


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.write and (options.quick or set(options.only) != set(KINDS)):
        parser.error("--write replaces the whole page, so it wants all kinds, and not --quick")
    rounds = options.rounds or (1 if options.quick else 5)
    begin = time.monotonic()

    def tell(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begin:6.0f} s  {line}\n")

    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        bench = Bench(client, url, Path(folder), 0.05 if options.quick else 1.0)
        rates = rates_of(bench, rounds, tell) if "rates" in options.only else {}
        rows, woken = ratio_rows(rates), []
        if "messy" in options.only:
            rows += messy_rows(bench, rounds, tell)
        if "latency" in options.only:
            rows += latency_rows(bench, rounds, tell)
            stored = sorted(rates[FLAT])[rounds // 2] if rates else CASES[FLAT](bench)
            rows += load_rows(bench, rounds, stored, tell)
            woken = waking.measure(bench)
        if "footprint" in options.only:
            rows += footprint_rows(bench, rounds, tell)
        grown = {}
        if "growth" in options.only and not options.quick:
            grown = growth.measure(bench, tell)
    text = page(
        rows, woken, grown if options.write else {}, f"make bench{' QUICK=1' * options.quick}"
    )
    sys.stdout.write(text)
    if options.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    if options.json:
        options.json.write_text(json.dumps(document(rows, rates, woken, grown), indent=1) + "\n")


if __name__ == "__main__":
    main()
