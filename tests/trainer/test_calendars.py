"""Which files have months or business days for steps, and what is fitted to them."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from tidecast.trainer.baselines import season_of
from tidecast.trainer.calendars import calendar_of, longest_holiday
from tidecast.trainer.config import fit_config
from tidecast.trainer.plan import make_plan
from tidecast.trainer.series import load_history
from tidecast.worker.contract import Calendar
from tidecast.worker.pipeline.calendar import DAY, elapsed


def months(count: int, day: int = 1) -> list[date]:
    return [date(2000 + number // 12, number % 12 + 1, day) for number in range(count)]


def days(count: int, without: Sequence[int] = (5, 6)) -> list[date]:
    all_of_them = (date(2020, 1, 1) + timedelta(days=number) for number in range(count))
    return [day for day in all_of_them if day.weekday() not in without]


def ends(count: int) -> list[date]:
    return [day - timedelta(days=1) for day in months(count + 1)[1:]]


CHRISTMAS = {date(2020, 12, 25), date(2020, 12, 28), date(2020, 7, 3)}


@pytest.mark.parametrize(
    ("rows", "calendar"),
    [
        (months(30), "1mo"),
        (months(30, 28), "1mo"),
        (ends(30), "1mo"),
        (months(30)[:7] + months(30)[9:], "1mo"),
        (days(300), "1bd"),
        ([day for day in days(400) if day not in CHRISTMAS], "1bd"),
        (days(300, ()), None),
        (days(300, (6,)), None),
        ([date(2020, 1, 1) + timedelta(days=30 * n) for n in range(30)], None),
        ([date(2020, 1, 1) + timedelta(days=7 * n) for n in range(30)], None),
        (months(8), None),
        (months(120)[::3], None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_file_shows(tmp_path: Path, rows: list[date], calendar: Calendar | None) -> None:
    times = np.array(rows, "datetime64[ms]").astype(np.int64)
    assert calendar_of([times]) == calendar
    text = "date,y\n" + "".join(f"{day},{number}\n" for number, day in enumerate(rows))
    (tmp_path / "x.csv").write_text(text)
    history = load_history(tmp_path / "x.csv", ["y"])
    assert history.calendar == calendar
    moments = history.moments(history.series[0])
    assert moments is not None
    assert moments.tolist() == times.tolist()


def test_months_make_a_year_and_business_days_a_week() -> None:
    assert (season_of(None, "1mo"), season_of(None, "1bd")) == (12, 5)


def test_a_step_that_is_told_is_taken(tmp_path: Path) -> None:
    """Of several rows of a month the last counts; of a weekend the Monday behind it."""
    rows = days(100, ())
    text = "date,y\n" + "".join(f"{day},{number}\n" for number, day in enumerate(rows))
    (tmp_path / "x.csv").write_text(text)
    history = load_history(tmp_path / "x.csv", ["y"], calendar="1mo", rules={"y": "count"})
    assert history.series[0].values[:, 0].tolist() == [31, 29, 31, 9]
    days_of = load_history(tmp_path / "x.csv", ["y"], calendar="1bd")
    assert days_of.series[0].values[2:5, 0].tolist() == [2, 5, 6]


def test_holidays_are_filled_however_much_that_costs(tmp_path: Path) -> None:
    rows = [day for day in days(800) if day not in CHRISTMAS]
    random = np.random.default_rng(1).normal(size=len(rows)).cumsum()
    lines = (f"{day},{value}\n" for day, value in zip(rows, random, strict=True))
    (tmp_path / "x.csv").write_text("date,y\n" + "".join(lines))
    history = load_history(tmp_path / "x.csv", ["y"])
    times = history.series[0].times
    assert times is not None
    assert longest_holiday([times]) == 2
    assert longest_holiday([elapsed(np.arange(10) * 7 * DAY, "1bd")]) == 0
    config = fit_config(name="x", targets=("y",), features=("y",), horizon=1)
    assert make_plan(config, history).max_gap >= 2
