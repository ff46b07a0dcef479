"""Where the parts of a reading lie in a JSON object, told by its keys; pure.

Shapes that are known are recognised by keys that nothing else has together; ``docs/entries.md``
lists them. What is found hangs on an object's keys alone and on which of them hold objects, so
objects that are alike in that are read together (``tables.py``).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tidecast.worker.pipeline.cells import UnreadableError
from tidecast.worker.pipeline.naming import Names, Path, find

Object = dict[str, Any]
DEEPEST = 5
"""Envelopes within envelopes, at most."""
WIDEST = 64
"""Keys of envelopes around several readings: each of these is told with all of them."""
LIGHTEST = 100_000
"""Bytes of JSON that may stand as a text in JSON."""
MOST_TOLD = 12
"""Parts of a reading of which the log says where they lie."""
OWNERS = ("device", "sensor")
HOLDERS = ("values", "measurements", "readings", "telemetry")
TIMES = ("timestamp", "time", "ts")
KEY_MARKS = ",="
"""What stands between the parts of a series' key in line protocol."""
TAG_NAMES = ("Tagname", "TagName")
TAG_TIMES = ("Time", "Timestamp", "DateTime")


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the parts of a reading lie.

    ``series`` are the places of its name, filled into ``template``, with a backslash before
    ``marks`` in them; none: that of its document. ``time`` None is likewise. ``long`` are the
    places of the feature's name and of its value. ``lacking`` says what is wrong with the name, and
    ``is_empty`` that there is no reading.
    """

    shape: str
    series: tuple[Path, ...] = ()
    template: str = "%s"
    marks: str = ""
    time: Path | None = None
    values: tuple[tuple[str, Path], ...] = ()
    long: tuple[Path, Path] | None = None
    lacking: str = ""
    is_empty: bool = False

    @property
    def told(self) -> str:
        """Where the parts lie, in words."""
        parts = [("series", path) for path in self.series]
        parts += [("time", self.time)] if self.time is not None else []
        parts += self.values
        if self.long is not None:
            parts += [("feature", self.long[0]), ("value", self.long[1])]
        return ", ".join(f"{part} in {'.'.join(path)}" for part, path in parts[:MOST_TOLD])


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an object of some shape.

    ``inner`` are keys of it that hold what belongs to the reading, the one with the values last;
    ``is_envelope`` says that there may be another shape in that.
    """

    shape: str
    series: tuple[Path, ...] = ()
    template: str = "%s"
    marks: str = ""
    time: Path | None = None
    inner: tuple[str, ...] = ()
    is_envelope: bool = False
    is_empty: bool = False


@dataclass(slots=True)
class _Way:
    """How far an object was looked into: its scopes, outermost first, and what is known of them."""

    scopes: list[tuple[Path, Object]]
    shapes: list[str] = field(default_factory=list)
    series: tuple[Path, ...] = ()
    template: str = "%s"
    marks: str = ""
    time: Path | None = None
    is_empty: bool = False

    @property
    def innermost(self) -> Object:
        """The object that was come to."""
        return self.scopes[-1][1]

    def find(self, name: str) -> Path | None:
        """Return the path to what a name stands for, in the innermost scope that has it."""
        for prefix, scope in reversed(self.scopes):
            path = find(scope, name)
            if path is not None:
                return prefix + path
        return None

    def take(self, known: _Known) -> None:
        """Go into an object of a known shape."""
        prefix, scope = self.scopes[-1]
        self.shapes.append(known.shape)
        if known.series:
            self.series = tuple(prefix + path for path in known.series)
            self.template, self.marks = known.template, known.marks
        if known.time is not None:
            self.time = prefix + known.time
        self.is_empty |= known.is_empty
        self.scopes += [((*prefix, key), scope[key]) for key in known.inner]


def plan_of(item: Object, names: Names) -> Plan:
    """Return where the parts of the reading lie that an object holds."""
    naming, way = names.naming, _Way([((), item)])
    if naming.path and (path := find(item, naming.path)) and type(_at(item, path)) is dict:
        way.scopes.append((path, _at(item, path)))
        way.shapes.append(f"JSON at {naming.path}")
    long = _go(way, names)
    found = [path for name in naming.series if (path := way.find(name)) is not None]
    lacking = ""
    if 0 < len(found) < len(naming.series):
        absent = next(name for name in naming.series if way.find(name) is None)
        lacking = f"no field {absent!r}, which --series-field names beside others"
    if found:
        way.series, way.template = tuple(found), "/".join(["%s"] * len(found))
        way.marks = "/" if len(found) > 1 else ""
    own = (path for name in naming.time if (path := way.find(name)) is not None)
    return Plan(
        ", ".join(way.shapes) or "JSON",
        way.series,
        way.template,
        way.marks,
        next(own, way.time),
        tuple(_values(way, names)),
        long,
        lacking,
        way.is_empty,
    )


def _go(way: _Way, names: Names) -> tuple[Path, Path] | None:
    """Go to where the values are; return the places of feature and value in the long form."""
    naming = names.naming
    for _ in range(DEEPEST):
        scope = way.innermost
        if naming.feature:
            feature, value = way.find(naming.feature), way.find(naming.value)
            if feature is not None and value is not None:
                way.shapes.append("long form")
                return feature, value
        known = historian(scope)
        if known is None and not scope.keys().isdisjoint(names.wanted):
            return None
        known = known or _first(scope, KNOWN)
        if known is None and not any(find(scope, name) for name in names.wanted):
            known = _first(scope, ENVELOPES) or _wrapper(scope, names)
        if known is None:
            return None
        way.take(known)
        if not known.is_envelope:
            return None
    return None


def _values(way: _Way, names: Names) -> Iterator[tuple[str, Path]]:
    for feature, sources in names.sources.items():
        places = (path for name in sources if (path := way.find(name)) is not None)
        place = next(places, None)
        if place is not None:
            yield feature, place


def _at(item: Any, path: Path) -> Any:
    for key in path:
        item = item[key]
    return item


# The shapes themselves


def telegraf(scope: Object) -> _Known | None:
    """``{"name":..,"tags":{..},"fields":{..},"timestamp":..}``; name and tags make the series."""
    tags = scope.get("tags", {})
    if not ("name" in scope and type(scope.get("fields")) is dict and type(tags) is dict):
        return None
    keys = sorted(tags)
    shown = "".join(f",{escaped(key, KEY_MARKS).replace('%', '%%')}=%s" for key in keys)
    return _Known(
        "Telegraf's JSON",
        (("name",), *(("tags", key) for key in keys)),
        f"%s{shown}",
        KEY_MARKS,
        ("timestamp",) if "timestamp" in scope else None,
        ("tags", "fields") if "tags" in scope else ("fields",),
    )


def owned(scope: Object) -> _Known | None:
    """``{"device":{"id":..},"values":{..}}``."""
    holder = next((key for key in HOLDERS if type(scope.get(key)) is dict), None)
    if holder is None:
        return None
    owner = next((key for key in OWNERS if key in scope), None)
    series: tuple[Path, ...] = ()
    if owner is not None and type(scope[owner]) is dict:
        series = tuple((owner, key) for key in ("id", "name") if key in scope[owner])[:1]
    elif owner is not None:
        series = ((owner,),)
    time = next(((key,) for key in TIMES if key in scope), None)
    shape = f"{owner} and {holder}" if owner else holder
    return _Known(shape, series, time=time, inner=(holder,))


def historian(scope: Object) -> _Known | None:
    """``{"Tagname":..,"Time":..,"value":..}``, as historians write it."""
    name = next((key for key in TAG_NAMES if key in scope), None)
    time = next((key for key in TAG_TIMES if key in scope), None)
    if name is None or time is None:
        return None
    return _Known(f"{name} and {time}", ((name,),), time=(time,))


def cloudevents(scope: Object) -> _Known | None:
    """``{"specversion":"1.0",..,"data":{..}}``."""
    if "specversion" not in scope or type(scope.get("data")) is not dict:
        return None
    series = next(((key,) for key in ("subject", "source") if key in scope), None)
    time = ("time",) if "time" in scope else None
    return _Known(
        "CloudEvents", (series,) if series else (), time=time, inner=("data",), is_envelope=True
    )


def debezium(scope: Object) -> _Known | None:
    """``{"before":..,"after":{..},"source":{..},"op":"c","ts_ms":..}``."""
    if "after" not in scope or scope.keys().isdisjoint(("before", "op", "source")):
        return None
    if type(scope["after"]) is not dict:
        is_deletion = "op" in scope and "before" in scope
        return _Known("Debezium", is_empty=True) if is_deletion else None
    source = scope.get("source")
    time: Path | None = ("ts_ms",) if "ts_ms" in scope else None
    if type(source) is dict and "ts_ms" in source:
        time = ("source", "ts_ms")
    return _Known("Debezium", time=time, inner=("after",), is_envelope=True)


def _wrapper(scope: Object, names: Names) -> _Known | None:
    """An object in a field that may hold a document, if there is one alone."""
    held = [key for key in names.payloads if type(scope.get(key)) is dict]
    if len(held) != 1:
        return None
    return _Known(f"JSON in {held[0]}", inner=(held[0],), is_envelope=True)


Shape = Callable[[Object], _Known | None]
KNOWN: tuple[Shape, ...] = (telegraf, owned)
ENVELOPES: tuple[Shape, ...] = (cloudevents, debezium)


def _first(scope: Object, shapes: tuple[Shape, ...]) -> _Known | None:
    return next((known for shape in shapes if (known := shape(scope)) is not None), None)


def escaped(part: str, marks: str) -> str:
    r"""Return a part of a name with ``\`` before what stands between parts."""
    for mark in "\\" + marks:
        part = part.replace(mark, "\\" + mark)
    return part


# Envelopes around several readings


def unfolded(found: Object, names: Names) -> Object | list[Any]:
    """Return the objects that an envelope holds, each in an envelope of its own; else itself.

    JSON that stands in an envelope as text is parsed.

    Raises:
        UnreadableError: the envelope is too wide to be told with each of its readings.
    """
    path: Path = ()
    scope = found
    if names.naming.path and (told := find(found, names.naming.path)) is not None:
        inner = _at(found, told)
        if type(inner) is list:
            return _spread(found, told)
        if type(inner) is dict:
            path, scope = told, inner
    for _ in range(DEEPEST):
        if not scope.keys().isdisjoint(names.wanted):
            break
        if type(scope.get("metrics")) is list:
            return _spread(scope, ("metrics",), alone=True)
        key = _held_in(scope, names)
        if key is None:
            break
        path = (*path, key)
        inner = scope[key]
        if type(inner) is str:
            inner = _parsed(inner)
            found = _changed(found, path, inner)
        if type(inner) is not dict:
            return _spread(found, path) if type(inner) is list else found
        scope = inner
    return found


def _held_in(scope: Object, names: Names) -> str | None:
    """Return the key of an envelope that holds what is in it, None where that is not clear."""
    held = [key for key in names.payloads if _holds_more(scope.get(key))]
    if len(held) > 1 and "specversion" in scope and "data" in held:
        return "data"
    return held[0] if len(held) == 1 else None


def _parsed(text: str) -> Any:
    """Return the JSON that stands in a text, the text where it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _holds_more(cell: Any) -> bool:
    if type(cell) is str:
        return len(cell) <= LIGHTEST and cell[:1] in ("{", "[")
    return type(cell) is dict or type(cell) is list


def _spread(found: Object, path: Path, *, alone: bool = False) -> Object | list[Any]:
    """Return the envelope once for each object in its list; itself where that holds others."""
    items = _at(found, path)
    if not set(map(type, items)) <= {dict}:
        return found
    if alone:
        return list(items)
    keys, scope = 0, found
    for key in path:
        keys += len(scope)
        scope = scope[key]
    if keys > WIDEST:
        raise UnreadableError(
            f"readings in an envelope of {keys} fields; {WIDEST} are allowed around several: send "
            "each reading in an entry of its own"
        )
    return [_changed(found, path, item) for item in items]


def _changed(found: Object, path: Path, item: Any) -> Object:
    """Return an object with another value at a path."""
    first, *rest = path
    inner = _changed(found[first], tuple(rest), item) if rest else item
    return {**found, first: inner}


def leaves(item: Mapping[str, Any], most: int) -> Iterator[tuple[str, Any]]:
    """Yield the values of an object with the names that lead to them, so many at most."""
    left = most
    waiting: list[tuple[str, Mapping[str, Any], int]] = [("", item, 0)]
    while waiting:
        prefix, scope, depth = waiting.pop()
        for key, cell in scope.items():
            if left == 0:
                return
            left -= 1
            if type(cell) is dict and depth < DEEPEST:
                waiting.insert(0, (f"{prefix}{key}.", cell, depth + 1))
            else:
                yield prefix + key, cell
