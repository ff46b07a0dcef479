"""One model file in one ONNX Runtime session: load, verify, predict a batch."""

import hashlib
import math
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tidecast.worker.contract import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAME,
    SPEC_VERSION,
    VERSION_DIGITS,
    Gaps,
    ModelSpec,
    Numbers,
    SpecError,
    version_of,
)
from tidecast.worker.errors import ModelError
from tidecast.worker.pipeline.calendar import WORDS
from tidecast.worker.pipeline.grid import grid_of
from tidecast.worker.pipeline.model_file import (
    ExternalDataError,
    MalformedError,
    Parts,
    read_parts,
)
from tidecast.worker.pipeline.wire import Pulse

Floats = npt.NDArray[np.floating[Any]]

LARGEST_FILE = 2**31 - 1
"""Bytes; protobuf takes no more."""
LONGEST_SHOWN = 300
TENSOR_TYPES: Final[dict[Numbers, str]] = {"float32": "tensor(float)", "float64": "tensor(double)"}
BATCHES = (16, 64, 256)
"""How many windows a run may take, at most; each model has one of these."""
TIMED_RUNS = 3
WORSE = 1.1

ort.set_default_logger_severity(4)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says to windows.

    ``forecasts`` ``[b, horizon, T]`` are NaN for windows that the model cannot compute; ``failed``
    maps the positions of those to the reason.
    """

    forecasts: Floats
    failed: dict[int, str]


class Model:
    """A verified model: it knew its metadata, its shapes and its golden forecast.

    Args:
        path: an ``.onnx`` file with Tidecast's metadata.
        threads: ONNX Runtime's threads for one operator. One is fastest for small networks and
            leaves the other cores to the server and to other workers.

    Raises:
        ModelError: the file is absent, no ONNX, without (valid) metadata, keeps data elsewhere, is
            of other shapes than it says, answers its golden window differently, or was changed.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.path = path
        content = _read(path)
        parts = _parts_of(path, content)
        self.spec = _spec_of(path, parts)
        self._session = _open(path, content, threads)
        self._check_shapes()
        self._shape = (self.spec.horizon, len(self.spec.targets))
        self._numbers = np.dtype(self.spec.numbers)
        self._golden = np.array(self.spec.golden.window, self._numbers)
        for copies in (1, BATCHES[0]):
            self._check_golden(copies)
        _check_version(path, parts, self.spec)
        self._batch = quickest(self._seconds)

    def __str__(self) -> str:
        """Say in a line what it is: name, version, pattern, shapes, series."""
        spec = self.spec
        alone = f"; {spec.without_network}" if spec.without_network else ""
        return (
            f"{spec.name} {spec.version}: {spec.pattern}, {spec.n_steps} steps"
            f"{self._beginning()} of {', '.join(spec.features)} -> {spec.horizon} leads of "
            f"{', '.join(spec.targets)}, "
            f"{self._steps()}serves series {spec.series}{self._filling()}{self._rules()}"
            f"{self._edges()}{alone}"
        )

    def override(self, gaps: Gaps | None, max_gap: int | None) -> str:
        """Fill gaps in another way than its file says (None: as that says).

        Returns what that changes, or why it changes nothing, in words.
        """
        spec = self.spec
        usual = "linear" if max_gap and spec.gaps == "none" else spec.gaps
        known = {
            "gaps": usual if gaps is None else gaps,
            "max_gap": spec.max_gap if max_gap is None else max_gap,
            "min_steps": grid_of(spec).min_steps,
            "spec_version": SPEC_VERSION,
        }
        if not spec.has_steps:
            return "has no step, so it has no gaps to fill: each reading is the next"
        self.spec = spec.model_copy(update=known)
        before, after = grid_of(spec), grid_of(self.spec)
        if before == after or not before.most + after.most:
            more = ""
            if not after.most and after.gaps != "none":
                more = ": its file says of no gap how long it may be; add --max-gap 3, say"
                if spec.n_steps < 3:
                    more = f": a window of {spec.n_steps} steps has no room for a filled one"
            return f"goes on as its file says{more}"
        filling = self._filling().removeprefix(", ") or "leaves gaps"
        return f"{filling}; its file says gaps {spec.gaps}, up to {before.most}"

    def wait_for_full_windows(self) -> None:
        """Forecast a new series from a full window on, whatever the file says."""
        self.spec = self.spec.model_copy(update={"min_steps": None})

    def _beginning(self) -> str:
        least = grid_of(self.spec).min_steps
        return f" (from {least} on)" if least and least < self.spec.n_steps else ""

    def _filling(self) -> str:
        grid = grid_of(self.spec)
        return f", fills gaps of up to {grid.most} steps ({grid.gaps})" if grid.most else ""

    def _steps(self) -> str:
        return f"a step each {WORDS[self.spec.calendar]}, " if self.spec.calendar else ""

    def _rules(self) -> str:
        rules = [f"{name} by {rule}" for name, rule in self.spec.aggregate.items()]
        return f", aggregates {', '.join(rules)}" if grid_of(self.spec).rules else ""

    def _edges(self) -> str:
        """Say what its numbers are where they are not the usual ones, and what bounds them."""
        double = ", 64-bit numbers" if self.spec.numbers == "float64" else ""
        return double + (f", {self.spec.bounded}" if self.spec.bounds else "")

    @property
    def facts(self) -> dict[str, str]:
        """What machines want to know of it in a log line."""
        return {"model": self.spec.name, "version": self.spec.version, "series": self.spec.series}

    def predict(self, windows: Floats, pulse: Pulse = lambda: None) -> Answer:
        """Return the forecasts for windows ``[b, n_steps, F]``.

        ``pulse`` is called after each run of a few of them, as large networks take long.
        """
        failed: dict[int, str] = {}
        pieces = [
            self._predict(windows[i : i + self._batch], i, failed, pulse)
            for i in range(0, len(windows), self._batch)
        ]
        if len(pieces) == 1:
            return Answer(pieces[0], failed)
        none = np.empty((0, *self._shape), self._numbers)
        return Answer(np.concatenate([none, *pieces]), failed)

    def _predict(self, windows: Floats, first: int, failed: dict[int, str], pulse: Pulse) -> Floats:
        """Return the forecasts of one run, and of halves of it where some of its windows fail."""
        try:
            forecasts = self._run(windows)
        except _RunError as error:
            pulse()
            if len(windows) == 1:
                failed[first] = f"the model cannot compute this window: {error}"
                return np.full((1, *self._shape), np.nan, self._numbers)
            half = len(windows) // 2
            parts = ((windows[:half], first), (windows[half:], first + half))
            return np.concatenate([self._predict(*part, failed, pulse) for part in parts])
        pulse()
        return forecasts

    def _run(self, windows: Floats) -> Floats:
        """Run the graph once.

        Raises:
            _RunError: it fails, or answers with more or fewer forecasts than windows.
        """
        try:
            forecasts: Floats = self._session.run([OUTPUT_NAME], {INPUT_NAME: windows})[0]
        except Exception as error:  # onnxruntime's errors have no common type of their own
            raise _RunError(_first_line(error)) from error
        if forecasts.shape != (len(windows), *self._shape):
            raise _RunError(
                f"it answers with {list(forecasts.shape)}, not {[len(windows), *self._shape]}"
            )
        return forecasts

    def _run_golden(self, copies: int) -> Floats:
        """Return the answers to so many golden windows.

        Raises:
            ModelError: the graph cannot be run with them.
        """
        try:
            return self._run(np.repeat(self._golden[None], copies, axis=0))
        except _RunError as error:
            times = f" {copies} times at once" if copies > 1 else ""
            raise ModelError(
                f"{self.path}: the golden window fails{times}: {error}; export the model again"
            ) from error

    def _seconds(self, batch: int) -> float:
        """Return what a run of so many windows takes, once it has run before."""
        taken = []
        for _ in range(1 + TIMED_RUNS):
            start = time.perf_counter()
            self._run_golden(batch)
            taken.append(time.perf_counter() - start)
        return min(taken[1:])

    def _check_shapes(self) -> None:
        spec = self.spec
        for told, name, shape in (
            (self._session.get_inputs, INPUT_NAME, [spec.n_steps, len(spec.features)]),
            (self._session.get_outputs, OUTPUT_NAME, [spec.horizon, len(spec.targets)]),
        ):
            try:
                values = told()
                found = {value.name: value.shape for value in values}
            except Exception as error:  # names that are no text, types that have no shape
                raise ModelError(
                    f"{self.path}: the graph's {name} cannot be read ({_first_line(error)}); "
                    "export the model again"
                ) from error
            batch, *rest = found.get(name) or [0]
            fits = len(found) == 1 and rest == shape and not isinstance(batch, int)
            if not fits or values[0].type != TENSOR_TYPES[spec.numbers]:
                raise ModelError(
                    f"{self.path}: the graph has {str(found)[:LONGEST_SHOWN]}, its metadata say "
                    f"{name} [batch, {shape[0]}, {shape[1]}]; export the model again"
                )

    def _check_golden(self, copies: int) -> None:
        expected = np.array(self.spec.golden.forecast, self._numbers)
        answers = self._run_golden(copies)
        with np.errstate(over="ignore", invalid="ignore"):
            close = np.abs(answers - expected) <= np.array(self.spec.golden_margins())
        sound = close.all(axis=(1, 2))
        if not sound.all():
            raise ModelError(
                f"{self.path}: the golden window gives {_shown(answers[~sound][0])}, the file "
                f"promises {_shown(expected)}; the file is damaged or this machine computes "
                "differently: export the model again"
            )


class _RunError(Exception):
    """The graph gives no forecasts for some windows; the message says why."""


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


def _read(path: Path) -> bytes:
    """Return a file's bytes; whatever else has a name, such as a pipe, might never end."""
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST_FILE:
            return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror or error}; name a model file or a directory of them"
        ) from error
    if stat.S_ISREG(found.st_mode):
        raise ModelError(
            f"{path}: {found.st_size:,} bytes, and a model file has {LARGEST_FILE:,} at most; "
            "export it with 'tidecast-trainer fit'"
        )
    raise ModelError(f"{path}: no regular file; name a model file or a directory of them")


def _parts_of(path: Path, content: bytes) -> Parts:
    try:
        return read_parts(content)
    except MalformedError as error:
        raise ModelError(
            f"{path}: not a loadable ONNX file ({error}); export it with 'tidecast-trainer fit'"
        ) from error
    except ExternalDataError as error:
        raise ModelError(
            f"{path}: {error}, and a worker reads no file but the model's; save the model with all "
            "of its data inside, as 'tidecast-trainer fit' does"
        ) from error


def _spec_of(path: Path, parts: Parts) -> ModelSpec:
    text = parts.metadata.get(METADATA_KEY.encode())
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


def _check_version(path: Path, parts: Parts, spec: ModelSpec) -> None:
    """Hold a version against what it is made of: the whole computation, once the graph alone."""
    now = version_of(parts.computation, spec)
    once = hashlib.sha256(b"".join(parts.graph)).hexdigest()
    if not (now.startswith(spec.version) or once.startswith(spec.version)):
        raise ModelError(
            f"{path}: it calls itself version {spec.version} and is {now[:VERSION_DIGITS]}: the "
            "graph or what is said of it was changed after the export; take the file that "
            "'tidecast-trainer fit' wrote, or export it again"
        )


def _open(path: Path, content: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning buys microseconds on a wide machine and burns a core of a small container.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What was read as ONNX is not to be taken for ONNX Runtime's own format, which it also knows.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return ort.InferenceSession(
            content,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # or it would print what is wrong, and load the same once more
        )
    except Exception as error:  # onnxruntime's errors have no common type of their own
        raise ModelError(
            f"{path}: not a loadable ONNX file ({_first_line(error)}); "
            "export it with 'tidecast-trainer fit'"
        ) from error


def _shown(values: Floats) -> str:
    return ", ".join(f"{value:g}" for value in values.ravel()[:4])


def _first_line(error: Exception) -> str:
    """Return what an error says; of one of a run, what its operator said."""
    text = str(error).strip()
    return text.partition("Status Message: ")[2].partition("\n")[0][:200] or _line(text)


def _line(text: str) -> str:
    return text.partition("\n")[0][:200]
