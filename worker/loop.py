"""The worker's loop: read -> step -> commit, until told to stop.

While one batch is computed, the next read and the previous commit are on their way. Whatever breaks
is mended in one way: drop the connections, take the committed offset from the server, rebuild the
windows by replaying up to it, go on. Replay publishes nothing, so nothing appears twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from worker.commit import Committer
from worker.decode import Decoder
from worker.errors import RebuildError
from worker.logs import LOGGER
from worker.pipeline import Commit, Pipeline
from worker.registry import Registry
from worker.settings import Settings
from worker.source import START, LiveReader, Streams
from worker.wire import Entry

NAMED_AT_MOST = 20


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
    """Follows input streams and forecasts.

    Args:
        settings: what to read and how.
        registry: the models.
        streams: the server's input streams.
        open_committer: opens a way to commit on the same server.
        clock: monotonic seconds.
        stopping: tells whether to stop; the batch in hand is committed first.
        pause: waits, after so many failures in a row, or less when told to stop.
    """

    settings: Settings
    registry: Registry
    streams: Streams
    open_committer: Callable[[], Committer]
    clock: Callable[[], float]
    stopping: Callable[[], bool]
    pause: Callable[[int], object]
    total: Tally = field(default_factory=Tally)

    def run(self) -> None:
        """Work until told to stop, or with ``burst`` until all is read.

        Raises:
            ServerError: the server refuses what we may never do.
        """
        self._summarized, self._since = self.clock(), Tally()
        failures = 0
        while not self.stopping():
            try:
                for _ in self._follow():
                    failures = 0
                break
            except RebuildError as error:
                failures += 1
                if failures == 1:
                    LOGGER.warning("rebuilding from the server after: %s", error)
                self.pause(failures)
        self._summarize()
        LOGGER.info("stopped: %s", _sentence(self.total, "in all"))

    def _follow(self) -> Iterator[None]:
        """Rebuild from the server, then work; yields whenever the server has proved to work."""
        committer = self.open_committer()
        try:
            partitions = {name: self._rebuild(name, committer) for name in self.settings.input}
            reader = self.streams.follow({name: p.offset for name, p in partitions.items()})
            try:
                yield from self._work(reader, partitions, committer)
            finally:
                reader.close()
        finally:
            committer.close()

    def _work(
        self, reader: LiveReader, partitions: dict[str, _Partition], committer: Committer
    ) -> Iterator[None]:
        commits: list[Commit] = []
        while not self.stopping():
            arrived = reader.read()
            for stream, entries in arrived.items():
                commits += self._step(stream, partitions[stream], entries, reader, committer)
            if not arrived:
                committer.settle()
            if self._count(commits, all_settled=not arrived) or not arrived:
                yield
            self._summarize_when_due()
            if self.settings.burst and not arrived:
                return
        committer.settle()
        self._count(commits, all_settled=True)

    def _step(
        self,
        stream: str,
        partition: _Partition,
        entries: list[Entry],
        reader: LiveReader,
        committer: Committer,
    ) -> Iterator[Commit]:
        for commit in partition.pipeline.step(entries):
            reader.take_ahead()
            committer.send(
                stream,
                partition.offset,
                commit.newest,
                commit.series,
                commit.records,
                commit.rejects,
            )
            partition.offset = commit.newest
            yield commit

    def _count(self, commits: list[Commit], *, all_settled: bool) -> int:
        """Tally commits known to be on the server: all but the last, which may be under way."""
        settled = max(0, len(commits) if all_settled else len(commits) - 1)
        for commit in commits[:settled]:
            self.total.add(commit)
            self._since.add(commit)
            self._announce(commit)
        del commits[:settled]
        return settled

    def _rebuild(self, stream: str, committer: Committer) -> _Partition:
        """Return a partition whose windows stand at the committed offset."""
        offset = committer.offset(stream)
        if offset is None:
            start = START if self.settings.start == "earliest" else self.streams.last_id(stream)
            offset = committer.begin(stream, start)
        decode = partial(
            Decoder, series_field=self.settings.series_field, time_field=self.settings.time_field
        )
        pipeline = Pipeline(stream, self.registry, decode(stream, self.registry.features))
        entries = 0
        if offset != START:
            for batch in self.streams.replay(stream, offset):
                pipeline.replay(batch)
                entries += len(batch)
                if self.stopping():
                    break  # nothing will be read, so half-filled windows do no harm
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
