"""A real worker process under measurement, and how fast a stream of forecasts grows."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0
POLL = 0.02


def command(url: str, models: Path, stream: str, *options: object) -> list[str]:
    """Return the command line of a worker."""
    words = ["run", "--redis-url", url, "--models", models, "--input", stream, *options]
    return [sys.executable, "-m", "tidecast.worker", *map(str, words)]


@contextmanager
def running(words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the length of the block, and kill it if it is still there.

    What it says on stderr is in a file, as a pipe that nobody empties would stop it.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=said)
        process.stderr = said
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something holds.

    Raises:
        SystemExit: the process has ended before, or it takes too long.
    """
    end = time.monotonic() + PATIENCE
    while not holds():
        if process.poll() is not None and not holds():
            raise SystemExit(f"{process.args!r} ended with {process.returncode}:\n{_said(process)}")
        if time.monotonic() > end:
            raise SystemExit(f"{process.args!r} did not get there in {PATIENCE:g} s")
        time.sleep(POLL)


def _said(process: subprocess.Popen[bytes]) -> str:
    if process.stderr is None:
        return ""
    process.stderr.seek(0)
    return process.stderr.read().decode()[-3000:]


def rate_of(client: redis.Redis, stream: str, words: Sequence[str], forecasts: int) -> float:
    """Return forecasts per second of a process, between its first commit and its last.

    The ids of the forecasts' entries are the server's milliseconds, so neither the start of the
    process nor this one's polling counts.

    Args:
        client: the server.
        stream: the input, with readings that give so many forecasts.
        words: the process' command line.
        forecasts: how many it will make.
    """
    key = f"{stream}:forecasts"
    with running(words) as process:
        wait_for(lambda: bool(client.exists(key)), process)
        first, before = _first_commit(client, key)
        wait_for(lambda: added(client, key) >= forecasts, process)
        last, after = _stand(client, key)
    clear(client, stream)
    return 1000 * max(1, after - before) / max(1, last - first)


def clear(client: redis.Redis, stream: str) -> None:
    """Remove a stream and all that was made from it."""
    names = [*client.scan_iter(f"{stream}:*", count=1000), *client.scan_iter("tidecast:*")]
    client.delete(stream, *names)


def added(client: redis.Redis, key: str) -> int:
    """Return how many entries a stream has ever held."""
    info: Any = client.xinfo_stream(key)
    count: int = info["entries-added"]
    return count


def _first_commit(client: redis.Redis, key: str) -> tuple[int, int]:
    """Return the time of a stream's oldest entry in milliseconds, and how many came in that."""
    info: Any = client.xinfo_stream(key)
    first: int = int(info["first-entry"][0].partition(b"-")[0])
    entries: Any = client.xrange(key, min=first, max=first)
    return first, len(entries)


def _stand(client: redis.Redis, key: str) -> tuple[int, int]:
    """Return the time of a stream's newest entry in milliseconds, and how many came up to it."""
    info: Any = client.xinfo_stream(key)
    return int(info["last-generated-id"].partition(b"-")[0]), info["entries-added"]


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
