"""Windows on plain rows: what they hold, where they begin, and which rows they touch."""

import numpy as np
import pytest

from tests.trainer.conftest import history_of
from tidecast.trainer.dataset import Windows, make_windows, require_windows, without_windows
from tidecast.trainer.errors import DataError
from tidecast.trainer.series import History, Part, Series


def two_series(*, features: tuple[str, ...] = ("a", "b")) -> Windows:
    """A series of 12 rows with a gap before the sixth, and one of 10; ``b`` is 100 more than ``a``.

    Eight rows each are for training, two for validation.
    """
    times = np.arange(12) * 60_000
    times[5:] += 600_000
    one = Series("one", times, np.arange(12.0)[:, None] + [0, 100])
    two = Series("two", np.arange(10) * 60_000, np.arange(20.0, 30.0)[:, None] + [0, 100])
    return make_windows(
        History(("a", "b"), (one, two), 60.0),
        features,
        ("b",),
        n_steps=2,
        horizon=1,
        train_rows=8,
        validation_rows=2,
    )


def test_windows_begin_where_their_targets_lie_in_the_part() -> None:
    """Rows 12 to 21 are the second series'; inputs may reach back into the part before."""
    windows = two_series()
    starts = {part: found.tolist() for part, found in windows.starts.items()}
    assert starts == {
        "train": [0, 1, 2, 5, *range(12, 18)],
        "validation": [6, 7, 18, 19],
        "test": [8, 9],
    }
    assert windows.owner.tolist() == [0] * 12 + [1] * 10
    assert windows.segment_start.tolist() == [0] * 5 + [5] * 7 + [12] * 10


def test_gathered_windows_hold_features_and_what_followed() -> None:
    windows = two_series()
    starts = np.array([2, 13])
    inputs, outputs = windows.gather(starts)
    assert inputs.tolist() == [[[2, 102], [3, 103]], [[21, 121], [22, 122]]]
    assert outputs.tolist() == [[[104]], [[123]]]
    inputs, leads = windows.going_on(starts)
    assert inputs.tolist() == [[[2, 102], [3, 103]], [[21, 121], [22, 122]]]
    assert leads.tolist() == [[[4, 104]], [[23, 123]]]
    assert inputs.dtype == outputs.dtype == np.float32


def test_features_that_are_the_targets_are_kept_once() -> None:
    windows = two_series(features=("b",))
    assert windows.outputs is windows.inputs
    assert two_series().outputs is not two_series().inputs


def test_the_rows_that_a_part_touches() -> None:
    windows = two_series()
    touched = {part: np.flatnonzero(windows.touched(part)).tolist() for part in windows.starts}
    assert touched == {
        "train": [*range(8), *range(12, 20)],
        "validation": [*range(6, 10), *range(18, 22)],
        "test": [8, 9, 10, 11],
    }


def test_times_count_from_the_beginning_of_each_series() -> None:
    windows = two_series()
    assert windows.times(np.array([0, 6, 12, 19])).tolist() == [0, 6, 0, 7]


def test_batches_go_through_a_part_in_order() -> None:
    windows = two_series()
    batches = list(windows.batches("train", 4))
    assert [starts.tolist() for starts, *_ in batches] == [
        [0, 1, 2, 5],
        [12, 13, 14, 15],
        [16, 17],
    ]
    for starts, inputs, outputs in batches:
        np.testing.assert_array_equal(inputs, windows.gather(starts)[0])
        np.testing.assert_array_equal(outputs, windows.gather(starts)[1])


def test_of_many_windows_evenly_spread_ones_are_kept() -> None:
    windows = two_series()
    assert windows.thinned("train", 4).starts["train"].tolist() == [0, 5, 14, 17]
    assert windows.thinned("train", 9).starts["train"].tolist()[-2:] == [15, 17]
    assert windows.thinned("train", 4).starts["test"].tolist() == [8, 9]
    assert windows.thinned("train", 10) is windows


def test_a_part_without_windows_is_said_with_its_rows() -> None:
    history = history_of([1.0, 2.0, np.nan, 4.0])
    windows = make_windows(
        history, ("value",), ("value",), n_steps=2, horizon=1, train_rows=3, validation_rows=0
    )
    wanted = r"no train window of 2 steps \+ 1 leads fits \(longest series 4 rows, 1 rows with mis"
    with pytest.raises(DataError, match=wanted):
        require_windows(windows, history, "train")
    require_windows(two_series(), history, "train")


def test_series_without_a_window_are_named_with_their_rows() -> None:
    """Where some have one; where none has, that is an error of its own."""
    sizes = {"long": 40, "c": 12, "d": 1, "e": 3, "f": 3, "g": 3, "h": 3}
    several = tuple(
        Series(name, np.arange(size) * 60_000, np.arange(float(size))[:, None])
        for name, size in sizes.items()
    )

    def said(count: int, part: Part = "train") -> str:
        history = History(("v",), several[:count], 60.0)
        windows = make_windows(
            history, ("v",), ("v",), n_steps=8, horizon=2, train_rows=None, validation_rows=None
        )
        return without_windows(windows, history, part)

    assert said(1) == ""
    assert said(2) == "c (12 rows) has no training window of 8 steps + 2 leads"
    assert said(3).startswith("c (12 rows) and d (1) have no training window")
    assert said(7).startswith("c (12 rows), d (1), e (3), f (3), g (3) and 1 more have no training")
    assert said(3, "test").startswith("d (1 row) has no test window")
    history = History(("v",), several[2:], 60.0)
    windows = make_windows(
        history, ("v",), ("v",), n_steps=8, horizon=2, train_rows=None, validation_rows=None
    )
    assert without_windows(windows, history, "train") == ""
