"""Columns of times in the forms that people use: read, told, or refused with both readings."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.files.errors import FileError
from tidecast.files.options import FileOptions
from tidecast.files.times import iso, read_times


def read(cells: list[Any], **options: Any) -> list[str]:
    column = pl.Series("t", cells)
    names = pl.Series([""]).new_from_index(0, len(cells))
    times = read_times(column, names, FileOptions(**options)).times
    return [iso(time) for time in times]


@pytest.mark.parametrize(
    ("cells", "times"),
    [
        (["2024-03-01T00:00:00Z", "2024-03-01 01:00"], ["2024-03-01 00:00", "2024-03-01 01:00"]),
        (["2024-03-01T02:00:00+01:00", "2024-03-01 02:00:00 +0100"], ["2024-03-01 01:00"] * 2),
        (["01.03.2024 00:00", "13.03.2024 01:00"], ["2024-03-01 00:00", "2024-03-13 01:00"]),
        (["01/03/2024", "31/03/2024"], ["2024-03-01 00:00", "2024-03-31 00:00"]),
        (["03/01/2024", "03/31/2024"], ["2024-03-01 00:00", "2024-03-31 00:00"]),
        (["1/3/24 5:00 PM", "25/3/24 12:00 AM"], ["2024-03-01 17:00", "2024-03-25 00:00"]),
        (["2024/03/01 10:00:01"], ["2024-03-01 10:00:01"]),
        (["Mar 1, 2024", "Dec 31, 2024"], ["2024-03-01 00:00", "2024-12-31 00:00"]),
        (["1 March 2024"], ["2024-03-01 00:00"]),
        (["Fri, 01 Mar 2024 06:00:00 GMT"], ["2024-03-01 06:00"]),
        (["20240301T060000Z"], ["2024-03-01 06:00"]),
        (["2024-03", "2024-04"], ["2024-03-01 00:00", "2024-04-01 00:00"]),
        (["20240301", "20240302"], ["2024-03-01 00:00", "2024-03-02 00:00"]),
        ([20240301, 20240302], ["2024-03-01 00:00", "2024-03-02 00:00"]),
        (["202403010600", "202403010630"], ["2024-03-01 06:00", "2024-03-01 06:30"]),
        (["202403", "202404", "202405"], [f"2024-0{month}-01 00:00" for month in (3, 4, 5)]),
        (["1990", "1991", "1992"], [f"{year}-01-01 00:00" for year in (1990, 1991, 1992)]),
        (["1709251200", "1709254800"], ["2024-03-01 00:00", "2024-03-01 01:00"]),
        (["1709251200.5"], ["2024-03-01 00:00:00"]),
        ([1709251200000], ["2024-03-01 00:00"]),
        (["Jan 2024", "feb 2024"], ["2024-01-01 00:00", "2024-02-01 00:00"]),
        (["January 2024", "May 2024"], ["2024-01-01 00:00", "2024-05-01 00:00"]),
        (["Jan-05", "Feb-05"], ["2005-01-01 00:00", "2005-02-01 00:00"]),
        (["1/2024", "12/2024"], ["2024-01-01 00:00", "2024-12-01 00:00"]),
        (["2024 Mar", None, "2024 Apr"][::2], ["2024-03-01 00:00", "2024-04-01 00:00"]),
        (["2024Q1", "2024Q4"], ["2024-01-01 00:00", "2024-10-01 00:00"]),
        (["Q2 2024", "Q3 2024"], ["2024-04-01 00:00", "2024-07-01 00:00"]),
        (["2024-W01", "2026-W53"], ["2024-01-01 00:00", "2026-12-28 00:00"]),
        (["Fri Mar 01 06:00:00 UTC 2024"], ["2024-03-01 06:00"]),
        (["[01/Mar/2024:06:00:00 +0100]"], ["2024-03-01 05:00"]),
    ],
)
def test_forms(cells: list[Any], times: list[str]) -> None:
    assert read(cells) == times


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["01/03/2024"], "may be 1 March 2024 or 3 January 2024; say --time-format '%d/%m/%Y' for"),
        (["01.02.03"], "may be 1 February 2003 or 3 February 2001"),
        (["45352", "45353"], "may be 1 March 2024, as spreadsheets count days, or milliseconds"),
        (
            ["2024-03-01T00:00:00", "13.03.2024 12:00"],
            "data row 2: '13.03.2024 12:00' is no time as '2024-03-01T00:00:00' of data row 1 is;",
        ),
        (
            ["2024-03-01", "Total"],
            "'Total' is no time .*; lines behind the last row. --skip-footer 1",
        ),
        (["2024-03-01", None], "data row 2: missing is no time"),
        (["0", "200000000"], "count ms and s since 1970; say --time-unit"),
        (["12:00"], "'12:00' is no time"),
        (["2024-03-01", "x" * 999], r"data row 2: 'x{40}\.\.\.' is no time"),
        ([None, None], "data row 1: missing is no time"),
        (
            [0, 60_000],
            "data row 1: '0' would be 1 January 1970, if it counts milli.*--time-unit ms;",
        ),
        (["01032024", "15032024"], "'01032024' would be 1 January 1970, .* --time-format %d%m%Y"),
        (["2024Q5"], "'2024Q5' is no time"),
        (["Jan-05", "Jan-06", "Jan-07"], "'Jan-05' is no time"),
        ([*range(20240301, 20240321), 20240399], "data row 21: 20240399 is no time as 20240301 of"),
        (["20240301", "20240302", "Total"], "data row 3: 'Total' is no time .* --skip-footer 1"),
        (["2024-03-01", "2024-03-02", "5"], "data row 3: '5' is no time as '2024-03-01' of"),
    ],
)
def test_what_is_no_time_or_two_is_refused(cells: list[Any], told: str) -> None:
    with pytest.raises(FileError, match=told):
        read(cells)


def test_a_form_that_is_told() -> None:
    assert read(["01/03/2024"], time_format="%d/%m/%Y") == ["2024-03-01 00:00"]
    assert read(["01/03/2024"], time_format="%m/%d/%Y") == ["2024-01-03 00:00"]
    assert read(["45352.25", "45352.5"], time_format="excel") == [
        "2024-03-01 06:00",
        "2024-03-01 12:00",
    ]
    with pytest.raises(FileError, match="data row 2: missing is no time as '45352' of data row 1"):
        read(["45352", None], time_format="excel")
    assert read(["45352", "45353"], time_unit="ms") == ["1970-01-01 00:00:45"] * 2
    assert read(["0", "60000"], time_unit="ms") == ["1970-01-01 00:00", "1970-01-01 00:01"]
    assert read(["01032024"], time_format="%d%m%Y") == ["2024-03-01 00:00"]
    assert read(["5.2024"], time_format="%m.%Y") == ["2024-05-01 00:00"]
    with pytest.raises(FileError, match="no form of times"):
        read(["01/03/2024"], time_format="%H")


def test_local_times_of_other_forms_are_read_in_their_zone() -> None:
    assert read(["01.07.2024 12:00", "31.07.2024 12:00"], time_zone="Europe/Berlin") == [
        "2024-07-01 10:00",
        "2024-07-31 10:00",
    ]


FORMS = ("%d.%m.%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p", "%b %d, %Y", "%Y/%m/%d %H:%M")


@given(
    st.sampled_from(FORMS),
    st.lists(st.integers(0, 20_000), min_size=1, max_size=20, unique=True),
)
def test_whatever_is_read_is_what_was_meant(form: str, days: list[int]) -> None:
    """A column is refused or means what its writer meant; never something else."""
    meant = [datetime(1990, 1, 1, 6, 30, tzinfo=UTC) + timedelta(days=day) for day in days]
    cells = [moment.strftime(form) for moment in meant]
    try:
        found = read(cells)
    except FileError as error:
        assert "may be" in str(error)  # noqa: PT017 - one of two outcomes
        return
    clock = "%H:%M" if "%M" in form else "00:00"
    assert found == [moment.strftime(f"%Y-%m-%d {clock}") for moment in meant]
