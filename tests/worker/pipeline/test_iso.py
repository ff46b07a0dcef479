"""Times in ISO 8601: read many at once as each by itself."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidecast.worker.pipeline.cells import BadTimeError, time_of_text, times_in
from tidecast.worker.pipeline.iso import SHAPES, iso_times

moments = st.datetimes()
zones = st.sampled_from(["", "Z", "+00:00", "-07:30", "+23:59", "+24:00", "+01:60", "*01:00"])
fractions = st.sampled_from(["", ".5", ".123", ".123456", ".1234567", ",123", ".12x"])
texts = st.builds(
    lambda moment, blank, fraction, zone: (
        moment.isoformat(blank, timespec="seconds") + fraction + zone
    ),
    moments,
    st.sampled_from(["T", " ", "t", "_"]),
    fractions,
    zones,
)
BROKEN = [
    "2023-02-29T00:00:00",
    "2024-13-01T00:00:00",
    "2024-00-01T00:00:00",
    "2024-01-00T00:00:00",
    "2024-04-31T00:00:00Z",
    "0000-01-01T00:00:00",
    "2024-01-01T24:00:00",
    "2024-01-01T00:60:00",
    "noon",
    "-",
    "2024-01-01T00:00:60",
    "2024/01/01T00:00:00",
    "2024-01-01",
    "20240101T000000",
    "2024-W01-1",
    "2024-01-01T0-:00:00",
    "1969-12-31T23:59:59.999Z",
    "9999-12-31T23:59:59-00:01",
]
broken = st.sampled_from(BROKEN)


def by_itself(text: bytes) -> int | None:
    try:
        return time_of_text(text)
    except BadTimeError:
        return None


@given(st.lists(texts | broken, max_size=30))
@example(["2024-02-29T12:34:56", "2023-02-29T12:34:56"])
def test_many_are_what_each_is_by_itself(said: list[str]) -> None:
    cells = [text.encode() for text in said]
    alone = [by_itself(cell) for cell in cells]
    times, odd = times_in(cells)
    assert odd == [place for place, time in enumerate(alone) if time is None]
    assert [None if place in odd else t for place, t in enumerate(times.tolist())] == alone


@pytest.mark.parametrize("size", sorted(SHAPES))
def test_the_usual_shapes_are_read_many_at_once(size: int) -> None:
    fraction, zone = SHAPES[size]
    text = "2024-02-29T23:59:58" + (".123456789"[: fraction + 1] if fraction else "")
    text += {0: "", 1: "Z", 6: "+01:30"}[zone]
    assert len(text) == size
    times, read = iso_times([text.encode(), b"x" * size])
    assert read.tolist() == [True, False]
    assert times[0] == time_of_text(text.encode())


def test_every_day_of_eight_thousand_years() -> None:
    days = np.arange("1970-01-01", "9999-12-31", dtype="datetime64[D]")[::7]
    times, read = iso_times([b"%bT00:00:00" % str(day).encode() for day in days])
    assert read.all()
    np.testing.assert_array_equal(times, days.astype("datetime64[ms]").astype(np.int64))
