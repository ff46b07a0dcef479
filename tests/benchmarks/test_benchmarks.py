"""The benchmark itself runs, a tiny round of it; nothing here looks at how long anything takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.benchmarks import messy, partitions, waking
from tests.benchmarks.cases import CASES, PEERS, Bench
from tests.benchmarks.footprint import idle_share, installed_bytes, memory_per_series, start_seconds
from tests.benchmarks.growth import AXES, draw
from tests.benchmarks.latency import latency, live_rate, relay, worker
from tests.benchmarks.report import HEADS, Row, markdown, waking_table
from tests.benchmarks.workers import ROOT

TINY = 0.005


@pytest.fixture
def bench(client: redis.Redis, server_url: str, tmp_path: Path) -> Bench:
    return Bench(client, server_url, tmp_path, TINY)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in PEERS and "1,000,000" not in name]
)
def test_every_rate_is_measured(bench: Bench, name: str) -> None:
    assert CASES[name](bench) > 0
    assert bench.client.keys() == []


@pytest.mark.parametrize("words", [relay, worker])
def test_latency_is_measured(bench: Bench, words: object) -> None:
    assert callable(words)
    median, late = latency(bench, words(bench), 200, 2.0)
    assert 0 < median <= late


def test_latency_under_load_is_measured(bench: Bench) -> None:
    median, late = latency(bench, worker(bench), 200, 2.0, load=500)
    assert 0 < median <= late


def test_the_greatest_live_rate_is_measured(bench: Bench) -> None:
    assert live_rate(bench, 0.5) > 0
    assert bench.client.keys() == []


def test_what_a_rest_costs_is_measured(bench: Bench) -> None:
    found = waking.measure(bench)
    assert all(each > 0 for _, taken in found for each in taken)
    assert waking_table(found).count("\n") == 1 + len(found)


def test_a_worker_with_several_partitions_is_measured(bench: Bench) -> None:
    assert partitions.rate(bench, 4) > 0


def test_what_a_messy_stream_costs_is_measured(bench: Bench) -> None:
    ratios = messy.measure(bench, 1, lambda _: None)
    assert list(ratios) == list(messy.KINDS)
    assert all(ratio > 0 for (ratio,) in ratios.values())
    assert bench.client.keys() == []


def test_the_footprint_is_measured(bench: Bench) -> None:
    assert memory_per_series(bench, 3000) > -1e6
    assert start_seconds(bench) > 0
    assert 0 <= idle_share(bench, 0.5) <= 1
    assert installed_bytes() > 50e6


def test_growth_is_measured_and_drawn(bench: Bench, tmp_path: Path) -> None:
    smallest = [(axis.name, axis.sizes[0], axis.measure(bench, axis.sizes[0])) for axis in AXES]
    grown = {name: [(size, rate, alone)] for name, size, (rate, alone) in smallest}
    pictures = draw(grown, tmp_path / "pictures")
    assert len(pictures) == len(AXES)
    assert all(picture.read_text().count("<svg") == 1 for picture in pictures)


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    words = ["--quick", "--only", "footprint", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "| idle worker" in done.stdout
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["name"].split()[0] for row in rows] == ["memory", "start", "idle", "installed"]


@pytest.mark.parametrize(
    ("samples", "more", "verdict"),
    [
        ([0.6], True, "goal"),
        ([0.3, 0.4, 0.9], True, "met"),
        ([0.1], True, "NOT MET"),
        ([0.1], False, "goal"),
        ([0.4], False, "met"),
        ([0.6], False, "NOT MET"),
    ],
)
def test_a_row_says_how_it_stands_to_its_goal(
    samples: list[float], more: bool, verdict: str
) -> None:
    floor, reach = (0.35, 0.5) if more else (0.5, 0.2)
    row = Row("speed", samples, floor, reach, more=more)
    assert row.verdict == verdict
    assert row.cells()[HEADS.index("")] == verdict
    assert len(row.cells()) == len(HEADS)
    assert markdown(HEADS, [row.cells()]).count("\n") == 2
