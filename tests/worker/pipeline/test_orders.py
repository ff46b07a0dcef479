"""Entries that say to forget a series, among readings: how a stream is cut changes nothing."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.model_files import write_mean_model
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.step import Pipeline, Room
from tidecast.worker.pipeline.wire import ADDRESSEE, FORGET, Entry

START, STEP = 1_700_000_000_000, 1000


def pipeline_of(folder: Path, **described: Any) -> Pipeline:
    both = {"features": ("a", "b"), "targets": ("a",)} if described.pop("joins", False) else {}
    grid: dict[str, Any] = {"step_seconds": 1.0, "gaps": "linear", "max_gap": 2, "min_steps": 2}
    write_mean_model(folder / "m.onnx", n_steps=4, series="s*", **(grid | both | described))
    registry = load_registry(folder)
    # So little room for windows that an entry of several readings goes through in parts.
    return Pipeline(registry, Decoder("s", registry.features), 100, room=Room(windows=400))


def stream() -> list[Entry]:
    """Flat readings, columns and orders, some of which another fleet is to obey."""
    said: list[list[bytes]] = []
    for number in range(40):
        at = START + STEP * number
        if number % 9 == 4:
            said.append([FORGET, b"s%d" % (number % 2)])
        if number % 13 == 6:
            said.append([FORGET, b"s0", ADDRESSEE, b"other"])
        if number % 11 == 5:
            said.append([FORGET, b"\xff" if number % 2 else b"unknown"])
        if number % 3:
            body = {"series": ["s0", "s1", "x"], "ts": at, "value": [number, 2, 3]}
            body |= {"a": [number, 4, 5], "b": [6, 7, 8]} if number % 2 else {"a": [9] * 3}
            said.append([b"data", orjson.dumps(body)])
        else:
            said.append([b"series", b"s0", b"ts", b"%d" % at, b"value", b"7", b"b", b"8"])
    return [(b"%d-0" % (number + 1), fields) for number, fields in enumerate(said)]


@pytest.mark.parametrize("kind", [{}, {"joins": True}, {"aggregate": {"value": "sum"}}])
def test_a_cut_of_the_stream_changes_nothing(tmp_path: Path, kind: dict[str, Any]) -> None:
    def worked(size: int) -> tuple[Any, ...]:
        pipeline, entries = pipeline_of(tmp_path, **kind), stream()
        parts = [entries[first : first + size] for first in range(0, len(entries), size)]
        commits = [commit for part in parts for commit in pipeline.step(part)]
        return (
            [record for commit in commits for record in commit.records],
            [reject for commit in commits for reject in commit.rejects],
            [order for commit in commits for order in commit.orders],
            list(pipeline.orders),
            pipeline.fates,
        )

    whole = worked(1000)
    assert [worked(size) for size in (1, 2, 7)] == [whole] * 3
    records, rejects, orders, kept, fates = whole
    assert len(records) > 10
    assert kept == orders
    assert {(one.series, one.held) for one in orders} == {
        *(("s0", True), ("s1", True)),
        ("unknown", False),
    }
    assert {one.reason for one in rejects if one.kind == "series"} == {
        "series name '\ufffd' is not UTF-8"
    }
    readings = sum(
        3 if fields[0] == b"data" else 1 for _, fields in stream() if FORGET not in fields
    )
    assert fates.readings == readings


def test_what_the_order_drops_is_all_there_is(tmp_path: Path) -> None:
    """Behind the order a series forecasts as one that never was, from open slots too."""
    for kind in ({}, {"joins": True}, {"aggregate": {"value": "sum"}}):
        before, behind = pipeline_of(tmp_path, **kind), pipeline_of(tmp_path, **kind)
        entries = [entry for entry in stream() if FORGET not in entry[1]]
        order: list[Entry] = [(b"25-1", [FORGET, name]) for name in (b"s0", b"s1")]
        list(before.step([*entries[:25], *order]))
        behind.stream_time.latest = before.stream_time.latest
        made = [
            [record for commit in pipeline.step(entries[25:]) for record in commit.records]
            for pipeline in (before, behind)
        ]
        assert made[0] == made[1]
        assert len(made[0]) > 3
