"""One cell by itself and many at once: what is accepted, and where the bounds are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tidecast.worker.pipeline.cells import (
    LATEST_TIME,
    LONGEST_NAME,
    BadSeriesError,
    BadTimeError,
    bounded_times,
    check_names,
    checked_name,
    name_of_json,
    number_of,
    numbers_of,
    shown,
    time_of_id,
    time_of_json,
    time_of_text,
    times_of,
)


def test_the_years_served_are_1970_to_9999() -> None:
    assert time_of_text(b"9999-12-31T23:59:59.999Z") == LATEST_TIME == 253402300799999
    assert time_of_text(b"1970-01-01") == 0


@pytest.mark.parametrize("time", [0, 1, LATEST_TIME - 1, LATEST_TIME])
def test_times_within_the_bounds(time: int) -> None:
    text = b"%d" % time
    assert time_of_text(text) == time_of_json(time) == time_of_id(text + b"-7") == time
    assert times_of([text, b"5"]).tolist() == [time, 5]
    assert bounded_times(np.array([7, time], np.int64)).tolist() == [7, time]


@pytest.mark.parametrize(
    "read",
    [
        lambda: time_of_text(b"%d" % (LATEST_TIME + 1)),
        lambda: time_of_json(LATEST_TIME + 1),
        lambda: time_of_json(-1),
        lambda: time_of_id(b"%d-0" % (LATEST_TIME + 1)),
        lambda: time_of_text(b"1969-12-31T23:59:59.999Z"),
    ],
)
def test_times_beyond_the_bounds(read: Callable[[], int]) -> None:
    with pytest.raises(BadTimeError, match="lies outside the years 1970 to 9999"):
        read()


@pytest.mark.parametrize("time", [-1, LATEST_TIME + 1])
def test_one_time_beyond_the_bounds_sends_all_the_slow_way(time: int) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        bounded_times(np.array([5, time, 6], np.int64))


def test_no_times_are_within_the_bounds() -> None:
    assert len(bounded_times(np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"2024-01-01T00:00:00.0019", 1704067200001),  # the part of a millisecond is cut
        (b"2024-01-01T01:00:00+01:00", 1704067200000),
        (b"2024-01-01T00:00:00", 1704067200000),  # UTC, where no zone is given
        (b"20240101", 20240101),
        (b"0" * 50 + b"17", 17),
        (b"000", 0),
    ],
)
def test_times_in_texts(text: bytes, time: int) -> None:
    assert time_of_text(text) == time_of_json(text.decode()) == time


@pytest.mark.parametrize("time", [1.5, True, None, [], math.nan, math.inf])
def test_json_that_is_no_time(time: Any) -> None:
    with pytest.raises(BadTimeError, match="not milliseconds since 1970 nor ISO 8601") as bad:
        time_of_json(time)
    assert str(bad.value).startswith(f"time is {time!r}")
    assert bad.value.kind == "time"


def test_a_whole_float_is_a_time() -> None:
    assert repr(time_of_json(5.0)) == "5"


@pytest.mark.parametrize("cells", [[b"5", b"-1"], [b" 5"], [b"+5"], [b"1_0"], [b""], [b"5.0"]])
def test_times_that_are_no_plain_numbers_go_the_slow_way(cells: list[bytes]) -> None:
    with pytest.raises(ValueError, match="forgives signs, blanks and underscores"):
        times_of(cells)


def test_times_may_have_leading_zeros() -> None:
    assert times_of([b"007", b"0"]).tolist() == [7, 0]


def test_a_name_has_at_most_so_many_bytes() -> None:
    longest = "é".encode() * (LONGEST_NAME // 2)
    assert LONGEST_NAME == 512
    assert checked_name(longest) == longest
    check_names([b"a", longest])
    with pytest.raises(ValueError, match="empty or too long"):
        check_names([longest + b"x"])
    with pytest.raises(BadSeriesError, match=r"^a series name of 513 bytes; 1 to 512 are allowed$"):
        checked_name(longest + b"x")


@pytest.mark.parametrize("name", [b"", b"\xff", b"a\xc3"])
def test_a_name_is_text(name: bytes) -> None:
    with pytest.raises(BadSeriesError) as bad:
        checked_name(name)
    assert bad.value.kind == "series"
    with pytest.raises(ValueError, match=r"empty|utf-8"):
        check_names([b"a", name])


def test_names_do_not_reach_into_each_other() -> None:
    with pytest.raises(UnicodeDecodeError):
        check_names([b"\xc3", b"\xa9"])
    check_names([])


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


@pytest.mark.parametrize("cell", [b"", b"1_0", b"x", "5", True, False, None, [1]])
def test_what_is_no_number_is_shown(cell: Any) -> None:
    number, fault = number_of(cell)
    assert math.isnan(number)
    assert fault == f"is {shown(cell)}, not a number"


def test_nan_is_a_fault_of_its_own() -> None:
    number, fault = number_of(b"nan")
    assert math.isnan(number)
    assert fault == "is nan, not a finite number"


@pytest.mark.parametrize("zero", [b"-0", b"-0.0", -0.0])
def test_no_zero_is_negative(zero: Any) -> None:
    assert math.copysign(1, number_of(zero)[0]) == 1


@pytest.mark.parametrize("cells", [[b"-0.0", b"1"], [b"-0", b"+1"]])
def test_no_zero_of_many_is_negative(cells: list[bytes]) -> None:
    found = numbers_of(cells)
    assert found.tolist() == [0, 1]
    assert math.copysign(1, found[0]) == 1
    assert found.dtype == np.float64


@pytest.mark.parametrize("cells", [[b"1", b"nan"], [b"1", b"1_0"], [b"1,2"], [b"[1"], [b""]])
def test_numbers_that_are_none_go_the_slow_way(cells: list[bytes]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - float() has words of its own
        numbers_of(cells)


def test_true_is_no_number_though_json_knows_it() -> None:
    with pytest.raises(ValueError, match="true"):
        numbers_of([b"true", b"1"])


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
