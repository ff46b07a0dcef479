"""Fits a network: seeded, stopped early, best weights kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.backend import load_tensorflow
from trainer.config import FitConfig, Loss
from trainer.dataset import Ints, Windows, make_windows, require_windows
from trainer.evaluate import Evaluation, evaluate_part
from trainer.networks import build_network, take_over
from trainer.plan import LONGEST_EPOCH, Plan, make_plan
from trainer.ridge import Doubles, Line, fit_ridge
from trainer.scaling import Scaling, measure_scaling, spread
from trainer.series import History, Part

Progress = Callable[[int, int, float, float | None], None]
"""Called after each epoch with its number from 1, how many there may be, loss, validation loss."""

WARM_UP = 0.5
"""Epochs until the learning rate has its full size."""
LINE_SAMPLE = 30_000
LINE_CHUNK = 2000


@dataclass(frozen=True)
class Fitted:
    """A trained network with what it learned from and how well it did on the validation rows."""

    config: FitConfig
    history: History
    windows: Windows
    network: Any
    plan: Plan
    losses: tuple[tuple[float, float | None], ...]
    validation: Evaluation


def fit(
    config: FitConfig,
    history: History,
    progress: Progress | None = None,
    plan: Plan | None = None,
) -> Fitted:
    """Train the network that ``config`` describes; one seed gives the same weights every time.

    Without a plan it makes its own.

    Raises:
        DataError: too few rows for one training window.
    """
    plan = plan or make_plan(config, history)
    windows = make_windows(
        history,
        config.features,
        config.targets,
        n_steps=plan.n_steps,
        horizon=config.horizon,
        train_rows=config.train_rows,
        validation_rows=config.validation_rows,
    )
    require_windows(windows, history, "train")
    load_tensorflow()
    scaling = measure_scaling(config, windows)
    line = _line(windows, scaling) if config.arch == "segmented" and config.line else None
    trained, losses = [], []
    for member in range(config.members):
        _seed(config.seed + member)
        network = build_network(config, plan, scaling, line)
        done = member * plan.epochs

        def after(epoch: int, loss: float, validation: float | None, done: int = done) -> None:
            losses.append((loss, validation))
            if progress is not None:
                progress(done + epoch, config.members * plan.epochs, loss, validation)

        trained.append(network)
        if not _train(network, config, plan, windows, scaling, config.seed + member, after):
            break
    network = trained[0]
    if len(trained) > 1:
        network = build_network(config, plan, scaling, line, len(trained))
        take_over(network, trained)
    part: Part = "validation" if len(windows.starts["validation"]) else "train"

    def predict(inputs: Any) -> Any:
        return np.asarray(network(inputs, training=False))

    validation = evaluate_part(predict, windows, part, plan.season)
    return Fitted(config, history, windows, network, plan, tuple(losses), validation)


def _line(windows: Windows, scaling: Scaling) -> Line:
    """Fit the straight line from a target's own readings to its leads, one for all targets."""
    validation = windows.starts["validation"]
    return fit_ridge(
        _line_rows(windows, scaling, spread(windows, LINE_SAMPLE)),
        _line_rows(windows, scaling, validation[:: max(1, len(validation) // LINE_SAMPLE)]),
    )


def _line_rows(
    windows: Windows, scaling: Scaling, starts: Ints
) -> Iterator[tuple[Doubles, Doubles]]:
    """Yield readings ``[k * T, n_steps]`` of targets that are features, and their leads."""
    known = scaling.own.any(axis=0)
    for first in range(0, len(starts), LINE_CHUNK):
        inputs, outputs = windows.gather(starts[first : first + LINE_CHUNK])
        readings = scaling.inward(inputs) @ scaling.own[:, known]
        leads = scaling.outward(inputs, outputs)[:, :, known]
        yield (
            readings.transpose(0, 2, 1).reshape(-1, windows.n_steps),
            leads.transpose(0, 2, 1).reshape(-1, windows.horizon),
        )


def _seed(seed: int) -> None:
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _train(
    network: Any,
    config: FitConfig,
    plan: Plan,
    windows: Windows,
    scaling: Scaling,
    seed: int,
    progress: Callable[[int, float, float | None], None],
) -> bool:
    """Run the epochs; Ctrl-C ends them early and keeps the best weights so far.

    Tells whether they were left to end by themselves.
    """
    import keras

    count = min(len(windows.starts["train"]), LONGEST_EPOCH)
    batch_size = config.batch_size or int(np.clip(2 ** round(np.log2(count / 100 + 1)), 8, 64))
    steps = -(-count // batch_size)
    validates = len(windows.starts["validation"]) > 0
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20,
        decay_steps=max(1, round((plan.epochs - WARM_UP) * steps)),
        alpha=0.02,
        warmup_target=config.learning_rate,
        warmup_steps=max(1, round(WARM_UP * steps)),
    )
    # The loss is measured in normalised units: else its size, and with it the clipping, would hang
    # on the unit of the targets.
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, clipnorm=1.0),
        loss=_scaled_loss(config.loss, scaling.output_scale),
        jit_compile=False,
    )
    validation = windows.pipeline("validation", 256, None) if validates else None
    watched = "val_loss" if validates else "loss"
    stopper = keras.callbacks.EarlyStopping(
        watched, patience=config.patience, restore_best_weights=True
    )
    start = network.evaluate(validation, verbose=0) if validates else np.inf
    untrained = network.get_weights()

    def after(epoch: int, logs: dict[str, float]) -> None:
        progress(epoch + 1, float(logs["loss"]), logs.get("val_loss"))

    whole = True
    try:
        network.fit(
            windows.pipeline("train", batch_size, seed),
            validation_data=validation,
            epochs=plan.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[stopper, keras.callbacks.LambdaCallback(on_epoch_end=after)],
        )
    except KeyboardInterrupt:
        if stopper.best_weights is None:
            raise
        network.set_weights(stopper.best_weights)
        whole = False
    if stopper.best is not None and start < stopper.best:
        network.set_weights(untrained)  # a line that training could not better
    return whole


def _scaled_loss(kind: Loss, output_scale: npt.NDArray[np.float64]) -> Any:
    import tensorflow as tf

    scale = tf.constant(output_scale, tf.float32)

    def loss(actual: Any, forecast: Any) -> Any:
        error = (actual - forecast) / scale
        if kind == "mse":
            return tf.reduce_mean(tf.square(error))
        size = tf.abs(error)
        if kind == "mae":
            return tf.reduce_mean(size)
        return tf.reduce_mean(tf.where(size < 1, tf.square(error) / 2, size - 0.5))

    return loss
