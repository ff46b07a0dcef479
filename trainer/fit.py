"""Fits a network: seeded, stopped early, best weights kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.backend import load_tensorflow
from trainer.baselines import season_of
from trainer.config import FitConfig
from trainer.dataset import Windows, make_windows, require_windows
from trainer.evaluate import Evaluation, evaluate_part
from trainer.networks import build_network, measure_scaling
from trainer.series import History, Part

Progress = Callable[[int, float, float | None], None]
"""Called after each epoch with its number from 1, the loss and the validation loss."""


@dataclass(frozen=True)
class Fitted:
    """A trained network with what it learned from and how well it did on the validation rows."""

    config: FitConfig
    history: History
    windows: Windows
    network: Any
    season: int
    losses: tuple[tuple[float, float | None], ...]
    validation: Evaluation


def fit(config: FitConfig, history: History, progress: Progress | None = None) -> Fitted:
    """Train the network that ``config`` describes; one seed gives the same weights every time.

    Raises:
        DataError: too few rows for one training window.
    """
    windows = make_windows(
        history,
        config.features,
        config.targets,
        n_steps=config.n_steps,
        horizon=config.horizon,
        train_rows=config.train_rows,
        validation_rows=config.validation_rows,
    )
    require_windows(windows, history, "train")
    load_tensorflow()
    _seed(config.seed)
    scaling = measure_scaling(config, windows)
    network = build_network(config, scaling)
    losses = _train(network, config, windows, scaling.output_scale, progress)
    part: Part = "validation" if len(windows.starts["validation"]) else "train"
    season = config.season or season_of(history.step_seconds)

    def predict(inputs: Any) -> Any:
        return np.asarray(network(inputs, training=False))

    validation = evaluate_part(predict, windows, part, season)
    return Fitted(config, history, windows, network, season, tuple(losses), validation)


def _seed(seed: int) -> None:
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _train(
    network: Any,
    config: FitConfig,
    windows: Windows,
    output_scale: npt.NDArray[np.float64],
    progress: Progress | None,
) -> Sequence[tuple[float, float | None]]:
    """Run the epochs; Ctrl-C ends them early and keeps the best weights so far."""
    import keras

    count = len(windows.starts["train"])
    batch_size = config.batch_size or int(np.clip(2 ** round(np.log2(count / 50 + 1)), 8, 256))
    validates = len(windows.starts["validation"]) > 0
    optimizer = keras.optimizers.Adam(config.learning_rate, clipnorm=1.0)
    # The loss is measured in normalised units: else its size, and with it the clipping, would hang
    # on the unit of the targets.
    network.compile(optimizer, loss=_scaled_mse(output_scale), jit_compile=False)
    watched = "val_loss" if validates else "loss"
    stopper = keras.callbacks.EarlyStopping(
        watched, patience=config.patience, restore_best_weights=True, start_from_epoch=0
    )
    losses: list[tuple[float, float | None]] = []

    def after(epoch: int, logs: dict[str, float]) -> None:
        losses.append((float(logs["loss"]), logs.get("val_loss")))
        if progress is not None:
            progress(epoch + 1, *losses[-1])

    try:
        network.fit(
            windows.pipeline("train", batch_size, config.seed),
            validation_data=windows.pipeline("validation", 1024, None) if validates else None,
            epochs=config.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[stopper, keras.callbacks.LambdaCallback(on_epoch_end=after)],
        )
    except KeyboardInterrupt:
        if stopper.best_weights is None:
            raise
        network.set_weights(stopper.best_weights)
    return losses


def _scaled_mse(output_scale: npt.NDArray[np.float64]) -> Any:
    import tensorflow as tf

    scale = tf.constant(output_scale, tf.float32)

    def loss(actual: Any, forecast: Any) -> Any:
        return tf.reduce_mean(tf.square((actual - forecast) / scale))

    return loss
