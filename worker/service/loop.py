"""The worker's loop: read -> step -> commit, until told to stop.

While one batch is computed, the next read and the commits before are on their way. Between batches
the worker tends to its partitions: it renews their leases, takes and gives up partitions so that
all members of the fleet have their share, and saves windows. Whatever breaks is mended in one way:
drop the connections, take offsets and checkpoints from the server, rebuild the windows, go on. A
replay publishes nothing, so nothing appears twice.

Python's own collection of cycles is to be off: it would walk through every entry that is read. The
loop collects them after trouble and with each summary.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tidecast.worker.errors import LeaseError, LostServerError, RebuildError
from tidecast.worker.logs import LOGGER
from tidecast.worker.pipeline.step import Commit
from tidecast.worker.pipeline.wire import Entry, Position
from tidecast.worker.service.health import Health
from tidecast.worker.service.outage import Outage
from tidecast.worker.service.recovery import Partition, Recovery
from tidecast.worker.service.share import share_out
from tidecast.worker.service.tally import Measures, Tally
from tidecast.worker.settings import Settings
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.source import LiveReader, Streams

NAMED_AT_MOST = 20
TENDS_PER_LEASE = 10
LONGEST_UNTENDED = 1.0
RENEWALS_PER_LEASE = 3
SAVING_SHARE = 0.025
"""The share of its time that a worker spends on checkpoints, about."""
LONGEST_REST = 10


def untended(lease: float) -> float:
    """Return for how many seconds a worker may leave its partitions alone."""
    return min(lease / TENDS_PER_LEASE, LONGEST_UNTENDED)


def rest(every: float, seconds: float, share: float) -> float:
    """Return how many seconds to leave between checkpoints that take ``seconds`` in all.

    They are ``every`` seconds, or more where else more than ``share`` of the time went into them;
    but ``LONGEST_REST`` times as many at most, as a restart replays what came since.
    """
    return max(every, min(seconds / share, LONGEST_REST * every))


@dataclass
class Worker:
    """Follows input streams and forecasts.

    Args:
        settings: what to read and how.
        streams: the server's input streams.
        leases: which of them are this worker's.
        recovery: saves windows and makes them again.
        open_committer: opens a way to commit on the same server.
        clock: monotonic seconds.
        stopping: tells whether to stop; the batch in hand is committed first.
        wait: waits so many seconds, or less when told to stop.
        pause: waits, after so many failures in a row, or less when told to stop.
        saving_share: how much of its time may go into checkpoints; see ``rest``.
        reached: told the name of each step between a read and a checkpoint as it is reached.
        now: seconds since 1970, to tell how old readings are.
        health: is told how the loop fares.
        measures: counts what ``total`` does not.
    """

    settings: Settings
    streams: Streams
    leases: Leases
    recovery: Recovery
    open_committer: Callable[[], Committer]
    clock: Callable[[], float]
    stopping: Callable[[], bool]
    wait: Callable[[float], object]
    pause: Callable[[int], object]
    saving_share: float = SAVING_SHARE
    reached: Callable[[str], object] = lambda _: None
    now: Callable[[], float] = time.time
    health: Health = field(default_factory=Health)
    measures: Measures = field(default_factory=Measures)
    total: Tally = field(default_factory=Tally)
    _held: dict[str, Partition] = field(default_factory=dict, init=False)

    def run(self) -> None:
        """Work until told to stop, or with ``burst`` until all is read.

        Raises:
            ServerError: the server refuses what we may never do.
        """
        self._summarized, self._since = self.clock(), Tally()
        failures, outage = 0, Outage()
        while not self.stopping():
            try:
                for _ in self._follow():
                    failures, self.health.trouble = 0, None
                break
            except RebuildError as error:
                failures += 1
                self._note(error)
                if outage.is_news(str(error), self.clock()):
                    LOGGER.warning("rebuilding from the server after: %s", error)
                self.pause(failures)
        self.health.trouble = "stopped"
        self._summarize()
        LOGGER.info("stopped: %s", self.total.sentence("in all"))

    @property
    def partitions(self) -> dict[str, Partition]:
        """The partitions that are held right now; safe to ask for from another thread."""
        return self._held.copy()

    def _note(self, error: RebuildError) -> None:
        """Count and tell that what the worker stood on is gone."""
        for tally in (self.total, self._since):
            tally.rebuilds += 1
            tally.reconnects += isinstance(error, LostServerError)
        self.health.beat_at = self.clock()
        if isinstance(error, LostServerError):
            self.health.trouble = str(error)
        self._held = {}

    def _follow(self) -> Iterator[None]:
        """Rebuild from the server, then work; yields whenever the server has proved to work."""
        self._commits: list[Commit] = []
        gc.collect()  # errors may hold the windows that were lost, in cycles
        self._tend_at = self._renew_at = float("-inf")
        self._committer = self.open_committer()
        reader: LiveReader | None = None
        try:
            while not self.stopping():
                if self._tend():
                    reader = self._reopen(reader)
                self.health.started = True
                counted = self.total.batches
                arrived = self._read_and_step(reader) if reader else False
                if reader is None or reader.caught_up:
                    self._settle()
                    self._count()
                if not arrived or self.total.batches > counted:
                    yield
                self._summarize_when_due()
                if self.settings.burst and not arrived and self._all_read():
                    break
                if not arrived and (self.settings.burst or not self._held):
                    self.wait(untended(self.settings.lease) / 2)
            self._settle()
            self._count()
            self._leave()
        finally:
            if reader is not None:
                reader.close()
            self._committer.close()

    def _reopen(self, reader: LiveReader | None) -> LiveReader | None:
        """Return a reader of the partitions that are held now; what the old one had is re-read."""
        if reader is not None:
            reader.close()
        positions = {name: held.offset for name, held in self._held.items()}
        return self.streams.follow(positions) if positions else None

    def _read_and_step(self, reader: LiveReader) -> bool:
        """Take what has arrived through the pipeline; tell whether that was anything."""
        arrived = reader.read()
        for stream, entries in arrived.items():
            if not self.stopping():
                self._step(stream, entries, reader)
        return bool(arrived)

    def _step(self, stream: str, entries: list[Entry], reader: LiveReader) -> None:
        """Commit what entries give; a read of very many readings may outlast a lease, or a stop."""
        partition = self._held[stream]
        self.reached("read")
        for commit in partition.pipeline.step(entries, self._renew):
            self.reached("stepped")
            reader.look_ahead()
            moved = Position(commit.newest, partition.entries + commit.entries)
            self._committer.send(
                stream, partition.offset, moved, commit.series, commit.records, commit.rejects
            )
            self.reached("sent")
            partition.offset, partition.entries = commit.newest, partition.entries + commit.entries
            self._commits.append(commit)
            self._count()
            if self.stopping():
                break
            self._renew()

    def _settle(self) -> None:
        self._committer.settle()
        self.reached("settled")

    def _count(self) -> None:
        """Tally the commits that are known to be on the server."""
        settled, now = len(self._commits) - self._committer.under_way, self.now()
        for commit in self._commits[:settled]:
            self.total.add(commit)
            self._since.add(commit)
            self.measures.add(commit, now)
            self._announce(commit)
        del self._commits[:settled]

    def _tend(self) -> bool:
        """Look after leases, shares and checkpoints when it is time; tell if partitions changed."""
        now = self.clock()
        if now < self._tend_at:
            return False
        self._tend_at = now + untended(self.settings.lease)
        before = set(self._held)
        members, owners = self.leases.members(), self.leases.owners()
        self._renew()
        shares = share_out(members, owners)
        mine = [stream for stream, member in shares.items() if member == self.leases.token]
        for stream in before - set(mine):
            self._give_up(stream)
        for stream in mine:
            self._renew()
            if stream not in self._held and owners[stream] in (None, self.leases.token):
                self._take(stream)
        seconds = sum(partition.save_seconds for partition in self._held.values())
        between = rest(self.settings.checkpoint_every, seconds, self.saving_share)
        for stream, partition in self._held.items():
            self._renew()
            self._look_for_gaps(stream, partition)
            if now - partition.saved_at >= between:
                self._save(stream)
        return set(self._held) != before

    def _renew(self, restoring: str | None = None) -> None:
        """Renew all leases, and this member's place in the fleet, when it is time.

        Raises:
            LeaseError: one has run out.
        """
        now = self.health.beat_at = self.clock()
        if now < self._renew_at:
            return
        self._renew_at = now + self.settings.lease / RENEWALS_PER_LEASE
        self.leases.members()  # says that this member lives
        for stream in [*self._held, *([restoring] if restoring else [])]:
            self.health.beat_at = self.clock()
            if not self.leases.renew(stream):
                raise LeaseError(f"{stream}: its lease has run out before it was renewed")
        self.reached("renewed")

    def _take(self, stream: str) -> None:
        """Take a partition that nobody holds, if nobody is quicker, and rebuild its windows."""
        if not self.leases.acquire(stream):
            return
        self.reached("acquired")
        position = self._committer.position(stream)
        if position is None:
            position = self.streams.beginning(stream, at_end=self.settings.start == "latest")
            self._committer.begin(stream, position)

        def alive() -> bool:
            self._renew(stream)
            return not self.stopping()

        partition = self.recovery.restore(stream, position, alive)
        self.reached("restored")
        if self.stopping():  # the replay may have been cut short
            self.leases.release(stream)
        else:
            self._held[stream] = partition

    def _give_up(self, stream: str) -> None:
        """Leave a partition to another member, with its windows."""
        self._save(stream, whole=True)
        del self._held[stream]
        self.leases.release(stream)
        LOGGER.info("%s is left to another worker of fleet %s", stream, self.settings.fleet)
        self.reached("released")

    def _leave(self) -> None:
        """Give up all partitions at once, so that others can go on."""
        for stream in list(self._held):
            self._renew()  # the save before may have taken long
            self._save(stream, whole=True)
            del self._held[stream]
            self.leases.release(stream)
        self.leases.leave()

    def _save(self, stream: str, *, whole: bool = False) -> None:
        """Write a checkpoint, and remove what nobody needs any more from the stream."""
        self._settle()
        partition, start = self._held[stream], self.clock()
        self.recovery.save(stream, partition, self._renew, whole=whole)
        partition.saved_at = self.clock()
        partition.save_seconds = max(0.0, partition.saved_at - start)
        self.reached("saved")
        if self.settings.trim:
            self.recovery.trim(stream)

    def _look_for_gaps(self, stream: str, partition: Partition) -> None:
        """Raise an alarm if entries were removed from the stream before they were read."""
        lost = self.recovery.lost_unread(stream, partition)
        if lost:
            self.total.lost += lost
            self._since.lost += lost
            LOGGER.error(
                "%s: %d entries were removed from the stream before they were read, so their "
                "forecasts are missing; let the stream keep more, or add workers",
                stream,
                lost,
                extra={"facts": {"stream": stream, "lost": lost}},
            )
            self._committer.recount(stream, Position(partition.offset, partition.entries))

    def _all_read(self) -> bool:
        """Tell whether the partitions that others hold are read to their end too."""
        for stream in set(self.settings.input) - set(self._held):
            position = self._committer.position(stream)
            if position is None or position.offset != self.streams.facts(stream).last:
                return False
        return True

    def _announce(self, commit: Commit) -> None:
        room = NAMED_AT_MOST - self.total.started + len(commit.started)
        for name in commit.started[: max(0, room)]:
            LOGGER.info("series %s starts to forecast", name, extra={"facts": {"series": name}})

    def _summarize_when_due(self) -> None:
        if self.clock() - self._summarized >= self.settings.summary_every:
            self._summarize()

    def _summarize(self) -> None:
        """Log what happened since the last summary."""
        gc.collect(1)  # what came since the last one
        now = self.clock()
        elapsed, since = max(now - self._summarized, 1e-9), self._since
        self._summarized, self._since = now, Tally()
        LOGGER.info(
            "%s, %.0f forecasts/s",
            since.sentence(f"in {elapsed:.1f} s"),
            since.forecasts / elapsed,
            extra={"facts": {"seconds": round(elapsed, 3), **since.facts()}},
        )
