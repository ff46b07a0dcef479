"""What a worker has done, kept for metrics and told in its log now and then."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

from tidecast.worker.logs import LOGGER
from tidecast.worker.pipeline.outcome import Commit, Hindrance
from tidecast.worker.pipeline.wire import Forgotten
from tidecast.worker.service.hindrances import PASSING, Hindrances
from tidecast.worker.service.tally import Measures, Tally

NAMED_AT_MOST = 20


@dataclass
class Summary:
    """Counts since the start and since the last line of the log.

    Args:
        total: counts since the start.
        measures: counts what ``total`` does not.
        clock: monotonic seconds.
        now: seconds since 1970, to tell how old readings are.
        every: seconds between two lines.
    """

    total: Tally
    measures: Measures
    clock: Callable[[], float]
    now: Callable[[], float]
    every: float
    _since: Tally = field(default_factory=Tally, init=False)
    _remarks: set[str] = field(default_factory=set, init=False)
    _told_at: float = field(init=False)
    _hindrances: dict[str, Hindrances] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._told_at = self.clock()

    def count(self, stream: str, commit: Commit) -> None:
        """Count a commit that is known to be on the server; name series that are new."""
        self.total.add(commit)
        self._since.add(commit)
        self.measures.add(commit, self.now())
        for remark in commit.remarks:
            if remark not in self._remarks:
                LOGGER.warning("%s", remark)
        for note in commit.notes:
            if note not in self._remarks:
                LOGGER.info("%s", note)
        self._remarks |= {*commit.remarks, *commit.notes}
        for order in commit.orders:
            self._tell_order(stream, order)
        room = NAMED_AT_MOST - self.total.started + len(commit.started)
        for name in commit.started[: max(0, room)]:
            LOGGER.info("series %s starts to forecast", name, extra={"facts": {"series": name}})

        mine = self._hindrances.setdefault(stream, Hindrances(stream))
        mine.take(commit)
        if mine.is_plain:
            self.judge(stream)

    def _tell_order(self, stream: str, order: Forgotten) -> None:
        said = "series %s is forgotten" if order.held else "there is no series %s to forget"
        facts = {"stream": stream, "series": order.series, "entry": order.entry}
        LOGGER.info(
            f"%s: {said}, as entry %s says",
            *(stream, order.series, order.entry),
            extra={"facts": facts},
        )

    def judge(self, stream: str) -> dict[Hindrance, str]:
        """Return what hinders the readings of a stream, and tell what of that is news."""
        mine = self._hindrances.get(stream)
        for kind, said in mine.judge(self.clock()) if mine else ():
            if any(remark in said for remark in self._remarks):
                continue  # the pipeline said it as it came up
            tell = LOGGER.info if kind in PASSING else LOGGER.warning
            tell("%s: %s", stream, said, extra={"facts": {"stream": stream, "hindrance": kind}})
        return self.hindering(stream)

    def hindering(self, stream: str) -> dict[Hindrance, str]:
        """Return what hindered the readings of a stream when it was last looked at."""
        mine = self._hindrances.get(stream)
        return mine.stands.copy() if mine else {}

    def count_lost(self, stream: str, lost: int) -> None:
        """Count entries that were removed before they were read, and raise an alarm."""
        self.total.lost += lost
        self._since.lost += lost
        LOGGER.error(
            "%s: %d entries were removed from the stream before they were read, so their "
            "forecasts are missing; let the stream keep more, or add workers",
            stream,
            lost,
            extra={"facts": {"stream": stream, "lost": lost}},
        )

    def count_rebuild(self, *, reconnect: bool) -> None:
        """Count that windows are to be taken from the server again, and if that was its fault."""
        for tally in (self.total, self._since):
            tally.rebuilds += 1
            tally.reconnects += reconnect

    def tell_when_due(self) -> None:
        """Log what happened since the last line, when it is time."""
        if self.clock() - self._told_at >= self.every:
            self.tell()

    def tell(self) -> None:
        """Log what happened since the last line."""
        gc.collect(1)  # what came since
        now = self.clock()
        elapsed, since = max(now - self._told_at, 1e-9), self._since
        self._told_at, self._since = now, Tally()
        LOGGER.info(
            "%s, %.0f forecasts/s",
            since.sentence(f"in {elapsed:.1f} s"),
            since.forecasts / elapsed,
            extra={"facts": {"seconds": round(elapsed, 3), **since.facts()}},
        )
