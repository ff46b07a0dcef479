r"""InfluxDB's line protocol -> objects as Telegraf has them in JSON; pure.

A line is ``weather,site=a temp=70.5,hum=40i 1709251200000000000``: a name, tags, fields, a time.
Commas, blanks and equal signs in names and tags, and quotes in texts, have a ``\`` before them.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from tidecast.worker.pipeline.cells import UnreadableError, shown

BEGINNING = re.compile(
    rb"\s*+(?:#[^\n]*+\n\s*+)*+(?:[^\s,=\\\"{\[#]|\\.)(?:[^\s,\\]|\\.)*+"
    rb"(?:,(?:[^\s,=\\]|\\.)++=(?:[^\s,=\\]|\\.)++)*+ ++(?:[^\s,=\\\"]|\\.)++=[^\s,]"
)
"""How the first line begins, behind comments. No part matches what the next one begins with, and
none is tried in two ways, so that takes neither time nor memory to speak of."""
LINE = re.compile(rb'#[^\n]*+\s*+|(?:[^"\n\\]++|\\.|"(?:[^"\\]++|\\.)*+"?|\\)*+\s*+', re.DOTALL)
"""A line and the breaks behind it; those between quotes are none."""
PART = r"(?:[^,= \\]|\\.)++"
NAME = re.compile(r"(?:[^, \\]|\\.)++", re.DOTALL)
TAG = re.compile(rf",({PART})=({PART})", re.DOTALL)
FIELD = re.compile(rf'({PART})=("(?:[^"\\]|\\.)*+"|[^ ,"]++)(,|$| )', re.DOTALL)
ESCAPED = re.compile(r"\\([,= \\])")
QUOTED = re.compile(r'\\(["\\])')
BOOLEANS = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}
NUMBER = re.compile(r"[-+]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][-+]?[0-9]{1,9})?")
TIME = re.compile(r"-?[0-9]{1,20}")
WHOLE = re.compile(r"(-?[0-9]{1,20})[iu]")


def is_lines(text: bytes) -> bool:
    """Tell whether a text begins as a line of the protocol does."""
    return BEGINNING.match(text) is not None


def lines_of(text: bytes) -> Iterator[bytes]:
    """Yield the lines of a text but for empty ones and comments."""
    first = 0
    for beyond in line_ends(text):
        line = text[first:beyond].strip(b" \t\r\n")
        first = beyond
        if line and not line.startswith(b"#"):
            yield line


def line_ends(text: bytes) -> Iterator[int]:
    """Yield where the next line begins, or the text ends; a break between quotes is none."""
    return (found.end() for found in LINE.finditer(text) if found.end() > found.start())


def point_of(line: bytes) -> dict[str, Any]:
    """Return a line as ``{"name":..,"tags":{..},"fields":{..},"timestamp":..}``.

    Raises:
        UnreadableError: it is none; the message says from where on.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"line {shown(line)} is not UTF-8") from error
    return _plain_point(text) or _point(text)


def _plain_point(text: str) -> dict[str, Any] | None:
    """Return a line without escapes, quotes and spare blanks; None of any other, or none at all."""
    if "\\" in text or '"' in text:
        return None
    head, *rest = text.split(" ", 3)
    if len(rest) == 2 and not TIME.fullmatch(rest[1]):
        return None
    if not 1 <= len(rest) <= 2:
        return None
    # So no more is made of it than its equal signs say, which were counted before.
    if head.count(",") != head.count("=") or rest[0].count(",") + 1 != rest[0].count("="):
        return None
    name, *others = head.split(",")
    tags = [part.split("=") for part in others]
    fields = [part.split("=") for part in rest[0].split(",")]
    if not (name and all(len(pair) == 2 and all(pair) for pair in chain(tags, fields))):
        return None
    values = {key: _value(said) for key, said in fields}
    if None in values.values():
        return None
    point: dict[str, Any] = {"name": name, "tags": dict(tags), "fields": values}
    if len(rest) == 2:
        point["timestamp"] = int(rest[1])
    return point


def _point(text: str) -> dict[str, Any]:
    found = NAME.match(text)
    if found is None:
        raise _none(text, 0)
    point: dict[str, Any] = {"name": _plain(found[0])}
    place = found.end()
    tags = {}
    while tag := TAG.match(text, place):
        tags[_plain(tag[1])] = _plain(tag[2])
        place = tag.end()
    point["tags"] = tags
    place = _behind_blanks(text, place)
    point["fields"], place = _fields(text, place)
    rest = text[place:].strip()
    if rest:
        if not TIME.fullmatch(rest):
            raise _none(text, place)
        point["timestamp"] = int(rest)
    return point


def _behind_blanks(text: str, place: int) -> int:
    beyond = place
    while text[beyond : beyond + 1] == " ":
        beyond += 1
    if beyond == place:
        raise _none(text, place)
    return beyond


def _fields(text: str, place: int) -> tuple[dict[str, Any], int]:
    """Return the fields that begin at a place, and where they end."""
    fields: dict[str, Any] = {}
    while True:
        found = FIELD.match(text, place)
        if found is None:
            raise _none(text, place)
        value = _value(found[2])
        if value is None:
            raise _none(text, place)
        fields[_plain(found[1])] = value
        place = found.end()
        if found[3] != ",":
            return fields, place


def _value(said: str) -> Any:
    """Return what a field says, None where it is nothing that one may say."""
    if said[0] == '"':
        return QUOTED.sub(r"\1", said[1:-1])
    if NUMBER.fullmatch(said):
        return float(said)
    if found := WHOLE.fullmatch(said):
        return int(found[1])
    return BOOLEANS.get(said)


def _plain(part: str) -> str:
    return ESCAPED.sub(r"\1", part) if "\\" in part else part


def _none(text: str, place: int) -> UnreadableError:
    return UnreadableError(
        f"not line protocol from {shown(text[place : place + 60])} on: NAME,TAG=TEXT FIELD=NUMBER "
        "TIME is wanted"
    )
