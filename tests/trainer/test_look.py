"""``look``: what a file holds, what is odd, and the command to type next, which then works."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tidecast.files.options import FileOptions
from tidecast.trainer.errors import DataError
from tidecast.trainer.look import look, names_of, thinned

HOURS = [f"2024-01-{1 + hour // 24:02}T{hour % 24:02}:00" for hour in range(300)]
LEVELS = {"cellar": 10.0, "roof": 20.0}


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def long_file(path: Path) -> Path:
    """Two rooms that report by turns, never at the same time."""
    rows = [
        f"{at[:-2]}{15 * place:02},{name},{level + hour % 7}"
        for hour, at in enumerate(HOURS)
        for place, (name, level) in enumerate(LEVELS.items())
    ]
    return write(path, ["time,room,temp", *rows])


def test_a_wide_file(tmp_path: Path) -> None:
    rows = [f"{at},{hour % 24},7,{'warm' if hour % 2 else 'cold'}" for hour, at in enumerate(HOURS)]
    del rows[100:105]
    path = write(tmp_path / "x.csv", ["time,load [MW],same,how", *rows])
    found = look(path)
    assert [(one.name, one.values is None, one.distinct) for one in found.columns] == [
        ("load [MW]", False, 24),
        ("same", False, 1),
        ("how", True, 2),
    ]
    assert (found.targets, found.slots) == (("load [MW]",), 300)
    assert found.notes == (
        f"{path}: column 'how' holds 2 words (cold, warm); --categories how makes features of them",
        f"{path}: column 'same' is always the same",
    )
    assert found.command() == (f"tidecast-trainer fit {path} --target 'load [MW]' --horizon 24")


def test_a_column_that_numbers_the_rows_is_none_to_forecast(tmp_path: Path) -> None:
    rows = [f"{hour},{at},{hour % 24}" for hour, at in enumerate(HOURS)]
    found = look(write(tmp_path / "x.csv", ["No,time,load", *rows]))
    assert found.targets == ("load",)
    assert any("column 'No' numbers the rows" in note for note in found.notes)


@pytest.mark.parametrize(
    ("cell", "told"), [("", "'load' has no values"), ("much", "row 1: 'much' is not a number")]
)
def test_why_there_is_nothing_to_forecast(tmp_path: Path, cell: str, told: str) -> None:
    found = look(write(tmp_path / "x.csv", ["time,load", *(f"{at},{cell}" for at in HOURS)]))
    assert not found.targets
    assert any(told in note for note in found.notes)


def test_series_are_found_by_a_column_that_tells_them_apart(tmp_path: Path) -> None:
    found = look(long_file(tmp_path / "x.csv"))
    assert found.history is not None
    assert names_of(found.history) == "cellar (300 rows), roof (300 rows)"
    assert "--series-column=room" in shlex.split(found.command())
    (note,) = found.notes
    assert "read with --series-column room, as several series would be one" in note


def test_series_may_be_named_by_two_columns_of_numbers(tmp_path: Path) -> None:
    rows = [f"{at},{place % 2},{place // 2},{place}" for at in HOURS for place in range(6)]
    found = look(write(tmp_path / "x.csv", ["time,shop,item,sales", *rows]))
    assert found.history is not None
    assert [len(one) for one in found.history.series] == [300] * 6
    assert found.command().endswith("--target sales --horizon 24 --series-column=shop,item")


def test_rows_may_be_said_to_be_of_one_series(tmp_path: Path) -> None:
    found = look(long_file(tmp_path / "x.csv"), FileOptions(one_series=True))
    assert found.history is not None
    assert len(found.history.series) == 1
    assert found.command().endswith("--one-series")


def test_what_was_said_of_the_file_is_said_to_fit(tmp_path: Path) -> None:
    rows = [f"{at};{hour % 24},5;-999" for hour, at in enumerate(HOURS)]
    path = write(tmp_path / "x.csv", ["a word", "time;load;other", *rows])
    said = FileOptions(skip_lines=1, rename=(("load", "power"),), missing=("-999", "x y"))
    command = look(path, said).command()
    words = ["--skip-lines=1", "--name-feature=load=power", "--missing=-999", "--missing=x y"]
    assert set(words) <= set(shlex.split(command))
    assert "--target power" in command


def test_what_is_no_number_is_told_with_the_remedy(tmp_path: Path) -> None:
    rows = [f"{at},{hour if hour != 50 else 'off'}" for hour, at in enumerate(HOURS)]
    found = look(write(tmp_path / "x.csv", ["time,load", *rows]))
    assert found.notes[0].endswith(
        "column 'load', data row 51: 'off' is not a number; if that says 'no value': --missing=off"
    )
    assert found.command() == ""


def test_a_file_that_may_be_two_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="may be 2 January 2024 or 1 February 2024"):
        look(write(tmp_path / "x.csv", ["time,load", "02/01/2024,1", "03/01/2024,2"]))


def test_points_that_look_like_all_of_them() -> None:
    values = np.sin(np.arange(10_000) / 500)
    values[7_123], values[4_000:4_100] = 9.0, np.nan
    times, shown = thinned(np.arange(10_000.0), values, 200)
    assert len(times) <= 202
    assert np.nanmax(shown) == 9
    np.testing.assert_allclose(np.nanmin(shown), -1, atol=1e-3)
    assert (np.diff(times) >= 0).all()


def trainer(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidecast.trainer", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_command(tmp_path: Path) -> None:
    path = long_file(tmp_path / "rooms.csv")
    picture = tmp_path / "rooms.png"
    result = trainer("look", path, "--picture", picture)
    assert result.returncode == 0, result.stderr
    assert "2 series: cellar (300 rows), roof (300 rows); a step of 1 h" in result.stdout
    assert result.stdout.splitlines()[-1] == f"see {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(trainer("look", path, "--json", "--no-draw").stdout)
    assert (found["series"], found["step_seconds"], found["rows"]) == (2, 3600, 600)
    assert found["columns"][0]["name"] == "temp"
    assert found["fit"] in result.stdout
