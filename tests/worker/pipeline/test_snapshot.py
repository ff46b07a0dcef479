"""A section comes back as it was, or not at all."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.pipeline.snapshot import LAYOUT, SeriesState, decode, encode, rows_within

LONGEST = 512
names = st.text(max_size=LONGEST).map(str.encode).filter(lambda name: len(name) <= LONGEST)
int64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def states(draw: st.DrawFn) -> SeriesState:
    k, back, features = draw(st.integers(0, 5)), draw(st.integers(0, 3)), draw(st.integers(1, 3))
    size = k * back * features
    floats = draw(st.lists(st.floats(width=32), min_size=size, max_size=size))

    def column(numbers: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(numbers, min_size=k, max_size=k))

    return SeriesState(
        draw(st.integers(0, 2**16 - 1)),
        draw(st.lists(names, min_size=k, max_size=k)),
        np.array(column(int64), np.int64),
        np.array(column(int64), np.int64),
        np.array(column(st.integers(0, 2**32 - 1)), np.int64),
        np.array(floats, np.float32).reshape(k, back, features),
    )


def state_of(*series: str, back: int = 2) -> SeriesState:
    k = len(series)
    return SeriesState(
        3,
        [name.encode() for name in series],
        np.arange(k) + 10,
        np.arange(k) + 1_700_000_000_000,
        np.arange(k) + 1,
        np.arange(k * back * 2, dtype=np.float32).reshape(k, back, 2),
    )


def assert_same(got: SeriesState, state: SeriesState) -> None:
    assert (got.model, list(got.names)) == (state.model, list(state.names))
    for column in ("touched", "newest", "runs", "tails"):
        mine, other = getattr(got, column), getattr(state, column)
        assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(mine, other)


def resealed(section: bytes, layout: int) -> bytes:
    """Return a section with another layout number and a check sum that fits it."""
    body = section[:4] + struct.pack("<H", layout) + section[6:-4]
    return body + struct.pack("<I", zlib.crc32(body))


@given(states())
def test_a_section_comes_back_as_it_was(state: SeriesState) -> None:
    assert_same(decode(encode(state)), state)


@pytest.mark.parametrize(
    "series",
    [(), ("a",), ("",), ("x" * LONGEST, "y" * LONGEST), ("é" * 256, "ボイラー-7", "🌊", "a\0b")],
    ids=["none", "one", "nameless", "longest", "non-ascii"],
)
@pytest.mark.parametrize("back", [0, 3])
def test_names_of_every_kind(series: tuple[str, ...], back: int) -> None:
    state = state_of(*series, back=back)
    assert_same(decode(encode(state)), state)


def test_a_restored_column_can_be_written_to() -> None:
    state = decode(encode(state_of("a", "b")))
    for column in (state.touched, state.newest, state.runs, state.tails):
        assert column.flags.writeable


def test_every_truncation_is_refused() -> None:
    section = encode(state_of("boiler-7", "ü"))
    for length in range(len(section)):
        with pytest.raises(ValueError, match="section"):
            decode(section[:length])


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_refused(mask: int) -> None:
    section = encode(state_of("boiler-7", "ü"))
    for place in range(len(section)):
        damaged = bytearray(section)
        damaged[place] ^= mask
        with pytest.raises(ValueError, match="section"):
            decode(bytes(damaged))


def test_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(ValueError, match="check sum"):
        decode(encode(state_of("a")) + b"\0")


@pytest.mark.parametrize("layout", [0, LAYOUT + 1, 2**16 - 1])
def test_another_layout_is_refused_by_its_number(layout: int) -> None:
    section = encode(state_of("a"))
    assert resealed(section, LAYOUT) == section
    with pytest.raises(ValueError, match=f"layout {layout}"):
        decode(resealed(section, layout))


@given(st.integers(0, 10**7), st.integers(1, 500), st.integers(1, 50))
def test_a_section_of_short_names_keeps_to_its_size(size: int, steps: int, wide: int) -> None:
    rows = rows_within(size, steps, wide)
    one, two = (len(encode(tails_only(k, steps - 1, wide))) for k in (1, 2))
    assert rows == 1 or one + (rows - 1) * (two - one) <= size + 64


def tails_only(k: int, back: int, features: int) -> SeriesState:
    zeros = np.zeros(k, np.int64)
    tails = np.zeros((k, back, features), np.float32)
    return SeriesState(0, [b"n" * 32] * k, zeros, zeros, zeros, tails)
