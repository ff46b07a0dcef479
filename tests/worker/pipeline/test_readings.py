"""Readings as columns: parts of them, several as one, and what is told of a single one."""

from typing import Any

import numpy as np
import orjson
import pytest

from tidecast.worker.pipeline.readings import LONGEST_PAYLOAD, Readings, joined, payload_of


def readings(
    *places: int, faults: dict[tuple[int, str], str] | None = None, **columns: Any
) -> Readings:
    """Readings that say their place in every way there is."""
    return Readings(
        np.array(places, np.int64),
        [b"%d-0" % place for place in places],
        [b"s%d" % place for place in places],
        np.array(places, np.int64) * 1000,
        {name: np.array(column, np.float64) for name, column in columns.items()},
        [{"place": place} for place in places].__getitem__,
        faults or {},
    )


def told(found: Readings) -> list[tuple[object, ...]]:
    return list(
        zip(
            found.places.tolist(),
            found.ids,
            found.series,
            found.times.tolist(),
            [orjson.loads(found.payload(i))["place"] for i in range(len(found))],
            strict=True,
        )
    )


def test_several_as_one_come_in_the_order_of_their_entries() -> None:
    """::

    places   0  5  9 | 3  5 | 1      a and b are columns, x says what is wrong with b
    a        0  5  9 | -  - | 1
    b        -  -  - | 3  x | -
    """
    parts = [
        readings(0, 5, 9, a=[0, 5, 9]),
        readings(3, 5, b=[3, np.nan], faults={(1, "b"): "is odd"}),
        readings(),
        readings(1, a=[1]),
    ]
    together = joined(parts)
    places = [0, 1, 3, 5, 5, 9]
    assert told(together) == [(p, b"%d-0" % p, b"s%d" % p, 1000 * p, p) for p in places]
    np.testing.assert_array_equal(together.columns["a"], [0, 1, np.nan, 5, np.nan, 9])
    np.testing.assert_array_equal(together.columns["b"], [np.nan, np.nan, 3] + [np.nan] * 3)
    assert together.faults == {(4, "b"): "is odd"}  # the first of place 5 is the first part's
    assert together.fault(4, "b") == "feature 'b' is odd"
    assert together.fault(3, "b") == "feature 'b' is missing"


def test_several_that_follow_each_other_stay_as_they_are() -> None:
    parts = [readings(0, 1, a=[0, 1]), readings(1, 2, a=[5, 2], faults={(1, "a"): "is odd"})]
    together = joined(parts)
    assert together.columns["a"].tolist() == [0, 1, 5, 2]
    assert [row[0] for row in told(together)] == [0, 1, 1, 2]
    assert together.faults == {(3, "a"): "is odd"}


def test_one_part_with_readings_is_that_part() -> None:
    empty, full = readings(a=[]), readings(4, a=[1])
    assert joined([empty, full, empty]) is full
    assert joined([empty, readings(b=[])]) is empty


def test_a_part_is_a_slice_of_everything() -> None:
    faults = {(0, "a"): "first", (1, "a"): "second", (3, "a"): "fourth"}
    whole = readings(2, 4, 6, 8, a=[0, 1, 2, 3], faults=faults)
    part = whole.part(1, 3)
    assert told(part) == told(whole)[1:3]
    assert part.columns["a"].tolist() == [1, 2]
    assert part.faults == {(0, "a"): "second"}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (np.nan, "is missing"),
        (np.inf, "is inf, not a finite number"),
        (-np.inf, "is -inf, not a finite number"),
        (1e39, "is 1e+39, beyond a 32-bit float"),
    ],
)
def test_a_fault_says_what_stands_there(value: float, fault: str) -> None:
    found = readings(0, 1, a=[5, value])
    assert found.fault(1, "a") == f"feature 'a' {fault}"
    assert found.fault(1, "b") == "feature 'b' is missing"


def test_a_payload_is_what_the_reading_was() -> None:
    def payload(said: Any) -> bytes:
        nothing = readings(0)
        return Readings(
            nothing.places, nothing.ids, nothing.series, nothing.times, {}, lambda _: said
        ).payload(0)

    assert payload([b"a", b"1", b"b", b"\xff"]) == '{"a":"1","b":"\ufffd"}'.encode()
    assert payload({"a": 1}) == b'{"a":1}'
    assert payload(({"a": [1, 2], "b": "x"}, 1)) == b'{"a":2,"b":"x"}'
    assert payload({1: 2}) == b'{"1":2}'


@pytest.mark.parametrize("length", [LONGEST_PAYLOAD, LONGEST_PAYLOAD + 1, 5000])
def test_a_long_payload_is_cut_and_says_so(length: int) -> None:
    fill = b"x" * (length - len(b'{"a":""}'))
    whole = b'{"a":"' + fill + b'"}'
    cut = payload_of([b"a", fill])
    assert len(whole) == length
    assert cut == (whole if length == 1024 else whole[:1021] + b"...")
