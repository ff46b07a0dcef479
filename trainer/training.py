"""Trains one network: seeded, stopped early, best weights kept, each epoch saved to go on from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.config import FitConfig, Loss
from tidecast.trainer.dataset import Windows
from tidecast.trainer.plan import LONGEST_EPOCH, Plan
from tidecast.worker.contract import Numbers

Arrays = list[npt.NDArray[Any]]
Losses = list[tuple[float, float | None]]
"""Of each epoch: the training loss, and the validation's if there is any."""

AVERAGED = 100
"""Over how many steps weights are averaged, at most; over no more than an epoch.

Averages are validated and kept: they err less than the weights of any one step, as in Polyak &
Juditsky 1992, "Acceleration of stochastic approximation by averaging". Over many epochs of few
steps they would still hold the weights that training began with.
"""
WARM_UP = 0.5
"""Epochs until the learning rate has its full size."""


@dataclass
class State:
    """Where the training of one network stands after an epoch.

    ``best`` is the least loss that was watched, reached ``waited`` epochs ago with the weights
    ``best_weights``.
    """

    losses: Losses = field(default_factory=list)
    best: float = np.inf
    waited: int = 0
    best_weights: Arrays = field(default_factory=list)
    variables: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)


AfterEpoch = Callable[[State], None]


def train(
    network: Any,
    config: FitConfig,
    plan: Plan,
    windows: Windows,
    unit: npt.NDArray[np.float64],
    *,
    member: int = 0,
    state: State | None = None,
    after: AfterEpoch = lambda _: None,
) -> bool:
    """Run a network's epochs from where ``state`` stands; Ctrl-C ends them early.

    The network ends with the weights that did best, those it began with included. An epoch's
    windows hang on the seed and its number alone, so that training which was broken off goes on
    as if it had not been.

    Args:
        network: fresh from ``build_network``.
        config: the fit's.
        plan: the fit's.
        windows: to learn from and to stop by.
        unit: of each target, ``[T]``; errors are measured in it.
        member: which network of several it is.
        state: of earlier epochs of the same training.
        after: called after each epoch.

    Returns whether the epochs were left to end by themselves.
    """
    import keras

    count = min(len(windows.starts["train"]), LONGEST_EPOCH)
    batch_size = config.batch_size or int(np.clip(2 ** round(np.log2(count / 100 + 1)), 8, 64))
    steps = -(-count // batch_size)
    _compile(network, config, plan, steps, unit)
    validation = windows.in_order("validation", 256) if len(windows.starts["validation"]) else None
    state = state if state is not None else State()
    # Before it is traced: a step that makes variables as it goes is traced twice.
    network.optimizer.build(network.trainable_variables)
    if state.variables:
        _assign(network.variables, state.variables)
        _assign(network.optimizer.variables, state.optimizer)
    else:
        state.best_weights = network.get_weights()
        if validation is not None:
            state.best = network.evaluate(validation, verbose=0)

    def ended(_: int, logs: dict[str, float]) -> None:
        watched = float(logs.get("val_loss", logs["loss"]))
        state.losses.append((float(logs["loss"]), logs.get("val_loss")))
        state.waited += 1
        state.variables = [np.asarray(each) for each in network.variables]
        state.optimizer = [np.asarray(each) for each in network.optimizer.variables]
        if watched < state.best:
            state.best, state.waited = watched, 0
            state.best_weights = _averaged(network, state.variables)
        network.stop_training = state.waited >= config.patience
        after(state)

    begun, whole = len(state.losses), True
    if begun < plan.epochs and state.waited < config.patience:
        try:
            network.fit(
                windows.shuffled(batch_size, config.seed + member, begun * steps),
                validation_data=validation,
                initial_epoch=begun,
                epochs=plan.epochs,
                steps_per_epoch=steps,
                shuffle=False,
                verbose=0,
                callbacks=[
                    keras.callbacks.SwapEMAWeights(),  # for the validation of each epoch
                    keras.callbacks.LambdaCallback(on_epoch_end=ended),
                ],
            )
        except KeyboardInterrupt:
            if not state.losses:
                raise
            whole = False
    network.set_weights(state.best_weights)
    return whole


def _compile(
    network: Any, config: FitConfig, plan: Plan, steps: int, unit: npt.NDArray[np.float64]
) -> None:
    """Give a network its optimizer, schedule and loss.

    The loss is measured in training units: else its size, and with it the clipping, would hang on
    the unit of the targets.
    """
    import keras

    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20,
        decay_steps=max(1, round((plan.epochs - WARM_UP) * steps)),
        alpha=0.02,
        warmup_target=config.learning_rate,
        warmup_steps=max(1, round(WARM_UP * steps)),
    )
    network.compile(
        keras.optimizers.AdamW(
            rate,
            weight_decay=config.weight_decay,
            clipnorm=1.0,
            use_ema=True,
            ema_momentum=1 - 1 / min(max(steps, 2), AVERAGED),
        ),
        loss=_loss(config.loss, unit, plan.numbers),
        jit_compile=False,
    )


def _averaged(network: Any, variables: Arrays) -> Arrays:
    """Return the averages of a network's weights; it keeps its ``variables`` as they were."""
    network.optimizer.finalize_variable_values(network.trainable_variables)
    weights: Arrays = network.get_weights()
    _assign(network.variables, variables)
    return weights


def _assign(variables: Any, values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _loss(kind: Loss, unit: npt.NDArray[np.float64], numbers: Numbers) -> Any:
    """Return a loss that takes the difference in the numbers that forecasts are made of."""
    import keras

    scaled = _scaled_loss(kind, unit, numbers)

    class Scaled(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
        def call(self, actual: Any, forecast: Any) -> Any:
            return scaled(actual, forecast)

    # Keras makes 32-bit numbers of what a plain function is to compare.
    return Scaled(dtype=numbers)


def _scaled_loss(kind: Loss, unit: npt.NDArray[np.float64], numbers: Numbers) -> Any:
    import tensorflow as tf

    scale = tf.constant(unit, numbers)

    def loss(actual: Any, forecast: Any) -> Any:
        error = (actual - forecast) / scale
        if kind == "mse":
            return tf.reduce_mean(tf.square(error))
        size = tf.abs(error)
        if kind == "mae":
            return tf.reduce_mean(size)
        return tf.reduce_mean(tf.where(size < 1, tf.square(error) / 2, size - 0.5))

    return loss
