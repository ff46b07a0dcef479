"""What an ONNX file holds, read from its bytes before ONNX Runtime sees them; pure.

ONNX Runtime fetches tensors from other files where a model says so, and publishes what it finds
there as part of forecasts. So the file is walked first: an ONNX file is a protobuf message, which
is fields of a number, a wire type and a value; some values are messages again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

GRAPH, OPSETS, METADATA, FUNCTIONS = 7, 8, 14, 25
"""Fields of the whole (``ModelProto``)."""
COMPUTATION = (GRAPH, OPSETS, FUNCTIONS)
"""Those that decide what a model computes."""
MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "ModelProto": {GRAPH: "GraphProto", 20: "TrainingInfoProto", FUNCTIONS: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "TensorProto": {},
}
"""Every kind of message that a tensor may lie in, and its fields that lead there."""
TENSOR_NAME, EXTERNAL_DATA, DATA_LOCATION = 8, 13, 14
"""Fields of a tensor; the last two say that its data lie elsewhere."""
KEY, VALUE = 1, 2
"""Fields of an entry of metadata, or of what is told of a tensor's place."""
VARINT, BYTES = 0, 2
FIXED = {1: 8, 5: 4}
"""Wire types, and how many bytes the fixed ones take."""
LONGEST_VARINT = 10
LARGEST_TAG = 2**32 - 1
"""Protobuf would drop the bits beyond, and read another field than we do."""
MOST_FIELDS = 1_000_000
"""Of a file; the trainer's have thousands. More take longer to walk than a start should."""
LONGEST_SHOWN = 100


class MalformedError(ValueError):
    """The bytes are no ONNX file."""


class ExternalDataError(ValueError):
    """A tensor's data lie outside the file; the message says which tensor and where."""


class Field(NamedTuple):
    """One field of a message: its number, its wire type, where its tag and its value begin."""

    number: int
    wire: int
    tag: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Parts:
    """What a model file holds.

    ``computation`` are the fields that decide what it computes, with their tags, by their number;
    ``graph`` is the graph alone. ``metadata`` are the values by their key.
    """

    computation: Sequence[memoryview]
    graph: Sequence[memoryview]
    metadata: Mapping[bytes, bytes]


def read_parts(content: bytes) -> Parts:
    """Take a model file apart, in time linear in its bytes.

    Raises:
        MalformedError: it is no ONNX file.
        ExternalDataError: some tensor's data lie in another file.
    """
    message = _Message(content)
    _refuse_external_data(message)
    found: dict[int, list[Field]] = {number: [] for number in (*COMPUTATION, METADATA)}
    for field in message.fields(0, len(content)):
        if field.wire == BYTES and field.number in found:
            found[field.number].append(field)
    view = message.view
    return Parts(
        computation=[view[f.tag : f.end] for number in COMPUTATION for f in found[number]],
        graph=[view[f.start : f.end] for f in found[GRAPH]],
        metadata=dict(message.entry(field) for field in found[METADATA]),
    )


class _Message:
    """The bytes of a message, and how many more fields of it may be read."""

    def __init__(self, content: bytes) -> None:
        self.view = memoryview(content)
        self._left = MOST_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message between two places.

        Raises:
            MalformedError: they do not end where the message does, are of a kind that ONNX has
                not, or too many.
        """
        place = start
        while place < end:
            tag, begin = self._varint(place, end)
            number, wire = tag >> 3, tag & 7
            if tag > LARGEST_TAG or not number:
                raise MalformedError(f"no field begins at byte {place}")
            if wire == BYTES:
                size, begin = self._varint(begin, end)
                beyond = begin + size
            else:
                beyond = self._beyond(wire, begin, end)
            if beyond > end:
                raise MalformedError(f"the field at byte {place} is cut short")
            self._left -= 1
            if self._left < 0:
                raise MalformedError(f"more than {MOST_FIELDS:,} fields")
            yield Field(number, wire, place, begin, beyond)
            place = beyond

    def entry(self, field: Field) -> tuple[bytes, bytes]:
        """Return key and value of an entry; of a repeated one the last, as protobuf does."""
        found = {
            inner.number: bytes(self.view[inner.start : inner.end])
            for inner in self.fields(field.start, field.end)
            if inner.wire == BYTES
        }
        return found.get(KEY, b""), found.get(VALUE, b"")

    def _beyond(self, wire: int, begin: int, end: int) -> int:
        """Return where a number ends."""
        if wire in FIXED:
            return begin + FIXED[wire]
        if wire == VARINT:
            return self._varint(begin, end)[1]
        raise MalformedError(f"no value of ONNX begins at byte {begin}")

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        """Return a number of variable length, and where it ends."""
        if place < end and self.view[place] < 0x80:  # most are small
            return self.view[place], place + 1
        number = 0
        for i, byte in enumerate(self.view[place : min(end, place + LONGEST_VARINT)]):
            number |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return number, place + i + 1
        raise MalformedError(f"no number ends after byte {place}")


def _refuse_external_data(message: _Message) -> None:
    """Walk to every tensor that lies somewhere in a file; deep nesting takes no deep calls."""
    pending = [("ModelProto", 0, len(message.view))]
    while pending:
        kind, start, end = pending.pop()
        fields = message.fields(start, end)
        if kind == "TensorProto":
            _refuse_external_tensor(message, fields)
            continue
        leading = MESSAGES[kind]
        pending += [
            (leading[field.number], field.start, field.end)
            for field in fields
            if field.wire == BYTES and field.number in leading
        ]


def _refuse_external_tensor(message: _Message, fields: Iterable[Field]) -> None:
    view, name = message.view, b""
    place: bytes | None = None
    for field in fields:
        if field.number == TENSOR_NAME:
            name = bytes(view[field.start : field.end][:LONGEST_SHOWN])
        elif field.number == DATA_LOCATION:
            if any(byte & 0x7F for byte in view[field.start : field.end]):
                place = place or b""
        elif field.number == EXTERNAL_DATA:
            key, value = message.entry(field) if field.wire == BYTES else (b"", b"")
            place = value[:LONGEST_SHOWN] if key == b"location" else place or b""
    if place is not None:
        shown, where = (repr(text.decode(errors="replace")) for text in (name, place))
        raise ExternalDataError(f"the data of tensor {shown} lie in another file, {where}")
