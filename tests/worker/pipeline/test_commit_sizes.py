"""How many readings one commit holds, and what it says of a model's own mistakes."""

import json
from pathlib import Path
from typing import Any

from tests.model_files import spec_of, write_mean_model, write_picking_model
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.step import LARGEST_COMMIT, Pipeline, most_at_once


def test_uneven_entries_make_even_commits(tmp_path: Path) -> None:
    """A gateway that sends a thousand readings an entry among others that send one."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    registry = load_registry(model)
    pipeline = Pipeline(registry, Decoder("readings", registry.features), 1_000_000)
    sizes = [1] * 900 + [990] * 30 + [2500] + [1] * 50
    entries = []
    for number, size in enumerate(sizes):
        times = list(range(number, number + size))
        body = json.dumps({"ts": times, "value": [1] * size}).encode()
        entries.append((b"1-%d" % number, [b"data", body]))
    commits = list(pipeline.step(entries))
    assert sum(commit.fates.readings for commit in commits) == sum(sizes)
    assert sum(commit.entries for commit in commits) == len(sizes)
    assert max(c.fates.readings for c in commits if c.entries > 1) <= LARGEST_COMMIT
    assert [c.entries for c in commits if c.fates.readings > LARGEST_COMMIT] == [1]
    assert len(commits) < 40


def pipeline_of(path: Path, **described: Any) -> Pipeline:
    registry = load_registry(write_mean_model(path / "m.onnx", **described))
    return Pipeline(registry, Decoder("readings", registry.features), 1_000_000)


def entry(number: int, *values: float) -> tuple[bytes, list[bytes]]:
    body = json.dumps([{"series": f"s{i}", "value": v} for i, v in enumerate(values)])
    return b"1-%d" % number, [b"data", body.encode()]


def test_long_forecasts_make_small_commits(tmp_path: Path) -> None:
    """2,000 leads of some 14 bytes each: of these a commit of 8 MB holds 283."""
    pipeline = pipeline_of(tmp_path, n_steps=1, horizon=2000)
    commits = list(pipeline.step([entry(number, *[1.0] * 50) for number in range(20)]))
    readings = [commit.fates.readings for commit in commits]
    assert sum(readings) == 1000
    assert max(readings) == 250  # five whole entries
    assert max(sum(map(len, commit.records)) for commit in commits) < 8_000_000


def test_a_forecast_that_is_no_number_is_a_reject_with_its_reason(tmp_path: Path) -> None:
    """The sum of two readings of 3e38 is no float32, and the other series is forecast."""
    pipeline = pipeline_of(tmp_path, n_steps=2)
    (commit,) = pipeline.step([entry(1, 3e38, 1.0), entry(2, 3e38, 3.0)])
    assert [one.reason for one in commit.rejects] == [
        "the model answers with a non-finite forecast"
    ]
    assert commit.rejects[0].entry == b"1-2"
    assert commit.series == [b"s1"]
    assert json.loads(commit.records[0])["forecast"]["value"] == [2.0]


def test_a_window_that_fails_is_a_reject_with_its_reason(tmp_path: Path) -> None:
    """And all others of its batch are forecast."""
    registry = load_registry(write_picking_model(tmp_path / "m.onnx"))
    pipeline = Pipeline(registry, Decoder("readings", registry.features), 1_000_000)
    (commit,) = pipeline.step([entry(1, 3.0, 9.0, 1.0), entry(2, 2.0)])
    assert commit.series == [b"s0", b"s2", b"s0"]
    assert [json.loads(record)["forecast"]["value"] for record in commit.records] == [
        [30.0],
        [10.0],
        [20.0],
    ]
    (reject,) = commit.rejects
    assert (reject.kind, reject.entry, reject.payload) == (
        "forecast",
        b"1-1",
        b'{"series":"s1","value":9.0}',
    )
    assert reject.reason.startswith("the model cannot compute this window: indices element out of")
    (commit,) = pipeline.step([entry(3, 1.0, 1.0)])  # and its series goes on
    assert (commit.series, commit.rejects) == ([b"s0", b"s1"], [])


def test_fewer_readings_move_windows_at_once_where_each_may_fill_many_slots() -> None:
    described: dict[str, Any] = {"n_steps": 1000, "step_seconds": 1.0, "gaps": "linear"}
    plain, filling = (most_at_once([spec_of(max_gap=most, **described)]) for most in (0, 998))
    assert filling < plain / 20
