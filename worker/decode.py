"""Raw stream entries -> readings in columns; pure.

An entry is flat fields, one JSON object, an array of them, or columns in one object (see
``docs/design.md``). Entries that are all flat and alike, the common case, are decoded in bulk;
anything else one by one, with the same result.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from worker.wire import Entry, Reject

BODY_FIELDS = (b"body", b"data", b"msg", b"value")
LATEST_TIME = 253_402_300_799_999
LONGEST_NAME = 512
LONGEST_PAYLOAD = 1024


class UnreadableError(ValueError):
    """An entry or an item of one cannot be read; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings in stream order, as columns of equal length.

    ``times`` are milliseconds since 1970, ``columns[feature]`` 64-bit floats that are NaN where the
    feature is absent or no number; ``faults[(reading, feature)]`` then says what stood there.
    """

    ids: list[bytes]
    series: list[bytes]
    times: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[np.float64]]
    entries: Sequence[Entry]
    faults: dict[tuple[int, str], str] = field(default_factory=dict)
    items: list[Any] | None = None

    def __len__(self) -> int:
        """Return how many readings there are."""
        return len(self.ids)

    def fault(self, reading: int, feature: str) -> str:
        """Say in words what is wrong with one feature of one reading."""
        said = self.faults.get((reading, feature))
        if said is None:
            value = self.columns[feature][reading] if feature in self.columns else None
            said = "is missing" if value is None else f"is {value:g}, beyond a 32-bit float"
            if value is not None and not np.isfinite(value):
                said = f"is {value:g}, not a finite number"
        return f"feature {feature!r} {said}"

    def payload(self, reading: int) -> bytes:
        """Return what the reading said, as JSON, truncated to ``LONGEST_PAYLOAD`` bytes."""
        if self.items is None:
            return payload_of(self.entries[reading][1])
        item = self.items[reading]
        if isinstance(item, list):
            return payload_of(item)
        return _truncated(orjson.dumps(item, option=orjson.OPT_NON_STR_KEYS))


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
        self._wanted = tuple((name, name.encode()) for name in self._features)
        self._series_field = series_field
        self._time_field = time_field
        self._series_key = series_field.encode()
        self._time_key = time_field.encode()

    def decode(self, entries: Sequence[Entry]) -> tuple[Readings, list[Reject]]:
        """Return the readings of ``entries`` and the entries that hold none."""
        readings = self._decode_alike(entries)
        if readings is not None:
            return readings, []
        gathered = _Gathered(self._features)
        rejects = []
        for entry in entries:
            mark = len(gathered.ids)
            try:
                self._decode_one(entry, gathered)
            except UnreadableError as error:
                gathered.rewind(mark)
                rejects.append(Reject(str(error), entry[0], payload_of(entry[1])))
        return gathered.readings(entries), rejects

    def _decode_alike(self, entries: Sequence[Entry]) -> Readings | None:
        """Decode flat entries of one layout in bulk; None if they are not that."""
        if not entries:
            return None
        ids = [entry[0] for entry in entries]
        layout = entries[0][1][::2]
        width, n = 2 * len(layout), len(entries)
        flat = list(chain.from_iterable([entry[1] for entry in entries]))
        if len(flat) != width * n or len(set(layout)) != len(layout):
            return None
        for place, name in enumerate(layout):
            if flat[2 * place :: width].count(name) != n:
                return None
        cells = {name: flat[2 * place + 1 :: width] for place, name in enumerate(layout)}
        series = cells.get(self._series_key) or [self._stream] * n
        times = cells.get(self._time_key) or [entry_id.partition(b"-")[0] for entry_id in ids]
        try:
            columns = {
                name: _parse_floats(cells[key]) for name, key in self._wanted if key in cells
            }
            parsed_times = _parse_times(times)
        except (ValueError, OverflowError):
            return None
        if not columns or not _names_are_plain(series):
            return None
        return Readings(ids, series, parsed_times, columns, entries)

    def _decode_one(self, entry: Entry, into: "_Gathered") -> None:
        entry_id, fields = entry
        cells = dict(zip(fields[::2], fields[1::2], strict=False))
        series = cells.get(self._series_key, self._stream)
        time = cells.get(self._time_key)
        default_time = _time_of_id(entry_id) if time is None else time_of_text(time)
        body = next((cells[k] for k in BODY_FIELDS if cells.get(k, b"")[:1] in (b"{", b"[")), None)
        if body is None:
            values = {name: cells[key] for name, key in self._wanted if key in cells}
            into.add(entry_id, _checked_name(series), default_time, values, fields)
            return
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise UnreadableError(f"not JSON: {error}") from error
        if isinstance(document, dict):
            lists = {name: document.get(name) for name in self._features}
            if any(isinstance(column, list) for column in lists.values()):
                self._decode_columns(entry_id, document, series, default_time, into)
                return
            document = [document]
        for item in document:
            self._decode_item(entry_id, item, series, default_time, into)

    def _decode_item(
        self, entry_id: bytes, item: Any, series: bytes, time: int, into: "_Gathered"
    ) -> None:
        if not isinstance(item, dict):
            raise UnreadableError(f"an item is {_shown(item)}, not an object")
        if self._series_field in item:
            series = _name_of_json(item[self._series_field])
        if self._time_field in item:
            time = _time_of_json(item[self._time_field])
        values = {name: item[name] for name in self._features if name in item}
        into.add(entry_id, _checked_name(series), time, values, item)

    def _decode_columns(
        self, entry_id: bytes, document: dict[str, Any], series: bytes, time: int, into: "_Gathered"
    ) -> None:
        present = {name: document[name] for name in self._features if name in document}
        lengths = {len(column) for column in present.values() if isinstance(column, list)}
        n = max(lengths)
        names = document.get(self._series_field)
        times = document.get(self._time_field)
        for label, column in ((self._series_field, names), (self._time_field, times)):
            if isinstance(column, list):
                lengths.add(len(column))
                present.setdefault(label, column)
        if len(lengths) != 1 or not all(isinstance(c, list) for c in present.values()):
            shown = {k: len(c) if isinstance(c, list) else _shown(c) for k, c in present.items()}
            raise UnreadableError(f"columns of unequal length: {shown}")
        for i in range(n):
            item = {name: column[i] for name, column in present.items()}
            item.setdefault(self._series_field, names) if names is not None else None
            item.setdefault(self._time_field, times) if times is not None else None
            self._decode_item(entry_id, item, series, time, into)


class _Gathered:
    """Readings collected one by one, for the entries that cannot be decoded in bulk."""

    def __init__(self, features: tuple[str, ...]) -> None:
        self.ids: list[bytes] = []
        self._series: list[bytes] = []
        self._times: list[int] = []
        self._cells: dict[str, list[float]] = {name: [] for name in features}
        self._faults: dict[tuple[int, str], str] = {}
        self._items: list[Any] = []

    def add(
        self, entry_id: bytes, series: bytes, time: int, values: dict[str, Any], item: Any
    ) -> None:
        reading = len(self.ids)
        self.ids.append(entry_id)
        self._series.append(series)
        self._times.append(time)
        self._items.append(item)
        for name, column in self._cells.items():
            number, fault = _number(values[name]) if name in values else (np.nan, "is missing")
            column.append(number)
            if fault:
                self._faults[reading, name] = fault

    def rewind(self, mark: int) -> None:
        """Forget all readings from ``mark`` on."""
        del self.ids[mark:], self._series[mark:], self._times[mark:], self._items[mark:]
        for column in self._cells.values():
            del column[mark:]
        self._faults = {key: said for key, said in self._faults.items() if key[0] < mark}

    def readings(self, entries: Sequence[Entry]) -> Readings:
        columns = {name: np.array(cells, np.float64) for name, cells in self._cells.items()}
        times = np.array(self._times, np.int64)
        return Readings(self.ids, self._series, times, columns, entries, self._faults, self._items)


def _parse_floats(cells: list[bytes]) -> npt.NDArray[np.float64]:
    if b"_" in b"".join(cells):
        raise ValueError("Python's float() forgives underscores, the wire does not")
    return np.array(list(map(float, cells)), np.float64)


def _parse_times(cells: list[bytes]) -> npt.NDArray[np.int64]:
    if not b"".join(cells).isdigit():
        raise ValueError("Python's int() forgives signs, blanks and underscores, the wire does not")
    times = np.array(list(map(int, cells)), np.int64)
    if times.max() > LATEST_TIME:
        raise ValueError("a time is out of bounds")
    return times


def _names_are_plain(names: list[bytes]) -> bool:
    if b"" in names or max(map(len, names)) > LONGEST_NAME:
        return False
    try:
        # No character reaches across the line breaks, so the whole is UTF-8 if each name is.
        b"\n".join(names).decode()
    except UnicodeDecodeError:
        return False
    return True


def _checked_name(name: bytes) -> bytes:
    if not name or len(name) > LONGEST_NAME:
        raise UnreadableError(
            f"a series name of {len(name)} bytes; 1 to {LONGEST_NAME} are allowed"
        )
    try:
        name.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"series name {name!r} is not UTF-8") from error
    return name


def _name_of_json(name: Any) -> bytes:
    if isinstance(name, str):
        return name.encode("utf-8", "surrogatepass")
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name).encode()
    raise UnreadableError(f"series is {_shown(name)}, not a name")


def _time_of_id(entry_id: bytes) -> int:
    return _bounded(int(entry_id.partition(b"-")[0]), entry_id)


def time_of_text(text: bytes) -> int:
    """Return milliseconds since 1970 of such a number, or of ISO 8601 (UTC where it has no zone).

    Raises:
        UnreadableError: it is neither, or lies outside the years 1970 to 9999.
    """
    if text.removeprefix(b"-").isdigit():
        return _bounded(int(text[:32]), text)
    try:
        moment = datetime.datetime.fromisoformat(text.decode())
    except ValueError as error:
        raise UnreadableError(
            f"time {_shown(text)} is neither milliseconds since 1970 nor ISO 8601"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return _bounded(since // datetime.timedelta(milliseconds=1), text)


def _time_of_json(time: Any) -> int:
    if isinstance(time, str):
        return time_of_text(time.encode("utf-8", "surrogatepass"))
    if isinstance(time, float) and time.is_integer():
        time = int(time)
    if isinstance(time, int) and not isinstance(time, bool):
        return _bounded(time, time)
    raise UnreadableError(f"time is {_shown(time)}, not milliseconds since 1970 nor ISO 8601")


def _bounded(time: int, shown: object) -> int:
    if not 0 <= time <= LATEST_TIME:
        raise UnreadableError(f"time {_shown(shown)} lies outside the years 1970 to 9999")
    return time


def _number(cell: Any) -> tuple[float, str]:
    """Return the number in a cell and no fault, or NaN and what is wrong."""
    if isinstance(cell, bytes):
        try:
            number = np.nan if b"_" in cell else float(cell)
        except ValueError:
            return np.nan, f"is {_shown(cell)}, not a number"
        if b"_" in cell:
            return np.nan, f"is {_shown(cell)}, not a number"
    elif isinstance(cell, int | float) and not isinstance(cell, bool):
        try:
            number = float(cell)
        except OverflowError:
            number = np.inf
    else:
        return np.nan, f"is {_shown(cell)}, not a number"
    if not np.isfinite(number):
        return np.nan, f"is {_shown(cell)}, not a finite number"
    return number, ""


def _shown(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
