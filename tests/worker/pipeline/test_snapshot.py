"""A section comes back as it was, or not at all."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.pipeline.columns import Array, Column
from tidecast.worker.pipeline.snapshot import FORGETS, LAYOUT, State, StateKey, decode, encode

LONGEST = 512
names = st.text(max_size=LONGEST).map(str.encode).filter(lambda name: len(name) <= LONGEST)
int64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def states(draw: st.DrawFn) -> State:
    k, back, features = draw(st.integers(0, 5)), draw(st.integers(0, 3)), draw(st.integers(1, 3))
    whole = draw(st.booleans())

    def column(numbers: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(numbers, min_size=k, max_size=k))

    moved = np.array(column(st.integers(0, 5)), np.int64)
    held = k * back if whole else int(np.minimum(moved, back).sum())
    size = held * features
    floats = np.array(
        draw(st.lists(st.floats(width=32), min_size=size, max_size=size)), np.float32
    ).reshape((k, back, features) if whole else (held, features))
    return State(
        StateKey(tuple(f"f{i}" for i in range(features)), draw(st.none() | st.floats(1, 1e6))),
        whole,
        draw(st.lists(names, min_size=k, max_size=k)),
        np.array(column(int64), np.int64),
        moved,
        (Column("newest", "<i8"), Column("tail", "<f4", (back, features), rolling=True)),
        {"newest": np.array(column(int64), np.int64), "tail": floats},
    )


def state_of(*series: str, back: int = 2, whole: bool = True) -> State:
    k = len(series)
    tail: Array = np.arange(k * back * 2, dtype=np.float32).reshape(k, back, 2)
    return State(
        StateKey(("temp", "hum"), 60.0),
        whole,
        [name.encode() for name in series],
        np.arange(k) + 10,
        np.full(k, back),
        (Column("newest", "<i8"), Column("tail", "<f4", (back, 2), rolling=True)),
        {
            "newest": np.arange(k) + 1_700_000_000_000,
            "tail": tail if whole else tail.reshape(k * back, 2),
        },
    )


def assert_same(got: State, state: State) -> None:
    assert (got.key, got.whole, list(got.names)) == (state.key, state.whole, list(state.names))
    assert list(got.columns) == list(state.columns)
    for mine, other in (
        (got.touched, state.touched),
        (got.moved, state.moved),
        *((got.arrays[c.name], state.arrays[c.name]) for c in state.columns),
    ):
        assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(mine, other)


def resealed(section: bytes, layout: int) -> bytes:
    """Return a section with another layout number and a check sum that fits it."""
    body = section[:4] + struct.pack("<H", layout) + section[6:-4]
    return body + struct.pack("<I", zlib.crc32(body))


@given(states())
def test_a_section_comes_back_as_it_was(state: State) -> None:
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


@given(states(), st.data())
def test_some_of_the_series_keep_what_is_theirs(state: State, data: st.DataObject) -> None:
    k = len(state.names)
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=k, max_size=k)), np.bool_)
    some, place = state.only(chosen), 0
    assert list(some.names) == [n for n, c in zip(state.names, chosen, strict=True) if c]
    for row in np.flatnonzero(chosen).tolist():
        one = state.only(np.arange(k) == row)
        for name in ("newest", "tail"):
            part = one.arrays[name]
            at = place if name == "newest" or state.whole else sum_of(some, place)
            np.testing.assert_array_equal(some.arrays[name][at : at + len(part)], part)
        place += 1
    assert len(some.arrays["newest"]) == place


def sum_of(state: State, rows: int) -> int:
    """Where the values of a row begin, in a ragged column."""
    return int(np.minimum(state.moved[:rows], state.columns[1].shape[0]).sum())


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


@pytest.mark.parametrize("layout", [0, FORGETS + 1, 2**16 - 1])
def test_another_layout_is_refused_by_its_number(layout: int) -> None:
    section = encode(state_of("a"))
    assert resealed(section, LAYOUT) == section
    with pytest.raises(ValueError, match=f"layout {layout}"):
        decode(resealed(section, layout))
