"""One model file in one ONNX Runtime session: load, verify, predict a batch."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tidecast.worker.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelSpec, SpecError
from tidecast.worker.errors import ModelError

Floats = npt.NDArray[np.float32]

TENSOR_TYPE = "tensor(float)"
BATCHES = (16, 64, 256)
"""How many windows a run may take, at most; each model has one of these."""
TIMED_RUNS = 3
WORSE = 1.1
GOLDEN_TOLERANCE = 1e-4
GOLDEN_ROUNDING = 1e-6

ort.set_default_logger_severity(4)


class Model:
    """A verified model: it knew its metadata, its shapes and its golden forecast.

    Args:
        path: an ``.onnx`` file with Tidecast's metadata.
        threads: ONNX Runtime's threads for one operator. One is fastest for small networks and
            leaves the other cores to the server and to other workers.

    Raises:
        ModelError: the file is absent, no ONNX, without (valid) metadata, of other shapes than it
            says, or answers its golden window differently.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.path = path
        self._session = _open(path, threads)
        self.spec = _read_spec(path, self._session)
        self._check_shapes()
        self._batch = BATCHES[0]
        self._check_golden()
        self._batch = quickest(self._seconds)

    def __str__(self) -> str:
        """Say in a line what it is: name, version, pattern, shapes, series."""
        spec = self.spec
        return (
            f"{spec.name} {spec.version}: {spec.pattern}, {spec.n_steps} steps of "
            f"{', '.join(spec.features)} -> {spec.horizon} leads of {', '.join(spec.targets)}, "
            f"serves series {spec.series}"
        )

    @property
    def facts(self) -> dict[str, str]:
        """What machines want to know of it in a log line."""
        return {"model": self.spec.name, "version": self.spec.version, "series": self.spec.series}

    def predict(self, windows: Floats, pulse: Callable[[], object] = lambda: None) -> Floats:
        """Return the forecasts ``[b, horizon, T]`` for windows ``[b, n_steps, F]``.

        ``pulse`` is called after each run of a few of them, as large networks take long.
        """
        pieces = []
        for i in range(0, len(windows), self._batch):
            batch = {INPUT_NAME: windows[i : i + self._batch]}
            pieces.append(self._session.run([OUTPUT_NAME], batch)[0])
            pulse()
        if len(pieces) == 1:
            return pieces[0]  # type: ignore[no-any-return]  # onnxruntime ships no types
        empty = np.empty((0, self.spec.horizon, len(self.spec.targets)), np.float32)
        return np.concatenate([empty, *pieces])

    def _seconds(self, batch: int) -> float:
        """Return what a run of so many windows takes, once it has run before."""
        golden = np.array(self.spec.golden.window, np.float32)
        feed = {INPUT_NAME: np.repeat(golden[None], batch, axis=0)}
        taken = []
        for _ in range(1 + TIMED_RUNS):
            start = time.perf_counter()
            self._session.run([OUTPUT_NAME], feed)
            taken.append(time.perf_counter() - start)
        return min(taken[1:])

    def _check_shapes(self) -> None:
        spec = self.spec
        for values, name, shape in (
            (self._session.get_inputs(), INPUT_NAME, [spec.n_steps, len(spec.features)]),
            (self._session.get_outputs(), OUTPUT_NAME, [spec.horizon, len(spec.targets)]),
        ):
            found = {value.name: value.shape for value in values}
            batch, *rest = found.get(name) or [0]
            fits = len(found) == 1 and rest == shape and not isinstance(batch, int)
            if not fits or values[0].type != TENSOR_TYPE:
                raise ModelError(
                    f"{self.path}: the graph has {found}, its metadata say {name} [batch, "
                    f"{shape[0]}, {shape[1]}]; export the model again"
                )

    def _check_golden(self) -> None:
        expected = np.array(self.spec.golden.forecast, np.float32)
        window = np.array(self.spec.golden.window, np.float32)
        try:
            answer = self.predict(window[None])[0]
        except Exception as error:  # onnxruntime's errors have no common type of their own
            raise ModelError(
                f"{self.path}: the golden window fails: {_first_line(error)}; "
                "export the model again"
            ) from error
        # Each target by its own size; a forecast near zero may carry its readings' rounding.
        own = [self.spec.features.index(t) for t in self.spec.targets if t in self.spec.features]
        allowed = GOLDEN_TOLERANCE * np.abs(expected).max(axis=0)
        allowed[[t in self.spec.features for t in self.spec.targets]] += GOLDEN_ROUNDING * np.abs(
            window[:, own]
        ).max(axis=0)
        if not (np.abs(answer - expected) <= allowed).all():
            raise ModelError(
                f"{self.path}: the golden window gives {_shown(answer)}, the file promises "
                f"{_shown(expected)}; the file is damaged or this machine computes differently: "
                "export the model again"
            )


def quickest(seconds: Callable[[int], float]) -> int:
    """Return how many windows in a run are quickest, each by itself.

    More share the cost of a run, but what a run of a large network works on then no longer fits the
    processor's cache: there 16 may be a fifth quicker than 256.

    Args:
        seconds: tells what a run of so many windows takes.
    """
    best, least = BATCHES[0], math.inf
    for batch in BATCHES:
        each = seconds(batch) / batch
        if each < least:
            best, least = batch, each
        elif each > WORSE * least:
            break  # and larger ones only take longer to try
    return best


def _open(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning buys microseconds on a wide machine and burns a core of a small container.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror or error}; name a model file or a directory of them"
        ) from error
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common type of their own
        raise ModelError(
            f"{path}: not a loadable ONNX file ({_first_line(error)}); "
            "export it with 'tidecast-trainer fit'"
        ) from error


def _read_spec(path: Path, session: ort.InferenceSession) -> ModelSpec:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{path}: an ONNX file without the metadata key {METADATA_KEY!r}; "
            "export it with 'tidecast-trainer fit'"
        )
    try:
        return ModelSpec.from_json(text)
    except SpecError as error:
        raise ModelError(
            f"{path}: metadata: {error}; export the model with this version of Tidecast"
        ) from error


def _shown(values: Floats) -> str:
    return ", ".join(f"{value:g}" for value in values.ravel()[:4])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
