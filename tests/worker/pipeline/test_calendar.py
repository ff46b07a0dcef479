"""A clock of months and of business days."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model_files import write_mean_model
from tidecast.worker.contract import Calendar
from tidecast.worker.pipeline.calendar import DAY, STEPS, elapsed, moment
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.step import Pipeline

YEARS = st.integers(-62_135_596_800_000, 253_402_300_799_999)
"""The years 1 to 9999."""


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def steps(calendar: Calendar, *days: str) -> list[float]:
    shown = elapsed(np.array([at(day) for day in days]), calendar)
    return [round(step, 3) for step in (np.diff(shown) / STEPS[calendar]).tolist()]


def test_months_are_one_step_apart() -> None:
    """Whether rows stand at their beginnings, at their ends or in between."""
    assert steps("1mo", "2023-12-01", "2024-01-01", "2024-02-01", "2024-03-01") == [1, 1, 1]
    assert steps("1mo", "2024-01-31", "2024-02-29", "2024-03-31", "2024-05-31") == [
        *(0.998, 1.002, 2.0),
    ]
    assert steps("1mo", "2024-01-15", "2024-02-15", "2024-03-15") == [1.031, 0.969]


def test_weekends_are_no_time() -> None:
    """::

    Thu 4 July 2024   Fri 5   Sat 6   Sun 7   Mon 8   Tue 9
         |-------------|-------|               |-------|
    """
    assert steps("1bd", "2024-07-04", "2024-07-05", "2024-07-08", "2024-07-09") == [1, 1, 1]
    assert steps("1bd", "2024-07-05T17:30", "2024-07-06T09:00", "2024-07-08") == [0.271, 0]
    assert steps("1bd", "2024-07-05", "2024-07-10") == [3]


@given(YEARS, YEARS, st.sampled_from(["1mo", "1bd"]))
def test_the_clock_goes_forward_and_can_be_read_back(
    one: int, other: int, calendar: Calendar
) -> None:
    earlier, later = sorted((one, other))
    shown = elapsed(np.array([earlier, later]), calendar)
    assert shown[0] <= shown[1]
    weekend = (np.array([earlier, later]) // DAY + 3) % 7 >= 5
    again = moment(shown, calendar)
    assert ((again == [earlier, later]) | (weekend if calendar == "1bd" else False)).all()


@pytest.mark.parametrize("calendar", ["1mo", "1bd"])
def test_a_slot_lies_where_a_step_begins(calendar: Calendar) -> None:
    begun = moment(np.arange(-30, 30) * STEPS[calendar], calendar)
    assert (begun % DAY == 0).all()
    days = [datetime.fromtimestamp(time / 1000, UTC) for time in begun.tolist()]
    assert all(day.day == 1 if calendar == "1mo" else day.weekday() < 5 for day in days)


def months_of(
    folder: Path, *readings: tuple[str, float], **described: Any
) -> tuple[list[Any], Pipeline]:
    """The forecasts of a model of months, a reading an entry."""
    grid: dict[str, Any] = {"gaps": "linear", "max_gap": 1, "min_steps": 2, "n_steps": 3}
    write_mean_model(folder / "m.onnx", **(grid | {"calendar": "1mo"} | described))
    registry = load_registry(folder)
    pipeline = Pipeline(registry, Decoder("s", registry.features), 10)
    entries = [
        (b"%d-0" % (at("2026-01-01") + number), [b"ts", day.encode(), b"value", b"%g" % value])
        for number, (day, value) in enumerate(readings)
    ]
    return [orjson.loads(r) for c in pipeline.step(entries) for r in c.records], pipeline


def test_months_are_slots(tmp_path: Path) -> None:
    """::

    month   Dec  Jan  Feb  Mar  Apr        Feb is filled, as one month may be
    value    1    2   (4)   6    .
    """
    made, _ = months_of(tmp_path, ("2023-12-31", 1), ("2024-01-31", 2), ("2024-03-31", 6))
    assert [(one["at"], one["forecast"]["value"]) for one in made] == [
        (at("2024-01-31"), [np.float32(4 / 3)]),
        (at("2024-03-31"), [4.0]),
    ]
    assert (made[1]["step"], made[1]["calendar"], made[1]["filled"]) == (None, "1mo", 0.3333)


def test_days_are_aggregated_into_months(tmp_path: Path) -> None:
    made, pipeline = months_of(
        tmp_path,
        *(("2024-01-30", 1), ("2024-01-31", 2), ("2024-02-01", 5), ("2024-02-29", 6)),
        ("2024-03-01", 9),
        aggregate={"value": "sum"},
    )
    assert [(one["at"], one["forecast"]["value"]) for one in made] == [
        (at("2024-02-01"), [np.float32((3 + 3 + 11) / 3)])
    ]
    assert pipeline.fates.joined == 5


def test_business_days_go_on_behind_a_weekend(tmp_path: Path) -> None:
    days = [("2024-07-04", 1.0), ("2024-07-05", 2.0), ("2024-07-08", 3.0), ("2024-07-09", 4.0)]
    made, _ = months_of(tmp_path, *days, calendar="1bd", max_gap=0)
    assert [one["forecast"]["value"] for one in made] == [[np.float32(4 / 3)], [2.0], [3.0]]
    assert "filled" not in made[2]
