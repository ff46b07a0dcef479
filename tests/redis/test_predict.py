"""``predict``: a file's forecasts are those of a worker that its rows are fed to."""

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.commands import Commands
from tests.conftest import Run
from tests.model_files import write_mean_model

HEADER = "time;room;value"


def written(folder: Path, rows: int = 6) -> Path:
    """Two rooms, in German; the model serves one of them."""
    path = folder / "rooms.csv"
    lines = [
        f"{day:02}.01.2024 12:00;{room};{day},5" for day in range(27, 27 + rows) for room in "ab"
    ]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    steps: Any = {"n_steps": 3, "horizon": 2, "step_seconds": 86_400.0}
    return write_mean_model(tmp_path / "m.onnx", series="a", **steps)


def test_it_says_what_a_worker_would(
    client: redis.Redis, tidecast: Run, loaded: Commands, tmp_path: Path, model: Path
) -> None:
    data = written(tmp_path, rows=5)
    columns = ("--series-column", "room")
    result = loaded.run("predict", str(data), "--models", str(model), *columns)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[1:] == ["3 forecasts"]
    said = [json.loads(line) for line in result.stdout.splitlines()]
    tidecast("feed", data, *columns, "--rate", "max")
    assert tidecast("run", "--models", model, "--from", "earliest", "--burst").returncode == 0
    entries: Any = client.xrange("readings:forecasts")
    live = [json.loads(fields[b"forecast"]) for _, fields in entries]
    keys = ("series", "at", "model", "version", "forecast")
    assert [{key: one[key] for key in keys} for one in said] == [
        {key: one[key] for key in keys} for one in live
    ]
    assert said[0]["forecast"] == {"value": [28.5, 28.5]}


def test_the_newest_alone_and_as_a_table(loaded: Commands, tmp_path: Path, model: Path) -> None:
    out = tmp_path / "forecasts.csv"
    words = ("--models", str(model), "--series-column", "room", "--newest", "--out", str(out))
    result = loaded.run("predict", str(written(tmp_path, rows=5)), *words)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == f"1 forecasts in {out}"
    assert out.read_text().splitlines() == [
        "series,at,lead,target,value",
        "a,2024-01-31T12:00:00.000Z,1,value,30.5",
        "a,2024-01-31T12:00:00.000Z,2,value,30.5",
    ]


def test_a_file_without_a_forecast_is_told_with_what_the_models_want(
    loaded: Commands, tmp_path: Path, model: Path
) -> None:
    words = ("--models", str(model), "--series", "b", "--time-format", "%d.%m.%Y %H:%M")
    data = tmp_path / "x.csv"
    data.write_text("time,value\n01.02.2024 12:00,1\n02.02.2024 12:00,warm\n")
    result = loaded.run("predict", str(data), *words)
    assert result.returncode == 2
    assert "no forecast; is a series served" in result.stderr
    assert "They are tiny (series a, from 3 steps on)" in result.stderr
