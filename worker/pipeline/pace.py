"""How far apart a model's readings come, beside the step that it was fitted for; pure."""

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.grid import is_next_step

Ints = npt.NDArray[np.int64]
FIRST, ENOUGH = 30, 200
"""Readings by which the pace is known: the first time, which is not to be waited for, and later."""
PAUSE = 1000
"""Batches that are not looked at between two times."""


class Pace:
    """The distances of some readings that follow others of their series, and a word on them.

    Args:
        step: milliseconds that a model has from reading to reading; None: any.
        amends: whether a further reading of a step is taken; else it is refused.
    """

    def __init__(self, step: float | None, *, amends: bool = True) -> None:
        self._step, self._amends = step, amends
        self._apart: Ints = np.zeros(0, np.int64)
        self._wanted, self._rest = FIRST, 0
        self.remark: str | None = None
        """What does not fit the step, if most readings did not; None until that is known, too."""

    def looks(self) -> bool:
        """Tell whether to ``see`` the next batch; to be asked once for each."""
        self._rest = max(0, self._rest - 1)
        return self._step is not None and not self._rest

    @property
    def is_known(self) -> bool:
        """Whether enough was seen for a word."""
        return self._wanted == ENOUGH

    def see(self, since: Ints) -> None:
        """Take how many milliseconds some readings came behind the slots before."""
        self._apart = np.concatenate([self._apart, since[since > 0]])[: self._wanted]
        if self._step is not None and len(self._apart) == self._wanted:
            self.remark = self._told(float(np.median(self._apart)), self._step)
            self._apart, self._wanted, self._rest = self._apart[:0], ENOUGH, PAUSE

    def _told(self, usual: float, step: float) -> str | None:
        if is_next_step(usual, step):
            return None
        if usual > step:
            became = "the slots between are filled, or windows start anew (--gaps, --max-gap)"
            remedy = f"send them so, or fit with --step {usual / 1000:g}"
        else:
            became = f"of each step the {'last' if self._amends else 'first'} reading counts"
            remedy = (
                f"'tidecast-trainer fit --step {step / 1000:g} --aggregate mean' makes a model of "
                f"their mean, --step {usual / 1000:g} one of all of them"
            )
        return (
            f"readings come every {usual / 1000:g} s, the model wants {step / 1000:g} s: "
            f"{became}; {remedy}"
        )
