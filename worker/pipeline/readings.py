"""Readings as columns: what the decoder makes and the pipeline takes; pure."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

Ints = npt.NDArray[np.int64]
LONGEST_PAYLOAD = 1024


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings in stream order, as columns of equal length.

    ``places`` says which of the decoded entries each came from, ``ids`` are those entries' ids.
    ``times`` are milliseconds since 1970. ``columns[feature]`` are 64-bit floats: NaN where the
    feature is absent, or where ``faults[(reading, feature)]`` says what stood there instead of a
    number. ``said`` tells what a reading was decoded from: an entry's fields, a JSON object, or a
    document of columns with the place in them.
    """

    places: Ints
    ids: list[bytes]
    series: list[bytes]
    times: Ints
    columns: dict[str, npt.NDArray[np.float64]]
    said: Callable[[int], Any]
    faults: dict[tuple[int, str], str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many readings there are."""
        return len(self.ids)

    def fault(self, reading: int, feature: str) -> str:
        """Say in words what is wrong with one feature of one reading."""
        value = self.columns[feature][reading] if feature in self.columns else np.nan
        wrong = self.faults.get((reading, feature))
        if wrong is None and np.isnan(value):
            wrong = "is missing"
        elif wrong is None:
            limit = "not a finite number" if np.isinf(value) else "beyond a 32-bit float"
            wrong = f"is {value:g}, {limit}"
        return f"feature {feature!r} {wrong}"

    def payload(self, reading: int) -> bytes:
        """Return what the reading said, as JSON, truncated to ``LONGEST_PAYLOAD`` bytes."""
        said = self.said(reading)
        if isinstance(said, list):
            return payload_of(said)
        if isinstance(said, tuple):
            document, place = said
            said = {k: v[place] if isinstance(v, list) else v for k, v in document.items()}
        try:
            return _truncated(orjson.dumps(said, option=orjson.OPT_NON_STR_KEYS))
        except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
            return b'"nested too deeply to repeat"'

    def part(self, first: int, beyond: int) -> "Readings":
        """Return the readings from ``first`` to before ``beyond``."""
        chosen = slice(first, beyond)
        faults = {
            (reading - first, name): fault
            for (reading, name), fault in self.faults.items()
            if first <= reading < beyond
        }
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return Readings(
            self.places[chosen],
            self.ids[chosen],
            self.series[chosen],
            self.times[chosen],
            columns,
            lambda reading: self.said(first + reading),
            faults,
        )


def payload_of(fields: Sequence[bytes]) -> bytes:
    """Return an entry's fields as a JSON object, truncated to ``LONGEST_PAYLOAD`` bytes."""
    texts = [text.decode("utf-8", "replace") for text in fields]
    return _truncated(orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=False))))


def _truncated(payload: bytes) -> bytes:
    return payload if len(payload) <= LONGEST_PAYLOAD else payload[: LONGEST_PAYLOAD - 3] + b"..."


def joined(parts: list[Readings]) -> Readings:
    """Return the readings of all parts in the order of their entries."""
    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    firsts = list(accumulate(map(len, parts), initial=0))
    names = dict.fromkeys(name for part in parts for name in part.columns)
    together = Readings(
        np.concatenate([part.places for part in parts]),
        list(chain.from_iterable(part.ids for part in parts)),
        list(chain.from_iterable(part.series for part in parts)),
        np.concatenate([part.times for part in parts]),
        {
            name: np.concatenate([p.columns.get(name, np.full(len(p), np.nan)) for p in parts])
            for name in names
        },
        lambda reading: _said_in(parts, firsts, reading),
        {
            (first + reading, name): fault
            for first, part in zip(firsts, parts, strict=False)
            for (reading, name), fault in part.faults.items()
        },
    )
    if (np.diff(together.places) >= 0).all():
        return together
    return _reordered(together, np.argsort(together.places, kind="stable"))


def _said_in(parts: list[Readings], firsts: list[int], reading: int) -> Any:
    part = bisect_right(firsts, reading) - 1
    return parts[part].said(reading - firsts[part])


def _reordered(readings: Readings, order: Ints) -> Readings:
    chosen = order.tolist()
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Readings(
        readings.places[order],
        [readings.ids[i] for i in chosen],
        [readings.series[i] for i in chosen],
        readings.times[order],
        {name: column[order] for name, column in readings.columns.items()},
        lambda reading: readings.said(chosen[reading]),
        {(int(rank[i]), name): fault for (i, name), fault in readings.faults.items()},
    )
