"""The measurement itself: published forecasts give the offline table, and it can tell."""

from pathlib import Path

import numpy as np
import pytest

from tests.accuracy.__main__ import agree, read_results, run_case, write_results
from tests.accuracy.cases import CASES, Case, Result
from tests.accuracy.report import document

RANDOM = np.random.default_rng(8)
SMALL = Case(
    name="small",
    file="small.csv",
    targets=("a", "b"),
    horizon=3,
    measure="unit_mse",
    goal=10.0,
    reach=0.0,
    features=("a", "b", "c"),
    rows=(300, 100, 500),
    published="nobody .1",
)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A record of three columns by the hour, longer than the case takes."""
    values = RANDOM.normal(size=(600, 3)).cumsum(axis=0)
    hours = np.datetime64("2024-01-01T00") + np.arange(600)
    lines = [
        f"{hour}:00:00,{','.join(f'{v:.4f}' for v in row)}"
        for hour, row in zip(hours, values, strict=True)
    ]
    (tmp_path / "small.csv").write_text("\n".join(["date,a,b,c", *lines]) + "\n")
    return tmp_path


def test_a_case_is_fitted_scored_and_replayed(records: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    result = run_case(SMALL, records, 1, folder)
    assert result.live == pytest.approx(result.found, rel=1e-5)
    assert result.relative[0] == pytest.approx(result.found[0] / min(result.baselines.values()))
    page = document([result], "2026-01-01")
    assert "| small | 3 |" in page
    assert "nobody .1" in page
    assert "missed" not in page


def test_a_table_that_differs_is_refused() -> None:
    agree(SMALL, {"mae": 2.0}, {"mae": 2.0 + 1e-6}, 5, 5)
    for value, windows in ((2.001, 5), (None, 5), (2.0, 4)):
        with pytest.raises(SystemExit, match="live"):
            agree(SMALL, {"mae": 2.0}, {"mae": value}, windows, 5)


def test_every_goal_is_a_case() -> None:
    assert len(CASES) == 6 + 1 + 16
    assert len({(case.name, case.horizon) for case in CASES}) == len(CASES)


def test_what_an_earlier_run_found_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    assert read_results(path) == []
    results = [
        Result(SMALL, [0.5], [0.5], [0.4], {"naive": 1.0}, [3.0], "7 steps"),
        Result(CASES[6]),
    ]
    write_results(path, results)
    assert read_results(path) == results
