"""What a fit decides for itself, and why: lookback, segments, season, size, epochs; pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.baselines import season_of
from trainer.config import FitConfig
from trainer.series import History, segments, split_rows

Ints = npt.NDArray[np.int64]

USUAL_LOOKBACK = 336
ROWS_PER_STEP = 8
"""Training rows that each step of a lookback wants: a longer one leaves too few windows."""
FEWEST_STEPS = 2
KEPT = 0.5
"""The share of all windows that a lookback must leave, where series are short or have gaps."""
USUAL_SEGMENTS = 14
READINGS_SEEN = 100_000
FEWEST_EPOCHS, MOST_EPOCHS = 12, 40
LONGEST_EPOCH = 25_000
"""Windows in an epoch; of more, each epoch takes other ones."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every choice that the configuration leaves open, settled.

    ``segment`` is how many readings one step of a segmented network's LSTM sees. ``mix`` tells
    whether each target sees all features, or its own alone. ``reasons`` say in words what was
    picked and why.
    """

    n_steps: int
    segment: int
    season: int
    units: int
    mix: bool
    epochs: int
    reasons: tuple[str, ...]


def make_plan(config: FitConfig, history: History) -> Plan:
    """Settle what ``config`` leaves open by the step, the horizon and the training rows.

    Of the rows' values it matters only which are missing.
    """
    season = config.season or season_of(history.step_seconds)
    runs = _training_runs(config, history)
    n_steps, reasons = config.n_steps, []
    reason = ""
    if n_steps is None:
        n_steps, reason = _lookback(runs, season, config.horizon)
    segment = config.segment
    if segment is None:
        segment = _segment(n_steps, season)
    segment = min(segment, n_steps)
    if config.n_steps is None:
        n_steps -= n_steps % segment
        reasons.append(f"{n_steps} steps: {reason}")
    if config.segment is None and config.arch == "segmented":
        reasons.append(f"segments of {segment}: {-(-n_steps // segment)} of them, {_of(season)}")
    windows = _windows(runs, n_steps, config.horizon)
    units = config.units
    if units is None:
        units = 50 if config.arch == "lstm" else 32 if windows < 1000 else 64
        reasons.append(f"{units} units: for {windows:,} training windows")
    virtual = set(config.targets) - set(config.features)
    mix = config.mix
    if mix is None:
        mix = bool(virtual) or len(config.targets) < len(config.features)
    epochs = config.epochs
    if epochs is None:
        counted = min(max(windows, 1), LONGEST_EPOCH)
        epochs = int(np.clip(round(READINGS_SEEN / counted), FEWEST_EPOCHS, MOST_EPOCHS))
        reasons.append(f"{epochs} epochs at most: of {counted:,} windows")
    return Plan(
        n_steps=n_steps,
        segment=segment,
        season=season,
        units=units,
        mix=mix,
        epochs=epochs,
        reasons=tuple(reasons),
    )


def _training_runs(config: FitConfig, history: History) -> Ints:
    """Return how many training rows each unbroken run has."""
    lengths = [0]
    for series in history.series:
        beyond_all = split_rows(len(series), config.train_rows, None)["train"][1]
        for first, beyond in segments(series, history.step_seconds):
            lengths.append(max(0, min(beyond, beyond_all) - first))
    return np.array(lengths)


def _windows(runs: Ints, n_steps: int, horizon: int) -> int:
    """Return how many windows fit into runs of rows."""
    return int(np.maximum(0, runs - n_steps - horizon + 1).sum())


def _lookback(runs: Ints, season: int, horizon: int) -> tuple[int, str]:
    """Return how many steps back to look, and why."""
    wanted = max(USUAL_LOOKBACK, 2 * horizon)
    affordable = max(FEWEST_STEPS, int(runs.sum()) // ROWS_PER_STEP)
    possible = _windows(runs, 1, horizon)
    whole = min(wanted, affordable)
    while whole > FEWEST_STEPS and _windows(runs, whole, horizon) < KEPT * possible:
        whole -= 1
    if whole == wanted:
        return wanted, f"{wanted / season:.3g} seasons" if season > 1 else "the usual lookback"
    short = whole < affordable
    if season > 1 and whole >= season:
        whole -= whole % season
    if short:
        return whole, "more would lose over half of the windows to gaps and short series"
    return whole, f"of {int(runs.sum()):,} training rows no more than one in {ROWS_PER_STEP}"


def _segment(n_steps: int, season: int) -> int:
    """Return a length that cuts the lookback into about the usual number of segments.

    Of those that divide the season or are divided by it, as a segment then always begins at the
    same time of the season.
    """
    wanted = n_steps / USUAL_SEGMENTS
    if wanted <= 1:
        return 1
    lengths = np.arange(1, n_steps + 1)
    if season > 1:
        lengths = lengths[(season % lengths == 0) | (lengths % season == 0)]
    return int(lengths[np.argmin(np.abs(np.log(lengths / wanted)))])


def _of(season: int) -> str:
    return f"the season is {season}" if season > 1 else "no season is known"
