"""The part of the peers' job that no framework does: options, windows, model, a forecast's record.

Like the worker's, the model runs on one thread. Readings are flat and have every feature; each is
its series' next step, whatever its time.
"""

import argparse
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson

from tidecast.worker.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelSpec

Entry = tuple[str, dict[str, str]]
"""A stream's entry: its id and its fields."""
Window = deque[list[float]]


def options(description: str | None) -> argparse.Namespace:
    """Read ``redis_url``, ``model`` and ``input`` from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--input", required=True)
    return parser.parse_args()


class Job:
    """One model, one window at a time."""

    def __init__(self, model: Path) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model, settings)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._spec = spec = ModelSpec.from_json(metadata[METADATA_KEY])
        step = None if spec.step_seconds is None else round(spec.step_seconds * 1000)
        self._about: dict[str, Any] = {"step": step, "model": spec.name, "version": spec.version}
        self._about["fleet"] = "default"

    def step(self, window: Window | None, entry: Entry) -> tuple[Window, list[bytes]]:
        """Return a series' window with one reading more, and its forecast once it is full."""
        window = deque(maxlen=self._spec.n_steps) if window is None else window
        place, fields = entry
        window.append([float(fields[name]) for name in self._spec.features])
        if len(window) < self._spec.n_steps:
            return window, []
        batch = {INPUT_NAME: np.array([window], np.float32)}
        (answer,) = self._session.run([OUTPUT_NAME], batch)[0]
        forecast = dict(zip(self._spec.targets, answer.T.copy(), strict=True))
        record = {"series": fields["series"], "at": int(fields["ts"])} | self._about
        record |= {"entry": place, "forecast": forecast}
        return window, [orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)]
