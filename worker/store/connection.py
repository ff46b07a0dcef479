"""One raw connection: a question is sent now, and its answer taken when there is time for it.

A client's own commands ask and wait in one call, turn answers into other shapes, and pack thousands
of short words slowly. So reader, replay, commit and ``feed`` speak over this instead.

What it takes of redis-py, at least 8.1; ``tests/redis/test_connection.py`` holds all to a server:

- without an underscore, though few of them are documented: ``Redis.connection_pool``; of a pool
  ``get_connection()`` without arguments (since 5.3) and ``release``; of a connection ``host``,
  ``port``, ``send_command``, ``send_packed_command``, ``disconnect``, ``can_read``, and
  ``read_response(disable_decoding=True)`` (since 4.1);
- ``redis.connection.DefaultParser.parse_error``, which makes an error of a reply that is one;
- with one: ``_sock``, a connection's socket, for ``confirm`` (in 3.5 already);
- that a connection hangs up after a failed read: those of sentinels' pools do because of
  ``server.py``.
"""

from collections.abc import Sequence
from typing import Any

import hiredis
import redis
from redis.connection import DefaultParser, SSLConnection

from tidecast.worker.store.driver import driver_errors

LONGEST_KNOWN = 4096
LARGEST_READ = 65_536
ANY_SIZE = 2**63
INCOMPLETE = object()


class TooLargeError(Exception):
    """A reply had more bytes than it may have."""


class RawConnection:
    """A connection of a client's pool, for one user at a time until ``close`` or ``give_back``.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses. After the first of them, what was under way is open: the connection is to be closed.
    """

    @driver_errors()
    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._driver: Any = self._pool.get_connection()
        self._replies = _reader()

    @property
    def peer(self) -> tuple[str, int] | None:
        """The host and port at the other end; None: a socket of this machine."""
        host = getattr(self._driver, "host", None)
        return None if host is None else (host, self._driver.port)

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return isinstance(self._driver, SSLConnection)

    def send(self, *words: str | bytes | int) -> None:
        """Send a command."""
        with driver_errors():
            self._driver.send_command(*words)

    def send_packed(self, commands: bytes) -> None:
        """Send commands as ``packed`` writes them."""
        with driver_errors():
            self._driver.send_packed_command([commands])

    def read(self) -> Any:
        """Return the next reply, texts as bytes; wait for it as long as the client is set to."""
        with driver_errors():
            return self._driver.read_response(disable_decoding=True)

    def read_within(self, most: int) -> Any:
        """Return the next reply as ``read`` does, if it has no more than ``most`` bytes or so.

        No more than these are ever held. Whoever reads so calls ``read`` only after whole replies.

        Raises:
            TooLargeError: it has more; the connection has hung up.
        """
        with driver_errors():
            try:
                reply = self._whole(most)
            except BaseException:
                self._driver.disconnect()  # as the driver does where its own reads fail
                self._replies = _reader()  # what began to come ends nowhere
                raise
            if isinstance(reply, redis.RedisError):
                raise reply
        return reply

    def answers(self, replies: int) -> list[Any]:
        """Return so many replies, refusals as errors among them; mixed with ``read`` as above."""
        with driver_errors():
            try:
                return [self._whole(ANY_SIZE) for _ in range(replies)]
            except BaseException:
                self._driver.disconnect()
                self._replies = _reader()
                raise

    def has_reply(self) -> bool:
        """Tell whether a part of a reply has come; wait for nothing."""
        with driver_errors():
            return bool(self._driver.can_read(0))

    def confirm(self, replies: int) -> None:
        """Wait until the server has done so many commands, and drop what it replies.

        The driver's own way to read a reply costs more than making and sending a reading. Whoever
        confirms never calls ``read``: the beginning of the next replies may lie here.
        """
        with driver_errors():
            for _ in range(replies):
                while (reply := self._replies.gets()) is INCOMPLETE:
                    self._receive()
                if isinstance(reply, redis.RedisError):
                    raise reply

    def close(self) -> None:
        """Hang up; a reply on its way is dropped."""
        self._driver.disconnect()
        self._pool.release(self._driver)

    def give_back(self) -> None:
        """Leave it to the next user of the pool; every reply must have been read."""
        self._pool.release(self._driver)

    def _whole(self, most: int) -> Any:
        received = 0
        while (reply := self._replies.gets()) is INCOMPLETE:
            if received > most:
                raise TooLargeError
            received += self._receive()
        return reply

    def _receive(self) -> int:
        try:
            received: bytes = self._driver._sock.recv(LARGEST_READ)  # noqa: SLF001
        except TimeoutError as error:
            raise redis.TimeoutError("Timeout reading from socket") from error
        if not received:
            raise redis.ConnectionError("Connection closed by server.")
        self._replies.feed(received)
        return len(received)


def _reader() -> hiredis.Reader:
    return hiredis.Reader(
        protocolError=redis.exceptions.InvalidResponse,
        replyError=_error,
        notEnoughData=INCOMPLETE,
    )


def _error(text: str) -> Exception:
    """Return the driver's error that a reply is, with its first word, which the driver cuts off."""
    error: Exception = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]  # redis-py's
    error.args = (text,)
    return error


class _Heads(dict[int, bytes]):
    """What stands before a word of so many bytes, and ends the word before."""

    def __missing__(self, size: int) -> bytes:
        head = b"\r\n$%d\r\n" % size
        if size <= LONGEST_KNOWN:
            self[size] = head
        return head


_HEADS = _Heads()


def packed(words: Sequence[bytes]) -> bytes:
    """Return a command as the server's protocol (RESP) writes it.

    The driver's packers take about three times as long for thousands of short words.
    """
    parts = [b""] * (2 * len(words))
    parts[::2] = map(_HEADS.__getitem__, map(len, words))
    parts[1::2] = words
    return b"*%d%b\r\n" % (len(words), b"".join(parts))
