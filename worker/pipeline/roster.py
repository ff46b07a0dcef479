"""Which series a partition holds, in which slot, and which one goes to make room; pure."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
UNSERVED = -1
UNSERVED_SIZE = 140
"""Bytes of a name that no model serves, about, beside its letters."""
MOST_UNSERVED = 64_000_000
"""Bytes of all of them, at most."""
BOUNDLESS = 2**62
"""Bytes, of which there are always enough."""
_FREE = np.iinfo(np.int64).max


class Roster:
    """Series names and their slots, of a bounded number.

    Bounded are their number and the bytes that all they hold takes, of a name that of its letters.

    Readings are numbered in stream order, and ``touched[slot]`` is the number of the series' newest
    one. A new series beyond ``longest`` takes the place of the one touched longest ago. That is
    decided reading by reading, however they are cut into batches, so a replay decides the same.

    Args:
        longest: how many series are held at most.
        serves: whether some model serves a series of this name.
        each: bytes that a series takes beside the letters of its name.
        room: bytes that all series may take.
    """

    def __init__(
        self,
        longest: int,
        serves: Callable[[bytes], bool],
        *,
        each: int = 1,
        room: int = BOUNDLESS,
    ) -> None:
        self._longest = longest
        self._each = each
        self._room = room
        self._letters = self._unserved_letters = 0
        self._serves = serves
        self._slots: dict[bytes, int] = {}
        self._unserved = 0
        self._free: list[int] = []
        self._stale: list[tuple[int, int]] = []
        self.names: list[bytes] = []
        self.touched: Ints = np.zeros(0, np.int64)
        self.clock = 0
        self.evicted = 0

    @property
    def all_served(self) -> bool:
        """Whether every name that is remembered has a model."""
        return not self._unserved

    def __len__(self) -> int:
        """Return how many series are held."""
        return len(self._slots) - self._unserved

    def place(self, series: Sequence[bytes]) -> tuple[Ints, list[int], dict[int, int]]:
        """Return the slot of each reading's series (``UNSERVED`` where no model serves it).

        Also returns the slots that hold a new series, and those whose series had to go, each with
        the place of the reading that it had to go for. A slot is never given to two series by one
        call, and one that had to go may still be in the first answer; ``release`` makes it free.
        """
        slots = list(map(self._slots.get, series))
        added: list[int] = []
        gone: dict[int, int] = {}
        placed: Ints
        if None in slots:
            placed = np.array([self._place(n, i, added, gone) for i, n in enumerate(series)])
        else:
            placed = np.array(slots, np.int64)
        numbers = np.arange(self.clock, self.clock + len(placed))
        if self._unserved:
            held = placed >= 0
            self.touched[placed[held]] = numbers[held]
        else:
            self.touched[placed] = numbers
        if gone:
            self.touched[list(gone)] = _FREE
        self.clock += len(placed)
        return placed, added, gone

    def release(self, slots: Iterable[int]) -> None:
        """Let slots that had to go be taken by other series."""
        self._free += slots

    def touched_since(self, number: int) -> Ints:
        """Return the slots of the series touched by the reading of this number or a later one."""
        touched = self.touched[: len(self.names)]
        return np.flatnonzero((touched >= number) & (touched != _FREE))

    def untouched_since(self, number: int) -> Ints:
        """Return the slots of the others."""
        return np.flatnonzero(self.touched[: len(self.names)] < number)

    def slot_of(self, name: bytes) -> int:
        """Return the slot of a series, ``UNSERVED`` if it holds none."""
        return self._slots.get(name, UNSERVED)

    def slots_of(self, names: Sequence[bytes]) -> Ints:
        """Return the slot of each of many series ``[k]``, ``UNSERVED`` where it holds none."""
        return np.array(list(map(self._slots.get, names, repeat(UNSERVED))), np.int64)

    def admit(self, names: Sequence[bytes], touched: Ints) -> tuple[Ints, Ints]:
        """Hold these series, touched by readings of these numbers, as well; however many there are.

        No name may come twice, and none be known as unserved. Returns their slots ``[k]``, and the
        places ``[new]`` in these of those that hold a new series.
        """
        slots = self.slots_of(names)
        new = np.flatnonzero(slots == UNSERVED)
        slots[new] = self._add([names[place] for place in new.tolist()])
        self.touched[slots[new]] = 0
        self.touched[slots] = np.maximum(self.touched[slots], touched)
        return slots, new

    def _has_room(self, name: bytes) -> bool:
        bytes_then = self._each * (len(self) + 1) + self._letters + len(name)
        return len(self) < self._longest and bytes_then <= self._room

    def compact(self) -> Ints:
        """Number the slots of all series anew, from 0, and forget those that are free.

        Returns which slot each of them had ``[k]``, ascending.
        """
        kept = np.flatnonzero(self.touched[: len(self.names)] != _FREE)
        self.names = [self.names[slot] for slot in kept.tolist()]
        self.touched = self.touched[kept]
        self._free, self._stale = [], []
        unserved = [name for name, slot in self._slots.items() if slot == UNSERVED]
        self._slots = {name: slot for slot, name in enumerate(self.names)}
        self._slots.update(dict.fromkeys(unserved, UNSERVED))
        return kept

    @property
    def most(self) -> int:
        """How many series there is room for, at most."""
        return min(self._longest, self._room // self._each)

    def drop(self, slots: Sequence[int]) -> None:
        """Forget the series in these slots; ``release`` makes them free."""
        for slot in slots:
            del self._slots[self.names[slot]]
            self._letters -= len(self.names[slot])
            self.touched[slot] = _FREE

    def _place(self, name: bytes, place: int, added: list[int], gone: dict[int, int]) -> int:
        slot = self._slots.get(name)
        if slot is None:
            if not self._serves(name):
                self._know_unserved(name)
                return UNSERVED
            while len(self) and not self._has_room(name):
                gone[self._evict()] = place
            [slot] = self._add([name])
            added.append(slot)
        if slot >= 0:
            self.touched[slot] = self.clock + place
        return slot

    def _add(self, names: Sequence[bytes]) -> list[int]:
        """Give new series slots, free ones first."""
        again = min(len(names), len(self._free))
        slots = [self._free.pop() for _ in range(again)]
        for slot, name in zip(slots, names, strict=False):
            self.names[slot] = name
        slots += range(len(self.names), len(self.names) + len(names) - again)
        self.names += names[again:]
        lacking = len(self.names) - len(self.touched)
        if lacking > 0:
            grown = np.full(max(64, lacking, len(self.touched)), _FREE)
            self.touched = np.concatenate([self.touched, grown])
        self._slots.update(zip(names, slots, strict=True))
        self._letters += sum(map(len, names))
        return slots

    def _know_unserved(self, name: bytes) -> None:
        """Remember that no model serves a name; of these, all are forgotten when they are many."""
        taken = UNSERVED_SIZE * self._unserved + self._unserved_letters
        if self._unserved >= self._longest or taken > min(MOST_UNSERVED, self._room // 8):
            self._slots = {known: slot for known, slot in self._slots.items() if slot >= 0}
            self._unserved = self._unserved_letters = 0
        self._slots[name] = UNSERVED
        self._unserved += 1
        self._unserved_letters += len(name)

    def _evict(self) -> int:
        """Forget the series touched longest ago and return its slot."""
        while True:
            if not self._stale:
                self._stale = self._stalest()
            touched, slot = self._stale.pop()
            if self.touched[slot] == touched:
                break
        self.drop([slot])
        self.evicted += 1
        return slot

    def _stalest(self) -> list[tuple[int, int]]:
        """Return when and which slots were touched longest ago, the very stalest last.

        Sorting an eighth of them at a time keeps a flood of new names from sorting all each time.
        """
        size = len(self.names)
        some = min(size, max(64, len(self) // 8))
        touched = self.touched[:size]
        slots = np.argpartition(touched, some - 1)[:some]
        slots = slots[touched[slots] != _FREE]
        slots = slots[np.argsort(touched[slots])[::-1]]
        return list(zip(touched[slots].tolist(), slots.tolist(), strict=True))
