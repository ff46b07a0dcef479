"""JSON documents of entries -> readings in columns; pure.

A document is objects, or columns in one object. Those of many entries are decoded together. What a
document says never hangs on its neighbours, and one that holds a reading whose series or time
cannot be read is refused whole.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.bodies import Body, Items, bound, parsed
from tidecast.worker.pipeline.cells import (
    ABSENT,
    Absent,
    BadSeriesError,
    BadTimeError,
    Milliseconds,
    UnreadableError,
    checked_name,
    codes_in,
    name_of_json,
    names_in_json,
    numbers_in_json,
    shown,
    time_of_id,
    time_of_json,
    times_in_json,
)
from tidecast.worker.pipeline.epoch import TimeUnit
from tidecast.worker.pipeline.naming import Names
from tidecast.worker.pipeline.readings import Readings, joined
from tidecast.worker.pipeline.suggest import remedy_of
from tidecast.worker.pipeline.tables import Cells, Table, names_of, table_of
from tidecast.worker.pipeline.wire import Pulse

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Document:
    """What one entry holds: objects, or columns in one dictionary.

    ``length`` is how many readings that is; ``series`` (or why there is none) and ``stated`` (None:
    the entry id's) are name and time of those that have none of their own.
    """

    place: int
    entry_id: bytes
    series: bytes | BadSeriesError
    stated: int | None
    items: Items
    length: int


@dataclass(slots=True)
class Decoded:
    """Readings of documents, and what is wrong with those that are refused, by their places.

    ``shapes`` and ``ignored`` as in ``Table``.
    """

    readings: Readings
    refused: dict[int, UnreadableError]
    shapes: dict[str, str]
    ignored: dict[str, None]
    dropped: list[int] = field(default_factory=list)


def decode_sliced(
    body: Body,
    slices: Sequence[tuple[int, int]],
    like: Document,
    names: Names,
    most: int,
    pulse: Pulse,
) -> Decoded:
    """Return the readings of many objects, parsed a slice at a time.

    Args:
        body: what holds them.
        slices: where they lie.
        like: the document, but for its items.
        names: what to look for.
        most: how many readings there may be.
        pulse: called after each slice.

    Raises:
        UnreadableError: a slice cannot be parsed or would take too much memory, or a reading cannot
            be read.
    """
    parts, shapes, ignored, length = [], dict[str, str](), dict[str, None](), 0

    # What was said is parsed again where it is asked for: kept, it would take all that memory. As
    # many readings of a slice may be asked for in a row, the last slice is remembered.
    slice_of = lru_cache(maxsize=1)(partial(parsed, body))

    def again(first: int, beyond: int, said: Ints, reading: int) -> Any:
        return slice_of(first, beyond)[said[reading]]

    for first, beyond in slices:
        items = parsed(body, first, beyond)
        length += len(items)
        bound(length, most)
        found = decode_documents([replace(like, items=items, length=len(items))], names)
        if found.refused:
            raise found.refused[like.place]
        shapes = found.shapes | shapes
        ignored |= found.ignored
        kept = np.delete(np.arange(len(items)), found.dropped)
        parts.append(replace(found.readings, said=partial(again, first, beyond, kept)))
        pulse()
    return Decoded(joined(parts), {}, shapes, ignored)


def decode_documents(documents: Sequence[Document], names: Names) -> Decoded:
    """Return the readings of documents, which all hold objects or all hold columns."""
    sound = [one for one in documents if _holds_objects(one)]
    lengths = [one.length for one in sound]
    if sound and isinstance(sound[0].items, dict):
        table = _table_of_columns(sound, names)
    else:
        objects: list[Any] = list(chain.from_iterable(one.items for one in sound))
        table = table_of(objects, names)
    columns, faults = {}, {}
    for name, cells in table.features.items():
        if cells and cells[0] is ABSENT and set(map(type, cells)) == {Absent}:
            continue
        codes = names.codes.get(name)
        columns[name], wrong = numbers_in_json(cells) if codes is None else codes_in(cells, codes)
        if wrong:
            faults.update({(reading, name): fault for reading, fault in wrong.items()})
    table.series = _filled(table.series, lengths, [one.series for one in sound])
    table.times = _filled(table.times, lengths, [_time_of(one) for one in sound])
    series, nameless = names_in_json(table.series)
    times, timeless = times_in_json(table.times, names.unit)
    numbers = np.repeat(np.arange(len(sound)), lengths)
    readings = Readings(
        np.array([one.place for one in sound], np.int64)[numbers],
        _each(lengths, [one.entry_id for one in sound]),
        series,
        times,
        columns,
        _sayings(sound, lengths),
        faults,
        None,
        partial(remedy_of, names),
    )
    refused = {one.place: _no_object(one) for one in documents if not _holds_objects(one)}
    if nameless or timeless or table.dropped:
        dropped = set(table.dropped)
        bad = {int(numbers[place]) for place in (*nameless, *timeless) if place not in dropped}
        firsts = list(accumulate(lengths, initial=0))
        for number in bad:
            mine = (i for i in range(*firsts[number : number + 2]) if i not in dropped)
            refused[sound[number].place] = _what_is_wrong(sound[number], table, mine, names)
        out = np.isin(numbers, list(bad))
        out[table.dropped] = True
        readings = readings.take(np.flatnonzero(~out))
    return Decoded(readings, refused, table.shapes, table.ignored, table.dropped)


def _holds_objects(document: Document) -> bool:
    """Tell whether every reading of a document is an object, or it is one of columns."""
    items = document.items
    return isinstance(items, dict) or set(map(type, items)) <= {dict}


def _table_of_columns(documents: Sequence[Document], names: Names) -> Table:
    """Return the cells of documents of columns."""
    tables = [(one.items, one.length) for one in documents if isinstance(one.items, dict)]

    def cells(some: Sequence[str], read: Callable[[Any], object] | None = None) -> Cells:
        """Return the cells of the first name of some that each document has."""
        columns = (
            _column(next((table[k] for k in some if k in table), ABSENT), length, read)
            for table, length in tables
        )
        return list(chain.from_iterable(columns))

    naming = names.naming
    series = [cells([name], name_of_json) for name in naming.series]
    return Table(
        {feature: cells(sources) for feature, sources in names.sources.items()},
        series[0] if len(series) == 1 else _joined_series(series),
        cells(naming.time, partial(_read_time, names.unit)),
    )


def _joined_series(columns: list[Cells]) -> Cells:
    """Return names of several columns; ``ABSENT`` where all cells are."""
    template = "/".join(["%s"] * len(columns))
    texts = [[c.decode() if isinstance(c, bytes) else c for c in column] for column in columns]
    nothing = (ABSENT,) * len(columns)
    rows = zip(names_of(texts, template, "/"), zip(*texts, strict=True), strict=True)
    return [ABSENT if row == nothing else name for name, row in rows]


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


def _no_object(document: Document) -> UnreadableError:
    """Say which item of a document is no object."""
    item = next(item for item in document.items if not isinstance(item, dict))
    return UnreadableError(f"an item is {shown(item)}, not an object")


def _what_is_wrong(
    document: Document, table: Table, places: Iterable[int], names: Names
) -> UnreadableError:
    """Look at a document's readings one by one, and return what is wrong with the first bad one."""
    try:
        for place in places:
            said, time = table.series[place], table.times[place]
            name = said if isinstance(said, bytes) else name_of_json(said)
            if time is ABSENT:
                time_of_id(document.entry_id)
            time_of_json(time, names.unit)
            checked_name(name)
    except UnreadableError as error:
        return error
    raise AssertionError("nothing is wrong with any reading of a document that was refused")


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
