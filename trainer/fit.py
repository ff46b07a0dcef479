"""Fits a network: seeded, stopped early, best weights kept."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.backend import load_tensorflow
from trainer.config import FitConfig, Loss
from trainer.dataset import Windows, make_windows, require_windows
from trainer.evaluate import Evaluation, evaluate_part
from trainer.networks import build_network, take_over
from trainer.plan import LONGEST_EPOCH, Plan, make_plan
from trainer.ridge import Doubles, Line, best_line, line_rows
from trainer.scaling import Scaling, measure_scaling
from trainer.selection import CLEARLY, gain
from trainer.series import History, Part

Progress = Callable[[int, int, float, float | None], None]
"""Called after each epoch with its number from 1, how many there may be, loss, validation loss."""

WARM_UP = 0.5
"""Epochs until the learning rate has its full size."""


@dataclass(frozen=True)
class Fitted:
    """A trained network with what it learned from and how well it did on the validation rows.

    ``remarks`` say what was left out because it did not earn its place.
    """

    config: FitConfig
    history: History
    windows: Windows
    network: Any
    plan: Plan
    losses: tuple[tuple[float, float | None], ...]
    validation: Evaluation
    remarks: tuple[str, ...]


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
    scaling = measure_scaling(
        windows,
        config.features,
        config.targets,
        config.normalization,
        shared=config.arch == "segmented",
    )
    fitting = _Fitting(config, plan, windows, scaling, progress)
    line = fitting.line() if config.arch == "segmented" and config.line else None
    network = fitting.network(line)
    if line is not None:
        network = fitting.earned(network, line)
    part: Part = "validation" if len(windows.starts["validation"]) else "train"
    return Fitted(
        config,
        history,
        windows,
        network,
        plan,
        tuple(fitting.losses),
        evaluate_part(
            partial(_answer, network),
            history,
            windows,
            part,
            plan.season,
            (config.features, config.targets),
        ),
        tuple(fitting.remarks),
    )


@dataclass
class _Fitting:
    """A fit under way: what its steps share, and what they have to say."""

    config: FitConfig
    plan: Plan
    windows: Windows
    scaling: Scaling
    progress: Progress | None
    losses: list[tuple[float, float | None]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def line(self) -> Line:
        """Fit the straight line; none where it does not clearly better the newest value."""
        line = best_line(self.windows, self.scaling)
        validation = self.windows.starts["validation"]
        if not len(validation) or not self.scaling.base.any():
            return line
        errors: list[list[Doubles]] = [[], []]
        for readings, leads in line_rows(self.windows, self.scaling, validation):
            errors[0].append(np.abs(leads).mean(axis=1))
            errors[1].append(np.abs(readings @ line.weights + line.bias - leads).mean(axis=1))
        targets = int(self.scaling.own.any(axis=0).sum())
        found = self._gain(*(np.concatenate(e).reshape(-1, targets).mean(axis=1) for e in errors))
        if found is None or found >= CLEARLY:
            return line
        self.remarks.append(
            f"the newest value stands for the line: ridge bettered it by {found:.1f} standard "
            f"errors on the validation rows, {CLEARLY} are wanted"
        )
        return Line(line.weights * 0, line.bias * 0, np.inf)

    def _gain(self, simple: Doubles, learned: Doubles) -> float | None:
        """Return how clearly the second errs less on the validation windows."""
        in_order = (self.windows.by_time("validation", errors) for errors in (simple, learned))
        return gain(*in_order)

    def network(self, line: Line | None) -> Any:
        """Train all members and return the network that answers their mean."""
        trained: list[Any] = []
        for member in range(self.config.members):
            _seed(self.config.seed + member)
            network = build_network(self.config, self.plan, self.scaling, line)
            try:
                whole = self._train(network, member)
            except KeyboardInterrupt:
                if not trained:
                    raise
                break  # the members before it are whole
            trained.append(network)
            if not whole:
                break
        if len(trained) == 1:
            return trained[0]
        network = build_network(self.config, self.plan, self.scaling, line, len(trained))
        take_over(network, trained)
        return network

    def earned(self, network: Any, line: Line) -> Any:
        """Return the network if it clearly betters its line on the validation rows, else the line.

        What wins by luck on few rows loses on the next ones.
        """
        if not self.scaling.own.any():
            return network  # virtual sensors have no readings for a line
        untrained = build_network(self.config, self.plan, self.scaling, line)
        count = len(self.windows.starts["validation"])
        found = self._gain(self._errors(untrained), self._errors(network)) if count else None
        if found is None:
            self.remarks.append(
                f"the line stands alone: {count} validation windows are too few to tell whether "
                "training bettered it"
            )
            return untrained
        if found >= CLEARLY:
            return network
        self.remarks.append(
            f"the line stands alone: training bettered it by {found:.1f} standard errors on the "
            f"validation rows, {CLEARLY} are wanted"
        )
        return untrained

    def _errors(self, network: Any) -> Doubles:
        """Return the mean absolute error of each validation window, in training units, ``[k]``."""
        unit = self.scaling.unit
        errors = [
            np.abs((_answer(network, inputs) - outputs) / unit).mean(axis=(1, 2))
            for _, inputs, outputs in self.windows.batches("validation", 256)
        ]
        return np.concatenate(errors)

    def _train(self, network: Any, member: int) -> bool:
        """Run a member's epochs; Ctrl-C ends them early and keeps the best weights so far.

        Tells whether they were left to end by themselves.
        """
        import keras

        config, windows, epochs = self.config, self.windows, self.plan.epochs
        count = min(len(windows.starts["train"]), LONGEST_EPOCH)
        batch_size = config.batch_size or int(np.clip(2 ** round(np.log2(count / 100 + 1)), 8, 64))
        steps = -(-count // batch_size)
        validates = len(windows.starts["validation"]) > 0
        rate = keras.optimizers.schedules.CosineDecay(
            config.learning_rate / 20,
            decay_steps=max(1, round((epochs - WARM_UP) * steps)),
            alpha=0.02,
            warmup_target=config.learning_rate,
            warmup_steps=max(1, round(WARM_UP * steps)),
        )
        # The loss is measured in training units: else its size, and with it the clipping, would
        # hang on the unit of the targets.
        network.compile(
            keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, clipnorm=1.0),
            loss=_scaled_loss(config.loss, self.scaling.unit),
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
            self.losses.append((float(logs["loss"]), logs.get("val_loss")))
            if self.progress is not None:
                done = member * epochs + epoch + 1
                self.progress(done, config.members * epochs, *self.losses[-1])

        whole = True
        try:
            network.fit(
                windows.pipeline("train", batch_size, config.seed + member),
                validation_data=validation,
                epochs=epochs,
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


def _answer(network: Any, inputs: Any) -> Any:
    return np.asarray(network(inputs, training=False))


def _seed(seed: int) -> None:
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _scaled_loss(kind: Loss, unit: npt.NDArray[np.float64]) -> Any:
    import tensorflow as tf

    scale = tf.constant(unit, tf.float32)

    def loss(actual: Any, forecast: Any) -> Any:
        error = (actual - forecast) / scale
        if kind == "mse":
            return tf.reduce_mean(tf.square(error))
        size = tf.abs(error)
        if kind == "mae":
            return tf.reduce_mean(size)
        return tf.reduce_mean(tf.where(size < 1, tf.square(error) / 2, size - 0.5))

    return loss
