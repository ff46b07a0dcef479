"""Entries of flat fields, of one layout at a time -> readings in columns; pure."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from tidecast.worker.pipeline.cells import (
    BadSeriesError,
    Floats,
    UnreadableError,
    checked_name,
    codes_in,
    numbers_in,
    odd_names,
    time_of_id,
    time_of_text,
    times_in,
)
from tidecast.worker.pipeline.layouts import Group, Layout
from tidecast.worker.pipeline.naming import Names, joined_names
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.suggest import remedy_of
from tidecast.worker.pipeline.wire import Entry

Columns = dict[str, Floats]
Faults = dict[tuple[int, str], str]
Named = bytes | BadSeriesError
"""A series' name, or why there is none."""


class Flat:
    """Reads flat entries.

    Args:
        stream: the series of readings that name none.
        names: what to look for.
    """

    def __init__(self, stream: str, names: Names) -> None:
        naming = names.naming
        self.stream = stream.encode()
        self._remedy = partial(remedy_of, names)
        self._unit = naming.unit
        self._series = [name.encode() for name in naming.series]
        self._times = [name.encode() for name in naming.time]
        self._sources = {
            feature: [source.encode() for source in sources]
            for feature, sources in names.sources.items()
        }
        self._codes = names.codes
        self._long = (naming.feature.encode(), naming.value.encode()) if naming.feature else None
        self._wanted = {name.encode(): feature for name, feature in names.wanted.items()}

    def is_around(self, layout: Layout) -> bool:
        """Tell whether such entries say something of all readings of a document in them."""
        return any(key in layout for key in (*self._series, *self._times))

    def around(self, fields: Sequence[bytes], layout: Layout) -> tuple[Named, int | None]:
        """Return what an entry says of all readings of its document: whose, and when.

        Raises:
            UnreadableError: the time is none.
        """
        named: Named = self.stream
        try:
            named = self._name(fields, layout)
        except BadSeriesError as error:
            named = error  # which counts where a reading names no series of its own
        timed = self._time(layout)
        stated = None if timed is None else time_of_text(fields[layout[timed]], self._unit)
        return named, stated

    def read(self, group: Group) -> tuple[Readings, dict[int, UnreadableError], dict[bytes, None]]:
        """Return the readings of entries, and what is wrong with those that hold none.

        Also returns features in the long form that nobody wants: their readings are left out.
        """
        layout, ids = group.layout, [entry[0] for entry in group.entries]
        series, odd = self._names(group)
        timed = self._time(layout)
        if timed is not None:
            times, untimed = times_in(group.column(timed), self._unit)
        else:
            times, untimed = times_in([entry_id.partition(b"-")[0] for entry_id in ids], "ms")
        odd = [*odd, *untimed]
        ignored = dict[bytes, None]()
        if self._long is not None and all(key in layout for key in self._long):
            columns, faults, unwanted, ignored = self._read_long(group, self._long)
        else:
            columns, faults = self._values(group)
            unwanted = []
        some = group.places
        places = np.arange(len(some)) if isinstance(some, range) else np.array(some, np.int64)
        readings = Readings(
            places, ids, series, times, columns, group.said, faults, None, self._remedy
        )
        if not odd and not unwanted:
            return readings, {}, ignored
        out = set(unwanted)
        refused = {
            number: self._fault(group.entries[number], layout)
            for number in odd
            if number not in out
        }
        return readings.take(np.delete(np.arange(len(ids)), [*odd, *unwanted])), refused, ignored

    def _time(self, layout: Layout) -> bytes | None:
        return next((key for key in self._times if key in layout), None)

    def _names(self, group: Group) -> tuple[list[bytes], list[int]]:
        """Return the series of entries, and the places of those that have no proper one."""
        there = [key for key in self._series if key in group.layout]
        if not there:
            series = [self.stream] * len(group.entries)
        else:
            series = joined_names([group.column(key) for key in there])
        if 0 < len(there) < len(self._series):
            return series, list(range(len(series)))
        return series, odd_names(series)

    def _values(self, group: Group) -> tuple[Columns, Faults]:
        columns, faults = Columns(), Faults()
        for feature, sources in self._sources.items():
            key = next((source for source in sources if source in group.layout), None)
            if key is not None:
                columns[feature], wrong = self._cells(feature, group.column(key))
                faults.update({(reading, feature): fault for reading, fault in wrong.items()})
        return columns, faults

    def _cells(self, feature: str, cells: Sequence[bytes]) -> tuple[Floats, dict[int, str]]:
        """Return the numbers in cells, or those of their words."""
        codes = self._codes.get(feature)
        return numbers_in(cells) if codes is None else codes_in(cells, codes)

    def _read_long(
        self, group: Group, long: tuple[bytes, bytes]
    ) -> tuple[Columns, Faults, list[int], dict[bytes, None]]:
        """Return the values of entries that have one each, beside the feature's name."""
        numbers, wrong = numbers_in(group.column(long[1]))
        columns, faults, unwanted = Columns(), Faults(), list[int]()
        ignored = dict[bytes, None]()
        places: dict[str, list[int]] = {}
        for place, name in enumerate(group.column(long[0])):
            feature = self._wanted.get(name)
            if feature is None:
                unwanted.append(place)
                ignored[name] = None
            else:
                places.setdefault(feature, []).append(place)
        for feature, mine in places.items():
            columns[feature] = np.full(len(numbers), np.nan)
            columns[feature][mine] = numbers[mine]
            faults.update({(place, feature): wrong[place] for place in mine if place in wrong})
        return columns, faults, unwanted, ignored

    def _fault(self, entry: Entry, layout: Layout) -> UnreadableError:
        """Return what is wrong with an entry's time or series."""
        entry_id, fields = entry
        try:
            timed = self._time(layout)
            if timed is not None:
                time_of_text(fields[layout[timed]], self._unit)
            else:
                time_of_id(entry_id)
            checked_name(self._name(fields, layout))
        except UnreadableError as error:
            return error
        raise AssertionError("nothing is wrong with an entry that was refused")

    def _name(self, fields: Sequence[bytes], layout: Layout) -> bytes:
        there = [key for key in self._series if key in layout]
        absent = [key for key in self._series if key not in layout]
        if there and absent:
            raise lacking_part(absent[0].decode())
        if not there:
            return self.stream
        return joined_names([[fields[layout[key]]] for key in there])[0]


def lacking_part(name: str) -> BadSeriesError:
    """Return the error that a part of a series' name is not there."""
    return BadSeriesError(f"no field {name!r}, which --series-field names beside others")
