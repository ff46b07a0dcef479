"""Ridge regression in closed form: from a target's own readings straight to every lead; pure.

Hoerl & Kennard 1970, "Ridge regression: biased estimation for nonorthogonal problems". Older
readings may be penalised more, as in Litterman 1986, "Forecasting with Bayesian vector
autoregressions"; targets may have a line each that leans on those of all features; lines from
lookbacks of several lengths are averaged, as in Bates & Granger 1969, "The combination of
forecasts".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidecast.trainer.dataset import Floats, Ints, Windows
from tidecast.trainer.scaling import Scaling, spread
from tidecast.trainer.selection import CLEARLY, CLOSE, gain, in_time

Doubles = npt.NDArray[np.float64]

SAMPLE, FEWEST = 60_000, 1000
"""Windows times features that a line is fitted to, at most; but so many windows in any case."""
JUDGES = 20_000
"""Validation windows times features, at most."""
CHUNK = 14_000
"""Windows times features that are worked on at once."""
ROUNDING = 1e-10
"""Of the mean square, added to all: else readings that are all alike have no solution."""
PENALTIES = tuple(10.0**power for power in range(-2, 7))
EVEN, RISING = 0, 1
"""Powers of a reading's age that its penalty grows with."""
PARTS = (1, 2, 4)
"""A line is the mean of lines from the whole lookback, its newest half and its newest quarter."""
LEANINGS = (0.0, 0.03, 0.1, 0.3)
"""How much the rows of other features may count in a target's own line; 1 makes it the shared."""
MOST_OWN = 32
"""Features, at most, for targets to have lines of their own."""


@dataclass(frozen=True)
class Line:
    """``leads = readings @ weights + bias``, one for each target or one for all.

    Weights are ``[G, n_steps, horizon]``, the bias ``[G, horizon]``, ``G`` the targets or 1. The
    penalty is that of a single ridge regression.
    """

    weights: Doubles
    bias: Doubles
    penalty: float | None = None

    def forecast(self, inputs: Floats, scaling: Scaling) -> Doubles:
        """Return what the line says of windows ``[k, n_steps, F]``: ``[k, horizon, T]``.

        A virtual sensor has no readings, so its forecast is the bias.
        """
        own = scaling.inward(inputs) @ scaling.own
        leads = np.matmul(own.transpose(2, 0, 1), self.weights) + self.bias[:, None]
        return scaling.restored(inputs, leads.transpose(1, 2, 0))

    @classmethod
    def flat(cls, n_steps: int, horizon: int) -> "Line":
        """Return the line that says nothing: the newest value stands, if it is subtracted."""
        return cls(np.zeros((1, n_steps, horizon)), np.zeros((1, horizon)))


@dataclass(frozen=True)
class Moments:
    """All that ridge regression needs of rows, ones being the last reading, for ``G`` features.

    ``gram``, ``X'X``, is ``[G, n_steps + 1, n_steps + 1]``, ``product``, ``X'Y``, ``[G, n_steps +
    1, horizon]`` and ``square``, the sum of the squares of ``Y``, ``[G]``.
    """

    gram: Doubles
    product: Doubles
    square: Doubles

    def of(self, features: Ints) -> "Moments":
        """Return those of some features."""
        return Moments(self.gram[features], self.product[features], self.square[features])

    def shared(self) -> "Moments":
        """Return those of all features together."""
        return Moments(*(each.sum(axis=0, keepdims=True) for each in vars(self).values()))

    def leaning(self, feature: int, share: float) -> "Moments":
        """Return one feature's, with those of the others at a share of their weight."""
        own, all_ = vars(self.of(np.array([feature]))), vars(self.shared())
        return Moments(*((1 - share) * own[name] + share * all_[name] for name in own))

    def newest(self, n_steps: int) -> "Moments":
        """Return those of a shorter lookback."""
        last = slice(-n_steps - 1, None)
        return Moments(self.gram[:, last, last], self.product[:, last], self.square)

    def error(self, line: Line) -> float:
        """Return the mean squared error of a line for the only feature."""
        solution = np.concatenate([line.weights[0], line.bias])
        gram, product = self.gram[0], self.product[0]
        error = np.sum(solution * (gram @ solution)) - 2 * np.sum(solution * product)
        count = max(gram[-1, -1], 1.0) * product.shape[1]
        return float((error + self.square[0]) / count)


@dataclass(frozen=True)
class Judges:
    """Rows that judge lines for ``G`` features, ``[G, k, n_steps]`` and ``[G, k, horizon]``.

    By the absolute error, so that one stretch of shifted readings does not decide alone. ``times``
    are those of the windows, ``[k]``.
    """

    readings: Doubles
    leads: Doubles
    times: Ints

    def of(self, features: Ints) -> "Judges":
        """Return those of some features."""
        return Judges(self.readings[features], self.leads[features], self.times)

    def shared(self) -> "Judges":
        """Return those of all features together."""
        readings, leads = (
            each.reshape(1, -1, each.shape[2]) for each in (self.readings, self.leads)
        )
        return Judges(readings, leads, np.tile(self.times, len(self.readings)))

    def newest(self, n_steps: int) -> "Judges":
        """Return those of a shorter lookback."""
        return Judges(self.readings[:, :, -n_steps:], self.leads, self.times)

    def error(self, line: Line) -> float:
        """Return the mean absolute error of a line for the only feature."""
        return float(self._errors(line).mean())

    def gain(self, simple: Line, learned: Line) -> float | None:
        """Return by how many standard errors the second errs less, if it can be told."""
        return gain(*(in_time(self.times, self._errors(line)) for line in (simple, learned)))

    def _errors(self, line: Line) -> Doubles:
        forecast = self.readings[0] @ line.weights[0] + line.bias
        return np.asarray(np.abs(forecast - self.leads[0]).mean(axis=1), np.float64)


Judge = Judges | Moments


def judged(windows: Windows, scaling: Scaling) -> tuple[Moments, Judge]:
    """Return the moments of training windows and what judges: validation rows if there are any."""
    features = windows.inputs.shape[1]
    training = moments_of(windows, scaling, spread(windows, max(FEWEST, SAMPLE // features)))
    validation = windows.starts["validation"]
    if not len(validation):
        return training, training
    chosen = validation[:: max(1, len(validation) * features // JUDGES)]
    readings, leads = _going_on(windows, scaling, chosen)
    return training, Judges(readings.transpose(0, 2, 1), leads, windows.times(chosen))


def moments_of(windows: Windows, scaling: Scaling, starts: Ints) -> Moments:
    """Return the moments of each feature's readings and what followed, in training units.

    Features that are no targets count too: they are further examples of how such things go on.
    """
    features, steps = windows.inputs.shape[1], windows.n_steps
    gram = np.zeros((features, steps + 1, steps + 1))
    product = np.zeros((features, steps + 1, windows.horizon))
    square = np.zeros(features)
    chunk = max(1, CHUNK // features)
    for first in range(0, len(starts), chunk):
        x, y = _going_on(windows, scaling, starts[first : first + chunk])
        x = np.concatenate([x, np.ones((features, 1, x.shape[2]))], axis=1)
        gram += x @ x.transpose(0, 2, 1)
        product += x @ y
        square += (y**2).sum(axis=(1, 2))
    return Moments(gram, product, square)


def _going_on(windows: Windows, scaling: Scaling, starts: Ints) -> tuple[Doubles, Doubles]:
    """Return features' readings ``[F, n_steps, k]`` and what followed ``[F, k, horizon]``."""
    readings, leads = windows.going_on(starts)
    newest = readings[:, -1:, :] if scaling.base.any() else 0
    shift, scale = newest + scaling.input_mean, scaling.input_scale
    return (
        ((readings - shift) / scale).transpose(2, 1, 0),
        ((leads - shift) / scale).transpose(2, 0, 1),
    )


def best_line(windows: Windows, scaling: Scaling, *, classic: bool = False) -> Line:
    """Fit lines to the training windows, with penalties by the validation windows.

    A classic one is one line for all targets with an even penalty. Where all targets are virtual
    sensors it says nothing.
    """
    known = np.asarray(scaling.own.any(axis=0))
    if not known.any():
        return Line.flat(windows.n_steps, windows.horizon)
    training, judge = judged(windows, scaling)
    if classic:
        mine = scaling.mine
        return fit_line(training.of(mine).shared(), judge.of(mine).shared(), (EVEN,))
    if isinstance(judge, Moments) or not 1 < len(training.gram) <= MOST_OWN:
        return combined(training.shared(), judge.shared())
    flat = Line.flat(windows.n_steps, windows.horizon)
    pairs = zip(scaling.own.argmax(axis=0).tolist(), known.tolist(), strict=True)
    own = [fit_own(training, judge, place) if there else flat for place, there in pairs]
    return Line(
        np.concatenate([line.weights for line in own]),
        np.concatenate([line.bias for line in own]),
    )


def fit_own(training: Moments, judge: Judges, feature: int) -> Line:
    """Return a feature's own line, leaning on the others as far as the judge wants it.

    Where that does not clearly better the line that is fitted to all features alike, that one.
    """
    mine = judge.of(np.array([feature]))
    *own, shared = (combined(training.leaning(feature, share), mine) for share in (*LEANINGS, 1.0))
    best = min(own, key=mine.error)
    found = mine.gain(shared, best)
    return best if found is not None and found >= CLEARLY else shared


def combined(training: Moments, judge: Judge) -> Line:
    """Return the mean of the lines from the whole lookback and from its newest parts.

    Where parts lose too much, the line from the whole.
    """
    steps = training.gram.shape[1] - 1
    whole = fit_line(training, judge)
    weights, bias = np.zeros_like(whole.weights), np.zeros_like(whole.bias)
    for part in PARTS:
        lookback = max(1, steps // part)
        line = whole
        if part > 1:
            line = fit_line(training.newest(lookback), judge.newest(lookback))
        weights[:, steps - lookback :] += line.weights / len(PARTS)
        bias += line.bias / len(PARTS)
    mean = Line(weights, bias)
    return mean if judge.error(mean) * (1 - CLOSE) < judge.error(whole) else whole


def fit_line(training: Moments, judge: Judge, powers: Sequence[int] = (EVEN, RISING)) -> Line:
    """Return the line for all that the judge finds to err least, among some penalties.

    Raises:
        ValueError: there are no rows, or they are not finite.
    """
    best, least = None, np.inf
    for power in powers:
        for line in _lines(training, power):
            error = judge.error(line)
            if error < least:
                best, least = line, error
    if best is None:
        raise ValueError("there are no readings, or they are not finite")
    return best


def _lines(rows: Moments, power: int) -> Iterator[Line]:
    """Yield the line of each penalty; the bias has none."""
    gram, product = rows.gram[0], rows.product[0]
    count, steps = gram[-1, -1], len(gram) - 1
    if not count:
        return
    mean, level = gram[-1, :-1] / count, product[-1] / count
    centred = gram[:-1, :-1] - count * np.outer(mean, mean)
    cross = product[:-1] - count * np.outer(mean, level)
    age = (np.arange(steps, 0, -1) / steps) ** power
    rounding = ROUNDING * np.trace(gram) / steps
    for penalty in PENALTIES:
        regular = centred + np.diag(penalty * age + rounding)
        weights = np.asarray(np.linalg.solve(regular, cross), np.float64)
        yield Line(weights[None], (level - mean @ weights)[None], penalty)
