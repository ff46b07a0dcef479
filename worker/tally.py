"""What a worker has done, in numbers; pure."""

from dataclasses import asdict, dataclass

from worker.pipeline import Commit


@dataclass(slots=True)
class Tally:
    """Counts over some time; ``rebuilds`` says how often all was taken from the server again."""

    readings: int = 0
    forecasts: int = 0
    rejects: int = 0
    unserved: int = 0
    evicted: int = 0
    lost: int = 0
    rebuilds: int = 0
    batches: int = 0
    started: int = 0

    def add(self, commit: Commit) -> None:
        """Count a commit."""
        self.readings += commit.readings
        self.forecasts += len(commit.records)
        self.rejects += len(commit.rejects)
        self.unserved += commit.unserved
        self.evicted += commit.evicted
        self.batches += 1
        self.started += len(commit.started)

    def sentence(self, span: str) -> str:
        """Say it in words; ``span`` is the time it took."""
        line = f"{self.readings} readings -> {self.forecasts} forecasts {span}"
        if self.rejects:
            line += f", {self.rejects} rejected (see the :dead stream)"
        if self.unserved:
            line += f", {self.unserved} of series that no model serves"
        if self.evicted:
            line += f", {self.evicted} series forgotten to make room (--max-series)"
        if self.lost:
            line += f", {self.lost} ENTRIES REMOVED UNREAD"
        if self.rebuilds:
            line += f", rebuilt from the server {self.rebuilds}x"
        return line

    def facts(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)
