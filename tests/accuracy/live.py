"""The test rows as live readings, through a real server and worker; and a floor of the record."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import redis

from tidecast.trainer.baselines import scales, seasonal_naive
from tidecast.trainer.evaluate import open_model, windows_for
from tidecast.trainer.scores import Scale, Scores, score
from tidecast.trainer.series import load_history
from tidecast.trainer.slots import slotted
from tidecast.worker.contract import ModelSpec
from tidecast.worker.store import embedded

Doubles = npt.NDArray[np.float64]


def weekly_naive(model: Path, data: Path, week: int) -> float:
    """Return the mean absolute error of the newest value a whole number of weeks before."""
    spec, _ = open_model(model)
    windows = windows_for(
        spec, slotted(spec, load_history(data, spec.targets, features=spec.features))
    )
    starts = windows.starts["test"]
    errors = np.abs(seasonal_naive(windows, starts, week) - windows.gather(starts)[1])
    return float(errors.mean())


def live_scores(model: Path, data: Path, folder: Path) -> tuple[Scores, int]:
    """Replay the test rows of a file of one series; score what the worker published.

    Returns the scores, of all windows of the test part, and how many those are.

    Raises:
        RuntimeError: a command failed, or a window has no forecast.
    """
    spec, _ = open_model(model)
    columns = tuple(dict.fromkeys((*spec.features, *spec.targets)))
    history = load_history(data, columns, features=spec.features, step_seconds=spec.step_seconds)
    history = slotted(spec, history)
    windows = windows_for(spec, history)
    starts = windows.starts["test"]
    times = history.series[0].times
    if times is None or len(history.series) != 1:
        raise RuntimeError(f"{data}: one series with times is needed")
    published = replay(spec, model, data, int(starts[0]), folder)
    newest = times[starts + spec.n_steps - 1].tolist()
    missing = [at for at in newest if at not in published]
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(newest)} windows were not forecast")
    forecasts = np.array([[published[at][t] for t in spec.targets] for at in newest])
    scale = Scale(*(each[0] for each in scales(windows, spec.training.season)))
    return score(forecasts.transpose(0, 2, 1), windows.gather(starts)[1], scale), len(starts)


def replay(
    spec: ModelSpec, model: Path, data: Path, first_row: int, folder: Path
) -> dict[int, dict[str, list[float]]]:
    """Feed a file from a row on, let a worker drain it; return forecasts by time of reading."""
    with embedded.serve(folder / "server") as url:
        _run(
            "feed",
            data,
            "--redis-url",
            url,
            "--series",
            spec.name,
            "--from-row",
            first_row,
            "--rate",
            "max",
        )
        _run("run", "--redis-url", url, "--models", model, "--from", "earliest", "--burst")
        client = redis.Redis.from_url(url, protocol=2)
        found: dict[int, dict[str, list[float]]] = {}
        entries: Any = client.xrange("readings:forecasts")
        for _, fields in entries:
            record = json.loads(fields[b"forecast"])
            found[record["at"]] = record["forecast"]
        client.close()
    return found


def _run(*words: object) -> None:
    command = [sys.executable, "-m", "tidecast.worker", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr}")
