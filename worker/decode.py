"""Raw stream entries -> readings in columns; pure.

An entry is flat fields, one JSON object, an array of them, or columns in one object (see
``docs/design.md``). Flat entries that share a layout are decoded in bulk, and so are columns;
anything else one by one. What an entry says never hangs on its neighbours.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson

from worker.cells import (
    UnreadableError,
    bounded_times,
    check_names,
    checked_name,
    name_of_json,
    number_of,
    numbers_of,
    shown,
    time_of_id,
    time_of_json,
    time_of_text,
    times_of,
)
from worker.readings import Part, Readings, joined, payload_of
from worker.wire import Entry, Reject

BODY_FIELDS = (b"body", b"data", b"msg", b"value")
SMALL_GROUP = 16

Row = tuple[bytes, int, dict[str, Any], Any]
"""A reading decoded by itself: series, time, cells by feature, and what it said."""


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
        self._features = tuple(features)
        self._wanted = {name.encode(): name for name in self._features}
        self._series_field = series_field
        self._time_field = time_field
        self._known = (*self._features, series_field, time_field)
        self._series_key = series_field.encode()
        self._time_key = time_field.encode()

    def decode(self, entries: Sequence[Entry]) -> tuple[Readings, list[Reject]]:
        """Return the readings of ``entries`` and the entries that hold none."""
        whole = self._decode_alike(entries)
        if whole is not None:
            return whole, []
        layouts: dict[tuple[bytes, ...], list[int]] = {}
        for place, (_, fields) in enumerate(entries):
            layouts.setdefault(tuple(fields[::2]), []).append(place)
        parts: list[Part] = []
        single: list[int] = []
        for layout, places in layouts.items():
            if self._wanted.keys().isdisjoint(layout):
                single += places
            else:
                self._decode_group(entries, places, parts, single)
        return self._decode_singly(entries, sorted(single), parts)

    def _decode_group(
        self,
        entries: Sequence[Entry],
        places: list[int],
        parts: list[Part],
        single: list[int],
    ) -> None:
        """Decode entries of one layout in bulk, but for the neighbourhood of those that balk."""
        if len(places) <= SMALL_GROUP:
            single += places
            return
        readings = self._decode_alike([entries[place] for place in places])
        if readings is not None:
            parts.append(Part(places, readings))
            return
        half = len(places) // 2
        self._decode_group(entries, places[:half], parts, single)
        self._decode_group(entries, places[half:], parts, single)

    def _decode_alike(self, entries: Sequence[Entry]) -> Readings | None:
        """Decode flat entries of one layout in bulk; None if they are not that."""
        if not entries:
            return None
        ids = [entry[0] for entry in entries]
        said = [entry[1] for entry in entries]
        layout = said[0][::2]
        width, n = 2 * len(layout), len(entries)
        flat = list(chain.from_iterable(said))
        if set(map(len, said)) != {width} or len(set(layout)) != len(layout):
            return None
        for place, name in enumerate(layout):
            if flat[2 * place :: width].count(name) != n:
                return None
        cells = {name: flat[2 * place + 1 :: width] for place, name in enumerate(layout)}
        series = cells.get(self._series_key) or [self._stream] * n
        times = cells.get(self._time_key) or [entry_id.partition(b"-")[0] for entry_id in ids]
        try:
            check_names(series)
            columns = {
                name: numbers_of(cells[key]) for key, name in self._wanted.items() if key in cells
            }
            parsed = times_of(times)
        except (ValueError, OverflowError):
            return None
        if not columns or any(np.isnan(column).any() for column in columns.values()):
            return None
        return Readings(ids, series, parsed, columns, said)

    def _decode_singly(
        self, entries: Sequence[Entry], places: list[int], parts: list[Part]
    ) -> tuple[Readings, list[Reject]]:
        """Decode the entries at these places one by one; join them with the parts there are."""
        gathered = _Gathered(self._features)
        rejects = []
        for place in places:
            entry_id, fields = entries[place]
            try:
                found = self._decode_one(entry_id, fields)
                if isinstance(found, Readings):
                    parts.append(Part([place] * len(found), found))
                else:
                    gathered.add(place, entry_id, list(found))
            except UnreadableError as error:
                rejects.append(Reject(str(error), entry_id, payload_of(fields)))
        return joined([*parts, gathered.part()]), rejects

    def _decode_one(self, entry_id: bytes, fields: list[bytes]) -> Iterator[Row] | Readings:
        cells = dict(zip(fields[::2], fields[1::2], strict=False))
        series = cells.get(self._series_key, self._stream)
        stamp = cells.get(self._time_key)
        stated = None if stamp is None else time_of_text(stamp)

        def time() -> int:
            # Asked for only where a reading has no time of its own, as the id may not be one.
            return time_of_id(entry_id) if stated is None else stated

        body = self._body(cells)
        if body is None:
            values = {name: cells[key] for key, name in self._wanted.items() if key in cells}
            return iter([(checked_name(series), time(), values, fields)])
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise UnreadableError(f"not JSON: {error}") from error
        if isinstance(document, dict):
            if not any(isinstance(document.get(name), list) for name in self._features):
                return self._rows([document], series, time)
            document = {name: document[name] for name in self._known if name in document}
            length = self._length(document)
            columns = self._decode_columns(entry_id, document, length, series, time)
            if columns is not None:
                return columns
            return self._rows(_items(document, length), series, time)
        return self._rows(document, series, time)

    def _body(self, cells: dict[bytes, bytes]) -> bytes | None:
        """Return the JSON in an entry that carries no feature as a field of its own."""
        for key in BODY_FIELDS:
            body = cells.get(key, b"")
            if body[:1] in (b"{", b"[") and not (self._wanted.keys() & cells.keys()) - {key}:
                return body
        return None

    def _rows(self, items: Iterable[Any], series: bytes, time: Callable[[], int]) -> Iterator[Row]:
        for item in items:
            if not isinstance(item, dict):
                raise UnreadableError(f"an item is {shown(item)}, not an object")
            name = name_of_json(item[self._series_field]) if self._series_field in item else series
            when = time_of_json(item[self._time_field]) if self._time_field in item else time()
            values = {name: item[name] for name in self._features if name in item}
            yield checked_name(name), when, values, item

    def _length(self, document: dict[str, Any]) -> int:
        """Return how many readings a document of columns holds; names and times may be single."""
        single = (self._series_field, self._time_field)
        columns = {k: v for k, v in document.items() if k not in single or isinstance(v, list)}
        lengths = {len(c) if isinstance(c, list) else None for c in columns.values()}
        length = lengths.pop()
        if lengths or length is None:
            said = {k: len(c) if isinstance(c, list) else shown(c) for k, c in columns.items()}
            raise UnreadableError(f"columns of unequal length: {said}")
        return length

    def _decode_columns(
        self,
        entry_id: bytes,
        document: dict[str, Any],
        length: int,
        series: bytes,
        time: Callable[[], int],
    ) -> Readings | None:
        """Decode plain columns in bulk; None if a cell is not of its column's usual type."""
        columns = dict(document)
        names = columns.pop(self._series_field, series)
        times = columns.pop(self._time_field) if self._time_field in columns else time()
        if any(not set(map(type, column)) <= {int, float} for column in columns.values()):
            return None
        if not isinstance(times, list):
            times = [time_of_json(times)] * length
        if not set(map(type, times)) <= {int}:
            return None
        if isinstance(names, list):
            if not set(map(type, names)) <= {str}:
                return None
            named = [name.encode("utf-8", "surrogatepass") for name in names]
        else:
            named = [names if names is series else name_of_json(names)] * length
        try:
            check_names(named)
            parsed = bounded_times(np.array(times, np.int64))
            numbers = {name: np.array(c, np.float64) for name, c in columns.items()}
        except (ValueError, OverflowError):
            return None
        said = [(document, place) for place in range(length)]
        return Readings([entry_id] * length, named, parsed, numbers, said)


def _items(document: dict[str, Any], length: int) -> Iterator[dict[str, Any]]:
    """Yield the readings of a document of columns as an object each."""
    for place in range(length):
        yield {k: v[place] if isinstance(v, list) else v for k, v in document.items()}


class _Gathered:
    """Readings collected one by one."""

    def __init__(self, features: tuple[str, ...]) -> None:
        self._places: list[int] = []
        self._ids: list[bytes] = []
        self._rows: list[Row] = []
        self._features = features

    def add(self, place: int, entry_id: bytes, rows: list[Row]) -> None:
        self._places += [place] * len(rows)
        self._ids += [entry_id] * len(rows)
        self._rows += rows

    def part(self) -> Part:
        columns, faults = {}, {}
        for name in self._features:
            column = np.full(len(self._rows), np.nan)
            for reading, (_, _, values, _) in enumerate(self._rows):
                if name in values:
                    column[reading], fault = number_of(values[name])
                    if fault:
                        faults[reading, name] = fault
            columns[name] = column
        series = [row[0] for row in self._rows]
        times = np.array([row[1] for row in self._rows], np.int64)
        said = [row[3] for row in self._rows]
        return Part(self._places, Readings(self._ids, series, times, columns, said, faults))
