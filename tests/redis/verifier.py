"""Recomputes every forecast from the input stream and compares the record with it."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import redis

from tests.slow_slots import SlowSlots
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.grid import grid_of
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.pipeline.step import Pipeline
from tidecast.worker.pipeline.wire import FORGET, HISTORY
from tidecast.worker.store.position import START
from tidecast.worker.store.source import Streams

Record = tuple[bytes, ...]
Essence = tuple[str, int, float, float]
"""Of a forecast: series, time, value and the share of its window that no reading filled."""


@dataclass(frozen=True)
class Outcome:
    """How a record differs from what it should be; ``disordered`` counts places.

    ``unlike`` are forecasts that differ from what the slow windows have, which were written from
    the sentences of docs/time.md.
    """

    readings: int = 0
    forecasts: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    unlike: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.readings + other.readings,
            self.forecasts + other.forecasts,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.disordered + other.disordered,
            self.unlike + other.unlike,
        )

    @property
    def flawless(self) -> bool:
        """Whether the record is the expected one, to the byte and in order."""
        return not (self.lost or self.doubled or self.disordered or self.unlike)


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
    slow = _slowly(client, stream, registry)
    unlike = sum(a != b for a, b in zip_longest(slow, map(_essence, forecasts)))
    counts = Outcome(readings, len(written), unlike=unlike)
    return counts + _compared(forecasts, written) + _compared(rejects, dead)


def _slowly(client: redis.Redis, stream: str, registry: Registry) -> list[Essence]:
    """Return the essence of the forecasts that flat readings should have."""
    specs = [model.spec for model in registry.models]
    slots = [SlowSlots(s.n_steps, grid_of(s), len(s.features)) for s in specs]
    found: list[Essence] = []
    for entry_id, said in _entries(client, stream):
        if FORGET in said:
            for slow in slots:
                slow.forget(said[FORGET].decode())
            continue
        series, at = said[b"series"].decode(), int(said.get(b"ts", entry_id.partition(b"-")[0]))
        serving = registry.match(series)
        for number, (spec, slow) in enumerate(zip(specs, slots, strict=True)):
            cells = [said.get(name.encode(), b"") for name in spec.features]
            values = tuple(float(cell) if cell.isdigit() else None for cell in cells)
            if number == serving and any(value is not None for value in values):
                made = slow.read(series, at, values, loud=HISTORY not in said)
            else:
                made = slow.tick(at)
            for name, time, outcome in made:
                cells_of = [value for row in outcome.window or () for value in row]
                mean = sum(cells_of) / len(cells_of)
                found.append((name, time, _rounded(mean), round(outcome.filled / spec.n_steps, 4)))
    return found


def _rounded(value: float) -> float:
    """Return a mean as it is compared; eighths, which are of 64 bits or of 32, are no ties then."""
    return round(value + 0.001, 2)


def _essence(record: Record) -> Essence:
    said = json.loads(record[1])
    (value,) = {_rounded(lead) for leads in said["forecast"].values() for lead in leads}
    return said["series"], said["at"], value, said.get("filled", 0.0)


def _records(client: redis.Redis, stream: str, *fields: bytes) -> list[Record]:
    return [tuple(said[name] for name in fields) for _, said in _entries(client, stream)]


def _entries(client: redis.Redis, stream: str) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    first = "-"
    while True:
        some: Any = client.xrange(stream, min=first, count=5000)
        yield from some
        if len(some) < 5000:
            return
        first = f"({some[-1][0].decode()}"


def _compared(expected: list[Record], written: list[Record]) -> Outcome:
    wanted, found = Counter(expected), Counter(written)
    lost, doubled = (wanted - found).total(), (found - wanted).total()
    same = not lost and not doubled
    places = sum(a != b for a, b in zip(expected, written, strict=True)) if same else 0
    return Outcome(lost=lost, doubled=doubled, disordered=places)
