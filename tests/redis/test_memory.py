"""What a worker holds stays within --max-memory, whatever is written to its streams."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.waiting import wait_for
from tidecast.worker.service.budget import BUFFERS, COARSE, MB, SMALLEST

LIMIT = 300 * MB
START = 1_700_000_000_000
LARGE = b"x" * 3_000_000


def names(client: redis.Redis) -> None:
    """30,000 series that are told of once, whose windows would take 300 MB."""
    for first in range(0, 30_000, 2000):
        some = list(range(first, first + 2000))
        columns = {"series": [f"made-up-{number:090}" for number in some]}
        values = {f"f{number}": [1.0] * len(some) for number in range(7)}
        client.xadd("readings", {"data": json.dumps(columns | values)})


def large_entries(client: redis.Redis) -> None:
    """24 streams of three entries that together have 216 MB."""
    for number in range(72):
        client.xadd(f"readings:{{{number % 24}}}", {"series": "a", "f0": 1, "more": LARGE})


def small_then_large(client: redis.Redis) -> None:
    """What came before says nothing of how large the next ones are."""
    pipeline = client.pipeline(transaction=False)
    for _ in range(5000):
        pipeline.xadd("readings", {"series": "a", "f0": 1})
    pipeline.execute()
    for _ in range(120):
        client.xadd("readings", {"series": "a", "f0": 1, "more": LARGE})


def one_huge_entry(client: redis.Redis) -> None:
    """More than the worker may ever hold, between two that are ordinary."""
    for more in (b"", b"x" * LIMIT, b""):
        client.xadd("readings", {"series": "a", "f0": 1, "more": more})


@pytest.mark.parametrize("fill", [names, large_entries, small_then_large, one_huge_entry])
def test_memory_is_bounded_at_first_and_in_a_replay(
    client: redis.Redis, server_url: str, tmp_path: Path, fill: Callable[[redis.Redis], None]
) -> None:
    features = tuple(f"f{number}" for number in range(7)) if fill is names else ("f0",)
    model = tmp_path / "m.onnx"
    write_mean_model(model, n_steps=336, features=features, targets=("f0",))
    fill(client)
    keys: Any = client.keys("readings*")
    streams = [key.decode() for key in keys]
    words = ("run", "--models", str(model), "--from", "earliest", "--redis-url", server_url)
    options = ("--max-memory", str(LIMIT), "--input", ",".join(streams), "--lease", "60")
    first = ""
    for _ in range(2):
        command = [sys.executable, "-m", "tidecast.worker", *words, *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
            wait_for(lambda: all(stands_at_end(client, stream) for stream in streams))
            wait_for(lambda: saved(client, streams))
            peak = peak_of(worker.pid)
            worker.send_signal(signal.SIGTERM)
            _, log = worker.communicate(timeout=120)
        first = first or log
        assert worker.returncode == 0, log
        assert "rebuilding" not in log
        assert peak < LIMIT
        if fill is one_huge_entry:
            check_what_is_too_large_is_refused(client)
        for stream in streams:  # the next one replays all of it
            client.delete(f"{stream}:checkpoint:default")
        assert re.search(r"memory: 300 MB \(--max-memory\), of which \d+ MB for the series", log)
    if fill is names:
        assert re.search(r"\d series forgotten to make room \(--max-series, --max-memory\)", first)


@pytest.mark.parametrize("bounded", [False, True], ids=["unbounded", "of what is allowed"])
def test_memory_of_quiet_series_returns_to_the_system(
    client: redis.Redis, server_url: str, tmp_path: Path, bounded: bool
) -> None:
    """20,000 series whose windows take 107 MB, and an hour later one that goes on alone."""
    model = write_mean_model(
        tmp_path / "m.onnx", n_steps=336, features=tuple("abcd"), targets=("a",)
    )
    words = ("run", "--models", str(model), "--from", "earliest", "--redis-url", server_url)
    options = ("--series-ttl", "3600", *(("--max-memory", "600MB") if bounded else ()))

    def tell(names: list[str], time: int) -> None:
        columns = {"series": names, "ts": [time] * len(names)}
        values = {name: [1.0] * len(names) for name in "abcd"}
        client.xadd("readings", {"data": json.dumps(columns | values)})

    tell(["some-0"], START)
    command = [sys.executable, "-m", "tidecast.worker", *words, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        wait_for(lambda: stands_at_end(client, "readings"))
        before = resident_of(worker.pid)
        for first in range(0, 20_000, 1000):
            tell([f"some-{number}" for number in range(first, first + 1000)], START)
        wait_for(lambda: stands_at_end(client, "readings"))
        full = resident_of(worker.pid)
        for minute in range(0, 180, 5):
            tell(["some-0"], START + 60_000 * minute)
        wait_for(lambda: stands_at_end(client, "readings"))
        after = resident_of(worker.pid)
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=120)
    assert "19999 quiet series forgotten" in log
    assert full - before > 100 * MB
    assert full - after > 70 * MB


def check_what_is_too_large_is_refused(client: redis.Redis) -> None:
    """By one letter, and what follows is read."""
    letters: Any = client.xrange("readings:dead")
    ((_, letter),) = letters
    assert letter[b"reason"].startswith(b"an entry with more bytes than may be read at once")
    entries: Any = client.xrange("readings")
    assert letter[b"entry"] == entries[1][0]


def stands_at_end(client: redis.Redis, stream: str) -> bool:
    offset: Any = client.get(f"{stream}:offset:default")
    last: Any = client.xrevrange(stream, count=1)
    return bool(offset) and offset.split(b" ")[0] == last[0][0]


def saved(client: redis.Redis, streams: list[str]) -> bool:
    """Whether the windows of all streams stand, which a replay makes before."""
    return all(client.hexists(f"{stream}:checkpoint:default", "manifest") for stream in streams)


def peak_of(pid: int) -> int:
    """Return how many bytes a process held at most so far."""
    return status_of(pid, "VmHWM")


def resident_of(pid: int) -> int:
    """Return how many bytes a process holds."""
    return status_of(pid, "VmRSS")


def status_of(pid: int, what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_too_little_is_refused_with_what_is_needed(tidecast: Run, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx")
    done = tidecast("run", "--models", model, "--burst", "--max-memory", "120MB")
    assert done.returncode == 2
    said = re.search(
        r"120 MB of memory \(--max-memory\): .* take (\d+) MB, .* give it (\d+) MB or", done.stderr
    )
    assert said is not None, done.stderr
    needed = (COARSE + BUFFERS + SMALLEST) // MB
    assert abs(int(said[2]) - int(said[1]) - needed) <= 1
