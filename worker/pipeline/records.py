"""Forecasts -> the JSON that is published, a whole batch at a time; pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from tidecast.worker.contract import ModelSpec

ESCAPED = bytes(range(32)) + b'"\\'
"""What JSON writes differently within a text."""
SHARE_DIGITS = 4


class RecordWriter:
    """Writes the records of one model: the ``forecast`` field of docs/design.md.

    Args:
        spec: what the model says of itself.
        fleet: whose forecasts these are.
        instead: what made them, if not the model; it has no version.
    """

    def __init__(self, spec: ModelSpec, fleet: str, instead: str | None = None) -> None:
        self._n_steps = spec.n_steps
        step = None if spec.step_seconds is None else round(spec.step_seconds * 1000)
        version = b"" if instead else b',"version":%b' % orjson.dumps(spec.version)
        calendar = b',"calendar":%b' % orjson.dumps(spec.calendar) if spec.calendar else b""
        about = b',"step":%b%b,"model":%b%b,"fleet":%b,"entry":"' % (
            orjson.dumps(step),
            calendar,
            orjson.dumps(instead or spec.name),
            version,
            orjson.dumps(fleet),
        )
        targets = [orjson.dumps(target) for target in spec.targets]
        # All that is the same in each record is written once; a record then costs one formatting.
        self._template = b"".join(
            (
                b'{"series":"%b","at":%b',
                about.replace(b"%", b"%%"),
                b'%b","forecast":{',
                b",".join(target.replace(b"%", b"%%") + b":[%b]" for target in targets),
                b"}}",
            )
        )

    def write(
        self,
        series: Sequence[bytes],
        times: npt.NDArray[np.int64],
        ids: Sequence[bytes],
        forecasts: npt.NDArray[np.floating[Any]],
        filled: npt.NDArray[np.int64] | None = None,
    ) -> list[bytes]:
        """Return the record of each forecast.

        Args:
            series: the series' names, UTF-8, ``[b]``.
            times: of the newest reading in each window, milliseconds since 1970, ``[b]``.
            ids: the entries that brought these readings, ``[b]``.
            forecasts: finite numbers, ``[b, horizon, T]``.
            filled: how many slots of each window no reading filled ``[b]``; None: of none any.
        """
        if not len(forecasts):
            return []
        stamps = _json(times)[1:-1].split(b",")
        leads = [
            _json(np.ascontiguousarray(forecasts[:, :, target]))[2:-2].split(b"],[")
            for target in range(forecasts.shape[2])
        ]
        parts = zip(_escaped(series), stamps, ids, *leads, strict=True)
        records = list(map(self._template.__mod__, parts))
        if filled is None:
            return records
        for place in np.flatnonzero(filled).tolist():
            share = orjson.dumps(round(int(filled[place]) / self._n_steps, SHARE_DIGITS))
            records[place] = b'%b,"filled":%b}' % (records[place][:-1], share)
        return records


def _json(array: npt.NDArray[np.floating[Any]] | npt.NDArray[np.int64]) -> bytes:
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def _escaped(names: Sequence[bytes]) -> Sequence[bytes]:
    """Return names as they stand between a JSON text's quotes."""
    together = b"".join(names)
    if len(together.translate(None, ESCAPED)) == len(together):
        return names
    return [orjson.dumps(name.decode())[1:-1] for name in names]
