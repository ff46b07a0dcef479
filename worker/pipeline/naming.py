"""What senders call the parts of a reading, and where in JSON these lie; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tidecast.worker.pipeline.epoch import TimeUnit

PAYLOADS = ("payload", "message", "__data__", "body", "data", "msg", "value", "event")
"""Fields that may hold a document, whatever a worker is told."""
Path = tuple[str, ...]
"""The keys that lead to a value in nested JSON."""


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What a worker is told of the entries it reads.

    Args:
        series: the fields that name a reading's series, joined by ``/`` where they are several.
        time: the fields that carry its time, the first of which that is there counts.
        unit: what numbers there count since 1970.
        payload: fields that may hold a document, before ``PAYLOADS``.
        path: where in a document readings lie.
        values: pairs of a feature and what it is called on the wire.
        feature: the field that names the feature, where each entry has one value alone.
        value: the field with that value.

    In JSON, each of these names may be a path with dots between its keys; a key that has the dots
    in it comes first.
    """

    series: tuple[str, ...] = ("series",)
    time: tuple[str, ...] = ("ts",)
    unit: TimeUnit = "auto"
    payload: tuple[str, ...] = ()
    path: str = ""
    values: tuple[tuple[str, str], ...] = ()
    feature: str = ""
    value: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether series and time are one key each, and values are called as in the models."""
        single = len(self.series) == len(self.time) == 1
        dotted = "." in self.series[0] + self.time[0]
        return single and not (dotted or self.path or self.values or self.feature)


PLAIN = Naming()


@dataclass(frozen=True)
class Names:
    """What the parts of a reading are called on the wire: the features wanted, and the rest."""

    features: tuple[str, ...]
    naming: Naming = PLAIN
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of features that hold one of some words instead of a number."""

    @cached_property
    def codes(self) -> Mapping[str, Mapping[bytes, float]]:
        """The number of each word, by feature."""
        return {
            name: {word.encode(): float(place) for place, word in enumerate(some)}
            for name, some in self.words.items()
        }

    @property
    def unit(self) -> TimeUnit:
        """What numbers as times count."""
        return self.naming.unit

    @cached_property
    def payloads(self) -> tuple[str, ...]:
        """The fields that may hold a document, those told first."""
        return tuple(dict.fromkeys((*self.naming.payload, *PAYLOADS)))

    @cached_property
    def envelopes(self) -> frozenset[str]:
        """The keys of objects that may hold several readings."""
        return frozenset((*self.payloads, "metrics"))

    @cached_property
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        """What each feature may be called, in turn."""
        renamed = dict(self.naming.values)
        return {
            name: (renamed[name], name) if name in renamed else (name,) for name in self.features
        }

    @cached_property
    def known(self) -> tuple[str, ...]:
        """All names of values, series and time."""
        values = (source for sources in self.sources.values() for source in sources)
        return tuple(dict.fromkeys((*values, *self.naming.series, *self.naming.time)))

    @cached_property
    def wanted(self) -> Mapping[str, str]:
        """The feature of each name of one."""
        return {source: name for name, some in self.sources.items() for source in reversed(some)}


def find(item: Mapping[str, Any], name: str) -> Path | None:
    """Return the path to what a name stands for in an object, None where that is not there."""
    if name in item:
        return (name,)
    if "." not in name:
        return None
    path = tuple(name.split("."))
    inner: Any = item
    for key in path:
        if type(inner) is not dict or key not in inner:
            return None
        inner = inner[key]
    return path


def joined_names(columns: Sequence[list[bytes]]) -> list[bytes]:
    r"""Return one name of several: ``/`` between them, and a ``\`` before one that is in them."""
    if len(columns) == 1:
        return columns[0]
    return list(map(b"/".join, zip(*map(_escaped, columns), strict=True)))


def _escaped(column: Sequence[bytes]) -> Sequence[bytes]:
    together = b"".join(column)
    if b"/" not in together and b"\\" not in together:
        return column
    return [part.replace(b"\\", b"\\\\").replace(b"/", b"\\/") for part in column]
