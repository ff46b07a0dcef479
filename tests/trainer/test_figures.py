"""Numbers as people write them."""

import math

import pytest

from tidecast.trainer.figures import chance, duration, number, unit_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1770.0, "1,770"),
        (0.0012, "0.0012"),
        (687.04, "687"),
        (3349.6, "3,350"),
        (17957.4, "17,957"),
        (1234567.8, "1,234,568"),
        (0.36374, "0.3637"),
        (-0.08789, "-0.08789"),
        (9.99996, "10"),
        (100.0, "100"),
        (0.0, "0"),
        (2.0, "2"),
        (1.2345e-6, "0.000001234"),
        (1.2e-9, "1.2e-09"),
        (3e20, "3e+20"),
        (None, "-"),
        (math.nan, "-"),
        (-math.inf, "-"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_digits_and_units() -> None:
    assert number(123.4, 2) == "123"
    assert number(1.26, 2) == "1.3"
    assert number(1770.0, unit="MW") == "1,770 MW"
    assert [unit_of(names) for names in (["load [MW]"], ["a (°C)", "b (°C)"], ["a (m)", "b"])] == [
        "MW",
        "°C",
        "",
    ]
    assert unit_of(["value", "f(x) more"]) == ""


def test_times_and_chances() -> None:
    assert [duration(s) for s in (604_800, 5400, 1800, 90, 0.25)] == [
        "7 d", "90 min", "30 min", "90 s", "0.25 s",
    ]  # fmt: skip
    assert [chance(p) for p in (7.4e-10, 0.0123, 0.5)] == ["p < 0.0001", "p = 0.012", "p = 0.5"]
