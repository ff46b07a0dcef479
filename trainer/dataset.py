"""Supervised windows: places in one array, gathered a batch at a time and never all at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.errors import DataError
from trainer.series import History, Part, segments, split_rows

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Windows of all series, by part.

    Attributes:
        inputs: the features of all rows, ``[rows, F]``.
        outputs: the targets of all rows, ``[rows, T]``.
        starts: the first row of each window, by part.
        owner: the series number of each row, ``[rows]``.
        segment_start: the first row of the unbroken run that each row belongs to, ``[rows]``.
    """

    inputs: Floats
    outputs: Floats
    starts: dict[Part, Ints]
    owner: Ints
    segment_start: Ints
    n_steps: int
    horizon: int

    def gather(self, starts: Ints) -> tuple[Floats, Floats]:
        """Return windows ``[k, n_steps, F]`` and what followed them ``[k, horizon, T]``."""
        inputs = self.inputs[starts[:, None] + np.arange(self.n_steps)]
        after = starts[:, None] + self.n_steps + np.arange(self.horizon)
        return inputs, self.outputs[after]

    def touched(self, part: Part) -> npt.NDArray[np.bool_]:
        """Tell which rows the windows and targets of a part use, ``[rows]``."""
        marks = np.zeros(len(self.outputs) + 1, np.int64)
        np.add.at(marks, self.starts[part], 1)
        np.add.at(marks, self.starts[part] + self.n_steps + self.horizon, -1)
        return np.cumsum(marks[:-1]) > 0

    def by_time(self, part: Part, errors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the windows' errors in order of time, ``[k]``; of those at one time the mean.

        Time is the row in the window's series, so that series which end together go together.
        """
        starts = self.starts[part]
        row = starts - np.searchsorted(self.owner, self.owner[starts])
        _, place = np.unique(row, return_inverse=True)
        return np.bincount(place, errors) / np.bincount(place)

    def batches(self, part: Part, size: int = 4096) -> Iterator[tuple[Ints, Floats, Floats]]:
        """Yield starts, windows and targets of a part in order of rows."""
        starts = self.starts[part]
        for first in range(0, len(starts), size):
            chunk = starts[first : first + size]
            yield chunk, *self.gather(chunk)

    def pipeline(self, part: Part, batch_size: int, seed: int | None) -> Any:
        """Return a ``tf.data.Dataset`` of (window, target) batches.

        With a seed it is shuffled and has no end.
        """
        import tensorflow as tf

        inputs, outputs = tf.constant(self.inputs), tf.constant(self.outputs)
        steps = tf.range(self.n_steps, dtype=tf.int64)
        leads = self.n_steps + tf.range(self.horizon, dtype=tf.int64)

        def gather(starts: Any) -> tuple[Any, Any]:
            window = tf.gather(inputs, starts[:, None] + steps)
            target = tf.gather(outputs, starts[:, None] + leads)
            window.set_shape([None, self.n_steps, self.inputs.shape[1]])
            target.set_shape([None, self.horizon, self.outputs.shape[1]])
            return window, target

        starts = self.starts[part]
        places = tf.data.Dataset.from_tensor_slices(starts)
        if seed is not None:
            places = places.shuffle(len(starts), seed=seed, reshuffle_each_iteration=True).repeat()
        return places.batch(batch_size).map(gather).prefetch(2)


def make_windows(
    history: History,
    features: tuple[str, ...],
    targets: tuple[str, ...],
    *,
    n_steps: int,
    horizon: int,
    train_rows: int | None,
    validation_rows: int | None,
) -> Windows:
    """Find every stride-1 window of a history.

    A window belongs to the part in which all its target rows lie; its inputs may reach back into
    the part before, as in the ETT protocol (Zhou et al. 2021). None straddles a gap or two series.
    """
    starts: dict[Part, list[Ints]] = {"train": [], "validation": [], "test": []}
    owner, segment_start, offset = [], [], 0
    for number, series in enumerate(history.series):
        parts = split_rows(len(series), train_rows, validation_rows)
        owner.append(np.full(len(series), number))
        begins = np.arange(len(series))
        for first, beyond in segments(series, history.step_seconds):
            begins[first:beyond] = first
            for part, (low, high) in parts.items():
                earliest = max(first, low - n_steps)
                latest = min(beyond, high) - n_steps - horizon
                starts[part].append(offset + np.arange(earliest, latest + 1))
        segment_start.append(offset + begins)
        offset += len(series)
    return Windows(
        inputs=history.select(features).astype(np.float32),
        outputs=history.select(targets).astype(np.float32),
        starts={part: _joined(chunks) for part, chunks in starts.items()},
        owner=np.concatenate(owner),
        segment_start=np.concatenate(segment_start),
        n_steps=n_steps,
        horizon=horizon,
    )


def require_windows(windows: Windows, history: History, part: Part) -> None:
    """Complain in words if a part has no window.

    Raises:
        DataError: it has none.
    """
    if len(windows.starts[part]) == 0:
        longest = max(map(len, history.series))
        raise DataError(
            f"too few rows: no {part} window of {windows.n_steps} steps + {windows.horizon} leads "
            f"fits (longest series {longest} rows, {history.missing} rows with missing values, "
            "windows never straddle a gap); give more rows, or smaller --n-steps or --horizon"
        )


def _joined(chunks: list[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *chunks])
