"""Small histories, networks and a fitted model, for every test that needs one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidecast.trainer.config import FitConfig, fit_config
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.fit import Fitted, fit
from tidecast.trainer.networks import build_network
from tidecast.trainer.plan import make_plan
from tidecast.trainer.ridge import Line
from tidecast.trainer.scaling import Scaling, measure_scaling
from tidecast.trainer.series import History, Series

RAMP = np.arange(40, dtype=np.float64)


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


def scaling_of(config: FitConfig, windows: Windows) -> Scaling:
    normalization = config.normalization or "last"  # measured as "instance" is
    shared = config.arch == "segmented"
    return measure_scaling(windows, config.features, config.targets, normalization, shared=shared)


def untrained(config: FitConfig, history: History, line: Line | None = None) -> tuple[Any, Windows]:
    """A network that knows its scaling and perhaps a line, and the windows it was scaled by."""
    plan = make_plan(config, history)
    windows = make_windows(
        history,
        config.features,
        config.targets,
        n_steps=plan.n_steps,
        horizon=config.horizon,
        train_rows=None,
        validation_rows=None,
    )
    return build_network(config, plan, scaling_of(config, windows), line), windows


def network_of(config: FitConfig, history: History, head: float) -> Any:
    """A network whose LSTM says nothing and whose head answers ``head`` everywhere."""
    network, _ = untrained(config, history)
    kernel, bias = network.get_layer("head").get_weights()
    network.get_layer("head").set_weights([kernel * 0, bias * 0 + head])
    return network


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
