"""Counters: values so large beside their changes that 32-bit numbers would lose these."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.conftest import config_of, history_of
from tidecast.trainer.errors import ConfigError
from tidecast.trainer.evaluate import open_model
from tidecast.trainer.export import export_again, write_model
from tidecast.trainer.fit import fit
from tidecast.trainer.plan import make_plan
from tidecast.trainer.precision import lost, numbers_of
from tidecast.trainer.series import load_history
from tidecast.worker.pipeline.model import Model

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = np.arange(60.0)[:, None]


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (COUNTS, "float32"),
        (1e9 + COUNTS, "float64"),
        (7e12 + 2000 * COUNTS, "float64"),
        (1e-12 * COUNTS, "float32"),
        (8_000 + COUNTS / 2, "float32"),
        (9_000 + COUNTS / 2, "float64"),  # 32-bit numbers lie 1/1024 apart there
        (0 * COUNTS + 1e9, "float32"),  # never changes
        (0.1 * (COUNTS % 2) * 1e-15 + 0.1, "float32"),  # by the rounding of 64 bits alone
        (np.where(COUNTS % 3, np.nan, 1e9 + COUNTS), "float64"),
        (np.full((3, 1), np.nan), "float32"),
        (np.hstack([COUNTS, 1e9 + COUNTS]), "float64"),
    ],
)
def test_64_bits_are_picked_where_32_are_too_coarse(values: np.ndarray, numbers: str) -> None:
    assert numbers_of([COUNTS, values[:, -1:]]) == numbers
    said = lost(["a", "b"][-values.shape[1] :], [values])
    assert bool(said) is (numbers == "float64")
    assert not said or said.startswith("b changes by ")


def test_a_file_is_told_by_its_values(tmp_path: Path) -> None:
    path = tmp_path / "meter.csv"
    path.write_text("value,energy\n" + "".join(f"{i},{10**9 + i}\n" for i in range(40)))
    assert load_history(path, ["value"]).numbers == "float32"
    history = load_history(path, ["energy"])
    assert history.numbers == "float64"
    config = config_of(targets=("energy",), features=("energy",))
    (reason,) = (one for one in make_plan(config, history).reasons if one.startswith("64-bit"))
    assert reason == (
        "64-bit numbers: energy changes by 1 from row to row at 1,000,000,020, where 32-bit "
        "numbers lie 64 apart"
    )
    untaken = config.model_copy(update={"normalization": "none"})
    with pytest.raises(
        ConfigError, match=r"--normalization none cannot learn this: energy .* last"
    ):
        make_plan(untaken, history)
    assert load_history(path, ["energy"], numbers="float32").numbers == "float32"


def counter(tmp_path: Path, values: np.ndarray) -> Path:
    path = tmp_path / "meter.csv"
    path.write_text("value\n" + "".join(f"{value!r}\n" for value in values.tolist()))
    return path


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"normalization": "instance"},
        {"normalization": "standard", "line": True},
        {"arch": "lstm"},
        {"members": 2},
    ],
)
def test_a_counter_at_a_billion_is_forecast_to_a_hundredth(
    tmp_path: Path, choices: dict[str, object]
) -> None:
    """As Keras, as the file, as a worker and as exported again; networks are held to what they are.

    An untrained LSTM has not learned to count: it is only held against its own file.
    """
    history = load_history(counter(tmp_path, 1e9 + np.arange(200.0)), ["value"])
    fitted = fit(config_of(horizon=2, epochs=1, **choices), history)
    path, spec = write_model(tmp_path, fitted, MOMENT)
    windows = 2e9 + np.arange(300.0)[:, None, None] + np.arange(4.0)[:, None]
    windows = windows if choices.get("normalization") != "standard" else windows - 1e9
    served = Model(path).predict(windows).forecasts
    assert spec.numbers == "float64"
    assert served.dtype == np.float64
    np.testing.assert_allclose(open_model(path)[1](windows), served, rtol=0, atol=1e-5)
    np.testing.assert_allclose(fitted.predictor(windows), served, rtol=0, atol=1e-3)
    assert export_again(path.with_suffix(".keras"), tmp_path / "again")[1].version == spec.version
    if "arch" not in choices:
        truth = windows[:, -1:] + np.array([[1.0], [2.0]])
        assert np.abs(served - truth).max() < 0.01
        assert np.mean(fitted.validation.model.mae) < 0.01


def test_a_changed_graph_of_64_bits_is_noticed(tmp_path: Path) -> None:
    """A thousandth of a step is nothing beside a billion, and is seen all the same."""
    history = load_history(counter(tmp_path, 1e9 + np.arange(200.0)), ["value"])
    _, spec = write_model(tmp_path, fit(config_of(epochs=1), history), MOMENT)
    assert max(spec.golden_margins()) < 1e-3


def record(scale: float) -> np.ndarray:
    """Three weeks of hours with a daily season and noise, whatever its unit."""
    hours = np.arange(480)
    noise = np.random.default_rng(3).normal(size=480)
    return scale * (20 + 5 * np.sin(hours * np.pi / 12) + noise)


def test_the_unit_of_a_record_changes_nothing_but_the_unit() -> None:
    """Picks, remarks and forecasts, at a millionth of a millionth."""
    config = config_of(n_steps=24, horizon=2, epochs=2, season=24)
    usual, tiny = (fit(config, history_of(record(s), step=3600, every=3600)) for s in (1, 1e-12))
    assert tiny.plan.reasons == usual.plan.reasons
    assert tiny.remarks == usual.remarks
    assert (tiny.kind, tiny.min_steps) == (usual.kind, usual.min_steps)
    assert tiny.validation.best == usual.validation.best
    inputs, _ = usual.windows.gather(usual.windows.starts["test"])
    np.testing.assert_allclose(
        1e12 * tiny.predictor(1e-12 * inputs), usual.predictor(inputs), rtol=1e-3
    )
    for name, scores in usual.validation.baselines.items():
        found = tiny.validation.baselines[name]
        assert 1e12 * np.mean(found.mae) == pytest.approx(np.mean(scores.mae), rel=1e-3), name
