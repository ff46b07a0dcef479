"""Times that are all written alike are read as a library reads them, or not at all."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.files.fixed import fixed_times

FORMS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%SZ")
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - of UTC
    lambda moment: moment.replace(tzinfo=UTC, microsecond=0)
)


def text_of(moment: datetime, form: str) -> str:
    """Return a time with all four digits of its year, of which strftime leaves out noughts."""
    return moment.strftime(form.replace("%Y", f"{moment.year:04}"))


@given(st.lists(moments, min_size=1), st.sampled_from(FORMS))
def test_they_are_read_to_the_second(times: list[datetime], form: str) -> None:
    read = fixed_times(pl.Series([text_of(one, form) for one in times]))
    assert read is not None
    unit = {"%d": timedelta(days=1), "%M": timedelta(minutes=1)}.get(
        form[-2:], timedelta(seconds=1)
    )
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    meant = [(one - zero) // unit * unit for one in times]
    assert read.to_list() == [one // timedelta(milliseconds=1) for one in meant]


@given(st.data(), st.sampled_from(FORMS))
def test_what_is_altered_is_another_time_or_none(data: st.DataObject, form: str) -> None:
    """As the standard library sees it; a letter is put where another stood."""
    times = data.draw(st.lists(moments, min_size=1, max_size=5))
    cells = [text_of(one, form) for one in times]
    row = data.draw(st.integers(0, len(cells) - 1))
    place = data.draw(st.integers(0, len(cells[0]) - 1))
    letter = data.draw(st.characters(min_codepoint=32, max_codepoint=0xFF))
    cells[row] = cells[row][:place] + letter + cells[row][place + 1 :]
    read = fixed_times(pl.Series(cells))
    try:
        same = cells[row].replace(" ", "T", 1), form.replace(" ", "T")
        meant = datetime.strptime(*same).replace(tzinfo=UTC)
    except ValueError:
        assert read is None or cells[row].startswith("0000")  # that is refused for its age
        return
    if read is None:  # the library takes " 1" for a day
        assert cells[row].replace(" ", "T", 1) != text_of(meant, form.replace(" ", "T"))
        return
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    assert read[row] == round((meant - zero) / timedelta(milliseconds=1))


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-03-01", None],
        ["2024-03-01", "2024-03-01T00:00"],
        ["20240301"],
        ["2024-02-30"],
        ["2024-03-01T24:00"],
        ["2024-03-01T23:60"],
        ["2024-03-01T23:59:60"],
        ["2024-03-\u0661"],
    ],
)
def test_what_is_none_is_left_to_others(cells: list[str | None]) -> None:
    assert fixed_times(pl.Series(cells)) is None
