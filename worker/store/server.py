"""Clients of the Redis (or Valkey) server: by URL, login and sentinels."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from redis.backoff import DecorrelatedJitterBackoff, NoBackoff
from redis.connection import SSLConnection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection

from tidecast.worker.errors import LostServerError, ServerError, SettingsError
from tidecast.worker.store.address import Address, address_of, is_loopback, masked
from tidecast.worker.store.connection import RawConnection
from tidecast.worker.store.driver import CLUSTERED, NEEDED, told
from tidecast.worker.store.login import Login

LONGEST_BLOCK_MS = 500
NOBODY = Login()
STRANGERS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version")
"""What one who shows nothing of himself still asks of a server."""
SENTINEL_TIMEOUT = 2.0
SOCKET_TIMEOUT = 10.0
CONNECT_TIMEOUT = 5.0
MAYBE_PLAIN = "a port that does not speak TLS does that too; nothing was sent"
MAYBE_TLS = "a port that speaks TLS does that to plain text: rediss:// is for it"

BASICS: dict[str, Any] = {
    "protocol": 2,
    "socket_timeout": SOCKET_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "retry": Retry(NoBackoff(), 0),
    "driver_info": None,  # which a user of few rights may not tell, and which costs two round trips
}


def connect(
    url: str,
    *,
    login: Login = NOBODY,
    patience: float,
    notice: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> redis.Redis:
    """Return a client whose server answers, trying again with growing pauses.

    The client itself never retries a command: who sends one knows whether that is safe.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, or ``redis+sentinel://`` and its TLS twin
            ``rediss+sentinel://``.
        login: how to enter it; the URL may hold user and password instead.
        patience: seconds to keep trying; a try under way may end up to ``CONNECT_TIMEOUT`` later,
            for each of several sentinels.
        notice: called with one line the first time the server does not answer.
        clock: monotonic seconds.

    Raises:
        SettingsError: the URL is none, or a file of the login cannot be used.
        ServerError: no answer in time, a refused password, or a node of a cluster.
    """
    address, client = _opened(url, login)
    start, tries = clock(), 0

    def after_failure(error: Exception) -> None:
        nonlocal tries
        tries += 1
        if clock() - start >= patience:
            raise _unusable(address, error, tries, clock() - start) from error
        if tries == 1:
            said = _told_at_start(address, error)
            notice(f"no answer from {address.text} yet ({said}); trying for {patience:g} s")

    forever = Retry(backoff(longest=1.0), -1, (redis.RedisError,))
    forever.call_with_retry(client.ping, after_failure)
    _look_at(client, address, notice)
    if address.is_unchecked:
        notice("the URL turns the check of the server's certificate off: anyone can pose as it")
    if _lets_anyone_in(client):
        notice(
            "the server is on another machine and lets anyone in: whoever reaches it can read, "
            "forge and delete everything; give it users, see SECURITY.md"
        )
    return client


def _look_at(client: redis.Redis, address: Address, notice: Callable[[str], None]) -> None:
    """Refuse a server that we cannot use, and warn of one that forgets, before anything is sent.

    A user who may not ask (``INFO memory``) learns it from the first refusal.
    """
    try:
        facts: dict[str, Any] = client.info("memory", "cluster")
    except redis.RedisError:
        return
    if facts.get("cluster_enabled"):
        raise ServerError(f"{address.text}: {CLUSTERED}")
    policy = str(facts.get("maxmemory_policy"))
    if policy.startswith("allkeys"):
        notice(
            f"the server has maxmemory-policy {policy}: when its memory is full it deletes keys, "
            "readings, forecasts and offsets among them; set noeviction"
        )


def _told_at_start(address: Address, error: Exception) -> str:
    """Return what an error says; a strange answer to the first word may be another language's."""
    said = told(error)
    hung_up = re.search("closed by server|reset by peer|Broken pipe", said)
    if address.tls:
        said += f" [{MAYBE_PLAIN}]" * ("Timeout connecting" in said)
        return said + f" [{NEEDED}]" * bool(hung_up)
    return said + f" [{MAYBE_TLS}]" * bool(hung_up)


def _lets_anyone_in(client: redis.Redis) -> bool:
    """Tell whether a server on another machine answers one who shows nothing."""
    try:
        connection = RawConnection(client)
    except (LostServerError, ServerError):
        return False  # whoever needs it will say so
    connection.give_back()
    if connection.peer is None or is_loopback(connection.peer[0]):
        return False
    host, port = connection.peer
    known = client.connection_pool.connection_kwargs
    checks = {name: value for name, value in known.items() if name in STRANGERS}
    tls = connection.encrypted
    hear: Any = _hear_a_word if tls else None  # redis-py has a wrong type there
    with redis.Redis(
        host=host, port=port, ssl=tls, redis_connect_func=hear, **BASICS, **checks
    ) as stranger:
        try:
            return bool(stranger.ping())
        except redis.RedisError:
            return False


def backoff(*, longest: float) -> DecorrelatedJitterBackoff:
    """Return growing pauses with jitter, from 0.1 s to ``longest`` seconds.

    redis-py's exponential ones raise an OverflowError after 1,024 failures in a row.
    """
    return DecorrelatedJitterBackoff(cap=longest, base=0.1)


def _unusable(address: Address, error: Exception, tries: int, seconds: float) -> ServerError:
    if isinstance(error, redis.AuthenticationError):
        return ServerError(
            f"{address.text} refuses the user name or password ({error}); "
            "check the URL, TIDECAST_REDIS_URL or --redis-password-file"
        )
    return ServerError(
        f"no usable server at {address.text} after {tries} tries in {seconds:.0f} s "
        f"({_told_at_start(address, error)}); "
        "start it, or correct --redis-url"
    )


def client_of(url: str, login: Login = NOBODY) -> redis.Redis:
    """Return a client that has yet to connect, and that never retries a command.

    Raises:
        SettingsError: the URL is none, or a file of the login cannot be used.
    """
    return _opened(url, login)[1]


def _opened(url: str, login: Login) -> tuple[Address, redis.Redis]:
    """Return what a URL says, and a client of the server there."""
    try:
        address = address_of(url)
        options = BASICS | address.options | login.applied(address)
        for_sentinels = login.applied_to_sentinels(address)
        if address.sentinels:
            client = _client_by_sentinels(address, options, for_sentinels)
        else:
            if address.tls:
                options["redis_connect_func"] = _hear_a_word
            client = redis.Redis.from_pool(redis.ConnectionPool(**options))
        client.connection_pool.make_connection()
    except (ValueError, TypeError, redis.RedisError) as error:
        raise SettingsError(
            f"--redis-url {masked(url)!r}: {error}; for example redis://localhost:6379/0, "
            "or redis+sentinel://localhost:26379/service/0"
        ) from error
    return address, client


def _client_by_sentinels(
    address: Address, options: dict[str, Any], login: dict[str, Any]
) -> redis.Redis:
    options.pop("connection_class", None)
    for_sentinels = {
        name: value
        for name, value in options.items()
        if name in BASICS or name.startswith(("socket_", "ssl_"))
    }
    for name in ("socket_timeout", "socket_connect_timeout"):
        # There are several, asked one after the other.
        for_sentinels[name] = min(SENTINEL_TIMEOUT, for_sentinels[name])
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        address.sentinels,
        sentinel_kwargs={
            **for_sentinels,
            "ssl": address.tls,
            "redis_connect_func": _hear_a_word if address.tls else None,
            **login,
        },
    )
    client: redis.Redis = sentinels.master_for(  # type: ignore[no-untyped-call]
        address.service,
        connection_class=_TlsConnection if address.tls else _Connection,
        redis_connect_func=_insist_on_primary,
        **options,
    )
    return client


class _Connection(SentinelManagedConnection):
    """A connection that hangs up after a failed read, as those of a plain pool do.

    Otherwise an answer that comes late would pass for the answer to the next command.
    """

    def read_response(self, *args: Any, **options: Any) -> Any:
        return super().read_response(*args, **{"disconnect_on_error": True} | options)


class _TlsConnection(_Connection, SSLConnection):
    """The same over TLS."""


def _hear_a_word(connection: Any) -> None:
    """Set a new TLS connection up, and wait for one answer over it.

    The server's session tickets come after the handshake, when it likes. Unless an answer that is
    read takes them along, redis-py (8.1) takes them for one that somebody left, and gives up.
    """
    connection.on_connect()
    connection.send_command("PING", check_health=False)
    with suppress(redis.exceptions.NoPermissionError):
        connection.read_response()


def _insist_on_primary(connection: Any) -> None:
    """Set a new connection up, unless its server is a replica that sentinels still call primary."""
    connection.on_connect()
    connection.send_command("ROLE", check_health=False)
    try:
        role = connection.read_response()[0]
    except redis.exceptions.NoPermissionError:
        return  # a user who may not ask learns it from the first write
    if role != b"master":
        raise redis.ConnectionError(
            f"{connection.host}:{connection.port} is not, or no longer, a primary"
        )


def forget(client: redis.Redis) -> None:
    """Hang idle connections up, so that the next one goes to what is the primary by then."""
    client.connection_pool.disconnect(inuse_connections=False)
