"""State as columns, a row a series: declared by stages, carried by whoever saves them; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
FREE = -1
"""The slot of a row that holds no series."""
ROWS_AT_ONCE = 1000
"""Rows that are moved together at a time, so that no more of them are there twice."""


@dataclass(frozen=True, slots=True)
class Column:
    """A number, or an array of them, that a stage keeps of each series; nothing is 0.

    Args:
        name: unlike that of any other column of a table.
        dtype: as NumPy writes it, little-endian: ``<f4``.
        shape: of one series' part; () for a number.
        rolling: axis 0 is time, the newest last. All such columns of a table move together, by one
            with each reading that extends or begins a window (``Table.moved``). A checkpoint takes
            only what has come since the last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    rolling: bool = False

    @property
    def item(self) -> tuple[int, ...]:
        """The shape of what one reading adds to a rolling column; of any other, of all of it."""
        return self.shape[1:] if self.rolling else self.shape

    @property
    def item_size(self) -> int:
        """The bytes of that."""
        return prod(self.item) * np.dtype(self.dtype).itemsize

    @property
    def size(self) -> int:
        """The bytes of one series' part."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class ColumnSet:
    """The columns that one stage declares; a change of what they mean is a new ``layout``."""

    name: str
    layout: int
    columns: tuple[Column, ...]


class Table:
    """The columns of several sets, with a row for each series of one model.

    ``slots[row]`` is the roster's slot of the series in a row, ``FREE`` where there is none, and
    ``moved[row]`` how often its rolling columns have moved since ``take``, and ``stirred[row]``
    whether columns have changed since then without a reading of that series. All arrays have room
    for more rows than there are; they are others after ``add``, ``reserve`` and ``compact``.
    ``compacted`` counts how often series have got other rows.
    """

    def __init__(self, sets: Sequence[ColumnSet]) -> None:
        self.sets = {each.name: each.layout for each in sets}
        self.columns = tuple(column for each in sets for column in each.columns)
        self.size = self.compacted = 0
        self.slots: Ints = np.full(0, FREE)
        self.moved: Ints = np.zeros(0, np.int64)
        self.stirred = np.zeros(0, np.bool_)
        self._arrays = {c.name: np.zeros((0, *c.shape), c.dtype) for c in self.columns}
        self._free: list[int] = []

    def __len__(self) -> int:
        """Return how many series have a row."""
        return self.size - len(self._free)

    def __getitem__(self, column: str) -> Array:
        """Return a column ``[capacity, *shape]`` to read and to write."""
        return self._arrays[column]

    @property
    def row_size(self) -> int:
        """The bytes of one series."""
        return sum(column.size for column in self.columns)

    def add(self, slots: Ints) -> Ints:
        """Make room for the series of slots ``[k]``; return their rows, where all columns are 0."""
        again = min(len(slots), len(self._free))
        fresh = range(self.size, self.size + len(slots) - again)
        rows: Ints = np.array([*(self._free.pop() for _ in range(again)), *fresh], np.int64)
        self.size += len(fresh)
        self.reserve(self.size)
        self.slots[rows], self.moved[rows], self.stirred[rows] = slots, 0, False
        return rows

    def remove(self, rows: Ints) -> None:
        """Forget the series of rows; ``add`` may give these to others."""
        self.slots[rows], self.stirred[rows] = FREE, False
        for array in self._arrays.values():
            array[rows] = 0
        self._free += rows.tolist()

    def compact(self, room: int = 0) -> None:
        """Move the rows of all series together, in their order, and give back what others took.

        Nothing is held twice meanwhile, but for some rows.

        Args:
            room: rows that there is room for in any case.
        """
        rows = np.flatnonzero(self.slots[: self.size] != FREE)
        self.size, self._free = len(rows), []
        self.compacted += 1
        for array in (self.slots, self.moved, self.stirred, *self._arrays.values()):
            _gather(array, rows)
        self.reserve(room)

    def reserve(self, rows: int) -> None:
        """Have room for so many rows."""
        if rows > len(self.slots):
            grown = max(64, rows, 2 * len(self.slots))
            self.slots = _enlarged(self.slots, grown, FREE)
            self.moved = _enlarged(self.moved, grown, 0)
            self.stirred = _enlarged(self.stirred, grown, 0)
            for name, array in self._arrays.items():
                self._arrays[name] = _enlarged(array, grown, 0)

    def weights(self, rows: Ints) -> Ints:
        """Return how many bytes ``take`` returns of each of some rows, if not whole ``[k]``."""
        weights: Ints = np.zeros(len(rows), np.int64)
        for column in self.columns:
            weights += column.item_size * (self._counts(column, rows) if column.rolling else 1)
        return weights

    def take(self, rows: Ints, *, whole: bool) -> tuple[Ints, dict[str, Array]]:
        """Return how often rows have moved ``[k]``, and their columns; they count from 0 again.

        A column is ``[k, *shape]``. A rolling one that is not to be whole holds only what its rows
        have moved by, one row's behind the other's: ``[sum of the counts, *item]``, where a count
        is no more than the column is deep.
        """
        moved = self.moved[rows]
        taken = {
            column.name: self._arrays[column.name][rows]
            if whole or not column.rolling
            else self._newest(column, rows)
            for column in self.columns
        }
        self.moved[rows], self.stirred[rows] = 0, False
        return moved, taken

    def put(
        self, rows: Ints, moved: Ints, columns: Sequence[Column], arrays: Mapping[str, Array]
    ) -> None:
        """Give rows what ``take`` returned, over what they had where it is not whole.

        Args:
            rows: ``[k]``, each once.
            moved: by how much they had moved ``[k]``.
            columns: as they were when taken; a rolling one may have been less deep, or deeper, and
                any other of another shape is left out.
            arrays: of these columns; those that this table lacks are left out, and a rolling one
                that it has beside them moves along, by zeros.
        """
        mine = {column.name: column for column in self.columns}
        moving = [c for c in columns if c.rolling and c.name in mine]
        beside = [c for c in self.columns if moving and c.rolling and c.name not in arrays]
        is_whole = all(arrays[c.name].ndim == self._arrays[c.name].ndim for c in moving)
        for column in beside:
            counts = np.minimum(moved, column.shape[0])
            if is_whole:
                self._arrays[column.name][rows] = 0
            else:
                zeros = np.zeros((counts.sum(), *column.item), column.dtype)
                _roll(self._arrays[column.name], rows, counts, zeros)
        for column in columns:
            if column.name not in mine:
                continue
            array, values = self._arrays[column.name], arrays[column.name]
            if not column.rolling:
                if values.shape[1:] == array.shape[1:]:
                    array[rows] = values
            elif values.ndim == array.ndim:
                depth = min(column.shape[0], array.shape[1])
                array[rows] = 0
                array[rows, array.shape[1] - depth :] = values[:, column.shape[0] - depth :]
            else:
                _roll(array, rows, np.minimum(moved, column.shape[0]), values)

    def _counts(self, column: Column, rows: Ints) -> Ints:
        return np.minimum(self.moved[rows], column.shape[0])

    def _newest(self, column: Column, rows: Ints) -> Array:
        counts = self._counts(column, rows)
        ends = np.cumsum(counts)
        places = np.arange(counts.sum()) - np.repeat(ends, counts) + column.shape[0]
        newest: Array = self._arrays[column.name][np.repeat(rows, counts), places]
        return newest


def _roll(array: Array, rows: Ints, counts: Ints, values: Array) -> None:
    """Move rows of ``array`` ``[capacity, depth, *item]`` on by values, ``counts`` of each row."""
    depth, ends = array.shape[1], np.cumsum(counts)
    for count in np.unique(counts[counts > 0]).tolist():
        alike = counts == count
        some, fresh = rows[alike], min(count, depth)
        if fresh < depth:
            array[some, : depth - fresh] = array[some, fresh:]
        array[some, depth - fresh :] = values[ends[alike][:, None] + np.arange(-fresh, 0)]


def _gather(array: Array, rows: Ints) -> None:
    """Make an array one of some of its rows, ascending."""
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[first : first + ROWS_AT_ONCE]
        array[first : first + len(some)] = array[some]  # none of them lies before its new place
    # A copy would be there beside the whole one; this gives the rest back where it is.
    array.resize((len(rows), *array.shape[1:]), refcheck=False)


def _enlarged(array: Array, rows: int, filling: int) -> Array:
    # Zeros are not in memory before they are written over; a table may have much room to spare.
    larger = np.zeros((rows, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    if filling:
        larger[len(array) :] = filling
    return larger
