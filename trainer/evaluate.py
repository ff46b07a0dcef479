"""A model beside its baselines on the same windows: errors, who is better, and how surely.

Every window of a part is an origin that the forecasts roll on from; nothing is fitted again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.baselines import drift, naive, scales, seasonal_naive
from trainer.dataset import Windows, make_windows, require_windows
from trainer.errors import ModelError
from trainer.ridge import best_line
from trainer.scaling import measure_scaling
from trainer.scores import Scale, Scores, diebold_mariano, score
from trainer.series import History, Part
from worker.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelSpec, SpecError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Predict = Callable[[Floats], Floats]
Names = tuple[tuple[str, ...], tuple[str, ...]]
"""Features and targets."""

CHANCE = 0.05
"""How likely a difference may be by chance and still be called one."""
SAME = 1e-3
"""Below this share of the error, a difference is none that matters."""


@dataclass(frozen=True)
class OneSeries:
    """The model beside the best baseline on one series' windows."""

    series: str
    windows: int
    mae: float
    mase: float | None
    baseline_mae: float

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return dict(vars(self))


@dataclass(frozen=True)
class Evaluation:
    """A model's scores beside those of its baselines on the same windows.

    ``chance`` is how likely so large a difference to the best baseline is by chance (Diebold &
    Mariano), None where that cannot be told.
    """

    windows: int
    season: int
    model: Scores
    baselines: Mapping[str, Scores]
    chance: float | None
    by_series: tuple[OneSeries, ...]

    @property
    def naive(self) -> Scores:
        """The scores of repeating the newest value."""
        return self.baselines["naive"]

    @property
    def best(self) -> str:
        """The baseline that errs least."""
        return min(self.baselines, key=lambda name: _size(self.baselines[name]))

    def verdict(self) -> str:
        """Say in a sentence whether the model is worth serving."""
        model, best = _size(self.model), _size(self.baselines[self.best])
        name = "MAE" if self.model.overall()["mase"] is None else "MASE"
        sure = ", too few windows to be sure"
        if self.chance is not None:
            sure = f", Diebold-Mariano p = {self.chance:.2g}"
        facts = f"{name} {model:.4g} against {best:.4g}{sure}"
        unsure = self.chance is not None and self.chance > CHANCE
        if unsure or abs(model - best) <= SAME * best:
            return f"the model and {self.best}, the best baseline, are about equal ({facts})"
        if model < best:
            gain = 1 - model / best
            return f"the model beats {self.best}, the best baseline, by {gain:.1%} ({facts})"
        return f"the model LOSES to {self.best} ({facts}): use {self.best} instead"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        return {
            "windows": self.windows,
            "season": self.season,
            "model": self.model.as_json(),
            "baselines": {name: scores.as_json() for name, scores in self.baselines.items()},
            "best_baseline": self.best,
            "chance": self.chance,
            "by_series": [one.as_json() for one in self.by_series],
            "verdict": self.verdict(),
        }


def _size(scores: Scores) -> float:
    """Return the error that forecasters are ranked by: MASE, or MAE where nothing has a scale."""
    overall = scores.overall()
    size = overall["mae"] if overall["mase"] is None else overall["mase"]
    return float("inf") if size is None else size


def evaluate_part(
    predict: Predict, history: History, windows: Windows, part: Part, season: int, names: Names
) -> Evaluation:
    """Score a model and its baselines on every window of a part.

    Args:
        predict: the model, from windows to forecasts.
        history: where the windows are from.
        windows: of all parts; the ridge is fitted to the training windows.
        part: which to score.
        season: in steps.
        names: the features and the targets.
    """
    places = windows.starts[part]
    scale = _scale(windows, places, season)
    scaling = measure_scaling(windows, *names)
    line = best_line(windows, scaling)
    forecasts: dict[str, list[Any]] = {"model": [], "ridge": []}
    truths = []
    for _, inputs, outputs in windows.batches(part):
        truths.append(outputs)
        forecasts["model"].append(predict(inputs))
        forecasts["ridge"].append(line.forecast(inputs, scaling))
    truth = np.concatenate(truths)
    rivals = {
        "naive": naive(windows, places),
        "seasonal naive": seasonal_naive(windows, places, season),
        "drift": drift(windows, places),
        "ridge": np.concatenate(forecasts["ridge"]),
    }
    model = np.concatenate(forecasts["model"])
    baselines = {name: score(rival, truth, scale) for name, rival in rivals.items()}
    best = rivals[min(baselines, key=lambda name: _size(baselines[name]))]
    errors = [
        windows.by_time(part, _window_errors(forecast, truth, scale)) for forecast in (model, best)
    ]
    return Evaluation(
        windows=len(places),
        season=season,
        model=score(model, truth, scale),
        baselines=baselines,
        chance=diebold_mariano(errors[0], errors[1], windows.horizon),
        by_series=_by_series(history, windows.owner[places], (model, best, truth), scale),
    )


def _scale(windows: Windows, places: npt.NDArray[np.int64], season: int) -> Scale:
    """Return the scale of each window's series, ``[k, T]``."""
    owner = windows.owner[places]
    return Scale(*(each[owner] for each in scales(windows, season)))


def _window_errors(forecast: Any, truth: Floats, scale: Scale) -> Doubles:
    """Return each window's mean absolute error, ``[k]``, scaled as MASE is.

    What has no scale is left out, unless nothing has one.
    """
    divisor = np.asarray(scale.absolute, np.float64)
    if not np.isfinite(divisor).any():
        divisor = np.ones_like(divisor)
    errors = (np.abs(np.asarray(forecast, np.float64) - truth) / divisor[:, None, :]).mean(axis=1)
    known = np.isfinite(errors)
    summed = np.where(known, errors, 0.0).sum(axis=1)
    result: Doubles = summed / np.maximum(known.sum(axis=1), 1)
    return result


def _by_series(
    history: History, owner: npt.NDArray[np.int64], values: tuple[Any, Any, Any], scale: Scale
) -> tuple[OneSeries, ...]:
    """Return each series' errors, the worst beside the baseline first."""
    found = []
    for number in np.unique(owner).tolist():
        mine = owner == number
        model, best, truth = (value[mine] for value in values)
        own = Scale(*(np.asarray(each)[mine] for each in vars(scale).values()))
        overall = score(model, truth, own).overall()
        found.append(
            OneSeries(
                series=history.series[number].name,
                windows=int(mine.sum()),
                mae=float(overall["mae"] or 0.0),
                mase=overall["mase"],
                baseline_mae=float(np.abs(best - truth).mean()),
            )
        )
    return tuple(sorted(found, key=lambda one: one.baseline_mae / max(one.mae, 1e-300)))


def windows_for(spec: ModelSpec, history: History) -> Windows:
    """Cut a history into the windows of a model, split as at its training."""
    return make_windows(
        history,
        spec.features,
        spec.targets,
        n_steps=spec.n_steps,
        horizon=spec.horizon,
        train_rows=spec.training.train_rows,
        validation_rows=spec.training.validation_rows,
    )


def evaluate_file(spec: ModelSpec, predict: Predict, history: History) -> Evaluation:
    """Score a model file on the test rows of a history.

    Raises:
        DataError: there is no test window.
    """
    windows = windows_for(spec, history)
    require_windows(windows, history, "train")
    require_windows(windows, history, "test")
    names = (spec.features, spec.targets)
    return evaluate_part(predict, history, windows, "test", spec.training.season, names)


def open_model(path: Path) -> tuple[ModelSpec, Predict]:
    """Read a model file; return its description and its prediction.

    Raises:
        ModelError: absent, no ONNX file, or without valid metadata.
    """
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; name an .onnx file that 'fit' wrote")
    try:
        session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        spec = ModelSpec.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    except KeyError as error:
        raise ModelError(
            f"{path}: no metadata key {METADATA_KEY!r}; fit the model again"
        ) from error
    except SpecError as error:
        raise ModelError(f"{path}: metadata: {error}; fit the model again") from error
    except Exception as error:  # onnxruntime's errors have no common type of their own
        reason = str(error).splitlines()[0][:200]
        raise ModelError(
            f"{path}: not a loadable ONNX file ({reason}); fit the model again"
        ) from error

    def predict(windows: Floats) -> Floats:
        forecast: Floats = session.run([OUTPUT_NAME], {INPUT_NAME: windows})[0]
        return forecast

    return spec, predict
