"""What keeps most readings of a stream from being forecast, told once in plain words; pure.

Counts of what becomes of readings say that something is wrong. Here they become a sentence: what,
how many, an example, and the option or the command that helps. Where most of some readings could
not be used, what was wrong with them stands until most of some others can.
"""

from collections import Counter
from collections.abc import Iterator

from tidecast.worker.pipeline.outcome import HINDRANCES, Commit, Hindrance
from tidecast.worker.pipeline.wire import Reject

SOME, ENOUGH = 20, 200
"""Readings by which it is known how most fare, and by which that is told at once."""
AGAIN = 3600.0
"""Seconds after which what came back is told again."""
LONGEST = 1000
PASSING: tuple[Hindrance, ...] = ("waiting",)
"""What passes by itself, and is no cause for a warning."""
KIND_OF: dict[str, Hindrance] = {
    "malformed": "unreadable",
    "series": "unreadable",
    "time": "unreadable",
    "value": "values",
    "ahead": "ahead",
    "late": "late",
    "forecast": "failed",
}
"""What rejects of a kind count as."""
SENTENCES: dict[Hindrance, str] = {
    "unreadable": "hold no reading that can be read, such as {clue}; 'tidecast-worker check "
    "--input {stream}' says which options read them",
    "nameless": "name no series or no time, and count as of series '{stream}' or as of their "
    "arrival: {clue}",
    "unserved": "are of series that no model serves, such as {clue}; 'tidecast-trainer relabel "
    "FILE --series GLOB' lets a model serve others, --series-field NAME reads the name from "
    "another field",
    "values": "lack what the model reads, such as {clue}; 'tidecast-worker check --input {stream}' "
    "says which options read them",
    "ahead": "are too far in the future, such as {clue}",
    "late": "come too late, such as {clue}; if a time that came before was wrong, "
    "'tidecast-worker forget --series NAME --input {stream}' lets a series begin anew",
    "repeated": "say again what was known, the same time and value of their series: does the "
    "field that carries the time stand still, or is it another (--time-field NAME)?",
    "failed": "get no forecast from their model, such as {clue}; 'tidecast-worker dead-letters "
    "list --input {stream}' shows them",
    "waiting": "wait: {clue}; 'tidecast-worker feed FILE --history' brings older readings, and "
    "--cold-start naive forecasts without a model until then",
    "pace": "{clue}",
}
"""What is said of readings behind their number; of the pace, the pipeline says it all."""

CLUES: dict[Hindrance, str] = {
    "values": "some that say to have none (null, an empty text)",
    "waiting": "their slots are open until the stream's time passes their ends (docs/time.md)",
}
"""What is said where there is no example."""


class Hindrances:
    """What hinders the readings of one stream.

    A kind stands where more than half of what came could not be used and it is among the most usual
    reasons; its text says how many readings, an example, and what to do.

    Args:
        stream: its name.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._told: dict[Hindrance, float] = {}
        self._ever = False
        self.stands: dict[Hindrance, str] = {}
        """What hinders them now, and the sentence on it."""
        self._begin()

    def _begin(self) -> None:
        self._counts: Counter[Hindrance] = Counter()
        self._clues: dict[Hindrance, str] = {}
        self._total = self._forecasts = 0

    @property
    def is_plain(self) -> bool:
        """Whether so much came that it can be told at once."""
        return self._total >= ENOUGH

    def take(self, commit: Commit) -> None:
        """Count what became of a commit's readings."""
        fates = commit.fates
        for reject in commit.rejects:
            kind = KIND_OF[reject.kind]
            self._counts[kind] += reject.count
            if kind not in self._clues:
                self._clues[kind] = _example(reject)
            self._total += reject.count if kind == "unreadable" else 0
        lacking = fates.joined if fates.broken > len(commit.records) else 0
        self._counts.update(
            unserved=fates.unserved,
            values=fates.missing + lacking,
            late=fates.dropped,
            repeated=fates.ignored,
            nameless=fates.readings if "nameless" in commit.clues else 0,
            waiting=fates.waiting + fates.joined - lacking,
        )
        self._total += fates.readings
        self._forecasts += len(commit.records)
        self._ever = self._ever or bool(commit.records)
        self._clues |= commit.clues

    def judge(self, now: float) -> list[tuple[Hindrance, str]]:
        """Say what hinders readings from now on; return what of that is news.

        Few readings wait for others to join them, unless none of the stream was ever forecast.

        Args:
            now: monotonic seconds.
        """
        if self._total >= SOME:
            self.stands = dict(self._standing())
            self._begin()
        elif self._total and not self._ever:
            self.stands = dict(self._standing())
        news: list[tuple[Hindrance, str]] = [
            (kind, said)
            for kind, said in self.stands.items()
            if now - self._told.get(kind, float("-inf")) >= AGAIN
        ]
        self._told |= dict.fromkeys(self.stands, now)
        return news

    def _standing(self) -> Iterator[tuple[Hindrance, str]]:
        counts = +self._counts
        named = counts.pop("nameless", 0)
        if self._forecasts:
            counts.pop("waiting", None)
        much = max(counts.values(), default=0) if 2 * counts.total() > self._total else 0
        for kind in HINDRANCES:
            if kind == "pace":
                if kind in self._clues:
                    yield kind, self._clues[kind]
            elif kind == "nameless":
                if 2 * named > self._total:
                    yield kind, self._said(kind, named)
            elif much and 2 * counts[kind] >= much:
                yield kind, self._said(kind, counts[kind])

    def _said(self, kind: Hindrance, count: int) -> str:
        clue = self._clues.get(kind, CLUES.get(kind, "those on the stream of dead letters"))
        what = "entries" if kind == "unreadable" else "readings"
        said = SENTENCES[kind].format(clue=clue[:LONGEST], stream=self._stream)
        return f"{count} of {self._total} {what} {said}"


def _example(reject: Reject) -> str:
    return f"entry {reject.entry.decode()}: {reject.reason}"
