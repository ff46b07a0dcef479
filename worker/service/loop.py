"""The worker's loop: read -> step -> commit, until told to stop.

While one batch is computed, the next read and the commits before are on their way. Between batches
the worker tends to its partitions (``holdings.py``): it renews their leases, takes and gives up
partitions so that all members of the fleet have their share, restores windows part by part and
saves them. What is wrong with one partition concerns that one alone. What is wrong with the server
is mended in one way: drop the connections, take offsets and checkpoints from the server, rebuild
the windows, go on. A replay publishes nothing, so nothing appears twice.

Python's own collection of cycles is to be off: it would walk through every entry that is read. The
loop collects them after an outage and with each summary.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from tidecast.worker.errors import LostServerError, ServerError
from tidecast.worker.logs import LOGGER
from tidecast.worker.pipeline.outcome import Hindrance
from tidecast.worker.pipeline.wire import Entry
from tidecast.worker.service.health import Health
from tidecast.worker.service.holdings import ITS_OWN, RESTORED_FOR, SAVING_SHARE, Holdings, untended
from tidecast.worker.service.outage import Outage
from tidecast.worker.service.partition import LONGEST_PAUSE, Partition, State
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.service.summary import Summary
from tidecast.worker.service.tally import Measures, Tally
from tidecast.worker.settings import Settings
from tidecast.worker.store.commit import Committer
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.source import LiveReader, Streams


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
        longest_pause: seconds before a partition in trouble is tried again, at most.
        restored_for: seconds that may go into windows between two batches.
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
    longest_pause: float = LONGEST_PAUSE
    restored_for: float = RESTORED_FOR
    reached: Callable[[str], object] = lambda _: None
    now: Callable[[], float] = time.time
    health: Health = field(default_factory=Health)
    measures: Measures = field(default_factory=Measures)
    total: Tally = field(default_factory=Tally)
    _held: Holdings | None = field(default=None, init=False)

    def run(self) -> None:
        """Work until told to stop, or with ``burst`` until all is read.

        Raises:
            ServerError: the server refuses what concerns all partitions; or, with ``burst``, what
                somebody has to mend before the rest can be read.
        """
        self._summary = Summary(
            self.total, self.measures, self.clock, self.now, self.settings.summary_every
        )
        held = self._held = Holdings(
            settings=self.settings,
            streams=self.streams,
            leases=self.leases,
            recovery=self.recovery,
            summary=self._summary,
            health=self.health,
            clock=self.clock,
            reached=self.reached,
            saving_share=self.saving_share,
            longest_pause=self.longest_pause,
            restored_for=self.restored_for,
        )
        failures, outage = 0, Outage()
        while not self.stopping():
            try:
                for _ in self._follow(held):
                    failures, self.health.outage = 0, None
                break
            except LostServerError as error:
                failures += 1
                self._note(held, error)
                if outage.is_news(str(error), self.clock()):
                    LOGGER.warning("rebuilding from the server after: %s", error)
                self.pause(failures)
        self.health.outage = "stopped"
        self._summary.tell()
        LOGGER.info("stopped: %s", self.total.sentence("in all"))
        troubles = {s: life.reason for s, life in held.in_trouble.items() if not life.passing}
        if self.settings.burst and troubles:
            told = "; ".join(f"{stream}: {reason}" for stream, reason in troubles.items())
            raise ServerError(f"not all was read: {told}")

    @property
    def partitions(self) -> dict[str, Partition]:
        """The partitions that run right now; safe to ask for from another thread."""
        return self._held.running.copy() if self._held else {}

    @property
    def states(self) -> dict[str, State]:
        """What each input stream is to this worker; safe to ask for from another thread."""
        lives = self._held.lives if self._held else {}
        return {stream: life.state for stream, life in lives.items()}

    def hindering(self, stream: str) -> Mapping[Hindrance, str]:
        """Return what keeps most of a stream's readings from being forecast; from any thread."""
        return self._summary.hindering(stream) if self._held else {}

    def _note(self, held: Holdings, error: LostServerError) -> None:
        """Count and tell that the server is lost, and what stood on it."""
        held.drop_all()
        self._summary.count_rebuild(reconnect=True)
        self.health.beat_at = self.clock()
        self.health.outage = str(error)

    def _follow(self, held: Holdings) -> Iterator[None]:
        """Take all from the server, then work; yields whenever the server has proved to work."""
        gc.collect()  # errors may hold the windows that were lost, in cycles
        committer = self.open_committer()
        held.begin(committer)
        reader: LiveReader | None = None
        try:
            while not self.stopping():
                held.tend()
                if held.restoring:
                    held.restore()
                if held.changed:
                    reader = self._reopen(reader, held)
                self.health.started |= not held.restoring
                counted = self.total.batches
                arrived = self._read_and_step(reader, held) if reader else False
                if reader is None or reader.caught_up:
                    held.hear()
                    self.reached("settled")
                idle = not arrived and not held.restoring
                if idle or self.total.batches > counted:
                    yield
                self._summary.tell_when_due()
                if self.settings.burst and idle and self._all_read(held, committer):
                    break
                if idle and (self.settings.burst or not held.running):
                    self.wait(untended(self.settings.lease) / 2)
            held.hear()
            self.reached("settled")
            held.leave()
        finally:
            if reader is not None:
                reader.close()
            committer.close()

    def _reopen(self, reader: LiveReader | None, held: Holdings) -> LiveReader | None:
        """Return a reader of the partitions that run now; what the old one had is re-read."""
        if reader is not None:
            reader.close()
        held.changed = False
        positions = {name: partition.offset for name, partition in held.running.items()}
        # Nobody waits for news while there is work.
        streams = replace(self.streams, block_ms=None) if held.restoring else self.streams
        return streams.follow(positions, reader, held.renew) if positions else None

    def _read_and_step(self, reader: LiveReader, held: Holdings) -> bool:
        """Take what has arrived through the pipeline; tell whether that was anything."""
        try:
            arrived = reader.read()
        except ServerError as error:
            self._fail_unreadable(error, held)
            return False
        for stream, entries in arrived.items():
            if not self.stopping():
                self._step(stream, entries, reader, held)
        return bool(arrived)

    def _step(self, stream: str, entries: list[Entry], reader: LiveReader, held: Holdings) -> None:
        """Commit what entries give; a read of very many readings may outlast a lease, or a stop."""
        partition = held.running.get(stream)
        if partition is None:  # dropped since the read; it will be read again from its offset
            return
        self.reached("read")
        for commit in partition.pipeline.step(entries, held.renew):
            self.reached("stepped")
            try:
                if not held.changed:  # else it is to be closed, and may have failed
                    reader.look_ahead()
            except ServerError as error:
                self._fail_unreadable(error, held)
            if not held.send(stream, partition, commit) or self.stopping():
                break
            held.renew()

    def _all_read(self, held: Holdings, committer: Committer) -> bool:
        """Tell whether all is read to its end, by whomever; but for what somebody has to mend."""
        for stream, life in held.lives.items():
            if life.state is State.TROUBLE and life.passing:
                return False
            if life.state is not State.WAITING:
                continue
            try:
                position = committer.position(stream)
                if position is None or position.offset != self.streams.facts(stream).last:
                    return False
            except ITS_OWN as error:
                held.fail(stream, error)
                return False
        return True

    def _fail_unreadable(self, error: ServerError, held: Holdings) -> None:
        """Find out whose key has made a read of all running partitions fail.

        Raises:
            LostServerError: nobody's alone; it may have been mended in between.
        """
        before, alone = len(held.running), replace(self.streams, count=1, block_ms=None)
        for stream, partition in list(held.running.items()):
            try:
                with closing(alone.follow({stream: partition.offset})) as reader:
                    reader.read()
            except ServerError as refused:
                held.fail(stream, refused)
        if len(held.running) == before:
            raise LostServerError(f"a read failed, and none of one stream does: {error}") from error
