"""What some entries of a stream hold, and what a worker would make of them; pure.

All of it comes from the worker's own decoder and pipeline, with windows that begin at the first of
these entries, so what is found here is what would be.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.epoch import iso_of, unit_of
from tidecast.worker.pipeline.naming import Names
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.registry import Registry
from tidecast.worker.pipeline.step import Pipeline, Rules
from tidecast.worker.pipeline.suggest import SERIES_LIKE, TIME_LIKE, Suggestion, suggest
from tidecast.worker.pipeline.wire import FORGET, Entry, Reject

Ints = npt.NDArray[np.int64]
MOST_LOOKED_AT = 200
"""Entries of which shape and fields are told one by one."""
MOST_NAMED = 5
MOST_SERIES = 1_000_000
MOST_FEATURES = 40
GAP = 1.5
"""Steps between two readings from which on there is a gap."""


@dataclass(frozen=True, slots=True)
class Feature:
    """What readings say of a feature; ``low`` and ``high`` are None where there is no number."""

    numbers: int
    missing: int
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Times:
    """The times of readings, each against the one before of its series.

    ``named`` tells of how many of the entries looked at the time is their own, ``unit`` how it is
    written. ``step`` is the usual distance in seconds, ``jitter`` by how much nine of ten are off
    it, at most. ``gaps`` are distances of 1.5 steps and more, of ``longest_gap`` seconds at most;
    ``doubles`` have a time that was there, ``late`` ones an older one.
    """

    named: int
    unit: str
    first: str | None = None
    last: str | None = None
    step: float | None = None
    jitter: float | None = None
    gaps: int = 0
    longest_gap: float | None = None
    doubles: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """The series that one model serves; ``model`` None: those that none does."""

    model: str | None
    glob: str | None
    step: float | None
    series: int
    some: list[str]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Entries and readings that would be rejected for one kind of reason, and an example."""

    kind: str
    count: int
    entry: str
    reason: str


@dataclass(slots=True)
class Findings:
    """What some entries of a stream hold.

    ``looked_at`` of the ``entries`` were looked at one by one; ``shapes`` counts these, and
    ``named`` of them name a series. ``options`` would read what is not read, as one types them.
    """

    stream: str
    entries: int
    first: str
    last: str
    looked_at: int
    shapes: dict[str, int]
    fields: list[str]
    named: int
    readings: int
    series: int
    some: list[str]
    features: dict[str, Feature]
    times: Times
    served: list[Served] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    options: str = ""


def find(
    stream: str,
    entries: Sequence[Entry],
    names: Names,
    registry: Registry | None,
    *,
    fleet: str,
    rules: Rules,
) -> tuple[Findings, list[Commit]]:
    """Return what entries hold, and what a worker would write of them.

    Args:
        stream: its name.
        entries: at least one, in stream order.
        names: what to look for; without models its features are those that are found.
        registry: the models, if there are any.
        fleet: who would read.
        rules: what becomes of readings that do not come step by step.
    """
    entries = [entry for entry in entries if FORGET not in entry[1][::2]] or entries
    some = _spread(entries, MOST_LOOKED_AT)
    suggestions = [suggest(fields, names) for _, fields in some]
    if registry is None:
        names = Names(_features(suggestions, names), names.naming)
    decoder = Decoder(stream, names.features, names.naming, words=names.words, fleet=fleet)
    readings, rejects = decoder.decode(entries)
    commits = [] if registry is None else _worked(registry, decoder, entries, rules)
    refused = [reject for commit in commits for reject in commit.rejects] if registry else rejects
    usual = Counter(one.options for one in suggestions if one.options).most_common(1)
    found = Findings(
        stream=stream,
        entries=len(entries),
        first=entries[0][0].decode(),
        last=entries[-1][0].decode(),
        looked_at=len(some),
        shapes=dict(Counter(decoder.shape_of(entry) for entry in some).most_common()),
        fields=list(dict.fromkeys(name for one in suggestions for name in one.fields))[
            :MOST_FEATURES
        ],
        named=sum(one.names_series for one in suggestions),
        readings=len(readings),
        series=len(set(readings.series)),
        some=_first_of(readings.series),
        features=_ranges(readings),
        times=_times(readings, some, suggestions, names),
        served=_served(readings.series, registry) if registry else [],
        rejected=_rejected(refused),
        options=usual[0][0] if usual else "",
    )
    return found, commits


def _worked(
    registry: Registry, decoder: Decoder, entries: Sequence[Entry], rules: Rules
) -> list[Commit]:
    pipeline = Pipeline(registry, decoder, MOST_SERIES, **rules)
    return list(pipeline.step(entries))


def _spread(entries: Sequence[Entry], most: int) -> Sequence[Entry]:
    """Return so many of the entries, at most, from all over them."""
    every = -(-len(entries) // most)
    return entries[::every]


def _features(suggestions: Sequence[Suggestion], names: Names) -> tuple[str, ...]:
    """Return the fields that may be features where no model says which.

    In shapes that are known, the last key of a path is the feature's name.
    """
    naming = names.naming
    others = {*naming.series, *naming.time}
    found = dict.fromkeys(
        name if named_so else name.rpartition(".")[2]
        for one in suggestions
        for named_so in (False, True)
        for name in one.fields
        if name not in {*others, one.series, one.time, one.payload}
    )
    usual = {*SERIES_LIKE, *TIME_LIKE}
    return tuple(name for name in found if name.lower() not in usual)[:MOST_FEATURES]


def _first_of(series: Sequence[bytes]) -> list[str]:
    return [name.decode() for name in list(dict.fromkeys(series))[:MOST_NAMED]]


def _ranges(readings: Readings) -> dict[str, Feature]:
    """Return what readings say of each feature that some of them name."""
    found = {}
    for name, column in readings.columns.items():
        sound = column[np.isfinite(column)]
        faults = sum(1 for _, feature in readings.faults if feature == name)
        if len(sound) or faults:
            low, high = (float(sound.min()), float(sound.max())) if len(sound) else (None, None)
            found[name] = Feature(len(sound), len(column) - len(sound), low, high)
    # Of words, such as a sensor's name, no number can be made; and a path that is read by its last
    # key is a feature once.
    return {
        name: one
        for name, one in found.items()
        if one.numbers and ("." not in name or name.rpartition(".")[2] not in found)
    } or found


def _times(
    readings: Readings, some: Sequence[Entry], suggestions: Sequence[Suggestion], names: Names
) -> Times:
    named = sum(one.names_time for one in suggestions)
    unit = _unit(some, names) if named else "the entries' ids, as no time is named"
    if not len(readings):
        return Times(named, unit)
    times = readings.times
    series = np.unique(np.array(readings.series, object), return_inverse=True)[1]
    arrived = np.argsort(series, kind="stable")
    same = np.diff(series[arrived]) == 0
    late = int((np.diff(times[arrived])[same] < 0).sum())
    sorted_ = np.lexsort((times, series))
    apart = np.diff(times[sorted_])[np.diff(series[sorted_]) == 0]
    doubles, apart = int((apart == 0).sum()), apart[apart > 0]
    first, last = iso_of(int(times.min())), iso_of(int(times.max()))
    if not len(apart):
        return Times(named, unit, first, last, doubles=doubles, late=late)
    step = float(np.median(apart))
    gaps = apart[apart >= GAP * step]
    usual = np.abs(apart[apart < GAP * step] - step)
    return Times(
        named,
        unit,
        first,
        last,
        step / 1000,
        float(np.quantile(usual, 0.9)) / 1000 if len(usual) else 0.0,
        len(gaps),
        float(gaps.max()) / 1000 if len(gaps) else None,
        doubles,
        late,
    )


def _unit(some: Sequence[Entry], names: Names) -> str:
    """Return how times are written where they are fields of their own."""
    if names.unit != "auto":
        return f"{names.unit}, as --time-unit says"
    keys = [name.encode() for name in names.naming.time]
    for _, fields in some:
        said = dict(zip(fields[::2], fields[1::2], strict=False))
        cell = next((said[key] for key in keys if key in said), None)
        if cell is not None:
            try:
                return f"{unit_of(float(cell))} since 1970, told by their size"
            except ValueError:
                return "texts"
    return "in the document"


def _served(series: Sequence[bytes], registry: Registry) -> list[Served]:
    """Return the series of each model, and those of none."""
    names: dict[int | None, list[bytes]] = {}
    for name in dict.fromkeys(series):
        names.setdefault(registry.match(name.decode()), []).append(name)
    found = [
        Served(
            model.spec.name,
            model.spec.series,
            model.spec.step_seconds,
            len(names.get(number, ())),
            _first_of(names.get(number, ())),
        )
        for number, model in enumerate(registry.models)
    ]
    if None in names:
        found.append(Served(None, None, None, len(names[None]), _first_of(names[None])))
    return found


def _rejected(rejects: Sequence[Reject]) -> list[Rejected]:
    """Return how many would be rejected for each kind of reason, the most first."""
    counts: Counter[str] = Counter()
    firsts: dict[str, Reject] = {}
    for reject in rejects:
        counts[reject.kind] += reject.count
        firsts.setdefault(reject.kind, reject)
    return [
        Rejected(kind, count, firsts[kind].entry.decode(), firsts[kind].reason)
        for kind, count in counts.most_common()
    ]
