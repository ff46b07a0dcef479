"""Errors of forecasts: by lead and overall, a model beside its baselines on the same windows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.baselines import naive, scales, seasonal_naive
from trainer.dataset import Windows, make_windows, require_windows
from trainer.errors import ModelError
from trainer.series import History, Part
from worker.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelSpec, SpecError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Predict = Callable[[Floats], Floats]

MEASURES = ("mae", "rmse", "smape", "mase")


@dataclass(frozen=True)
class Scores:
    """Error measures per lead, averaged over windows and targets; None where undefined."""

    mae: tuple[float, ...]
    rmse: tuple[float, ...]
    smape: tuple[float, ...]
    mase: tuple[float | None, ...]

    def overall(self) -> dict[str, float | None]:
        """Return each measure over all leads together."""
        scaled = [value for value in self.mase if value is not None]
        return {
            "mae": float(np.mean(self.mae)),
            "rmse": float(np.sqrt(np.mean(np.square(self.rmse)))),
            "smape": float(np.mean(self.smape)),
            "mase": float(np.mean(scaled)) if scaled else None,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the measures as plain lists and numbers."""
        leads = {name: list(getattr(self, name)) for name in MEASURES}
        return {"per_lead": leads, "overall": self.overall()}


def score(forecast: npt.ArrayLike, actual: npt.ArrayLike, scale: npt.ArrayLike) -> Scores:
    """Compare forecasts with what came, both ``[k, horizon, T]``.

    sMAPE is ``200 |f - a| / (|f| + |a|)``, 0 where both are 0 (Makridakis 1993). MASE divides each
    absolute error by ``scale``, ``[T]`` or ``[k, T]``; NaN there leaves it out.
    """
    f, a = np.asarray(forecast, np.float64), np.asarray(actual, np.float64)
    if f.shape != a.shape or f.ndim != 3:
        raise ValueError(f"forecasts {f.shape} and actual values {a.shape} must both be [k, H, T]")
    error, size = np.abs(f - a), np.abs(f) + np.abs(a)
    relative = np.divide(200 * error, size, out=np.zeros_like(error), where=size > 0)
    divisor = np.broadcast_to(np.asarray(scale, np.float64), (len(f), f.shape[2]))
    known = np.isfinite(divisor)[:, None, :] & np.ones_like(error, np.bool_)
    scaled = np.divide(error, divisor[:, None, :], out=np.zeros_like(error), where=known)
    counts = known.sum(axis=(0, 2))
    mase = [
        float(s / n) if n else None for s, n in zip(scaled.sum(axis=(0, 2)), counts, strict=True)
    ]
    return Scores(
        mae=tuple(error.mean(axis=(0, 2)).tolist()),
        rmse=tuple(np.sqrt((error**2).mean(axis=(0, 2))).tolist()),
        smape=tuple(relative.mean(axis=(0, 2)).tolist()),
        mase=tuple(mase),
    )


@dataclass(frozen=True)
class Evaluation:
    """A model's scores beside those of naive and seasonal naive on the same windows."""

    windows: int
    season: int
    model: Scores
    naive: Scores
    seasonal_naive: Scores

    def verdict(self) -> str:
        """Say in a sentence whether the model is worth serving."""
        model = float(np.mean(self.model.mae))
        floors = {"naive": self.naive, "seasonal naive": self.seasonal_naive}
        name, best = min(
            ((name, float(np.mean(s.mae))) for name, s in floors.items()), key=lambda pair: pair[1]
        )
        if model < best:
            return f"the model beats {name}, the better baseline, by {1 - model / best:.1%} in MAE"
        return f"the model LOSES to {name} (MAE {model:.6g} against {best:.6g}): use {name} instead"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        return {
            "windows": self.windows,
            "season": self.season,
            "model": self.model.as_json(),
            "naive": self.naive.as_json(),
            "seasonal_naive": self.seasonal_naive.as_json(),
            "verdict": self.verdict(),
        }


def evaluate_part(predict: Predict, windows: Windows, part: Part, season: int) -> Evaluation:
    """Score a model and its baselines on every window of a part."""
    scale = scales(windows, season)
    starts, actual, forecasts = [], [], []
    for chunk, inputs, outputs in windows.batches(part):
        starts.append(chunk)
        actual.append(outputs)
        forecasts.append(predict(inputs))
    places, truth = np.concatenate(starts), np.concatenate(actual)
    divisor = scale[windows.owner[places]]
    return Evaluation(
        windows=len(places),
        season=season,
        model=score(np.concatenate(forecasts), truth, divisor),
        naive=score(naive(windows, places), truth, divisor),
        seasonal_naive=score(seasonal_naive(windows, places, season), truth, divisor),
    )


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
    return evaluate_part(predict, windows, "test", spec.training.season)


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
