"""The whole of Tidecast on one machine: fit, export, serve, feed, listen, compare.

    python deploy/demo.py [--data my.csv --targets a,b] [--out demo-output]

Without --data it takes the weekly CO2 record of Mauna Loa that ships inside statsmodels. Server,
worker and feeder are processes of their own; this script only starts them and listens.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import redis
from rich.console import Console

from trainer.baselines import naive, scales, seasonal_naive
from trainer.dataset import Windows
from trainer.evaluate import open_model, score, windows_for
from trainer.report import draw_forecasts, error_table
from trainer.series import TIME_COLUMNS, History, load_history
from worker.contract import ModelSpec
from worker.server import embedded

console = Console(highlight=False, soft_wrap=True)
QUIET_AFTER = 3.0
PRINTED = 12


def main() -> int:
    """Run the demo and return the exit code."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.no_patterns:
        step("The six patterns, each fitted, exported and run by ONNX Runtime")
        trainer("patterns", "--out", str(options.out / "patterns"))
    data, targets = prepare(options.data, options.targets, options.out)
    name = "co2" if options.data is None else "demo"
    step(f"Fitting {name} on the first 70 % of {data}")
    trainer(
        *("fit", str(data), "--name", name, "--targets", targets, "--out", str(options.out)),
        *("--n-steps", str(options.n_steps), "--horizon", str(options.horizon)),
        *("--epochs", str(options.epochs)),
    )
    model = options.out / f"{name}.onnx"
    spec, _ = open_model(model)
    history = load_history(data, spec.targets, step_seconds=spec.step_seconds)
    windows = windows_for(spec, history)
    if not len(windows.starts["test"]):
        console.print("no test rows are left to replay: give a longer file or smaller --n-steps")
        return 2
    heard = replay(model, data, spec, windows, options.rate)
    return compare(spec, history, windows, heard, options.out)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="CSV file of your own, one row a time step")
    parser.add_argument("--targets", help="columns to forecast, with commas between")
    parser.add_argument("--n-steps", type=int, default=52)
    parser.add_argument("--horizon", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rate", type=float, default=100.0, help="replayed rows per second")
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    parser.add_argument("--no-patterns", action="store_true", help="leave the patterns' table out")
    options = parser.parse_args()
    if (options.data is None) != (options.targets is None):
        parser.error("give --data and --targets together (make demo DATA=my.csv TARGETS=a,b)")
    if options.data is not None and not options.data.is_file():
        parser.error(f"--data {options.data}: no such file")
    return options


def step(what: str) -> None:
    """Announce a part of the demo."""
    console.print(f"\n[bold]{what}[/bold]")


def trainer(*words: str) -> None:
    """Run a command of the trainer; its own error message is enough."""
    result = subprocess.run([sys.executable, "-m", "trainer", *words], check=False)  # noqa: S603 - our own program
    if result.returncode:
        raise SystemExit(result.returncode)


def prepare(data: Path | None, targets: str | None, out: Path) -> tuple[Path, str]:
    """Return the file to work on and its targets; rows without times are given one a second."""
    if data is None:
        from statsmodels.datasets import co2

        record = co2.load_pandas().data
        path = out / "co2.csv"
        days = [f"{day:%Y-%m-%d}" for day in record.index]
        pl.DataFrame({"timestamp": days, "co2": record["co2"].to_numpy()}).with_columns(
            pl.col("co2").fill_nan(None)
        ).write_csv(path)
        return path, "co2"
    header = data.open(encoding="utf-8-sig").readline().strip().lower().split(",")
    if any(name in TIME_COLUMNS for name in header):
        return data, targets or ""
    path = out / "timed.csv"
    table = pl.read_csv(data, infer_schema=False).with_row_index("ts")
    table.with_columns(pl.col("ts").cast(pl.Int64) * 1000).write_csv(path)
    return path, targets or ""


def replay(
    model: Path, data: Path, spec: ModelSpec, windows: Windows, rate: float
) -> dict[int, dict[str, Any]]:
    """Serve the model, feed the rows it never saw, and return what was heard by reading time."""
    first = int(windows.starts["test"][0])
    rows = len(windows.outputs) - first
    step(f"Replaying {rows} rows never seen in training as live readings, {rate:g} a second")
    heard: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        channel = client.pubsub(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            ignore_subscribe_messages=True
        )
        channel.psubscribe("forecast:*")
        base = [sys.executable, "-m", "worker"]
        server = ["--redis-url", url]
        fed = ["--series", spec.name, "--from-row", str(first), "--rate", str(rate)]
        worker = subprocess.Popen(  # noqa: S603 - our own program
            [*base, "run", *server, "--models", str(model), "--from", "earliest"]
        )
        feeder = subprocess.Popen(  # noqa: S603 - our own program
            [*base, "feed", str(data), *server, *fed]
        )
        last = time.monotonic()
        while feeder.poll() is None or time.monotonic() - last < QUIET_AFTER:
            message = channel.get_message(timeout=0.2)
            if message:
                last = time.monotonic()
                forecast = orjson.loads(message["data"])
                heard[forecast["at"]] = forecast
                show(forecast, len(heard))
            if worker.poll() is not None:
                raise SystemExit("the worker ended early; its message stands above")
        worker.send_signal(signal.SIGTERM)
        if feeder.returncode or worker.wait(timeout=30):
            raise SystemExit("the feeder or the worker failed; the message stands above")
    return heard


def show(forecast: dict[str, Any], number: int) -> None:
    """Print the first forecasts as they are heard, then now and then one."""
    if number <= PRINTED or number % 50 == 0:
        day = f"{np.datetime64(forecast['at'], 'ms').astype('datetime64[s]')}"
        leads = "; ".join(
            f"{target} " + " ".join(f"{value:.2f}" for value in values)
            for target, values in forecast["forecast"].items()
        )
        console.print(f"  heard {number:5d}  forecast:{forecast['series']}  after {day}: {leads}")


def compare(
    spec: ModelSpec,
    history: History,
    windows: Windows,
    heard: dict[int, dict[str, Any]],
    out: Path,
) -> int:
    """Print the live error per lead beside the baselines and draw the picture."""
    times = history.series[0].times
    if times is None:
        raise SystemExit("the file's times could not be read")
    starts = windows.starts["test"]
    newest = times[starts + spec.n_steps - 1]
    known = np.array([int(at) in heard for at in newest])
    starts, newest = starts[known], newest[known]
    if not len(starts):
        raise SystemExit("not one forecast was heard")
    live = np.array(
        [[heard[int(at)]["forecast"][t] for t in spec.targets] for at in newest]
    ).transpose(0, 2, 1)
    _, actual = windows.gather(starts)
    season = spec.training.season
    scale = scales(windows, season)[0]
    scores = {
        "live": score(live, actual, scale),
        "naive": score(naive(windows, starts), actual, scale),
        "seasonal naive": score(seasonal_naive(windows, starts, season), actual, scale),
    }
    console.print()
    wide = console if console.is_terminal else Console(width=160)
    title = f"Live error of {len(starts)} forecasts ({int((~known).sum())} missed), season {season}"
    wide.print(error_table(title, scores))
    shown = {lead: live[:, lead - 1, 0] for lead in sorted({1, spec.horizon})}
    picture = out / f"{spec.name}.png"
    draw(picture, spec, times, windows, starts, shown)
    console.print(f"\nforecast against actual: {picture}\nthe model: {out / spec.name}.onnx")
    return 0


def draw(
    picture: Path,
    spec: ModelSpec,
    times: Any,
    windows: Windows,
    starts: Any,
    leads: dict[int, Any],
) -> None:
    """Draw forecasts of the first target at the time that they are for."""
    first, last = int(starts[0]) + spec.n_steps, int(starts[-1]) + spec.n_steps + spec.horizon
    lines = {}
    for lead, values in leads.items():
        line = np.full(last - first, np.nan)
        line[starts + spec.n_steps + lead - 1 - first] = values
        lines[lead] = line
    draw_forecasts(
        picture,
        f"{spec.name} {spec.version}: {spec.targets[0]}, live forecasts against what came",
        times[first:last].astype("datetime64[ms]"),
        windows.outputs[first:last, 0],
        lines,
    )


if __name__ == "__main__":
    sys.exit(main())
