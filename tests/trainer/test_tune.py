"""The search: bounded, resumable, blind for the test rows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.conftest import config_of, history_of
from tests.trainer.test_command_line import trainer
from tidecast.trainer.errors import DataError
from tidecast.trainer.series import split_rows
from tidecast.trainer.tune import TUNED, Found, search

VALUES = np.sin(np.arange(500) / 5) + np.random.default_rng(0).normal(size=500) / 5
CONFIG = config_of(epochs=2, n_steps=None, units=None)


def test_a_search_keeps_what_it_found_and_goes_on(tmp_path: Path) -> None:
    storage, history = tmp_path / "m.sqlite", history_of(VALUES)
    heard: list[tuple[int, Found | None]] = []
    first = search(
        CONFIG, history, storage, seconds=600, trials=2, after=lambda *each: heard.append(each)
    )
    assert [count for count, _ in heard] == [1, 2]
    assert set(first.choices) == set(TUNED)
    assert first.error <= (first.usual or 0)
    second = search(CONFIG, history, storage, seconds=600, trials=1)
    assert second.trials == 3
    assert second.usual == first.usual
    assert second.error <= first.error
    other = search(config_of(epochs=1), history, storage, seconds=600, trials=1)
    assert other.trials == 1  # other options are another search


def test_test_rows_are_not_looked_at(tmp_path: Path) -> None:
    poisoned = VALUES.copy()
    poisoned[split_rows(500, None, None)["test"][0] :] = 1e6
    one, two = (
        search(CONFIG, history_of(values), tmp_path / f"{n}.sqlite", seconds=600, trials=2)
        for n, values in enumerate((VALUES, poisoned))
    )
    assert one == two


def test_the_time_is_kept(tmp_path: Path) -> None:
    """The clock leaps over the budget in the first trial's first epoch."""
    times = iter([0.0, 61.0])
    with pytest.raises(DataError, match=r"within 1 minutes.*--minutes"):
        search(CONFIG, history_of(VALUES), tmp_path / "m.sqlite", seconds=60, clock=times.__next__)


def test_the_command_ends_with_the_command_that_fits(csv: Path, tmp_path: Path) -> None:
    options = [csv, "--targets=value", "--horizon", "1", "--out", tmp_path / "new" / "out"]
    result = trainer("tune", *options, "--trials", "1", "--minutes=5")
    assert result.returncode == 0, result.stderr
    found, last = result.stdout.strip().splitlines()[-2:]
    assert re.fullmatch(
        r"best of 1 trials \(0 broken off\): validation error (\d[\d.]*) of the naive one, "
        r"\1 with what a fit chooses by itself",
        found,
    )
    assert last.startswith("fit it: tidecast-trainer fit ")
    assert "--minutes" not in last
    assert "--trials" not in last
    told = last.removeprefix("fit it: tidecast-trainer ").split()
    fitted = trainer(*told, "--epochs", "1", "--no-report", "--validation-rows", "0")
    assert fitted.returncode == 0, fitted.stderr
    assert "no validation window fits: the figures below are of the training rows" in fitted.stderr
    assert "MAE on the training rows" in fitted.stdout
    assert "validation" not in fitted.stdout
    as_json = trainer("tune", *options, "--trials", "1", "--json")
    assert json.loads(as_json.stdout)["trials"] == 2
