"""What a JSON text holds, told without parsing it."""

import json
import sys
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidecast.worker.pipeline.outline import memory_at_most, outline

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
tricky = st.sampled_from(['"', "\\", '\\"', "[,]", "{,", "\\\\", "]", "a,b"])


@given(st.lists(values | tricky, max_size=12), st.sampled_from([None, 1]))
@example(["\\", ",", "\\\\", '"],['], None)
def test_the_items_of_an_array_lie_between_its_ends(items: list[Any], indent: int | None) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=indent is None).encode()
    found = outline(b" " + text + b"\n", 99)
    assert found.is_array
    cut, first = [], found.start
    for end in found.ends:
        cut.append((b" " + text)[first:end])
        first = end + 1
    assert [orjson.loads(item) for item in cut if items] == orjson.loads(text)


def test_items_are_found_across_chunks() -> None:
    """Strings with commas and brackets, quotes and backslashes lie on every chunk's edge."""
    items = [{"a": ',[\\"{' * (i % 7), "b": i} for i in range(40_000)]
    text = orjson.dumps(items)
    assert len(text) > 1_000_000
    found = outline(text, 40_000)
    assert found.items == len(found.ends) == 40_000
    some = found.ends[12_344] + 1, found.ends[12_345]
    assert orjson.loads(text[slice(*some)]) == items[12_345]


def test_of_more_items_than_are_wanted_they_are_counted_alone() -> None:
    text = orjson.dumps(list(range(1000)))
    assert len(outline(text, 1000).ends) == 1000
    found = outline(text, 999)
    assert found.items == 1000
    assert len(found.ends) == 1


def test_an_object_is_none() -> None:
    assert not outline(b' {"a": [1, 2]}').is_array


def weight(value: Any) -> int:
    """The bytes of a parsed value with all that is in it; each text and number counts anew."""
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    parts = map(weight, inner) if isinstance(value, dict | list) else ()
    return sys.getsizeof(value) + sum(parts)


@pytest.mark.parametrize(
    "item",
    [{}, [], None, "", "a", 1.5, 10**15, {"value": 1.5}, [[[]]], {"a": {}, "b": {}}, "é" * 9],
)
def test_memory_is_told_within_a_factor_of_about_two(item: Any) -> None:
    text = orjson.dumps([item] * 1000)
    parsed = weight(orjson.loads(text))
    assert outline(text).memory == memory_at_most(text)
    assert 0.4 * parsed < outline(text).memory < 4 * parsed


def test_what_lies_within_a_text_takes_no_more_memory() -> None:
    text = orjson.dumps([",[{" * 1000])
    assert outline(text).memory < 5000 < memory_at_most(text)
