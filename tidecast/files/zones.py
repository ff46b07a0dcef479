"""Local times and daylight saving: read in a zone, or told of where none was named."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from tidecast.files.errors import FileError

Ints = npt.NDArray[np.int64]
HOUR = 3_600_000
SHOWN = "%Y-%m-%d %H:%M"
SUNDAY, NIGHT = 6, 4
BACK = (10, 25), (11, 1), (4, 1)
FORWARD = (3, 25), (3, 8), (10, 1), (9, 24)
"""The months and first days of the weeks in which clocks go back, and forward: in Europe, in North
America, in Australia and New Zealand."""


def in_utc(local: pl.Series, names: pl.Series, zone: str) -> pl.Series:
    """Return local times as times in UTC; null where a time is null or never was.

    An hour that comes twice is read in order, each series by itself: where its times go back, or
    repeat, the second one begins.

    Args:
        local: datetimes without a zone, in the order of the file ``[rows]``.
        names: of the series of each.
        zone: such as ``Europe/Berlin``.

    Raises:
        FileError: there is no such zone.
    """
    try:
        first, second = (
            local.dt.replace_time_zone(zone, ambiguous=which, non_existent="null")
            for which in ("earliest", "latest")
        )
    except pl.exceptions.PolarsError as error:
        raise FileError(
            f"--time-zone {zone!r}: no such zone; Europe/Berlin is one, or America/New_York"
        ) from error
    twice = (first != second).fill_null(value=False)
    later = np.zeros(len(local), np.bool_)
    if twice.any():
        frame = pl.DataFrame({"at": local.cast(pl.Int64), "name": names, "twice": twice})
        rows = frame.with_row_index("row").filter("twice")
        for part in rows.partition_by("name", maintain_order=True):
            times, places = part["at"].to_numpy(), part["row"].to_numpy()
            whole = frame.filter(pl.col("name") == part["name"][0])["at"].drop_nulls()
            step = 1 if whole[0] <= whole[-1] else -1  # newest first
            later[places[::step]] = _second(times[::step])
    moments = pl.select(pl.when(pl.lit(pl.Series(later))).then(second).otherwise(first))
    return moments.to_series().dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def _second(times: Ints) -> npt.NDArray[np.bool_]:
    """Tell which times of hours that come twice are of the second, in their order ``[k]``."""
    found, later = [], False
    for before, time in zip([times[0] - 1, *times[:-1].tolist()], times.tolist(), strict=True):
        if time > before + 2 * HOUR:
            later = False  # of another year
        found.append(later := later or time <= before)
    return np.array(found)


def told(times: Ints) -> str:
    """Say of a series' times that its clock seems to have gone back or forward; empty if not.

    That is a step back by an hour, or a gap that is an hour longer than the step, in the night of
    a Sunday on which clocks change somewhere; the step is an hour at most.

    Args:
        times: milliseconds since 1970 as the file has them, in its order ``[rows]``.
    """
    if len(times) > 1 and times[0] > times[-1]:
        times = times[::-1]
    gaps = np.diff(times)
    step = int(np.median(gaps)) if len(gaps) else 0
    if not 0 < step <= HOUR:
        return ""
    for change, days, word in (
        (step - HOUR, BACK, "comes twice, as where clocks go back"),
        (step + HOUR, FORWARD, "never comes, as where clocks go forward"),
    ):
        for place in np.flatnonzero(gaps == change).tolist():
            # The first reading behind the change, or the last one before it and what was due then.
            due = np.datetime64(
                int(times[place + 1] if change < step else times[place] + step), "ms"
            )
            moment = due.item().replace(minute=0)
            if moment.weekday() == SUNDAY and moment.hour < NIGHT and _is_one_of(moment, days):
                return f"the hour of {moment.strftime(SHOWN)} {word}"
    return ""


def _is_one_of(moment: datetime, days: tuple[tuple[int, int], ...]) -> bool:
    return any(moment.month == month and 0 <= moment.day - first < 7 for month, first in days)
