"""What becomes of a series' readings, one by one and in plain Python, as docs/time.md has it."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from tidecast.worker.pipeline.grid import Grid

Values = tuple[float, ...]
What = Literal["extended", "amended", "ignored", "refused"]


@dataclass
class Slot:
    """A slot of a window: what its features are, and whether a reading said so, of all of them."""

    values: Values
    real: bool = True
    partly: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a reading, and the window that is forecast from, if one is.

    ``filled`` counts the slots of that window that no reading filled.
    """

    what: What
    window: list[Values] | None = None
    filled: int = 0


@dataclass
class SlowWindow:
    """All slots of a series' run; ``newest`` is when the last of them lies.

    ``latest`` is the time of its latest reading, ``crowd`` how many of different times it had.
    """

    n_steps: int
    grid: Grid
    slots: list[Slot] = field(default_factory=list)
    newest: int = 0
    latest: int = 0
    crowd: int = 1

    def read(self, time: int, values: Values) -> Outcome:
        """Take a reading."""
        step, since, opened = self.grid.step_ms, time - self.newest, time
        if self.slots and step:
            if 2 * since <= step:
                return self._late(time, values)
            empty = int(since / step + 0.5) - 1 if 2 * since >= 3 * step else 0
            if self.crowd > 1 and self.grid.amends:
                opened = self.newest + round((1 + empty) * step)
            if empty > self.grid.most:
                self.slots = []
            else:
                self.slots += [Slot(values, real=False) for _ in range(empty)]
        self.slots.append(Slot(values))
        self._fill(newest_alone=True)
        self.newest, self.latest, self.crowd = opened, time, 1
        return self._forecast("extended")

    def close(self, slot: Slot, opened: int, latest: int, crowd: int) -> Outcome:
        """Take a slot that readings came together in."""
        self.crowd = 1
        self.read(opened, slot.values)
        self.slots[-1].partly, self.latest, self.crowd = slot.partly, latest, crowd
        return self._forecast("extended")

    def rewrite(self, values: Values, latest: int, crowd: int) -> Outcome:
        """Give the newest slot other values."""
        self.slots[-1], self.latest, self.crowd = Slot(values), latest, crowd
        self._fill()
        return self._forecast("extended")

    def complete(self, time: int, values: tuple[float | None, ...]) -> Outcome:
        """Take a reading of a slot that is there, which may lack features."""
        back = self._back(time)
        if None not in values:
            return self._late(time, tuple(float(one or 0) for one in values))
        if back >= min(self.n_steps, len(self.slots)):
            return Outcome("refused")
        slot = self.slots[-1 - back]
        partly, pairs = not slot.real or slot.partly, zip(values, slot.values, strict=True)
        outcome = self._late(time, tuple(b if a is None else a for a, b in pairs))
        if outcome.what != "ignored":
            slot.partly = partly
        return self._forecast(outcome.what) if outcome.window else outcome

    def _back(self, time: int) -> int:
        step, before = self.grid.step_ms or 0, self.newest - time
        return 0 if 2 * before <= step or time >= self.latest else max(1, int(before / step + 0.5))

    def _late(self, time: int, values: Values) -> Outcome:
        """Take a reading from before the newest slot, or half a step behind it at most."""
        back = self._back(time)
        short = back - len(self.slots)
        if not self.grid.amends or back >= self.n_steps or short > self.grid.most:
            return Outcome("refused")
        if short >= 0:
            between = [Slot(values, real=False) for _ in range(short)]
            self.slots = [Slot(values), *between, *self.slots]
        else:
            slot = self.slots[-1 - back]
            again = slot.real and not slot.partly and (back > 0 or time == self.latest)
            if again and (slot.values == values or self.grid.twice == "first"):
                return Outcome("ignored")
            if back == 0:
                if time < self.latest:
                    return Outcome("ignored")
                self.crowd += time > self.latest
                self.latest = time
            slot.values, slot.real, slot.partly = values, True, False
        self._fill()
        return self._forecast("extended") if back == 0 else Outcome("amended")

    def _forecast(self, what: What) -> Outcome:
        held = self.slots[-self.n_steps :]
        lacking = self.n_steps - len(held)
        if len(held) < min(self.n_steps, self.grid.min_steps or self.n_steps):
            return Outcome(what)
        window = [held[0].values] * lacking + [slot.values for slot in held]
        return Outcome(what, window, lacking + sum(slot.partly or not slot.real for slot in held))

    def _fill(self, *, newest_alone: bool = False) -> None:
        """Fill the holes between readings: all of them, or those before the newest."""
        real = [place for place, slot in enumerate(self.slots) if slot.real]
        for before, behind in list(pairwise(real))[-1 if newest_alone else 0 :]:
            for place in range(before + 1, behind):
                self.slots[place].values = self._filling(before, place, behind)

    def _filling(self, before: int, place: int, behind: int) -> Values:
        first, last = self.slots[before].values, self.slots[behind].values
        number, size = place - before, behind - before - 1
        season = self.grid.season
        if self.grid.gaps == "hold":
            return first
        if self.grid.gaps == "seasonal" and season <= place and season < number + self.n_steps - 1:
            return self.slots[place - season].values
        share = number / (size + 1)
        return tuple(
            float(np.dtype(self.grid.numbers).type(a + (b - a) * share))
            for a, b in zip(first, last, strict=True)
        )
