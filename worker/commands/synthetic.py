"""Made-up sensors, read in turns, and their readings as XADD commands for the wire; pure.

A value is a wave and noise, rounded to hundredths from 0 to 100: so each text that a value can be
is written once, and from then on picked by its number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import orjson

from tidecast.worker.errors import SettingsError
from tidecast.worker.pipeline.epoch import LATEST_TIME
from tidecast.worker.store.dead_letters import BODIES

WAVE = 100
"""Readings of a sensor from one crest to the next."""
MIDDLE, SWING, NOISE = 50.0, 30.0, 1.0
HUNDREDTHS = 10_000
MOST_CELLS = 10_000
"""Values in a pipeline, about, unless one entry has more."""
PIPELINES_PER_SECOND = 250
"""At a given rate: more would cost time, fewer come in bursts that no sensors make."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings in the order in which they were taken.

    ``sensors`` and ``times`` (milliseconds since 1970) are ``[readings]``, ``hundredths``
    ``[features, readings]``.
    """

    sensors: Integers
    times: Integers
    hundredths: Integers


class Sensors:
    """So many sensors, read one after the other and then over again.

    The values are the same however the readings are cut into batches.

    Args:
        count: how many sensors.
        features: how many values each reading has.
        step_ms: between two readings of a sensor, the first of which is at the clock's time; None:
            readings have the times at which they are taken.
        random: gives each wave its phase, and the noise.
    """

    def __init__(
        self, count: int, features: int, *, step_ms: int | None, random: np.random.Generator
    ) -> None:
        self._count = count
        self._step_ms = step_ms
        self._random = random
        self._phases = random.random((count, features))
        self._taken = 0
        self._last: int | None = None

    def read(self, count: int, now: int) -> Batch:
        """Take the next readings, those since the last call, at ``now`` (milliseconds since 1970).

        Raises:
            SettingsError: with steps from one reading to the next, the year 10000 has come.
        """
        turns, sensors = np.divmod(np.arange(self._taken, self._taken + count), self._count)
        times = self._times(turns, now)
        angles = 2 * np.pi * (turns[:, None] / WAVE + self._phases[sensors])
        noise = self._random.standard_normal(angles.shape)
        values = MIDDLE + SWING * np.sin(angles) + NOISE * noise
        hundredths = np.rint(100 * values).clip(0, HUNDREDTHS).astype(np.int64)
        self._taken += count
        return Batch(sensors, times, np.ascontiguousarray(hundredths.T))

    def _times(self, turns: Integers, now: int) -> Integers:
        last = now if self._last is None else self._last
        if self._step_ms is None:
            # A clock that is set back must not make readings late.
            self._last = max(now, last)
            shares = np.arange(1, len(turns) + 1)
            return last + shares * (self._last - last) // len(turns)
        self._last = last
        if last + int(turns[-1]) * self._step_ms > LATEST_TIME:
            raise SettingsError(
                f"--step: {turns[-1]} steps of {self._step_ms} ms from now lead beyond the year "
                "9999, and no worker takes such times; make the step shorter"
            )
        times: Integers = last + turns * self._step_ms
        return times


class Packing(Protocol):
    """Makes commands of readings, ``per_entry`` of them in each entry."""

    @property
    def per_entry(self) -> int:
        """How many readings an entry holds."""

    def commands(self, batch: Batch) -> bytes:
        """Return the commands that add these readings."""


class FlatEntries:
    """An entry per reading: its time, its series and its values, a field each.

    Args:
        stream: the stream to write.
        series: the name of each sensor's series.
        features: the field of each value.
        longest: about how many entries the stream keeps, None for all.
        series_field: the field that names the series.
        time_field: the field that carries the time.
    """

    per_entry = 1

    def __init__(
        self,
        stream: bytes,
        series: Sequence[str],
        features: Sequence[str],
        longest: int | None,
        series_field: str,
        time_field: str,
    ) -> None:
        self._head = _head(stream, longest, fields=2 + len(features))
        self._time_field = time_field.encode()
        named, first, *others = map(str.encode, (series_field, *features))
        self._series = _column([_bulk(named, name.encode(), first) for name in series])
        self._others = list(map(_bulk, others))
        numbers = (divmod(hundredths, 100) for hundredths in range(HUNDREDTHS + 1))
        self._numbers = _column([_bulk(b"%d.%02d" % parts) for parts in numbers])

    def commands(self, batch: Batch) -> bytes:
        """Return the commands that add these readings."""
        pieces = np.empty((len(batch.times), 2 + len(batch.hundredths) + len(self._others)), object)
        # The time comes first: what precedes it is always the same, and many readings share it.
        firsts = np.flatnonzero(np.diff(batch.times, prepend=-1))
        times = batch.times[firsts].tolist()
        heads = [self._head + _bulk(self._time_field, b"%d" % time) for time in times]
        pieces[:, 0] = np.repeat(_column(heads), np.diff(firsts, append=len(batch.times)))
        pieces[:, 1] = self._series[batch.sensors]
        for place, name in enumerate(self._others):
            pieces[:, 3 + 2 * place] = name
        pieces[:, 2::2] = self._numbers[batch.hundredths.T]
        return b"".join(pieces.ravel().tolist())


class ColumnEntries:
    """Many readings per entry, as JSON columns in one field.

    Args:
        stream: the stream to write.
        series: the name of each sensor's series.
        features: the column of each value.
        longest: about how many entries the stream keeps, None for all.
        series_field: the column that names the series.
        time_field: the column of times.
        per_entry: how many readings an entry holds.
    """

    def __init__(
        self,
        stream: bytes,
        series: Sequence[str],
        features: Sequence[str],
        longest: int | None,
        series_field: str,
        time_field: str,
        *,
        per_entry: int,
    ) -> None:
        self._head = _head(stream, longest, fields=1)
        self._series_field = series_field
        self._time_field = time_field
        taken = (series_field, time_field)
        self._body = next(name for name in BODIES if name not in taken).encode()
        self._series = _column(series)
        self._features = tuple(features)
        self.per_entry = per_entry

    def commands(self, batch: Batch) -> bytes:
        """Return the commands that add these readings."""
        firsts = range(0, len(batch.times), self.per_entry)
        return b"".join(self._command(batch, first) for first in firsts)

    def _command(self, batch: Batch, first: int) -> bytes:
        chosen = slice(first, first + self.per_entry)
        numbers = batch.hundredths[:, chosen] / 100
        document = {
            self._series_field: self._series[batch.sensors[chosen]].tolist(),
            self._time_field: batch.times[chosen],
            **dict(zip(self._features, numbers, strict=True)),
        }
        return self._head + _bulk(
            self._body, orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        )


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands ready to be sent: each adds one entry, all together so many readings."""

    commands: bytes
    entries: int
    readings: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticReadings:
    """Sensors and how their readings are packed."""

    sensors: Sensors
    packing: Packing
    features: int

    def entries_at(self, rate: float) -> int:
        """Return how many entries to send at a time for so many readings a second; 0: no limit."""
        most = MOST_CELLS // (self.features * self.packing.per_entry)
        due = rate / PIPELINES_PER_SECOND / self.packing.per_entry if rate else most
        return max(1, int(min(most, due)))

    def take(self, entries: int, now: int) -> Pipeline:
        """Read sensors at ``now`` (milliseconds since 1970) for so many entries.

        Raises:
            SettingsError: the times have left the years that a worker takes.
        """
        readings = entries * self.packing.per_entry
        batch = self.sensors.read(readings, now)
        return Pipeline(self.packing.commands(batch), entries, readings)


def synthetic_readings(
    stream: bytes,
    *,
    series: int,
    features: Sequence[str],
    per_entry: int,
    step_ms: int | None,
    longest: int | None,
    random: np.random.Generator,
    series_field: str = "series",
    time_field: str = "ts",
) -> SyntheticReadings:
    """Return readings of series ``synthetic-0``, ``synthetic-1``... for a stream.

    Args:
        stream: the stream to write.
        series: how many.
        features: the names of each reading's values.
        per_entry: readings in an entry; 1 makes flat entries, more make columns.
        step_ms: between two readings of a series; None: the clock's times.
        longest: about how many entries the stream keeps, None for all.
        random: what the values hang on.
        series_field: the field that names a reading's series, as the workers are told.
        time_field: the field that carries its time.
    """
    names = [f"synthetic-{number}" for number in range(series)]
    told = (stream, names, features, longest, series_field, time_field)
    packing: Packing = (
        FlatEntries(*told) if per_entry == 1 else ColumnEntries(*told, per_entry=per_entry)
    )
    sensors = Sensors(series, len(features), step_ms=step_ms, random=random)
    return SyntheticReadings(sensors=sensors, packing=packing, features=len(features))


def _column(values: Sequence[bytes] | Sequence[str]) -> npt.NDArray[np.object_]:
    return np.array(values, object)


def _head(stream: bytes, longest: int | None, *, fields: int) -> bytes:
    """Return what a command to add an entry of so many fields opens with."""
    limit = () if longest is None else (b"MAXLEN", b"~", b"%d" % longest)
    words = (b"XADD", stream, *limit, b"*")
    return b"*%d\r\n" % (len(words) + 2 * fields) + _bulk(*words)


def _bulk(*words: bytes) -> bytes:
    """Return words as the wire has them."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
