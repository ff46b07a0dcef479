"""One cell by itself and many at once: what is accepted, and where the bounds are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tidecast.worker.pipeline.cells import (
    ABSENT,
    LONGEST_NAME,
    MISSING,
    BadSeriesError,
    BadTimeError,
    Milliseconds,
    checked_name,
    name_of_json,
    names_in_json,
    number_of,
    numbers_in,
    numbers_in_json,
    odd_names,
    shown,
    time_of_id,
    time_of_json,
    time_of_text,
    times_in,
    times_in_json,
)
from tidecast.worker.pipeline.epoch import LATEST_TIME, TimeUnit, text_of


def told(found: tuple[Any, list[int]]) -> tuple[list[int], list[int]]:
    """Times as a list, and the places of those that are none."""
    return found[0].tolist(), found[1]


def test_the_years_served_are_1970_to_9999() -> None:
    assert time_of_text(b"9999-12-31T23:59:59.999Z") == LATEST_TIME == 253402300799999
    assert time_of_text(b"1970-01-01") == 0


@pytest.mark.parametrize("time", [0, 1, LATEST_TIME - 1, LATEST_TIME])
def test_times_within_the_bounds(time: int) -> None:
    text = b"%d" % time
    assert time_of_text(text, "ms") == time_of_json(time, "ms") == time_of_id(text + b"-7") == time
    assert told(times_in([text, b"5"], "ms")) == ([time, 5], [])
    assert told(times_in_json([time, 5], "ms")) == ([time, 5], [])


@pytest.mark.parametrize(
    "read",
    [
        lambda: time_of_text(b"%d" % (LATEST_TIME + 1), "ms"),
        lambda: time_of_json(LATEST_TIME + 1, "ms"),
        lambda: time_of_text(b"%d" % (LATEST_TIME // 1000 + 1), "s"),
        lambda: time_of_json(10**30),
        lambda: time_of_json(10**30, "s"),
        lambda: time_of_json(-(2**63) + 2_000_000, "s"),  # a thousand times that is small again
        lambda: time_of_json(-1),
        lambda: time_of_id(b"%d-0" % (LATEST_TIME + 1)),
        lambda: time_of_text(b"1969-12-31T23:59:59.999Z"),
    ],
)
def test_times_beyond_the_bounds(read: Callable[[], int]) -> None:
    with pytest.raises(BadTimeError, match="lies outside the years 1970 to 9999"):
        read()


@pytest.mark.parametrize("time", [-1, LATEST_TIME + 1, 2**63, 2**64])
def test_one_time_beyond_the_bounds_costs_itself(time: int) -> None:
    times, odd = times_in_json([5, time, 6], "ms")
    assert (times[[0, 2]].tolist(), odd) == ([5, 6], [1])
    times, odd = times_in([b"5", b"%d" % time, b"6"], "ms")
    assert (times[[0, 2]].tolist(), odd) == ([5, 6], [1])


def test_no_times_are_within_the_bounds() -> None:
    assert told(times_in([])) == told(times_in_json([])) == ([], [])


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"2024-01-01T00:00:00.0019", 1704067200001),  # the part of a millisecond is cut
        (b"2024-01-01T01:00:00+01:00", 1704067200000),
        (b"2024-01-01T00:00:00", 1704067200000),  # UTC, where no zone is given
        (b"0" * 50 + b"17", 17),
        (b"000", 0),
    ],
)
def test_times_in_texts(text: bytes, time: int) -> None:
    assert time_of_text(text) == time_of_json(text.decode()) == time


@pytest.mark.parametrize("time", [1.5, True, None, [], math.nan, math.inf])
def test_json_that_is_no_time(time: Any) -> None:
    with pytest.raises(BadTimeError, match=r"nor ISO 8601|of any unit|1970 to 9999") as bad:
        time_of_json(time)
    assert repr(time) in str(bad.value)
    assert bad.value.kind == "time"


UNITS = [
    (0, 0),
    (99_999_999, 99_999_999),  # a simulation's clock: nothing else is so early
    (100_000_000, 100_000_000_000),
    (1_709_251_200, 1_709_251_200_000),
    (99_999_999_999, 99_999_999_999_000),
    (100_000_000_000, 100_000_000_000),
    (1_709_251_200_123, 1_709_251_200_123),
    (99_999_999_999_999, 99_999_999_999_999),
    (100_000_000_000_000, 100_000_000_000),
    (1_709_251_200_123_999, 1_709_251_200_123),
    (100_000_000_000_000_000, 100_000_000_000),
    (1_709_251_200_123_999_999, 1_709_251_200_123),
    (2**64, 18_446_744_073_709),
]


@pytest.mark.parametrize(("number", "time"), UNITS)
def test_the_unit_of_a_number_is_told_by_its_size(number: int, time: int) -> None:
    text = b"%d" % number
    assert time_of_text(text) == time_of_json(number) == time
    assert told(times_in([text, text])) == told(times_in_json([number] * 2)) == ([time] * 2, [])
    if number < 2**53:
        assert time_of_json(float(number)) == time
        assert told(times_in_json([float(number)])) == ([time], [])


def test_times_of_every_unit_at_once() -> None:
    numbers, times = zip(*UNITS, strict=True)
    assert told(times_in_json(numbers)) == (list(times), [])
    assert told(times_in([b"%d" % number for number in numbers[:-1]])) == (list(times[:-1]), [])


@pytest.mark.parametrize(
    ("unit", "time"),
    [("s", 1_709_251_200_000), ("ms", 1_709_251_200), ("us", 1_709_251), ("ns", 1_709)],
)
def test_the_unit_of_a_number_can_be_told(unit: TimeUnit, time: int) -> None:
    assert time_of_text(b"1709251200", unit) == time
    assert told(times_in([b"1709251200", b"0"], unit)) == ([time, 0], [])
    assert told(times_in_json([1_709_251_200, 0], unit)) == ([time, 0], [])
    assert told(times_in_json([1_709_251_200.0, "0"], unit)) == ([time, 0], [])


@pytest.mark.parametrize(
    ("number", "time"),
    [
        ("1709251200.5", 1_709_251_200_500),
        ("1709251200.001", 1_709_251_200_001),
        ("1709251200.1239", 1_709_251_200_123),
        ("1709251200123.9", 1_709_251_200_123),
        ("1709251200123456.5", 1_709_251_200_123),
    ],
)
def test_a_number_may_have_a_fraction(number: str, time: int) -> None:
    assert time_of_text(number.encode()) == time_of_json(float(number)) == time
    assert told(times_in([number.encode()])) == told(times_in_json([float(number)])) == ([time], [])


@pytest.mark.parametrize("text", [b"1.5", b"20240131", b"19000101", b"21001231", b"99999999.5"])
def test_what_a_number_means_is_not_guessed(text: bytes) -> None:
    with pytest.raises(BadTimeError, match=r"may be .*; send ISO 8601, or say --time-unit"):
        time_of_text(text)
    assert told(times_in([text, b"5"]))[1] == told(times_in_json([float(text)]))[1] == [0]
    assert time_of_text(text, "s") == 1000 * float(text)


@pytest.mark.parametrize("text", [b"20240231", b"20241301", b"19000100", b"21001232"])
def test_a_number_that_is_no_date_is_a_time(text: bytes) -> None:
    assert time_of_text(text) == int(text)
    assert told(times_in([text])) == ([int(text)], [])


def test_a_time_that_was_read_is_not_read_again() -> None:
    read = Milliseconds(1_709_251_200)
    assert time_of_json(read) == 1_709_251_200
    assert told(times_in_json([read, 1_709_251_200])) == ([1_709_251_200, 1_709_251_200_000], [])
    assert told(times_in_json([read, "1970-01-01"])) == ([1_709_251_200, 0], [])


@pytest.mark.parametrize("unit", ["auto", "s", "ms", "us", "ns"])
@pytest.mark.parametrize("time", [0, 5, 20_240_131, 50_000_000_000, 1_709_251_200_123, LATEST_TIME])
def test_a_time_is_written_so_that_it_is_read_again(time: int, unit: TimeUnit) -> None:
    assert time_of_text(text_of(time, unit).encode(), unit) == time


@pytest.mark.parametrize("time", [LATEST_TIME + 1, 2**63, 2**64 - 1])
def test_a_time_beyond_the_years_is_written_as_it_is(time: int) -> None:
    assert text_of(time) == str(time)


def test_a_whole_float_is_a_time() -> None:
    assert repr(time_of_json(5.0)) == "5"


@pytest.mark.parametrize("cell", [b"-1", b" 5", b"+5", b"1_0", b"", b"5.5", b"noon"])
def test_a_time_that_is_none_costs_itself(cell: bytes) -> None:
    times, odd = times_in([b"7", cell, b"2024-01-01"])
    assert (times[[0, 2]].tolist(), odd) == ([7, 1704067200000], [1])


def test_times_may_have_leading_zeros() -> None:
    assert told(times_in([b"007", b"0"])) == ([7, 0], [])


def test_times_in_json_of_every_kind_at_once() -> None:
    cells = [5, 5.0, "7", "1970-01-01", True, None, ABSENT]
    times, odd = times_in_json(cells)
    assert (times[:4].tolist(), odd) == ([5, 5, 7, 0], [4, 5, 6])
    assert told(times_in_json(["7", "1970-01-01"])) == ([7, 0], [])


def test_a_name_has_at_most_so_many_bytes() -> None:
    longest = "é".encode() * (LONGEST_NAME // 2)
    assert LONGEST_NAME == 512
    assert checked_name(longest) == longest
    assert odd_names([b"a", longest]) == []
    assert odd_names([b"a", longest + b"x", b"b"]) == [1]
    with pytest.raises(BadSeriesError, match=r"^a series name of 513 bytes; 1 to 512 are allowed$"):
        checked_name(longest + b"x")


@pytest.mark.parametrize("name", [b"", b"\xff", b"a\xc3"])
def test_a_name_is_text(name: bytes) -> None:
    with pytest.raises(BadSeriesError) as bad:
        checked_name(name)
    assert bad.value.kind == "series"
    assert odd_names([b"a", name]) == [1]


def test_names_do_not_reach_into_each_other() -> None:
    assert odd_names([b"\xc3", b"\xa9"]) == [0, 1]
    assert odd_names([]) == []


def test_many_names_in_json() -> None:
    assert names_in_json(["a", "é"]) == ([b"a", "é".encode()], [])
    assert names_in_json([b"a", b"\xff"]) == ([b"a", b"\xff"], [1])
    names, odd = names_in_json(["a", b"b", 7, None, "", "\ud800"])
    assert (names[:3], odd) == ([b"a", b"b", b"7"], [3, 4, 5])
    assert names_in_json(["a", "\ud800"])[1] == [1]


def test_names_in_json() -> None:
    assert name_of_json("é") == "é".encode()
    assert name_of_json(-7) == b"-7"
    for no_name in (True, None, 1.0, ["a"]):
        with pytest.raises(BadSeriesError, match=r"^series is .*, not a name$"):
            name_of_json(no_name)
    # JSON may hold half a pair of surrogates, which is no text.
    with pytest.raises(BadSeriesError, match="not UTF-8"):
        checked_name(name_of_json("\ud800"))


@pytest.mark.parametrize(
    ("cell", "number"),
    [(b"1.5", 1.5), (b" 2 ", 2.0), (b"-inf", -math.inf), (3, 3.0), (10**400, math.inf)],
)
def test_numbers(cell: Any, number: float) -> None:
    assert number_of(cell) == (number, "")


def test_a_number_beyond_all_floats_keeps_its_sign() -> None:
    assert number_of(-(10**400)) == (-math.inf, "")


@pytest.mark.parametrize("cell", [b"---", b"1_0", b"x", "x", True, False, [1]])
def test_what_is_no_number_is_shown(cell: Any) -> None:
    number, fault = number_of(cell)
    assert math.isnan(number)
    said = cell.encode() if isinstance(cell, str) else cell
    assert fault == f"is {shown(said)}, not a number"


def test_a_nan_with_a_sign_is_a_fault_of_its_own() -> None:
    number, fault = number_of(b"-nan")
    assert math.isnan(number)
    assert fault == "is nan, not a finite number"


@pytest.mark.parametrize(
    "cell", ["", " ", "null", "nan", "NaN", "NA", "n/a", "N/A", "None", "NULL", "-", "?", " - "]
)
def test_what_stands_for_no_value_is_missing(cell: str) -> None:
    numbers, faults = numbers_in([b"1", cell.encode(), b"3"])
    assert (numbers[[0, 2]].tolist(), faults) == ([1, 3], {1: MISSING})
    assert math.isnan(numbers[1])
    for several in ([1, cell, 3], ["1", cell, "3"], [1, None, 3]):
        numbers, faults = numbers_in_json(several)
        assert (numbers[[0, 2]].tolist(), faults) == ([1, 3], {1: MISSING})


@pytest.mark.parametrize("text", ["70.5", " 70.5 ", "7.05e1"])
def test_a_number_in_a_json_text_is_one(text: str) -> None:
    assert numbers_in_json([text])[0].tolist() == [70.5]
    assert numbers_in_json([1, text])[0].tolist() == [1, 70.5]


@pytest.mark.parametrize("zero", [b"-0", b"-0.0", -0.0])
def test_no_zero_is_negative(zero: Any) -> None:
    assert math.copysign(1, number_of(zero)[0]) == 1


@pytest.mark.parametrize("cells", [[b"-0.0", b"1"], [b"-0", b"+1"], [-0.0, 1], [-0.0, "1"]])
def test_no_zero_of_many_is_negative(cells: list[Any]) -> None:
    found, _ = (numbers_in if isinstance(cells[1], bytes) else numbers_in_json)(cells)
    assert found[0] == 0
    assert math.copysign(1, found[0]) == 1
    assert found.dtype == np.float64


@pytest.mark.parametrize("cell", [b"-nan", b"1_0", b"1,2", b"[1", b"---", b"true", b"x"])
def test_a_number_that_is_none_costs_itself(cell: bytes) -> None:
    numbers, faults = numbers_in([b"1", cell, b"2e1", b" 3", b"-inf"])
    assert numbers[[0, 2, 3, 4]].tolist() == [1, 20, 3, -math.inf]
    assert math.isnan(numbers[1])
    assert faults == {1: number_of(cell)[1]}


@pytest.mark.parametrize("cell", ["x", True, [1]])
def test_json_that_is_no_number_costs_itself(cell: Any) -> None:
    numbers, faults = numbers_in_json([1, cell, 2.5, ABSENT])
    assert numbers[[0, 2]].tolist() == [1, 2.5]
    assert np.isnan(numbers[[1, 3]]).all()
    assert faults == {1: number_of(cell)[1]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\xff", "'\ufffd'"),
        ("x" * 58, "'" + "x" * 58 + "'"),
        ("x" * 59, "'" + "x" * 56 + "..."),
        (5, "5"),
    ],
)
def test_a_value_in_a_message_has_60_characters(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(text) <= 60
