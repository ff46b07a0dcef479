"""What becomes of readings in slots that are open, one by one and in plain Python: docs/time.md."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor

import numpy as np

from tests.slow_windows import Outcome, Slot, SlowWindow
from tidecast.worker.pipeline.grid import Grid

Cells = tuple[float | None, ...]
Forecast = tuple[str, int, Outcome]
"""The series, the time of what is forecast from, and the window."""
KEPT = 16
"""Readings of a feature in an open slot, the latest, among which one that comes again is known."""
RULES: dict[str, Callable[[list[float]], float]] = {
    "last": lambda values: values[-1],
    "mean": lambda values: sum(values) / len(values),
    "sum": sum,
    "min": min,
    "max": max,
    "count": len,
}


@dataclass
class OpenSlot:
    """When a slot lies, and each feature's readings in it, in the order of their times."""

    opened: int
    first: int
    said: list[list[tuple[int, float]]]
    crowd: int = 1
    whole: bool = False
    loud: bool = False
    kept: int = KEPT
    numbers: str = "float32"

    def take(self, time: int, cells: Cells, rules: tuple[str, ...], twice: str) -> bool:
        """Take a reading; tell whether it said anything new."""
        self.crowd = 2 if time != self.first else self.crowd
        news = False
        for mine, cell, rule in zip(self.said, cells, rules, strict=True):
            if cell is None or (mine and rule == "last" and time < mine[-1][0]):
                continue
            known = dict(mine[-self.kept :])
            if time in known:
                if cell == known[time] or twice == "first":
                    continue
                mine.remove((time, known[time]))
            mine.append((time, cell))
            mine.sort(key=lambda one: one[0])
            news = True
        return news

    def settled(self, rules: tuple[str, ...]) -> list[float | None]:
        """Return each feature's value, None where it has no reading."""
        pairs = zip(self.said, rules, strict=True)
        return [
            float(np.dtype(self.numbers).type(RULES[rule]([v for _, v in mine]))) if mine else None
            for mine, rule in pairs
        ]


@dataclass
class SlowSlots:
    """The series of a model that joins or aggregates."""

    n_steps: int
    grid: Grid
    features: int
    lateness: int = 0
    windows: dict[str, SlowWindow] = field(default_factory=dict)
    open: dict[str, dict[int, OpenSlot]] = field(default_factory=dict)
    fresh: dict[str, list[int]] = field(default_factory=dict)
    left: dict[str, OpenSlot] = field(default_factory=dict)
    latest: int = -1
    due: float = -np.inf

    def __post_init__(self) -> None:
        """See how slots lie."""
        self.step, self.rules = self.grid.step_ms or 0, self.grid.rules or ("last",) * self.features
        self.reach = self.step if self.grid.rules else self.step / 2

    def read(self, series: str, time: int, cells: Cells, *, loud: bool = True) -> list[Forecast]:
        """Take a reading of these series; return what is forecast then."""
        made = self.tick(time)
        window = self.windows.setdefault(series, SlowWindow(self.n_steps, self.grid))
        slots = self.open.setdefault(series, {})
        return made + self._take(series, window, slots, time, cells, loud=loud)

    def forget(self, series: str) -> None:
        """Know nothing of a series any more."""
        for kept in (self.windows, self.open, self.fresh, self.left):
            kept.pop(series, None)

    def tick(self, time: int) -> list[Forecast]:
        """Take the time of any reading of the partition; return what is forecast then."""
        if not self.step:
            return []
        share = self.step if self.grid.rules else self.step / 8
        self.latest = max(self.latest, time)
        due, made = floor((self.latest - self.lateness) / share) * share, list[Forecast]()
        while due != self.due and (over := self._over(due)):
            for name in sorted(over):
                made += self._close(name, min(over[name]))
        self.due = due
        return made

    def _over(self, due: float) -> dict[str, list[int]]:
        ends = {
            name: [
                number
                for number, slot in slots.items()
                if slot.opened + self.reach < due + bool(self.grid.rules)
            ]
            for name, slots in self.open.items()
        }
        return {name: numbers for name, numbers in ends.items() if numbers}

    def _take(
        self,
        series: str,
        window: SlowWindow,
        slots: dict[int, OpenSlot],
        time: int,
        cells: Cells,
        *,
        loud: bool,
    ) -> list[Forecast]:
        left = self.left.get(series)
        behind = left is not None and (not window.slots or left.opened > window.newest)
        if not self.grid.rules and None not in cells and not slots and not behind:
            outcome = window.read(time, tuple(c or 0.0 for c in cells))
            return forecast(series, time, outcome, loud=loud)
        number, opened = self._number(series, window, slots, time)
        if self.grid.rules and opened + self.step <= self.due:
            return []
        in_window = window.slots and 2 * (time - window.newest) <= self.step
        if not self.grid.rules and in_window and number not in slots:
            return forecast(series, time, window.complete(time, cells), loud=loud)
        made = list[Forecast]()
        depth = int(self.lateness // self.step) + (2 if self.grid.rules else 3)
        for other in sorted(o for o in slots if o != number and o % depth == number % depth):
            if other > number:
                return []
            for older in sorted(slots):
                made += self._close(series, older) if older <= other else []
        slot = slots.setdefault(
            number, OpenSlot(opened, time, [[] for _ in cells], numbers=self.grid.numbers)
        )
        news = slot.take(time, cells, self.rules, self.grid.twice)
        slot.loud |= loud and news
        values = slot.settled(self.rules)
        if self.grid.rules or not news or None in values:
            return made
        for older in sorted(slots):
            made += self._close(series, older) if older < number else []
        at = max(time for mine in slot.said for time, _ in mine)
        whole = tuple(value or 0.0 for value in values)
        if slot.whole:
            return made + forecast(series, at, window.rewrite(whole, at, slot.crowd), loud=loud)
        slot.whole = True
        outcome = window.close(Slot(whole), slot.opened, at, slot.crowd)
        return made + forecast(series, at, outcome, loud=loud)

    def _number(
        self, series: str, window: SlowWindow, slots: dict[int, OpenSlot], time: int
    ) -> tuple[int, int]:
        """Return the number of a reading's slot, and when that lies."""
        if self.grid.rules:
            return floor(time / self.step), round(floor(time / self.step) * self.step)
        left = self.left.get(series)
        if slots:
            number = max(slots)
            base, crowd = slots[number].opened, slots[number].crowd
        elif left and (not window.slots or left.opened > window.newest):
            number, base, crowd = 0, left.opened, left.crowd
        elif window.slots:
            number, base, crowd = 0, window.newest, window.crowd
        else:
            return 0, time
        ahead, back = self._between(base, time), self._between(time, base)
        if window.slots and 2 * (time - window.newest) > self.step:
            back = max(0, min(back, self._between(window.newest, base) - 1))
        rigid = base + round((ahead - back) * self.step)
        return number + ahead - back, time if ahead and crowd == 1 else rigid

    def _between(self, one: int, other: int) -> int:
        since = other - one
        return int(since / self.step + 0.5) if 2 * since > self.step else 0

    def _close(self, series: str, number: int) -> list[Forecast]:
        slot, window = self.open[series].pop(number), self.windows[series]
        if slot.whole:
            return []
        values = slot.settled(self.rules)
        newest = window.slots[-1] if window.slots else None
        fresh = self.fresh.get(series, [])
        if newest and not newest.partly:
            fresh = [window.newest] * len(values)
        for value, since in zip(values, fresh or [0] * len(values), strict=True):
            gap = int((slot.opened - since) / self.step + 0.5)
            if value is None and (not newest or gap > self.grid.most):
                self.left[series] = slot
                return []
        pairs = zip(values, fresh or [0] * len(values), strict=True)
        self.fresh[series] = [f if v is None else slot.opened for v, f in pairs]
        before = newest.values if newest else ()
        held = tuple(before[i] if v is None else v for i, v in enumerate(values))
        at = max(time for mine in slot.said for time, _ in mine)
        at = slot.opened if self.grid.rules else at
        closed = Slot(held, partly=None in values)
        outcome = window.close(closed, slot.opened, at, slot.crowd)
        return forecast(series, at, outcome, loud=slot.loud)


def forecast(series: str, at: int, outcome: Outcome, *, loud: bool) -> list[Forecast]:
    """Return what is forecast from an outcome, if anything is."""
    return [(series, at, outcome)] if outcome.window is not None and loud else []
