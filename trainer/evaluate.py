"""A model beside its baselines on the same windows: errors, who is better, and how surely.

Every window of a part is an origin that the forecasts roll on from; nothing is fitted again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.baselines import drift, naive, scales, seasonal_naive
from tidecast.trainer.bounds import within
from tidecast.trainer.dataset import Windows, make_windows, require_windows
from tidecast.trainer.errors import ModelError
from tidecast.trainer.ets import smooth
from tidecast.trainer.figures import chance, number
from tidecast.trainer.ridge import best_line
from tidecast.trainer.scaling import measure_scaling
from tidecast.trainer.scores import Scale, Scores, Tally, diebold_mariano
from tidecast.trainer.selection import in_time
from tidecast.trainer.series import History, Part
from tidecast.worker.contract import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAME,
    Bounds,
    ModelSpec,
    SpecError,
)
from tidecast.worker.pipeline.model_file import ExternalDataError, read_parts

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Predict = Callable[[Floats], Floats | Doubles]
Forecaster = Callable[[Ints, Floats], Floats | Doubles]
"""From the first rows of windows, and the windows, to forecasts ``[k, horizon, T]``."""
Names = tuple[tuple[str, ...], tuple[str, ...]]
"""Features and targets."""

MODEL = "model"
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
    baseline_mase: float | None

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return dict(vars(self))


@dataclass(frozen=True)
class Evaluation:
    """A model's scores beside those of its baselines on the same windows.

    ``chance`` is how likely so large a difference to the best baseline is by chance (Diebold &
    Mariano), None where that cannot be told. ``window_errors`` are the model's mean absolute errors
    of each window, ``[windows]``, scaled as MASE is. ``forecasters`` are what was compared.
    """

    part: Part
    windows: int
    season: int
    model: Scores
    baselines: Mapping[str, Scores]
    chance: float | None
    by_series: tuple[OneSeries, ...]
    window_errors: Doubles
    forecasters: Mapping[str, Forecaster]

    @property
    def naive(self) -> Scores:
        """The scores of repeating the newest value."""
        return self.baselines["naive"]

    @property
    def best(self) -> str:
        """The baseline that errs least."""
        return min(self.baselines, key=lambda name: _size(self.baselines[name]))

    @property
    def equal(self) -> bool:
        """Tell whether model and best baseline differ by no more than chance or a trifle."""
        model, best = _size(self.model), _size(self.baselines[self.best])
        unsure = self.chance is not None and self.chance > CHANCE
        return unsure or abs(model - best) <= SAME * best

    @property
    def loses(self) -> bool:
        """Tell whether the best baseline is the better choice."""
        return not self.equal and _size(self.model) > _size(self.baselines[self.best])

    def verdict(self) -> str:
        """Say in a sentence whether the model is worth serving."""
        model, best = _size(self.model), _size(self.baselines[self.best])
        name = "MAE" if self.model.overall()["mase"] is None else "MASE"
        sure = ", too few windows to be sure"
        if self.chance is not None:
            sure = f", Diebold-Mariano {chance(self.chance)}"
        facts = f"{name} {number(model)} against {number(best)}{sure}"
        if self.equal:
            return f"the model and {self.best}, the best baseline, are about equal ({facts})"
        if not self.loses:
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
    predict: Predict,
    history: History,
    windows: Windows,
    part: Part,
    season: int,
    names: Names,
    *,
    bounds: Mapping[str, Bounds] | None = None,
    thorough: bool = True,
) -> Evaluation:
    """Score a model and its baselines on every window of a part.

    Args:
        predict: the model, from windows to forecasts.
        history: where the windows are from.
        windows: of all parts; baselines are fitted to the training windows.
        part: which to score.
        season: in steps.
        names: the features and the targets.
        bounds: of the model's forecasts, which hold for the baselines' as well.
        thorough: beside exponential smoothing too, which takes seconds to fit.
    """
    forecasters: dict[str, Forecaster] = {
        MODEL: lambda _, inputs: predict(inputs),
        **_baselines(history, windows, season, names, thorough=thorough),
    }
    scale = scales(windows, season)
    found = {name: _Tallied(windows.horizon, len(history.series)) for name in forecasters}
    for starts, inputs, outputs in windows.batches(part):
        owner = windows.owner[starts]
        own = Scale(*(each[owner] for each in scale))
        for name, forecaster in forecasters.items():
            forecast = within(forecaster(starts, inputs), names[1], bounds or {})
            found[name].add(forecast, outputs, own, owner)
    model = found.pop(MODEL)
    baselines = {name: one.tally.scores() for name, one in found.items()}
    best = found[min(baselines, key=lambda name: _size(baselines[name]))]
    times = windows.times(windows.starts[part])
    errors = [in_time(times, one.errors()) for one in (model, best)]
    return Evaluation(
        part=part,
        windows=len(windows.starts[part]),
        season=season,
        model=model.tally.scores(),
        baselines=baselines,
        chance=diebold_mariano(errors[0], errors[1], windows.horizon),
        by_series=_by_series(history, model, best),
        window_errors=model.errors(),
        forecasters=forecasters,
    )


def _baselines(
    history: History, windows: Windows, season: int, names: Names, *, thorough: bool
) -> dict[str, Forecaster]:
    """Return what every model is held against, fitted to the training windows."""
    scaling = measure_scaling(windows, *names)
    line = best_line(windows, scaling, classic=True)
    found: dict[str, Forecaster] = {
        "naive": lambda starts, _: naive(windows, starts),
        "seasonal naive": lambda starts, _: seasonal_naive(windows, starts, season),
        "drift": lambda starts, _: drift(windows, starts),
        "ridge": lambda _, inputs: line.forecast(inputs, scaling),
    }
    if thorough:
        states = smooth(history, windows, names[1], season)
        found["ETS"] = lambda starts, _: states.forecast(windows, starts)
    return found


class _Tallied:
    """One forecaster's errors: by lead, by window, by series."""

    def __init__(self, horizon: int, series: int) -> None:
        self.tally = Tally(horizon)
        self.windows, self.absolute = np.zeros(series, np.int64), np.zeros(series)
        self.scaled, self.known = np.zeros(series), np.zeros(series)
        self._errors: list[Doubles] = []

    def add(self, forecast: Any, truth: Floats, scale: Scale, owner: Ints) -> None:
        """Add forecasts ``[k, horizon, T]`` of windows whose series are ``owner`` ``[k]``."""
        self.tally.add(forecast, truth, scale)
        errors = np.abs(np.asarray(forecast, np.float64) - truth).mean(axis=1)
        scaled = errors / np.asarray(scale.absolute)
        known = np.isfinite(scaled)
        mean, total = errors.mean(axis=1), np.where(known, scaled, 0.0).sum(axis=1)
        count = len(self.absolute)
        self.windows += np.bincount(owner, minlength=count)
        self.absolute += np.bincount(owner, mean, count)
        self.scaled += np.bincount(owner, total, count)
        self.known += np.bincount(owner, known.sum(axis=1), count)
        self._errors.append(np.stack([mean, total / np.maximum(known.sum(axis=1), 1)]))

    def relative(self, series: int) -> float | None:
        """Return one series' MASE, None where it has no scale."""
        known = self.known[series]
        return float(self.scaled[series] / known) if known else None

    def errors(self) -> Doubles:
        """Return each window's mean absolute error, ``[k]``, scaled as MASE is.

        What has no scale counts nothing, unless nothing has one.
        """
        place = int(self.known.any())
        errors: Doubles = np.concatenate([both[place] for both in self._errors])
        return errors


def _by_series(history: History, model: _Tallied, best: _Tallied) -> tuple[OneSeries, ...]:
    """Return each series' errors, the worst beside the baseline first."""
    found = [
        OneSeries(
            series=history.series[place].name,
            windows=int(model.windows[place]),
            mae=float(model.absolute[place] / model.windows[place]),
            mase=model.relative(place),
            baseline_mae=float(best.absolute[place] / best.windows[place]),
            baseline_mase=best.relative(place),
        )
        for place in np.flatnonzero(model.windows).tolist()
    ]
    return tuple(sorted(found, key=lambda one: one.baseline_mae / max(one.mae, 1e-300)))


def windows_for(spec: ModelSpec, history: History) -> Windows:
    """Cut a history, ``slotted`` for a model, into its windows, split as at its training."""
    return make_windows(
        history,
        spec.features,
        spec.targets,
        n_steps=spec.n_steps,
        horizon=spec.horizon,
        train_rows=spec.training.train_rows,
        validation_rows=spec.training.validation_rows,
    )


def evaluate_windows(
    spec: ModelSpec, predict: Predict, history: History, windows: Windows
) -> Evaluation:
    """Score a model file on the test rows of a history, cut by ``windows_for``.

    Raises:
        DataError: there is no test window, or none to fit baselines to.
    """
    require_windows(windows, history, "train")
    require_windows(windows, history, "test")
    names = (spec.features, spec.targets)
    return evaluate_part(
        predict, history, windows, "test", spec.training.season, names, bounds=spec.bounds
    )


def open_model(path: Path) -> tuple[ModelSpec, Predict]:
    """Read a model file; return its description and its prediction.

    Raises:
        ModelError: absent, no ONNX file, or without valid metadata.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; name an .onnx file that 'fit' wrote")
    return open_content(path.read_bytes(), path)


def open_content(content: bytes, path: Path) -> tuple[ModelSpec, Predict]:
    """Return the description and the prediction of a model file's bytes.

    ``path`` is what complaints call it.

    Raises:
        ModelError: no ONNX file, or without valid metadata.
    """
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    try:
        read_parts(content)  # before ONNX Runtime would fetch what lies in another file
        session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        spec = ModelSpec.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    except ExternalDataError as error:
        raise ModelError(
            f"{path}: {error}, and no file but the model's is read; save the model with all of its "
            "data inside, as 'fit' does"
        ) from error
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
        forecast: Floats = session.run(
            [OUTPUT_NAME], {INPUT_NAME: windows.astype(spec.numbers, copy=False)}
        )[0]
        return forecast

    return spec, predict
