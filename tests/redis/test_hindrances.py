"""Nothing that a person would call "it does not forecast" is silent: real workers, what they say.

Each case is told once in the log, and shown by ``status`` and the metric.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.test_metrics import scraped
from tests.redis.test_worker_process import dead, forecasts
from tests.redis.waiting import wait_for
from tidecast.worker.logs import printable

START, MINUTE = 1_709_251_200_000, 60_000
GRID: dict[str, Any] = {"step_seconds": 60.0, "gaps": "linear", "max_gap": 3, "min_steps": 2}


def add(client: redis.Redis, *times: int, series: str = "boiler-7", field: str = "value") -> None:
    pipeline = client.pipeline(transaction=False)
    for value, at in enumerate(times):
        pipeline.xadd("readings", {"series": series, "ts": str(at), field: str(value)})
    pipeline.execute()


def minutes(count: int, step: int = MINUTE, start: int = START) -> list[int]:
    return [start + number * step for number in range(count)]


def drain(tidecast: Run, model: Path, *options: str) -> list[str]:
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", *options)
    assert result.returncode == 0, result.stderr
    return [line.partition(" ")[2].strip() for line in result.stderr.splitlines()]


def assert_told(tidecast: Run, log: list[str], kind: str, *words: str, level: str) -> None:
    """The log says it once, and ``status`` as well; how many readings they were may have grown."""
    shown = tidecast("status", "--json")
    (one,) = json.loads(shown.stdout)["partitions"]
    (said,) = (text for name, text in one["hindered"].items() if name == kind)
    lines = [line for line in log if all(word in line for word in words)]
    assert len(lines) == 1, log
    assert lines[0].startswith(level)
    assert [word for word in words if word not in said] == []
    assert f"fleet default, readings: {printable(said)}\n" in shown.stderr


@pytest.mark.parametrize("read_size", ["7", "1000"])
def test_series_that_no_model_serves(
    client: redis.Redis, tidecast: Run, tmp_path: Path, read_size: str
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, series="pump-*", **GRID)
    add(client, *minutes(250))
    log = drain(tidecast, model, "--read-size", read_size)
    words = ("of series that no model serves, such as series boiler-7", "serves 'pump-*'")
    assert_told(tidecast, log, "unserved", *words, "relabel", "--series-field", level="WARNING")
    assert sum("no model serves, such as" in line for line in log) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (120, "every 120 s, the model wants 60 s: the slots between are filled"),
        (10, "every 10 s, the model wants 60 s: of each step the last reading counts"),
    ],
)
def test_another_pace(
    client: redis.Redis, tidecast: Run, tmp_path: Path, seconds: int, words: str
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    add(client, *minutes(40, 1000 * seconds))
    log = drain(tidecast, model, "--read-size", "4")
    assert_told(tidecast, log, "pace", words, level="WARNING")


def test_another_pace_where_readings_are_aggregated(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, aggregate={"value": "mean"}, **GRID)
    add(client, *minutes(250, 10_000))
    assert not any("readings come every" in line for line in drain(tidecast, model))
    add(client, *minutes(250, 120_000, START + 250 * 10_000))
    log = drain(tidecast, model)
    assert_told(tidecast, log, "pace", "every 120 s, the model wants 60 s", level="WARNING")


def test_readings_that_all_come_late(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    now = int(time.time() * 1000)
    add(client, now + 20 * 3_600_000, *minutes(60, start=now - 3_600_000))
    log = drain(tidecast, model)
    words = ("60 of 61 readings come too late, such as one of series boiler-7", "whose newest")
    forget = "tidecast-worker forget --series NAME --input readings"
    assert_told(tidecast, log, "late", *words, forget, level="WARNING")


def test_times_far_in_the_future(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    add(client, *minutes(30, start=4_000_000_000_000))
    log = drain(tidecast, model)
    words = ("30 of 30 readings are too far in the future", "--max-skew")
    assert_told(tidecast, log, "ahead", *words, level="WARNING")


def test_a_reading_a_day_ahead_costs_that_alone(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    now = int(time.time() * 1000)
    add(client, now + 90_000_000, *minutes(60, start=now - 3_600_000))
    drain(tidecast, model)
    assert len(forecasts(client)) == 59
    (letter,) = dead(client)
    assert "ahead of its entry" in letter["reason"]
    (one,) = json.loads(tidecast("status", "--json").stdout)["partitions"]
    assert one["hindered"] == {}


def test_features_that_are_not_there(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    add(client, *minutes(30), field="temp\x1b[2J")
    log = drain(tidecast, model)
    words = (
        "30 of 30 readings lack",
        "feature 'value' is missing; there are 'series', 'ts', 'temp",
    )
    assert_told(tidecast, log, "values", *words, "tidecast-worker check", level="WARNING")
    assert not any("\x1b" in line for line in log)


def test_a_feature_that_is_never_there_where_sensors_report_apart(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    both = {"features": ("value", "hum"), "targets": ("value",)}
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID, **both)
    add(client, *minutes(30))
    log = drain(tidecast, model)
    assert_told(tidecast, log, "values", "have no 'hum'", level="WARNING")


def test_entries_that_hold_no_reading(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    for _ in range(3):
        client.xadd("readings", {"data": "{broken"})
    log = drain(tidecast, model)
    words = ("3 of 3 entries hold no reading", "not JSON", "check --input readings")
    assert_told(tidecast, log, "unreadable", *words, level="WARNING")


def test_the_same_time_and_value_again_and_again(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    for _ in range(30):
        add(client, START)
    log = drain(tidecast, model)
    words = ("29 of 30 readings say again what was known", "--time-field")
    assert_told(tidecast, log, "repeated", *words, level="WARNING")


def test_windows_that_are_not_full_yet(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    grid = GRID | {"min_steps": 12}
    model = write_mean_model(tmp_path / "m.onnx", name="boiler", n_steps=24, **grid)
    add(client, *minutes(5))
    log = drain(tidecast, model)
    steps = "of the 12 steps in a row that model boiler forecasts from, the longest window has 5"
    assert_told(tidecast, log, "waiting", "5 of 5 readings wait", steps, level="INFO")


def test_a_stream_that_was_there_before_is_told_of(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    add(client, *minutes(5))
    streams = ("--input", "readings,typo")
    result = tidecast("run", "--models", model, "--burst", *streams)
    assert "readings is new to fleet default, which reads what comes from now on" in result.stderr
    assert "(--from earliest reads all)" in result.stderr
    assert "typo: nothing was ever added to it; its entries are waited for" in result.stderr
    again = tidecast("run", "--models", model, "--burst", *streams).stderr
    assert "is new to" not in again
    assert "nothing was ever" not in again


def test_the_metric_and_the_log_of_a_worker_at_work(
    client: redis.Redis, server_url: str, tidecast: Run, tmp_path: Path
) -> None:
    """A hindrance is told while the worker runs, and gone when readings are forecast again."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1, series="s*")
    often = ("--checkpoint-every", "0.05")
    name = "tidecast_hindered{unserved,readings}"
    add(client, START)
    with scraped(server_url, model, tmp_path / "log", *often) as scrape:
        wait_for(lambda: scrape().get(name) == 1)
        assert scrape()["tidecast_hindered{late,readings}"] == 0
        wait_for(lambda: "no model serves" in tidecast("status").stderr)
        add(client, *minutes(30), series="s1")
        wait_for(lambda: scrape()[name] == 0)
        wait_for(lambda: "no model serves" not in tidecast("status").stderr)
    assert (tmp_path / "log").read_text().count("1 of 1 readings are of series that no") == 1
