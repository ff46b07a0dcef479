"""Readings as columns: what the decoder makes and the pipeline takes; pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

LONGEST_PAYLOAD = 1024


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings in stream order, as columns of equal length.

    ``times`` are milliseconds since 1970. ``columns[feature]`` are 64-bit floats: NaN where the
    feature is absent, or where ``faults[(reading, feature)]`` says what stood there instead of a
    number. ``said`` is what each reading was decoded from: an entry's fields, a JSON object, or a
    document of columns with the place in them.
    """

    ids: list[bytes]
    series: list[bytes]
    times: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[np.float64]]
    said: Sequence[Any]
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
        said = self.said[reading]
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
        times, said = self.times[chosen], self.said[chosen]
        return Readings(self.ids[chosen], self.series[chosen], times, columns, said, faults)


def payload_of(fields: Sequence[bytes]) -> bytes:
    """Return an entry's fields as a JSON object, truncated to ``LONGEST_PAYLOAD`` bytes."""
    texts = [text.decode("utf-8", "replace") for text in fields]
    return _truncated(orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=False))))


def _truncated(payload: bytes) -> bytes:
    return payload if len(payload) <= LONGEST_PAYLOAD else payload[: LONGEST_PAYLOAD - 3] + b"..."


@dataclass(frozen=True, slots=True)
class Part:
    """Readings with the place of the entry that each came from, in ascending order."""

    places: list[int]
    readings: Readings


def joined(parts: list[Part]) -> Readings:
    """Return the readings of all parts in the order of their entries."""
    parts = [part for part in parts if part.places] or parts[:1]
    if len(parts) == 1:
        return parts[0].readings
    all_readings = [part.readings for part in parts]
    places = np.array(list(chain.from_iterable(part.places for part in parts)), np.int64)
    order = np.argsort(places, kind="stable")
    chosen = order.tolist()
    ids, series, said = (
        [column[i] for i in chosen]
        for column in (
            list(chain.from_iterable(r.ids for r in all_readings)),
            list(chain.from_iterable(r.series for r in all_readings)),
            list(chain.from_iterable(r.said for r in all_readings)),
        )
    )
    names = dict.fromkeys(name for r in all_readings for name in r.columns)
    columns = {
        name: np.concatenate([r.columns.get(name, np.full(len(r), np.nan)) for r in all_readings])
        for name in names
    }
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    firsts = np.cumsum([0, *map(len, all_readings)]).tolist()
    faults = {
        (int(rank[first + reading]), name): fault
        for first, r in zip(firsts, all_readings, strict=False)
        for (reading, name), fault in r.faults.items()
    }
    times = np.concatenate([r.times for r in all_readings])[order]
    columns = {name: column[order] for name, column in columns.items()}
    return Readings(ids, series, times, columns, said, faults)
