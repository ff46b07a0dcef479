"""How far apart a model's readings come, beside the step that it was fitted for; pure."""

import numpy as np
import numpy.typing as npt

from tidecast.worker.pipeline.grid import is_next_step

Ints = npt.NDArray[np.int64]
ENOUGH = 200
"""Readings by which the pace is known."""


class Pace:
    """The distances of the first readings that follow others of their series, and a word on them.

    Args:
        step: milliseconds that a model has from reading to reading; None: any.
    """

    def __init__(self, step: float | None) -> None:
        self._step = step
        self._apart: Ints = np.zeros(0, np.int64)

    @property
    def is_known(self) -> bool:
        """Whether nothing more has to be seen."""
        return self._step is None or len(self._apart) >= ENOUGH

    def see(self, since: Ints) -> None:
        """Take how many milliseconds some readings came behind the slots before."""
        self._apart = np.concatenate([self._apart, since[since > 0]])[:ENOUGH]

    def remark(self) -> str | None:
        """Say what does not fit the step, if most readings do not."""
        if self._step is None or len(self._apart) < ENOUGH:
            return None
        usual = float(np.median(self._apart))
        if is_next_step(usual, self._step):
            return None
        became = "of each step the last reading counts"
        if usual > self._step:
            became = "the slots between are filled, or windows start anew (--gaps, --max-gap)"
        return (
            f"readings come every {usual / 1000:g} s, the model wants {self._step / 1000:g} s: "
            f"{became}; send them so, or fit with --step {usual / 1000:g}"
        )
