"""Bytes of an entry's field -> JSON objects, or columns in one object; pure.

A body is JSON, JSON lines, lines of InfluxDB's protocol or MessagePack, and may lie in FastStream's
binary envelope.

Bodies are parsed in bounded memory: as JSON, three bytes may make an object of seventy. How much a
large one would make is counted first (``outline.py``); many objects are then parsed a slice at a
time, and what would still take many times its bytes is refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import ormsgpack

from tidecast.worker.pipeline.cells import UnreadableError, shown
from tidecast.worker.pipeline.line_protocol import is_lines, line_ends, lines_of, point_of
from tidecast.worker.pipeline.naming import Names
from tidecast.worker.pipeline.outline import Outline, memory_at_most, outline
from tidecast.worker.pipeline.shapes import unfolded

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
BETWEEN_LINES = re.compile(rb"\s*\n\s*")
FASTSTREAM = b"\x89BIN\r\n\x1a\n"
FASTSTREAM_HEAD = 20
"""Bytes before the headers of its envelope, of which the last but six to last but two say where the
body begins."""
LIGHT_LINES = 50_000
"""Bytes of lines that are parsed at once; four may make a text and a number."""
A_POINT, A_FIELD = 600, 240
"""Bytes that Python takes for a line of the protocol, and for a tag or field of it."""
PACKED = frozenset(bytes([first]) for first in (*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))
"""How MessagePack begins that holds an array or a map."""
A_PACKED_VALUE, A_PACKED_CONTAINER = 26, 120
"""Bytes that Python takes for each byte of MessagePack, and for each that may begin a container."""
LIGHT_PACKED = MOST_OF_LIGHT // (A_PACKED_VALUE + A_PACKED_CONTAINER)
"""Bytes of MessagePack that are unpacked whatever they hold."""


@dataclass(frozen=True, slots=True)
class Body:
    """What one field holds: text, of which ``form`` says how it is written, in what ``envelope``.

    ``form`` is ``JSON``, ``line protocol`` or ``MessagePack``.
    """

    text: bytes
    form: str = "JSON"
    envelope: str = ""

    @property
    def told(self) -> str:
        """How it is written, in words; "" for plain JSON."""
        form = "" if self.form == "JSON" else self.form
        return ", ".join(filter(None, (self.envelope, form)))


def may_hold_bodies(cells: list[bytes]) -> bool:
    """Tell whether one of many cells may be a body, without looking at each."""
    together = b"".join(cells)
    return b"{" in together or b"[" in together or b"=" in together or not together.isascii()


def body_of(cell: bytes) -> Body | None:
    """Return the body in a cell, None where it holds none."""
    first = cell[:1]
    if first in (b"{", b"["):
        return Body(cell)
    if cell.startswith(FASTSTREAM):
        begins = int.from_bytes(cell[FASTSTREAM_HEAD - 6 : FASTSTREAM_HEAD - 2], "big")
        inner = body_of(cell[max(begins, FASTSTREAM_HEAD) :])
        if inner is None or inner.envelope:
            return None
        return Body(inner.text, inner.form, "FastStream's envelope")
    if first in PACKED and not _is_letter(cell):
        return Body(cell, "MessagePack")
    return Body(cell, "line protocol") if is_lines(cell) else None


def _is_letter(cell: bytes) -> bool:
    """Tell whether bytes begin with a letter of two bytes in UTF-8, as MessagePack may."""
    return cell[0] >= 0xDC and 0x80 <= (cell[1] if len(cell) > 1 else 0) < 0xC0


@dataclass(slots=True)
class Read:
    """What a body holds: ``length`` readings in ``items``, or the ``slices`` it is to be read in.

    ``body`` is what these are slices of.
    """

    body: Body
    items: Items
    length: int
    slices: list[tuple[int, int]] | None = None


def read(body: Body, names: Names, most: int = MOST_READINGS) -> Read:
    """Return what a body holds.

    Raises:
        UnreadableError: it is not what it seems, or holds too much.
    """
    if body.form == "JSON" and len(body.text) > LIGHT:
        body = json_lines(body) or body
    slices = slices_of(body, most)
    if slices is not None:
        return Read(body, [], 0, slices)
    if body.form == "JSON":
        try:
            return Read(body, *contents(body.text, names, most))
        except NotJsonError:
            lines = json_lines(body)
            if lines is None:
                raise
            return read(lines, names, most)
    if body.form == "MessagePack":
        return Read(body, *contents_of(unpacked(body.text), names, most))
    points = parsed(body, 0, len(body.text))
    bound(len(points), most)
    return Read(body, points, len(points))


class NotJsonError(UnreadableError):
    """A text is no JSON."""


def json_lines(body: Body) -> Body | None:
    """Return objects of a line each as an array, None where the text holds no two such lines."""
    text = body.text.strip()
    first, _, rest = text.partition(b"\n")
    if not (first.rstrip().endswith(b"}") and rest.lstrip()[:1] == b"{"):
        return None
    told = ", ".join(filter(None, (body.envelope, "JSON lines")))
    if len(text) <= LIGHT:
        return Body(b"[%b]" % BETWEEN_LINES.sub(b",", text), envelope=told)
    # The pattern would make a text of each line; this makes one after the other of all.
    text = text.replace(b"\r\n", b"\n")
    while b"\n\n" in text:
        text = text.replace(b"\n\n", b"\n")
    return Body(b"[%b]" % text.replace(b"\n", b","), envelope=told)


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
        raise NotJsonError(f"not JSON: {error}") from error
    return contents_of(found, names, most)


def contents_of(found: Any, names: Names, most: int) -> tuple[Items, int]:
    """Return what was parsed as objects or as columns, and how many readings that is.

    Raises:
        UnreadableError: columns are of unequal length, or it holds too many readings.
    """
    if isinstance(found, list):
        bound(len(found), most)
        return found, len(found)
    is_plain = False
    for name in names.wanted:
        if name in found:
            is_plain = True
            if isinstance(found[name], list):
                return _columns(found, names, most)
    if not is_plain and (names.naming.path or not found.keys().isdisjoint(names.envelopes)):
        found = unfolded(found, names)
        if isinstance(found, list):
            bound(len(found), most)
            return found, len(found)
    return [found], 1


def _columns(found: dict[str, Any], names: Names, most: int) -> tuple[Items, int]:
    columns = {name: found[name] for name in names.known if name in found}
    length = _length(columns, names)
    bound(length, most)
    return columns, length


def bound(readings: int, most: int) -> None:
    """Refuse more readings than an entry may hold."""
    if readings > most:
        raise UnreadableError(
            f"an entry of {readings} readings; {most} are allowed: send them in several entries"
        )


def _length(columns: dict[str, Any], names: Names) -> int:
    """Return the common length of columns; name and time may be single."""
    single = (*names.naming.series, *names.naming.time)
    long = {k: v for k, v in columns.items() if k not in single or isinstance(v, list)}
    lengths = {len(v) if isinstance(v, list) else None for v in long.values()}
    length = lengths.pop()
    if lengths or length is None:
        said = {k: len(v) if isinstance(v, list) else shown(v) for k, v in long.items()}
        raise UnreadableError(f"columns of unequal length: {said}")
    return length


# What is large


def slices_of(body: Body, most: int) -> list[tuple[int, int]] | None:
    """Return where slices of several readings begin and end, None of what is parsed at once.

    Raises:
        UnreadableError: it is too large, holds too many readings, or would take too much memory.
    """
    size = len(body.text)
    if size <= (LIGHT if body.form == "JSON" else LIGHT_LINES):
        return None
    if size > LARGEST_DOCUMENT:
        raise UnreadableError(
            f"a document of {size} bytes; {LARGEST_DOCUMENT} are allowed: send its readings "
            "in several entries"
        )
    if body.form == "line protocol":
        return list(_slices_of_lines(body.text))
    if body.form != "JSON" or memory_at_most(body.text) <= allowed(size):
        return None
    found = outline(body.text, most)
    if not found.is_array:
        weigh(found.memory, size)
        return None
    bound(found.items, most)
    return list(_slices(found))


def _slices(found: Outline) -> Iterator[tuple[int, int]]:
    """Yield slices of whole items of an array, of about ``LIGHT`` bytes or one item each."""
    first = found.start
    for end, following in zip(found.ends, [*found.ends[1:], None], strict=True):
        if following is None or following - first > LIGHT:
            yield first, end
            first = end + 1


def _slices_of_lines(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield slices of whole lines, of about ``LIGHT_LINES`` bytes or one line each."""
    first, place = 0, 0
    for beyond in line_ends(text):
        if place > first and beyond - first > LIGHT_LINES:
            yield first, place
            first = place
        place = beyond
    yield first, len(text)


def allowed(size: int) -> int:
    """Return how much memory a part of a document of so many bytes may take at once."""
    return MOST_OF_LIGHT + MOST_TIMES * size


def weigh(memory: int, size: int) -> None:
    """Refuse what would take many times its own bytes."""
    if memory > allowed(size):
        raise UnreadableError(
            f"a document of {size} bytes that would take {memory} bytes of memory; send its "
            "readings in several entries"
        )


def parsed(body: Body, first: int, beyond: int) -> list[Any]:
    """Return the objects in a slice of a body.

    Raises:
        UnreadableError: it is not what it seems, or would take too much memory.
    """
    part = body.text[first:beyond]
    if body.form == "line protocol":
        weigh(memory_of_lines(part), len(part))
        return [point_of(line) for line in lines_of(part)]
    if len(part) > LIGHT:
        weigh(outline(part).memory, len(part))
    try:
        items: list[Any] = orjson.loads(b"[%b]" % part)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"not JSON: {error}") from error
    return items


def memory_of_lines(text: bytes) -> int:
    """Return how many bytes lines of the protocol take, at most, once they are parsed."""
    fields = text.count(b"=")
    return 2 * len(text) + A_FIELD * fields + A_POINT * min(fields, 1 + text.count(b"\n"))


def unpacked(text: bytes) -> Any:
    """Return what MessagePack holds.

    Raises:
        UnreadableError: it is none, or would take too much memory.
    """
    if len(text) > LARGEST_DOCUMENT:
        raise UnreadableError(f"a document of {len(text)} bytes; {LARGEST_DOCUMENT} are allowed")
    if len(text) > LIGHT_PACKED:
        seen = np.frombuffer(text, np.uint8)
        containers = int(((seen >= 0x80) & (seen < 0xA0) | (seen >= 0xDC) & (seen < 0xE0)).sum())
        weigh(A_PACKED_VALUE * len(text) + A_PACKED_CONTAINER * containers, len(text))
    try:
        return ormsgpack.unpackb(text)
    except ValueError as error:
        raise UnreadableError(f"not MessagePack with texts as keys: {error}") from error
