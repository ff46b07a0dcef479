"""What becomes of empty slots, drawn as in docs/time.md."""

import numpy as np
import pytest

from tidecast.worker.contract import Gaps
from tidecast.worker.pipeline.grid import Grid, extend, fill, holes_of, is_next_step, slots_between

STEP = 100.0


@pytest.mark.parametrize(
    ("since", "slots"),
    [
        (-1, 0),
        (0, 0),
        (50, 0),
        (51, 1),
        (100, 1),
        (149, 1),
        (150, 2),
        (249, 2),
        (250, 3),
        (1000, 10),
    ],
)
def test_a_reading_opens_the_slot_that_lies_nearest(since: int, slots: int) -> None:
    assert slots_between(np.array([since]), STEP).tolist() == [slots]
    assert bool(is_next_step(since, STEP)) == (slots == 1)


@pytest.mark.parametrize("step", [0.1 + 0.2, 1 / 3, 7.0, 1e6 + 1 / 3])
def test_one_slot_on_is_the_next_step_whatever_the_rounding(step: float) -> None:
    since = np.arange(0, 100_000_000, 999_983)
    assert ((slots_between(since, step) == 1) == is_next_step(since, step)).all()


DRAWN = np.array([[1], [4], [2], [np.nan], [np.nan], [8]], np.float32)
"""::

    8 |                     x
      |
    4 |     x
    2 |          x  ?   ?
    1 | x
      +----------------------
"""


@pytest.mark.parametrize(
    ("gaps", "season", "n_steps", "found"),
    [
        ("linear", 1, 6, [4, 6]),
        ("hold", 1, 6, [2, 2]),
        ("seasonal", 3, 6, [1, 4]),
        ("seasonal", 2, 6, [4, 2]),
        ("seasonal", 1, 6, [2, 2]),  # the second is what the first was filled with
        ("seasonal", 4, 6, [4, 1]),  # one season before the first lies before the beginning
        ("seasonal", 3, 3, [4, 4]),  # a window of three holds 4 and 2 alone
        ("seasonal", 9, 6, [4, 6]),
    ],
)
def test_holes_are_filled(gaps: Gaps, season: int, n_steps: int, found: list[float]) -> None:
    laid = DRAWN.copy()
    holes = holes_of(np.array([0, 0, 0, 2]), np.array([0, 1, 2, 5]), np.array([1, 2, 3, 6]))
    assert holes.places.tolist() == [3, 4]
    fill(laid, holes, Grid(STEP, gaps, 2, season), n_steps)
    assert laid[3:5, 0].tolist() == found
    assert np.delete(laid, [3, 4]).tolist() == [1, 4, 2, 8]


@pytest.mark.parametrize(
    "grid", [Grid(None, "linear", 3), Grid(STEP, "none", 3), Grid(STEP, "hold", 0), Grid(STEP)]
)
def test_without_step_policy_or_limit_nothing_is_filled(grid: Grid) -> None:
    assert grid.most == 0


def test_a_window_begins_with_its_oldest_value_where_it_lacks_readings() -> None:
    """::

    readings        5  7  9
    window of 6     5  5  5  5  7  9
    """
    windows = np.array([[0, 0, 0, 5, 7, 9], [1, 2, 3, 4, 5, 6]], np.float32)[:, :, None]
    extend(windows, np.array([3, 6]))
    assert windows[:, :, 0].tolist() == [[5, 5, 5, 5, 7, 9], [1, 2, 3, 4, 5, 6]]
