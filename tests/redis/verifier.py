"""Recomputes every forecast from the input stream and compares the record with it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.step import Pipeline
from tidecast.worker.store.position import START
from tidecast.worker.store.source import Streams

Record = tuple[bytes, ...]


@dataclass(frozen=True)
class Outcome:
    """How a record differs from what it should be; ``disordered`` counts places."""

    readings: int = 0
    forecasts: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.readings + other.readings,
            self.forecasts + other.forecasts,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.disordered + other.disordered,
        )

    @property
    def flawless(self) -> bool:
        """Whether the record is the expected one, to the byte and in order."""
        return not (self.lost or self.doubled or self.disordered)


def verify(client: redis.Redis, stream: str, models: Path) -> Outcome:
    """Compare forecasts and dead letters of a stream with those its readings should have."""
    registry = load_registry(models)
    pipeline = Pipeline(registry, Decoder(stream, registry.features), 1_000_000)
    streams = Streams(client=client, count=1000, block_ms=None)
    forecasts: list[Record] = []
    rejects: list[Record] = []
    readings = 0
    for entries in streams.replay(stream, START, streams.facts(stream).last):
        for commit in pipeline.step(entries):
            readings += commit.entries
            forecasts += zip(commit.series, commit.records, strict=True)
            rejects += [(r.reason.encode(), r.entry, r.payload) for r in commit.rejects]
    written = _records(client, f"{stream}:forecasts", b"series", b"forecast")
    dead = _records(client, f"{stream}:dead", b"reason", b"entry", b"payload")
    counts = Outcome(readings, len(written))
    return counts + _compared(forecasts, written) + _compared(rejects, dead)


def _records(client: redis.Redis, stream: str, *fields: bytes) -> list[Record]:
    records: list[Record] = []
    first = "-"
    while True:
        some: Any = client.xrange(stream, min=first, count=5000)
        records += [tuple(entry[name] for name in fields) for _, entry in some]
        if len(some) < 5000:
            return records
        first = f"({some[-1][0].decode()}"


def _compared(expected: list[Record], written: list[Record]) -> Outcome:
    wanted, found = Counter(expected), Counter(written)
    lost, doubled = (wanted - found).total(), (found - wanted).total()
    same = not lost and not doubled
    places = sum(a != b for a, b in zip(expected, written, strict=True)) if same else 0
    return Outcome(lost=lost, doubled=doubled, disordered=places)
