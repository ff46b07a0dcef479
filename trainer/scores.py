"""Error measures of forecasts, by lead and overall; whether a difference is more than chance."""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """What errors are divided by, ``[T]`` or ``[k, T]``; NaN leaves a window out.

    ``absolute`` is the mean absolute in-sample seasonal difference, ``square`` the root of its mean
    square, ``unit`` the training rows' standard deviation.
    """

    absolute: npt.ArrayLike
    square: npt.ArrayLike
    unit: npt.ArrayLike


@dataclass(frozen=True)
class Scores:
    """Error measures per lead, averaged over windows and targets; None where undefined.

    sMAPE is ``200 |f - a| / (|f| + |a|)``, 0 where both are 0 (Makridakis 1993). MASE divides each
    absolute error by the in-sample one, RMSSE likewise with squares (Hyndman & Koehler 2006;
    Makridakis et al. 2022). ``unit_mae`` and ``unit_mse`` are in training standard deviations, as
    published tables have them. ``bias`` is the mean of forecast less actual.
    """

    mae: tuple[float, ...]
    rmse: tuple[float, ...]
    bias: tuple[float, ...]
    smape: tuple[float, ...]
    mase: tuple[float | None, ...]
    rmsse: tuple[float | None, ...]
    unit_mae: tuple[float | None, ...]
    unit_mse: tuple[float | None, ...]

    def overall(self) -> dict[str, float | None]:
        """Return each measure over all leads together."""
        return {field.name: _over_leads(field.name, getattr(self, field.name)) for field in _ALL}

    def as_json(self) -> dict[str, Any]:
        """Return the measures as plain lists and numbers."""
        leads = {field.name: list(getattr(self, field.name)) for field in _ALL}
        return {"per_lead": leads, "overall": self.overall()}


_ALL = fields(Scores)
MEASURES = tuple(field.name for field in _ALL)
ROOTS = ("rmse", "rmsse")


def _over_leads(name: str, values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float(np.sqrt(np.mean(np.square(known))) if name in ROOTS else np.mean(known))


class Tally:
    """Sums of errors over any number of parts, ``[horizon]`` each."""

    def __init__(self, horizon: int) -> None:
        self._sums = {name: np.zeros(horizon) for name in MEASURES}
        self._known = {name: np.zeros(horizon) for name in MEASURES}

    def add(self, forecast: npt.ArrayLike, actual: npt.ArrayLike, scale: Scale) -> None:
        """Add forecasts and what came, both ``[k, horizon, T]``.

        Raises:
            ValueError: they are of another shape.
        """
        f, a = np.asarray(forecast, np.float64), np.asarray(actual, np.float64)
        if f.shape != a.shape or f.ndim != 3:
            raise ValueError(
                f"forecasts {f.shape} and actual values {a.shape} must both be [k, H, T]"
            )
        signed = f - a
        error, size = np.abs(signed), np.abs(f) + np.abs(a)
        square, one = signed**2, 1.0
        relative = np.divide(200 * error, size, out=np.zeros_like(error), where=size > 0)
        for name, values, divisor in (
            ("mae", error, one),
            ("rmse", square, one),
            ("bias", signed, one),
            ("smape", relative, one),
            ("mase", error, scale.absolute),
            ("rmsse", square, np.square(np.asarray(scale.square, np.float64))),
            ("unit_mae", error, scale.unit),
            ("unit_mse", square, np.square(np.asarray(scale.unit, np.float64))),
        ):
            self._add(name, values, divisor)

    def _add(self, name: str, errors: Doubles, divisor: npt.ArrayLike) -> None:
        """Add errors over a divisor, ``[T]`` or ``[k, T]``; what has none is left out."""
        wide = np.broadcast_to(np.asarray(divisor, np.float64), (len(errors), errors.shape[2]))
        known = (np.isfinite(wide) & (wide > 0))[:, None, :] & np.ones_like(errors, np.bool_)
        scaled = np.divide(errors, wide[:, None, :], out=np.zeros_like(errors), where=known)
        self._sums[name] += scaled.sum(axis=(0, 2))
        self._known[name] += known.sum(axis=(0, 2))

    def scores(self) -> Scores:
        """Return the measures of all that was added."""
        means: dict[str, tuple[float | None, ...]] = {}
        for name in MEASURES:
            pairs = zip(self._sums[name].tolist(), self._known[name].tolist(), strict=True)
            means[name] = tuple(total / count if count else None for total, count in pairs)
        for name in ROOTS:
            means[name] = tuple(None if v is None else math.sqrt(v) for v in means[name])
        return Scores(**means)  # type: ignore[arg-type]  # only scaled measures can be None


def score(forecast: npt.ArrayLike, actual: npt.ArrayLike, scale: Scale) -> Scores:
    """Compare forecasts with what came, both ``[k, horizon, T]``.

    Raises:
        ValueError: they are of another shape.
    """
    tally = Tally(np.shape(forecast)[1] if np.ndim(forecast) == 3 else 1)
    tally.add(forecast, actual, scale)
    return tally.scores()


def diebold_mariano(one: Doubles, other: Doubles, horizon: int) -> float | None:
    """Return the chance of so large a difference between two forecasters of the same skill.

    Two-sided. Diebold & Mariano 1995, with the variance over twice the horizon's lags, as windows
    overlap (Newey & West 1987), and Student's t.

    Args:
        one: the error of each window, in order of time, ``[k]``.
        other: the other forecaster's.
        horizon: how many leads a window has.

    None where it cannot be told: too few windows, or no variance.
    """
    from statsmodels.regression.linear_model import OLS

    difference = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    if len(difference) < max(10, 4 * horizon) or np.ptp(difference) == 0:
        return None
    mean = OLS(difference, np.ones(len(difference)))
    fitted = mean.fit(
        cov_type="HAC",
        cov_kwds={
            "maxlags": 2 * horizon if horizon > 1 else 0,
            "kernel": "bartlett",
            "use_correction": True,
        },
        use_t=True,
    )
    return float(fitted.pvalues[0])
