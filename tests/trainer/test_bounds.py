"""Bounds of forecasts: told, kept in the graph, and held wherever the file is asked."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.model_files import spec_in
from tests.trainer.conftest import config_of, history_of
from tidecast.trainer.bounds import bounds_of, within
from tidecast.trainer.errors import ConfigError
from tidecast.trainer.evaluate import evaluate_windows, open_model, windows_for
from tidecast.trainer.export import export_again, write_model
from tidecast.trainer.fit import Fitted, fit
from tidecast.trainer.slots import slotted
from tidecast.worker.contract import Bounds
from tidecast.worker.pipeline.model import Model

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
WAVE = np.sin(np.arange(200) / 4)
PAIR = ("a", "b")


@pytest.mark.parametrize(
    ("low", "high", "bounds"),
    [
        ([], [], {}),
        (["0"], [], {"a": (0, None), "b": (0, None)}),
        (["0", "b=-5"], ["a=1e2"], {"a": (0, 100), "b": (-5, None)}),
        (["b=-5", "0"], [], {"a": (0, None), "b": (0, None)}),
    ],
)
def test_bounds_are_of_all_targets_or_of_one(
    low: list[str], high: list[str], bounds: dict[str, Bounds]
) -> None:
    assert bounds_of(low, high, PAIR) == bounds


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("none", "--at-least 'none': 'none' is no number; write --at-least 0 for all targets or"),
        ("a=inf", "'inf' is no number"),
        ("c=0", "'c' is no target; those are a, b"),
    ],
)
def test_what_is_no_bound_is_refused(told: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bounds_of([told], [], PAIR)


def test_bounds_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="--at-least 2 and --at-most 1 leave nothing for 'value'"):
        config_of(bounds={"value": (2, 1)})
    with pytest.raises(ConfigError, match="bounds of 'other', which is no target"):
        config_of(bounds={"other": (0, 1)})


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"members": 2},
        {"arch": "lstm"},
        {"normalization": "standard"},
        {"bounds": {"value": (-0.5, None)}},
        {"bounds": {"value": (None, 0.5)}},
    ],
)
def test_no_forecast_of_a_file_passes_its_bounds(
    tmp_path: Path, choices: dict[str, object]
) -> None:
    """A line alone, networks and their mean; in the file, exported again, and in a worker."""
    config = config_of(**({"bounds": {"value": (-0.5, 0.5)}, "epochs": 1} | choices))
    fitted = fit(config, history_of(WAVE))
    path, spec = write_model(tmp_path, fitted, MOMENT)
    assert spec.bounds == config.bounds
    least, most = spec.limits()
    windows = np.random.default_rng(0).normal(0, 3, (300, 4, 1)).astype(np.float32)
    for predict in (
        open_model(path)[1],
        fitted.predictor,
        lambda w: Model(path).predict(w).forecasts,
    ):
        found = predict(windows)
        assert found.min() >= least[0]
        assert found.max() <= most[0]
        assert (found == least[0]).any() is np.True_ if np.isfinite(least[0]) else True
    assert export_again(path.with_suffix(".keras"), tmp_path / "again")[1].version == spec.version
    assert spec.bounded in str(Model(path))


def test_each_target_has_its_own(tmp_path: Path) -> None:
    values = np.stack([WAVE, 3 + WAVE], axis=1)
    config = config_of(targets=PAIR, features=PAIR, bounds={"b": (3.0, None)}, epochs=1)
    path, spec = write_model(tmp_path, fit(config, history_of(values, columns=PAIR)), MOMENT)
    windows = np.random.default_rng(0).normal(0, 3, (300, 4, 2)).astype(np.float32)
    found = open_model(path)[1](windows)
    assert found[..., 0].min() < 0
    assert found[..., 1].min() == 3
    assert spec.bounded == "b at least 3"


def test_what_is_no_number_is_not_made_one(bounded: tuple[Path, Fitted]) -> None:
    """Else a forecast that a worker refuses would be published as the bound."""
    windows = np.full((3, 4, 1), np.nan, np.float32)
    assert np.isnan(open_model(bounded[0])[1](windows)).all()


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fitted]:
    config = config_of(bounds={"value": (-0.5, 0.5)}, epochs=1)
    fitted = fit(config, history_of(WAVE))
    return write_model(tmp_path_factory.mktemp("bounded"), fitted, MOMENT)[0], fitted


def test_values_beyond_are_told_and_baselines_are_bounded_too(
    bounded: tuple[Path, Fitted],
) -> None:
    path, fitted = bounded
    beyond = [one for one in fitted.remarks if "lie beyond" in one]
    assert len(beyond) == 2
    assert "values of value lie beyond -0.5, as far as -1; forecasts will not" in beyond[0]
    spec, predict = open_model(path)
    history = slotted(spec, fitted.history)
    found = evaluate_windows(spec, predict, history, windows_for(spec, history))
    windows = windows_for(spec, history)
    inputs, outputs = windows.gather(windows.starts["test"])
    newest = np.clip(inputs[:, -1:], -0.5, 0.5)
    assert np.mean(found.naive.mae) == pytest.approx(np.abs(newest - outputs).mean(), rel=1e-6)


def test_bounds_are_part_of_the_version(bounded: tuple[Path, Fitted], tmp_path: Path) -> None:
    from tidecast.worker.errors import ModelError

    model = onnx.load(bounded[0])
    text = model.metadata_props[0].value
    model.metadata_props[0].value = text.replace('"value":[-0.5,0.5]', '"value":[-0.5,0.6]')
    assert model.metadata_props[0].value != text
    onnx.save(model, tmp_path / "m.onnx")
    assert spec_in(tmp_path / "m.onnx").bounds == {"value": (-0.5, 0.6)}
    with pytest.raises(ModelError, match="changed after the export"):
        Model(tmp_path / "m.onnx")


def test_without_bounds_forecasts_are_as_they_were() -> None:
    forecasts = np.ones((2, 1, 1))
    assert within(forecasts, ["value"], {}) is forecasts
