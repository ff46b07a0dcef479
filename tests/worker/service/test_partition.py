"""A partition's way from state to state, and the pauses in between."""

from collections.abc import Callable

import pytest

from tidecast.worker.service.outage import MOST_TOLD
from tidecast.worker.service.partition import FIRST_PAUSE, Lifecycle, State

WAITING, RESTORING, RUNNING, TROUBLE = State


def fail(life: Lifecycle, now: float = 0.0, reason: str = "no stream", **told: bool) -> bool:
    kinds = {"passing": False, "alone": False, **told}
    return life.fail(reason, now, longest=4.0, chance=1.0, **kinds)


MOVE: dict[str, Callable[[Lifecycle], object]] = {
    "take": Lifecycle.take,
    "run": Lifecycle.run,
    "leave": Lifecycle.leave,
    "fail": fail,
    "try again": lambda life: life.try_again(1e9),
}
DRAWN = {
    (WAITING, "take"): RESTORING,
    (WAITING, "fail"): TROUBLE,
    (WAITING, "try again"): WAITING,
    (RESTORING, "run"): RUNNING,
    (RESTORING, "leave"): WAITING,
    (RESTORING, "fail"): TROUBLE,
    (RESTORING, "try again"): RESTORING,
    (RUNNING, "leave"): WAITING,
    (RUNNING, "fail"): TROUBLE,
    (RUNNING, "try again"): RUNNING,
    (TROUBLE, "try again"): WAITING,
}
"""What each move makes of each state; what is not here must not happen."""


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", MOVE)
def test_each_move_from_each_state(state: State, move: str) -> None:
    life = Lifecycle(state)
    if (state, move) in DRAWN:
        MOVE[move](life)
        assert life.state is DRAWN[state, move]
    else:
        with pytest.raises(AssertionError, match=f"that is {state} cannot become"):
            MOVE[move](life)
        assert life.state is state


def test_pauses_double_up_to_the_longest_and_spread_by_half() -> None:
    life, pauses = Lifecycle(), []
    for chance in (1.0, 1.0, 0.0, 1.0, 0.0, 1.0):
        life.fail("no stream", 10.0, passing=False, alone=False, longest=1.5, chance=chance)
        pauses.append(life.next_try - 10.0)
        life.try_again(life.next_try)
    first = FIRST_PAUSE
    assert pauses == [first, 2 * first, 2 * first, 1.5, 0.75, 1.5]


def test_it_is_tried_again_when_its_pause_is_over_and_not_before() -> None:
    life = Lifecycle()
    fail(life, now=100.0)
    life.try_again(100.0 + FIRST_PAUSE - 0.001)
    assert life.state is TROUBLE
    life.try_again(100.0 + FIRST_PAUSE)
    assert life.state is WAITING


def test_a_pause_stays_a_number_however_often_it_fails() -> None:
    life = Lifecycle()
    for _ in range(5000):
        fail(life, now=life.next_try)
        life.try_again(life.next_try)
    assert life.failures == 5000


def test_trouble_is_told_once_until_a_commit_stands() -> None:
    life, news = Lifecycle(), []
    for now in (0.0, 5.0, 10.0):
        news.append(fail(life, now))
        life.try_again(now + 4)
        life.take()
        life.run()
    assert news == [True, False, False]
    assert (life.since, life.failures, life.reason) == (0.0, 3, "no stream")
    assert life.worked(12.0) == 12.0
    assert (life.failures, life.reason) == (0, None)
    assert life.worked(13.0) is None
    assert fail(life, 14.0)  # it is news again
    assert life.since == 14.0
    assert life.next_try == 14.0 + FIRST_PAUSE


def test_what_comes_behind_the_first_trouble_is_told_too_but_not_without_end() -> None:
    life, told = Lifecycle(), []
    for number in range(50):
        told.append(fail(life, number / 10, reason=f"it stands at {number}-0"))
        life.try_again(1e9)
    assert sum(told) == MOST_TOLD


def test_it_remembers_who_can_help() -> None:
    life = Lifecycle()
    fail(life, passing=True)
    assert (life.passing, life.alone) == (True, False)
    life.try_again(1e9)
    fail(life, alone=True)
    assert (life.passing, life.alone) == (False, True)
