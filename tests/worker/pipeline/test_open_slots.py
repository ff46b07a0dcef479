"""Readings that are joined and aggregated, as a plain reading of docs/time.md has them."""

from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model_files import write_mean_model
from tests.slow_slots import SlowSlots
from tidecast.worker.pipeline.aggregate import KEPT
from tidecast.worker.pipeline.changelog import Changelog
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.grid import Twice, grid_of
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.pipeline.serving import NOT_FINITE
from tidecast.worker.pipeline.snapshot import State, decode, encode
from tidecast.worker.pipeline.step import Late, Pipeline
from tidecast.worker.pipeline.wire import OF_READINGS, Entry

START = 1_699_999_999_000
STEP = 1000
N_STEPS = 4
FEATURES = ("a", "b")
GRID: dict[str, Any] = {"step_seconds": 1.0, "gaps": "linear", "max_gap": 2, "min_steps": 1}
AGGREGATES: tuple[dict[str, str], ...] = (
    {},
    {"a": "mean", "b": "sum"},
    {"a": "min", "b": "max"},
    {"b": "count"},
)

cells = st.integers(0, 5) | st.none()
drafts = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "z"]),
        st.integers(0, 30).map(lambda quarter: 250 * quarter) | st.integers(0, 7500),
        cells,
        cells,
        st.booleans(),
    ).filter(lambda one: one[2:4] != (None, None)),
    min_size=1,
    max_size=50,
)
orders = st.sampled_from(["as they come", "by time", "nearly by time"])
kinds = st.sampled_from(range(len(AGGREGATES)))
delays = st.sampled_from([0, 700, 2500])
Draft = tuple[str, int, int | None, int | None, bool]


@cache
def registry_of(kind: int) -> Registry:
    folder = Path(mkdtemp(prefix="tidecast-test-"))
    grid: dict[str, Any] = {"step_seconds": 1.0, "gaps": "linear", "max_gap": 2, "min_steps": 2}
    write_mean_model(
        folder / "m.onnx",
        **grid,
        n_steps=N_STEPS,
        features=FEATURES,
        targets=FEATURES,
        aggregate=AGGREGATES[kind],
    )
    return load_registry(folder)


def in_order(some: list[Draft], order: str) -> list[Draft]:
    if order == "as they come":
        return some
    jitter = 1500 if order == "nearly by time" else 0
    return sorted(some, key=lambda one: one[1] + hash(one) % (jitter + 1))


def entries_of(some: list[Draft]) -> list[Entry]:
    entries = []
    for number, (series, after, a, b, history) in enumerate(some):
        said = {"series": series, "ts": START + after}
        said |= {name: value for name, value in (("a", a), ("b", b)) if value is not None}
        fields = [b"data", orjson.dumps(said)]
        entries.append((b"%d-%d" % (START, number), fields + [b"tidecast:history", b"1"] * history))
    return entries


def pipeline_of(kind: int, lateness: float, most: int = 10) -> Pipeline:
    registry = registry_of(kind)
    return Pipeline(registry, Decoder("s", registry.features), most, lateness=lateness)


def worked(pipeline: Pipeline, entries: list[Entry], size: int) -> list[Commit]:
    return [
        commit
        for first in range(0, len(entries), size)
        for commit in pipeline.step(entries[first : first + size])
    ]


def records_of(commits: list[Commit]) -> list[bytes]:
    return [record for commit in commits for record in commit.records]


@given(drafts, orders, kinds, delays)
def test_forecasts_are_those_of_a_plain_reading(
    some: list[Draft], order: str, kind: int, lateness: int
) -> None:
    some = in_order(some, order)
    spec = registry_of(kind).models[0].spec
    slow = SlowSlots(N_STEPS, grid_of(spec), len(FEATURES), lateness)
    expected = []
    for series, after, a, b, history in some:
        for name, at, outcome in slow.read(series, START + after, (a, b), loud=not history):
            values = [value for row in outcome.window or () for value in row]
            filled = round(outcome.filled / N_STEPS, 4)
            expected.append((name, at, round(float(np.mean(values)), 3), filled))
    made = map(orjson.loads, records_of(worked(pipeline_of(kind, lateness), entries_of(some), 7)))
    assert expected == [
        (one["series"], one["at"], round(one["forecast"]["a"][0], 3), one.get("filled", 0.0))
        for one in made
    ]


@given(drafts, orders, kinds, delays, st.integers(1, 50), st.integers(1, 3))
def test_batches_of_any_size_make_the_same(
    some: list[Draft], order: str, kind: int, lateness: int, size: int, most: int
) -> None:
    """And all that becomes of readings adds up; also where series have to go."""
    entries = entries_of(in_order(some, order))
    one, other = pipeline_of(kind, lateness, most), pipeline_of(kind, lateness, most)
    commits, whole = worked(one, entries, size), worked(other, entries, len(entries))
    assert records_of(commits) == records_of(whole)
    assert one.fates == other.fates
    for commit in commits:
        fates = asdict(commit.fates)
        kinds_of = Counter(reject.kind for reject in commit.rejects)
        beside = len(commit.records) + sum(kinds_of[kind] for kind in OF_READINGS)
        made = fates.pop("readings") + fates.pop("closed")
        del fates["broken"]
        assert made == sum(fates.values()) + beside
    replayed = pipeline_of(kind, lateness, most)
    list(replayed.replay(entries))
    assert replayed.fates == one.fates


@given(drafts, orders, kinds, delays, st.lists(st.integers(0, 50), max_size=3).map(sorted))
def test_open_slots_are_part_of_a_checkpoint(
    some: list[Draft], order: str, kind: int, lateness: int, saves: list[int]
) -> None:
    """Saved at any entries, whole and then by what has come since; then all goes on as before."""
    entries = entries_of(in_order(some, order))
    pipeline, log, sections = pipeline_of(kind, lateness), Changelog[Any](), list[State]()

    def write(state: State) -> Any:
        return Section(encode(state))

    begun = 0
    for save in [*saves, len(entries) // 2]:
        worked(pipeline, entries[begun:save], 5)
        begun = max(begun, save)
        pipeline.held.save(log, write, whole=True)
    sections = [decode(section.content) for section in log.sections]
    again = pipeline_of(kind, lateness)
    list(again.held.restore(sections, pipeline.held.clock, len(pipeline.held)))
    again.stream_time.latest = pipeline.stream_time.latest
    rest = entries[begun:]
    assert records_of(worked(again, rest, 3)) == records_of(worked(pipeline, rest, 4))


@dataclass(frozen=True)
class Section:
    """What was written of a state."""

    content: bytes

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return len(self.content)


def told(pipeline: Pipeline, *readings: tuple[float, dict[str, Any]]) -> list[list[Any]]:
    """Of each reading's forecasts: at which second, the mean of the window, the share filled."""
    found = []
    for number, (second, said) in enumerate(readings):
        body = orjson.dumps({"series": "x", "ts": START + int(1000 * second), **said})
        [commit] = pipeline.step([(b"%d-%d" % (START, number), [b"data", body])])
        found.append(
            [
                (
                    (one["at"] - START) / 1000,
                    next(iter(one["forecast"].values()))[0],
                    one.get("filled", 0.0),
                )
                for one in map(orjson.loads, commit.records)
            ]
        )
    return found


def test_sensors_that_report_apart_are_joined() -> None:
    """::

    second     0.0   0.3   1.0   1.3   2.0          2.7           3.0   3.3
    a          1           3           5                          7
    b                2           4                                      8
    slot of    0     0     1     1     2            closes 2      3     3
    window                     1 3               1 3 5          1 3 5 7
                               2 4               2 4 (4)        2 4 (4) 8
    """
    pipeline = pipeline_of(0, 0)
    made = told(
        pipeline,
        (0.0, {"a": 1}),
        (0.3, {"b": 2}),
        (1.0, {"a": 3}),
        (1.3, {"b": 4}),
        (2.0, {"a": 5}),
        (3.0, {"a": 7}),
        (3.3, {"b": 8}),
    )
    assert made[:3] == [[], [], []]
    assert made[3] == [(1.3, (1 + 1 + 1 + 3 + 2 + 2 + 2 + 4) / 8, 0.5)]
    assert made[4] == []
    assert made[5] == [(2.0, np.float32((1 + 1 + 3 + 5 + 2 + 2 + 4 + 4) / 8), 0.5)]
    assert made[6] == [(3.3, np.float32((1 + 3 + 5 + 7 + 2 + 4 + 4 + 8) / 8), 0.25)]
    fates = pipeline.fates
    assert (fates.readings, fates.joined, fates.waiting, fates.closed) == (7, 4, 1, 1)


def test_readings_of_a_slot_are_aggregated_when_it_closes() -> None:
    """::

    second     0.0  0.4  0.8 | 1.2 | 2.1            a: mean, b: sum
    a          1    2    6   | 4   |
    b          1    1    1   | 5   |
    closes                     0     1
    slot                       3     4
                               3     5
    """
    pipeline = pipeline_of(1, 0)
    both = [(0.0, 1, 1), (0.4, 2, 1), (0.8, 6, 1), (1.2, 4, 5), (2.1, 0, 0)]
    made = told(pipeline, *((second, {"a": a, "b": b}) for second, a, b in both))
    assert made[:4] == [[], [], [], []]
    assert made[4] == [(1.0, (3 + 3 + 3 + 4 + 3 + 3 + 3 + 5) / 8, 0.5)]
    assert (pipeline.fates.joined, pipeline.fates.closed, pipeline.fates.waiting) == (5, 1, 0)


@pytest.mark.parametrize(("twice", "mean"), [("last", 29 / 4), ("first", 20 / 4)])
def test_a_reading_that_comes_again_while_its_slot_is_open_counts_once(
    tmp_path: Path, twice: Twice, mean: float
) -> None:
    """::

    second     0.0  0.2  0.4  0.6   0.2  0.0        0.4             mean of 1 2 8 9, or sum of them
    value        1    2    8    9     2    1         17
                                  twice  twice    instead of 8, or not
    """
    registry = load_registry(
        write_mean_model(tmp_path / "m.onnx", n_steps=1, **GRID, aggregate={"value": "mean"})
    )
    pipeline = Pipeline(registry, Decoder("s", registry.features), 10, twice=twice)
    times = [0.0, 0.2, 0.4, 0.6, 0.2, 0.0, 0.4, 1.1]
    said = zip(times, [1, 2, 8, 9, 2, 1, 17, 0], strict=True)
    *_, [(at, value, _)] = told(pipeline, *((at, {"value": value}) for at, value in said))
    assert (at, value) == (0.0, mean)
    fates = pipeline.fates
    assert (fates.joined, fates.ignored) == ((6, 2) if twice == "last" else (5, 3))


def test_of_very_many_readings_of_a_slot_the_latest_are_known(tmp_path: Path) -> None:
    """One that comes again behind more of them than that counts as another."""
    registry = load_registry(
        write_mean_model(tmp_path / "m.onnx", n_steps=1, **GRID, aggregate={"value": "sum"})
    )
    pipeline = Pipeline(registry, Decoder("s", registry.features), 10)
    readings = [(number / 100, {"value": 1}) for number in range(KEPT + 5)]
    again = [readings[5], readings[4], (1.0, {"value": 0})]
    *_, [(_, total, _)] = told(pipeline, *readings, *again)
    assert total == KEPT + 5 + 1
    assert (pipeline.fates.joined, pipeline.fates.ignored) == (KEPT + 7, 1)


@pytest.mark.parametrize("late", ["drop", "dead"])
def test_what_comes_when_its_slot_was_closed_is_counted_or_a_dead_letter(
    tmp_path: Path, late: Late
) -> None:
    registry = load_registry(
        write_mean_model(tmp_path / "m.onnx", n_steps=1, **GRID, aggregate={"value": "sum"})
    )
    pipeline = Pipeline(registry, Decoder("s", registry.features), 10, late=late)
    commits = [
        commit
        for number, second in enumerate((0.0, 1.1, 0.5, 2.2))
        for commit in pipeline.step([entry_of(number, {"ts": START + int(1000 * second)})])
    ]
    letters = [reject for commit in commits for reject in commit.rejects]
    assert [orjson.loads(record)["forecast"]["value"] for record in records_of(commits)] == [
        [1]
    ] * 2
    assert pipeline.fates.dropped == (late == "drop")
    if late == "dead":
        [letter] = letters
        assert (letter.kind, letter.entry) == ("late", b"%d-2" % START)
        assert letter.reason.startswith("late: its slot was closed before; --lateness keeps")
    else:
        assert letters == []


def entry_of(number: int, said: dict[str, Any]) -> Entry:
    return b"%d-%d" % (START, number), [b"data", orjson.dumps({"value": 1, **said})]


def test_lateness_keeps_slots_open_for_longer() -> None:
    """A reading of a slot that was closed is dropped, and counted."""
    readings = [
        (0.0, {"a": 1, "b": 1}),
        (1.0, {"a": 2, "b": 2}),
        (2.2, {"a": 3, "b": 3}),
        (1.5, {"a": 4, "b": 4}),
        (3.5, {"a": 5, "b": 5}),
    ]
    prompt, patient = pipeline_of(1, 0), pipeline_of(1, 500)
    assert [len(made) for made in told(prompt, *readings)] == [0, 0, 1, 0, 1]
    made = told(patient, *readings)
    assert [len(one) for one in made] == [0, 0, 0, 0, 2]
    assert made[4][0] == (1.0, (1 * 6 + 3 + 6) / 8, 0.5)
    assert (prompt.fates.dropped, patient.fates.dropped) == (1, 0)


def test_what_is_missing_for_long_is_told_once() -> None:
    """Slots whose feature was nowhere near are left out, and the worker says so."""
    pipeline = pipeline_of(0, 0)
    remarks = []
    for number in range(9):
        body = orjson.dumps({"series": "x", "ts": START + STEP * number, "a": number})
        [commit] = pipeline.step([(b"%d-%d" % (START, number), [b"data", body])])
        remarks += commit.remarks
        assert not commit.records
    [remark] = remarks
    assert "no 'b'" in remark
    assert "series x" in remark
    assert pipeline.fates.broken == 8


@pytest.mark.parametrize(("kind", "lateness"), [*product(range(len(AGGREGATES)), (0, 2500))])
def test_history_is_not_forecast_when_its_slot_closes(kind: int, lateness: int) -> None:
    drafts_of: list[Draft] = [("x", 1000 * n, n, n, n < 6) for n in range(12)]
    commits = worked(pipeline_of(kind, lateness), entries_of(drafts_of), 5)
    made = [orjson.loads(record)["at"] for record in records_of(commits)]
    assert made[0] == START + 6000


def pipeline_for(folder: Path, lateness: float = 0.0, **described: Any) -> Pipeline:
    both = {"features": FEATURES, "targets": FEATURES, "n_steps": N_STEPS}
    write_mean_model(folder / "m.onnx", **(GRID | both | described))
    registry = load_registry(folder)
    return Pipeline(registry, Decoder("s", registry.features), 10, lateness=lateness)


def test_a_reading_behind_its_window_opens_no_slot_that_is_there(tmp_path: Path) -> None:
    """Also where nothing is filled, so that what is missing cannot be held."""
    pipeline = pipeline_for(tmp_path, gaps="none", max_gap=0)
    made = told(
        pipeline,
        *((0.0, {"a": 1, "b": 1}), (2.499, {"a": 2}), (0.501, {"a": 9}), (10.0, {"a": 1, "b": 1})),
    )
    assert [len(one) for one in made] == [1, 0, 0, 1]
    assert pipeline.fates.broken == 2


@pytest.mark.parametrize(("step", "lateness"), [(1 / 3, 633.4), (0.0335, 63.65), (0.0335, 0.0)])
def test_no_slot_is_lost_where_a_step_is_no_whole_number_of_milliseconds(
    tmp_path: Path, step: float, lateness: float
) -> None:
    pipeline = pipeline_for(tmp_path, lateness, step_seconds=step, aggregate={"a": "count"})
    readings = [(number * step / 5, {"a": 1, "b": 1}) for number in range(200)]
    made = [one for each in told(pipeline, *readings) for one in each]
    assert len(made) >= 38 - lateness / 1000 / step
    assert pipeline.fates.closed == len(made)
    numbers = [round(second / step) for second, *_ in made]
    assert np.diff(numbers).tolist() == [1] * (len(numbers) - 1)


@pytest.mark.parametrize("after", [0.0, 5000.0, 20_000.0])
def test_open_slots_outlive_another_lateness(tmp_path: Path, after: float) -> None:
    rules: dict[str, Any] = {"step_seconds": 10.0, "aggregate": {"a": "sum"}}
    pipeline, log = pipeline_for(tmp_path, 5000.0, **rules), Changelog[Any]()
    told(pipeline, *((float(second), {"a": 1, "b": 1}) for second in range(14)))
    pipeline.held.save(log, lambda state: Section(encode(state)), whole=True)
    again = pipeline_for(tmp_path, after, **rules)
    states = [decode(section.content) for section in log.sections]
    list(again.held.restore(states, pipeline.held.clock, len(pipeline.held)))
    again.stream_time.latest = pipeline.stream_time.latest
    later = told(again, (15.0, {"a": 1, "b": 1}), (50.0, {"a": 1, "b": 1}))
    # Slots begin at whole tens of seconds; the first one has one reading.
    assert [one for each in later for one in each] == [
        (1.0, (1 + 1 + 1 + 10 + 4) / 8, 0.5),
        (11.0, (1 + 1 + 10 + 4 + 4) / 8, 0.25),
    ]


def test_a_missing_value_of_a_sensor_that_reports_apart_is_a_hole(tmp_path: Path) -> None:
    """And a reading that names no feature, or has a word for one, is a dead letter."""
    pipeline = pipeline_for(tmp_path)
    said: list[dict[str, Any]] = [
        {"a": None},
        {"a": "-"},
        {"a": "", "c": 3},
        {"a": None, "b": 1},
        {"c": 1},
        {"a": "x"},
    ]
    bodies = [orjson.dumps({"series": "x", "ts": START, **one}) for one in said]
    entries = [(b"%d-%d" % (START, n), [b"data", body]) for n, body in enumerate(bodies)]
    [commit] = pipeline.step(entries)
    assert [reject.entry for reject in commit.rejects] == [b"%d-4" % START, b"%d-5" % START]
    assert (commit.fates.missing, commit.fates.joined) == (3, 1)


def test_sums_that_are_too_large_stay_numbers(tmp_path: Path) -> None:
    pipeline = pipeline_for(tmp_path, aggregate={"a": "sum"}, n_steps=1)
    huge = {"a": 3e38, "b": 0}
    [*_, last] = told(pipeline, (0.0, huge), (0.5, huge), (1.5, huge))
    assert last[0][1] > 1e38
    assert pipeline.fates.broken == 0


def test_open_slots_are_taken_over_from_another_that_made_them(tmp_path: Path) -> None:
    one = pipeline_for(tmp_path, aggregate={"a": "sum"})
    other = pipeline_for(tmp_path, aggregate={"a": "sum"})
    told(one, *((number / 10, {"a": 1, "b": 1}) for number in range(5)))
    later = orjson.dumps({"series": "y", "ts": START + 5500, "a": 1, "b": 1})
    list(other.step([(b"%d-0" % START, [b"data", later])]))  # it knows when its first slot ends
    other.held.absorb(one.held)
    other.stream_time.latest = one.stream_time.latest
    *_, [(_, mean, _)] = told(other, (0.9, {"a": 1, "b": 1}), (1.5, {"a": 1, "b": 1}))
    assert mean == (6 + 1) / 2


def test_leases_are_looked_after_while_one_sensor_says_very_much(tmp_path: Path) -> None:
    pulses: list[int] = []
    body = {"series": "x", "ts": [START + n for n in range(2000)], "a": [*range(2000)]}
    entry = (b"%d-0" % START, [b"data", orjson.dumps(body)])
    list(pipeline_for(tmp_path).step([entry], lambda: pulses.append(1)))
    assert len(pulses) > 90


def test_a_forecast_that_fails_as_a_slot_closes_names_its_series(tmp_path: Path) -> None:
    """The reading that closed it is of another one."""
    pipeline = pipeline_for(tmp_path, aggregate={"a": "sum"})
    said = [("x", 0, 3e38), ("y", 1200, 1)]
    bodies = [
        orjson.dumps({"series": series, "ts": START + after, "a": value, "b": 3e38})
        for series, after, value in said
    ]
    entries = [(b"%d-%d" % (START, n), [b"data", body]) for n, body in enumerate(bodies)]
    [commit] = pipeline.step(entries)
    [letter] = commit.rejects
    assert letter.reason == f"series x: {NOT_FINITE}"
    assert (commit.fates.closed, commit.fates.joined, commit.records) == (1, 2, [])


def test_what_closed_for_another_series_is_saved(tmp_path: Path) -> None:
    """No reading of its own came since the last save."""
    rules: dict[str, Any] = {"aggregate": {"a": "sum"}}
    pipeline, log = pipeline_for(tmp_path, **rules), Changelog[Any]()

    def save() -> None:
        pipeline.held.save(log, lambda state: Section(encode(state)), whole=True)

    def entry(series: str, second: float) -> Entry:
        said = {"series": series, "ts": START + int(1000 * second), "a": 1, "b": 1}
        return b"%d-%d" % (START, int(1000 * second)), [b"data", orjson.dumps(said)]

    list(pipeline.step([entry("x", 0.0), entry("y", 0.1)]))
    save()
    list(pipeline.step([entry("y", 1.2)]))
    save()
    again = pipeline_for(tmp_path, **rules)
    states = [decode(section.content) for section in log.sections]
    list(again.held.restore(states, pipeline.held.clock, len(pipeline.held)))
    again.stream_time.latest = pipeline.stream_time.latest
    rest = [entry("y", 2.2), entry("x", 2.3), entry("y", 3.4)]
    expected = [(one.records, one.fates) for one in pipeline.step(rest)]
    assert [(one.records, one.fates) for one in again.step(rest)] == expected


def test_a_backlog_of_one_sensor_loses_no_slot(tmp_path: Path) -> None:
    """It comes when stream time is far ahead, so nothing closes by that."""
    pipeline = pipeline_for(tmp_path)
    slow = SlowSlots(N_STEPS, grid_of(load_registry(tmp_path).models[0].spec), len(FEATURES))
    said: list[tuple[int, int | None, int | None]] = [(0, 1, 1), (60_000, None, 1)]
    said += [(1000 * slot, slot, None) for slot in range(1, 8)]
    said += [(1000 * slot, None, 10 * slot) for slot in range(1, 8)]
    names = ["x", "y", *["x"] * 14]
    drafts_of: list[Draft] = [(name, *one, False) for name, one in zip(names, said, strict=True)]
    expected = [
        (name, at)
        for series, after, a, b, _ in drafts_of
        for name, at, _ in slow.read(series, START + after, (a, b))
    ]
    made = map(orjson.loads, records_of(worked(pipeline, entries_of(drafts_of), 5)))
    assert [(one["series"], one["at"]) for one in made] == expected
    assert len(expected) >= 7


def test_a_reading_of_another_models_series_closes_slots(tmp_path: Path) -> None:
    pipeline_for(tmp_path, series="x", aggregate={"a": "sum"})
    write_mean_model(tmp_path / "other.onnx", name="other", n_steps=1, series="z")
    registry = load_registry(tmp_path)
    pipeline = Pipeline(registry, Decoder("s", registry.features), 10)
    said = [{"series": "x", "ts": START, "a": 1, "b": 1}]
    said += [{"series": "z", "ts": START + 1200, "value": 1}]
    made = [
        [orjson.loads(record)["series"] for record in commit.records]
        for number, one in enumerate(said)
        for commit in pipeline.step([(b"%d-%d" % (START, number), [b"data", orjson.dumps(one)])])
    ]
    assert made == [[], ["x", "z"]]
