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
    ("most", "more", "then"),
    [
        pytest.param(0, False, Next.RESTING, id="none"),
        pytest.param(MANY_AT_ONCE - 1, False, Next.RESTING, id="little"),
        pytest.param(MANY_AT_ONCE, False, Next.DUE, id="many"),
        pytest.param(1, True, Next.FLOWING, id="little, and more to come"),
        pytest.param(1000, True, Next.FLOWING, id="many, and more to come"),
    ],
)
def test_what_an_answer_moves(most: int, more: bool, then: Next) -> None:
    assert Next.after(most, more=more) is then
