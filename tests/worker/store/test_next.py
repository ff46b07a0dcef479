"""When a live reader asks for the next answer, and when it takes it: each move of the drawing."""

import pytest

from tidecast.worker.store.source import MANY_AT_ONCE, Next

MOVES = {
    Next.RESTING: (Next.ASKED, Next.RESTING),
    Next.DUE: (Next.ASKED, Next.ASKED),
    Next.ASKED: (Next.ASKED, Next.ASKED),
    Next.FLOWING: (Next.FLOWING, Next.FLOWING),
}
"""What each becomes when it is to be read, and before the server is sent other work."""


@pytest.mark.parametrize("now", Next)
def test_what_a_read_and_other_work_move(now: Next) -> None:
    assert (now.at_read, now.at_other_work) == MOVES[now]


@pytest.mark.parametrize(
    ("most", "count", "then"),
    [
        pytest.param(0, 1000, Next.RESTING, id="none"),
        pytest.param(MANY_AT_ONCE - 1, 1000, Next.RESTING, id="little"),
        pytest.param(MANY_AT_ONCE, 1000, Next.DUE, id="many"),
        pytest.param(999, 1000, Next.DUE, id="all but its fill"),
        pytest.param(1000, 1000, Next.FLOWING, id="its fill"),
        pytest.param(1, 1, Next.FLOWING, id="its fill of large ones"),
        pytest.param(MANY_AT_ONCE, MANY_AT_ONCE, Next.FLOWING, id="its fill, just many"),
    ],
)
def test_what_an_answer_moves(most: int, count: int, then: Next) -> None:
    assert Next.after(most, count) is then
