"""Decimal commas, thousands and markers: what is read, and what is refused."""

from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.files.errors import FileError
from tidecast.files.numbers import Mark, marks_of, plain, without_markers, without_unit


def read(cells: Sequence[str | None], decimal: Mark | None = None) -> list[float]:
    column = pl.Series("x", cells, dtype=pl.String)
    mark = marks_of({"x": column}, decimal).get("x")
    return plain(column, mark).cast(pl.Float64).to_list()


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1.5", "-2", "3e2"], [1.5, -2, 300]),
        (["19,90", "21,50"], [19.9, 21.5]),
        (["1,234", "19,9"], [1.234, 19.9]),
        (["0,123", "1,234"], [0.123, 1.234]),
        (["1.234,5", "1.234.567,25", "2"], [1234.5, 1234567.25, 2]),
        (["1,234.5", "2", "999"], [1234.5, 2, 999]),
        (["1,234,567", "1,234"], [1234567, 1234]),
        (["1 234,5", "2\u00a0345\u00a0678,5", "1,5"], [1234.5, 2345678.5, 1.5]),
        (["1'234.5", "7"], [1234.5, 7]),
        (["1.234", "2.345"], [1.234, 2.345]),
        (["1,5e-3", "2,5"], [0.0015, 2.5]),
        ([None, "1,5"], [None, 1.5]),
    ],
)
def test_numbers_as_people_write_them(cells: list[str | None], numbers: list[float]) -> None:
    assert read(cells) == numbers


def test_what_may_be_a_thousand_or_a_fraction_is_refused_and_can_be_told() -> None:
    with pytest.raises(FileError, match=r"'1,234' may be 1234 or 1.234: say --decimal \. for the"):
        read(["1,234", "2,345"])
    assert read(["1,234", "2,345"], ".") == [1234, 2345]
    assert read(["1,234", "2,345"], ",") == [1.234, 2.345]


def test_another_column_of_the_file_may_tell() -> None:
    columns = {"a": pl.Series(["1,234", "2,345"]), "b": pl.Series(["19,9", "20,5"])}
    assert marks_of(columns) == {"a": ",", "b": ","}


def test_both_marks_in_one_column_are_refused() -> None:
    with pytest.raises(FileError, match=r"'19,9' has a decimal comma and '20.5' a decimal point"):
        read(["19,9", "20.5"])


@pytest.mark.parametrize(
    ("cells", "numbers", "unit"),
    [
        (["20.1 W", None, "-3 W"], ["20.1", None, "-3"], "W"),
        (["20\u00b0C", "-1\u00b0C"], ["20", "-1"], "\u00b0C"),
        (["5%", "6%"], ["5", "6"], "%"),
        (["$1,200.5", "-$3"], ["1,200.5", "-3"], "$"),
        (["1 234,5 \u20ac", "3 \u20ac"], ["1 234,5", "3"], "\u20ac"),
        (["5 kW/h\u00b2", "6 kW/h\u00b2"], ["5", "6"], "kW/h\u00b2"),
    ],
)
def test_a_unit_that_all_have_is_left_out(
    cells: list[str | None], numbers: list[str | None], unit: str
) -> None:
    bare, found = without_unit(pl.Series("x", cells))
    assert (bare.to_list(), found) == (numbers, unit)


@pytest.mark.parametrize(
    "cells",
    [["1.2 kW", "900 W"], ["S1", "S2"], ["1e5", "2e5"], ["5 N", "5 NE"], ["2024-01-01"], ["1.5"],
     ["10:30"], ["5 kW", "warm"], [None], []],
)  # fmt: skip
def test_what_is_no_number_with_one_unit_stays(cells: list[str | None]) -> None:
    bare, found = without_unit(pl.Series("x", cells, dtype=pl.String))
    assert (bare.to_list(), found) == (cells, "")


def test_text_stays_as_it_is() -> None:
    column = pl.Series("x", ["warm", "1,5", "a, b", "Ltd. 3,5 x"])
    assert plain(column, ",").to_list() == ["warm", "1.5", "a, b", "Ltd. 3,5 x"]


@given(st.lists(st.floats(-1e12, 1e12).map(lambda x: round(x, 2)), min_size=1, max_size=20))
def test_a_number_with_comma_and_dots_is_that_number(numbers: list[float]) -> None:
    german = [f"{x:,.2f}".translate(str.maketrans(",.", ".,")) for x in numbers]
    assert read(german) == numbers
    assert read([f"{x:,.2f}" for x in numbers]) == numbers


def test_markers_in_any_case_of_letters_and_those_that_are_told() -> None:
    column = pl.Series(["NULL", " na ", "-", "?", "unknown", "Unavailable", "-999.0", "off", "7"])
    assert without_markers(column, ["-999", "OFF"]).to_list() == [None] * 8 + ["7"]
    assert without_markers(column).to_list()[6:] == ["-999.0", "off", "7"]
