"""What a partition is to a worker, and what it may become next; pure.

A partition is one input stream. Each has a life of its own: what befalls one of them does not touch
the others.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from tidecast.worker.pipeline.changelog import Changelog
from tidecast.worker.pipeline.outcome import Hindrance
from tidecast.worker.pipeline.step import Pipeline
from tidecast.worker.service.outage import Outage
from tidecast.worker.store.checkpoint import Manifest, Section

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0
"""Seconds before a partition in trouble is tried again, about: at first, and at most."""


@dataclass
class Partition:
    """An input stream with its windows and the last entry they have seen.

    ``entries`` counts what was added to the stream up to ``offset``, ``lost`` what was removed from
    it unread; ``saved`` is the checkpoint that stands, ``stands_since`` when it was written and
    ``saved_at`` when a part of one last was, in monotonic seconds, and ``save_seconds`` how long
    that took. ``added`` counts what was
    ever added to the stream, as of the last look. ``hindered`` says what keeps most readings from
    being forecast, for people.
    """

    pipeline: Pipeline
    offset: str
    entries: int
    lost: int = 0
    evicted: int = 0
    saved: Manifest | None = None
    changelog: Changelog[Section] = field(default_factory=Changelog)
    saved_at: float = float("-inf")
    stands_since: float = float("-inf")
    save_seconds: float = 0.0
    added: int = 0
    removed: int | None = None
    hindered: dict[Hindrance, str] = field(default_factory=dict)

    @property
    def lag(self) -> int:
        """How many entries lay behind ``offset`` at the last look and still do."""
        return max(0, self.added - self.entries)

    @property
    def evicted_in_all(self) -> int:
        """How many series were ever forgotten to make room."""
        return self.evicted + self.pipeline.held.evicted


class State(StrEnum):
    """What a partition is to a worker."""

    WAITING = "waiting"
    """Somebody else's, or nobody's yet."""
    RESTORING = "restoring"
    """Ours; its windows are being made again."""
    RUNNING = "running"
    """Ours; its readings are forecast."""
    TROUBLE = "trouble"
    """Something is wrong with it. It is left alone, and tried again after a pause."""


@dataclass
class Lifecycle:
    """One partition's way from state to state, and the trouble it is or was in.

    ::

        WAITING -- take --> RESTORING -- run --> RUNNING
         ^   ^                |   |              |   |
         |   '---- leave -----'---|--- leave ----'   |
         |                        |                  |
         |                       fail               fail
         |                        v                  |
         '------ try_again ---- TROUBLE <------------'
            (its pause is over)   ^
                                  '--- fail --- WAITING

    Trouble ends with a commit that stands (``worked``), not with another try: until then, each
    failure makes the next pause longer, and what was told is not told again.

    ``reason`` says what is wrong, ``since`` when it began and ``next_try`` when its pause is over,
    in monotonic seconds; ``passing`` whether it may end without anybody's help, as a lost lease
    does; ``alone`` whether other workers may fare better; ``failures`` counts.
    """

    state: State = State.WAITING
    reason: str | None = None
    passing: bool = True
    alone: bool = False
    failures: int = 0
    since: float = 0.0
    next_try: float = 0.0
    _outage: Outage = field(default_factory=Outage)

    def take(self) -> None:
        """It is ours now, and its windows are being made again."""
        self._become(State.RESTORING, State.WAITING)

    def run(self) -> None:
        """Its windows stand."""
        self._become(State.RUNNING, State.RESTORING)

    def leave(self) -> None:
        """It is ours no more: given up, or lost together with the server."""
        self._become(State.WAITING, State.RESTORING, State.RUNNING)

    def fail(
        self,
        reason: str,
        now: float,
        *,
        passing: bool,
        alone: bool,
        longest: float,
        chance: float,
    ) -> bool:
        """Something is wrong with it; tell whether that is news.

        Args:
            reason: what is wrong.
            now: monotonic seconds.
            passing: whether it may end without anybody's help.
            alone: whether other workers may fare better.
            longest: seconds of the longest pause.
            chance: from 0 to 1; how far between half the pause and all of it to try again.
        """
        self._become(State.TROUBLE, State.WAITING, State.RESTORING, State.RUNNING)
        if not self.failures:
            self.since = now
        self.failures += 1
        self.reason, self.passing, self.alone = reason, passing, alone
        # The power is bounded, as it passes what a float holds after a thousand failures.
        pause = min(longest, FIRST_PAUSE * 2.0 ** min(self.failures - 1, 20))
        self.next_try = now + pause * (1 + chance) / 2
        return self._outage.is_news(reason, now)

    def try_again(self, now: float) -> None:
        """Leave trouble when its pause is over."""
        if self.state is State.TROUBLE and now >= self.next_try:
            self._become(State.WAITING, State.TROUBLE)

    def worked(self, now: float) -> float | None:
        """A commit stands; return for how many seconds it was in trouble, None if it was not."""
        if not self.failures:
            return None
        seconds = now - self.since
        self.reason, self.failures, self._outage = None, 0, Outage()
        return seconds

    def _become(self, state: State, *before: State) -> None:
        if self.state not in before:
            raise AssertionError(f"a partition that is {self.state} cannot become {state}")
        self.state = state
