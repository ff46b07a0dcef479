"""The worker's loop: read -> step -> commit, until told to stop.

While one batch is computed, the next read and the previous commit are on their way. Whatever breaks
is mended in one way: drop the connections, take the committed offset from the server, rebuild the
windows by replaying up to it, go on. Replay publishes nothing, so nothing appears twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import redis
from redis.backoff import ExponentialWithJitterBackoff

from worker.commit import Committer
from worker.decode import Decoder, Entry
from worker.errors import PositionError, ServerError
from worker.logs import LOGGER
from worker.pipeline import Commit, Pipeline
from worker.registry import Registry
from worker.server import LONGEST_BLOCK_MS
from worker.settings import Settings
from worker.source import START, StreamSource, last_id, replay

NAMED_AT_MOST = 20
NEVER_MENDED = (redis.exceptions.NoPermissionError, redis.AuthenticationError)


@dataclass(slots=True)
class Tally:
    """What has been done since the last summary, and in all."""

    readings: int = 0
    forecasts: int = 0
    rejects: int = 0
    unserved: int = 0
    batches: int = 0
    started: int = 0

    def add(self, commit: Commit) -> None:
        """Count a commit."""
        self.readings += commit.readings
        self.forecasts += len(commit.records)
        self.rejects += len(commit.rejects)
        self.unserved += commit.unserved
        self.batches += 1
        self.started += len(commit.started)


@dataclass(slots=True)
class _Partition:
    """An input stream with its windows and the last entry they have seen."""

    pipeline: Pipeline
    offset: str


@dataclass
class Worker:
    """Follows input streams and forecasts, over one client.

    Args:
        settings: what to read and how.
        registry: the models.
        client: the server.
        clock: monotonic seconds.
        sleep: waits that many seconds, or less when the worker is to stop.
    """

    settings: Settings
    registry: Registry
    client: redis.Redis
    clock: Callable[[], float]
    sleep: Callable[[float], object]
    total: Tally = field(default_factory=Tally)
    stopping: bool = False

    def stop(self) -> None:
        """Ask the loop to commit the batch in hand and return."""
        self.stopping = True

    def run(self) -> None:
        """Work until ``stop``, or with ``burst`` until all is read.

        Raises:
            ServerError: the server refuses what we may never do.
        """
        self._summarized, self._since = self.clock(), Tally()
        backoff = ExponentialWithJitterBackoff(cap=5.0, base=0.1)
        failures = 0
        while not self.stopping:
            try:
                for _ in self._follow():
                    failures = 0
                break
            except NEVER_MENDED as error:
                raise ServerError(
                    f"the server refuses: {error}; check the user's rights"
                ) from error
            except (redis.RedisError, PositionError, OSError) as error:
                failures += 1
                if failures == 1:
                    LOGGER.warning("rebuilding from the server after: %s", error)
                self.sleep(backoff.compute(failures))
        self._summarize()
        LOGGER.info("stopped: %s", _sentence(self.total, "in all"))

    def _follow(self) -> Iterator[None]:
        """Rebuild from the server, then work; yields after each settled batch."""
        committer = Committer(
            self.client,
            self.settings.fleet,
            longest_forecasts=self.settings.longest_forecasts,
            longest_dead=self.settings.longest_dead,
        )
        try:
            partitions = {name: self._rebuild(name, committer) for name in self.settings.input}
            source = StreamSource(
                self.client,
                {name: partition.offset for name, partition in partitions.items()},
                count=self.settings.read_size,
                block_ms=None if self.settings.burst else LONGEST_BLOCK_MS,
            )
            try:
                yield from self._work(source, partitions, committer)
            finally:
                source.close()
        finally:
            committer.close()

    def _work(
        self, source: StreamSource, partitions: dict[str, _Partition], committer: Committer
    ) -> Iterator[None]:
        commits: list[Commit] = []
        while not self.stopping:
            arrived = source.read()
            for stream, entries in arrived.items():
                commits.append(self._step(stream, partitions[stream], entries, source, committer))
            if not arrived:
                committer.settle()
            self._count(commits, all_settled=not arrived)
            self._summarize_when_due()
            yield
            if self.settings.burst and not arrived:
                return
        committer.settle()
        self._count(commits, all_settled=True)

    def _step(
        self,
        stream: str,
        partition: _Partition,
        entries: list[Entry],
        source: StreamSource,
        committer: Committer,
    ) -> Commit:
        commit = partition.pipeline.step(entries)
        source.take_ahead()
        newest = entries[-1][0].decode()
        committer.send(
            stream, partition.offset, newest, commit.series, commit.records, commit.rejects
        )
        partition.offset = newest
        return commit

    def _count(self, commits: list[Commit], *, all_settled: bool) -> None:
        """Tally commits known to be on the server: all but the last, which may be under way."""
        settled = len(commits) if all_settled else len(commits) - 1
        for commit in commits[: max(0, settled)]:
            self.total.add(commit)
            self._since.add(commit)
            self._announce(commit)
        del commits[: max(0, settled)]

    def _rebuild(self, stream: str, committer: Committer) -> _Partition:
        """Return a partition whose windows stand at the committed offset."""
        offset = committer.offset(stream)
        if offset is None:
            start = START if self.settings.start == "earliest" else last_id(self.client, stream)
            offset = committer.begin(stream, start)
        decode = partial(
            Decoder, series_field=self.settings.series_field, time_field=self.settings.time_field
        )
        pipeline = Pipeline(stream, self.registry, decode(stream, self.registry.features))
        entries = 0
        if offset != START:
            for batch in replay(self.client, stream, offset):
                pipeline.replay(batch)
                entries += len(batch)
        LOGGER.info(
            "follow %s after %s (%d entries replayed, %d series)",
            stream,
            offset,
            entries,
            pipeline.series,
            extra={"facts": {"stream": stream, "offset": offset, "replayed": entries}},
        )
        return _Partition(pipeline, offset)

    def _announce(self, commit: Commit) -> None:
        room = NAMED_AT_MOST - self.total.started + len(commit.started)
        for name in commit.started[: max(0, room)]:
            LOGGER.info("series %s starts to forecast", name, extra={"facts": {"series": name}})

    def _summarize_when_due(self) -> None:
        if self.clock() - self._summarized >= self.settings.summary_every:
            self._summarize()

    def _summarize(self) -> None:
        """Log what happened since the last summary."""
        now = self.clock()
        elapsed, since = max(now - self._summarized, 1e-9), self._since
        self._summarized, self._since = now, Tally()
        LOGGER.info(
            "%s, %.0f forecasts/s",
            _sentence(since, f"in {elapsed:.1f} s"),
            since.forecasts / elapsed,
            extra={
                "facts": {
                    "seconds": round(elapsed, 3),
                    "readings": since.readings,
                    "forecasts": since.forecasts,
                    "rejects": since.rejects,
                    "unserved": since.unserved,
                }
            },
        )


def _sentence(tally: Tally, span: str) -> str:
    line = f"{tally.readings} readings -> {tally.forecasts} forecasts {span}"
    if tally.rejects:
        line += f", {tally.rejects} rejected (see the :dead stream)"
    if tally.unserved:
        line += f", {tally.unserved} of series that no model serves"
    return line
