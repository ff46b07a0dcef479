"""What a fit picks by itself, and what it leaves as it was told."""

from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.conftest import config_of, history_of
from tidecast.trainer.config import FitConfig, fit_config
from tidecast.trainer.errors import ConfigError
from tidecast.trainer.plan import Plan, make_plan
from tidecast.trainer.series import History, Series, split_rows

HOUR = 3600.0


def open_config(**choices: object) -> FitConfig:
    """A configuration that leaves everything open."""
    usual = {"name": "m", "targets": ("value",), "features": ("value",), "horizon": 24}
    return fit_config(**(usual | choices))


@pytest.mark.parametrize(
    ("rows", "step", "n_steps", "segment"),
    [
        (20_000, HOUR, 336, 24),
        (20_000, HOUR / 2, 336, 24),
        (4000, HOUR / 12, 336, 24),
        (2000, 7 * 24 * HOUR, 156, 13),
        (400, HOUR, 24, 2),
        (60, HOUR, 5, 1),
        (8, HOUR, 2, 1),
    ],
)
def test_lookback_and_segments_suit_rows_and_step(
    rows: int, step: float, n_steps: int, segment: int
) -> None:
    plan = make_plan(open_config(), history_of(np.arange(rows), step=step, every=step))
    assert (plan.n_steps, plan.segment) == (n_steps, segment)
    assert plan.n_steps % plan.segment == 0
    assert len(plan.reasons) == 6 + (plan.max_gap > 0)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"n_steps": 1_000_001}, "--n-steps 1,000,001 of 1 columns are more than 1,000,000"),
        ({"horizon": 1_000_001}, "--horizon 1,000,001 of 1 columns are more than 1,000,000"),
    ],
)
def test_no_more_numbers_than_a_worker_takes(choices: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_plan(open_config(**choices), history_of(np.arange(100)))


@pytest.mark.parametrize("step", [1e-9, 0.0005, 0.0, -1.0, float("nan"), float("inf"), 1e17])
def test_no_step_that_a_worker_refuses(step: float) -> None:
    with pytest.raises(ConfigError, match="step"):
        open_config(step_seconds=step)


@pytest.mark.parametrize(
    ("n_steps", "season", "segment"),
    [
        (1, 24, 1),
        (2, 24, 1),
        (14, 1, 1),
        (28, 1, 2),
        (28, 7, 1),
        (168, 24, 12),
        (336, 1, 24),
        (336, 7, 21),
        (336, 25, 25),
        (336, 36, 18),
        (600, 500, 25),
        (720, 24, 24),
    ],
)
def test_about_fourteen_segments_fit_the_season(n_steps: int, season: int, segment: int) -> None:
    """A segment divides the season or is divided by it; a longer lookback has more of them."""
    config = open_config(n_steps=n_steps, season=season)
    assert make_plan(config, history_of(np.arange(2000))).segment == segment


def test_gaps_shorten_the_lookback() -> None:
    """A lookback over every gap would leave next to no window."""
    values = np.random.default_rng(0).normal(size=20_000)
    values[::100] = np.nan
    plan = make_plan(open_config(horizon=4, gaps="none"), history_of(values, step=60.0))
    assert 2 <= plan.n_steps <= 50
    assert "gaps" in plan.reasons[0]
    assert (plan.gaps, plan.max_gap) == ("none", 0)
    assert make_plan(open_config(horizon=4), history_of(values, step=60.0)).n_steps == 336


def test_a_longer_lookback_is_taken_where_a_line_gains_by_it() -> None:
    """A pattern that comes back after 450 steps lies beyond the usual lookback."""
    random = np.random.default_rng(3)
    noise = random.normal(size=40_000)
    pattern = np.tile(random.normal(size=450), 89)[:40_000]
    plan = make_plan(open_config(horizon=2), history_of(3 * pattern + noise, step=HOUR, every=HOUR))
    assert plan.n_steps == 504
    assert "less than from 336" in plan.reasons[0]
    assert (
        make_plan(open_config(horizon=2), history_of(noise, step=HOUR, every=HOUR)).n_steps == 336
    )


def test_longer_lookbacks_are_chosen_by_validation_rows_alone() -> None:
    random = np.random.default_rng(3)
    values = np.tile(random.normal(size=450), 89)[:40_000] + random.normal(size=40_000)
    poisoned = values.copy()
    poisoned[split_rows(40_000, None, None)["test"][0] :] = random.normal(size=8000) * 1e3
    one, two = (
        make_plan(open_config(), history_of(each, step=HOUR, every=HOUR))
        for each in (values, poisoned)
    )
    assert one == two


def test_a_long_horizon_wants_a_long_lookback() -> None:
    plan = make_plan(open_config(horizon=400), history_of(np.arange(20_000), step=HOUR, every=HOUR))
    assert plan.n_steps >= 800 - plan.segment


def test_what_is_given_stays() -> None:
    given = {
        "n_steps": 30,
        "segment": 7,
        "units": 9,
        "dropout": 0.2,
        "season": 5,
        "epochs": 3,
        "mix": True,
        "normalization": "standard",
        "gaps": "seasonal",
        "max_gap": 2,
    }
    plan = make_plan(config_of(**given), history_of(np.arange(500)))
    assert {name: getattr(plan, name) for name in given} == given
    assert plan.reasons == ()


def plan_of(windows: int, **choices: object) -> Plan:
    """What is picked for so many training windows of four readings and one lead, unless given."""
    config = config_of(**({"units": None, "epochs": None} | choices))
    config = config.model_copy(
        update={"train_rows": windows + (config.n_steps or 0) + config.horizon - 1}
    )
    rows = (config.train_rows or 0) + 20
    values = np.zeros((rows, len(config.columns)))
    return make_plan(config, history_of(values, columns=config.columns))


@pytest.mark.parametrize(("windows", "units"), [(999, 32), (1000, 64)])
def test_units_suit_the_windows(windows: int, units: int) -> None:
    plan = plan_of(windows)
    assert plan.units == units
    assert f"{units} units: for {windows:,} training windows" in plan.reasons


@pytest.mark.parametrize(
    ("windows", "dropout", "refine"),
    [(1099, 0.6, False), (1100, 0.6, True), (1499, 0.6, True), (1500, 0.1, True)],
)
def test_dropout_and_refinement_suit_the_windows_for_each_reading_and_lead(
    windows: int, dropout: float, refine: bool
) -> None:
    """A hundred readings and ten leads; two targets have twice as many windows."""
    plan = plan_of(windows, n_steps=100, horizon=10)
    assert (plan.dropout, plan.refine) == (dropout, refine)
    two = ("a", "b")
    plan = plan_of(windows // 2 + 1, n_steps=100, horizon=10, targets=two, features=two)
    assert plan_of(windows // 2, n_steps=100, horizon=10, targets=two, features=two).refine == (
        windows // 2 * 2 >= 1100
    )
    assert plan.dropout == (0.1 if windows >= 1499 else 0.6)


@pytest.mark.parametrize(
    ("windows", "targets", "epochs"),
    [
        (1000, 1, 40),
        (7500, 1, 40),
        (10_000, 1, 30),
        (10_000, 2, 15),
        (40_000, 1, 12),
        (30_000, 2, 8),
    ],
)
def test_epochs_see_so_many_windows(windows: int, targets: int, epochs: int) -> None:
    """About 300,000 of single targets, of 25,000 at most in an epoch, in 8 to 40 epochs."""
    names = tuple("ab"[:targets])
    plan = plan_of(windows, targets=names, features=names)
    assert plan.epochs == epochs
    assert f"{epochs} epochs at most: of {min(windows, 25_000):,} windows" in plan.reasons


def test_the_tutorial_network_has_its_tutorial_size() -> None:
    plan = make_plan(config_of(arch="lstm", units=None), history_of(np.arange(500)))
    assert plan.units == 50


@pytest.mark.parametrize(
    ("features", "targets", "mix"),
    [("a", "a", False), ("ab", "ab", False), ("ab", "a", True), ("ab", "ac", True)],
)
def test_targets_see_features_that_are_none(features: str, targets: str, mix: bool) -> None:
    config = open_config(features=tuple(features), targets=tuple(targets))
    columns = tuple(dict.fromkeys(features + targets))
    history = history_of(np.ones((500, len(columns))), columns=columns)
    assert make_plan(config, history).mix is mix


@pytest.mark.parametrize(
    ("features", "series", "arch", "normalization"),
    [
        ("a", 1, "segmented", "last"),
        ("ab", 1, "segmented", "instance"),
        ("a", 2, "segmented", "instance"),
        ("ab", 2, "lstm", "last"),
    ],
)
def test_what_is_shared_is_measured_by_each_windows_spread(
    features: str, series: int, arch: str, normalization: str
) -> None:
    history = history_of(np.ones((500, len(features))), columns=tuple(features))
    history = replace(history, series=history.series * series)
    config = open_config(features=tuple(features), targets=("a",), arch=arch)
    assert make_plan(config, history).normalization == normalization


def test_values_do_not_matter() -> None:
    calm, wild = (history_of(v) for v in (np.ones(900), np.random.default_rng(0).normal(size=900)))
    assert make_plan(open_config(), calm) == make_plan(open_config(), wild)


@pytest.mark.parametrize("max_gap", [None, 5000])
def test_gaps_longer_than_a_window_do_not_lengthen_it(max_gap: int | None) -> None:
    """Bursts of 200 rows a second apart, an hour between them: a window fits into one of them."""
    times = np.concatenate([np.arange(200) + 3600 * burst for burst in range(60)]) * 1000
    values = np.random.default_rng(0).normal(size=(len(times), 1))
    history = History(("value",), (Series("", times, values),), 1.0)
    plan = make_plan(open_config(max_gap=max_gap), history)
    assert plan.n_steps < 200
    assert plan.max_gap <= plan.n_steps - 2
