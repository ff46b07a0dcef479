"""The peers of the benchmark do the worker's job, number for number."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from tests.benchmarks.streams import fill_flat
from tests.conftest import Run
from tests.model_files import write_lstm_model

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "tests" / "benchmarks" / "peers"
ENVIRONMENT = ROOT / ".venv-peers"
READINGS, SERIES, N_STEPS = 3000, 50, 5
FORECASTS = READINGS - SERIES * (N_STEPS - 1)


@pytest.mark.parametrize("path", sorted(PEERS.glob("*.py")), ids=lambda path: path.stem)
def test_a_peer_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60


@pytest.fixture
def peers_python() -> Path:
    """The interpreter that has the peers' packages."""
    if not (ENVIRONMENT / ".ready").exists():
        pytest.skip("the peers' environment is not there: 'make .venv-peers/.ready' makes it")
    return ENVIRONMENT / "bin" / "python"


def take_records(client: redis.Redis) -> dict[str, Any]:
    """Remove the forecast stream and return its records, by the entry that each answers."""
    entries: Any = client.xrange("readings:forecasts")
    client.delete("readings:forecasts")
    records = [json.loads(fields[b"forecast"]) for _, fields in entries]
    assert [r["series"].encode() for r in records] == [fields[b"series"] for _, fields in entries]
    by_entry = {record["entry"]: record for record in records}
    assert len(by_entry) == len(records) == FORECASTS
    return by_entry


def hear_all(client: redis.Redis, command: list[str]) -> dict[str, Any]:
    """Run a program that never ends until it has published every forecast; return what it did."""
    channel: Any = client.pubsub()  # type: ignore[no-untyped-call]
    channel.psubscribe("forecast:*")
    assert channel.get_message(timeout=10)["type"] == "psubscribe"
    heard: dict[str, Any] = {}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 300
        while len(heard) < FORECASTS and process.poll() is None and time.monotonic() < end:
            if message := channel.get_message(timeout=0.5):
                record = json.loads(message["data"])
                assert message["channel"] == f"forecast:{record['series']}".encode()
                heard[record["entry"]] = record
        process.kill()
        _, log = process.communicate()
    channel.close()
    assert len(heard) == FORECASTS, log
    return heard


@pytest.mark.parametrize("peer", ["bytewax_peer", "faststream_peer", "loop_peer"])
def test_a_peer_forecasts_what_the_worker_does(
    client: redis.Redis,
    server_url: str,
    tidecast: Run,
    tmp_path: Path,
    peers_python: Path,
    peer: str,
) -> None:
    """With a step, so that the records say one."""
    step = SERIES / 1000
    model = write_lstm_model(tmp_path / "tiny.onnx", n_steps=N_STEPS, horizon=2, step_seconds=step)
    fill_flat(client, "readings", READINGS, SERIES)
    assert tidecast("run", "--models", model, "--from", "earliest", "--burst").returncode == 0
    ours = take_records(client)
    command = [str(peers_python), "-m", f"tests.benchmarks.peers.{peer}"]
    command += ["--redis-url", server_url, "--model", str(model), "--input", "readings"]
    heard = hear_all(client, command)
    theirs = take_records(client)
    assert theirs == heard
    our_numbers, their_numbers = (
        np.array([record.pop("forecast")["value"] for _, record in sorted(records.items())])
        for records in (ours, theirs)
    )
    assert theirs == ours  # but for the numbers
    np.testing.assert_allclose(their_numbers, our_numbers, rtol=1e-5)
