"""Whether an exported graph computes what Keras does, by the operators that are fast."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.errors import ExportError
from tidecast.trainer.evaluate import Predict
from tidecast.trainer.figures import number
from tidecast.worker.contract import DOUBLE_ROUNDING, INPUT_NAME, OUTPUT_NAME, Validation

Floats = npt.NDArray[np.floating[Any]]

PARITY_BATCHES = (1, 7, 256)
PARITY = 1e-5
"""Of the largest forecast; float32 rounds at 1.2e-7 of a number."""
SMALLEST = 1e-9
"""Of the largest reading; forecasts that are smaller are measured by that."""
ABSURD = 100.0
"""From so many times the validation error of the newest value on, a network has diverged."""
TAMER = "lower --learning-rate or use --activation tanh"
"""What helps against divergence."""
PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime")


def check_operators(model: Any) -> None:
    """Demand LSTM operators for the recurrent part, which run many times faster than a loop.

    Raises:
        ExportError: there is none, or a loop.
    """
    operators = {node.op_type for node in model.graph.node}
    if "LSTM" not in operators or operators & {"Loop", "Scan"}:
        raise ExportError(
            f"the recurrent part became {sorted(operators)}, not LSTM operators; {_way_out()}"
        )


def check_parity(
    model: Any,
    predict: Predict,
    samples: Floats,
    validation: Validation,
    own: Sequence[int | None] = (),
) -> None:
    """Compare ONNX Runtime with Keras on real windows at several batch sizes.

    Errors are measured against the largest forecast of their own target over all the windows, so
    that a small target counts beside a large one and a window forecast near zero does not. Those of
    64 bits are measured by how far they lie from the newest reading of the feature that each target
    is, ``own`` ``[T]``.

    Raises:
        ExportError: they differ, or Keras forecasts what is no number.
    """
    import onnxruntime as ort

    forecasts = np.asarray(predict(samples), samples.dtype)
    lost = int((~np.isfinite(forecasts)).any(axis=(1, 2)).sum())
    if lost:
        raise ExportError(
            f"the network diverged: for {lost} of {len(samples)} windows it forecasts what is no "
            f"finite number, and nothing was written; {TAMER}"
        )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scale = _scale(forecasts, samples, own)
    for size in PARITY_BATCHES:
        windows = np.resize(samples, (size, *samples.shape[1:])).astype(samples.dtype)
        expected = np.asarray(predict(windows), samples.dtype)
        answer = session.run([OUTPUT_NAME], {INPUT_NAME: windows})[0]
        if answer.shape != expected.shape:
            raise ExportError(
                f"ONNX Runtime answers {answer.shape} and Keras {expected.shape} at batch size "
                f"{size}, and nothing was written; {_way_out()}"
            )
        error = relative_error(answer, expected, scale)
        if not error < PARITY:
            raise ExportError(
                f"ONNX Runtime and Keras differ by {number(error, 2)} of the largest forecast at "
                f"batch size {size}, more than {number(PARITY)}, and nothing was written; "
                f"{_divergence(validation) or _way_out()}"
            )


def _divergence(validation: Validation) -> str:
    """Return what shows that a network diverged, and what helps; empty if nothing does."""
    own, floor = (float(np.mean(each)) for each in (validation.mae, validation.naive_mae))
    if not 0 < floor < own / ABSURD:
        return ""
    return (
        f"the network diverged: its MAE on the {validation.rows} rows is {number(own)}, that of "
        f"repeating the newest value {number(floor)}; {TAMER}"
    )


def _way_out() -> str:
    """Return what to do where the packages do not agree."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{versions} may not fit together: install the locked versions; if they are those, report "
        "this line with the options of the fit"
    )


def relative_error(answer: Floats, expected: Floats, scale: Floats) -> float:
    """Return the largest error ``[b, horizon, T]`` relative to its target's ``scale`` ``[T]``."""
    worst = np.abs(answer - expected).max(axis=(0, 1))
    return float((worst / np.maximum(scale, np.finfo(np.float32).tiny)).max())


def _scale(forecasts: Floats, samples: Floats, own: Sequence[int | None]) -> Floats:
    """Return what errors of each target are measured by ``[T]``."""
    size: Floats = np.abs(forecasts).max(axis=(0, 1))
    if samples.dtype == np.float32:
        return np.maximum(size, SMALLEST * float(np.abs(samples).max()) or SMALLEST)
    newest = np.zeros((len(samples), 1, forecasts.shape[2]))
    for place, feature in enumerate(own):
        if feature is not None:
            newest[:, 0, place] = samples[:, -1, feature]
    moves: Floats = np.abs(forecasts - newest).max(axis=(0, 1))
    return moves + DOUBLE_ROUNDING / PARITY * size
