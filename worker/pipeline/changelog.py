"""Which parts of the state a save writes, and which of them make a checkpoint; pure.

The rows of each table are cut into slices. A **base** is a full copy of a slice, a **delta** what
has come to some rows since the save before: of a window its new readings. Each save writes as many
bytes of bases as the saves before wrote of deltas, the slice whose base is oldest first, and deltas
of all other rows. So a full copy is always under way, and no save takes long::

    save           1        2        3        4        5
    slice 0     base 0    delta    delta   base 0'   delta
    slice 1     base 1    delta    delta    delta   base 1'
    standing                                base 0'  base 1'
    after it                                base 1   delta 5
                                           deltas 2-4

A base takes the place of the one before it, and a delta that every base is newer than is dropped.
What is left is restored in the order in which it was written, each part over those before it. A
series that is forgotten by an order has its name written before all else of the next save, since
what stands of it would come back.

Where nothing stands yet, bases alone are written, over several saves if they are many; the first
checkpoint stands when every slice has one.

When a table has been compacted its rows are others, and are cut into slices anew. What stands is
then **inherited**, as after a restart: it is restored before all that is written since, and goes
when every new slice has a base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, Protocol, TypeVar

import numpy as np

from tidecast.worker.pipeline.columns import Ints, Table

SECTION = 4_000_000
"""Bytes of one section, about."""
LARGEST_SAVE = 8_000_000
"""Bytes of bases in one save, about, unless the one before wrote more in deltas, or the save is to
be complete."""
SLOWEST = 100
"""Saves in which every base is renewed, however little changes, so that deltas do not pile up."""
NAME_SIZE = 40
"""Bytes of a series beside its columns, about."""


class Sized(Protocol):
    """A section that was written."""

    @property
    def size(self) -> int:
        """Its bytes."""


Section = TypeVar("Section", bound=Sized)


@dataclass(slots=True)
class Slice(Generic[Section]):
    """The rows of a table from ``first`` to before ``beyond``, and the save that wrote their base.

    Without a base, ``at`` is the last save before there were any such rows: the deltas of all later
    saves together hold them.
    """

    table: int
    first: int
    beyond: int
    size: int
    at: int
    base: Section | None = None


class Changelog(Generic[Section]):
    """The sections of a partition's checkpoint.

    At each save call ``begin``, write a base of each slice that it returns and tell ``rebased``,
    write deltas of the rows that ``need_delta`` and tell ``added``; then ``end``.

    Args:
        inherited: the sections of a checkpoint that stands, from before rows had their places.
        clock: how many readings had been numbered when it was made.
        slice_size: bytes of a slice, about.
        largest: as ``LARGEST_SAVE``.
    """

    def __init__(
        self,
        inherited: Sequence[Section] = (),
        clock: int = 0,
        *,
        slice_size: int = SECTION,
        largest: int = LARGEST_SAVE,
    ) -> None:
        self._slice_size, self._largest = slice_size, largest
        self.clock = clock
        self.outdated = True
        """Whether more may lie about than ``sections``, since it was last set to False."""
        self._inherited = list(inherited)
        self._slices: list[list[Slice[Section]]] = []
        self._compacted: list[int] = []
        self._deltas: list[tuple[int, Section]] = []
        self._forgets: list[tuple[int, Section]] = []
        self._save = self._written = self._due = self._debt = 0
        self._stands = bool(inherited)

    @property
    def sections(self) -> list[Section]:
        """What to restore, in that order."""
        bases = [(s.at, 0, s.base) for s in self._all_slices() if s.base is not None]
        parts = [*bases, *((save, 1, section) for save, section in self._deltas)]
        parts += [(save, -1, section) for save, section in self._forgets]
        return [*self._inherited, *(part for *_, part in sorted(parts, key=lambda p: p[:2]))]

    @property
    def is_complete(self) -> bool:
        """Whether the sections hold all of the state, so that they make a checkpoint."""
        return self._stands or all(one.base is not None for one in self._all_slices())

    def begin(self, tables: Sequence[Table], *, everything: bool = False) -> list[Slice[Section]]:
        """Begin a save and return the slices of which it writes a base.

        Args:
            tables: the state; the same ones each time.
            everything: the save is to be complete, however much that takes.
        """
        self._cut(tables)
        slices = sorted(self._all_slices(), key=lambda one: one.at)
        full = sum(one.size for one in slices)
        self._due = max(1, full // SLOWEST)
        if not self._save:
            sizes = (max(section.size, self._due) for section in self._inherited)
            self._debt = max(0, sum(sizes) - full)
        largest = max(self._largest, self._written)  # else bases would fall behind many deltas
        self._save, self._written = self._save + 1, 0
        if not self._stands:
            lacking = [one for one in slices if one.base is None]
            return lacking if everything else _first_of(lacking, largest)
        chosen = _first_of(slices, largest)
        while chosen and sum(one.size for one in chosen) > self._debt:
            chosen.pop()
        self._debt = min(self._debt - sum(one.size for one in chosen), 2 * full)
        return chosen

    def rebased(self, one: Slice[Section], section: Section) -> None:
        """Note the base of a slice."""
        self.outdated |= one.base is not None
        one.at, one.base = self._save, section

    def need_delta(self, table: int, rows: Ints) -> Ints:
        """Return those of the rows touched since the last save that no base of this one holds."""
        if not len(rows):
            return rows
        slices = self._slices[table]
        needed = np.array(
            [s.at < self._save and (self._stands or s.base is not None) for s in slices], np.bool_
        )
        return rows[needed[rows // slices[0].beyond]]

    def added(self, section: Section) -> None:
        """Note a delta."""
        self._deltas.append((self._save, section))
        self._written += section.size

    def forgot(self, section: Section) -> None:
        """Note what names series of which nothing counts that was written before this save."""
        self._forgets.append((self._save, section))
        self._written += section.size

    def end(self, clock: int) -> None:
        """End a save after so many readings, and drop what is outdated."""
        self.clock = clock
        self._debt += max(self._written, self._due)
        self._stands = self.is_complete
        oldest = min((one.at for one in self._all_slices()), default=self._save)
        before = len(self._deltas) + len(self._forgets) + len(self._inherited)
        self._deltas = [delta for delta in self._deltas if delta[0] > oldest]
        self._forgets = [names for names in self._forgets if names[0] > oldest]
        self._inherited = [] if oldest else self._inherited
        left = len(self._deltas) + len(self._forgets) + len(self._inherited)
        self.outdated |= left < before

    def _all_slices(self) -> list[Slice[Section]]:
        return list(chain.from_iterable(self._slices))

    def _start_over(self) -> None:
        """Go on as after a restart, as the rows of the slices are others now."""
        self._inherited = self.sections
        self._slices, self._deltas, self._forgets, self._save = [], [], [], 0

    def _cut(self, tables: Sequence[Table]) -> None:
        """Cut new rows into slices; all of a table but the last are of one length."""
        compacted = [table.compacted for table in tables]
        if self._slices and compacted != self._compacted:
            self._start_over()
        self._compacted = compacted
        self._slices += [[] for _ in tables[len(self._slices) :]]
        for number, (table, slices) in enumerate(zip(tables, self._slices, strict=True)):
            weight = table.row_size + NAME_SIZE
            rows = max(1, self._slice_size // weight)
            for first in range(rows * len(slices), table.size, rows):
                slices.append(Slice(number, first, first + rows, 0, self._save))
            for one in slices:
                one.size = weight * (min(one.beyond, table.size) - one.first)


def _first_of(slices: list[Slice[Section]], limit: int) -> list[Slice[Section]]:
    """Return the first slices, of no more than ``limit`` bytes in all; one at least, if any."""
    sizes = np.cumsum([one.size for one in slices])
    return slices[: max(1, int(np.searchsorted(sizes, limit, side="right")))]
