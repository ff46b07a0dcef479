"""JSON documents of entries -> readings in columns; pure.

A document is one object, an array of objects, or columns in one object. Those of many entries are
decoded together. What a document says never hangs on its neighbours, and one that holds a reading
whose series or time cannot be read is refused whole.

Documents are parsed in bounded memory: as JSON, three bytes may make an object of seventy. How much
a large one would make is counted first (``outline.py``); an array of objects is then parsed a slice
at a time, and what would still take many times its bytes is refused.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from tidecast.worker.pipeline.cells import (
    ABSENT,
    Absent,
    BadTimeError,
    Milliseconds,
    UnreadableError,
    checked_name,
    name_of_json,
    names_in_json,
    numbers_in_json,
    shown,
    time_of_id,
    time_of_json,
    times_in_json,
)
from tidecast.worker.pipeline.epoch import TimeUnit
from tidecast.worker.pipeline.outline import Outline, memory_at_most, outline
from tidecast.worker.pipeline.readings import Readings, joined
from tidecast.worker.pipeline.wire import Pulse

Items = list[Any] | dict[str, Any]
LIGHT = 500_000
"""Bytes of a document that is parsed at once, whatever it holds."""
LARGEST_DOCUMENT = 64_000_000
"""Bytes of a document, at most."""
MOST_READINGS = 100_000
"""Readings of an entry, at most, unless told otherwise."""
MOST_TIMES = 8
"""How many times its own bytes a part of a document that is parsed at once may take, beyond what a
light one takes at most."""
MOST_OF_LIGHT = 30 * LIGHT


@dataclass(frozen=True, slots=True)
class Names:
    """What the parts of a reading are called on the wire, and what numbers as times count."""

    features: tuple[str, ...]
    series: str
    time: str
    unit: TimeUnit = "auto"

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
    items: Items
    length: int


def contents(body: bytes, names: Names, most: int = MOST_READINGS) -> tuple[Items, int]:
    """Return a JSON body as objects or as columns, and how many readings that is.

    Args:
        body: the JSON, of which ``slices_of`` said that it may be parsed at once.
        names: what to look for.
        most: how many readings there may be.

    Raises:
        UnreadableError: it is no JSON, its columns are of unequal length, or it holds too much.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"not JSON: {error}") from error
    if isinstance(found, list):
        _bound(len(found), most)
        return found, len(found)
    if not any(isinstance(found.get(name), list) for name in names.features):
        return [found], 1
    columns = {name: found[name] for name in names.known if name in found}
    length = _length(columns, names)
    _bound(length, most)
    return columns, length


def _bound(readings: int, most: int) -> None:
    if readings > most:
        raise UnreadableError(
            f"an entry of {readings} readings; {most} are allowed: send them in several entries"
        )


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


def slices_of(body: bytes, most: int) -> list[tuple[int, int]] | None:
    """Return where the slices of an array begin and end, None of what may be parsed at once.

    Raises:
        UnreadableError: it is too large, holds too many readings, or would take too much memory.
    """
    if len(body) <= LIGHT:
        return None
    if len(body) > LARGEST_DOCUMENT:
        raise UnreadableError(
            f"a document of {len(body)} bytes; {LARGEST_DOCUMENT} are allowed: send its readings "
            "in several entries"
        )
    if memory_at_most(body) <= _allowed(len(body)):
        return None
    found = outline(body, most)
    if not found.is_array:
        _weigh(found, len(body))
        return None
    _bound(found.items, most)
    return list(_slices(found))


def _slices(found: Outline) -> Iterator[tuple[int, int]]:
    """Yield slices of whole items of an array, of about ``LIGHT`` bytes or one item each."""
    first = found.start
    for end, following in zip(found.ends, [*found.ends[1:], None], strict=True):
        if following is None or following - first > LIGHT:
            yield first, end
            first = end + 1


def _allowed(size: int) -> int:
    """Return how much memory a part of a document of so many bytes may take at once."""
    return MOST_OF_LIGHT + MOST_TIMES * size


def _weigh(found: Outline, size: int) -> None:
    """Refuse what would take many times its own bytes."""
    if found.memory > _allowed(size):
        raise UnreadableError(
            f"a document of {size} bytes that would take {found.memory} bytes of memory; send its "
            "readings in several entries"
        )


def decode_sliced(
    body: bytes, slices: Sequence[tuple[int, int]], like: Document, names: Names, pulse: Pulse
) -> Readings:
    """Return the readings of an array of objects, parsed a slice at a time.

    Args:
        body: the JSON.
        slices: where its items lie.
        like: the document, but for its items.
        names: what to look for.
        pulse: called after each slice.

    Raises:
        UnreadableError: a slice is no JSON or would take too much memory, or a reading cannot be
            read.
    """
    parts = []

    # What was said is parsed again where it is asked for: kept, it would take all that memory. As
    # many readings of a slice may be asked for in a row, the last slice is remembered.
    slice_of = lru_cache(maxsize=1)(partial(_parsed, body))

    def again(first: int, beyond: int, reading: int) -> Any:
        return slice_of(first, beyond)[reading]

    for first, beyond in slices:
        if beyond - first > LIGHT:
            _weigh(outline(body[first:beyond]), beyond - first)
        items = _parsed(body, first, beyond)
        part = replace(like, items=items, length=len(items))
        readings, refused = decode_documents([part], names)
        if refused:
            raise refused[like.place]
        parts.append(replace(readings, said=partial(again, first, beyond)))
        pulse()
    return joined(parts)


def _parsed(body: bytes, first: int, beyond: int) -> list[Any]:
    try:
        items: list[Any] = orjson.loads(b"[%b]" % body[first:beyond])
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"not JSON: {error}") from error
    return items


def decode_documents(
    documents: Sequence[Document], names: Names
) -> tuple[Readings, dict[int, UnreadableError]]:
    """Return the readings of documents, which all hold objects or all hold columns.

    Also returns what is wrong with those that are refused, by their places.
    """
    sound = [one for one in documents if _holds_objects(one)]
    lengths = [one.length for one in sound]
    cells_of = (
        _columns_of(sound) if sound and isinstance(sound[0].items, dict) else _items_of(sound)
    )
    columns, faults = {}, {}
    for name in names.features:
        cells = cells_of(name)
        if cells and cells[0] is ABSENT and set(map(type, cells)) == {Absent}:
            continue
        columns[name], wrong = numbers_in_json(cells)
        if wrong:
            faults.update({(reading, name): fault for reading, fault in wrong.items()})
    series, nameless = names_in_json(
        _filled(cells_of(names.series, name_of_json), lengths, [one.series for one in sound])
    )
    times, timeless = times_in_json(
        _filled(
            cells_of(names.time, partial(_read_time, names.unit)),
            lengths,
            [_time_of(one) for one in sound],
        ),
        names.unit,
    )
    numbers = np.repeat(np.arange(len(sound)), lengths)
    readings = Readings(
        np.array([one.place for one in sound], np.int64)[numbers],
        _each(lengths, [one.entry_id for one in sound]),
        series,
        times,
        columns,
        _sayings(sound, lengths),
        faults,
    )
    odd = {one.place: one for one in documents if not _holds_objects(one)}
    if nameless or timeless:
        bad = np.unique(numbers[[*nameless, *timeless]])
        odd.update((sound[number].place, sound[number]) for number in bad.tolist())
        readings = readings.take(np.flatnonzero(~np.isin(numbers, bad)))
    return readings, {place: _what_is_wrong(one, names) for place, one in odd.items()}


def _holds_objects(document: Document) -> bool:
    """Tell whether every reading of a document is an object, or it is one of columns."""
    items = document.items
    return isinstance(items, dict) or set(map(type, items)) <= {dict}


Cells = Callable[..., list[Any]]
"""Returns the cells of a name over all readings, ``ABSENT`` where there is none."""


def _items_of(documents: Sequence[Document]) -> Cells:
    items = list(chain.from_iterable(one.items for one in documents))

    def cells(name: str, _: object = None) -> list[Any]:
        try:
            return list(map(itemgetter(name), items))
        except KeyError:
            return [item.get(name, ABSENT) for item in items]

    return cells


def _columns_of(documents: Sequence[Document]) -> Cells:
    tables = [(one.items, one.length) for one in documents if isinstance(one.items, dict)]

    def cells(name: str, read: Callable[[Any], object] | None = None) -> list[Any]:
        return list(
            chain.from_iterable(
                _column(table.get(name, ABSENT), length, read) for table, length in tables
            )
        )

    return cells


def _column(cell: Any, length: int, read: Callable[[Any], object] | None) -> Sequence[Any]:
    """Return a column; what is told once for all, so many times."""
    if isinstance(cell, list):
        return cell
    if cell is not ABSENT and read is not None:
        with suppress(UnreadableError):
            cell = read(cell)
    return [cell] * length


def _filled(cells: list[Any], lengths: list[int], defaults: list[Any]) -> list[Any]:
    """Return cells with that of their document where they are absent."""
    kinds = set(map(type, cells))
    if Absent not in kinds:
        return cells
    of_each = _each(lengths, defaults)
    if len(kinds) == 1:
        return of_each
    return [own if cell is ABSENT else cell for cell, own in zip(cells, of_each, strict=True)]


def _read_time(unit: TimeUnit, cell: Any) -> Milliseconds:
    return Milliseconds(time_of_json(cell, unit))


def _time_of(document: Document) -> Milliseconds | Absent:
    """Return the time of a document's readings without one, ``ABSENT`` where the id is no time."""
    if document.stated is not None:
        return Milliseconds(document.stated)
    try:
        return Milliseconds(time_of_id(document.entry_id))
    except BadTimeError:
        return ABSENT


def _what_is_wrong(document: Document, names: Names) -> UnreadableError:
    """Look at a document's readings one by one, and return what is wrong with the first bad one."""
    try:
        for item in _objects(document):
            if not isinstance(item, dict):
                return UnreadableError(f"an item is {shown(item)}, not an object")
            own = names.series in item
            name = name_of_json(item[names.series]) if own else document.series
            if names.time in item:
                time_of_json(item[names.time], names.unit)
            elif document.stated is None:
                time_of_id(document.entry_id)
            checked_name(name)
    except UnreadableError as error:
        return error
    raise AssertionError("nothing is wrong with any reading of a document that was refused")


def _objects(document: Document) -> Iterator[Any]:
    items = document.items
    if isinstance(items, list):
        yield from items
        return
    for place in range(document.length):
        yield {k: v[place] if isinstance(v, list) else v for k, v in items.items()}


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
