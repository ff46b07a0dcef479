"""What the fields of an entry look like, where they are not called as a worker was told; pure.

Nothing here decides how an entry is read: this is for people, who read a letter, a warning or what
``check`` says, and for the options that would mend it.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from tidecast.worker.pipeline.bodies import LIGHT, body_of, read
from tidecast.worker.pipeline.cells import (
    UnreadableError,
    number_of,
    shown,
    time_of_json,
    time_of_text,
)
from tidecast.worker.pipeline.epoch import FIRST_SECOND
from tidecast.worker.pipeline.naming import Names
from tidecast.worker.pipeline.shapes import leaves, plan_of
from tidecast.worker.pipeline.wire import ADDRESSEE, HISTORY

MOST_NAMED = 12
"""Fields of an entry that are named."""
MOST_SEEN = 200
"""Values of an entry that are looked at."""
LONGEST_LIKE = 128
"""Characters of what may be a series' name."""
SERIES_LIKE = (
    "series", "sensor", "sensorid", "device", "deviceid", "tagname", "tag", "entityid", "itemid",
    "uniqueid", "machine", "asset", "station", "meter", "channel", "node", "host", "source",
    "location", "site", "name", "id", "key",
)  # fmt: skip
TIME_LIKE = (
    "ts", "timestamp", "time", "datetime", "date", "ds", "eventtime", "createdat", "tsms", "at",
    "when", "epoch", "t",
)  # fmt: skip
FEATURE_LIKE = ("metric", "feature", "measurement", "field", "variable", "parameter", "type")
VALUE_LIKE = ("value", "val", "v", "reading", "measurement", "state")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What an entry has, and what of it looks like parts of a reading.

    ``fields`` are the names that are there, paths with dots where JSON is nested, ``MOST_NAMED`` at
    most. ``series``, ``time`` and ``payload`` are names of fields that look like those, "" where
    none does or the worker finds one by itself; ``values`` names a field for each feature that is
    not there by its own name; ``long`` are the fields of feature and value of the long form.
    ``names_series`` and ``names_time`` tell whether it names them in a way that is read.
    """

    fields: tuple[str, ...]
    series: str = ""
    time: str = ""
    payload: str = ""
    values: dict[str, str] = field(default_factory=dict)
    long: tuple[str, str] | None = None
    names_series: bool = False
    names_time: bool = False

    @property
    def options(self) -> str:
        """The options that would read the entry, as one would type them; "" if there are none."""
        words = []
        for option, name in (
            ("--payload-field", self.payload),
            ("--series-field", self.series),
            ("--time-field", self.time),
        ):
            words += [option, name] if name else []
        if self.long:
            words += ["--feature-field", self.long[0], "--value-field", self.long[1]]
        for feature, name in self.values.items():
            words += ["--value", f"{feature}={name}"]
        return shlex.join(words)

    def __str__(self) -> str:
        """Say in words which fields there are, and which options would read them."""
        said = ", ".join(map(shown, self.fields)) or "no fields"
        return f"there are {said}" + (f": {self.options}" if self.options else "")


def suggest(fields: Sequence[bytes], names: Names) -> Suggestion:
    """Return what an entry has, and what of it looks like parts of a reading.

    Args:
        fields: the entry's fields and values in turn.
        names: what a worker looks for.
    """
    flat = dict(zip(fields[::2], fields[1::2], strict=False))
    texts = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for name, value in flat.items()
        if name not in (ADDRESSEE, HISTORY)
    }
    present = {name for name in texts if name in names.wanted}
    # As the decoder does, though it knows no other fields than these.
    for name in sorted(
        flat, key=lambda name: name.decode("utf-8", "replace") not in names.payloads
    ):
        told = name.decode("utf-8", "replace")
        item = _item_of(flat[name], names) if present <= {told} else None
        if item is not None:
            return _in_document(told, item, texts, names)
    there = {names.wanted[name] for name in present}
    if names.naming.feature in texts and names.naming.value in texts:
        there = set(names.features)
    cells = dict(islice(texts.items(), MOST_SEEN))
    return _suggestion(cells, _named(texts, names), names, there)


def remedy_of(names: Names, said: Any) -> str:
    """Say in words what a reading without any feature has instead, and what would read it."""
    if isinstance(said, list):
        return f"; {suggest(said, names)}"
    if isinstance(said, tuple):
        document, place = said
        said = {k: v[place] if isinstance(v, list) else v for k, v in document.items()}
    return f"; {_of_item(said, names)}"


def _item_of(value: bytes, names: Names) -> dict[str, Any] | None:
    """Return the first object in a field, None where it holds none."""
    body = body_of(value) if len(value) <= LIGHT else None
    if body is None:
        return None
    try:
        items = read(body, names).items
    except UnreadableError:
        return None
    if isinstance(items, dict):
        return {k: v[0] if isinstance(v, list) and v else v for k, v in items.items()}
    return items[0] if items and isinstance(items[0], dict) else None


def _in_document(
    name: str, item: dict[str, Any], around: Mapping[str, str], names: Names
) -> Suggestion:
    """Return a suggestion for an object in a field, beside which there are others."""
    found = _of_item(item, names)
    outer = _named(around, names)
    return replace(
        found,
        payload="" if name in names.payloads or name[:1] == "{" else name,
        series="" if outer[0] else found.series,
        time="" if outer[1] else found.time,
        names_series=found.names_series or outer[0],
        names_time=found.names_time or outer[1],
    )


def _of_item(item: dict[str, Any], names: Names) -> Suggestion:
    plan = plan_of(item, names)
    there = {feature for feature, _ in plan.values}
    if plan.long is not None:
        there = set(names.features)
    return _suggestion(
        dict(leaves(item, MOST_SEEN)), (bool(plan.series), plan.time is not None), names, there
    )


def _named(texts: Mapping[str, Any], names: Names) -> tuple[bool, bool]:
    """Tell whether flat fields name a series, and a time."""
    naming = names.naming
    return all(name in texts for name in naming.series), any(n in texts for n in naming.time)


def _suggestion(
    cells: Mapping[str, Any], named: tuple[bool, bool], names: Names, there: set[str]
) -> Suggestion:
    """Return a suggestion for cells by their names, of which some features are ``there``."""
    taken = {name for name in cells if name in names.known}
    time = "" if named[1] else _like(cells, TIME_LIKE, taken, _is_time)
    taken.add(time)
    lacking = [feature for feature in names.features if feature not in there][:MOST_NAMED]
    long = None if there or names.naming.feature else _long(cells, taken, names)
    taken |= set(long or ())
    values = {} if long else _values(cells, taken, lacking)
    taken |= set(values.values())
    if not (values or long or there) and len(names.features) == 1:
        numbers = _numbers(cells, taken)
        values = {names.features[0]: numbers[0]} if len(numbers) == 1 else {}
        taken |= set(values.values())
    series = "" if named[0] else _like(cells, SERIES_LIKE, taken, _is_name)
    return Suggestion(
        tuple(cells)[:MOST_NAMED],
        series,
        time,
        values=values,
        long=long,
        names_series=named[0],
        names_time=named[1],
    )


def _like(cells: Mapping[str, Any], usual: Sequence[str], taken: set[str], fits: Any) -> str:
    """Return the field that is called most like one of some usual names, "" where none is."""
    plain = {
        name: (_plain(name), _plain(name.rpartition(".")[2]))
        for name in cells
        if len(name) <= LONGEST_LIKE
    }
    for like in usual:
        for name, spellings in plain.items():
            if like in spellings and name not in taken and fits(cells[name]):
                return name
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_time(cell: Any) -> bool:
    """Tell whether a cell is a time that is no small number, as a value may be."""
    try:
        time = time_of_text(cell.encode()) if isinstance(cell, str) else time_of_json(cell)
    except (UnreadableError, UnicodeEncodeError):
        return False
    return time >= FIRST_SECOND


def _is_name(cell: Any) -> bool:
    return (isinstance(cell, str) and 0 < len(cell) <= LONGEST_LIKE) or type(cell) is int


def _is_number(cell: Any) -> bool:
    return not number_of(cell)[1]


def _long(cells: Mapping[str, Any], taken: set[str], names: Names) -> tuple[str, str] | None:
    """Return the fields of feature and value, where one has the name of a wanted feature."""
    feature = _like(cells, FEATURE_LIKE, taken, lambda cell: cell in names.wanted)
    if not feature:
        return None
    value = _like(cells, VALUE_LIKE, {*taken, feature}, _is_number)
    return (feature, value) if value else None


def _values(cells: Mapping[str, Any], taken: set[str], features: Sequence[str]) -> dict[str, str]:
    """Return the field with a number whose name is most like that of each feature."""
    numbers, found = _numbers(cells, taken), {}
    for feature in features:
        wanted = _plain(feature)
        alike = [name for name in numbers if _alike(_plain(name.rpartition(".")[2]), wanted)]
        if alike:
            found[feature] = min(alike, key=len)
            numbers.remove(found[feature])
    return found


def _numbers(cells: Mapping[str, Any], taken: set[str]) -> list[str]:
    return [
        name
        for name, cell in cells.items()
        if name not in taken and len(name) <= LONGEST_LIKE and _is_number(cell)
    ]


def _alike(name: str, feature: str) -> bool:
    short, long = sorted((name, feature), key=len)
    return len(short) > 1 and long.startswith(short)
