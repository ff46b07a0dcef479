"""Sends the rows of a file, or synthetic readings, to an input stream as if they were live.

Delivery: each row or reading at most once. They go in order, in pipelines that are never sent
again; when the connection breaks, the error says how many are confirmed. Of a file, ``--from-row``
goes on there.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from queue import Queue
from threading import Thread

import redis

from tidecast.worker.commands.rows import Fields, Row, Rows
from tidecast.worker.commands.synthetic import Pipeline, SyntheticReadings
from tidecast.worker.errors import LostServerError, ServerError
from tidecast.worker.store.connection import RawConnection

LARGEST_PIPELINE = 500
LONGEST_WAIT = 60.0


@dataclass(slots=True)
class FeedTally:
    """How many rows were read from the file and how many of them sent."""

    rows: int = 0
    sent: int = 0


def feed(
    client: redis.Redis,
    stream: str,
    rows: Rows,
    *,
    rate: float,
    clock: Callable[[], float],
    sleep: Callable[[float], object],
    progress: Callable[[FeedTally], None],
    whole: Callable[[], AbstractContextManager[object]] = nullcontext,
    longest: int | None = None,
) -> FeedTally:
    """Send rows at ``rate`` per second (0: as fast as they come and the server takes them).

    ``whole`` holds interrupts back while rows are sent and counted, so that the count is of all
    that are in. With ``longest`` the stream keeps about so many entries.

    Raises:
        SettingsError: the file cannot be read.
        ServerError: the connection broke; the message says where to go on.
    """
    tally = FeedTally()
    start = clock()
    size = LARGEST_PIPELINE if rate == 0 else max(1, min(LARGEST_PIPELINE, int(rate / 50)))
    for chunk in _as_they_come(rows, size) if rows.is_live else _chunks(rows, size):
        if rate:
            sleep(max(0.0, start + tally.rows / rate - clock()))
        entries = [fields for _, fields in chunk if fields is not None]
        with whole():
            _send(client, stream, entries, longest, goes_on=chunk[0][0])
            tally.rows += len(chunk)
            tally.sent += len(entries)
            progress(tally)
    return tally


def _chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    waiting = iter(rows)
    while chunk := list(islice(waiting, size)):
        yield chunk


def _as_they_come(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Yield what has come, at most ``size`` rows; wait for the next one where that is nothing."""
    come: Queue[Row | Exception | None] = Queue(maxsize=size)

    def read() -> None:
        try:
            for row in rows:
                come.put(row)
            come.put(None)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            come.put(error)

    Thread(target=read, daemon=True).start()
    while True:
        chunk: list[Row] = []
        last: Row | Exception | None = come.get()
        while isinstance(last, tuple):
            chunk.append(last)
            if come.empty() or len(chunk) == size:
                break
            last = come.get()
        if chunk:
            yield chunk
        if isinstance(last, Exception):
            raise last
        if last is None:
            return


def _send(
    client: redis.Redis, stream: str, entries: list[Fields], longest: int | None, *, goes_on: int
) -> None:
    pipeline = client.pipeline(transaction=False)
    for fields in entries:
        pipeline.xadd(stream, dict(fields.items()), maxlen=longest)
    try:
        pipeline.execute()
    except redis.RedisError as error:
        raise ServerError(
            f"the server stopped taking readings ({error}); rows before {goes_on} are in, of the "
            f"next {len(entries)} some may be: go on with --from-row {goes_on} or later"
        ) from error


@dataclass(frozen=True, slots=True)
class Sent:
    """How many readings the server has confirmed, and after how many seconds."""

    readings: int
    seconds: float

    @property
    def rate(self) -> float:
        """Readings per second."""
        return self.readings / self.seconds if self.seconds else 0.0


def feed_synthetic(
    client: redis.Redis,
    readings: SyntheticReadings,
    *,
    rate: float,
    seconds: float,
    clock: Callable[[], float],
    now: Callable[[], int],
    wait: Callable[[float], object],
    stopping: Callable[[], bool],
    progress: Callable[[Sent], None],
) -> Sent:
    """Send readings for so many seconds, or until somebody wants to stop.

    Args:
        client: one connection is taken from its pool.
        readings: what to send.
        rate: readings per second, on average; 0: as many as the server takes.
        seconds: how long, may be infinite.
        clock: monotonic seconds.
        now: milliseconds since 1970.
        wait: waits so many seconds, or less.
        stopping: whether somebody wants to stop.
        progress: told after each pipeline.

    Raises:
        ServerError: the connection broke, or the server refuses.
        SettingsError: the readings' times have left the years that a worker takes.
    """
    start, taken = clock(), 0
    entries = readings.entries_at(rate)
    with closing(Pipelines(client)) as pipelines:

        def sent() -> Sent:
            return Sent(pipelines.confirmed, clock() - start)

        while not stopping() and (left := start + seconds - clock()) > 0:
            early = start + taken / (rate or math.inf) - clock()
            if early > 0:
                pipelines.settle()
                progress(sent())
                wait(min(early, left, LONGEST_WAIT))
                continue
            pipeline = readings.take(entries, now())
            pipelines.send(pipeline)
            taken += pipeline.readings
            progress(sent())
        pipelines.settle()
        return sent()


class Pipelines:
    """Sends packed commands over one connection; two pipelines are on their way at most.

    So the next one is made while the server works on the one before. ``confirmed`` counts the
    readings that the server has taken for certain.

    Every call raises ServerError when the server goes away or refuses.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.confirmed = 0
        self._under_way: deque[Pipeline] = deque()
        with self._errors():
            self._connection = RawConnection(client)

    def send(self, pipeline: Pipeline) -> None:
        """Send a pipeline, then wait until the server has taken the one before."""
        self._under_way.append(pipeline)
        with self._errors():
            self._connection.send_packed(pipeline.commands)
            self._confirm(but=1)

    def settle(self) -> None:
        """Wait until the server has taken all that was sent."""
        with self._errors():
            self._confirm(but=0)

    def close(self) -> None:
        """Give the connection up."""
        self._connection.close()

    def _confirm(self, *, but: int) -> None:
        while len(self._under_way) > but:
            self._connection.confirm(self._under_way[0].entries)
            self.confirmed += self._under_way.popleft().readings

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (ServerError, LostServerError) as error:
            doubtful = sum(pipeline.readings for pipeline in self._under_way)
            some = f", of the next {doubtful} some may be" if doubtful else ""
            raise ServerError(
                f"the server stopped taking readings ({error}); {self.confirmed} are in{some}: "
                "see to the server, then start again"
            ) from error
