"""Each reading has one fate, and all of them add up, however a stream is cut into batches."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model_files import write_mean_model
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.fates import NAMES, WORDS, Fates, fates_of
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.pipeline.step import Pipeline
from tidecast.worker.pipeline.wire import KINDS, OF_READINGS, Entry

START = 1_700_000_000_000
STEP = 1000

readings = st.tuples(
    st.sampled_from(["a0", "a1", "b0", "x"]),
    st.sampled_from([*range(12), 10**9]),
    st.sampled_from([0, 1, 2, 3, "-", None, "word", 1e39]),
    st.sampled_from(["0", "1", "", None]),
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("models")
    grid: dict[str, Any] = {"step_seconds": 1.0, "gaps": "linear", "max_gap": 2, "min_steps": 2}
    write_mean_model(folder / "a.onnx", name="a", n_steps=4, series="a*", **grid)
    write_mean_model(folder / "b.onnx", name="b", n_steps=2, series="b*", step_seconds=1.0)
    return load_registry(folder)


def entries_of(drafts: list[tuple[str, int, Any, str | None]]) -> list[Entry]:
    """An entry a reading, JSON, whose id is of its second."""
    entries = []
    for number, (series, step, value, history) in enumerate(drafts):
        body = orjson.dumps({"series": series, "ts": START + STEP * step, "value": value})
        fields = [b"data", body]
        if history is not None:
            fields += [b"tidecast:history", history.encode()]
        entries.append((b"%d-%d" % (START, number), fields))
    return entries


def pipeline_of(registry: Registry, *, naive: bool = False) -> Pipeline:
    decoder = Decoder("s", registry.features)
    return Pipeline(registry, decoder, 10, max_skew=86_400_000, naive=naive)


def worked(
    registry: Registry, entries: list[Entry], size: int, *, naive: bool = False
) -> tuple[Pipeline, list[Commit]]:
    pipeline = pipeline_of(registry, naive=naive)
    commits = []
    for first in range(0, len(entries), size):
        commits += list(pipeline.step(entries[first : first + size]))
    return pipeline, commits


@given(st.lists(readings, min_size=1, max_size=60), st.integers(1, 60), st.booleans())
def test_what_became_of_readings_adds_up(
    registry: Registry, drafts: list[tuple[str, int, Any, str | None]], size: int, naive: bool
) -> None:
    entries = entries_of(drafts)
    pipeline, commits = worked(registry, entries, size, naive=naive)
    for commit in commits:
        fates = asdict(commit.fates)
        kinds = Counter(reject.kind for reject in commit.rejects)
        others = len(commit.records) + sum(kinds[kind] for kind in OF_READINGS)
        assert fates.pop("readings") == sum(fates.values()) + others
    _, whole = worked(registry, entries, len(entries), naive=naive)
    assert not (naive and pipeline.fates.waiting)
    assert pipeline.fates == sum_of(whole)
    records = [record for commit in commits for record in commit.records]
    assert records == [record for commit in whole for record in commit.records]
    replayed = pipeline_of(registry, naive=naive)
    assert list(replayed.replay(entries)) == [len(entries)]
    assert replayed.fates == pipeline.fates


def sum_of(commits: list[Commit]) -> Fates:
    fates = Fates()
    for commit in commits:
        fates.add(commit.fates)
    return fates


@given(st.lists(readings.filter(lambda one: one[3] != "1"), max_size=40))
def test_history_moves_windows_and_is_not_forecast(
    registry: Registry, drafts: list[tuple[str, int, Any, str | None]]
) -> None:
    """The same windows as without the mark; the marked ones' forecasts alone are missing."""
    marked = [(*one[:3], "1" if number % 3 else None) for number, one in enumerate(drafts)]
    plain, commits = worked(registry, entries_of(drafts), 7)
    silent, others = worked(registry, entries_of(marked), 7)
    for table, other in zip(plain.held.tables, silent.held.tables, strict=True):
        assert np.array_equal(table["tail"], other["tail"])
        assert np.array_equal(table["run"], other["run"])
    kept = {entry_id.decode() for entry_id, fields in entries_of(marked) if len(fields) == 2}
    records = [orjson.loads(r) for commit in commits for r in commit.records]
    assert [r for r in records if r["entry"] in kept] == [
        orjson.loads(r) for commit in others for r in commit.records
    ]
    assert silent.fates.history >= len(records) - sum(r["entry"] in kept for r in records)
    assert silent.fates.waiting <= plain.fates.waiting


def test_those_without_a_forecast_are_told() -> None:
    numbers = {name: number for number, name in enumerate(NAMES)}
    assert fates_of(numbers | {"unknown": 7}) == Fates(**numbers)
    told = list(Fates(**numbers).told())
    assert [word.partition(" ")[2] for word in told] == list(WORDS.values())
    assert list(Fates(readings=9, waiting=9).told()) == []
    assert set(OF_READINGS) < set(KINDS)


def test_late_readings_let_leases_be_looked_after_in_a_replay_too(registry: Registry) -> None:
    first = {"series": "a0", "ts": [START, START + STEP, START + 2 * STEP], "value": [1, 2, 3]}
    late = {"series": "a0", "ts": [START + STEP] * 900, "value": list(range(900))}
    entries = [
        (b"%d-%d" % (START, number), [b"data", orjson.dumps(body)])
        for number, body in enumerate((first, late))
    ]
    pulses: list[int] = []
    list(pipeline_of(registry).replay(entries, lambda: pulses.append(1)))
    assert len(pulses) >= 4
