"""The driver's errors in our words: what redis-py and the socket say, and what to do about it."""

import re
from contextlib import ContextDecorator

import redis

from tidecast.worker.errors import LostServerError, ServerError


def text_of(said: bytes) -> str:
    """Return what the server says or holds as text; bytes that are none are spelled out."""
    return said.decode("utf-8", "backslashreplace")


PASSING = frozenset(
    {
        *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "NOSCRIPT"),
        *("OOM", "READONLY", "TRYAGAIN", "UNBLOCKED"),
    }
)
"""How a server's replies open that another time, or another server, would not give."""


CLUSTERED = (
    "it is a node of a cluster, which keeps a stream's keys on several servers, and Tidecast "
    "writes them in one step; name a server with cluster-enabled no"
)


class _DriverErrors(ContextDecorator):
    # A generator would be made anew at each call, several for each read and commit.

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, redis.RedisError | OSError):
            raise in_our_words(error) from error


_DRIVER_ERRORS = _DriverErrors()


def driver_errors() -> _DriverErrors:
    """Translate the driver's errors, for the length of a block or of a decorated function.

    Raises:
        ServerError: the server refuses, and would again: missing rights, a key of another type in
            the way.
        LostServerError: anything else that redis-py or the socket says.
    """
    return _DRIVER_ERRORS


def in_our_words(error: redis.RedisError | OSError) -> ServerError | LostServerError:
    """Return the error that stands for one of the driver's; see ``driver_errors``."""
    if isinstance(error, redis.AuthenticationError):
        # It has let us in before, so a password is being replaced, or will be.
        return LostServerError(f"the server refuses: {error}; check user and password")
    if isinstance(error, redis.exceptions.AskError | redis.exceptions.ClusterCrossSlotError):
        return ServerError(CLUSTERED)
    if isinstance(error, redis.ResponseError):
        if _code(error) in PASSING:
            return LostServerError(str(error))
        return ServerError(f"the server refuses: {error}; check the user's rights and keys")
    return LostServerError(told(error))


def _code(error: redis.ResponseError) -> str:
    """Return the word that a reply opens with; of the cause, where a transaction names one."""
    text = str(error).rpartition(" of pipeline caused error: ")[2]
    cause = text.removeprefix("Transaction discarded because of: ")
    if cause == text and error.status_code:
        return error.status_code
    return cause.partition(" ")[0]


UNTRUSTED = "its authority is not trusted: --redis-ca-file names the one that is"
MISNAMED = "the URL must name the server as its certificate does"
GONE = "a file that --redis-ca-file, --redis-cert-file or --redis-key-file names is gone"
BROKEN = "look at the files of --redis-ca-file, --redis-cert-file and --redis-key-file"
NEEDED = "it may want a certificate of ours that it trusts: --redis-cert-file, --redis-key-file"
TLS_TROUBLE = {
    "Error 2 connecting to (?!/)": GONE,
    "PEM lib|NO_CERTIFICATE_OR_CRL_FOUND|KEY_VALUES_MISMATCH": BROKEN,
    "self-signed": UNTRUSTED,
    "unable to get local issuer": UNTRUSTED,
    "certificate has expired": "the server needs a new certificate",
    "Hostname mismatch": MISNAMED,
    "IP address mismatch": MISNAMED,
    "WRONG_VERSION_NUMBER": "that port does not speak TLS; nothing was sent",
    "CERTIFICATE_REQUIRED": NEEDED,
    "EOF occurred in violation of protocol": NEEDED,
    "ALERT_UNKNOWN_CA": NEEDED,
    "ALERT_CERTIFICATE_EXPIRED": "our certificate, --redis-cert-file, has expired",
}
"""What to do about what the driver says of TLS, by a pattern in its message."""


def told(error: Exception) -> str:
    """Return what an error says and what to do, each sentinel by its address alone."""
    text = re.sub(r"<redis\.client.*?\bhost=([^,]+),port=(\d+).*?> - ", r"\1:\2 - ", str(error))
    advice = next((advice for piece, advice in TLS_TROUBLE.items() if re.search(piece, text)), None)
    return (text or repr(error)) + (f" [{advice}]" if advice else "")
