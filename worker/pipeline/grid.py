"""What becomes of readings in slots, one a step: trainer and worker call the same functions; pure.

A series is a row of slots. A reading opens the slot that lies as many steps behind the one before
as it comes after that one's reading, so a sensor that drifts opens no hole. ``docs/time.md`` draws
all of it.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from tidecast.worker.contract import Gaps, ModelSpec, Numbers, Rule
from tidecast.worker.pipeline.calendar import STEPS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
Bytes = npt.NDArray[np.uint8]
Twice = Literal["last", "first"]
COLUMNS: Final[dict[Numbers, str]] = {"float32": "<f4", "float64": "<f8"}
"""How NumPy writes them, little-endian."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How the slots of a model's series follow one another, and what becomes of empty ones.

    Args:
        step_ms: milliseconds from slot to slot, by the clock of a calendar where the step is one's;
            None: each reading is the next slot.
        gaps: how empty slots are filled.
        max_gap: how many of them in a row, at most; behind more of them windows start anew.
        season: slots in one season, for ``seasonal``.
        min_steps: slots from which on there are forecasts, if fewer than a window's.
        amends: whether a reading of a slot that a window still holds changes it; else it is late.
        twice: which of several readings of one slot counts.
        rules: how each feature's readings of one slot are aggregated; empty: the last of them all
            counts, and is forecast as it comes.
        joins: whether readings that carry some of the features are joined.
        numbers: what the values in slots are.
    """

    step_ms: float | None
    gaps: Gaps = "none"
    max_gap: int = 0
    season: int = 1
    min_steps: int | None = None
    amends: bool = False
    twice: Twice = "last"
    rules: tuple[Rule, ...] = ()
    joins: bool = False
    numbers: Numbers = "float32"

    @property
    def column(self) -> str:
        """The dtype of a column of values, as NumPy writes it."""
        return COLUMNS[self.numbers]

    @property
    def most(self) -> int:
        """How many empty slots in a row are filled."""
        return 0 if self.step_ms is None or self.gaps == "none" else self.max_gap


def grid_of(spec: ModelSpec, twice: Twice = "last") -> Grid:
    """Return a model's grid; a file of version 1 fills and amends nothing and has full windows."""
    step = None if spec.step_seconds is None else 1000 * spec.step_seconds
    if spec.calendar is not None:
        step = STEPS[spec.calendar]
    if spec.spec_version == 1:
        return Grid(step, numbers=spec.numbers)
    # Of a window that is filled but for its newest reading, more would fill nothing.
    most = min(spec.max_gap, max(0, spec.n_steps - 2))
    season, least = spec.training.season, spec.min_steps
    rules = tuple(spec.aggregate.get(name, "last") for name in spec.features)
    return Grid(
        step,
        spec.gaps,
        most,
        season,
        least,
        amends=True,
        twice=twice,
        rules=() if set(rules) == {"last"} else rules,
        joins=step is not None and len(spec.features) > 1,
        numbers=spec.numbers,
    )


def extend(windows: Floats, runs: Ints) -> None:
    """Fill what windows ``[k, n_steps, F]`` lack at their beginnings with their oldest values.

    Args:
        windows: of which the newest ``runs`` ``[k]`` slots count.
        runs: 1 at least; what is longer lacks nothing.
    """
    n_steps = windows.shape[1]
    short = np.flatnonzero(runs < n_steps)
    if len(short):
        places = np.maximum(np.arange(n_steps), (n_steps - runs[short])[:, None])
        windows[short] = windows[short[:, None], places]


def is_next_step(delta: Any, step: float) -> Any:
    """Tell whether a reading ``delta`` after the previous one is its next step.

    Half a step of jitter either way is forgiven; more is a gap (or a late reading). ``delta`` is a
    number or an array in the unit of ``step``; the answer is a bool or an array of them.
    """
    return (2 * delta > step) & (2 * delta < 3 * step)


def slots_between(since: Ints, step: float) -> Ints:
    """Return how many slots a reading lies behind the one before, ``since`` after it ``[k]``.

    0 where it belongs to that one's slot or to an earlier one. Both in the same unit.
    """
    slots: Ints = np.maximum(np.floor((2.0 * since + step) / (2.0 * step)), 2).astype(np.int64)
    slots[is_next_step(since, step)] = 1
    slots[2 * since <= step] = 0
    return slots


def opened_at(times: Ints, newest: Ints, slots: Ints, crowded: Any, step: float) -> Ints:
    """Return when slots lie that readings open ``[k]``.

    That is the reading's time, so that a drifting sensor opens no hole; behind a slot of several
    readings it is a whole number of steps behind that slot, or slots would be as short as it takes
    a quick sensor to leave the middle of one.

    Args:
        times: of the readings, milliseconds since 1970.
        newest: of the slots before.
        slots: how many slots lie between.
        crowded: whether the slots before had several readings.
        step: milliseconds.
    """
    return np.where(crowded, newest + np.rint(slots * step).astype(np.int64), times)


@dataclass(frozen=True, slots=True)
class Holes:
    """Empty slots of sequences that are laid out one behind the other.

    ``places`` ``[e]`` say where in that layout each is, ascending; ``numbers`` which of its gap it
    is, from 1; ``sizes`` how many its gap has; ``runs`` the length of the unbroken run up to it.
    ``hidden`` of its gap are not laid out, between the reading before and the first that is, and
    ``firsts`` is where the slots of its sequence begin.
    """

    places: Ints
    numbers: Ints
    sizes: Ints
    runs: Ints
    hidden: Ints | int = 0
    firsts: Ints | int = 0


def holes_of(empties: Ints, ends: Ints, runs: Ints) -> Holes:
    """Return the holes before readings.

    Args:
        empties: how many empty slots lie before each reading ``[k]``.
        ends: where the reading itself lies ``[k]``.
        runs: the length of the run that ends with it ``[k]``.
    """
    sizes = np.repeat(empties, empties)
    firsts = np.repeat(np.cumsum(empties) - empties, empties)
    numbers = np.arange(len(sizes)) - firsts + 1
    left = sizes - numbers + 1
    return Holes(np.repeat(ends, empties) - left, numbers, sizes, np.repeat(runs, empties) - left)


def holes_in(marks: Bytes, runs: Ints, gone: Ints) -> Holes:
    """Return the holes of rows that are laid out one behind the other, a slot before each.

    In that slot stands the reading before the first hole of a row that begins with one.

    Args:
        marks: 1 where no reading filled a slot ``[k, n]``; the last of a row is another.
        runs: the length of the run that ends with each row ``[k]``.
        gone: how many holes there were between that reading and a row that begins with one ``[k]``;
            below 0: it is not known, and such holes are left out.
    """
    n = marks.shape[1]
    hole, place = marks == 1, np.arange(n)
    before = np.maximum.accumulate(np.where(hole, -1, place), axis=1)
    behind = np.minimum.accumulate(np.where(hole, n, place)[:, ::-1], axis=1)[:, ::-1]
    unknown = (before < 0) & (gone < 0)[:, None]
    row, slot = np.nonzero(hole & ~unknown)
    first, firsts = before[row, slot], row * (n + 1) + 1
    hidden = np.where(first < 0, gone[row], 0)
    numbers, sizes = slot - first + hidden, behind[row, slot] - first - 1 + hidden
    return Holes(firsts + slot, numbers, sizes, runs[row] - (n - 1 - slot), hidden, firsts)


def fill(laid: Floats, holes: Holes, grid: Grid, n_steps: int) -> None:
    """Fill the holes of laid out slots ``[L, F]``, by what lies around them.

    ``linear`` puts them on a straight line from the reading before to the one behind; ``hold``
    repeats the one before; ``seasonal`` repeats what lies one season before, where a window of
    ``n_steps`` that ends with the reading before holds it, and is ``linear`` where it does not.
    What was repeated from a slot that is no longer laid out stays as it is.
    """
    if not len(holes.places):
        return
    laid_numbers = holes.numbers - holes.hidden
    before = holes.places - laid_numbers
    if grid.gaps == "hold":
        laid[holes.places] = laid[before]
        return
    first = laid[before].astype(np.float64)
    last = laid[before + holes.sizes - holes.hidden + 1].astype(np.float64)
    share = (holes.numbers / (holes.sizes + 1))[:, None]
    line = first + (last - first) * share
    if grid.gaps == "linear":
        laid[holes.places] = line
        return
    held = grid.season < np.minimum(holes.runs, holes.numbers + n_steps - 1)
    laid[holes.places[~held]] = line[~held]
    # One by one, as that of one season before may be a hole that was filled just now.
    for place in holes.places[held & (holes.places - grid.season >= holes.firsts)].tolist():
        laid[place] = laid[place - grid.season]
