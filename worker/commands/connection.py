"""How the commands come to a server: the one that is named, or this user's embedded one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from tidecast.worker.commands.terminal import tell
from tidecast.worker.logs import LOGGER
from tidecast.worker.settings import ServerSettings
from tidecast.worker.store import embedded, server
from tidecast.worker.store.address import masked


@contextmanager
def served_client(settings: ServerSettings) -> Iterator[redis.Redis]:
    """Yield a client of the configured server, or of an embedded one that lives as long."""
    patience = settings.connect_patience
    if settings.url is not None:
        yield server.connect(
            settings.url, login=settings.login, patience=patience, notice=LOGGER.warning
        )
        return
    running = embedded.find() is not None
    with embedded.serve() as url:
        life = "runs already, is left running" if running else "in memory, ends with this worker"
        LOGGER.info("embedded server at %s (%s)", url, life)
        yield server.connect(url, patience=patience, notice=LOGGER.warning)


def client_of(settings: ServerSettings) -> redis.Redis:
    """Return a client of the configured server, or of this user's running embedded one."""
    warn_of_arguments(settings, tell)
    url, patience = settings.url, settings.connect_patience
    if url is None:
        url = embedded.wait_for(patience=patience, notice=tell)
        return server.connect(url, patience=patience, notice=tell)
    return server.connect(url, login=settings.login, patience=patience, notice=tell)


def warn_of_arguments(settings: ServerSettings, notice: Callable[[str], object]) -> None:
    """Say so if a password stands where the list of processes shows it."""
    url = settings.url
    if url is not None and masked(url) != url and any(url in word for word in sys.argv):
        notice(
            "the password in --redis-url shows in the list of processes; "
            "TIDECAST_REDIS_PASSWORD_FILE or TIDECAST_REDIS_URL keep it out"
        )
