"""Fits a model: a line, networks that start from it, and what of it earns its place."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from tidecast.trainer.backend import load_tensorflow
from tidecast.trainer.beginnings import pick_min_steps
from tidecast.trainer.bounds import Floats, beyond, within
from tidecast.trainer.config import FitConfig
from tidecast.trainer.dataset import Windows, make_windows, require_windows, without_windows
from tidecast.trainer.evaluate import Evaluation, Predict, evaluate_part
from tidecast.trainer.networks import Predictor, build_network, unite, weigh
from tidecast.trainer.plan import Plan, make_plan
from tidecast.trainer.resume import Unfinished
from tidecast.trainer.ridge import Doubles, Line, best_line
from tidecast.trainer.scaling import Scaling, measure_scaling
from tidecast.trainer.selection import CLEARLY, gain, in_time, unclear
from tidecast.trainer.series import History, Part
from tidecast.trainer.slots import in_slots
from tidecast.trainer.training import Losses, State, train
from tidecast.worker.contract import Kind

Progress = Callable[[int, int, float, float | None], None]
"""Called after each epoch with its number from 1, how many there may be, loss, validation loss."""
Keep = Callable[[Unfinished], None]
"""Called after each epoch with all that is needed to go on from there."""

Levels = tuple[float, float]
"""Mean absolute errors on the validation windows, in training deviations: the line's, and of what
is served."""

MOST_WATCHED = 20_000
"""Validation windows, at most, that decide what is best; of more, evenly spread ones."""


@dataclass(frozen=True)
class Fitted:
    """A trained network with what it learned from and how well it did on the validation rows.

    ``slots`` is the history as windows were cut from it, ``min_steps`` from how many readings on it
    forecasts. ``losses`` are those of each member's epochs. ``remarks`` say what was left out
    because it did not earn its place, ``levels`` are the errors that this was judged by, ``kind``
    is what has a say in the forecasts. ``broken_off`` tells that Ctrl-C ended the training.
    """

    config: FitConfig
    history: History
    slots: History
    windows: Windows
    min_steps: int
    predictor: Predictor
    plan: Plan
    losses: tuple[Losses, ...]
    validation: Evaluation
    remarks: tuple[str, ...]
    kind: Kind
    levels: Levels | None
    broken_off: bool

    @property
    def network(self) -> Any:
        """The Keras network; ask ``predictor`` for its forecasts."""
        return self.predictor.network


def fit(
    config: FitConfig,
    history: History,
    progress: Progress | None = None,
    plan: Plan | None = None,
    *,
    earlier: Unfinished | None = None,
    keep: Keep | None = None,
) -> Fitted:
    """Train the network that ``config`` describes; one seed gives the same weights every time.

    Args:
        config: what is wanted.
        history: what to learn from.
        progress: hears of each epoch.
        plan: what ``config`` leaves open; made here if it is not given.
        earlier: a fit of the same things that was broken off, to go on from.
        keep: is given after each epoch what it takes to go on from there.

    Raises:
        DataError: too few rows for one training window.
    """
    plan = plan or make_plan(config, history)
    slots = in_slots(history, plan.grid(history), config.features, plan.n_steps)
    windows = make_windows(
        slots,
        config.features,
        config.targets,
        n_steps=plan.n_steps,
        horizon=config.horizon,
        train_rows=config.train_rows,
        validation_rows=config.validation_rows,
    ).thinned("validation", MOST_WATCHED)
    require_windows(windows, history, "train")
    load_tensorflow()
    scaling = measure_scaling(
        windows,
        config.features,
        config.targets,
        plan.normalization,
        shared=config.arch == "segmented",
    )
    fitting = _Fitting(config, plan, windows, scaling, progress, keep)
    fitting.remarks += beyond(history, config.bounds)
    line = fitting.line() if config.arch == "segmented" and config.line else None
    trained = fitting.trained(line, earlier or Unfinished())
    predictor = fitting.settled(fitting.mixed(trained, line), line)
    min_steps = pick_min_steps(predictor, windows, plan.season, scaling.unit)
    if min_steps < plan.n_steps:
        fitting.remarks.append(
            f"a new series is forecast from {min_steps} readings on: from there the model errs "
            "less than repeating the newest value or the season (validation)"
        )
    if short := without_windows(windows, slots, "train"):
        fitting.remarks.append(
            f"{short}: nothing is learned from there; a worker forecasts such series from "
            f"{min_steps} readings on"
        )
    part: Part = "validation" if len(windows.starts["validation"]) else "train"
    return Fitted(
        config,
        history,
        slots,
        windows,
        min_steps,
        predictor,
        fitting.plan,
        tuple(fitting.losses),
        evaluate_part(
            predictor,
            slots,
            windows,
            part,
            plan.season,
            (config.features, config.targets),
            bounds=config.bounds,
            thorough=False,
        ),
        tuple(fitting.remarks),
        fitting.kind(line),
        fitting.levels,
        fitting.broken_off,
    )


@dataclass
class _Fitting:
    """A fit under way: what its steps share, and what they have to say."""

    config: FitConfig
    plan: Plan
    windows: Windows
    scaling: Scaling
    progress: Progress | None
    keep: Keep | None
    losses: list[Losses] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    broken_off: bool = False
    share: float = 1.0
    levels: Levels | None = None
    plans: tuple[Plan, ...] = ()

    def __post_init__(self) -> None:
        """Where mixing has to earn its place, there is a plan without it before."""
        config = self.config
        doubtful = self.plan.mix and config.mix is None and config.line
        known = config.arch == "segmented" and self.scaling.own.any(axis=0).all()
        if doubtful and known and len(self.windows.starts["validation"]):
            self.plans = replace(self.plan, mix=False), self.plan
        else:
            self.plans = (self.plan,)

    def line(self) -> Line:
        """Fit the straight line; a flat one where it does not clearly better the newest value."""
        line = best_line(self.windows, self.scaling)
        if not len(self.windows.starts["validation"]) or not self.scaling.base.any():
            return line
        flat = Line.flat(self.plan.n_steps, self.config.horizon)
        errors = (self._errors(partial(one.forecast, scaling=self.scaling)) for one in (flat, line))
        found = self._gain(*errors)
        if found is None or found >= CLEARLY:
            return line
        self.remarks.append(
            f"the newest value stands for the line: beside it, ridge {unclear(found)}"
        )
        return flat

    def trained(self, line: Line | None, unfinished: Unfinished) -> list[Any]:
        """Return the trained networks: each plan's members."""
        trained: list[Any] = []
        for plan, member in product(self.plans, range(self.config.members)):
            _seed(self.config.seed + member)
            refining = line is not None and plan.refine
            network = build_network(self.config, plan, self.scaling, line, refining=refining)
            number = len(trained)
            if number < len(unfinished.done):
                network.set_weights(unfinished.done[number])
                self.losses.append(unfinished.losses[number])
                trained.append(network)
                continue
            try:
                self.broken_off = not self._train(network, number, member, unfinished)
            except KeyboardInterrupt:
                if not trained:
                    raise
                self.broken_off = True
                break  # those before it are whole
            trained.append(network)
            if self.broken_off:
                break
            unfinished = Unfinished([*unfinished.done, network.get_weights()], [*self.losses])
        return trained

    def _train(self, network: Any, number: int, member: int, unfinished: Unfinished) -> bool:
        """Train one network; tell whether it was left to end by itself."""
        state, epochs = unfinished.state, self.plan.epochs
        count = len(self.plans) * self.config.members

        def after(state: State) -> None:
            if self.keep is not None:
                self.keep(Unfinished(unfinished.done, unfinished.losses, state))
            if self.progress is not None:
                done = number * epochs + len(state.losses)
                self.progress(done, count * epochs, *state.losses[-1])

        try:
            return train(
                network,
                self.config,
                self.plan,
                self.windows,
                self.scaling.unit,
                member=member,
                state=state,
                after=after,
            )
        finally:
            self.losses.append(state.losses)

    def mixed(self, trained: list[Any], line: Line | None) -> list[Any]:
        """Return the members that see all features if they clearly do better, else the others."""
        if len(self.plans) == 1:
            return trained
        count = self.config.members
        groups = [group for group in (trained[:count], trained[count:]) if group]
        found = None
        if len(groups) > 1:
            pairs = zip(self.plans, groups, strict=True)
            united = (unite(self.config, plan, self.scaling, line, each) for plan, each in pairs)
            found = self._gain(*(self._errors(Predictor(network)) for network in united))
            if found is not None and found >= CLEARLY:
                self.losses = self.losses[count:]
                return groups[1]
        self.plan, self.losses = self.plans[0], self.losses[:count]
        told = "no validation windows tell whether the network gains by seeing them"
        if found is not None:
            told = f"the network that sees them {unclear(found)}"
        self.remarks.append(f"features that are no targets only help to fit the line: {told}")
        return groups[0]

    def settled(self, members: list[Any], line: Line | None) -> Predictor:
        """Return the mean of networks, beside a line as far as training earned its place.

        Nothing of what it adds to the line counts unless all of it clearly betters the line, and
        half of it unless all of it clearly betters that. What wins by luck on few rows loses on the
        next ones, and a mean seldom loses by much.
        """
        united = unite(self.config, self.plan, self.scaling, line, members)
        predictor = Predictor(united)
        if line is None or not self.scaling.own.any():
            return predictor  # virtual sensors have no readings for a line

        def errors(share: float) -> Doubles:
            weigh(united, self.scaling, line, members, share=share)
            return self._errors(predictor)

        self.share, remark = self._share(errors)
        weigh(united, self.scaling, line, members, share=self.share)
        self.remarks += [remark] if remark else []
        return predictor

    def kind(self, line: Line | None) -> Kind:
        """Return what has a say in the forecasts, once that is settled."""
        known = self.scaling.own.any(axis=0)
        if line is None or not known.any():
            return "network"
        straight = bool(line.weights.any() or line.bias.any() or not self.scaling.base.any())
        if self.share or not known.all():  # of targets that have no line, all counts
            return "line and network" if straight else "network"
        return "line" if straight else "naive"

    def _share(self, errors: Callable[[float], Doubles]) -> tuple[float, str]:
        """Return how much of what training adds to the line counts, and what is to be said of it.

        ``errors`` gives those of the validation windows where so much of it counts.
        """
        if not len(self.windows.starts["validation"]):
            return 0.0, "the line stands alone: no validation windows tell more"
        whole = errors(1.0)
        straight = errors(0.0)
        alone = self._alone(straight, whole)
        self.levels = float(straight.mean()), float(straight.mean())
        if alone:
            return 0.0, alone
        half = errors(0.5)
        found = self._gain(half, whole) or 0.0
        if found >= CLEARLY:
            self.levels = float(straight.mean()), float(whole.mean())
            return 1.0, ""
        self.levels = float(straight.mean()), float(half.mean())
        return 0.5, (
            "half of what training adds to the line counts: beside that, all of it "
            f"{unclear(found)}"
        )

    def _alone(self, simple: Doubles, learned: Doubles) -> str:
        """Return why a line should stand alone; empty if it should not."""
        found = self._gain(simple, learned)
        if found is None:
            return (
                f"the line stands alone: {len(simple)} validation windows are too few to tell "
                "whether training bettered it"
            )
        if found < CLEARLY:
            return f"the line stands alone: beside it, what training made {unclear(found)}"
        return ""

    def _gain(self, simple: Doubles, learned: Doubles) -> float | None:
        """Return how clearly the second errs less on the validation windows, if it can be told."""
        times = self.windows.times(self.windows.starts["validation"])
        return gain(in_time(times, simple), in_time(times, learned))

    def _errors(self, predict: Predict) -> Doubles:
        """Return the mean absolute error of each validation window, in training units, ``[k]``."""
        unit = self.scaling.unit
        errors = [
            np.abs((self._within(predict(inputs)) - outputs) / unit).mean(axis=(1, 2))
            for _, inputs, outputs in self.windows.batches("validation", 256)
        ]
        return np.concatenate(errors)

    def _within(self, forecasts: Floats) -> Floats:
        return within(forecasts, self.config.targets, self.config.bounds)


def _seed(seed: int) -> None:
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
