"""Connections to the Redis (or Valkey) server, and its driver's errors in our words."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import DecorrelatedJitterBackoff, NoBackoff
from redis.retry import Retry

from worker.errors import LostServerError, ServerError, SettingsError

LONGEST_BLOCK_MS = 500
SOCKET_TIMEOUT = 10.0
CONNECT_TIMEOUT = 5.0


PASSING = ("BUSY ", "MISCONF", "NOREPLICAS", "UNBLOCKED")
"""Codes that the driver leaves in the message; for others it has classes."""
PASSING_ERRORS = (
    redis.exceptions.ClusterDownError,  # also of a replica whose primary is down
    redis.exceptions.NoScriptError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
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
    client = client_of(url)
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


def client_of(url: str) -> redis.Redis:
    """Return a client that has yet to connect, and that never retries a command.

    Raises:
        SettingsError: the URL is none.
    """
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
