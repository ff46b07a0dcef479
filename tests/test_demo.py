"""What the demo does to its record before and after the parts that other tests hold."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.model_files import spec_of
from tidecast.trainer.evaluate import windows_for
from tidecast.trainer.series import load_history

DEMO: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "deploy" / "demo.py"))


def test_the_co2_record_has_its_gaps(tmp_path: Path) -> None:
    path, target = DEMO["co2"](tmp_path)
    history = load_history(path, [target])
    assert (history.rows, history.missing, history.step_seconds) == (2284, 59, 604_800)


def test_only_rows_of_the_test_windows_are_fed(tmp_path: Path) -> None:
    """Rows without times get one a second; a missing value stays an empty cell."""
    path = tmp_path / "x.csv"
    values = [str(i) if i != 95 else "" for i in range(100)]
    path.write_text("value,other\n" + "".join(f"{v},0\n" for v in values))
    spec = spec_of(n_steps=3)
    history = DEMO["timed"](load_history(path, ["value"], step_seconds=None))
    windows = windows_for(spec, history)
    fed = pl.read_csv(DEMO["unseen"](spec, history, windows, tmp_path))
    assert fed["ts"].to_list() == [1000 * i for i in range(77, 100)]
    assert fed["value"].null_count() == 1
    np.testing.assert_array_equal(fed["value"].drop_nulls(), [*range(77, 95), *range(96, 100)])
