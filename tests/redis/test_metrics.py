"""What a scrape of a real worker says."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.campaigns import wait_for
from worker.metrics import COUNTERS
from worker.tally import Tally

Scrape = Callable[[], dict[str, float]]


@contextmanager
def scraped(url: str, model: Path, log: Path, *options: str) -> Iterator[Scrape]:
    """Run a worker for the length of the block; yield what asks it for its metrics."""
    command = [sys.executable, "-m", "worker", "run", "--redis-url", url, "--models", str(model)]
    command += ["--from", "earliest", "--http-port", "0", *options]
    with log.open("w") as file, subprocess.Popen(command, stderr=file) as process:

        def address() -> str | None:
            found = re.search(r"metrics at (\S+)", log.read_text())
            return found[1] if found else None

        def scrape() -> dict[str, float]:
            with urllib.request.urlopen(str(address()), timeout=60) as answer:  # noqa: S310 - ours
                text = answer.read().decode()
            families = text_string_to_metric_families(text)
            return {sample.name: sample.value for one in families for sample in one.samples}

        try:
            wait_for(lambda: address() is not None)
            yield scrape
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
        wait_for(lambda: scrape()["tidecast_entries_removed_unread_total"] > 0)
        wait_for(lambda: scrape()["tidecast_readings_total"] >= 15)
        counts = scrape()
    assert counts["tidecast_entries_removed_unread_total"] == 7
    assert counts["tidecast_readings_total"] == 15
    assert counts["tidecast_forecasts_total"] == 13
    assert counts["tidecast_rejects_total"] == 1
    assert counts["tidecast_unserved_readings_total"] == 1
    assert counts["tidecast_rebuilds_total"] == 0


def test_every_count_has_a_metric() -> None:
    assert set(COUNTERS) == {field.name for field in fields(Tally)}


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
