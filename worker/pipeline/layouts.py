"""Entries by the fields that they name, so that those of one layout are read together; pure."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter

from tidecast.worker.pipeline.wire import HISTORY, Entry, unaddressed

NARROW = 32
"""Fields and values of an entry, of which not many are left aside."""
MOST_SPLITS = 3
"""Times that entries are told apart by one field each, before all of their fields are looked at."""
Layout = Mapping[bytes, int]
"""Where the value of each field lies in the entries that name the same fields in the same order."""


class Group:
    """Entries that name the same fields in the same order.

    Args:
        entries: a batch.
        places: which of these.
        layout: where the value of each field lies.
        cells: all that these entries say in a row, where that is at hand.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        places: Sequence[int],
        layout: Layout,
        cells: list[bytes] | None = None,
    ) -> None:
        self.places, self.layout = places, layout
        all_of_them = len(places) == len(entries)
        self.entries = entries if all_of_them else [entries[place] for place in places]
        self._cells = cells

    def column(self, name: bytes) -> list[bytes]:
        """Return what a field says in each entry."""
        return self.at(self.layout[name])

    def at(self, place: int) -> list[bytes]:
        """Return what stands at one place of each entry."""
        if self._cells:
            return self._cells[place :: len(self._cells) // len(self.entries)]
        return [entry[1][place] for entry in self.entries]

    @property
    def silent(self) -> list[int]:
        """The places of the entries whose readings are history."""
        said = zip(self.places, self.column(HISTORY), strict=True)
        return [place for place, cell in said if cell not in (b"", b"0")]

    def said(self, number: int) -> list[bytes]:
        """Return all that an entry says."""
        return unaddressed(self.entries[number][1])


def groups(entries: Sequence[Entry]) -> Iterator[Group]:
    """Yield the entries of each layout."""
    said = [entry[1] for entry in entries]
    yield from _alike(entries, range(len(said)), said, MOST_SPLITS)


def _alike(
    entries: Sequence[Entry], places: Sequence[int], said: list[list[bytes]], splits: int
) -> Iterator[Group]:
    """Yield some of the entries by their layout.

    Few layouts are soon told apart by the first field in which they differ.

    Args:
        entries: all of them.
        places: which.
        said: their fields and values.
        splits: how often to tell them apart so.
    """
    names = said[0][::2] if said else []
    width = 2 * len(names)
    by: Callable[[list[bytes]], Hashable] | None = None
    cells = None
    if not set(map(len, said)) <= {width}:
        by = len
    elif width > NARROW:  # slices of one long list are the quickest, unless that is very long
        by = None if [fields[::2] for fields in said].count(names) == len(said) else _named
    else:
        cells = list(chain.from_iterable(said))
        counts = (cells[2 * i :: width].count(name) for i, name in enumerate(names))
        differs = next((i for i, count in enumerate(counts) if count < len(said)), None)
        by = None if differs is None else itemgetter(2 * differs)
    if by is None:
        yield Group(entries, places, _layout(names), cells)
        return
    parts: dict[Hashable, list[int]] = {}
    for number, kind in enumerate(map(by if splits else _named, said)):
        parts.setdefault(kind, []).append(number)
    for part in parts.values():
        some = [places[number] for number in part]
        mine = [said[number] for number in part]
        if splits:
            yield from _alike(entries, some, mine, splits - 1)
        else:
            yield Group(entries, some, _layout(mine[0][::2]))


def _named(fields: list[bytes]) -> tuple[bytes, ...]:
    return tuple(fields[::2])


def _layout(names: Iterable[bytes]) -> Layout:
    return {name: 2 * field + 1 for field, name in enumerate(names)}
