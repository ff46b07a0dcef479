"""Raw stream entries -> readings in columns; pure.

An entry is flat fields, one JSON object, an array of them, or columns in one object (see
``docs/design.md``). Flat entries that share a layout are decoded in bulk, and so are columns;
anything else one by one. What an entry says never hangs on its neighbours.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
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
from worker.wire import Entry, Reject

BODY_FIELDS = (b"body", b"data", b"msg", b"value")
LONGEST_PAYLOAD = 1024
SMALL_GROUP = 16

Row = tuple[bytes, int, dict[str, Any], Any]
"""A reading decoded by itself: series, time, cells by feature, and what it said."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings in stream order, as columns of equal length.

    ``times`` are milliseconds since 1970. ``columns[feature]`` are 64-bit floats: NaN where the
    feature is absent, or where ``faults[(reading, feature)]`` says what stood there instead of a
    number. ``said`` is what each reading was decoded from: an entry's fields, a JSON object, or a
    document of columns with the place in them.
    """

    ids: list[bytes]
    series: list[bytes]
    times: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[np.float64]]
    said: Sequence[Any]
    faults: dict[tuple[int, str], str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many readings there are."""
        return len(self.ids)

    def fault(self, reading: int, feature: str) -> str:
        """Say in words what is wrong with one feature of one reading."""
        value = self.columns[feature][reading] if feature in self.columns else np.nan
        wrong = self.faults.get((reading, feature))
        if wrong is None and np.isnan(value):
            wrong = "is missing"
        elif wrong is None:
            limit = "not a finite number" if np.isinf(value) else "beyond a 32-bit float"
            wrong = f"is {value:g}, {limit}"
        return f"feature {feature!r} {wrong}"

    def payload(self, reading: int) -> bytes:
        """Return what the reading said, as JSON, truncated to ``LONGEST_PAYLOAD`` bytes."""
        said = self.said[reading]
        if isinstance(said, list):
            return payload_of(said)
        if isinstance(said, tuple):
            document, place = said
            said = {k: v[place] if isinstance(v, list) else v for k, v in document.items()}
        return _truncated(orjson.dumps(said, option=orjson.OPT_NON_STR_KEYS))


def payload_of(fields: Sequence[bytes]) -> bytes:
    """Return an entry's fields as a JSON object, truncated to ``LONGEST_PAYLOAD`` bytes."""
    texts = [text.decode("utf-8", "replace") for text in fields]
    return _truncated(orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=False))))


def _truncated(payload: bytes) -> bytes:
    return payload if len(payload) <= LONGEST_PAYLOAD else payload[: LONGEST_PAYLOAD - 3] + b"..."


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
        parts: list[_Part] = []
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
        parts: list["_Part"],
        single: list[int],
    ) -> None:
        """Decode entries of one layout in bulk, but for the neighbourhood of those that balk."""
        if len(places) <= SMALL_GROUP:
            single += places
            return
        readings = self._decode_alike([entries[place] for place in places])
        if readings is not None:
            parts.append(_Part(places, readings))
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
        if len(flat) != width * n or len(set(layout)) != len(layout):
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
        self, entries: Sequence[Entry], places: list[int], parts: list["_Part"]
    ) -> tuple[Readings, list[Reject]]:
        """Decode the entries at these places one by one; join them with the parts there are."""
        gathered = _Gathered(self._features)
        rejects = []
        for place in places:
            entry_id, fields = entries[place]
            try:
                found = self._decode_one(entry_id, fields)
                if isinstance(found, Readings):
                    parts.append(_Part([place] * len(found), found))
                else:
                    gathered.add(place, entry_id, list(found))
            except UnreadableError as error:
                rejects.append(Reject(str(error), entry_id, payload_of(fields)))
        return _joined([*parts, gathered.part()]), rejects

    def _decode_one(self, entry_id: bytes, fields: list[bytes]) -> Iterator[Row] | Readings:
        cells = dict(zip(fields[::2], fields[1::2], strict=False))
        series = cells.get(self._series_key, self._stream)
        stamp = cells.get(self._time_key)
        time = time_of_id(entry_id) if stamp is None else time_of_text(stamp)
        body = self._body(cells)
        if body is None:
            values = {name: cells[key] for key, name in self._wanted.items() if key in cells}
            return iter([(checked_name(series), time, values, fields)])
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

    def _rows(self, items: Iterable[Any], series: bytes, time: int) -> Iterator[Row]:
        for item in items:
            if not isinstance(item, dict):
                raise UnreadableError(f"an item is {shown(item)}, not an object")
            name = name_of_json(item[self._series_field]) if self._series_field in item else series
            when = time_of_json(item[self._time_field]) if self._time_field in item else time
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
        self, entry_id: bytes, document: dict[str, Any], length: int, series: bytes, time: int
    ) -> Readings | None:
        """Decode plain columns in bulk; None if a cell is not of its column's usual type."""
        columns = dict(document)
        names = columns.pop(self._series_field, series)
        times = columns.pop(self._time_field, time)
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


@dataclass(frozen=True, slots=True)
class _Part:
    """Readings with the place of the entry that each came from, in ascending order."""

    places: list[int]
    readings: Readings


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

    def part(self) -> _Part:
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
        return _Part(self._places, Readings(self._ids, series, times, columns, said, faults))


def _joined(parts: list[_Part]) -> Readings:
    """Return the readings of all parts in the order of their entries."""
    parts = [part for part in parts if part.places] or parts[:1]
    if len(parts) == 1:
        return parts[0].readings
    all_readings = [part.readings for part in parts]
    places = np.array(list(chain.from_iterable(part.places for part in parts)), np.int64)
    order = np.argsort(places, kind="stable")
    chosen = order.tolist()
    ids, series, said = (
        [column[i] for i in chosen]
        for column in (
            list(chain.from_iterable(r.ids for r in all_readings)),
            list(chain.from_iterable(r.series for r in all_readings)),
            list(chain.from_iterable(r.said for r in all_readings)),
        )
    )
    names = dict.fromkeys(name for r in all_readings for name in r.columns)
    columns = {
        name: np.concatenate([r.columns.get(name, np.full(len(r), np.nan)) for r in all_readings])
        for name in names
    }
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    firsts = np.cumsum([0, *map(len, all_readings)]).tolist()
    faults = {
        (int(rank[first + reading]), name): fault
        for first, r in zip(firsts, all_readings, strict=False)
        for (reading, name), fault in r.faults.items()
    }
    times = np.concatenate([r.times for r in all_readings])[order]
    columns = {name: column[order] for name, column in columns.items()}
    return Readings(ids, series, times, columns, said, faults)
