"""The whole of Tidecast on one machine: fit, export, serve, feed, listen, compare.

    python deploy/demo.py [--data my.csv --targets a,b] [--out demo-output]

Without --data it takes the weekly CO2 record of Mauna Loa that ships inside statsmodels. Server,
worker and feeder are processes of their own; this script only starts them and listens.
"""

import argparse
import atexit
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import redis
from rich.console import Console

from tidecast.trainer.baselines import naive, scales, seasonal_naive
from tidecast.trainer.charts import draw_forecasts
from tidecast.trainer.dataset import Windows
from tidecast.trainer.evaluate import open_model, windows_for
from tidecast.trainer.scores import Scale, score
from tidecast.trainer.series import History, load_history
from tidecast.trainer.slots import slotted
from tidecast.trainer.tables import lead_table, overall_table
from tidecast.worker.contract import ModelSpec
from tidecast.worker.store import embedded
from tidecast.worker.store.position import position_of

console = Console(highlight=False, soft_wrap=True)
PRINTED = 12
LONGEST_REPLAY = 10.0


def main() -> int:
    """Run the demo and return the exit code."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    patterns = None if options.no_patterns else start_patterns(options.out / "patterns")
    name = "demo" if options.data else "co2"
    data, targets = (options.data, options.targets) if options.data else co2(options.out)
    step(f"Fitting {name} on the first 70 % of {data}")
    trainer(
        *("fit", str(data), "--name", name, "--targets", targets, "--out", str(options.out)),
        *("--horizon", str(options.horizon), "--anew"),
        *(() if options.n_steps is None else ("--n-steps", str(options.n_steps))),
    )
    if patterns is not None:
        step("The six patterns, each fitted meanwhile, exported and run by ONNX Runtime")
        show_patterns(patterns)
    model = options.out / f"{name}.onnx"
    spec, _ = open_model(model)
    steps = load_history(data, spec.targets, step_seconds=spec.step_seconds, calendar=spec.calendar)
    history = timed(steps)
    history = slotted(spec, history)
    windows = windows_for(spec, history)
    if not len(windows.starts["test"]):
        console.print("no test rows are left to replay: give a longer file or a smaller N_STEPS")
        return 2
    heard = replay(model, unseen(spec, history, windows, options.out), spec)
    return compare(spec, history, windows, heard, options.out)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="CSV or Parquet file of your own, one series")
    parser.add_argument("--targets", help="columns to forecast, with commas between")
    parser.add_argument("--n-steps", type=int, help="readings in a window")
    parser.add_argument("--horizon", type=int, default=8, help="steps ahead")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write")
    parser.add_argument("--no-patterns", action="store_true", help="leave the patterns' table out")
    options = parser.parse_args()
    if (options.data is None) != (options.targets is None):
        parser.error("give --data and --targets together (make demo DATA=my.csv TARGETS=a,b)")
    return options


def step(what: str) -> None:
    """Announce a part of the demo."""
    console.print(f"\n[bold]{what}[/bold]")


def start_patterns(out: Path) -> "subprocess.Popen[str]":
    """Fit the six patterns in a process of their own, beside what comes next.

    Tiny networks leave most of a machine idle.
    """
    command = [sys.executable, "-m", "tidecast.trainer", "patterns", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    atexit.register(process.kill)
    return process


def show_patterns(process: "subprocess.Popen[str]") -> None:
    """Wait for the six patterns and print their table."""
    with console.status("fitting the six patterns"):
        table, log = process.communicate()
    if process.returncode:
        sys.stderr.write(log)
        raise SystemExit(process.returncode)
    sys.stdout.write(table)


def trainer(*words: str) -> None:
    """Run a command of the trainer; its own error message is enough."""
    result = subprocess.run([sys.executable, "-m", "tidecast.trainer", *words], check=False)  # noqa: S603 - our own program
    if result.returncode:
        raise SystemExit(result.returncode)


def co2(out: Path) -> tuple[Path, str]:
    """Write the weekly CO2 record, gaps and all, as a CSV file; return it and its column."""
    from statsmodels.datasets import co2 as mauna_loa

    record = mauna_loa.load_pandas().data
    path = out / "co2.csv"
    days = [f"{day:%Y-%m-%d}" for day in record.index]
    pl.DataFrame({"timestamp": days, "co2": record["co2"].to_numpy()}).with_columns(
        pl.col("co2").fill_nan(None)
    ).write_csv(path)
    return path, "co2"


def timed(history: History) -> History:
    """Return a history in which rows without times are a second apart."""
    (series,) = history.series
    times = np.arange(len(series)) * 1000 if series.times is None else series.times
    return replace(history, series=(replace(series, times=times),))


def unseen(spec: ModelSpec, history: History, windows: Windows, out: Path) -> Path:
    """Write the rows of the test windows, in order of time and without filled ones, to be fed."""
    (series,) = history.series
    first = int(windows.starts["test"][0])
    real = np.flatnonzero(series.real[first:]) + first
    table = pl.DataFrame(series.values[real], schema=list(history.columns)).fill_nan(None)
    path = out / f"{spec.name}-unseen.csv"
    times = pl.Series("ts", times_of(history)[real])
    table.insert_column(0, times).write_csv(path)
    return path


def times_of(history: History) -> npt.NDArray[np.int64]:
    """Return the times of a history that has them, in milliseconds since 1970."""
    times = history.series[0].times
    if times is None:
        raise AssertionError("timed() gives every row a time")
    return times


def replay(model: Path, data: Path, spec: ModelSpec) -> dict[int, dict[str, Any]]:
    """Serve the model, feed the rows it never saw, and return what was heard by reading time."""
    rows = len(data.read_text().splitlines()) - 1
    rate = max(100.0, rows / LONGEST_REPLAY)
    step(f"Replaying {rows} rows never seen in training as live readings, {rate:.0f} a second")
    heard: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, embedded.serve(Path(folder) / "server") as url:
        client = redis.Redis.from_url(url, protocol=2)
        channel = client.pubsub(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            ignore_subscribe_messages=True
        )
        channel.psubscribe("forecast:*")
        base = [sys.executable, "-m", "tidecast.worker"]
        server = ["--redis-url", url]
        how = ["--series", spec.name, "--time-column", "ts", "--rate", f"{rate:.0f}"]
        worker = subprocess.Popen(  # noqa: S603 - our own program
            [*base, "run", *server, "--models", str(model), "--from", "earliest"]
        )
        feeder = subprocess.Popen(  # noqa: S603 - our own program
            [*base, "feed", str(data), *server, *how]
        )
        pending = True
        while pending:
            fed = feeder.poll()
            pending = fed is None or (fed == 0 and not is_drained(client))
            while message := channel.get_message(timeout=0.2):
                forecast = orjson.loads(message["data"])
                heard[forecast["at"]] = forecast
                show(forecast, len(heard))
            if worker.poll() is not None:
                raise SystemExit("the worker ended early; its message stands above")
        worker.send_signal(signal.SIGTERM)
        if fed or worker.wait(timeout=30):
            raise SystemExit("the feeder or the worker failed; the message stands above")
    return heard


def is_drained(client: redis.Redis) -> bool:
    """Tell whether the worker has committed the newest reading."""
    newest: Any = client.xrevrange("readings", count=1)
    stands: Any = client.get("readings:offset:default")
    if not newest or stands is None:
        return False
    return bool(position_of(stands).offset.encode() == newest[0][0])


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
    times = times_of(history)
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
    scale = Scale(*(each[0] for each in scales(windows, season)))
    scores = {
        "live": score(live, actual, scale),
        "naive": score(naive(windows, starts), actual, scale),
        "seasonal naive": score(seasonal_naive(windows, starts, season), actual, scale),
    }
    console.print()
    wide = console if console.is_terminal else Console(width=160)
    title = f"Live error of {len(starts)} forecasts ({int((~known).sum())} missed), season {season}"
    wide.print(overall_table(title, scores))
    wide.print(lead_table(scores))
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
