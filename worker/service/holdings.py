"""The partitions that a worker holds: how it comes by each, keeps it, and what becomes of it.

Whatever is wrong with one partition (another type at one of its keys, an offset that somebody
moved, a lost lease, a refused right) is that partition's alone: it is dropped, others may have it,
and after a pause it is tried again; see ``Lifecycle``. What is wrong with the server (a
LostServerError) goes through to the loop, which begins anew with all of them.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from random import Random

from tidecast.worker.errors import (
    LeaseError,
    PartitionError,
    PositionError,
    ServerError,
)
from tidecast.worker.logs import LOGGER
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.wire import Position
from tidecast.worker.service.health import Health
from tidecast.worker.service.partition import LONGEST_PAUSE, Lifecycle, Partition, State
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.service.share import share_out
from tidecast.worker.service.summary import Summary
from tidecast.worker.settings import Settings
from tidecast.worker.store.commit import UNDER_WAY, Committer
from tidecast.worker.store.keys import lease_key
from tidecast.worker.store.lease import Leases, Standing
from tidecast.worker.store.position import START, StreamFacts
from tidecast.worker.store.source import Streams

TENDS_PER_LEASE = 10
LONGEST_UNTENDED = 1.0
RENEWALS_PER_LEASE = 3
SAVING_SHARE = 0.025
"""The share of its time that a worker spends on checkpoints, about."""
LONGEST_REST = 10
RESTORED_FOR = 0.05
"""Seconds that may go into windows between two batches of the partitions that run."""
RESTORED_AT_ONCE = 3
"""Partitions whose windows are being made at a time, each with a read in hand: so a large one does
not hold up those behind it, and a thousand of them do not hold a thousand reads."""
ITS_OWN = (PartitionError, ServerError)
"""What a call about one partition raises when something is wrong with that partition."""


def untended(lease: float) -> float:
    """Return for how many seconds a worker may leave its partitions alone."""
    return min(lease / TENDS_PER_LEASE, LONGEST_UNTENDED)


def rest(every: float, seconds: float, share: float) -> float:
    """Return how many seconds to leave between checkpoints that take ``seconds`` in all.

    They are ``every`` seconds, or more where else more than ``share`` of the time went into them;
    but ``LONGEST_REST`` times as many at most, as a restart replays what came since.
    """
    return max(every, min(seconds / share, LONGEST_REST * every))


@dataclass(kw_only=True)
class Holdings:
    """All partitions that a worker follows, with those that it holds.

    Args:
        settings: what to read and how.
        streams: the server's input streams.
        leases: which of them are this worker's.
        recovery: saves windows and makes them again.
        summary: counts what is done.
        health: is told that the loop lives.
        clock: monotonic seconds.
        reached: told the name of each step as it is reached.
        saving_share: how much of its time may go into checkpoints; see ``rest``.
        longest_pause: seconds before a partition in trouble is tried again, at most.
        restored_for: as ``RESTORED_FOR``.
        random: spreads the tries of several workers.

    ``lives`` has a partition for each input, ``running`` those whose readings are forecast,
    ``restoring`` the work that is left to make a partition's windows; ``changed`` says that what is
    to be read has changed.
    """

    settings: Settings
    streams: Streams
    leases: Leases
    recovery: Recovery
    summary: Summary
    health: Health
    clock: Callable[[], float]
    reached: Callable[[str], object] = lambda _: None
    saving_share: float = SAVING_SHARE
    longest_pause: float = LONGEST_PAUSE
    restored_for: float = RESTORED_FOR
    random: Random = field(default_factory=Random)
    lives: dict[str, Lifecycle] = field(init=False)
    running: dict[str, Partition] = field(default_factory=dict, init=False)
    restoring: dict[str, Iterator[Partition | None]] = field(default_factory=dict, init=False)
    changed: bool = field(default=False, init=False)
    _commits: deque[tuple[str, Commit]] = field(default_factory=deque, init=False)
    _turn: int = field(default=0, init=False)
    _endless: set[tuple[str, str]] = field(default_factory=set, init=False)
    _shared: tuple[Mapping[str, Collection[str]], Mapping[str, str | None], Mapping[str, str]] = (
        field(default=({}, {}, {}), init=False)
    )

    def __post_init__(self) -> None:
        self.lives = {stream: Lifecycle() for stream in self.settings.input}

    def begin(self, committer: Committer) -> None:
        """Hold nothing yet, and from now on commit through another connection."""
        self.drop_all()
        self._committer = committer
        self._tend_at = self._renew_at = float("-inf")

    def drop_all(self) -> None:
        """Hold nothing any more: the server is lost. Leases stay until they run out."""
        for stream, life in self.lives.items():
            if life.state in (State.RESTORING, State.RUNNING):
                self._drop(stream)
                life.leave()
        self._commits.clear()

    def send(self, stream: str, partition: Partition, commit: Commit) -> bool:
        """Send a commit of a running partition; tell whether the partition may go on."""
        self.hear(but=UNDER_WAY - 1)
        if self.running.get(stream) is not partition:
            return False
        moved = Position(commit.newest, partition.entries + commit.entries)
        self._committer.send(
            stream, partition.offset, moved, commit.series, commit.records, commit.rejects
        )
        self._commits.append((stream, commit))
        partition.offset, partition.entries = commit.newest, partition.entries + commit.entries
        self.reached("sent")
        return True

    def hear(self, *, but: int = 0) -> None:
        """Learn how commits went, until no more than ``but`` are under way."""
        while (left := self._committer.under_way - 1) >= but:
            stream, commit = self._commits.popleft()
            try:
                self._committer.settle(but=left)
            except ITS_OWN as error:
                self.fail(stream, error)
                continue
            self.summary.count(stream, commit)
            if self.lives[stream].failures and stream in self.running:
                self._recovered(stream)

    def tend(self) -> None:
        """Look after leases, shares and checkpoints, when it is time."""
        now = self.clock()
        if now < self._tend_at:
            return
        self._tend_at = now + untended(self.settings.lease)
        owners = self.leases.owners()
        for stream, life in self.lives.items():
            # What another has, whom nobody refuses it, is not asked back.
            if not (life.alone and owners[stream]):
                life.try_again(now)
        members = self._members()
        self._shorten_those_of_the_dead(owners, members)
        self.renew()
        shares = self._shares(members, owners)
        mine = [stream for stream, member in shares.items() if member == self.leases.token]
        for stream in [*self.running, *self.restoring]:
            if shares.get(stream) != self.leases.token:
                self._give_up(stream)
                if self.lives[stream].state is State.WAITING:  # else its trouble was told
                    fleet = self.settings.fleet
                    LOGGER.info("%s is left to another worker of fleet %s", stream, fleet)
        for stream in mine:
            self.renew()
            free = owners[stream] in (None, self.leases.token)
            if free and self.lives[stream].state is State.WAITING:
                self._take(stream)
        self._save_those_due(now)
        idle = not self.running and not self.restoring
        reasons = (life.reason for life in self.in_trouble.values())
        self.health.stuck = next(reasons, None) if idle else None

    def _shares(
        self, members: Mapping[str, Collection[str]], owners: Mapping[str, str | None]
    ) -> Mapping[str, str]:
        """Return who should have which partition; as before where nothing has changed.

        All members are to see the same: where some follow other streams, their leases count, too,
        or a stream could be left by each of two members to the other.
        """
        others = {stream for follows in members.values() for stream in follows} - owners.keys()
        if others:
            owners = {**owners, **self.leases.owners(sorted(others))}
        if (members, owners) != self._shared[:2]:
            self._shared = members, owners, share_out(members, owners)
        return self._shared[2]

    def _shorten_those_of_the_dead(
        self, owners: Mapping[str, str | None], members: Collection[str]
    ) -> None:
        """See that leases of those who live no more run out, however the clock was set."""
        for stream, owner in owners.items():
            if owner is None or owner in members or self.lives[stream].state is State.TROUBLE:
                continue
            with suppress(ServerError):  # whoever tries to take it will see
                standing = self.leases.shorten(stream)
                if standing is Standing.ENDLESS and (stream, owner) not in self._endless:
                    self._endless.add((stream, owner))
                    key = lease_key(stream, self.settings.fleet)
                    LOGGER.warning(
                        "%s: what lies at %s never runs out, so no worker put it there, and none "
                        "takes the stream while it lasts; DEL %s if that is not wanted",
                        *(stream, key, key),
                    )
                elif standing is Standing.CUT:
                    LOGGER.warning(
                        "%s: its lease is held by %s, which is no living member of fleet %s, for "
                        "longer than leases last: the server's clock was set back, or that worker "
                        "had another --lease. It runs out in %g s",
                        *(stream, owner, self.settings.fleet, self.settings.lease),
                    )

    def _save_those_due(self, now: float) -> None:
        """Write the checkpoints for which it is time, as far as they may cost any."""
        seconds = sum(partition.save_seconds for partition in self.running.values())
        between = rest(self.settings.checkpoint_every, seconds, self.saving_share)
        known = self.streams.facts_of([*self.running])
        for stream, partition in list(self.running.items()):
            self.renew()
            self._look_for_gaps(stream, partition, known[stream])
            # Until a first checkpoint stands, each save writes but a part of it.
            stands = partition.changelog.is_complete
            pause = between if stands else partition.save_seconds / self.saving_share
            if now - partition.saved_at >= min(pause, between):
                self._save(stream)

    def renew(self) -> None:
        """Renew all leases, and this member's place in the fleet, when it is time."""
        now = self.health.beat_at = self.clock()
        if now < self._renew_at:
            return
        self._renew_at = now + self.settings.lease / RENEWALS_PER_LEASE
        self._members()  # says that this member lives
        for stream, renewed in self.leases.renew_all([*self.running, *self.restoring]).items():
            if isinstance(renewed, ServerError):
                self.fail(stream, renewed)
            elif not renewed:
                lost = LeaseError(f"{stream}: its lease has run out before it was renewed")
                self.fail(stream, lost)
        self.health.beat_at = self.clock()
        self.reached("renewed")

    def restore(self) -> None:
        """Make windows for a while; of several partitions in turn."""
        until = self.clock() + self.restored_for
        while self.restoring:
            self._restore_a_part()
            if self.clock() >= until:
                return

    def _restore_a_part(self) -> None:
        """Do a part of what is left to make windows again."""
        under_way = [*islice(self.restoring, RESTORED_AT_ONCE)]
        self._turn += 1
        stream = under_way[self._turn % len(under_way)]
        work = self.restoring[stream]
        try:
            found = next(work)
        except ITS_OWN as error:
            self.fail(stream, error)
            return
        # Its lease may have been lost meanwhile.
        if found is not None and self.restoring.get(stream) is work:
            self._drop(stream)
            self.running[stream] = found
            self.lives[stream].run()
            self.reached("restored")
            self._look_for_gaps(stream, found)
            self._save(stream)

    def fail(self, stream: str, error: PartitionError | ServerError) -> None:
        """Drop a partition with which something is wrong, and tell what."""
        life = self.lives[stream]
        if life.state is State.TROUBLE:
            return  # the commits behind a refused one are refused, too
        if life.state is not State.WAITING:
            self.summary.count_rebuild(reconnect=False)
        self._drop(stream)
        error = self._diagnosed(stream, error)
        reason = str(error).removeprefix(f"{stream}: ")
        news = life.fail(
            reason,
            self.clock(),
            passing=isinstance(error, LeaseError | PositionError),
            alone=isinstance(error, ServerError),
            longest=self.longest_pause,
            chance=self.random.random(),
        )
        if news:
            LOGGER.warning(
                "%s is in trouble: %s. Its readings wait, other streams go on; it is tried again "
                "after pauses of up to %g s",
                stream,
                reason,
                self.longest_pause,
                extra={"facts": {"stream": stream, "trouble": reason}},
            )
        self._release(stream)

    def leave(self) -> None:
        """Give up all partitions at once, so that others can go on."""
        for stream in [*self.running, *self.restoring]:
            self.renew()  # the save before may have taken long
            self._give_up(stream)
        self.leases.leave()

    @property
    def in_trouble(self) -> dict[str, Lifecycle]:
        """The partitions with which something is wrong."""
        return {s: life for s, life in self.lives.items() if life.state is State.TROUBLE}

    def _members(self) -> dict[str, list[str]]:
        """Say that this member lives and what it follows; return all members.

        What is refused to this worker it leaves to others, to whom it may not be. What is wrong for
        all of them stays where it is: it would only go round.
        """
        return self.leases.members([s for s, life in self.in_trouble.items() if life.alone])

    def _take(self, stream: str) -> None:
        """Take a partition that nobody holds, if nobody is quicker; its windows are made later."""
        self.hear()  # of commits from when it was ours before
        if self.lives[stream].state is not State.WAITING:
            return  # one of them was refused
        try:
            self.leases.check(stream)
            if not self.leases.acquire(stream):
                return
            self.lives[stream].take()
            self.reached("acquired")
            position = self._committer.position(stream)
            if position is None:
                position = self.streams.beginning(stream, at_end=self.settings.start == "latest")
                self._committer.begin(stream, position)
                self._tell_of_beginning(stream, position)
            else:
                self._committer.resume(stream)
        except ITS_OWN as error:
            self.fail(stream, error)
        else:
            self.restoring[stream] = self.recovery.restore(stream, position, self.renew)
            self.changed = True

    def _tell_of_beginning(self, stream: str, position: Position) -> None:
        """Say what is not read of a stream that is new to the fleet, or that there is nothing."""
        facts = {"facts": {"stream": stream}}
        if (
            not position.entries
            and position.offset == START
            and not self.streams.facts(stream).added
        ):
            LOGGER.info(
                "%s: nothing was ever added to it; its entries are waited for", stream, extra=facts
            )
        elif position.offset != START:
            LOGGER.info(
                "%s is new to fleet %s, which reads what comes from now on: of what it holds up to "
                "%s nothing is read (--from earliest reads all)",
                *(stream, self.settings.fleet, position.offset),
                extra=facts,
            )

    def _give_up(self, stream: str) -> None:
        """Leave a partition to other members, with its windows if they stand."""
        self._save(stream, whole=True)
        if stream in self.running or stream in self.restoring:
            self._drop(stream)
            self.lives[stream].leave()
            self._release(stream)
            self.reached("released")

    def _drop(self, stream: str) -> None:
        self.running.pop(stream, None)
        self.restoring.pop(stream, None)
        self.changed = True

    def _release(self, stream: str) -> None:
        with suppress(ServerError):  # what lies there is no lease of ours
            self.leases.release(stream)

    def _save(self, stream: str, *, whole: bool = False) -> None:
        """Write a checkpoint, and remove what nobody needs any more from the stream."""
        self.hear()
        hindered = self.summary.judge(stream)
        partition, start = self.running.get(stream), self.clock()
        if partition is None:
            return
        partition.hindered = hindered
        try:
            self.recovery.save(stream, partition, self.renew, whole=whole)
            partition.saved_at = self.clock()
            partition.save_seconds = max(0.0, partition.saved_at - start)
            if partition.changelog.is_complete:
                partition.stands_since = partition.saved_at
            self.reached("saved")
            if self.settings.trim:
                self.recovery.trim(stream, self.renew)
        except ITS_OWN as error:
            self.fail(stream, error)

    def _look_for_gaps(
        self, stream: str, partition: Partition, known: StreamFacts | ServerError | None = None
    ) -> None:
        """Raise an alarm if entries were removed from the stream before they were read.

        ``known`` is what the server knows of the stream, or why it does not tell.
        """
        if self.running.get(stream) is not partition:
            return
        try:
            if isinstance(known, ServerError):
                raise known
            lost = self.recovery.lost_unread(stream, partition, known)
            if lost:
                self.hear()
                told = Position(partition.offset, partition.entries)
                if self.running.get(stream) is partition:
                    self._committer.recount(stream, told)
                    self.summary.count_lost(stream, lost)
        except ITS_OWN as error:
            self.fail(stream, error)

    def _diagnosed(
        self, stream: str, error: PartitionError | ServerError
    ) -> PartitionError | ServerError:
        """Return what is wrong; of a refusal, which key it is about and what lies there."""
        if isinstance(error, ServerError):
            try:
                self.leases.check(stream)
            except ITS_OWN as found:
                return found
        return error

    def _recovered(self, stream: str) -> None:
        LOGGER.info(
            "%s is out of trouble after %.0f s: its readings are forecast from where it stood",
            stream,
            self.lives[stream].worked(self.clock()) or 0.0,
            extra={"facts": {"stream": stream}},
        )
