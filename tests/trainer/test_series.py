"""Loading, order, gaps and the split."""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.files.options import FileOptions
from tidecast.trainer.dataset import make_windows
from tidecast.trainer.errors import DataError
from tidecast.trainer.series import History, Series, load_history, segments, split_rows
from tidecast.worker.pipeline.columns import Table
from tidecast.worker.pipeline.epoch import TimeUnit
from tidecast.worker.pipeline.grid import Grid
from tidecast.worker.pipeline.windows import WindowStore, column_sets

MS = FileOptions(time_unit="ms")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_wide_csv(csv: Path) -> None:
    history = load_history(csv, ["value", "other"])
    assert history.step_seconds == 60
    assert history.series[0].values[:2].tolist() == [[0, 1], [1, 2]]
    assert history.series[0].times is not None
    assert history.series[0].times[0] == 1704067200000


def test_long_parquet_with_shuffled_rows(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {"id": ["b", "a", "b", "a"], "ts": [60_000, 60_000, 0, 0], "y": [4.0, 3.0, 2.0, 1.0]}
    )
    table.write_parquet(tmp_path / "long.parquet")
    history = load_history(
        tmp_path / "long.parquet", ["y"], file=FileOptions(series_column="id", time_unit="ms")
    )
    assert {s.name: s.values[:, 0].tolist() for s in history.series} == {"a": [1, 3], "b": [2, 4]}


def test_missing_cells_and_repeated_times(tmp_path: Path) -> None:
    text = "ts,y\n0,1\n1000,2\n1000,7\n2000,nan\n3000,\n4000,1e39\n5000,4\n"
    history = load_history(write(tmp_path / "x.csv", text), ["y"], file=MS)
    assert history.dropped == 1
    assert history.missing == 3
    nan = np.nan
    np.testing.assert_array_equal(history.series[0].values[:, 0], [1, 7, nan, nan, nan, 4])


def test_a_missing_virtual_target_is_still_a_reading(tmp_path: Path) -> None:
    """A worker knows the features alone, so the row at 2,400 amends that at 2,000 there."""
    text = "ts,x,y\n0,1,1\n1000,2,2\n2000,3,\n2400,4,4\n3400,5,5\n4400,6,6\n"
    path = write(tmp_path / "x.csv", text)
    history = load_history(path, ["x", "y"], features=["x"], step_seconds=1.0, file=MS)
    assert history.series[0].values[:, 0].tolist() == [1, 2, 4, 5, 6]


@pytest.mark.parametrize(
    ("first", "second", "unit"),
    [
        ("1709251200", "1709251260", "auto"),
        ("1709251200.0", "1709251260.0", "auto"),
        ("1709251200.000000", "1709251260.000004", "auto"),
        ("1709251200000", "1709251260000", "auto"),
        ("1709251200000000", "1709251260000000", "auto"),
        ("1709251200000000000", "1709251260000000000", "auto"),
        (" 1709251200", "1709251260 ", "auto"),
        ("1709251200", "1709251260", "s"),
    ],
)
def test_numbers_that_are_times(tmp_path: Path, first: str, second: str, unit: TimeUnit) -> None:
    path = write(tmp_path / "x.csv", f"ts,y\n{first},1\n{second},2\n")
    history = load_history(path, ["y"], file=FileOptions(time_unit=unit))
    assert history.series[0].times is not None
    assert history.series[0].times.tolist() == [1709251200000, 1709251260000]
    assert history.step_seconds == 60


def test_times_of_a_float_column_keep_their_fractions(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ts": [1700000000.5, 1700000001.25], "y": [1.0, 2.0]})
    frame.write_parquet(tmp_path / "x.parquet")
    history = load_history(tmp_path / "x.parquet", ["y"], step_seconds=0.75)
    assert history.series[0].times is not None
    assert history.series[0].times.tolist() == [1700000000500, 1700000001250]


@pytest.mark.parametrize("marker", ["", "-", "?", "NULL", "none", "n/a", " NaN ", "Na"])
def test_what_stands_for_no_value_in_a_file_is_what_does_on_a_stream(
    tmp_path: Path, marker: str
) -> None:
    path = write(tmp_path / "x.csv", f"ts,y\n0,1\n1000,{marker}\n2000,3\n")
    values = load_history(path, ["y"], file=MS).series[0].values[:, 0]
    np.testing.assert_array_equal(values, [1, np.nan, 3])


def test_a_clock_that_begins_at_zero_may_be_of_any_unit(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "ts,y\n0,1\n100000000,2\n")
    history = load_history(path, ["y"], file=FileOptions(time_unit="ms"))
    assert history.step_seconds == 100_000


def test_without_a_step_every_row_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "ts,y\n0,1\n0,2\n5,3\n")
    history = load_history(path, ["y"], step_seconds=None, file=MS)
    assert history.dropped == 0
    assert history.series[0].values[:, 0].tolist() == [1, 2, 3]


file_rows = st.lists(
    st.tuples(st.integers(0, 30).map(lambda t: t * 30), st.integers(0, 9) | st.none()),
    min_size=1,
    max_size=40,
).filter(lambda table: sound(table))


def sound(table: list[tuple[int, int | None]]) -> bool:
    """Tell whether there is a value, and most of them have a time of their own."""
    times = [time for time, value in table if value is not None]
    return bool(times) and 2 * len(set(times)) > len(times)


def opened_by(times: npt.NDArray[np.int64], step: float | None) -> npt.NDArray[np.int64]:
    """When the slot of each of some readings, in order of time, lies."""
    opened, crowd = times.copy(), 1
    for i in range(1, len(times) if step else 0):
        steps = (times[i] - opened[i - 1]) / (step or 1)
        if steps <= 0.5:
            opened[i], crowd = opened[i - 1], crowd + (times[i] > times[i - 1])
            continue
        if crowd > 1:
            opened[i] = opened[i - 1] + round(max(1, int(steps + 0.5)) * (step or 1))
        crowd = 1
    return opened


@given(file_rows, st.sampled_from([None, 0.1]))
def test_every_window_of_the_trainer_is_one_of_the_worker(
    table: list[tuple[int, int | None]], step: float | None
) -> None:
    """Off the step, repeated, missing: what is learned from is what will be forecast from."""
    table = sorted(table, key=lambda row: row[0])
    text = "ts,v\n" + "".join(f"{t},{'' if v is None else v}\n" for t, v in table)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "x.csv", text)
        history = load_history(path, ["v"], step_seconds=step, file=MS)
    names = ("v",)
    windows = make_windows(
        history, names, names, n_steps=2, horizon=1, train_rows=None, validation_rows=None
    )
    grid = Grid(step and step * 1000, amends=True)
    table_of_one = Table(column_sets(2, 1, grid))
    table_of_one.add(np.array([0]))
    store = WindowStore(table_of_one, 2, grid)
    known = [(t, v) for t, v in table if v is not None]
    times, values = np.array([t for t, _ in known]), np.array([[v] for _, v in known], np.float32)
    advance = store.push(np.zeros(len(known), np.int64), times, values)
    opened = opened_by(times, step and step * 1000)
    served = {
        (int(opened[i]), *window[:, 0].tolist())
        for i, window in zip(advance.ready.tolist(), advance.windows, strict=True)
    }
    learned = history.series[0].times
    assert learned is not None
    for starts in windows.starts.values():
        inputs, _ = windows.gather(starts)
        for start, window in zip(starts.tolist(), inputs, strict=True):
            assert (int(learned[start + 1]), *window[:, 0].tolist()) in served


@pytest.mark.parametrize(
    "time",
    [
        "2024-01-01",
        "2024-01-01 00:00",
        "2024-01-01T00:00",
        "2024-01-01T00:00Z",
        "2024-01-01T00:00:00Z",
        "2024-01-01T01:00:00.000+01:00",
        "1704067200000",
    ],
)
def test_iso_times(tmp_path: Path, time: str) -> None:
    history = load_history(write(tmp_path / "x.csv", f"ts,y\n{time},1\n"), ["y"])
    assert history.series[0].times is not None
    assert history.series[0].times.tolist() == [1704067200000]


def test_records_older_than_1970(tmp_path: Path) -> None:
    history = load_history(write(tmp_path / "x.csv", "ts,y\n1958-03-29,1\n1958-04-05,2\n"), ["y"])
    assert history.series[0].times is not None
    assert history.series[0].times.tolist() == [-371_174_400_000, -370_569_600_000]
    assert history.step_seconds == 7 * 86_400


def test_an_unsteady_record_has_no_step(tmp_path: Path) -> None:
    times = np.cumsum([1, 5, 1, 30, 2, 9, 1, 1, 40]) * 1000
    text = "ts,y\n" + "".join(f"{t},1\n" for t in times)
    assert load_history(write(tmp_path / "x.csv", text), ["y"], file=MS).step_seconds is None


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", ["y"], "an empty file"),
        ("ts,y\n", ["y"], "no rows"),
        ("ts,y\n0,1\n", ["z"], "no column 'z'; the file has ts, y"),
        (
            "ts,y\n2024-03-01,1\n2024-03-02,abc\n",
            ["y"],
            "column 'y', data row 2: 'abc' is not a number",
        ),
        ("ts,y\nnoon,1\n", ["y"], "'noon' is no time"),
        ("ts,y\n1704067200000000000000,1\n", ["y"], "is no time"),
        ("ts,y\n99960000,1\n100020000,1\n", ["y"], "count ms and s since 1970; say --time-unit"),
        ("ts,y\n2024-03-01,\n", ["y"], "holds no number"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, columns: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_history(write(tmp_path / "x.csv", text), columns)


@pytest.mark.parametrize("column", ["y", "ts"])
def test_a_parquet_column_of_another_kind_is_said(tmp_path: Path, column: str) -> None:
    odd = pl.Series([[1.0], [2.0]]) if column == "y" else pl.Series([1, 2]).cast(pl.Time)
    pl.DataFrame({"ts": [0, 1000], "y": [1.0, 2.0]} | {column: odd}).write_parquet(
        tmp_path / "odd[1].parquet"
    )
    with pytest.raises(DataError, match=r"odd\[1\].parquet"):
        load_history(tmp_path / "odd[1].parquet", ["y"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_history(tmp_path / "no.csv", ["y"])


def test_segments_end_at_gaps_and_missing_values() -> None:
    """::

    row     0  1  2  3  4  5  6
    minute  0  1  2  4  5  6  7
    value   x  x  x  x  -  x  x
    """
    times = np.array([0, 1, 2, 4, 5, 6, 7]) * 60_000
    values = np.array([[0], [1], [2], [3], [np.nan], [5], [6]], np.float64)
    series = Series("", times, values)
    assert segments(series, 60.0) == [(0, 3), (3, 4), (5, 7)]
    assert segments(series, None) == [(0, 4), (5, 7)]


def test_split_by_share_and_by_rows() -> None:
    assert split_rows(100, None, None) == {
        "train": (0, 70),
        "validation": (70, 80),
        "test": (80, 100),
    }
    assert split_rows(100, 50, 10)["test"] == (60, 100)


rows = st.lists(st.tuples(st.booleans(), st.integers(1, 2)), min_size=1, max_size=40)


@given(st.lists(rows, min_size=1, max_size=3), st.integers(1, 4), st.integers(1, 3))
def test_windows_never_straddle_and_cover_everything(
    tables: list[list[tuple[bool, int]]], n_steps: int, horizon: int
) -> None:
    """Each window is whole, in one series, without a gap; its targets lie in one part."""
    series: list[Series] = []
    for table in tables:
        times = np.cumsum([delta for _, delta in table]) * 60_000
        values = np.array([[1.0 if there else np.nan] for there, _ in table])
        series.append(Series(str(len(series)), times, values))
    history = History(("v",), tuple(series), 60.0)
    windows = make_windows(
        history,
        ("v",),
        ("v",),
        n_steps=n_steps,
        horizon=horizon,
        train_rows=None,
        validation_rows=None,
    )
    found = sorted(int(s) for starts in windows.starts.values() for s in starts)
    expected, offset, span = [], 0, n_steps + horizon
    for one in series:
        bounds = split_rows(len(one), None, None).values()
        for start in range(len(one) - span + 1):
            assert one.times is not None
            piece = slice(start, start + span)
            steady = (np.diff(one.times[piece]) == 60_000).all()
            whole = np.isfinite(one.values[piece]).all()
            first, last = start + n_steps, start + span - 1
            if steady and whole and any(low <= first and last < high for low, high in bounds):
                expected.append(offset + start)
        offset += len(one)
    assert found == expected
    for part in windows.starts:
        for _, inputs, outputs in windows.batches(part, 5):
            assert np.isfinite(inputs).all()
            assert np.isfinite(outputs).all()


def test_the_step_of_sensors_in_rows_of_their_own_is_each_ones(tmp_path: Path) -> None:
    """Of two that report each minute, ten seconds apart, in two series."""
    rows = [
        f"{60 * minute + after},{name},{a},{b}"
        for minute in range(30)
        for name in ("x", "y")
        for after, a, b in ((0, minute, ""), (10, "", -minute))
    ]
    path = write(tmp_path / "x.csv", "ts,name,a,b\n" + "\n".join(rows) + "\n")
    history = load_history(path, ["a", "b"], file=FileOptions(series_column="name", time_unit="s"))
    assert history.step_seconds == 60
    assert history.series[0].values.tolist() == [[minute, -minute] for minute in range(30)]
    assert history.dropped == 60
