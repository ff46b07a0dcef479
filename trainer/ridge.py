"""Ridge regression in closed form: from a target's own readings straight to every lead; pure.

Hoerl & Kennard 1970, "Ridge regression: biased estimation for nonorthogonal problems".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.dataset import Floats, Ints, Windows
from trainer.scaling import Scaling, spread

Doubles = npt.NDArray[np.float64]
Rows = Iterable[tuple[Doubles, Doubles]]

SAMPLE = 30_000
"""Windows that a line is fitted to, at most, evenly spread."""
CHUNK = 2000
ROUNDING = 1e-10
"""Of the mean square, added to all: else readings that are all alike have no solution."""
PENALTIES = tuple(10.0**power for power in range(-2, 7))


@dataclass(frozen=True)
class Line:
    """``leads = readings @ weights + bias``: weights ``[n_steps, horizon]``, bias ``[horizon]``."""

    weights: Doubles
    bias: Doubles
    penalty: float

    def forecast(self, inputs: Floats, scaling: Scaling) -> Doubles:
        """Return what the line says of windows ``[k, n_steps, F]``: ``[k, horizon, T]``.

        A virtual sensor has no readings, so its forecast is the bias.
        """
        own = scaling.inward(inputs) @ scaling.own
        leads = np.einsum("klt,lh->kht", own, self.weights) + self.bias[:, None]
        return scaling.restored(inputs, leads)


def best_line(windows: Windows, scaling: Scaling) -> Line:
    """Fit one line for all targets to the training windows, the penalty by the validation's.

    It says nothing where all targets are virtual sensors.
    """
    validation = windows.starts["validation"]
    validation = validation[:: max(1, len(validation) // SAMPLE)]
    line = fit_ridge(
        line_rows(windows, scaling, spread(windows, SAMPLE)),
        line_rows(windows, scaling, validation),
    )
    nothing = np.zeros((windows.n_steps, windows.horizon))
    return line or Line(nothing, nothing[0], np.inf)


def line_rows(
    windows: Windows, scaling: Scaling, starts: Ints
) -> Iterator[tuple[Doubles, Doubles]]:
    """Yield readings ``[k * T, n_steps]`` of targets that are features, and their leads."""
    known = scaling.own.any(axis=0)
    if not known.any():
        return
    for first in range(0, len(starts), CHUNK):
        inputs, outputs = windows.gather(starts[first : first + CHUNK])
        readings = scaling.inward(inputs) @ scaling.own[:, known]
        leads = scaling.outward(inputs, outputs)[:, :, known]
        yield (
            readings.transpose(0, 2, 1).reshape(-1, windows.n_steps),
            leads.transpose(0, 2, 1).reshape(-1, windows.horizon),
        )


def fit_ridge(training: Rows, validation: Rows) -> Line | None:
    """Return the line that errs least on the validation rows among some penalties.

    Args:
        training: readings ``[k, n_steps]`` and what followed them ``[k, horizon]``, in parts.
        validation: the same of rows that the penalty is chosen by; without any, of the training.

    None where there are no rows. The bias is not penalised.
    """
    gram, product = _moments(training)
    if not gram[-1, -1]:  # no target is a feature: there is nothing to go on
        return None
    other_gram, other_product = _moments(validation)
    if not other_gram[-1, -1]:
        other_gram, other_product = gram, product
    best, least = None, np.inf
    penalised = np.ones(len(gram))
    penalised[-1] = 0.0
    for penalty in PENALTIES:
        regular = gram + np.diag(penalty * penalised + ROUNDING * np.trace(gram) / len(gram))
        solution: Doubles = np.linalg.solve(regular, product).astype(np.float64)
        # The squared error without the squares of what followed, which is the same for all.
        error = float(
            np.sum(solution * (other_gram @ solution)) - 2 * np.sum(solution * other_product)
        )
        if error < least:
            best, least = Line(solution[:-1], solution[-1], penalty), error
    if best is None:
        raise ValueError("the readings are not finite")
    return best


def _moments(rows: Rows) -> tuple[Doubles, Doubles]:
    """Return ``X'X`` and ``X'Y``, a column of ones behind the readings."""
    gram, product = np.zeros((1, 1)), np.zeros((1, 1))
    for readings, leads in rows:
        wide = np.concatenate([readings, np.ones((len(readings), 1))], axis=1)
        gram = gram + wide.T @ wide
        product = product + wide.T @ leads
    return gram, product
