"""A fitted model small enough for every test that needs one."""

from pathlib import Path

import numpy as np
import pytest

from tidecast.trainer.config import FitConfig, fit_config
from tidecast.trainer.fit import Fitted, fit
from tidecast.trainer.series import History, Series


def history_of(
    values: list[float] | np.ndarray,
    *,
    columns: tuple[str, ...] = ("value",),
    step: float = 60.0,
    every: float = 60.0,
) -> History:
    """One series with a row each minute, or ``every`` so many seconds."""
    table = np.asarray(values, np.float64).reshape(-1, len(columns))
    times = np.arange(len(table), dtype=np.int64) * int(every * 1000)
    return History(columns, (Series("", times, table),), step)


def config_of(**choices: object) -> FitConfig:
    """A configuration with small defaults."""
    small = {"name": "m", "targets": ("value",), "features": ("value",), "n_steps": 4}
    small["normalization"] = "last"
    return fit_config(**({**small, "horizon": 1, "units": 4, "epochs": 2} | choices))


@pytest.fixture(scope="session")
def wave() -> Fitted:
    """A network fitted to a sine."""
    return fit(config_of(horizon=2), history_of(np.sin(np.arange(120) / 4)))


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A sound CSV file."""
    path = tmp_path / "data.csv"
    rows = "".join(f"2024-01-01 00:{i:02d}:00,{i},{i + 1}\n" for i in range(60))
    path.write_text("timestamp,value,other\n" + rows)
    return path
