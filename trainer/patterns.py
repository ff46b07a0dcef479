"""The six patterns on the series that everyone learns them with."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidecast.trainer.config import FitConfig, fit_config
from tidecast.trainer.errors import ConfigError
from tidecast.trainer.evaluate import open_model
from tidecast.trainer.export import write_model
from tidecast.trainer.fit import fit
from tidecast.trainer.series import History, Series
from tidecast.worker.contract import ModelSpec, Pattern

Floats = npt.NDArray[np.float32]

N_STEPS = 5
ROWS = 30
TRAIN_ROWS = 11


@dataclass(frozen=True)
class Example:
    """A pattern with a window of its tutorial series and the forecast to expect.

    ``window`` is ``[5, F]``, ``expected`` ``[horizon, T]``.
    """

    pattern: Pattern
    features: tuple[str, ...]
    targets: tuple[str, ...]
    window: tuple[tuple[float, ...], ...]
    expected: tuple[tuple[float, ...], ...]

    @property
    def horizon(self) -> int:
        """How many steps ahead."""
        return len(self.expected)

    def history(self) -> History:
        """Return 10, 20, 30, ... and, with a second feature, 11, 21, 31, ... beside it."""
        tens = np.arange(1, ROWS + 1) * 10.0
        columns = np.stack([tens + i for i in range(len(self.features))], axis=1)
        return History(self.features, (Series("", None, columns),), None)

    def config(self) -> FitConfig:
        """Return the tutorial network: LSTM(50) for one feature and step, LSTM(100) for the rest.

        The examples' windows lie at the end of what is trained on or beyond.
        """
        return fit_config(
            name=self.pattern,
            features=self.features,
            targets=self.targets,
            n_steps=N_STEPS,
            horizon=self.horizon,
            arch="lstm",
            activation="relu",
            loss="mse",
            units=50 if self.pattern == "univariate_one_step" else 100,
            train_rows=TRAIN_ROWS,
            validation_rows=3,
            epochs=40,
            patience=20,
            batch_size=4,
            learning_rate=0.01,
            season=1,
        )


_ONE = tuple((float(v),) for v in (70, 80, 90, 100, 110))
_SHORT = tuple((float(v),) for v in (30, 40, 50, 60, 70))
_TWO = tuple((float(v), float(v + 1)) for v in (30, 40, 50, 60, 70))

EXAMPLES = (
    Example("univariate_one_step", ("a",), ("a",), _ONE, ((120,),)),
    Example("multi_input_one_step", ("a", "b"), ("a",), _TWO, ((80,),)),
    Example("multi_output_one_step", ("a", "b"), ("a", "b"), _TWO, ((80, 81),)),
    Example("univariate_multi_step", ("a",), ("a",), _SHORT, ((80,), (90,))),
    Example("multi_input_multi_step", ("a", "b"), ("a",), _TWO, ((80,), (90,))),
    Example("multi_output_multi_step", ("a", "b"), ("a", "b"), _TWO, ((80, 81), (90, 91))),
)


def example_of(pattern: str) -> Example:
    """Return the example of a pattern.

    Raises:
        ConfigError: there is no such pattern.
    """
    for example in EXAMPLES:
        if example.pattern == pattern:
            return example
    known = ", ".join(example.pattern for example in EXAMPLES)
    raise ConfigError(f"no pattern {pattern!r}; the six are {known}")


def fit_example(example: Example, folder: Path, trained_at: datetime | None = None) -> Path:
    """Fit a pattern's tutorial network, write its files and return the ONNX file's path."""
    fitted = fit(example.config(), example.history())
    path, _ = write_model(folder, fitted, trained_at or datetime.now(UTC))
    return path


def run_examples(folder: Path) -> Iterator[tuple[Example, ModelSpec, Floats]]:
    """Fit each pattern; yield it, its model and what that forecasts, ``[horizon, T]``."""
    for example in EXAMPLES:
        spec, predict = open_model(fit_example(example, folder))
        yield example, spec, predict(np.array([example.window], np.float32))[0]
