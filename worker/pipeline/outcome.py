"""What one micro-batch writes, and what it was made of; pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.fates import Fates
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.wire import Forgotten, Kind, Reject

Ints = npt.NDArray[np.int64]
MOST_LETTERS = 1000
"""Readings of an entry that are rejected by a letter each; the rest share one."""

Hindrance = Literal[
    "unreadable",
    "nameless",
    "unserved",
    "values",
    "ahead",
    "late",
    "repeated",
    "failed",
    "waiting",
    "pace",
]
"""What may keep most readings of a stream from being forecast, or from being forecast right, in a
word: no reading in the entries, fields that would name series and time and are not read, no model
for the series, features that are missing, a time too far ahead, a slot that no window holds any
more, what was known already, a model without an answer, windows that are too short, and readings
at another pace than the model's."""
HINDRANCES: tuple[Hindrance, ...] = get_args(Hindrance)


@dataclass(slots=True)
class _Told:
    """What has been told of an entry's readings that were rejected for one kind of reason.

    ``letters`` of them have one each, the ``last`` of which tells of the others, too: these are
    ``rest``, and share the one at ``place``.
    """

    letters: int = 0
    last: Reject | None = None
    rest: int = 0
    place: int = 0

    def share(self, count: int, rejects: list[Reject]) -> None:
        """Count so many more readings with the letter that they share."""
        if self.last is None:
            raise AssertionError("the first readings of an entry have a letter each")
        if not self.rest:
            self.place = len(rejects)
            rejects.append(self.last)
        self.rest += count
        said = f"{self.rest} more readings of this entry, as the one before: {self.last.reason}"
        entry, kind = self.last.entry, self.last.kind
        rejects[self.place] = Reject(said, entry, b'"left out"', kind, self.rest)


@dataclass(slots=True)
class Commit:
    """What one micro-batch writes, and what it was made of.

    ``oldest`` and ``newest`` are the ids of the first and last of its ``entries``, ``series[i]``
    and ``records[i]`` the i-th forecast in stream order; ``started`` names series that forecast for
    the first time; ``fates`` counts its readings and what became of them, ``filled`` the forecasts
    from windows of which some slots had no reading; ``evicted`` counts series that were forgotten
    to make room, ``forgotten`` those that were quiet for too long, ``orders`` tell what became of
    entries that say to forget one; ``inference`` holds the seconds that models took, by their name;
    ``remarks`` and ``notes`` are for people, of what should be mended and of what was found, and so
    are ``clues``, an example of what keeps readings from being forecast; ``told`` what rejects say
    of each entry.
    """

    oldest: str
    newest: str
    entries: int
    fates: Fates
    rejects: list[Reject]
    series: list[bytes] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    filled: int = 0
    forgotten: int = 0
    evicted: int = 0
    orders: list[Forgotten] = field(default_factory=list)
    inference: list[tuple[str, float]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    clues: dict[Hindrance, str] = field(default_factory=dict, compare=False)
    told: dict[tuple[bytes, Kind], _Told] = field(default_factory=dict, repr=False, compare=False)


def refuse(
    commit: Commit,
    readings: Readings,
    refused: Ints,
    reason: Callable[[int], str],
    kind: Kind,
) -> None:
    """Reject readings, of each entry the first ``MOST_LETTERS`` by themselves and the rest as one.

    Args:
        commit: takes the rejects.
        readings: all of the commit.
        refused: which, ascending; one may make several.
        reason: says why, by its place among these, of one that is rejected by itself.
        kind: the same in a word.
    """
    _, firsts, counts = np.unique(readings.places[refused], return_index=True, return_counts=True)
    some = refused.tolist()
    for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
        key = readings.ids[some[first]], kind
        told = commit.told.get(key) or commit.told.setdefault(key, _Told())
        mine = range(first, first + min(count, MOST_LETTERS - told.letters))
        told.letters += len(mine)
        commit.rejects += [
            Reject(reason(one), readings.ids[some[one]], readings.payload(some[one]), kind)
            for one in mine
        ]
        if mine:
            told.last = commit.rejects[-1]
        if count > len(mine):
            told.share(count - len(mine), commit.rejects)


def some_of(names: Sequence[str], most: int = 3) -> str:
    """Return the first of names in words, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
