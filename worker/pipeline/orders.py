"""Entries that hold no reading and say what to do at their place: to forget a series; pure."""

from collections.abc import Sequence

import numpy as np

from tidecast.worker.pipeline.cells import UnreadableError, checked_name, odd_names
from tidecast.worker.pipeline.layouts import Group
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.wire import FORGET


def orders_in(groups: Sequence[Group]) -> tuple[Readings, dict[int, UnreadableError]]:
    """Return orders as readings that are none, each at its place and of the series it names.

    Also returns what is wrong with those whose series has no name, by their places.

    Args:
        groups: entries that have the field ``FORGET``.
    """
    named = {
        place: (group, number, name)
        for group in groups
        for number, (place, name) in enumerate(zip(group.places, group.column(FORGET), strict=True))
    }
    every = sorted(named)
    odd = {every[number] for number in odd_names([named[place][2] for place in every])}
    places = [place for place in every if place not in odd]

    def said(reading: int) -> list[bytes]:
        group, number, _ = named[places[reading]]
        return group.said(number)

    found = Readings(
        np.array(places, np.int64),
        [group.entries[number][0] for group, number, _ in map(named.__getitem__, places)],
        [named[place][2] for place in places],
        np.zeros(len(places), np.int64),
        {},
        said,
    )
    return found, {place: _fault(named[place][2]) for place in odd}


def _fault(name: bytes) -> UnreadableError:
    try:
        checked_name(name)
    except UnreadableError as error:
        return error
    raise AssertionError("nothing is wrong with a name that was refused")
