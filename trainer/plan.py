"""What a fit decides for itself, and why: lookback, segments, season, size, epochs; pure.

Only training and validation rows are looked at.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tidecast.trainer.baselines import season_of
from tidecast.trainer.calendars import longest_holiday
from tidecast.trainer.config import FitConfig, Normalization
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.errors import ConfigError
from tidecast.trainer.figures import number
from tidecast.trainer.gaps import pick_gap, usual_gap
from tidecast.trainer.precision import lost
from tidecast.trainer.ridge import fit_line, moments_of
from tidecast.trainer.scaling import measure_scaling, spread
from tidecast.trainer.series import History, segments
from tidecast.trainer.slots import in_slots
from tidecast.worker.contract import MOST_NUMBERS, Gaps, Numbers
from tidecast.worker.pipeline.grid import Grid

Ints = npt.NDArray[np.int64]

USUAL_LOOKBACK, LONGER_LOOKBACKS = 336, (504, 720)
LINE_WINDOWS = 8000
"""Windows, at most, that a line is fitted to and judged by, to choose a lookback."""
LONGER_READINGS_PER_STEP = 50
"""Training readings of all targets that each step of a longer one wants."""
WORTHWHILE = 0.005
"""The share of a line's squared error that a longer lookback must save on the validation rows."""
ROWS_PER_STEP = 8
"""Training rows that each step of a lookback wants: a longer one leaves too few windows."""
FEWEST_STEPS = 2
KEPT = 0.5
"""The share of all windows that a lookback must leave, where series are short or have gaps."""
USUAL_SEGMENTS = 14
MANY, LITTLE, MUCH = 1.5, 0.1, 0.6
"""From so many windows for each reading and lead there is little dropout, else much."""
ENOUGH = 1.1
"""So many windows for each reading and lead it takes for training to mend a line."""
WINDOWS_SEEN = 300_000
"""Training windows times targets, at most, that all epochs together take."""
FEWEST_EPOCHS, MOST_EPOCHS = 8, 40
LONGEST_EPOCH = 25_000
"""Windows in an epoch; of more, each epoch takes other ones."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every choice that the configuration leaves open, settled.

    ``segment`` is how many readings one step of a segmented network's LSTM sees. ``mix`` tells
    whether each target sees all features, or its own alone. ``numbers`` are what windows and
    forecasts are made of. ``reasons`` say in words what was
    picked and why.
    """

    n_steps: int
    segment: int
    season: int
    units: int
    dropout: float
    mix: bool
    refine: bool
    normalization: Normalization
    epochs: int
    gaps: Gaps
    max_gap: int
    numbers: Numbers = "float32"
    reasons: tuple[str, ...]

    def grid(self, history: History) -> Grid:
        """Return the slots of a history's series."""
        return _grid(history, self.gaps, self.max_gap, self.season)

    @property
    def segments(self) -> int:
        """How many segments the lookback is cut into; the first may be cut short."""
        return -(-self.n_steps // self.segment)


def make_plan(config: FitConfig, history: History) -> Plan:
    """Settle what ``config`` leaves open by the step, the horizon and the rows.

    Of the rows' values it matters which are missing; where there are very many rows, also how well
    a line forecasts them from a longer lookback.

    Raises:
        ConfigError: a window or a forecast would have more numbers than a worker takes.
    """
    season = config.season or season_of(history.step_seconds, history.calendar)
    usual = max(usual_gap(season), _holidays(history)) if config.max_gap is None else config.max_gap
    usual = min(usual, max(0, (config.n_steps or USUAL_LOOKBACK) - FEWEST_STEPS))
    grid = _grid(history, config.gaps, usual, season)
    slots = in_slots(history, grid, config.features, config.n_steps or USUAL_LOOKBACK)
    n_steps, segment, reasons = _cut(config, slots, season)
    picked, whys = _fitting(grid, n_steps), list[str]()
    if picked.most and config.max_gap is None:
        picked, why = _gaps(config, history, picked, n_steps)
        whys.append(why)
    if picked.most < grid.most:  # which leaves fewer windows of that length
        slots = in_slots(history, picked, config.features, n_steps)
        n_steps, segment, reasons = _cut(config, slots, season)
    grid = _fitting(picked, n_steps)
    reasons += whys
    for option, steps, columns in (
        ("--n-steps", n_steps, config.features),
        ("--horizon", config.horizon, config.targets),
    ):
        if steps * len(columns) > MOST_NUMBERS:
            raise ConfigError(
                f"{option} {steps:,} of {len(columns):,} columns are more than {MOST_NUMBERS:,} "
                f"numbers, which no worker takes; choose a smaller {option} or fewer columns"
            )
    slots = in_slots(history, grid, config.features, n_steps)
    windows = len(_cut_windows(config, slots, n_steps).starts["train"])
    per_lead = windows * len(config.targets) / (n_steps * config.horizon)
    units, dropout, epochs = config.units, config.dropout, config.epochs
    if units is None:
        units = 50 if config.arch == "lstm" else 32 if windows < 1000 else 64
        reasons.append(f"{units} units: for {windows:,} training windows")
    if dropout is None:
        dropout = LITTLE if per_lead >= MANY else MUCH
        if config.arch == "segmented":
            reasons.append(
                f"dropout {dropout}: {number(per_lead, 2)} windows for each reading and lead"
            )
    if epochs is None:
        counted = min(max(windows, 1), LONGEST_EPOCH)
        wanted = round(WINDOWS_SEEN / (counted * len(config.targets)))
        epochs = int(np.clip(wanted, FEWEST_EPOCHS, MOST_EPOCHS))
        reasons.append(f"{epochs} epochs at most: of {counted:,} windows")
    reasons += _doubles(config, history)
    normalization, why = _normalization(config, history)
    if config.normalization is None:
        reasons.append(f"normalization {normalization}: {why}")
    return Plan(
        n_steps=n_steps,
        segment=segment,
        season=season,
        units=units,
        dropout=dropout,
        mix=_mixes(config) if config.mix is None else config.mix,
        refine=per_lead >= ENOUGH,
        normalization=config.normalization or normalization,
        epochs=epochs,
        gaps=config.gaps if grid.most else "none",
        max_gap=grid.most,
        numbers=history.numbers,
        reasons=tuple(reasons),
    )


def _grid(history: History, gaps: Gaps, max_gap: int, season: int) -> Grid:
    """Return the slots of a history's series; without times each row is the next."""
    timed = history.step_seconds is not None and history.series[0].times is not None
    return Grid(
        1000 * history.step_seconds if timed and history.step_seconds else None,
        gaps,
        max_gap,
        season,
        numbers=history.numbers,
    )


def _holidays(history: History) -> int:
    """Return how many business days in a row had no row, as holidays do, where those are steps."""
    if history.calendar != "1bd":
        return 0
    return longest_holiday([one.times for one in history.series if one.times is not None])


def _fitting(grid: Grid, n_steps: int) -> Grid:
    """Return a grid that fills no more than leaves two readings in a window."""
    return replace(grid, max_gap=min(grid.most, max(0, n_steps - FEWEST_STEPS)))


def _gaps(config: FitConfig, history: History, grid: Grid, n_steps: int) -> tuple[Grid, str]:
    """Return the grid with the longest gap to fill, and why that."""
    slots = in_slots(history, grid, config.features, n_steps)
    windows = _cut_windows(config, slots, n_steps)
    most, why = pick_gap(windows, (config.features, config.targets), grid)
    if most < _holidays(history):
        most, why = _holidays(history), "as long as holidays in this file"
    picked = replace(grid, max_gap=most)
    if picked != grid:
        slots = in_slots(history, picked, config.features, n_steps)
    filled = sum(int((~series.real).sum()) for series in slots.series)
    return picked, f"gaps of up to {most:,} filled ({grid.gaps}), {filled:,} slots here: {why}"


def _cut_windows(config: FitConfig, slots: History, n_steps: int) -> Windows:
    """Cut a history in slots into windows."""
    return make_windows(
        slots,
        config.features,
        config.targets,
        n_steps=n_steps,
        horizon=config.horizon,
        train_rows=config.train_rows,
        validation_rows=config.validation_rows,
    )


def _cut(config: FitConfig, history: History, season: int) -> tuple[int, int, list[str]]:
    """Return the lookback, the length of its segments, and why they are as they are."""
    n_steps, reason, reasons = config.n_steps, "", []
    if n_steps is None:
        runs, rows = _training_runs(config, history)
        n_steps, reason = _lookback(runs, rows, season, config.horizon)
        if n_steps >= USUAL_LOOKBACK:
            n_steps, reason = _longer(config, history, runs, n_steps, reason)
    segment = config.segment
    if segment is None:
        segment = _segment(n_steps, season)
    segment = min(segment, n_steps)
    if config.n_steps is None:
        n_steps -= n_steps % segment
        reasons.append(f"{n_steps} steps: {reason}")
    if config.segment is None and config.arch == "segmented":
        reasons.append(f"segments of {segment}: {-(-n_steps // segment)} of them, {_of(season)}")
    return n_steps, segment, reasons


def _mixes(config: FitConfig) -> bool:
    """Tell whether targets have something to see beside their own readings."""
    virtual = set(config.targets) - set(config.features)
    return bool(virtual) or len(config.targets) < len(config.features)


def _normalization(config: FitConfig, history: History) -> tuple[Normalization, str]:
    """Return what a window's readings are measured by, and why.

    Where one network serves several kinds of readings, a window's own spread puts lively and calm
    ones on one footing; alone, a spread that a single outlier can stretch is one more thing to err.
    """
    several = {"features": len(config.features), "series": len(history.series)}
    for name, count in several.items():
        if count > 1 and config.arch == "segmented":
            return "instance", f"one network for {count:,} {name}"
    return "last", "changes from the newest value"


def _doubles(config: FitConfig, history: History) -> list[str]:
    """Return why 64-bit numbers were picked, if they were.

    Raises:
        ConfigError: no level is subtracted from them, so that they would be lost in the network.
    """
    if history.numbers == "float32":
        return []
    why = lost(history.columns, (series.values for series in history.series))
    if config.normalization == "none":
        raise ConfigError(
            f"--normalization none cannot learn this: {why}, and nothing is subtracted before the "
            "network computes in those; choose --normalization last, instance or standard"
        )
    return [f"64-bit numbers: {why}"]


def _training_runs(config: FitConfig, history: History) -> tuple[Ints, int]:
    """Return how many training rows each unbroken run has, and all of them that are in the file."""
    lengths, rows = [0], 0
    for series in history.series:
        beyond_all = series.parts(config.train_rows, None)["train"][1]
        real = np.r_[0, np.cumsum(series.real)]
        for first, beyond in segments(series, history.step_seconds):
            last = max(first, min(beyond, beyond_all))
            lengths.append(last - first)
            rows += int(real[last] - real[first])
    return np.array(lengths), rows


def _windows(runs: Ints, n_steps: int, horizon: int) -> int:
    """Return how many windows fit into runs of rows."""
    return int(np.maximum(0, runs - n_steps - horizon + 1).sum())


def _lookback(runs: Ints, rows: int, season: int, horizon: int) -> tuple[int, str]:
    """Return how many steps back to look, and why."""
    wanted = max(USUAL_LOOKBACK, 2 * horizon)
    affordable = max(FEWEST_STEPS, rows // ROWS_PER_STEP)
    possible = _windows(runs, 1, horizon)
    whole = min(wanted, affordable)
    while whole > FEWEST_STEPS and _windows(runs, whole, horizon) < KEPT * possible:
        whole -= 1
    if whole == wanted:
        return (
            wanted,
            f"{number(wanted / season, 3)} seasons" if season > 1 else "the usual lookback",
        )
    short = whole < affordable
    if season > 1 and whole >= season:
        whole -= whole % season
    if short:
        return whole, "more would lose over half of the windows to gaps and short series"
    return whole, f"of {rows:,} training rows no more than one in {ROWS_PER_STEP}"


def _longer(
    config: FitConfig, history: History, runs: Ints, n_steps: int, reason: str
) -> tuple[int, str]:
    """Return a longer lookback where a line gains by it, and why."""
    possible = _windows(runs, 1, config.horizon)
    affordable = [
        longer
        for longer in LONGER_LOOKBACKS
        if n_steps < longer <= runs.sum() * len(config.targets) // LONGER_READINGS_PER_STEP
        and _windows(runs, longer, config.horizon) >= KEPT * possible
    ]
    if not affordable or not set(config.targets) & set(config.features):
        return n_steps, reason
    windows = _cut_windows(config, history, affordable[-1])
    if not len(windows.starts["validation"]):
        return n_steps, reason
    scaling = measure_scaling(windows, config.features, config.targets)
    parts = (spread(windows, LINE_WINDOWS), windows.thinned("validation", LINE_WINDOWS))
    moments = [
        moments_of(windows, scaling, starts).of(scaling.mine).shared()
        for starts in (parts[0], parts[1].starts["validation"])
    ]
    errors = {}
    for steps in (n_steps, *affordable):
        training, validation = (each.newest(steps) for each in moments)
        errors[steps] = validation.error(fit_line(training, validation))
    best = min(affordable, key=lambda steps: errors[steps])
    saved = 1 - errors[best] / errors[n_steps]
    if saved < WORTHWHILE:
        return n_steps, reason
    return best, f"a line from them errs {saved:.1%} less than from {n_steps} (squared, validation)"


def _segment(n_steps: int, season: int) -> int:
    """Return a length that cuts the usual lookback into about the usual number of segments.

    Of those that divide the season or are divided by it, as a segment then always begins at the
    same time of the season.
    """
    wanted = min(n_steps, USUAL_LOOKBACK) / USUAL_SEGMENTS
    lengths = np.arange(1, n_steps + 1)
    if season > 1:
        lengths = lengths[(season % lengths == 0) | (lengths % season == 0)]
    return int(lengths[np.argmin(np.abs(np.log(lengths / wanted)))])


def _of(season: int) -> str:
    return f"the season is {season}" if season > 1 else "no season is known"
