"""Windows that are saved, lost and made again against a reference that never forgets anything.

``TIDECAST_EXAMPLES`` says how many histories are tried (60).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any, ClassVar

import numpy as np
import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.model_files import write_mean_model
from tests.slow_windows import SlowWindow
from tidecast.worker.pipeline.changelog import Changelog
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.grid import Grid, grid_of
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.pipeline.snapshot import decode, encode
from tidecast.worker.pipeline.step import Pipeline
from tidecast.worker.pipeline.wire import FORGET, Entry

EXAMPLES = int(os.environ.get("TIDECAST_EXAMPLES", "60"))
MAX_SERIES = 3
STEP = 100
SPECS: dict[str, tuple[int, int | None]] = {"a": (2, None), "b": (4, STEP), "c": (8, STEP)}
"""By a name's first letter: n_steps and step; the sums are exact and so are their means."""
FILLED = 3
"""Empty slots in a row that ``c`` fills with the value before."""
LARGE = 7_000_000_000_000
"""What is added to the readings of ``c``, which has 64-bit numbers: 32-bit ones would lose them."""
LEAST = 2
"""Readings from which on ``c`` forecasts, its window extended by the oldest."""
NAMES = ["c0", "c1", "a0", "a1", "a2", "b0", "b1", "b2", "é0", "x1", "x2", "x3", "x4"]
DELTAS = [STEP] * 5 + [51, 149, 150, 151, 2 * STEP, 3 * STEP, 5 * STEP, 50, 0, -STEP]

Number = int | str
Reading = tuple[str, int, Number, Number]
"""Series, time, value and level; ``b`` reads both, ``a`` the value."""
Forecast = tuple[str, int, str, tuple[float, float]]
"""Series, time, entry, the number forecast and which share of its window no reading filled."""
Window = tuple[int, int, list[list[float]]]
"""Length of the run, newest time, and the tail's values."""

numbers = st.integers(0, 9)
unfit = numbers | st.sampled_from(["bad", "1e39"])
head = (st.sampled_from(NAMES), st.sampled_from(DELTAS))
fit = st.tuples(*head, numbers, numbers)
drafts = fit | fit | fit | st.tuples(*head, unfit, unfit)
batches = st.lists(st.lists(drafts, min_size=1, max_size=3), min_size=1, max_size=20)
some_names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=MAX_SERIES, unique=True)
fullness = st.sampled_from([False, False, False, True])
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


class Reference:
    """A window per series, in plain Python; the first in the dictionary goes first."""

    def __init__(self, grids: dict[str, Grid]) -> None:
        self.grids = grids
        self.windows: dict[str, SlowWindow] = {}
        self.evicted = 0

    def read(
        self, name: str, time: int, value: Number, level: Number
    ) -> tuple[float, float] | None:
        """Return the mean of the window that a reading completes, and its share without readings.

        None where it completes none.
        """
        if name[0] not in SPECS:
            return None
        n_steps, _ = SPECS[name[0]]
        if name not in self.windows and len(self.windows) == MAX_SERIES:
            del self.windows[next(iter(self.windows))]
            self.evicted += 1
        window = self.windows.pop(name, SlowWindow(n_steps, self.grids[name[0]]))
        self.windows[name] = window
        values = [v for v in ((value, level) if name[0] == "b" else (value,)) if isinstance(v, int)]
        if len(values) < (2 if name[0] == "b" else 1):
            return None
        outcome = window.read(time, tuple(map(float, values)))
        if outcome.window is None:
            return None
        return float(np.mean(outcome.window)), outcome.filled / n_steps


@dataclass(frozen=True)
class Written:
    """A section on the server."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its sections and what its manifest says."""

    sections: tuple[Written, ...]
    place: int
    clock: int
    series: int
    evicted: int


class Histories(RuleBasedStateMachine):
    """A partition that is fed, saved and killed at will."""

    registry: ClassVar[Registry]

    def __init__(self) -> None:
        super().__init__()
        self.reference = Reference(
            {model.spec.name: grid_of(model.spec) for model in self.registry.models}
        )
        self.stream: list[Entry] = []
        self.times: dict[str, int] = {}
        self.published: Saved | None = None
        self.log = new_log()
        self.pipeline = self.empty()
        self.evicted_before = 0

    @rule(batch=batches)
    def feed(self, batch: list[list[Reading]]) -> None:
        readings = [self.timed(drafts) for drafts in batch]
        entries = self.entries(readings)
        self.stream += entries
        expected = [
            (name, time, entry_id.decode(), answer)
            for (entry_id, _), several in zip(entries, readings, strict=True)
            for name, time, value, level in several
            if (answer := self.reference.read(name, time, value, level)) is not None
        ]
        assert forecasts(self.pipeline, entries) == expected

    @rule(names=some_names, rounds=st.integers(1, 6), value=st.integers(0, 4))
    def feed_in_step(self, names: list[str], rounds: int, value: int) -> None:
        """Without these few windows would ever be full."""
        self.feed([[(name, STEP, value + i, i) for name in names] for i in range(rounds)])

    @rule(name=st.sampled_from(NAMES), batch=batches)
    def forget(self, name: str, batch: list[list[Reading]]) -> None:
        """An order among readings, in one step with those behind it."""
        order: Entry = (b"%d-0" % (len(self.stream) + 1), [FORGET, name.encode()])
        self.stream.append(order)
        held = self.reference.windows.pop(name, None) is not None
        self.times.pop(name, None)
        assert forecasts(self.pipeline, [order]) == []
        done = self.pipeline.orders[-1]
        assert (done.entry, done.series, done.held) == (order[0].decode(), name, held)
        self.feed(batch)

    @rule(batch=batches, full=fullness)
    def checkpoint(self, batch: list[list[Reading]], full: bool) -> None:
        self.feed(batch)
        self.published = self.written(full=full) or self.published

    @rule(batch=batches, sizes=cuts)
    def die_before_the_commit(self, batch: list[list[Reading]], sizes: list[int]) -> None:
        """What was forecast and not committed leaves no trace."""
        times = dict(self.times)
        forecasts(self.pipeline, self.entries([self.timed(drafts) for drafts in batch]))
        self.times = times
        self.crash(sizes)

    @rule(sizes=cuts, full=fullness)
    def die_before_the_checkpoint_stands(self, sizes: list[int], full: bool) -> None:
        self.written(full=full)
        self.crash(sizes)

    @precondition(lambda self: self.published is not None)
    @rule(sizes=cuts)
    def die(self, sizes: list[int]) -> None:
        self.crash(sizes)

    @precondition(lambda self: self.published is not None)
    @rule(sizes=cuts)
    def die_and_find_the_checkpoint_unreadable(self, sizes: list[int]) -> None:
        self.rebuild(None, sizes)

    def crash(self, sizes: list[int]) -> None:
        self.rebuild(self.published, sizes)

    def rebuild(self, saved: Saved | None, sizes: list[int]) -> None:
        """Lose the windows and make them again, from a checkpoint or from all of the stream."""
        self.log = new_log(saved)
        self.pipeline, self.evicted_before, place = self.empty(), 0, 0
        if saved is not None:
            states = (decode(section.content) for section in saved.sections)
            for _ in self.pipeline.held.restore(states, saved.clock, saved.series):
                pass
            self.evicted_before, place = saved.evicted, saved.place
        for entries in in_batches(self.stream[place:], sizes):
            list(self.pipeline.replay(entries))

    @invariant()
    def the_series_held_are_the_references(self) -> None:
        expected = self.reference.windows
        assert len(self.pipeline.held) == len(expected)
        assert self.evicted_before + self.pipeline.held.evicted == self.reference.evicted
        assert list(windows(self.pipeline).items()) == [
            (name, window_of(window)) for name, window in expected.items()
        ]

    def empty(self) -> Pipeline:
        return Pipeline(self.registry, Decoder("x0", self.registry.features), MAX_SERIES)

    def written(self, *, full: bool) -> Saved | None:
        """Return the checkpoint that stands after a save, if one does; ``full``: it must."""
        held = self.pipeline.held
        held.save(self.log, lambda state: Written(encode(state)), whole=full)
        if not self.log.is_complete:
            assert not full
            return None
        return Saved(
            tuple(self.log.sections),
            len(self.stream),
            held.clock,
            len(held),
            self.evicted_before + held.evicted,
        )

    def timed(self, several: list[Reading]) -> list[Reading]:
        """Return drafts with a time each instead of a distance to the series' newest."""
        readings = []
        for name, delta, value, level in several:
            newest = self.times.get(name, 1_000_000)
            self.times[name] = max(newest, newest + delta)
            if name[0] == "c" and isinstance(value, int):
                value += LARGE
            readings.append((name, newest + delta, value, level))
        return readings

    def entries(self, readings: list[list[Reading]]) -> list[Entry]:
        """Return an entry for each list of readings: flat, or JSON where there are several."""
        first = len(self.stream) + 1
        return [(b"%d-0" % (first + i), fields_of(r)) for i, r in enumerate(readings)]


def fields_of(readings: list[Reading]) -> list[bytes]:
    rows = [dict(zip(("series", "ts", "value", "level"), r, strict=True)) for r in readings]
    if len(rows) > 1:
        return [b"body", orjson.dumps(rows)]
    return [text for k, v in rows[0].items() for text in (k.encode(), str(v).encode())]


def in_batches(entries: list[Entry], sizes: list[int]) -> Iterator[list[Entry]]:
    first = 0
    for size in cycle(sizes):
        if first >= len(entries):
            return
        yield entries[first : first + size]
        first += size


def forecasts(pipeline: Pipeline, entries: list[Entry]) -> list[Forecast]:
    """Return what a step forecasts, in the order of its records."""
    commits = list(pipeline.step(entries))
    assert [c.newest for c in commits][-1] == entries[-1][0].decode()
    records = [orjson.loads(record) for commit in commits for record in commit.records]
    assert [r["series"].encode() for r in records] == [s for c in commits for s in c.series]
    return [
        (r["series"], r["at"], r["entry"], (r["forecast"]["value"][0], r.get("filled", 0.0)))
        for r in records
    ]


def new_log(saved: Saved | None = None) -> Changelog[Written]:
    """A log whose slices hold one or two series, so that all its ways are gone."""
    sections, clock = (saved.sections, saved.clock) if saved else ((), 0)
    return Changelog(sections, clock, slice_size=130, largest=130)


def windows(pipeline: Pipeline) -> dict[str, Window]:
    """Return the window of each series held, the stalest first."""
    found: list[tuple[int, str, Window]] = []
    for number, table in enumerate(pipeline.held.tables):
        moved = table.moved.copy()  # a look is no save
        state = pipeline.held.base(number, 0, table.size)
        table.moved[:] = moved
        runs, newest, tails = (state.arrays[name] for name in ("run", "newest", "tail"))
        for i, name in enumerate(state.names):
            run = min(int(runs[i]), len(tails[i]))
            tail = tails[i, max(0, len(tails[i]) - run) :].tolist()
            window = (run, int(newest[i]) if run else 0, tail)
            found.append((int(state.touched[i]), name.decode(), window))
    return {name: window for _, name, window in sorted(found)}


def window_of(window: SlowWindow) -> Window:
    """Return the same of a window of the reference."""
    tail = [list(slot.values) for slot in window.slots[-window.n_steps :]]
    return len(tail), window.newest, tail


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("models")
    write_mean_model(folder / "a.onnx", name="a", n_steps=2, series="a*")
    write_mean_model(
        folder / "b.onnx",
        name="b",
        n_steps=4,
        series="b*",
        features=("value", "level"),
        step_seconds=STEP / 1000,
    )
    filling: dict[str, Any] = {"gaps": "hold", "max_gap": FILLED, "step_seconds": STEP / 1000}
    filling |= {"min_steps": LEAST, "numbers": "float64"}
    write_mean_model(folder / "c.onnx", name="c", n_steps=SPECS["c"][0], series="c*", **filling)
    return load_registry(folder)


def test_a_window_that_began_anew_between_two_saves_has_no_filled_slots(registry: Registry) -> None:
    """A save writes what has come since the last, and not that what came before counts no more."""
    Histories.registry = registry
    history = Histories()
    history.feed([[("c0", delta, 1, 1)] for delta in (STEP, 4 * STEP)])
    history.checkpoint([[("c0", STEP, 1, 1)]], full=True)
    history.checkpoint([[("c0", 9 * STEP, 1, 1)]], full=False)
    history.die([1])
    for delta in (STEP, STEP, STEP, STEP, 2 * STEP):
        history.feed([[("c0", delta, 1, 1)]])


def test_no_history_of_saving_and_dying_changes_a_forecast(registry: Registry) -> None:
    Histories.registry = registry
    run_state_machine_as_test(
        Histories, settings=settings(max_examples=EXAMPLES, stateful_step_count=30)
    )
