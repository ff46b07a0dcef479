"""JSON documents of entries -> readings in columns; pure.

A document is one object, an array of objects, or columns in one object. Those of many entries are
decoded together where their cells are of the usual types, and anything else reading by reading.
What a document says never hangs on its neighbours.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from tidecast.worker.pipeline.cells import (
    UnreadableError,
    bounded_times,
    check_names,
    checked_name,
    name_of_json,
    shown,
    time_of_id,
    time_of_json,
)
from tidecast.worker.pipeline.readings import Readings

Row = tuple[bytes, int, dict[str, Any], Any]
"""A reading decoded by itself: series, time, cells by feature, and what it said."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the parts of a reading are called on the wire."""

    features: tuple[str, ...]
    series: str
    time: str

    @property
    def known(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.features, self.series, self.time)


@dataclass(slots=True)
class Document:
    """What one entry's JSON holds: objects, or columns in one dictionary.

    ``length`` is how many readings that is; ``series`` and ``stated`` (None: the entry id's) are
    name and time of those that have none of their own.
    """

    place: int
    entry_id: bytes
    series: bytes
    stated: int | None
    items: list[Any] | dict[str, Any]
    length: int

    @property
    def time(self) -> int:
        """The time of readings without one; asked for only then, as the id may be no time."""
        return time_of_id(self.entry_id) if self.stated is None else self.stated


def contents(body: bytes, names: Names) -> tuple[list[Any] | dict[str, Any], int]:
    """Return a JSON body as objects or as columns, and how many readings that is.

    Raises:
        UnreadableError: it is no JSON, or its columns are of unequal length.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"not JSON: {error}") from error
    if isinstance(found, list):
        return found, len(found)
    if not any(isinstance(found.get(name), list) for name in names.features):
        return [found], 1
    columns = {name: found[name] for name in names.known if name in found}
    return columns, _length(columns, names)


def _length(columns: dict[str, Any], names: Names) -> int:
    """Return the common length of columns; name and time may be single."""
    single = (names.series, names.time)
    long = {k: v for k, v in columns.items() if k not in single or isinstance(v, list)}
    lengths = {len(v) if isinstance(v, list) else None for v in long.values()}
    length = lengths.pop()
    if lengths or length is None:
        said = {k: len(v) if isinstance(v, list) else shown(v) for k, v in long.items()}
        raise UnreadableError(f"columns of unequal length: {said}")
    return length


def rows_of(document: Document, names: Names) -> Iterator[Row]:
    """Yield a document's readings one by one.

    Raises:
        UnreadableError: an item is no object, or its series or time is none.
    """
    for item in _objects(document):
        if not isinstance(item, dict):
            raise UnreadableError(f"an item is {shown(item)}, not an object")
        name = name_of_json(item[names.series]) if names.series in item else document.series
        when = time_of_json(item[names.time]) if names.time in item else document.time
        values = {feature: item[feature] for feature in names.features if feature in item}
        yield checked_name(name), when, values, item


def _objects(document: Document) -> Iterator[Any]:
    items = document.items
    if isinstance(items, list):
        yield from items
        return
    for place in range(document.length):
        yield {k: v[place] if isinstance(v, list) else v for k, v in items.items()}


def decode_alike(documents: Sequence[Document], names: Names) -> Readings | None:
    """Decode documents together; None unless all are alike and of the usual types.

    Alike: all objects or all columns, with the same of the known names; usual: texts for series,
    integers for times, numbers for features.
    """
    columnar = isinstance(documents[0].items, dict)
    if any(isinstance(document.items, dict) != columnar for document in documents):
        return None
    try:
        cells = (_cells_of_columns if columnar else _cells_of_objects)(documents, names)
        if cells is None or not cells.keys() & set(names.features):
            return None
        return _readings(documents, cells, names)
    except (ValueError, OverflowError, KeyError):  # UnreadableError is a ValueError
        return None


def _cells_of_objects(documents: Sequence[Document], names: Names) -> dict[str, Any] | None:
    """Return the cells of each known name over all objects, None if some have others."""
    items = list(chain.from_iterable(document.items for document in documents))
    if set(map(type, items)) != {dict}:
        return None
    present = [name for name in names.known if name in items[0]]
    for name in set(names.known).difference(present):
        if any(name in item for item in items):
            return None
    return {name: list(map(itemgetter(name), items)) for name in present}


def _cells_of_columns(documents: Sequence[Document], names: Names) -> dict[str, Any] | None:
    """Return the cells of each known name over all documents, None if some have others."""
    tables: list[dict[str, Any]] = [
        document.items for document in documents if isinstance(document.items, dict)
    ]
    if any(table.keys() != tables[0].keys() for table in tables):
        return None
    single: dict[str, Callable[[Any], object]] = {
        names.series: name_of_json,
        names.time: time_of_json,
    }
    return {
        name: list(
            chain.from_iterable(
                table[name]
                if isinstance(table[name], list)
                else [single[name](table[name])] * document.length
                for table, document in zip(tables, documents, strict=True)
            )
        )
        for name in tables[0]
    }


def _readings(documents: Sequence[Document], cells: dict[str, Any], names: Names) -> Readings:
    """Return cells as readings.

    Raises:
        ValueError: some are not of the usual type or out of bounds.
        OverflowError: a number is too large.
    """
    lengths = [document.length for document in documents]
    columns = {name: _numbers(cells[name]) for name in names.features if name in cells}
    series = cells.get(names.series)
    if series is None:
        series = _each(lengths, [document.series for document in documents])
    elif set(map(type, series)) == {str}:
        series = list(map(str.encode, series))
    elif set(map(type, series)) != {bytes}:
        raise ValueError("a name is neither text nor the name of a whole column")
    check_names(series)
    times = cells.get(names.time)
    if times is None:
        times = _each(lengths, [document.time for document in documents])
    if not set(map(type, times)) <= {int}:
        raise ValueError("a time is no integer")
    return Readings(
        np.repeat([document.place for document in documents], lengths),
        _each(lengths, [document.entry_id for document in documents]),
        series,
        bounded_times(np.array(times, np.int64)),
        columns,
        _sayings(documents, lengths),
    )


def _numbers(cells: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not set(map(type, cells)) <= {int, float}:
        raise ValueError("a cell is no number")
    return np.array(cells, np.float64) + 0.0


def _each(lengths: list[int], values: list[Any]) -> list[Any]:
    if len(values) == 1:
        return values * lengths[0]
    return list(
        chain.from_iterable([value] * length for value, length in zip(values, lengths, strict=True))
    )


def _sayings(documents: Sequence[Document], lengths: list[int]) -> Callable[[int], Any]:
    """Return what tells the object of a reading, or the columns and the place in them."""
    firsts = list(accumulate(lengths, initial=0))

    def said(reading: int) -> Any:
        number = bisect_right(firsts, reading) - 1
        items, place = documents[number].items, reading - firsts[number]
        return items[place] if isinstance(items, list) else (items, place)

    return said
