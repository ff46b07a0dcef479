"""Readings on a stream, quickly: what the benchmarks are fed with."""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import orjson
import redis

from tidecast.worker.store.connection import packed

START_MS = 1_700_000_000_000
AT_ONCE = 5000


def fill_flat(client: redis.Redis, stream: str, readings: int, series: int) -> None:
    """Put readings on a stream, one in an entry, round robin over the series."""
    values = np.random.default_rng(0).normal(50, 10, readings).round(2).tolist()
    fill(
        client,
        (_words(stream, f"s{i % series}", START_MS + i, values[i]) for i in range(readings)),
    )


def fill(client: redis.Redis, commands: Iterable[list[bytes]]) -> None:
    """Send commands, many at a time."""
    connection = client.connection_pool.get_connection()
    rest = iter(commands)
    try:
        while some := [packed(words) for words in islice(rest, AT_ONCE)]:
            _send(connection, some)
    finally:
        client.connection_pool.release(connection)


def xadd(stream: str, series: str, at: int, value: float) -> bytes:
    """Return the command that adds one reading."""
    return packed(_words(stream, series, at, value))


def _words(stream: str, series: str, at: int, value: float) -> list[bytes]:
    words = ("XADD", stream, "*", "series", series, "ts", str(at), "value", str(value))
    return [word.encode() for word in words]


def fill_columns(
    client: redis.Redis,
    stream: str,
    names: Sequence[str],
    rounds: int,
    *,
    features: Sequence[str] = ("value",),
    per_entry: int = 1000,
    shape: str = "columns",
) -> None:
    """Put ``rounds`` readings of each series on a stream, many in an entry.

    Args:
        client: the server.
        stream: the input stream.
        names: the series.
        rounds: readings of each.
        features: what a reading holds.
        per_entry: readings in one entry.
        shape: ``columns`` for one object of columns, ``objects`` for an array of objects.
    """
    random = np.random.default_rng(0)
    connection = client.connection_pool.get_connection()
    waiting: list[bytes] = []
    try:
        for at in range(rounds):
            for first in range(0, len(names), per_entry):
                some = list(names[first : first + per_entry])
                columns = {"series": some, "ts": [START_MS + at] * len(some)}
                values = random.normal(50, 10, (len(features), len(some))).round(2).tolist()
                body: object = columns | dict(zip(features, values, strict=True))
                if shape == "objects":
                    body = [
                        dict(zip(body, row, strict=True))  # type: ignore[call-overload]
                        for row in zip(*body.values(), strict=True)  # type: ignore[attr-defined]
                    ]
                words = [b"XADD", stream.encode(), b"*", b"data", orjson.dumps(body)]
                waiting.append(packed(words))
                if len(waiting) >= 50:
                    _send(connection, waiting)
                    waiting = []
        _send(connection, waiting)
    finally:
        client.connection_pool.release(connection)


def _send(connection: redis.Connection, commands: list[bytes]) -> None:
    if commands:
        connection.send_packed_command([b"".join(commands)])  # type: ignore[no-untyped-call]
    for _ in commands:
        connection.read_response()
