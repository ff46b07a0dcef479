"""The bytes of a checkpoint: some series' state as columns, in a layout of our own; pure.

A section is a header, a description (JSON), the names' lengths (16 bits), when each series was
touched (64 bits), by how many readings it moved (32 bits), each column in turn, the names (UTF-8),
and last a CRC-32 of all that. Everything is little-endian.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from tidecast.worker.pipeline.columns import Array, Column, Ints

LAYOUT, FORGETS = 2, 3
"""Layouts of sections that hold state, and of those that name series whose state is dropped: a
worker of before refuses these, and makes the windows from the stream."""
_HEADER = struct.Struct("<4sHI")
_MAGIC = b"TCWS"
_CHECK = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class StateKey:
    """What state hangs on beside the series: the readings' features, their step and their rules.

    A step of a calendar, and that numbers are of 64 bits, stand among the rules.
    """

    features: tuple[str, ...]
    step_seconds: float | None
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """The state of ``k`` series of one key.

    ``names`` and ``touched`` ``[k]``, numbers of readings, are the roster's; ``moved`` ``[k]`` and
    ``arrays``, by the names of ``columns``, are what ``Table.take`` returned. ``whole``: nothing
    before counts; else it goes on from there. Where it ``forgets``, there are names alone, of
    series of which nothing before counts.
    """

    key: StateKey
    whole: bool
    names: Sequence[bytes]
    touched: Ints
    moved: Ints
    columns: Sequence[Column]
    arrays: Mapping[str, Array]
    forgets: bool = False

    def only(self, chosen: npt.NDArray[np.bool_]) -> "State":
        """Return the state of the chosen ones ``[k]`` of the series."""
        arrays = {}
        for column in self.columns:
            counts = np.minimum(self.moved, column.shape[0]) if self.is_ragged(column) else 1
            arrays[column.name] = self.arrays[column.name][np.repeat(chosen, counts)]
        places = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            names=[self.names[place] for place in places],
            touched=self.touched[chosen],
            moved=self.moved[chosen],
            arrays=arrays,
        )

    def is_ragged(self, column: Column) -> bool:
        """Tell whether a column holds only what its rows have moved by."""
        return column.rolling and not self.whole


def encode(state: State) -> bytes:
    """Return the section that ``decode`` reads."""
    described = orjson.dumps(
        {
            "features": state.key.features,
            "step_seconds": state.key.step_seconds,
            **({"rules": state.key.rules} if state.key.rules else {}),
            "whole": state.whole,
            "rows": len(state.names),
            "columns": [(c.name, c.dtype, c.shape, c.rolling) for c in state.columns],
        }
    )
    body = b"".join(
        (
            _HEADER.pack(_MAGIC, FORGETS if state.forgets else LAYOUT, len(described)),
            described,
            np.fromiter(map(len, state.names), "<u2", len(state.names)).tobytes(),
            state.touched.astype("<i8").tobytes(),
            np.minimum(state.moved, 2**32 - 1).astype("<u4").tobytes(),
            *(state.arrays[c.name].astype(c.dtype, copy=False).tobytes() for c in state.columns),
            *state.names,
        )
    )
    return body + _CHECK.pack(zlib.crc32(body))


def decode(section: bytes) -> State:
    """Return what ``encode`` was given.

    Raises:
        ValueError: this is no section, or not of this layout, or damaged.
    """
    if len(section) < _HEADER.size + _CHECK.size:
        raise ValueError(f"a section of {len(section)} bytes is too short")
    magic, layout, size = _HEADER.unpack_from(section)
    if magic != _MAGIC or layout not in (LAYOUT, FORGETS):
        raise ValueError(f"a section of layout {layout}, this worker reads {LAYOUT}")
    body = memoryview(section)[: -_CHECK.size]
    if zlib.crc32(body) != _CHECK.unpack_from(section, len(body))[0]:
        raise ValueError("a section's check sum is wrong")
    described = orjson.loads(body[_HEADER.size : _HEADER.size + size])
    columns = [Column(name, kind, tuple(s), rolls) for name, kind, s, rolls in described["columns"]]
    whole, k = described["whole"], described["rows"]
    parts = _Parts(section, _HEADER.size + size)
    lengths, touched = parts.read("<u2", (k,)), parts.read("<i8", (k,))
    moved = parts.read("<u4", (k,)).astype(np.int64)
    arrays = {}
    for column in columns:
        count = np.minimum(moved, column.shape[0]).sum() if column.rolling and not whole else k
        shape = (int(count), *(column.item if column.rolling and not whole else column.shape))
        arrays[column.name] = parts.read(column.dtype, shape)
    ends = (parts.place + np.cumsum(lengths, dtype=np.int64)).tolist()
    return State(
        StateKey(
            tuple(described["features"]),
            described["step_seconds"],
            tuple(described.get("rules", ())),
        ),
        whole,
        [section[a:b] for a, b in pairwise((parts.place, *ends))],
        touched.astype(np.int64),
        moved,
        columns,
        arrays,
        layout == FORGETS,
    )


def forgetting(names: Sequence[bytes]) -> State:
    """Return what says that nothing before counts of series of these names."""
    none = np.zeros(len(names), np.int64)
    whole = True
    return State(StateKey((), None), whole, names, none, none, (), {}, forgets=True)


class _Parts:
    """Reads arrays that lie one behind the other."""

    def __init__(self, section: bytes, place: int) -> None:
        self.place = place
        self._section = section

    def read(self, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return the next array, which shares its bytes with the section."""
        count = int(np.prod(shape, dtype=np.int64))
        found = np.frombuffer(self._section, dtype, count, self.place).reshape(shape)
        self.place += found.nbytes
        return found
