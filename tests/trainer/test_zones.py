"""Local times: read in their zone, or told of."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tidecast.files.options import FileOptions
from tidecast.trainer.errors import DataError
from tidecast.trainer.series import load_history

AUTUMN, SPRING = datetime(2023, 10, 28, 12, tzinfo=UTC), datetime(2023, 3, 25, 12, tzinfo=UTC)


def written(path: Path, moments: list[datetime], zone: str, *, names: bool = False) -> Path:
    """A file of local times, as somebody's export has them; two series by turns with ``names``."""
    local = [moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M") for moment in moments]
    rows = [
        f"{text},{number},{name}"
        for number, text in enumerate(local)
        for name in ("ab" if names else "a")
    ]
    path.write_text("time,y,name\n" + "\n".join(rows) + "\n")
    return path


def times_of(start: datetime, minutes: int, count: int) -> list[datetime]:
    return [start + timedelta(minutes=minutes * number) for number in range(count)]


@pytest.mark.parametrize("minutes", [15, 30, 60])
@pytest.mark.parametrize("start", [AUTUMN, SPRING], ids=["autumn", "spring"])
@pytest.mark.parametrize("newest_first", [False, True], ids=["", "newest first"])
@pytest.mark.parametrize("names", [False, True], ids=["one series", "two by turns"])
def test_local_times_are_read_rightly(
    tmp_path: Path, start: datetime, minutes: int, newest_first: bool, names: bool
) -> None:
    moments = times_of(start, minutes, 24 * 60 // minutes)
    column = "name" if names else None
    told = moments[::-1] if newest_first else moments
    path = written(tmp_path / "x.csv", told, "Europe/Berlin", names=names)
    history = load_history(
        path, ["y"], file=FileOptions(series_column=column, time_zone="Europe/Berlin")
    )
    for series in history.series:
        assert series.times is not None
        assert series.times.tolist() == [int(m.timestamp() * 1000) for m in moments]
    assert history.remarks == ()
    assert history.step_seconds == 60 * minutes


@pytest.mark.parametrize("minutes", [15, 60])
@pytest.mark.parametrize(
    ("start", "zone", "said"),
    [
        (AUTUMN, "Europe/Berlin", "the hour of 2023-10-29 02:00 comes twice"),
        (SPRING, "Europe/Berlin", "the hour of 2023-03-26 02:00 never comes"),
        (AUTUMN + timedelta(days=7, hours=5), "America/New_York", "2023-11-05 01:00 comes twice"),
        (datetime(2024, 4, 6, 2, tzinfo=UTC), "Australia/Sydney", "2024-04-07 02:00 comes twice"),
    ],
    ids=["back", "forward", "New York", "Sydney"],
)
def test_an_hour_that_comes_twice_or_never_is_told(
    tmp_path: Path, minutes: int, start: datetime, zone: str, said: str
) -> None:
    path = written(tmp_path / "x.csv", times_of(start, minutes, 48 * 60 // minutes), zone)
    (remark,) = load_history(path, ["y"]).remarks
    assert said in remark
    assert "--time-zone" in remark


@pytest.mark.parametrize("without", [set(), {5}, {200}, set(range(50, 90))])
def test_usual_times_and_holes_are_not_taken_for_a_change_of_the_clock(
    tmp_path: Path, without: set[int]
) -> None:
    moments = times_of(datetime(2023, 6, 1, tzinfo=UTC), 60, 400)
    kept = [moment for number, moment in enumerate(moments) if number not in without]
    assert load_history(written(tmp_path / "x.csv", kept, "UTC"), ["y"]).remarks == ()


def test_times_with_a_zone_of_their_own_keep_it(tmp_path: Path) -> None:
    text = "time,y\n2023-10-29T02:30+01:00,1\n2023-10-29T02:00:00Z,2\n2023-10-29T04:00,3\n"
    (tmp_path / "x.csv").write_text(text)
    history = load_history(
        tmp_path / "x.csv", ["y"], step_seconds=None, file=FileOptions(time_zone="Europe/Berlin")
    )
    times = history.series[0].times
    assert times is not None
    hours = (times - int(datetime(2023, 10, 29, tzinfo=UTC).timestamp() * 1000)) / 3_600_000
    assert hours.tolist() == [1.5, 2, 3]


@pytest.mark.parametrize(
    ("zone", "said"),
    [("Mars/Base", "no such zone"), ("Europe/Berlin", "clocks may have gone forward")],
)
def test_what_cannot_be_is_refused(tmp_path: Path, zone: str, said: str) -> None:
    path = written(tmp_path / "x.csv", times_of(SPRING, 30, 48), "UTC")
    with pytest.raises(DataError, match=said):
        load_history(path, ["y"], file=FileOptions(time_zone=zone))


def test_a_wide_file_of_two_autumns(tmp_path: Path) -> None:
    """The second one begins in its first hour again."""
    both = times_of(AUTUMN, 30, 48) + times_of(AUTUMN + timedelta(days=364), 30, 48)
    path = written(tmp_path / "x.csv", both, "Europe/Berlin")
    times = (
        load_history(path, ["y"], step_seconds=1800, file=FileOptions(time_zone="Europe/Berlin"))
        .series[0]
        .times
    )
    assert times is not None
    np.testing.assert_array_equal(times, [int(m.timestamp() * 1000) for m in both])
