"""One command or script for each of many keys, in few round trips; each has its own answer.

Delivery: as for any command; where the connection breaks, what became of those under way is open.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError

from tidecast.worker.errors import LostServerError
from tidecast.worker.store.connection import RawConnection, packed
from tidecast.worker.store.driver import driver_errors, in_our_words

AT_ONCE = 500
"""Commands that are sent before the first is answered; the server holds their answers meanwhile."""
Words = Sequence[str | bytes | int]


@driver_errors()
def answers_to(client: redis.Redis, commands: Sequence[Words]) -> list[Any]:
    """Return the server's answer to each command; where it refuses one, the ServerError.

    Raises:
        LostServerError: the server went away or fails.
    """
    return list(map(_told, _answers(client, commands)))


@driver_errors()
def run_for_each(client: redis.Redis, script: str, calls: Sequence[tuple[str, Words]]) -> list[Any]:
    """Return what a script of one key answers to each key and its arguments, as ``answers_to``."""
    sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    commands = [("EVALSHA", sha, 1, key, *words) for key, words in calls]
    answers = _answers(client, commands)
    if any(isinstance(answer, NoScriptError) for answer in answers):
        client.script_load(script)
        answers = _answers(client, commands)
    return list(map(_told, answers))


def _answers(client: redis.Redis, commands: Sequence[Words]) -> list[Any]:
    if not commands:
        return []
    connection = RawConnection(client)
    answers: list[Any] = []
    try:
        for first in range(0, len(commands), AT_ONCE):
            some = commands[first : first + AT_ONCE]
            connection.send_packed(b"".join(packed([*map(_bytes, words)]) for words in some))
            answers += connection.answers(len(some))
    finally:
        connection.give_back()
    return answers


def _told(answer: Any) -> Any:
    """Return an answer, or the ServerError that a refusal is."""
    if not isinstance(answer, redis.RedisError):
        return answer
    error = in_our_words(answer)
    if isinstance(error, LostServerError):
        raise error
    return error


def _bytes(word: str | bytes | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
