"""What a scrape of a real worker says."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.conftest import Run
from tests.model_files import spec_in, write_mean_model
from tests.redis.waiting import wait_for
from tidecast.worker.service.metrics import COUNTERS
from tidecast.worker.service.tally import Tally


@dataclass
class Scrape:
    """A running worker's HTTP port; a call asks for its metrics."""

    process: subprocess.Popen[bytes]
    port: int

    def __call__(self) -> dict[str, float]:
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        return {name_of(sample): sample.value for one in families for sample in one.samples}


def name_of(sample: Sample) -> str:
    """A sample's name, with the values of its labels where there are any."""
    values = ",".join(sample.labels.values())
    return f"{sample.name}{{{values}}}" if values else sample.name


@contextmanager
def scraped(url: str, model: Path, log: Path, *options: str) -> Iterator[Scrape]:
    """Run a worker for the length of the block; yield what asks it for its metrics."""
    command = [
        sys.executable,
        "-m",
        "tidecast.worker",
        "run",
        "--redis-url",
        url,
        "--models",
        str(model),
    ]
    command += ["--from", "earliest", "--http-port", "0", *options]
    with log.open("w") as file, subprocess.Popen(command, stderr=file) as process:

        def port() -> int | None:
            found = re.search(r"metrics at http://127.0.0.1:(\d+)/metrics", log.read_text())
            return int(found[1]) if found else None

        try:
            wait_for(lambda: port() is not None)
            yield Scrape(process, port() or 0)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0, log.read_text()
        finally:
            process.kill()


def test_a_scrape_tells_what_was_done_and_what_was_removed_unread(
    client: redis.Redis, server_url: str, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1, series="s*")
    client.xadd("readings", {"series": "s", "value": 0})
    tidecast("run", "--models", model, "--from", "earliest", "--burst")
    for value in range(20):
        client.xadd("readings", {"series": "s", "value": value})
    client.xadd("readings", {"series": "s", "value": "abc"})
    client.xadd("readings", {"series": "other", "value": 1})
    client.xtrim("readings", maxlen=15, approximate=False)
    with scraped(server_url, model, tmp_path / "log") as scrape:
        wait_for(lambda: scrape().get("tidecast_entries_removed_unread_total", 0) > 0)
        wait_for(lambda: scrape()["tidecast_readings_total"] >= 15)
        counts = scrape()
    assert counts["tidecast_entries_removed_unread_total"] == 7
    assert counts["tidecast_readings_total"] == 15
    assert counts["tidecast_forecasts_total"] == 13
    assert counts["tidecast_rejects_total{value}"] == 1
    assert counts["tidecast_rejects_total{late}"] == 0
    assert counts["tidecast_unserved_readings_total"] == 1
    assert counts["tidecast_rebuilds_total"] == counts["tidecast_reconnects_total"] == 0
    assert counts["tidecast_connected"] == counts["tidecast_partitions"] == 1
    assert counts["tidecast_partition_followed{readings}"] == 1
    assert counts["tidecast_series{readings}"] == 1
    assert counts["tidecast_partition_lag_entries{readings}"] == 0
    assert 0 <= counts["tidecast_checkpoint_age_seconds{readings}"] < 60
    assert counts["tidecast_commit_readings_sum"] == 15
    assert counts["tidecast_commit_readings_count"] == counts["tidecast_commits_total"]
    assert counts["tidecast_forecast_latency_seconds_count"] == counts["tidecast_commits_total"]
    assert counts["tidecast_inference_seconds_count{tiny}"] > 0
    version = spec_in(model).version
    assert counts[f"tidecast_model_info{{tiny,univariate_one_step,s*,{version}}}"] == 1
    assert counts["process_resident_memory_bytes"] > 1e6


def test_every_count_has_a_metric() -> None:
    assert COUNTERS.keys() == Tally().facts().keys()


def test_a_port_that_is_taken_is_a_clear_error(tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = tidecast("run", "--models", model, "--burst", "--http-port", str(port))
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert f"cannot serve metrics at 127.0.0.1:{port}: Address already in use; choose" in last


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none_is_a_clear_error(tidecast: Run, port: str) -> None:
    result = tidecast("run", "--http-port", port)
    assert result.returncode == 2
    assert f"setting http_port {port}: Input should be" in result.stderr
