"""How many readings of real records with holes get a forecast, and how well; for docs/time.md.

    python -m tests.accuracy.holes --data FOLDER

Each record is fitted by the command line, without filling gaps and with what is picked, and all of
it is replayed through a server and a worker. Only the last fifth of its rows is counted: those that
no fit learned from. The taxi record has no holes of its own: 2 % of its rows are left out at
random, and one day.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import redis

from tidecast.trainer.series import load_history
from tidecast.worker.pipeline.grid import is_next_step
from tidecast.worker.store import embedded

DAY = 48
RECORDS = {
    "elb_request_count_8c0756": (),
    "speed_7578": ("--step", "300"),
    "machine_temperature_system_failure": (),
    "nyc_taxi": (),
}
"""What a fit of each is told beside the target and the horizon."""
Doubles = npt.NDArray[np.float64]


def prepared(name: str, data: Path, folder: Path) -> Path:
    """Return a record; of the taxi's a copy with holes."""
    path = data / f"{name}.csv"
    if name != "nyc_taxi":
        return path
    table = pl.read_csv(path)
    random = np.random.default_rng(7)
    kept = random.random(len(table)) > 0.02
    day = round(0.9 * len(table))
    kept[day : day + DAY] = False
    table.filter(kept).write_csv(folder / "holes.csv")
    return folder / "holes.csv"


def published(model: Path, data: Path, folder: Path) -> list[dict[str, Any]]:
    """Return what a worker publishes of a whole file."""
    with embedded.serve(folder / "server") as url:
        _run("worker", "feed", data, "--redis-url", url, "--series", "s", "--rate", "max")
        _run(
            "worker", "run", "--redis-url", url, "--models", model, "--from", "earliest", "--burst"
        )
        with redis.Redis.from_url(url, protocol=2) as client:
            entries: Any = client.xrange("readings:forecasts")
    return [json.loads(fields[b"forecast"]) for _, fields in entries]


def row(name: str, data: Path, folder: Path, gaps: str) -> list[str]:
    """Return one line of the table."""
    folder.mkdir()
    path = prepared(name, data, folder)
    told = ("--targets", "value", "--horizon", "1", "--name", "m", "--out", folder, "--no-report")
    _run("trainer", "fit", path, *told, *RECORDS[name], *(("--gaps", "none") if not gaps else ()))
    spec = json.loads((folder / "m.json").read_text())
    history = load_history(path, ["value"], step_seconds=spec["step_seconds"])
    (series,) = history.series
    if series.times is None:
        raise SystemExit(f"{path}: no times")
    first = round(0.8 * len(series))
    value_at = dict(zip(series.times.tolist(), series.values[:, 0].tolist(), strict=True))
    following = dict(zip(series.times[:-1].tolist(), series.times[1:].tolist(), strict=True))
    records = [
        r for r in published(folder / "m.onnx", path, folder) if r["at"] >= series.times[first]
    ]
    errors: dict[bool, list[float]] = {False: [], True: []}
    step = 1000 * spec["step_seconds"]
    for record in records:
        after = following.get(record["at"])
        if after is not None and is_next_step(after - record["at"], step):
            error = abs(record["forecast"]["value"][0] - value_at[after])
            errors["filled" in record].append(error)
    whole, filled = (f"{np.mean(each):.4g}" if each else "" for each in errors.values())
    limit = f"{spec['gaps']}, {spec['max_gap']}" if spec["max_gap"] else "none"
    share = f"{len(records) / (len(series) - first):.1%}"
    return [name, limit, str(spec["n_steps"]), share, whole, filled]


def _run(program: str, *words: object) -> None:
    command = [sys.executable, "-m", f"tidecast.{program}", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}: {result.stderr}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    heads = ["record", "filled", "n_steps", "forecast", "MAE, whole windows", "MAE, filled ones"]
    sys.stdout.write(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in RECORDS:
            for gaps in ("", "picked"):
                found = row(name, options.data, Path(folder) / f"{name}-{gaps}", gaps)
                sys.stdout.write(f"| {' | '.join(found)} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
