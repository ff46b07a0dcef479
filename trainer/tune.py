"""Searches for better choices on the validation rows, with Optuna; a file keeps what it found."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from tidecast.trainer.config import FitConfig
from tidecast.trainer.errors import DataError, StoppedError
from tidecast.trainer.evaluate import Evaluation
from tidecast.trainer.figures import number
from tidecast.trainer.fit import fit
from tidecast.trainer.plan import Plan, make_plan
from tidecast.trainer.resume import key_of
from tidecast.trainer.series import History

AfterTrial = Callable[[int, "Found | None"], None]
"""Called after each trial with how many there were and the best of them so far."""

TUNED = ("n_steps", "segment", "units", "dropout", "learning_rate")
NOTHING_FOUND = (
    "before the first trial ended: nothing was found; run the same command again, and from the end "
    "of its first trial on Ctrl-C ends with the best so far"
)
USUAL = "usual"
"""Marks the trial of what a fit would choose."""
SMALLEST = 1e-300
"""Of an error that others are divided by."""
FIRST_TRIALS = 6
"""Trials before Optuna learns from them, and before it breaks off what looks hopeless."""


@dataclass(frozen=True)
class Found:
    """The best choices of a search, and their error on the validation rows.

    Errors are mean absolute ones over those of repeating the newest value; ``usual`` is that of
    the choices that a fit makes by itself. ``trials`` were made, of which ``broken_off`` early.
    """

    choices: dict[str, int | float]
    error: float
    usual: float | None
    trials: int
    broken_off: int


def search(
    config: FitConfig,
    history: History,
    storage: Path,
    *,
    seconds: float,
    trials: int | None = None,
    after: AfterTrial = lambda *_: None,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Try choices of lookback, segment, units, dropout and learning rate until the time is up.

    The first trial is what a fit would choose. Test rows are not looked at. Ctrl-C ends the search;
    the same call goes on with what ``storage`` keeps.

    Args:
        config: what is searched for is chosen anew; all else stays.
        history: what to learn from and to judge by.
        storage: a SQLite file, which may hold searches of other data or with other options too.
        seconds: how long to search; a trial that is under way then is broken off.
        trials: how many to try at most, earlier ones not counted.
        after: hears of each trial.
        clock: in seconds.

    Raises:
        DataError: not even the usual choices can be tried on these rows.
        StoppedError: Ctrl-C came before the first trial ended.
    """
    plan = make_plan(config, history)
    study = _open(storage, key_of(config, plan, history))
    if not any(_is_usual(trial) for trial in study.trials):
        study.enqueue_trial(_usual(config, plan), user_attrs={USUAL: True})
    deadline = clock() + seconds

    def objective(trial: optuna.Trial) -> float:
        return _tried(trial, config, plan, history, lambda: clock() > deadline)

    def ended(study: optuna.Study, _: Any) -> None:
        after(len(study.trials), _best(study))

    interrupted = False
    try:
        study.optimize(objective, n_trials=trials, timeout=seconds, callbacks=[ended])
    except KeyboardInterrupt:  # what was found until then is kept
        interrupted = True
    found = _best(study)
    if found is None and interrupted:
        raise StoppedError(NOTHING_FOUND)
    if found is None:
        raise DataError(
            f"not one trial ended within {number(seconds / 60)} minutes; give more --minutes, "
            f"the trials so far are kept in {storage}"
        )
    return found


def _tried(
    trial: optuna.Trial,
    config: FitConfig,
    plan: Plan,
    history: History,
    expired: Callable[[], bool],
) -> float:
    """Return the error of one trial's choices."""
    chosen = config.model_copy(update=_choices(trial, plan))

    def epoch(number: int, _: int, __: float, validation: float | None) -> None:
        if expired():
            trial.study.stop()
            raise optuna.TrialPruned
        if validation is not None:
            trial.report(validation, number)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        fitted = fit(chosen, history, epoch)
    except DataError as error:
        if USUAL in trial.user_attrs:
            raise
        raise optuna.TrialPruned from error  # so long a lookback leaves no windows
    if fitted.broken_off:
        raise KeyboardInterrupt  # the fit has taken it for its own
    trial.set_user_attr("choices", {name: getattr(chosen, name) for name in TUNED})
    return relative_error(fitted.validation)


def relative_error(evaluation: Evaluation) -> float:
    """Return the mean absolute error over that of repeating the newest value, all leads together.

    It compares lookbacks, which leave unequal windows where there are gaps.
    """
    model, naive = evaluation.model.overall(), evaluation.naive.overall()
    measure = "mae" if model["mase"] is None else "mase"
    own, floor = float(model[measure] or 0.0), float(naive[measure] or 0.0)
    return own / max(floor, SMALLEST)


def _open(storage: Path, name: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{storage}",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=FIRST_TRIALS),
            pruner=optuna.pruners.MedianPruner(FIRST_TRIALS, n_warmup_steps=3),
        )


def _is_usual(trial: Any) -> bool:
    """Tell whether a trial is of what a fit would choose, and was not broken off."""
    marked = USUAL in trial.user_attrs or trial.number == 0  # the first of any older search
    return marked and trial.state.name in ("COMPLETE", "WAITING")


def _usual(config: FitConfig, plan: Plan) -> dict[str, Any]:
    return {
        "lookback": 1.0,
        "segment": 1.0,
        "units": plan.units,
        "dropout": plan.dropout,
        "learning_rate": config.learning_rate,
    }


def _choices(trial: optuna.Trial, plan: Plan) -> dict[str, Any]:
    """Return what a trial chooses: lookback and segment as multiples of the plan's."""
    lookback = trial.suggest_categorical("lookback", (0.25, 0.5, 1.0, 1.5, 2.0))
    segment = trial.suggest_categorical("segment", (0.5, 1.0, 2.0))
    n_steps = max(1, round(plan.n_steps * lookback))
    units = sorted({16, 32, 64, 128, plan.units})
    return {
        "n_steps": n_steps,
        "segment": min(n_steps, max(1, round(plan.segment * segment))),
        "units": trial.suggest_categorical("units", units),
        "dropout": trial.suggest_float("dropout", 0.0, 0.7),
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
    }


def _best(study: optuna.Study) -> Found | None:
    """Return the best of the trials that ended, if any did."""
    whole = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if not whole:
        return None
    best = min(whole, key=lambda trial: trial.value or 0.0)
    return Found(
        choices=best.user_attrs["choices"],
        error=float(best.value or 0.0),
        usual=next((trial.value for trial in whole if _is_usual(trial)), None),
        trials=len(study.trials),
        broken_off=len(study.trials) - len(whole),
    )
