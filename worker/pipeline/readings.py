"""Readings as columns: what the decoder makes and the pipeline takes; pure."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    document of columns with the place in them. ``silent`` ones are not to be forecast; None: none.
    ``remedy`` makes words of what a reading without any feature was decoded from. ``fields`` are
    those of features that stand for one of a field's words.
    ``orders`` are no readings: there the state of their series is to be dropped; None: none.
    """

    places: Ints
    ids: list[bytes]
    series: list[bytes]
    times: Ints
    columns: dict[str, npt.NDArray[np.float64]]
    said: Callable[[int], Any]
    faults: dict[tuple[int, str], str] = field(default_factory=dict)
    silent: npt.NDArray[np.bool_] | None = None
    remedy: Callable[[Any], str] = lambda _: ""
    fields: dict[str, str] = field(default_factory=dict)
    orders: npt.NDArray[np.bool_] | None = None

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
        return f"feature {self.fields.get(feature, feature)!r} {wrong}"

    def hint(self, reading: int) -> str:
        """Say what a reading has that has none of the features, "" of any other."""
        if any(column[reading] == column[reading] for column in self.columns.values()):
            return ""
        if any((reading, feature) in self.faults for feature in self.columns):
            return ""
        return self.remedy(self.said(reading))

    def payload(self, reading: int) -> bytes:
        """Return what the reading said, as JSON, truncated to ``LONGEST_PAYLOAD`` bytes."""
        said = self.said(reading)
        if isinstance(said, list):
            return payload_of(said)
        if isinstance(said, tuple):
            document, place = said
            said = {k: v[place] if isinstance(v, list) else v for k, v in document.items()}
        try:
            return _truncated(orjson.dumps(said, _text, orjson.OPT_NON_STR_KEYS))
        except orjson.JSONEncodeError:  # it reads deeper nesting than it writes
            return b'"nested too deeply to repeat"'

    def part(self, first: int, beyond: int) -> "Readings":
        """Return the readings from ``first`` to before ``beyond``."""
        return self.take(np.arange(first, beyond))

    def take(self, chosen: Ints) -> "Readings":
        """Return the readings at some places, in that order."""
        places = chosen.tolist()
        faults = self.faults
        if faults:
            new = dict(zip(places, range(len(places)), strict=True))
            faults = {(new[i], name): fault for (i, name), fault in faults.items() if i in new}
        said = self.said
        return Readings(
            self.places[chosen],
            [self.ids[i] for i in places],
            [self.series[i] for i in places],
            self.times[chosen],
            {name: column[chosen] for name, column in self.columns.items()},
            lambda reading: said(places[reading]),
            faults,
            None if self.silent is None else self.silent[chosen],
            self.remedy,
            self.fields,
            None if self.orders is None else self.orders[chosen],
        )


def with_words(readings: Readings, words: Mapping[str, Sequence[str]]) -> Readings:
    """Return readings with a column of 1 and 0 for each word in place of their words' numbers."""
    if not words:
        return readings
    columns, faults = dict(readings.columns), dict(readings.faults)
    fields = {f"{name}={word}": name for name, some in words.items() for word in some}
    for name, some in words.items():
        if name not in columns:
            continue
        codes = columns.pop(name)
        wrong = {reading: fault for (reading, of), fault in faults.items() if of == name}
        for place, word in enumerate(some):
            feature = f"{name}={word}"
            columns[feature] = np.where(np.isnan(codes), np.nan, (codes == place) * 1.0)
            faults.update({(reading, feature): fault for reading, fault in wrong.items()})
        for reading in wrong:
            del faults[reading, name]
    return replace(readings, columns=columns, faults=faults, fields=fields)


def payload_of(fields: Sequence[bytes]) -> bytes:
    """Return an entry's fields as a JSON object, truncated to ``LONGEST_PAYLOAD`` bytes."""
    if sum(map(len, fields)) > LONGEST_PAYLOAD:
        return _truncated(orjson.dumps(_beginning(fields)))
    texts = [str(text, "utf-8", "replace") for text in fields]
    return _truncated(orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=False))))


def _text(value: object) -> str:
    """Return what JSON does not know, such as bytes in MessagePack, as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _beginning(fields: Sequence[bytes]) -> dict[str, str]:
    """Return as many of an entry's fields as are sure to be cut as JSON."""
    shown, size = dict[str, str](), 0
    for name, value in dict(zip(fields[::2], fields[1::2], strict=False)).items():
        # As JSON, a text is no shorter than its bytes, so what lies behind these is cut anyway.
        first, second = name[: LONGEST_PAYLOAD + 4], value[: LONGEST_PAYLOAD + 4]
        shown[first.decode("utf-8", "replace")] = second.decode("utf-8", "replace")
        size += 6 + len(first) + len(second)
        if size > LONGEST_PAYLOAD + 4:
            break
    return shown


def _truncated(payload: bytes) -> bytes:
    return payload if len(payload) <= LONGEST_PAYLOAD else payload[: LONGEST_PAYLOAD - 3] + b"..."


def joined(parts: list[Readings]) -> Readings:
    """Return the readings of all parts in the order of their entries."""
    parts = [part for part in parts if len(part)] or parts[:1]
    together = parts[0] if len(parts) == 1 else _together(parts)
    # Documents of several layouts are one part, the ones of a layout behind those of another.
    if (np.diff(together.places) >= 0).all():
        return together
    return together.take(np.argsort(together.places, kind="stable"))


def _together(parts: list[Readings]) -> Readings:
    firsts = list(accumulate(map(len, parts), initial=0))
    names = dict.fromkeys(name for part in parts for name in part.columns)
    return Readings(
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
        remedy=parts[0].remedy,
    )


def _said_in(parts: list[Readings], firsts: list[int], reading: int) -> Any:
    part = bisect_right(firsts, reading) - 1
    return parts[part].said(reading - firsts[part])
