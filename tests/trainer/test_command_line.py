"""Mistakes at the trainer's command line: one line, exit code 2, no traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tidecast.trainer.scores import MEASURES

SMALL = ["--targets", "value", "--n-steps", "4", "--horizon", "1"]


WRITTEN = {"m.onnx", "m.keras", "m.json", "m.fit.json", "m.html"}


def trainer(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidecast.trainer", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)


def assert_one_line(result: "subprocess.CompletedProcess[str]", part: str) -> None:
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("tidecast-trainer: ")
    assert part in last
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--horizon", "0"], "--horizon 0"),
        (["--n-steps", "900"], "too few rows"),
        (["--targets", "nope"], "no column 'nope'"),
        (["--targets", "value,"], "empty column name"),
        (["--step", "often"], "--step 'often'"),
        (["--activation", "gelu"], "gelu"),
    ],
)
def test_fit(csv: Path, options: list[str], part: str) -> None:
    assert_one_line(trainer("fit", csv, *SMALL, *options), part)


def test_text_in_a_number_column(csv: Path) -> None:
    csv.write_text(csv.read_text().replace(",30,", ",thirty,"))
    assert_one_line(trainer("fit", csv, *SMALL), "data row 31: 'thirty' is not a number")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert_one_line(trainer("fit", tmp_path / "no.csv", *SMALL), "no such file")
    assert_one_line(trainer("evaluate", tmp_path / "no.onnx", tmp_path / "no.csv"), "no such file")
    assert_one_line(trainer("export", tmp_path / "no.keras"), "no such file")


def test_a_folder_that_cannot_be_written(csv: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    options = [*SMALL, "--epochs", "1", "--out", tmp_path / "taken"]
    assert_one_line(trainer("fit", csv, *options), "taken")


def test_a_model_that_is_none(csv: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("hello")
    assert_one_line(trainer("evaluate", tmp_path / "m.onnx", csv), "not a loadable ONNX file")


def test_fit_writes_three_files_and_evaluate_reads_them(csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    result = trainer("fit", csv, *SMALL, "--epochs", "2", "--out", out, "--name", "m")
    assert result.returncode == 0, result.stderr
    assert "no validation window" not in result.stderr
    assert {p.name for p in out.iterdir()} == WRITTEN
    assert json.loads((out / "m.json").read_text())["validation"]["mae"]
    model = out / "m.onnx"
    picture = tmp_path / "m.png"
    shown = trainer("evaluate", model, csv, "--picture", picture)
    assert shown.returncode == 0, shown.stderr
    assert "naive" in shown.stdout
    plain = "m is a straight line (ridge) alone: no network has a say in it"
    assert plain in result.stdout
    assert plain in shown.stdout
    assert plain.removeprefix("m is ") in (out / "m.html").read_text()
    assert picture.read_bytes()[:4] == b"\x89PNG"
    scores = json.loads(trainer("evaluate", model, csv, "--json").stdout)
    assert scores["windows"] == 12
    assert set(scores["model"]["per_lead"]) == set(MEASURES)
    assert set(scores["baselines"]) == {"naive", "seasonal naive", "drift", "ridge", "ETS"}


@pytest.mark.parametrize("command", ["fit", "evaluate", "tune", "export", "relabel", "patterns"])
def test_help_has_an_example(command: str) -> None:
    shown = trainer(command, "--help").stdout
    assert f"Example: tidecast-trainer {command}" in " ".join(shown.split())
