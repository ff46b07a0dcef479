"""Supervised windows: places in one array, gathered a batch at a time and never all at once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.errors import DataError
from tidecast.trainer.series import History, Part, segments

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

MOST_NAMED = 5
"""Series that a line names."""


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

    def going_on(self, starts: Ints) -> tuple[Floats, Floats]:
        """Return windows ``[k, n_steps, F]`` and how the features went on ``[k, horizon, F]``."""
        inputs = self.inputs[starts[:, None] + np.arange(self.n_steps)]
        after = starts[:, None] + self.n_steps + np.arange(self.horizon)
        return inputs, self.inputs[after]

    def touched(self, part: Part) -> npt.NDArray[np.bool_]:
        """Tell which rows the windows and targets of a part use, ``[rows]``."""
        marks = np.zeros(len(self.outputs) + 1, np.int64)
        np.add.at(marks, self.starts[part], 1)
        np.add.at(marks, self.starts[part] + self.n_steps + self.horizon, -1)
        return np.cumsum(marks[:-1]) > 0

    def times(self, starts: Ints) -> Ints:
        """Return the row of its series that each window begins with, ``[k]``."""
        return starts - np.searchsorted(self.owner, self.owner[starts])

    def batches(self, part: Part, size: int = 4096) -> Iterator[tuple[Ints, Floats, Floats]]:
        """Yield starts, windows and targets of a part in order of rows."""
        starts = self.starts[part]
        for first in range(0, len(starts), size):
            chunk = starts[first : first + size]
            yield chunk, *self.gather(chunk)

    def thinned(self, part: Part, most: int) -> "Windows":
        """Return these with at most so many windows in a part, evenly spread."""
        starts = self.starts[part]
        if len(starts) <= most:
            return self
        kept = starts[np.linspace(0, len(starts) - 1, most).astype(np.int64)]
        return replace(self, starts=self.starts | {part: kept})

    def in_order(self, part: Part, batch_size: int) -> Any:
        """Return a ``tf.data.Dataset`` of (window, target) batches in order of rows."""
        import tensorflow as tf

        places = tf.data.Dataset.from_tensor_slices(self.starts[part])
        return self._gathered(places.batch(batch_size))

    def shuffled(self, batch_size: int, seed: int, first: int = 0) -> Any:
        """Return an endless ``tf.data.Dataset`` of batches of training windows.

        Each round over all windows has an order of its own, which hangs on the seed and the round's
        number alone and takes no memory. It begins with the batch of number ``first``.
        """
        import tensorflow as tf

        starts = tf.constant(self.starts["train"])
        count = len(self.starts["train"])

        def pick(places: Any) -> Any:
            rounds = places // count
            salt = tf.fill(tf.shape(rounds), tf.constant(seed, tf.int64))
            # The public index_shuffle of TensorFlow 2.21 cannot take a seed for each index.
            shuffled = tf.raw_ops.RandomIndexShuffle(
                index=places % count,
                seed=tf.stack([salt, rounds, tf.zeros_like(rounds)], axis=1),
                max_index=tf.constant(count - 1, tf.int64),
            )
            return tf.gather(starts, shuffled)

        places = tf.data.Dataset.range(first * batch_size, np.iinfo(np.int64).max)
        return self._gathered(places.batch(batch_size).map(pick))

    def _gathered(self, starts: Any) -> Any:
        """Return the windows of batches of first rows."""
        import tensorflow as tf

        inputs = tf.constant(self.inputs)
        outputs = inputs if self.outputs is self.inputs else tf.constant(self.outputs)
        steps = tf.range(self.n_steps, dtype=tf.int64)
        leads = self.n_steps + tf.range(self.horizon, dtype=tf.int64)

        def gather(starts: Any) -> tuple[Any, Any]:
            window = tf.gather(inputs, starts[:, None] + steps)
            target = tf.gather(outputs, starts[:, None] + leads)
            window.set_shape([None, self.n_steps, self.inputs.shape[1]])
            target.set_shape([None, self.horizon, self.outputs.shape[1]])
            return window, target

        return starts.map(gather).prefetch(2)


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
    Filled slots are inputs, but never a window's newest reading or a target: a worker forecasts
    when a reading comes, and what was filled is nothing to learn to forecast.
    """
    starts: dict[Part, list[Ints]] = {"train": [], "validation": [], "test": []}
    owner, segment_start, offset = [], [], 0
    for number, series in enumerate(history.series):
        parts = series.parts(train_rows, validation_rows)
        filled = np.r_[0, np.cumsum(~series.real)]
        owner.append(np.full(len(series), number))
        begins = np.arange(len(series))
        for first, beyond in segments(series, history.step_seconds):
            begins[first:beyond] = first
            for part, (low, high) in parts.items():
                earliest = max(first, low - n_steps)
                latest = min(beyond, high) - n_steps - horizon
                some = np.arange(earliest, latest + 1)
                newest = some + n_steps - 1
                sound = filled[newest + 1 + horizon] == filled[newest]
                starts[part].append(offset + some[sound])
        segment_start.append(offset + begins)
        offset += len(series)
    inputs = history.select(features).astype(history.numbers)
    return Windows(
        inputs=inputs,
        outputs=inputs if targets == features else history.select(targets).astype(history.numbers),
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


def without_windows(windows: Windows, history: History, part: Part) -> str:
    """Name the series of which a part has no window, with their rows; empty if it has of all."""
    lacking = np.setdiff1d(np.arange(len(history.series)), windows.owner[windows.starts[part]])
    if not len(lacking) or len(lacking) == len(history.series):
        return ""
    named = list[str]()
    for place in lacking[:MOST_NAMED].tolist():
        rows = int(history.series[place].real.sum())
        unit = "" if named else " row" if rows == 1 else " rows"
        named.append(f"{history.series[place].name} ({rows:,}{unit})")
    more = len(lacking) - len(named)
    if more:
        named.append(f"{more:,} more")
    names = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    kind = "training" if part == "train" else part
    have = "has" if len(lacking) == 1 else "have"
    return f"{names} {have} no {kind} window of {windows.n_steps} steps + {windows.horizon} leads"


def _joined(chunks: list[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *chunks])
