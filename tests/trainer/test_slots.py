"""The slots that a fit learns from are those that a worker forecasts from, bit for bit."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.trainer.conftest import history_of
from tests.trainer.test_series import opened_by
from tidecast.files.options import FileOptions
from tidecast.trainer.dataset import make_windows
from tidecast.trainer.gaps import pick_gap, usual_gap
from tidecast.trainer.series import History, Series, in_step, load_history, segments
from tidecast.trainer.slots import in_slots
from tidecast.worker.contract import Numbers, Rule
from tidecast.worker.pipeline.columns import Table
from tidecast.worker.pipeline.grid import Grid
from tidecast.worker.pipeline.open_slots import OpenSlots, depth_of, open_set
from tidecast.worker.pipeline.windows import Advance, WindowStore, column_sets

STEP = 100
MILLISECONDS = FileOptions(time_unit="ms")
FEATURES = ("a", "b")
cells = st.floats(-1e6, 1e6, width=32).map(lambda value: value + 0.0) | st.none()
sums = st.sampled_from([1e17, -1e17]) | cells
"""Of which sums hang on their order."""
rules = st.sampled_from(get_args(Rule))
file_rows = st.lists(
    st.tuples(st.integers(0, 40).map(lambda t: t * 35), cells, cells), min_size=4, max_size=60
).filter(lambda rows: sound(rows))
grids = st.builds(
    Grid,
    st.just(float(STEP)),
    st.sampled_from(["linear", "hold", "seasonal", "none"]),
    st.integers(0, 5),
    st.integers(1, 6),
    amends=st.just(value=True),
    joins=st.just(value=True),
    numbers=st.sampled_from(["float32", "float64"]),
)


def scaled(value: float | None) -> float | None:
    return None if value is None else 1.1 * value


def raised(value: float | None) -> float | None:
    return None if value is None else 2.0**33 + value


def sound(rows: list[tuple[int, float | None, float | None]]) -> bool:
    """Tell whether each column has a number, and most rows have a time of their own."""
    whole = [time for time, *pair in rows if None not in pair]
    return bool(whole) and 2 * len(set(whole)) > len(whole)


@given(file_rows, grids, st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=9))
@example(  # the first slot is left out, and the next lies behind it
    rows=[(105, 0.0, None), (140, 0.0, None), *[(time, 0.0, 0.0) for time in (175, 245, 280)]],
    grid=Grid(float(STEP), "linear", 1, 1, amends=True, joins=True),
    n_steps=2,
    cuts=[1],
)
def test_windows_of_trainer_and_worker_are_equal_bit_for_bit(
    rows: list[tuple[int, float | None, float | None]], grid: Grid, n_steps: int, cuts: list[int]
) -> None:
    """Rows doubled, off the step, without a value or absent; in batches of any size."""
    rows = sorted(rows, key=lambda row: row[0])
    if grid.numbers == "float64":  # what 32 bits would round
        rows = [(t, scaled(a), scaled(b)) for t, a, b in rows]
    served = by_worker(rows, grid, n_steps, cuts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        told = (
            f"{t},{'' if a is None else repr(a)},{'' if b is None else repr(b)}" for t, a, b in rows
        )
        path.write_text("ts,a,b\n" + "\n".join(told) + "\n")
        history = load_history(
            path, FEATURES, step_seconds=STEP / 1000, numbers=grid.numbers, file=MILLISECONDS
        )
    slots = in_slots(history, grid, FEATURES, n_steps)
    learned = by_trainer(slots, n_steps)
    assert learned.keys() <= served.keys()
    assert {time: served[time] for time in learned} == learned
    if not grid.most:
        return  # rows without a value are rows then
    # What is served beside lacks a feature, or nothing follows that could be learned from.
    times, real = slots.series[0].times, slots.series[0].real
    assert times is not None
    for time in served.keys() & set(times[real].tolist()) - learned.keys():
        [after] = np.flatnonzero(times > time)[:1] if (times > time).any() else [None]
        assert after is None or not real[after] or times[after] - time >= 1.5 * STEP


@given(
    st.lists(
        st.tuples(st.integers(0, 150).map(lambda t: t * 10), sums, sums, st.integers(0, 220)),
        min_size=4,
        max_size=80,
    ).filter(lambda rows: sound([row[:3] for row in rows])),
    st.lists(st.tuples(st.integers(0, 79), st.integers(0, 220)), max_size=30),
    st.fixed_dictionaries({"a": rules, "b": rules}).filter(lambda r: set(r.values()) != {"last"}),
    st.integers(1, 5),
    st.lists(st.integers(1, 9), min_size=1, max_size=9),
    st.sampled_from(["float32", "float64"]),
)
@example(  # of the first slot two come again, one behind both others, and one with another value
    rows=[(0, 1.0, 1.0, 0), (20, 2.0, 2.0, 0), (40, 9.0, 9.0, 0), (20, 5.0, None, 60)]
    + [(time, 3.0, 4.0, 0) for time in (100, 200, 300)],
    doubles=[(0, 50)],
    aggregate={"a": "mean", "b": "count"},
    n_steps=1,
    cuts=[1],
    numbers="float32",
)
def test_what_is_aggregated_of_a_shuffled_stream_is_what_is_of_the_file(
    rows: list[tuple[int, float | None, float | None, int]],
    doubles: list[tuple[int, int]],
    aggregate: dict[str, Rule],
    n_steps: int,
    cuts: list[int],
    numbers: Numbers,
) -> None:
    """Readings that come late, twice, or with other values; but while their slots are open.

    Bit for bit. Of two readings of one time the one that comes last is the last in the file, too.
    """
    if numbers == "float64":  # whose sums are exact, and beyond 32 bits
        rows = [(t, raised(a), raised(b), late) for t, a, b, late in rows]
    rows += [(*rows[place % len(rows)][:3], later) for place, later in doubles]
    rows = sorted(rows, key=lambda row: row[0] + row[3])
    told = sorted(rows, key=lambda row: row[0])
    arrivals = [row[:3] for row in rows]
    arrivals = [row for row in arrivals if row[1:] != (None, None)]
    in_order = tuple(aggregate[name] for name in FEATURES)
    grid = Grid(float(STEP), "linear", 2, amends=True, joins=True, rules=in_order, numbers=numbers)
    worker, served = Worker(grid, n_steps, 2, lateness=220.0), dict[int, bytes]()
    while arrivals:
        cuts = [*cuts[1:], cuts[0]]
        served |= dict(worker.take(arrivals[: cuts[0]]))
        arrivals = arrivals[cuts[0] :]
    served |= dict(worker.take([(10_000, 0.0, 0.0)]))
    times = np.array([row[0] for row in told])
    values = np.array([[np.nan if v is None else v for v in row[1:3]] for row in told])
    series = in_step(
        Series("", times, values), STEP / 1000, FEATURES, FEATURES, aggregate, numbers=numbers
    )
    slots = in_slots(
        History(FEATURES, (series,), STEP / 1000, numbers=numbers), grid, FEATURES, n_steps
    )
    learned = by_trainer(slots, n_steps)
    assert learned.keys() <= served.keys()
    assert {time: served[time] for time in learned} == learned


def by_worker(
    rows: list[tuple[int, float | None, float | None]], grid: Grid, n_steps: int, cuts: list[int]
) -> dict[int, bytes]:
    """The bits of the last window that each slot completes, by when it was opened."""
    worker, found = Worker(grid, n_steps, 2), dict[int, bytes]()
    rest = [row for row in rows if set(row[1:]) != {None}]
    times = [time for time, *_ in rest]
    opened = opened_by(np.array(times, np.int64), STEP).tolist()
    slots = dict(zip(times, opened, strict=True))
    while rest:
        cuts = [*cuts[1:], cuts[0]]
        batch, rest = rest[: cuts[0]], rest[cuts[0] :]
        for time, window in worker.take(batch):
            found[slots[time]] = window
    return found


class Worker:
    """Open slots and windows of one series, as a model's readings come to them."""

    def __init__(self, grid: Grid, n_steps: int, features: int, lateness: float = 0.0) -> None:
        sets = column_sets(n_steps, features, grid)
        opens = depth_of(grid, lateness) > 0
        self.table = Table([*sets, open_set(grid, features, lateness)] if opens else sets)
        self.table.add(np.array([0]))
        self.windows = WindowStore(self.table, n_steps, grid)
        self.slots = (
            OpenSlots(self.table, self.windows, grid, features, lateness) if opens else None
        )
        self.latest = -1

    def take(self, batch: Sequence[Sequence[float | None]]) -> list[tuple[int, bytes]]:
        """Return the time and the bits of each window that readings complete, or slots closed."""
        times = np.array([int(row[0] or 0) for row in batch], np.int64)
        pairs = [[np.nan if one is None else one for one in row[1:]] for row in batch]
        values, rows = np.array(pairs, self.windows.none().dtype), np.zeros(len(batch), np.int64)
        if self.slots is None:
            return bits(times, self.windows.push(rows, times, values))
        found = []
        stream = np.maximum(np.maximum.accumulate(times), self.latest)
        for low, high, due in self.slots.parts(stream, self.latest):
            if due is not None:
                for closed in self.slots.close(due, lambda rows: (rows, [b"s"] * len(rows))):
                    found += bits(closed.times, closed.advance)
            some = slice(low, high)
            loud = np.ones(high - low, np.bool_)
            taken = self.slots.take(rows[some], times[some], values[some], loud)
            for _, closed in taken.closed:
                found += bits(closed.times, closed.advance)
            for places, advance, own in taken.parts:
                found += bits(times[some][places] if own is None else own, advance)
        self.latest = int(stream[-1])
        return found


def bits(times: npt.NDArray[np.int64], advance: Advance) -> list[tuple[int, bytes]]:
    windows = zip(times[advance.ready].tolist(), advance.windows, strict=True)
    return [(time, window.tobytes()) for time, window in windows]


def by_trainer(slots: History, n_steps: int) -> dict[int, bytes]:
    """The same of all windows that are learned from or scored."""
    windows = make_windows(
        slots, FEATURES, FEATURES, n_steps=n_steps, horizon=1, train_rows=None, validation_rows=None
    )
    times = slots.series[0].times
    assert times is not None
    found = {}
    for starts in windows.starts.values():
        inputs, _ = windows.gather(starts)
        for start, window in zip(starts.tolist(), inputs, strict=True):
            found[int(times[start + n_steps - 1])] = window.tobytes()
    return found


@st.composite
def records(draw: st.DrawFn) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Rows in the order of their times, and the same as they may come: late, twice, with holes.

    A reading comes no more than three slots late, times are a fifth of a step off at most, and of
    two readings of one time the one that comes last is the last in the file, too.
    """
    sizes = draw(st.lists(st.integers(0, 3), min_size=2, max_size=12))
    numbers = np.cumsum([1 + size for size in sizes]).tolist()
    rows, arrivals = [], []
    for number in numbers:
        time = 1000 + STEP * number + draw(st.integers(-STEP // 5, STEP // 5))
        values = draw(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=3))
        late = sorted(draw(st.floats(0, 3)) for _ in values)
        rows += [(time, value) for value in values]
        arrivals += [(number + by, time, value) for by, value in zip(late, values, strict=True)]
    arrivals.sort(key=lambda one: one[0])
    first = min(range(len(arrivals)), key=lambda place: arrivals[place][1])
    arrivals.insert(0, arrivals.pop(first))  # nothing is known of what comes before the first
    return rows, [(time, value) for _, time, value in arrivals]


@given(
    records(),
    st.sampled_from(["linear", "hold", "seasonal"]),
    st.integers(9, 60),  # as in a model file, a window that is filled keeps two readings
    st.integers(1, 6),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_a_shuffled_stream_makes_the_windows_of_the_sorted_file(
    record: tuple[list[tuple[int, float]], list[tuple[int, float]]],
    gaps: Literal["linear", "hold", "seasonal"],
    n_steps: int,
    season: int,
    cuts: list[int],
) -> None:
    """Late and doubled readings and holes: bit for bit what the trainer cuts from the same rows."""
    rows, arrivals = record
    grid = Grid(float(STEP), gaps, 7, season, min_steps=1, amends=True)
    table = Table(column_sets(n_steps, 1, grid))
    table.add(np.array([0]))
    store = WindowStore(table, n_steps, grid)
    while arrivals:
        cuts = [*cuts[1:], cuts[0]]
        batch, arrivals = arrivals[: cuts[0]], arrivals[cuts[0] :]
        times, values = map(np.array, zip(*batch, strict=True))
        store.push(np.zeros(len(batch), np.int64), times, values[:, None].astype(np.float32))
    series = timed(*zip(*rows, strict=True)).series[0]
    history = History(("v",), (in_step(series, 0.1, ["v"], ["v"]),), 0.1)
    slots = in_slots(history, grid, ("v",), n_steps).series[0]
    assert int(table["run"][0]) == len(slots)
    run = min(n_steps, len(slots))
    learned, real = slots.values[-run:, 0], slots.real[-run:]
    assert table["tail"][0, -run:, 0].tobytes() == learned.astype(np.float32).tobytes()
    assert table["holes"][0, -run:].tolist() == (~real).tolist()


def timed(times: Sequence[int], values: Sequence[float]) -> History:
    column = np.array(values, np.float64)[:, None]
    return History(("v",), (Series("", np.array(times), column),), STEP / 1000)


def test_short_gaps_are_filled_and_long_ones_are_not() -> None:
    """::

    file   0   .   200   .   .   .   600      a dot is a row that is absent
    slots  0  100  200               600
    """
    slots = in_slots(timed([0, 200, 600], [1, 3, 9]), Grid(STEP, "linear", 2), ("v",), 4).series[0]
    assert slots.times is not None
    assert slots.times.tolist() == [0, 100, 200, 600]
    assert slots.values[:, 0].tolist() == [1, 2, 3, 9]
    assert slots.real.tolist() == [True, False, True, True]


def test_the_parts_of_a_series_are_counted_in_rows_of_the_file() -> None:
    """A filled slot goes with the row behind it."""
    slots = in_slots(
        timed([0, 100, 300, 400, 600], [1, 2, 4, 5, 7]), Grid(STEP, "hold", 2), ("v",), 4
    ).series[0]
    assert slots.times is not None
    assert slots.times.tolist() == [0, 100, 200, 300, 400, 500, 600]
    assert slots.parts(2, 2) == {"train": (0, 2), "validation": (2, 5), "test": (5, 7)}


def test_what_is_filled_is_neither_forecast_from_last_nor_a_target() -> None:
    history = timed([0, 100, 300, 400, 500], [1, 2, 4, 5, 6])
    slots = in_slots(history, Grid(STEP, "hold", 2), ("v",), 2)
    windows = make_windows(
        slots, ("v",), ("v",), n_steps=2, horizon=1, train_rows=99, validation_rows=0
    )
    inputs, outputs = windows.gather(windows.starts["train"])
    assert inputs[:, :, 0].tolist() == [[2, 4], [4, 5]]
    assert outputs[:, 0, 0].tolist() == [5, 6]


def test_a_column_that_is_no_feature_is_filled_where_it_is_known_on_both_sides() -> None:
    """Baselines look at it, too; where it is not known, a window ends."""
    values = np.array([[1, 5], [2, 7], [3, np.nan], [4, 8.0]])
    history = History(("v", "w"), (Series("", np.array([0, 200, 300, 500]), values),), STEP / 1000)
    (slots,) = in_slots(history, Grid(STEP, "linear", 2), ("v",), 4).series
    assert slots.values[:, 1].tolist()[:3] == [5, 6, 7]
    assert np.isnan(slots.values[3:5, 1]).all()
    assert segments(slots, STEP / 1000) == [(0, 3), (5, 6)]


def test_a_series_without_one_whole_row_stays_as_it_is() -> None:
    empty = timed([0, 100], [np.nan, np.nan])
    assert in_slots(empty, Grid(STEP, "hold", 2), ("v",), 4).series == empty.series


def test_without_times_or_policy_a_history_stays_as_it_is() -> None:
    history = history_of(np.arange(9.0))
    assert in_slots(history, Grid(None, "linear", 3), ("value",), 3) is history
    missing = timed([0, 300], [1, 2])
    assert in_slots(missing, Grid(STEP, "none", 3), ("v",), 3) is missing


@pytest.mark.parametrize(("season", "slots"), [(1, 3), (24, 6), (288, 72), (3, 1), (2, 1)])
def test_a_quarter_of_a_season_is_the_usual_gap(season: int, slots: int) -> None:
    assert usual_gap(season) == slots


def test_the_longest_gap_is_the_one_that_costs_little() -> None:
    """A slow wave goes on as it was; in one that swings at random the newest readings decide."""
    random = np.random.default_rng(3)
    wave = np.sin(np.arange(3000) * 2 * np.pi / 96) + random.normal(size=3000) / 20
    assert picked(wave, 24) == (6, "a quarter of the season of 24")
    swinging = np.zeros(3000)
    for place in range(2, 3000):
        swinging[place] = 1.8 * swinging[place - 1] - 0.9 * swinging[place - 2] + random.normal()
    most, why = picked(swinging, 24)
    assert 1 <= most < 6
    assert "more just after such a hole than on whole windows" in why


def picked(values: np.ndarray[tuple[int], np.dtype[np.float64]], season: int) -> tuple[int, str]:
    history = timed([STEP * row for row in range(len(values))], values.tolist())
    windows = make_windows(
        history, ("v",), ("v",), n_steps=48, horizon=1, train_rows=None, validation_rows=None
    )
    grid = Grid(STEP, "linear", usual_gap(season), season)
    return pick_gap(windows, (("v",), ("v",)), grid)


def test_what_64_bits_tell_apart_is_filled_and_aggregated_as_such() -> None:
    """A third of a step at 7e12, and a mean of counts; trainer and worker share the functions."""
    wide = Grid(float(STEP), "linear", 2, numbers="float64")
    history = replace(timed([0, 300, 400], [7e12, 7e12 + 1, 7e12 + 2]), numbers="float64")
    filled = in_slots(history, wide, ("v",), 4).series[0].values[:, 0]
    assert filled.tolist() == [7e12, 7e12 + 1 / 3, 7e12 + 2 / 3, 7e12 + 1, 7e12 + 2]
    series = timed([0, 50, 100], [7e12, 7e12 + 1, 7e12 + 2]).series[0]
    means = in_step(series, STEP / 1000, ["v"], ["v"], {"v": "mean"}, numbers="float64")
    assert means.values[:, 0].tolist() == [7e12 + 0.5, 7e12 + 2]
