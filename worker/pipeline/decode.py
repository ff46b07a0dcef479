"""Raw stream entries -> readings in columns; pure.

An entry is flat fields, or a JSON document in one field (see ``documents.py`` and
``docs/design.md``). Entries of one layout are decoded together, cell by cell of a name; so are all
documents. A cell that cannot be read is masked there and costs no more than its own entry. What an
entry says never hangs on its neighbours.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import itemgetter

import numpy as np

from tidecast.worker.pipeline.cells import (
    UnreadableError,
    checked_name,
    numbers_in,
    odd_names,
    time_of_id,
    time_of_text,
    times_in,
)
from tidecast.worker.pipeline.documents import (
    MOST_READINGS,
    Document,
    Names,
    contents,
    decode_documents,
    decode_sliced,
    slices_of,
)
from tidecast.worker.pipeline.epoch import TimeUnit
from tidecast.worker.pipeline.readings import Readings, joined, payload_of
from tidecast.worker.pipeline.wire import (
    ADDRESSEE,
    DEFAULT_FLEET,
    HISTORY,
    Entry,
    Pulse,
    Reject,
    unaddressed,
)

BODY_FIELDS = (b"body", b"data", b"msg", b"value")
NARROW = 32
"""Fields and values of an entry, of which not many are left aside."""
MOST_SPLITS = 3
"""Times that entries are told apart by one field each, before all of their fields are looked at."""
Layout = Mapping[bytes, int]
"""Where the value of each field lies in the entries that name the same fields in the same order."""


class Decoder:
    """Turns entries of one stream into readings of the wanted features.

    Args:
        stream: the stream's name, the series of readings that name none.
        features: the fields to read as numbers; all others are ignored.
        series_field: the field that names the series.
        time_field: the field that carries the time.
        time_unit: what numbers there count since 1970.
        most: how many readings an entry may hold.
        fleet: who decodes; entries that are for another fleet alone hold nothing.
    """

    def __init__(
        self,
        stream: str,
        features: Iterable[str],
        *,
        series_field: str = "series",
        time_field: str = "ts",
        time_unit: TimeUnit = "auto",
        most: int = MOST_READINGS,
        fleet: str = DEFAULT_FLEET,
    ) -> None:
        self.fleet = fleet
        self._stream = stream.encode()
        self._names = Names(tuple(features), series_field, time_field, time_unit)
        self._unit = time_unit
        self._wanted = {name.encode(): name for name in self._names.features}
        self._series_key = series_field.encode()
        self._time_key = time_field.encode()
        self._most = most

    def decode(
        self, entries: Sequence[Entry], pulse: Pulse = lambda: None
    ) -> tuple[Readings, list[Reject]]:
        """Return the readings of ``entries``, and the entries that are refused.

        Args:
            entries: in stream order.
            pulse: called whenever a part of a large entry is done.
        """
        groups = ((group, self._bodies(group)) for group in self._ours(entries))
        return self._decode(entries, groups, pulse)

    def decode_in_parts(
        self, entries: Sequence[Entry], size: int, pulse: Pulse = lambda: None
    ) -> Iterator[tuple[Sequence[Entry], Readings, list[Reject]]]:
        """Yield parts of ``entries``, each with what ``decode`` returns for it.

        Where their documents have more than ``size`` bytes, a part has about as many, as a few
        entries may hold very many readings; one larger entry is a part by itself. ``pulse`` is
        called after each of several parts, too.
        """
        groups = [(group, self._bodies(group)) for group in self._ours(entries)]
        held = sum(len(cell) for group, bodies in groups for at in bodies for cell in group.at(at))
        if held <= size:
            yield entries, *self._decode(entries, groups, pulse)
            return
        for part in _cut(entries, size):
            yield part, *self.decode(part, pulse)
            pulse()

    def _ours(self, entries: Sequence[Entry]) -> Iterator["_Group"]:
        """Yield the entries of each layout that are not for another fleet."""
        own = self.fleet.encode()
        for group in _groups(entries):
            if ADDRESSEE not in group.layout:
                yield group
                continue
            named = zip(group.places, group.column(ADDRESSEE), strict=True)
            yield _Group(entries, [place for place, name in named if name == own], group.layout)

    def _decode(
        self,
        entries: Sequence[Entry],
        groups: Iterable[tuple["_Group", Sequence[int]]],
        pulse: Pulse,
    ) -> tuple[Readings, list[Reject]]:
        """Return what ``decode`` does of entries by their layouts, each with ``_bodies``."""
        groups = list(groups)
        readings, rejects = self._read(entries, groups, pulse)
        silent = [place for group, _ in groups if HISTORY in group.layout for place in group.silent]
        if silent:
            readings = replace(readings, silent=np.isin(readings.places, silent))
        return readings, rejects

    def _read(
        self,
        entries: Sequence[Entry],
        groups: Iterable[tuple["_Group", Sequence[int]]],
        pulse: Pulse,
    ) -> tuple[Readings, list[Reject]]:
        """Return the readings of entries, and those that are refused."""
        parts: list[Readings] = []
        rejects: dict[int, Reject] = {}
        documents: dict[type, list[Document]] = {list: [], dict: []}
        for group, bodies in groups:
            if not group.layout:
                rejects.update((place, _unread(entries[place])) for place in group.places)
                group = _Group(entries, [], group.layout)
            flat = []
            for place, entry in zip(group.places, group.entries, strict=True) if bodies else ():
                body = _body(entry, bodies)
                if not body:
                    flat.append(place)
                    continue
                try:
                    found = self._document(place, entry, group.layout, body, pulse)
                except UnreadableError as error:
                    rejects[place] = _reject(entry, error)
                else:
                    if isinstance(found, Readings):
                        parts.append(found)
                    else:
                        documents[type(found.items)].append(found)
            rest = _Group(entries, flat, group.layout) if bodies else group
            parts.append(self._flat(rest, rejects))
        for alike in filter(None, documents.values()):
            readings, refused = decode_documents(alike, self._names)
            parts.append(readings)
            rejects.update((place, _reject(entries[place], e)) for place, e in refused.items())
        return joined(parts), [rejects[place] for place in sorted(rejects)]

    def _bodies(self, group: "_Group") -> list[int]:
        """Return where entries of one layout may hold documents.

        They have no feature as a field of its own then; but one may be called ``value``, too.
        """
        features = group.layout.keys() & self._wanted.keys()
        bodies = []
        for key in BODY_FIELDS:
            if key in group.layout and features <= {key}:
                together = b"".join(group.column(key))
                if b"{" in together or b"[" in together:
                    bodies.append(group.layout[key])
        return bodies

    def _document(
        self, place: int, entry: Entry, layout: Layout, body: bytes, pulse: Pulse
    ) -> Document | Readings:
        """Return the document in an entry, or the readings of one that is decoded by itself."""
        entry_id, fields = entry
        named, timed = layout.get(self._series_key), layout.get(self._time_key)
        series = self._stream if named is None else fields[named]
        stated = None if timed is None else time_of_text(fields[timed], self._unit)
        slices = slices_of(body, self._most)
        if slices is not None:
            like = Document(place, entry_id, series, stated, [], 0)
            return decode_sliced(body, slices, like, self._names, pulse)
        return Document(place, entry_id, series, stated, *contents(body, self._names, self._most))

    def _flat(self, group: "_Group", rejects: dict[int, Reject]) -> Readings:
        """Return the readings of flat entries of one layout; refuse those that hold none."""
        layout, entries = group.layout, group.entries
        ids = [entry[0] for entry in entries]
        named = self._series_key in layout
        series = group.column(self._series_key) if named else [self._stream] * len(entries)
        if self._time_key in layout:
            times, odd = times_in(group.column(self._time_key), self._unit)
        else:
            times, odd = times_in([entry_id.partition(b"-")[0] for entry_id in ids], "ms")
        odd += odd_names(series)
        columns, faults = {}, {}
        for key, name in self._wanted.items():
            if key in layout:
                columns[name], wrong = numbers_in(group.column(key))
                faults.update({(reading, name): fault for reading, fault in wrong.items()})
        some = group.places
        places = np.arange(len(some)) if isinstance(some, range) else np.array(some, np.int64)
        readings = Readings(places, ids, series, times, columns, group.said, faults)
        if not odd:
            return readings
        for number in set(odd):
            entry = entries[number]
            rejects[group.places[number]] = _reject(entry, self._fault(entry, layout))
        return readings.take(np.delete(np.arange(len(readings)), odd))

    def _fault(self, entry: Entry, layout: Layout) -> UnreadableError:
        """Return what is wrong with a flat entry's time or series."""
        entry_id, fields = entry
        try:
            if self._time_key in layout:
                time_of_text(fields[layout[self._time_key]], self._unit)
            else:
                time_of_id(entry_id)
            named = self._series_key in layout
            checked_name(fields[layout[self._series_key]] if named else self._stream)
        except UnreadableError as error:
            return error
        raise AssertionError("nothing is wrong with an entry that was refused")


def _reject(entry: Entry, error: UnreadableError) -> Reject:
    return Reject(str(error), entry[0], payload_of(unaddressed(entry[1])), error.kind)


def _unread(entry: Entry) -> Reject:
    """Refuse an entry that comes without its fields; see ``Streams.largest``."""
    reason = "an entry with more bytes than may be read at once (--max-memory)"
    return Reject(f"{reason}: send its readings in several", entry[0], b'"too large to repeat"')


class _Group:
    """Entries that name the same fields in the same order.

    Args:
        entries: a batch.
        places: which of these.
        layout: where the value of each field lies.
        cells: all that these entries say in a row, where that is at hand.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        places: Sequence[int],
        layout: Layout,
        cells: list[bytes] | None = None,
    ) -> None:
        self.places, self.layout = places, layout
        all_of_them = len(places) == len(entries)
        self.entries = entries if all_of_them else [entries[place] for place in places]
        self._cells = cells

    def column(self, name: bytes) -> list[bytes]:
        """Return what a field says in each entry."""
        return self.at(self.layout[name])

    def at(self, place: int) -> list[bytes]:
        """Return what stands at one place of each entry."""
        if self._cells:
            return self._cells[place :: len(self._cells) // len(self.entries)]
        return [entry[1][place] for entry in self.entries]

    @property
    def silent(self) -> list[int]:
        """The places of the entries whose readings are history."""
        said = zip(self.places, self.column(HISTORY), strict=True)
        return [place for place, cell in said if cell not in (b"", b"0")]

    def said(self, number: int) -> list[bytes]:
        """Return all that an entry says."""
        return unaddressed(self.entries[number][1])


def _groups(entries: Sequence[Entry]) -> Iterator[_Group]:
    """Yield the entries of each layout."""
    said = [entry[1] for entry in entries]
    yield from _alike(entries, range(len(said)), said, MOST_SPLITS)


def _alike(
    entries: Sequence[Entry], places: Sequence[int], said: list[list[bytes]], splits: int
) -> Iterator[_Group]:
    """Yield some of the entries by their layout.

    Few layouts are soon told apart by the first field in which they differ.

    Args:
        entries: all of them.
        places: which.
        said: their fields and values.
        splits: how often to tell them apart so.
    """
    names = said[0][::2] if said else []
    width = 2 * len(names)
    by: Callable[[list[bytes]], Hashable] | None = None
    cells = None
    if not set(map(len, said)) <= {width}:
        by = len
    elif width > NARROW:  # slices of one long list are the quickest, unless that is very long
        by = None if [fields[::2] for fields in said].count(names) == len(said) else _named
    else:
        cells = list(chain.from_iterable(said))
        counts = (cells[2 * i :: width].count(name) for i, name in enumerate(names))
        differs = next((i for i, count in enumerate(counts) if count < len(said)), None)
        by = None if differs is None else itemgetter(2 * differs)
    if by is None:
        yield _Group(entries, places, _layout(names), cells)
        return
    parts: dict[Hashable, list[int]] = {}
    for number, kind in enumerate(map(by if splits else _named, said)):
        parts.setdefault(kind, []).append(number)
    for part in parts.values():
        some = [places[number] for number in part]
        mine = [said[number] for number in part]
        if splits:
            yield from _alike(entries, some, mine, splits - 1)
        else:
            yield _Group(entries, some, _layout(mine[0][::2]))


def _named(fields: list[bytes]) -> tuple[bytes, ...]:
    return tuple(fields[::2])


def _layout(names: Iterable[bytes]) -> Layout:
    return {name: 2 * field + 1 for field, name in enumerate(names)}


def _body(entry: Entry, bodies: Sequence[int]) -> bytes:
    """Return the document in an entry, nothing where it has none."""
    for place in bodies:
        if entry[1][place][:1] in (b"{", b"["):
            return entry[1][place]
    return b""


def _cut(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    """Cut entries into parts of about ``size`` bytes."""
    first, filled = 0, 0
    for place, (_, fields) in enumerate(entries):
        weight = sum(map(len, fields))
        if place > first and filled + weight > size:
            yield entries[first:place]
            first, filled = place, 0
        filled += weight
    yield entries[first:]
