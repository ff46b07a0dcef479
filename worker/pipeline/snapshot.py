"""The bytes of a checkpoint: some series' windows as columns, in a layout of our own; pure.

A section is a header, the names' lengths (16 bits), when each series was touched and its newest
time (64 bits), the length of its run (32 bits), its tail (32-bit floats), the names (UTF-8), and
last a CRC-32 of all that. Everything is little-endian.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LAYOUT = 1
_HEADER = struct.Struct("<4sHHIII")
_MAGIC = b"TCWS"
_CHECK = struct.Struct("<I")
_ROW = 2 + 8 + 8 + 4


@dataclass(frozen=True, slots=True)
class SeriesState:
    """What windows and roster know of ``k`` series of one model.

    ``touched`` ``[k]`` are reading numbers, ``newest`` ``[k]`` milliseconds since 1970, ``runs``
    ``[k]`` the lengths of the unbroken runs, ``tails`` ``[k, n_steps - 1, F]`` their values.
    """

    model: int
    names: Sequence[bytes]
    touched: npt.NDArray[np.int64]
    newest: npt.NDArray[np.int64]
    runs: npt.NDArray[np.int64]
    tails: npt.NDArray[np.float32]


def encode(state: SeriesState) -> bytes:
    """Return the section that ``decode`` reads."""
    k, back, features = state.tails.shape
    body = b"".join(
        (
            _HEADER.pack(_MAGIC, LAYOUT, state.model, k, back, features),
            np.fromiter(map(len, state.names), "<u2", k).tobytes(),
            state.touched.astype("<i8").tobytes(),
            state.newest.astype("<i8").tobytes(),
            state.runs.astype("<u4").tobytes(),
            state.tails.astype("<f4").tobytes(),
            *state.names,
        )
    )
    return body + _CHECK.pack(zlib.crc32(body))


def decode(section: bytes) -> SeriesState:
    """Return what ``encode`` was given.

    Raises:
        ValueError: this is no section, or not of this layout, or damaged.
    """
    if len(section) < _HEADER.size + _CHECK.size:
        raise ValueError(f"a section of {len(section)} bytes is too short")
    magic, layout, model, k, back, features = _HEADER.unpack_from(section)
    if magic != _MAGIC or layout != LAYOUT:
        raise ValueError(f"a section of layout {layout}, this worker writes {LAYOUT}")
    body = memoryview(section)[: -_CHECK.size]
    if zlib.crc32(body) != _CHECK.unpack_from(section, len(body))[0]:
        raise ValueError("a section's check sum is wrong")
    place = _HEADER.size
    columns = []
    for kind, width in (
        ("<u2", k),
        ("<i8", k),
        ("<i8", k),
        ("<u4", k),
        ("<f4", k * back * features),
    ):
        columns.append(np.frombuffer(section, kind, width, place))
        place += columns[-1].nbytes
    lengths, touched, newest, runs, tails = columns
    ends = (place + np.cumsum(lengths, dtype=np.int64)).tolist()
    names = [section[a:b] for a, b in zip([place, *ends[:-1]], ends, strict=True)] if k else []
    return SeriesState(
        model,
        names,
        touched.astype(np.int64),
        newest.astype(np.int64),
        runs.astype(np.int64),
        tails.reshape(k, back, features).astype(np.float32),
    )


def rows_within(size: int, n_steps: int, n_features: int) -> int:
    """Return how many series fit a section of about ``size`` bytes, one at least."""
    return max(1, size // (_ROW + 32 + 4 * (n_steps - 1) * n_features))
