"""``feed``: what it says it has sent is on the stream, however it ends."""

import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.servers import Server, client_at, free_port
from tests.redis.waiting import wait_for
from tidecast.worker.commands.feeder import Sent, feed_synthetic
from tidecast.worker.commands.synthetic import (
    PIPELINES_PER_SECOND,
    SyntheticReadings,
    synthetic_readings,
)
from tidecast.worker.errors import ServerError

NOW = 1_700_000_000_000


def readings(per_entry: int = 1, longest: int | None = None) -> SyntheticReadings:
    return synthetic_readings(
        b"readings",
        series=3,
        features=("value",),
        per_entry=per_entry,
        step_ms=None,
        longest=longest,
        random=np.random.default_rng(1),
    )


def last(result: subprocess.CompletedProcess[str]) -> str:
    """What a command said at its end; before that it says how it read a file."""
    return result.stderr.splitlines()[-1]


@dataclass
class Clock:
    """Time that passes only where somebody waits."""

    seconds: float = 1000.0
    waits: int = 0

    def __call__(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        self.waits += 1


def send(
    client: redis.Redis,
    clock: Clock,
    *,
    rate: float = 100,
    seconds: float = math.inf,
    per_entry: int = 1,
    progress: Callable[[Sent], None] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Sent:
    return feed_synthetic(
        client,
        readings(per_entry),
        rate=rate,
        seconds=seconds,
        clock=clock,
        now=lambda: NOW + round(1000 * clock()),
        wait=clock.wait,
        stopping=stopping,
        progress=progress,
    )


def told(result: "subprocess.CompletedProcess[str]") -> int:
    """How many readings the command says it has sent."""
    found = re.fullmatch(r"sent (\d+) readings to readings \(\d+/s\)\n", result.stderr)
    assert found, result.stderr
    assert result.returncode == 0
    return int(found[1])


def numbers(error: ServerError) -> tuple[int, int]:
    """How many readings an error says are in, and how many may be."""
    found = re.search(r"; (\d+) are in, of the next (\d+) some may be", str(error))
    assert found, error
    return int(found[1]), int(found[2])


def forecasts_and_rejects(client: redis.Redis) -> tuple[int, int]:
    return int(client.xlen("readings:forecasts")), int(client.xlen("readings:dead"))


# Made-up readings


@pytest.mark.parametrize("per_entry", [1, 7])
def test_a_worker_forecasts_all_of_them(
    client: redis.Redis, tidecast: Run, tmp_path: Path, per_entry: int
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=2, features=("temp", "hum"))
    shape = ("--series", "20", "--features", "temp,hum,more", "--per-entry", str(per_entry))
    sent = told(tidecast("feed", "--synthetic", *shape, "--rate", "2000", "--for", "1s"))
    assert client.xlen("readings") * per_entry == sent > 20
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst")
    assert result.returncode == 0, result.stderr
    assert forecasts_and_rejects(client) == (sent - 20, 0)


def test_steps_suit_a_model_with_a_step(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, step_seconds=60.0)
    shape = ("--series", "2", "--step", "1m", "--rate", "500", "--for", "1s")
    sent = told(tidecast("feed", "--synthetic", *shape))
    assert client.xlen("readings") == sent > 4
    assert tidecast("run", "--models", model, "--from", "earliest", "--burst").returncode == 0
    assert forecasts_and_rejects(client) == (sent - 4, 0)


def test_the_rate_is_kept_until_the_time_is_over(client: redis.Redis) -> None:
    clock = Clock()
    sent = send(client, clock, rate=1000, seconds=2.5)
    assert (sent, client.xlen("readings")) == (Sent(2500, 2.5), 2500)
    at_once = 1000 // PIPELINES_PER_SECOND
    assert clock.waits == 2500 // at_once
    entries: Any = client.xrange("readings")
    times = [int(fields[b"ts"]) - NOW - 1_000_000 for _, fields in entries]
    assert times == [0] * at_once + list(range(1, 2501 - at_once))


@pytest.mark.parametrize(("rate", "sent"), [(0.1, 1), (0.5, 2), (1e-9, 1)])
def test_a_slow_rate_does_not_outlast_the_time(client: redis.Redis, rate: float, sent: int) -> None:
    assert send(client, Clock(), rate=rate, seconds=4) == Sent(sent, 4)


def test_progress_is_told_also_while_little_happens(client: redis.Redis) -> None:
    seen: list[Sent] = []
    send(client, Clock(), rate=0.01, seconds=150, progress=seen.append)
    assert seen == [Sent(0, 0), Sent(1, 0), Sent(1, 60), Sent(1, 100), Sent(2, 100)]


def test_columns_keep_the_rate_of_readings(client: redis.Redis) -> None:
    assert send(client, Clock(), rate=100, seconds=5, per_entry=50).readings == 500
    entries: Any = client.xrange("readings")
    assert [len(json.loads(fields[b"data"])["ts"]) for _, fields in entries] == [50] * 10


def test_a_wish_to_stop_ends_it_with_all_confirmed(client: redis.Redis) -> None:
    calls = iter(range(100))
    sent = send(client, Clock(), rate=0, stopping=lambda: next(calls) == 3)
    assert client.xlen("readings") == sent.readings == 30_000


# What workers call the series and the time


@pytest.mark.parametrize("per_entry", ["1", "7"])
def test_a_worker_reads_made_up_readings_by_the_names_that_both_are_told(
    client: redis.Redis, tidecast: Run, tmp_path: Path, per_entry: str
) -> None:
    names = ("--series-field", "sensor", "--time-field", "data")
    model = write_mean_model(tmp_path / "m.onnx", n_steps=2, step_seconds=60.0)
    made = ("--series", "5", "--step", "60s", "--rate", "2000", "--for", "100ms")
    sent = told(tidecast("feed", "--synthetic", *made, "--per-entry", per_entry, *names))
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", *names)
    assert result.returncode == 0, result.stderr
    forecasts: Any = client.xrange("readings:forecasts")
    assert len(forecasts) == sent - 5 > 0
    assert {fields[b"series"] for _, fields in forecasts} == {
        f"synthetic-{number}".encode() for number in range(5)
    }


def test_a_worker_reads_a_files_rows_by_the_names_that_both_are_told(
    client: redis.Redis, tidecast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=2, step_seconds=1.0)
    rows = "".join(f"{name},{row * 1000},7,{row}\n" for row in range(3) for name in "ab")
    (tmp_path / "x.csv").write_text("place,when,series,value\n" + rows)
    monkeypatch.setenv("TIDECAST_SERIES_FIELD", "sensor")
    columns = ("--series-column", "place", "--time-column", "when", "--time-unit", "ms")
    config = tmp_path / "tidecast.toml"
    config.write_text('time_field = "at"\nlease = 3\n')
    shared = ("--config", config)
    result = tidecast("feed", tmp_path / "x.csv", *columns, "--rate", "max", *shared)
    assert (result.returncode, last(result)) == (0, "sent 6 readings to readings")
    entries: Any = client.xrange("readings")
    assert entries[1][1] == {b"sensor": b"b", b"at": b"0", b"series": b"7", b"value": b"0"}
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", *shared)
    assert result.returncode == 0, result.stderr
    forecasts: Any = client.xrange("readings:forecasts")
    said = [json.loads(fields[b"forecast"]) for _, fields in forecasts]
    assert [(one["series"], one["at"]) for one in said] == [
        (name, time) for time in (1000, 2000) for name in "ab"
    ]


def test_a_column_with_the_name_of_a_workers_field_is_refused(
    tidecast: Run, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("ts,sensor,value\n2024-03-01,a,1\n")
    result = tidecast("feed", tmp_path / "x.csv", "--series-field", "sensor")
    assert result.returncode == 2
    assert "column sensor: readings use that name" in result.stderr
    made = ("--synthetic", "--features", "value,sensor", "--series-field", "sensor")
    assert "sensor and ts are taken" in tidecast("feed", *made).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("rate", ["max", "0.001"])
def test_signals_end_it_with_0_and_the_count(
    client: redis.Redis, server_url: str, number: signal.Signals, rate: str
) -> None:
    command = [sys.executable, "-m", "tidecast.worker", "feed", "--redis-url", server_url]
    command += ["--synthetic", "--rate", rate, "--longest", "20000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: client.xlen("readings"))
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    result = subprocess.CompletedProcess(command, process.returncode, "", said)
    info: Any = client.xinfo_stream("readings")
    assert told(result) == info["entries-added"]


def test_the_stream_is_kept_short(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    options = ("--rate", "max", "--longest", "300")
    sent = told(tidecast("feed", "--synthetic", "--for", "1s", *options))
    assert 300 <= int(client.xlen("readings")) < 500 < sent
    client.delete("readings")
    rows = "".join(f"{row},{row}\n" for row in range(1000))
    (tmp_path / "x.csv").write_text("ts,value\n" + rows)
    result = tidecast("feed", tmp_path / "x.csv", "--time-unit", "ms", *options)
    assert (result.returncode, last(result)) == (0, "sent 1000 readings to readings")
    assert 300 <= int(client.xlen("readings")) < 500


def test_a_file_goes_on_where_it_was_interrupted(
    client: redis.Redis, server_url: str, tidecast: Run, tmp_path: Path
) -> None:
    data = tmp_path / "x.csv"
    data.write_text("ts,value\n" + "".join(f"{NOW + row},{row}\n" for row in range(400)))
    command = [sys.executable, "-m", "tidecast.worker", "feed", "--redis-url", server_url]
    with subprocess.Popen(
        [*command, data, "--rate", "1"], stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: client.xlen("readings"))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    found = re.fullmatch(r"[^\n]+\ninterrupted; go on with (--from-row) (\d+)\n", said)
    assert found, said
    done = client.xlen("readings")
    assert int(found[2]) in {done, int(done) - 1}  # the last one's confirmation may be cut off
    assert tidecast("feed", data, "--rate", "max", *found.groups()).returncode == 0
    entries: Any = client.xrange("readings")
    assert {int(fields[b"ts"]) - NOW for _, fields in entries} == set(range(400))


# Servers that refuse or go


@pytest.mark.parametrize("options", [("--per-entry", "1"), ("--per-entry", "100")])
def test_a_refusal_ends_it_with_one_line(
    client: redis.Redis, tidecast: Run, options: tuple[str, ...]
) -> None:
    client.set("readings", "in the way")
    result = tidecast("feed", "--synthetic", "--rate", "1000", *options)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 2
    assert line.startswith("tidecast-worker: readings: the server stopped taking readings (the ser")
    assert "(the server refuses: WRONGTYPE" in line
    assert "; 0 are in, of the next" in line


def test_a_server_out_of_memory_ends_it(client: redis.Redis) -> None:
    used: Any = client.info("memory")
    client.config_set("maxmemory", used["used_memory"] + 5_000_000)
    try:
        with pytest.raises(ServerError, match=r"\(OOM .*\); (\d+) are in, of the next") as caught:
            send(client, Clock(), rate=0)
    finally:
        client.config_set("maxmemory", 0)
    confirmed, doubtful = numbers(caught.value)
    assert 0 < confirmed <= int(client.xlen("readings")) < confirmed + doubtful


def test_what_is_confirmed_outlives_a_crash(durable_server: Server) -> None:
    def crash(sent: Sent) -> None:
        if sent.readings >= 100:
            durable_server.kill()

    with durable_server.client() as client, pytest.raises(ServerError) as caught:
        send(client, Clock(), rate=1000, progress=crash)
    confirmed, doubtful = numbers(caught.value)
    durable_server.start()
    with durable_server.client() as client:
        assert 100 <= confirmed <= int(client.xlen("readings")) <= confirmed + doubtful


def test_a_server_that_is_gone_from_the_start() -> None:
    with pytest.raises(ServerError, match=r"stopped taking readings .*; 0 are in: see to"):
        send(client_at(free_port()), Clock())
