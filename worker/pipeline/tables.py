"""JSON objects -> columns of cells; pure.

Objects that are called as the worker was told are read by their keys. Of the others those that have
the same keys are read together, by a plan of where things lie (``shapes.py``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from tidecast.worker.pipeline.cells import ABSENT, BadSeriesError, UnreadableError, name_of_json
from tidecast.worker.pipeline.naming import Names, Path
from tidecast.worker.pipeline.shapes import TAG_NAMES, Object, Plan, escaped, historian, plan_of

Cells = list[Any]
DEPTH = 6
"""How deep the keys of objects are compared."""
MOST_IGNORED = 5


@dataclass(slots=True)
class Table:
    """Cells of readings ``[k]``, ``ABSENT`` where there is none.

    ``dropped`` are the places of those that are no readings, ``shapes`` names what was recognised,
    and says where its parts lie; ``ignored`` are some features that nobody wants.
    """

    features: dict[str, Cells]
    series: Cells
    times: Cells
    dropped: list[int] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, None] = field(default_factory=dict)


def table_of(items: Sequence[Object], names: Names) -> Table:
    """Return the cells of objects."""
    naming = names.naming
    if naming.is_plain:
        columns = {name: _column(items, name) for name in names.features}
        features = {name: cells for name, (cells, _) in columns.items()}
        is_whole = any(whole for _, whole in columns.values())
        odd = [] if is_whole else _bare(features, len(items))
    else:
        features = {name: [ABSENT] * len(items) for name in names.features}
        odd = list(range(len(items)))
    if len(odd) < len(items):
        series, times = _column(items, naming.series[0]), _column(items, naming.time[0])
        table = Table(features, series[0], times[0])
        if not series[1] and not times[1]:
            odd = sorted({*odd, *_of_historians(table, items)})
    else:
        table = Table(features, [ABSENT] * len(items), [ABSENT] * len(items))
    for numbers, some in _alike(items, odd):
        _put(table, plan_of(some[0], names), numbers, some, names)
    return table


def _column(items: Sequence[Object], name: str) -> tuple[Cells, bool]:
    """Return the cells of a key, and whether all objects have it."""
    try:
        return list(map(itemgetter(name), items)), True
    except KeyError:
        return [item.get(name, ABSENT) for item in items], False


def _bare(features: dict[str, Cells], count: int) -> list[int]:
    """Return the places of objects that have no feature."""
    bare = list(range(count))
    for cells in features.values():
        bare = [place for place in bare if cells[place] is ABSENT]
    return bare


def _of_historians(table: Table, items: Sequence[Object]) -> Iterator[int]:
    """Yield the places of objects that name neither series nor time but as historians do."""
    # Of most streams none has such a name: only those that have one are looked at.
    disjoint = frozenset(TAG_NAMES).isdisjoint
    for place in [place for place, item in enumerate(items) if not disjoint(item)]:
        nameless = table.series[place] is ABSENT and table.times[place] is ABSENT
        if nameless and historian(items[place]) is not None:
            yield place


def _alike(
    items: Sequence[Object], places: Sequence[int]
) -> Iterator[tuple[Sequence[int], Sequence[Object]]]:
    """Yield objects that have the same keys, with their places."""
    if not places:
        return
    some = items if len(places) == len(items) else [items[place] for place in places]
    if _are_alike(some):
        yield places, some
        return
    kinds: dict[Any, list[int]] = {}
    for number, kind in enumerate(map(_skeleton, some)):
        kinds.setdefault(kind, []).append(number)
    for numbers in kinds.values():
        yield [places[number] for number in numbers], [some[number] for number in numbers]


def _are_alike(items: Sequence[Object], depth: int = DEPTH) -> bool:
    """Tell whether all objects have the same keys, and so do those in them."""
    keys = list(map(tuple, items))
    if keys.count(keys[0]) < len(keys):
        return False
    for key in keys[0]:
        column = list(map(itemgetter(key), items))
        kinds = set(map(type, column))
        if dict not in kinds or not depth:
            continue
        if len(kinds) > 1 or not _are_alike(column, depth - 1):
            return False
    return True


def _skeleton(item: Object, depth: int = DEPTH) -> tuple[Any, ...]:
    """Return an object's keys, with those of the objects in it."""
    return tuple(
        [
            (key, _skeleton(cell, depth - 1)) if type(cell) is dict and depth else key
            for key, cell in item.items()
        ]
    )


def _put(
    table: Table, plan: Plan, places: Sequence[int], items: Sequence[Object], names: Names
) -> None:
    """Put the cells of objects that are alike into a table, at their places."""
    if plan.shape != "JSON":
        table.shapes.setdefault(plan.shape, plan.told)
    if plan.is_empty:
        table.dropped += places
        return
    if plan.lacking:
        _fill(table.series, places, [BadSeriesError(plan.lacking)] * len(places))
    elif plan.series:
        _fill(table.series, places, _names(plan, items))
    if plan.time is not None:
        _fill(table.times, places, _walk(items, plan.time))
    if plan.long is not None:
        _put_long(table, plan.long, places, items, names)
        return
    for feature, path in plan.values:
        _fill(table.features[feature], places, _walk(items, path))


def _put_long(
    table: Table,
    long: tuple[Path, Path],
    places: Sequence[int],
    items: Sequence[Object],
    names: Names,
) -> None:
    """Put values where their features say; readings of features that nobody wants are dropped."""
    told = zip(places, _walk(items, long[0]), _walk(items, long[1]), strict=True)
    for place, feature, value in told:
        wanted = names.wanted.get(feature) if isinstance(feature, str) else None
        if wanted is not None:
            table.features[wanted][place] = value
        elif isinstance(feature, str):
            table.dropped.append(place)
            if len(table.ignored) < MOST_IGNORED:
                table.ignored[feature] = None


def _walk(items: Sequence[Object], path: Path) -> Cells:
    """Return what lies at a path of each object."""
    cells: Cells = list(items)
    for key in path:
        cells = list(map(itemgetter(key), cells))
    return cells


def _fill(cells: Cells, places: Sequence[int], new: Cells) -> None:
    if len(places) == len(cells):
        cells[:] = new
        return
    for place, cell in zip(places, new, strict=True):
        cells[place] = cell


def _names(plan: Plan, items: Sequence[Object]) -> Cells:
    """Return the series' names of objects; what makes none in place of such a name."""
    columns = [_walk(items, path) for path in plan.series]
    return names_of(columns, plan.template, plan.marks)


def names_of(columns: Sequence[Cells], template: str, marks: str) -> Cells:
    """Return names made of the cells of several columns."""
    if not marks:
        return columns[0]
    texts = [_texts(column, marks) for column in columns]
    if all(whole for _, whole in texts):
        return list(map(template.__mod__, zip(*(column for column, _ in texts), strict=True)))
    rows = zip(*(column for column, _ in texts), strict=True)
    return [
        next((part for part in row if type(part) is not str), None) or template % row
        for row in rows
    ]


def _texts(column: Cells, marks: str) -> tuple[Cells, bool]:
    """Return parts of names as texts, and as an error what is none; and whether all are texts."""
    if set(map(type, column)) == {str}:
        together = "".join(column)
        if not any(mark in together for mark in ("\\", *marks)):
            return column, True
    cells = [_text(cell, marks) for cell in column]
    return cells, set(map(type, cells)) == {str}


def _text(cell: Any, marks: str) -> Any:
    try:
        return escaped(name_of_json(cell).decode("utf-8", "surrogatepass"), marks)
    except UnreadableError as error:
        return error
