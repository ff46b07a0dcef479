"""Raw stream entries -> readings in columns; pure.

An entry is flat fields, or a JSON document in one field (see ``documents.py`` and
``docs/design.md``). Flat entries that share a layout are decoded in bulk, and so are documents that
are alike; anything else one by one. What an entry says never hangs on its neighbours.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np

from tidecast.worker.pipeline.cells import (
    UnreadableError,
    check_names,
    checked_name,
    number_of,
    numbers_of,
    time_of_id,
    time_of_text,
    times_of,
)
from tidecast.worker.pipeline.documents import Document, Names, Row, contents, decode_alike, rows_of
from tidecast.worker.pipeline.readings import Readings, joined, payload_of
from tidecast.worker.pipeline.wire import Entry, Reject

BODY_FIELDS = (b"body", b"data", b"msg", b"value")
SMALL_GROUP = 16
Decodable = TypeVar("Decodable")


class Decoder:
    """Turns entries of one stream into readings of the wanted features.

    Args:
        stream: the stream's name, the series of readings that name none.
        features: the fields to read as numbers; all others are ignored.
        series_field: the field that names the series.
        time_field: the field that carries the time.
    """

    def __init__(
        self,
        stream: str,
        features: Iterable[str],
        *,
        series_field: str = "series",
        time_field: str = "ts",
    ) -> None:
        self._stream = stream.encode()
        self._names = Names(tuple(features), series_field, time_field)
        self._wanted = {name.encode(): name for name in self._names.features}
        self._series_key = series_field.encode()
        self._time_key = time_field.encode()

    def decode(self, entries: Sequence[Entry]) -> tuple[Readings, list[Reject]]:
        """Return the readings of ``entries`` and the entries that hold none."""
        whole = self._decode_flat(entries)
        return self._decode_mixed(entries) if whole is None else (whole, [])

    def decode_in_parts(
        self, entries: Sequence[Entry], size: int
    ) -> Iterator[tuple[Sequence[Entry], Readings, list[Reject]]]:
        """Yield parts of ``entries``, each with what ``decode`` returns for it.

        A part has about ``size`` bytes, as a few entries may hold very many readings; one larger
        entry is a part by itself, and so are entries that are all flat and alike.
        """
        whole = self._decode_flat(entries)
        if whole is not None:
            yield entries, whole, []
            return
        for part in _cut(entries, size):
            yield part, *self._decode_mixed(part)

    def _decode_flat(self, entries: Sequence[Entry]) -> Readings | None:
        """Decode flat entries of one layout in bulk; None if they are not that."""
        said = [entry[1] for entry in entries]
        layout = said[0][::2] if said else []
        width, n = 2 * len(layout), len(entries)
        if self._wanted.keys().isdisjoint(layout) or len(set(layout)) != len(layout):
            return None
        flat = list(chain.from_iterable(said))
        if set(map(len, said)) != {width}:
            return None
        for place, name in enumerate(layout):
            if flat[2 * place :: width].count(name) != n:
                return None
        ids = [entry[0] for entry in entries]
        cells = {name: flat[2 * place + 1 :: width] for place, name in enumerate(layout)}
        series = cells.get(self._series_key) or [self._stream] * n
        times = cells.get(self._time_key) or [entry_id.partition(b"-")[0] for entry_id in ids]
        try:
            columns = {
                name: numbers_of(cells[key]) for key, name in self._wanted.items() if key in cells
            }
            check_names(series)
            parsed = times_of(times)
        except (ValueError, OverflowError):
            return None
        return Readings(np.arange(n), ids, series, parsed, columns, said.__getitem__)

    def _decode_mixed(self, entries: Sequence[Entry]) -> tuple[Readings, list[Reject]]:
        """Decode entries of any kind: each layout and each kind of document by itself."""
        rejects: dict[int, Reject] = {}
        layouts: dict[tuple[bytes, ...], list[int]] = {}
        documents: dict[type, list[Document]] = {list: [], dict: []}
        for place, entry in enumerate(entries):
            try:
                document = self._document(place, entry)
            except UnreadableError as error:
                rejects[place] = _reject(entry, error)
                continue
            if document is None:
                layouts.setdefault(tuple(entry[1][::2]), []).append(place)
            else:
                documents[type(document.items)].append(document)
        parts: list[Readings] = []
        single: list[int] = []
        for layout, places in layouts.items():
            if self._wanted.keys().isdisjoint(layout):
                single += places
            else:
                single += _in_bulk(places, partial(self._decode_places, entries), _one, parts)
        odd = {
            document.place: document
            for alike in documents.values()
            for document in _in_bulk(alike, self._decode_documents, _length, parts)
        }
        rows = _Rows(self._names.features)
        for place in sorted([*single, *odd]):
            try:
                rows.add(place, entries[place][0], self._rows(entries[place], odd.get(place)))
            except UnreadableError as error:
                rejects[place] = _reject(entries[place], error)
        return joined([*parts, rows.readings()]), [rejects[place] for place in sorted(rejects)]

    def _document(self, place: int, entry: Entry) -> Document | None:
        """Return the document in an entry that carries no feature as a field of its own."""
        entry_id, fields = entry
        cells = dict(zip(fields[::2], fields[1::2], strict=False))
        for key in BODY_FIELDS:
            body = cells.get(key, b"")
            if body[:1] in (b"{", b"[") and not any(k in cells for k in self._wanted if k != key):
                series, stamp = cells.get(self._series_key, self._stream), cells.get(self._time_key)
                stated = None if stamp is None else time_of_text(stamp)
                return Document(place, entry_id, series, stated, *contents(body, self._names))
        return None

    def _decode_places(self, entries: Sequence[Entry], places: Sequence[int]) -> Readings | None:
        found = self._decode_flat([entries[place] for place in places])
        return found and replace(found, places=np.array(places))

    def _decode_documents(self, documents: Sequence[Document]) -> Readings | None:
        return decode_alike(documents, self._names)

    def _rows(self, entry: Entry, document: Document | None) -> list[Row]:
        if document is not None:
            return list(rows_of(document, self._names))
        entry_id, fields = entry
        cells = dict(zip(fields[::2], fields[1::2], strict=False))
        series, stamp = cells.get(self._series_key, self._stream), cells.get(self._time_key)
        time = time_of_id(entry_id) if stamp is None else time_of_text(stamp)
        values = {name: cells[key] for key, name in self._wanted.items() if key in cells}
        return [(checked_name(series), time, values, fields)]


def _reject(entry: Entry, error: UnreadableError) -> Reject:
    return Reject(str(error), entry[0], payload_of(entry[1]), error.kind)


def _one(_: int) -> int:
    return 1


def _length(document: Document) -> int:
    return document.length


def _in_bulk(
    things: Sequence[Decodable],
    decode: Callable[[Sequence[Decodable]], Readings | None],
    weigh: Callable[[Decodable], int],
    parts: list[Readings],
) -> Sequence[Decodable]:
    """Decode things in bulk, but for the neighbourhood of those that balk; return these.

    Args:
        things: what ought to be alike.
        decode: returns their readings, None if they are not.
        weigh: how many readings there are in one; a few are not worth the bulk.
        parts: takes the readings.
    """
    if sum(map(weigh, things)) <= SMALL_GROUP:
        return things
    readings = decode(things)
    if readings is not None:
        parts.append(readings)
        return ()
    if len(things) == 1:
        return things
    half = len(things) // 2
    return [
        *_in_bulk(things[:half], decode, weigh, parts),
        *_in_bulk(things[half:], decode, weigh, parts),
    ]


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


class _Rows:
    """Readings collected one by one, in ascending places."""

    def __init__(self, features: tuple[str, ...]) -> None:
        self._places: list[int] = []
        self._ids: list[bytes] = []
        self._rows: list[Row] = []
        self._features = features

    def add(self, place: int, entry_id: bytes, rows: list[Row]) -> None:
        self._places += [place] * len(rows)
        self._ids += [entry_id] * len(rows)
        self._rows += rows

    def readings(self) -> Readings:
        columns, faults = {}, {}
        for name in self._features:
            column = np.full(len(self._rows), np.nan)
            for reading, (_, _, values, _) in enumerate(self._rows):
                if name in values:
                    column[reading], fault = number_of(values[name])
                    if fault:
                        faults[reading, name] = fault
            columns[name] = column
        return Readings(
            np.array(self._places, np.int64),
            self._ids,
            [row[0] for row in self._rows],
            np.array([row[1] for row in self._rows], np.int64),
            columns,
            lambda reading: self._rows[reading][3],
            faults,
        )
