"""What ``tidecast-worker check`` says of entries on a real server, and that it changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.test_worker_process import forecasts
from tidecast.worker.errors import ServerError
from tidecast.worker.store.source import Streams

START, MINUTE = 1_709_251_200_000, 60_000
TEMP: dict[str, Any] = {"features": ("temp",), "targets": ("temp",), "step_seconds": 60.0}


def add(client: redis.Redis, count: int, step: int = MINUTE, **names: str) -> None:
    series, at = names.get("series", "series"), names.get("time", "ts")
    for number in range(count):
        at_then = str(START + number * step)
        client.xadd("readings", {series: "boiler-7", at: at_then, "temp": str(70 + number)})


def test_the_command_that_it_names_reads_what_was_not_read(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    """It warns once as well, as the worker itself does."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, series="boiler-*", **TEMP)
    add(client, 40, series="sensor", time="timestamp")
    before = client.dump("readings"), client.dbsize()
    result = tidecast("check", "--models", model, "--input", "readings")
    assert result.returncode == 0
    options = "--series-field sensor --time-field timestamp"
    command = f"tidecast-worker run --models {model} --input readings {options}"
    assert result.stdout.splitlines()[-1] == command
    assert "no entry names a series or a time: all are of series 'readings'" in result.stderr
    assert f"these fields look like them: {options}" in result.stderr
    assert "40 of 40 readings are of series that no model serves" in result.stderr
    assert (client.dump("readings"), client.dbsize()) == before
    again = tidecast("check", "--models", model, *options.split())
    assert again.stderr == ""
    assert "1 series: boiler-7" in again.stdout
    assert again.stdout.splitlines()[-1] == command
    burst = ("--from", "earliest", "--burst")
    log = tidecast(*command.split()[1:], *burst).stderr
    assert "WARNING" not in log
    assert len(forecasts(client)) == 38


def test_a_worker_says_so_too_and_once(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1, features=("temp",), targets=("temp",))
    add(client, 250, series="sensor", time="timestamp")
    words = ("--models", model, "--from", "earliest", "--burst", "--read-size", "10")
    log = tidecast("run", *words).stderr
    (line,) = [line for line in log.splitlines() if "name no series or no time" in line]
    assert "WARNING readings: " in line
    fields = "there are 'sensor', 'timestamp', 'temp'"
    assert f"{fields}: --series-field sensor --time-field timestamp" in line
    assert len(forecasts(client)) == 250


def test_one_series_without_a_name_is_nothing_to_speak_of(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1, features=("temp",), targets=("temp",))
    for number in range(30):
        client.xadd("readings", {"ts": str(START + number * MINUTE), "temp": str(number)})
    assert (
        "WARNING" not in tidecast("run", "--models", model, "--from", "earliest", "--burst").stderr
    )


def test_programs_get_one_document(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **TEMP)
    add(client, 50, 10_000)
    client.xadd("readings", {"data": "{broken\x1b"})
    result = tidecast("check", "--models", model, "--entries", "41", "--json")
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert (document["entries"], document["readings"]) == (41, 40)
    assert document["times"]["step"] == 10.0
    assert document["features"]["temp"] == {"numbers": 40, "missing": 0, "low": 80.0, "high": 119.0}
    assert [one["kind"] for one in document["rejected"]] == ["late", "malformed"]
    assert any("readings come every 10 s, the model wants 60 s" in r for r in document["remarks"])
    shown = tidecast("check", "--models", model)
    assert "step          10 s, nine of ten within 0 s of it" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_what_is_said_of_time_is_gone_by(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    """The same entries, looked at by other rules; the command to type next has them, too."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **TEMP)
    add(client, 50)
    client.xadd("readings", {"series": "boiler", "ts": str(2**41), "temp": "1"})

    def look(*words: str) -> tuple[list[str], str]:
        told = tidecast("check", "--models", model, "--json", *words)
        document = json.loads(told.stdout)
        return [one["kind"] for one in document["rejected"]], document["command"]

    assert look()[0] == ["ahead"]
    kinds, command = look("--max-skew", "1e10", "--late", "dead")
    assert kinds == []
    assert "--max-skew 10000000000.0 --late dead" in command
    said = tidecast("check", "--models", model, "--max-gap", "0").stderr
    assert "--gaps and --max-gap: model" in said


def test_without_models_every_number_is_a_feature(client: redis.Redis, tidecast: Run) -> None:
    add(client, 3)
    result = tidecast("check")
    assert "feature temp  70 to 72" in result.stdout
    assert result.stdout.endswith("tidecast-worker run --models models/ --input readings\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "there are no entries on readings here"),
        (("--input", "list"), "WRONGTYPE"),
        (("--models", "nowhere"), "no such file"),
    ],
)
def test_what_cannot_be_looked_at_is_told(
    client: redis.Redis, tidecast: Run, words: tuple[str, ...], told: str
) -> None:
    client.rpush("list", "x")
    result = tidecast("check", *words)
    assert result.returncode == 2
    assert told in result.stderr


def test_large_entries_are_fewer_and_one_that_is_too_large_is_told(client: redis.Redis) -> None:
    for number in range(40):
        client.xadd("readings", {"value": str(number), "note": "x" * 100_000})
    streams = Streams(client=client, count=32, block_ms=None, largest=1_000_000)
    newest = streams.newest("readings")
    assert [fields[1] for _, fields in newest] == [b"36", b"37", b"38", b"39"]
    client.xadd("readings", {"note": "x" * 3_000_000})
    with pytest.raises(ServerError, match="its newest entry has more than 1000000 bytes"):
        streams.newest("readings")
