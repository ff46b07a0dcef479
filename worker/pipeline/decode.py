"""Raw stream entries -> readings in columns; pure.

An entry is flat fields (``flat.py``), or a document in one field (``bodies.py``, ``documents.py``);
``docs/entries.md`` shows all of them. Entries of one layout are decoded together, cell by cell of a
name; so are all documents. A cell that cannot be read is masked there and costs no more than its
own entry. What an entry says never hangs on its neighbours.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from tidecast.worker.pipeline.bodies import (
    LIGHT,
    MOST_READINGS,
    Body,
    NotJsonError,
    body_of,
    contents,
    may_hold_bodies,
    read,
)
from tidecast.worker.pipeline.cells import UnreadableError, shown
from tidecast.worker.pipeline.documents import (
    Decoded,
    Document,
    decode_documents,
    decode_sliced,
)
from tidecast.worker.pipeline.flat import Flat, Named
from tidecast.worker.pipeline.layouts import Group, Layout, groups
from tidecast.worker.pipeline.naming import PLAIN, Names, Naming
from tidecast.worker.pipeline.orders import orders_in
from tidecast.worker.pipeline.readings import Readings, joined, payload_of, with_words
from tidecast.worker.pipeline.tables import MOST_IGNORED
from tidecast.worker.pipeline.wire import (
    ADDRESSEE,
    DEFAULT_FLEET,
    FORGET,
    HISTORY,
    Entry,
    Pulse,
    Reject,
    unaddressed,
)

NO_CHANGE = frozenset((b"default", b"null", b""))
"""What a field called by a key in JSON holds where a row was deleted (Debezium's tombstones)."""
MOST_MET, LONGEST_TOLD = 32, 200
"""Shapes that are told of, and characters that say where their parts lie."""


class Decoder:
    """Turns entries of one stream into readings of the wanted features.

    Args:
        stream: the stream's name, the series of readings that name none.
        features: what to read as numbers; all other fields are ignored.
        words: of the features that hold one of some words, and become a feature for each.
        naming: what the parts of a reading are called on the wire.
        most: how many readings an entry may hold.
        fleet: who decodes; entries that are for another fleet alone hold nothing.
    """

    def __init__(
        self,
        stream: str,
        features: Iterable[str],
        naming: Naming = PLAIN,
        *,
        words: Mapping[str, tuple[str, ...]] | None = None,
        most: int = MOST_READINGS,
        fleet: str = DEFAULT_FLEET,
    ) -> None:
        self.fleet = fleet
        self.names = Names(tuple(features), naming, words or {})
        """What to look for."""
        self._stream = stream
        self._flat = Flat(stream, self.names)
        self._wanted = frozenset(name.encode() for name in self.names.wanted)
        self._payloads = [name.encode() for name in self.names.payloads]
        self._most = most
        self._met = dict[str, str]()
        self._told = 0
        self._remarks = list[str]()
        self._told_remarks = 0

    def decode(
        self, entries: Sequence[Entry], pulse: Pulse = lambda: None
    ) -> tuple[Readings, list[Reject]]:
        """Return the readings of ``entries``, and the entries that are refused.

        Args:
            entries: in stream order.
            pulse: called whenever a part of a large entry is done.
        """
        layouts = ((group, self._bodies(group)) for group in self._ours(entries))
        return self._decode(entries, layouts, pulse)

    def decode_in_parts(
        self, entries: Sequence[Entry], size: int, pulse: Pulse = lambda: None
    ) -> Iterator[tuple[Sequence[Entry], Readings, list[Reject]]]:
        """Yield parts of ``entries``, each with what ``decode`` returns for it.

        Where their documents have more than ``size`` bytes, a part has about as many, as a few
        entries may hold very many readings; one larger entry is a part by itself. ``pulse`` is
        called after each of several parts, too.
        """
        layouts = [(group, self._bodies(group)) for group in self._ours(entries)]
        held = sum(len(cell) for group, bodies in layouts for at in bodies for cell in group.at(at))
        if held <= size:
            yield entries, *self._decode(entries, layouts, pulse)
            return
        for part in _cut(entries, size):
            yield part, *self.decode(part, pulse)
            pulse()

    def news(self) -> list[str]:
        """Return in words which shapes of entries were met since the last call, each once."""
        lines = list(self._met.values())[self._told :]
        self._told = len(self._met)
        return lines

    def remarks(self) -> list[str]:
        """Return in words what of the entries is left out, each once."""
        lines = self._remarks[self._told_remarks :]
        self._told_remarks = len(self._remarks)
        return lines

    def shape_of(self, entry: Entry) -> str:
        """Return in words what shape an entry has, which is decoded for that."""
        alone = Decoder(
            self._stream,
            self.names.features,
            self.names.naming,
            words=self.names.words,
            most=self._most,
            fleet=self.fleet,
        )
        (group,) = groups([entry])
        bodies = alone._bodies(group) if group.layout else []
        alone.decode([entry])
        plain = "JSON" if bodies and _body(entry, bodies) is not None else "flat fields"
        return ", ".join(alone._met) or plain

    def _ours(self, entries: Sequence[Entry]) -> Iterator[Group]:
        """Yield the entries of each layout that are not for another fleet."""
        own = self.fleet.encode()
        for group in groups(entries):
            if ADDRESSEE not in group.layout:
                yield group
                continue
            named = zip(group.places, group.column(ADDRESSEE), strict=True)
            yield Group(entries, [place for place, name in named if name == own], group.layout)

    def _decode(
        self,
        entries: Sequence[Entry],
        layouts: Iterable[tuple[Group, Sequence[int]]],
        pulse: Pulse,
    ) -> tuple[Readings, list[Reject]]:
        """Return what ``decode`` does of entries by their layouts, each with ``_bodies``."""
        layouts = list(layouts)
        orders = [group for group, _ in layouts if FORGET in group.layout]
        if orders:
            nothing: list[tuple[Group, Sequence[int]]] = [(Group(entries, [], {}), [])]
            layouts = [pair for pair in layouts if FORGET not in pair[0].layout] or nothing
        readings, rejects = self._read(entries, layouts, pulse)
        if orders:
            readings = _with_orders(orders, entries, readings, rejects)
        silent = [
            place for group, _ in layouts if HISTORY in group.layout for place in group.silent
        ]
        if silent:
            readings = replace(readings, silent=np.isin(readings.places, silent))
        return with_words(readings, self.names.words), rejects

    def _read(
        self,
        entries: Sequence[Entry],
        layouts: Iterable[tuple[Group, Sequence[int]]],
        pulse: Pulse,
    ) -> tuple[Readings, list[Reject]]:
        """Return the readings of entries, and those that are refused."""
        parts: list[Readings] = []
        rejects: dict[int, Reject] = {}
        documents: dict[type, list[Document]] = {list: [], dict: []}
        for group, bodies in layouts:
            if not group.layout:
                rejects.update((place, _unread(entries[place])) for place in group.places)
                group = Group(entries, [], group.layout)
            flat, is_around = list[int](), self._flat.is_around(group.layout)
            for place, entry in zip(group.places, group.entries, strict=True) if bodies else ():
                body = _body(entry, bodies)
                if body is None:
                    flat.append(place)
                    continue
                try:
                    outer = self._flat.around(entry[1], group.layout) if is_around else None
                    found = self._document(place, entry, outer, body, pulse)
                except UnreadableError as error:
                    rejects[place] = _reject(entry, error)
                else:
                    if isinstance(found, Readings):
                        parts.append(found)
                    else:
                        documents[type(found.items)].append(found)
            rest = group if not bodies else Group(entries, flat, group.layout)
            if rest.places or not parts:
                parts.append(self._read_flat(entries, rest, rejects))
        for alike in filter(None, documents.values()):
            decoded = decode_documents(alike, self.names)
            parts.append(self._noted(decoded))
            refused = decoded.refused.items()
            rejects.update((place, _reject(entries[place], error)) for place, error in refused)
        return joined(parts), [rejects[place] for place in sorted(rejects)]

    def _read_flat(
        self, entries: Sequence[Entry], group: Group, rejects: dict[int, Reject]
    ) -> Readings:
        """Return the readings of flat entries of one layout; refuse those that hold none."""
        if _key_of_change(group.layout):
            kept = [p for p, c in zip(group.places, group.at(1), strict=True) if c not in NO_CHANGE]
            group = Group(entries, kept, group.layout)
        readings, refused, ignored = self._flat.read(group)
        for number, error in refused.items():
            rejects[group.places[number]] = _reject(group.entries[number], error)
        if ignored:
            self._remark(name.decode("utf-8", "replace") for name in ignored)
        return readings

    def _bodies(self, group: Group) -> list[int]:
        """Return where entries of one layout may hold documents.

        They have no feature as a field of its own then; but one may be called ``value``, too.
        """
        layout = group.layout
        features = layout.keys() & self._wanted
        bodies = [
            layout[key]
            for key in self._payloads
            if key in layout and features <= {key} and may_hold_bodies(group.column(key))
        ]
        return [1] if not bodies and _key_of_change(layout) else bodies

    def _document(
        self,
        place: int,
        entry: Entry,
        around: tuple[Named, int | None] | None,
        body: bytes | Body,
        pulse: Pulse,
    ) -> Document | Readings:
        """Return the document in an entry, or the readings of one that is decoded by itself."""
        series, stated = around or (self._flat.stream, None)
        if isinstance(body, bytes):
            if len(body) <= LIGHT:
                try:
                    items = contents(body, self.names, self._most)
                    return Document(place, entry[0], series, stated, *items)
                except NotJsonError:
                    pass  # it may be JSON lines
            body = Body(body)
        found = read(body, self.names, self._most)
        if found.body.told:
            self._note(found.body.told, "")
        like = Document(place, entry[0], series, stated, found.items, found.length)
        if found.slices is None:
            return like
        return self._noted(
            decode_sliced(found.body, found.slices, like, self.names, self._most, pulse)
        )

    def _noted(self, decoded: Decoded) -> Readings:
        """Note what was recognised, and return the readings."""
        for shape, told in decoded.shapes.items():
            self._note(shape, told)
        self._remark(decoded.ignored)
        return decoded.readings

    def _note(self, shape: str, told: str) -> None:
        if shape not in self._met and len(self._met) < MOST_MET:
            more = f": {told[:LONGEST_TOLD]}" if told else ""
            self._met[shape] = f"{self._stream}: recognised {shape}{more} (docs/entries.md)"

    def _remark(self, ignored: Iterable[str]) -> None:
        """Say once that there are features in the long form that no model has."""
        some = list(islice(ignored, MOST_IGNORED))
        if some and not self._remarks:
            names = ", ".join(map(shown, some))
            self._remarks.append(
                f"{self._stream}: readings of {names} are left out, as no model has such a "
                f"feature; is one called otherwise? --value FEATURE={some[0][:LONGEST_TOLD]}"
            )


def _key_of_change(layout: Layout) -> bool:
    """Tell whether entries have one field, called by a key in JSON (Debezium's compact form)."""
    own = [name for name in layout if name not in (ADDRESSEE, HISTORY)]
    return len(own) == 1 and own[0][:1] == b"{" and layout[own[0]] == 1


def _body(entry: Entry, bodies: Sequence[int]) -> bytes | Body | None:
    """Return the document in an entry, JSON before others; None where it has none."""
    fields = entry[1]
    for place in bodies:
        if fields[place][:1] in (b"{", b"["):
            return fields[place]
    return next((body for at in bodies if (body := body_of(fields[at])) is not None), None)


def _with_orders(
    orders: Sequence[Group], entries: Sequence[Entry], readings: Readings, rejects: list[Reject]
) -> Readings:
    """Return readings with orders among them, and put those that are none among the rejects."""
    found, odd = orders_in(orders)
    rejects += [_reject(entries[place], error) for place, error in sorted(odd.items())]
    readings = joined([readings, found])
    return replace(readings, orders=np.isin(readings.places, found.places))


def _reject(entry: Entry, error: UnreadableError) -> Reject:
    return Reject(str(error), entry[0], payload_of(unaddressed(entry[1])), error.kind)


def _unread(entry: Entry) -> Reject:
    """Refuse an entry that comes without its fields; see ``Streams.largest``."""
    reason = "an entry with more bytes than may be read at once (--max-memory)"
    return Reject(f"{reason}: send its readings in several", entry[0], b'"too large to repeat"')


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
