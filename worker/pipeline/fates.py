"""What becomes of readings, counted: each of them has one fate; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields


@dataclass(slots=True)
class Fates:
    """How many readings there were, and what became of them.

    ``readings`` and ``closed`` are the sum of the others, of the forecasts and of the rejects of
    the kinds that are about readings (``wire.OF_READINGS``); ``broken`` stands beside that. What
    is forecast when a slot closes is of no reading, and ``closed`` counts it; ``broken`` slots
    closed without a feature that was nowhere near before:

    ``waiting`` moved a window that is too short to forecast from; ``history`` were not to be
    forecast; ``amended`` changed an older slot of their window; ``ignored`` said what was known, or
    came after one that counts; ``dropped`` came when no window held their slot any more;
    ``missing`` said that they have no value; ``joined`` went into a slot with others, or wait for
    them there; ``unserved`` are of series that no model serves.
    """

    readings: int = 0
    waiting: int = 0
    history: int = 0
    amended: int = 0
    ignored: int = 0
    dropped: int = 0
    missing: int = 0
    joined: int = 0
    unserved: int = 0
    closed: int = 0
    broken: int = 0

    def add(self, other: "Fates") -> None:
        """Count those of another, too."""
        for name in NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def told(self) -> Iterator[str]:
        """Yield what became of those without a forecast, in words, where there were any."""
        for name, words in WORDS.items():
            if count := getattr(self, name):
                yield f"{count} {words}"


def fates_of(counts: Mapping[str, int]) -> Fates:
    """Return counts as they were stored; those that are not known count for nothing."""
    return Fates(**{name: counts.get(name, 0) for name in NAMES})


NAMES = tuple(field.name for field in fields(Fates))
WORDS = {
    "history": "of history",
    "amended": "amended what windows hold",
    "ignored": "ignored, as they came twice",
    "dropped": "dropped, as they came too late (--late dead keeps them)",
    "missing": "without a value",
    "joined": "joined with others of their slot",
    "unserved": "of series that no model serves",
    "closed": "forecasts of slots that closed",
    "broken": "SLOTS WITHOUT A FEATURE, left out",
}
