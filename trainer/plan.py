"""What a fit decides for itself, and why: lookback, segments, season, size, epochs; pure."""

from dataclasses import dataclass

import numpy as np

from trainer.baselines import season_of
from trainer.config import FitConfig
from trainer.series import History, split_rows

USUAL_LOOKBACK = 336
ROWS_PER_STEP = 8
"""Training rows that each step of a lookback wants: a longer one leaves too few windows."""
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
    """Settle what ``config`` leaves open by the step, the horizon and the number of training rows.

    The values of the rows are not looked at.
    """
    season = config.season or season_of(history.step_seconds)
    rows = [split_rows(len(s), config.train_rows, None)["train"][1] for s in history.series]
    reasons = []
    n_steps = config.n_steps
    if n_steps is None:
        n_steps, reason = _lookback(max(rows), season, config.horizon)
        reasons.append(f"{n_steps} steps: {reason}")
    segment = config.segment
    if segment is None:
        segment = _segment(n_steps, season)
        if config.n_steps is None:
            n_steps -= n_steps % segment
        if config.arch == "segmented":
            reasons.append(
                f"segments of {segment}: {-(-n_steps // segment)} of them, {_of(season)}"
            )
    windows = sum(max(0, count - n_steps - config.horizon + 1) for count in rows)
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


def _lookback(rows: int, season: int, horizon: int) -> tuple[int, str]:
    """Return how many steps back to look, and why."""
    wanted = max(USUAL_LOOKBACK, 2 * horizon)
    affordable = max(1, rows // ROWS_PER_STEP)
    if affordable >= wanted:
        return wanted, f"{wanted / season:.3g} seasons" if season > 1 else "the usual lookback"
    if season > 1 and affordable >= season:
        affordable -= affordable % season
    return affordable, f"of {rows:,} training rows no more than one in {ROWS_PER_STEP}"


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
