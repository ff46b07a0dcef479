"""What a fit picks by itself, and what it leaves as it was told."""

from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.conftest import config_of, history_of
from tidecast.trainer.config import FitConfig, fit_config
from tidecast.trainer.plan import make_plan
from tidecast.trainer.series import split_rows

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
    assert len(plan.reasons) == 6


def test_gaps_shorten_the_lookback() -> None:
    """A lookback over every gap would leave next to no window."""
    values = np.random.default_rng(0).normal(size=20_000)
    values[::100] = np.nan
    plan = make_plan(open_config(horizon=4), history_of(values, step=60.0))
    assert 2 <= plan.n_steps <= 50
    assert "gaps" in plan.reasons[0]


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
    }
    plan = make_plan(config_of(**given), history_of(np.arange(500)))
    assert {name: getattr(plan, name) for name in given} == given
    assert plan.reasons == ()


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
