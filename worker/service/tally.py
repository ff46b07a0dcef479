"""What a worker has done, in numbers; pure."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from tidecast.worker.pipeline.fates import Fates
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.wire import KINDS

COMMIT_READINGS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
INFERENCE = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


@dataclass(slots=True)
class Tally:
    """Counts over some time; ``fates`` are those of the readings.

    ``rebuilds`` says how often windows were to be taken from the server again: all of them because
    the server went away or failed, which ``reconnects`` counts too, or those of a partition in
    trouble.
    """

    fates: Fates = field(default_factory=Fates)
    forecasts: int = 0
    filled: int = 0
    rejects: int = 0
    evicted: int = 0
    forgotten: int = 0
    lost: int = 0
    rebuilds: int = 0
    reconnects: int = 0
    batches: int = 0
    started: int = 0

    def add(self, commit: Commit) -> None:
        """Count a commit."""
        self.forecasts += len(commit.records)
        self.filled += commit.filled
        self.rejects += sum(reject.count for reject in commit.rejects)
        self.fates.add(commit.fates)
        self.evicted += commit.evicted
        self.forgotten += commit.forgotten
        self.batches += 1
        self.started += len(commit.started)

    def sentence(self, span: str) -> str:
        """Say it in words; ``span`` is the time it took."""
        line = f"{self.fates.readings} readings -> {self.forecasts} forecasts {span}"
        if self.rejects:
            line += f", {self.rejects} rejected (see the :dead stream)"
        for told in self.fates.told():
            line += f", {told}"
        if self.evicted:
            line += f", {self.evicted} series forgotten to make room (--max-series, --max-memory)"
        if self.forgotten:
            line += f", {self.forgotten} quiet series forgotten (--series-ttl)"
        if self.lost:
            line += f", {self.lost} ENTRIES REMOVED UNREAD"
        if self.rebuilds:
            line += f", rebuilt from the server {self.rebuilds}x"
        return line

    def facts(self) -> dict[str, int]:
        """Return the counts by name."""
        facts = asdict(self)
        return {**facts.pop("fates"), **facts}


class Histogram:
    """How many values lie up to each of some bounds; their sum.

    Args:
        bounds: ascending; what lies above the last is counted too.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Measures:
    """How large commits were, how long they took, and why readings were rejected.

    Args:
        models: the models' names; a name need not be unique.
    """

    def __init__(self, models: Sequence[str] = ()) -> None:
        self.readings = Histogram(COMMIT_READINGS)
        self.latency = Histogram(LATENCY)
        self.inference = {name: Histogram(INFERENCE) for name in models}
        self.rejects = dict.fromkeys(KINDS, 0)

    def add(self, commit: Commit, now: float) -> None:
        """Count a commit that was written at ``now``, in seconds since 1970."""
        self.readings.add(commit.fates.readings)
        self.latency.add(max(0.0, now - int(commit.oldest.partition("-")[0]) / 1000))
        for name, seconds in commit.inference:
            if name not in self.inference:
                self.inference[name] = Histogram(INFERENCE)
            self.inference[name].add(seconds)
        for reject in commit.rejects:
            self.rejects[reject.kind] += reject.count
