"""Several series read as one are refused, with the option that tells them apart."""

from pathlib import Path

import pytest

from tests.model_files import write_mean_model
from tests.trainer.test_command_line import assert_one_line, trainer
from tidecast.files.options import FileOptions
from tidecast.trainer.errors import DataError
from tidecast.trainer.series import load_history
from tidecast.worker.pipeline.naming import joined_names

SENSORS = 12
NOON = 1_709_294_400_000
"""1 March 2024, in milliseconds since 1970."""


def long_file(path: Path, *, name: str = "sensor", sensors: int = SENSORS, times: int = 40) -> Path:
    """Write a row for each sensor and minute, the sensors of a minute one below the other."""
    rows = [
        f"2024-01-01T00:{minute:02}:00,{sensor},{100 * sensor + minute},{minute * sensor % 7}"
        for minute in range(times)
        for sensor in range(sensors)
    ]
    path.write_text("\n".join([f"ts,{name},value,quality", *rows]) + "\n")
    return path


@pytest.mark.parametrize("command", ["fit", "tune", "evaluate"])
def test_every_command_names_the_column_that_tells_series_apart(
    tmp_path: Path, command: str
) -> None:
    data = long_file(tmp_path / "long.csv")
    told: list[object] = [data, "--targets", "value", "--horizon", "1"]
    if command == "evaluate":
        told = [write_mean_model(tmp_path / "m.onnx", step_seconds=60.0), data]
    result = trainer(command, *told)
    assert_one_line(result, "440 of 480 rows")
    assert "--series-column sensor" in result.stderr


def test_two_series_are_half_of_the_rows(tmp_path: Path) -> None:
    data = long_file(tmp_path / "long.csv", name="what it is", sensors=2)
    with pytest.raises(DataError, match=r"40 of 80 rows .* --series-column 'what it is', whose 2 "):
        load_history(data, ["value"])
    assert (
        len(load_history(data, ["value"], file=FileOptions(series_column="what it is")).series) == 2
    )


def test_a_short_series_beside_a_long_one_is_seen_too(tmp_path: Path) -> None:
    """Less than half would go, but a column tells all of it apart."""
    rows = [f"{NOON + 60_000 * i},a,{i}" for i in range(40)] + [
        f"{NOON + 60_000 * i},b,{i}" for i in range(20)
    ]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["ts,site,y", *rows]))
    with pytest.raises(DataError, match=r"20 of 60 rows .*--series-column site"):
        load_history(path, ["y"])


def test_a_column_that_tells_only_some_apart_is_not_enough(tmp_path: Path) -> None:
    rows = [
        f"{NOON + 60_000 * i},{site},{what},{i}"
        for i in range(20)
        for site in "ab"
        for what in "xyz"
    ]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["ts,site,what,y", *rows]))
    with pytest.raises(DataError, match=r"80 of 120 rows .* beside 'site' .*-column site,what$"):
        load_history(path, ["y"], file=FileOptions(series_column="site"))
    with pytest.raises(DataError, match=r"100 of 120 rows .*-column site,what, whose 6 values"):
        load_history(path, ["y"])
    history = load_history(path, ["y"], file=FileOptions(series_column="site,what"))
    assert [one.name for one in history.series][:3] == ["a/x", "a/y", "a/z"]
    with pytest.raises(DataError, match=r"no column 'site,where'"):
        load_history(path, ["y"], file=FileOptions(series_column="site,where"))


def test_the_column_that_tells_rows_apart_may_be_one_of_many(tmp_path: Path) -> None:
    others = ",".join("ab"[k % 2] for k in range(12))
    rows = [f"{NOON + 60_000 * i},{others},{place},{i}" for i in range(30) for place in "xyz"]
    header = ",".join(["ts", *(f"c{k}" for k in range(12)), "place", "y"])
    path = tmp_path / "x.csv"
    for place in (0, 20):  # a column that is always the same is none
        rows[place] = rows[place].replace("a,b", "b,a")
    path.write_text("\n".join([header, *rows]))
    with pytest.raises(DataError, match=r"--series-column place, whose 3 values"):
        load_history(path, ["y"])


def test_where_no_two_columns_tell_rows_apart_that_is_said(tmp_path: Path) -> None:
    rows = [f"{NOON + 60_000 * (i // 6)},{i % 2},{i % 2},{i}" for i in range(120)]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["ts,a,b,y", *rows]))
    with pytest.raises(DataError, match=r"100 of 120 rows .*no column tells them apart"):
        load_history(path, ["y"])


def test_names_joined_of_several_columns_are_as_on_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"ts,a,b,y\n{NOON},x/1,\\,1\n{NOON},x,1/,2\n")
    history = load_history(path, ["y"], file=FileOptions(series_column="a, b"))
    columns = [[b"x/1", b"x"], [b"\\", b"1/"]]
    assert sorted(one.name.encode() for one in history.series) == sorted(joined_names(columns))


def test_any_step_is_no_way_around_it_where_a_column_tells_apart(tmp_path: Path) -> None:
    data = long_file(tmp_path / "long.csv")
    with pytest.raises(DataError, match=r"taken for one series.*--series-column sensor"):
        load_history(data, ["value"], step_seconds=None)


def test_several_rows_at_one_time_may_be_events(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("ts,y\n" + "".join(f"{NOON + 5 * (i // 3)},{i}\n" for i in range(6)))
    assert load_history(path, ["y"], step_seconds=None).rows == 6
    with pytest.raises(DataError, match="4 of 6 rows"):
        load_history(path, ["y"], step_seconds=0.005)


def test_rows_that_fill_each_others_gaps_are_no_series_of_their_own(tmp_path: Path) -> None:
    """Each column has rows of its own; those of the other have no value of it."""
    rows = [f"{NOON + 60_000 * i},{i},\n{NOON + 60_000 * i},,{i}" for i in range(20)]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["ts,a,b", *rows]))
    assert load_history(path, ["a"]).step_seconds == 60


def test_a_file_that_is_thinned_to_a_step_is_no_file_of_several_series(tmp_path: Path) -> None:
    """As a worker would, the trainer leaves out what comes too soon."""
    path = tmp_path / "x.csv"
    path.write_text("ts,y\n" + "".join(f"{NOON + 1000 * i},{i}\n" for i in range(100)))
    assert load_history(path, ["y"], step_seconds=10.0).dropped > 50


@pytest.mark.parametrize(
    "rows",
    [
        [
            f"2024-03-01T{n // 60:02}:{n % 60:02}:00,{n % 2},{20 + 50 * (n % 2) + n / 99}"
            for n in range(99)
        ],
        [f"2024-03-01T{n // 60:02}:{n % 60:02}:00,{['a', ''][n % 2]},{n % 2}" for n in range(99)],
        [f"2024-03-0{1 + n // 50}T00:{n % 50:02}:00,{n // 50},{n // 50}" for n in range(99)],
    ],
    ids=["numbers", "an empty name", "one after the other"],
)
def test_sensors_that_take_turns_are_seen_by_their_values(tmp_path: Path, rows: list[str]) -> None:
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["time,sensor_id,y", *rows]) + "\n")
    with pytest.raises(DataError, match="names in column 'sensor_id' take turns and have values"):
        load_history(path, ["y"])
    assert len(load_history(path, ["y"], file=FileOptions(one_series=True)).series) == 1


def test_how_a_thing_is_is_no_name(tmp_path: Path) -> None:
    rows = [f"2024-03-01 {n // 60:02}:{n % 60:02},{bool(n % 2)},{50 * (n % 2)}" for n in range(99)]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["time,heating,y", *rows]) + "\n")
    assert load_history(path, ["y"]).rows == 99


def test_rows_that_never_have_all_columns(tmp_path: Path) -> None:
    rows = [
        f"2024-03-01 {n // 2:02}:00,{n if n % 2 else ''},{'' if n % 2 else n}" for n in range(40)
    ]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["time,a,b", *rows]) + "\n")
    assert load_history(path, ["a", "b"]).rows == 20
