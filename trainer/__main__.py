"""The command line ``tidecast-trainer``: composes functions, owns no logic."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.exceptions import TyperException

from trainer.backend import load_tensorflow
from trainer.errors import ConfigError, TrainerError

if TYPE_CHECKING:
    from trainer.config import FitConfig
    from trainer.fit import Fitted
    from trainer.series import History

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Fit forecasting LSTMs and export each as one self-contained ONNX file.",
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Data = Annotated[Path, typer.Argument(help="CSV or Parquet file, wide or long.")]
SeriesColumn = Annotated[
    str | None, typer.Option(help="Column that names the series of each row (long files).")
]
TimeColumn = Annotated[
    str | None, typer.Option(help="Column of times (ISO 8601 or ms).  [default: a usual name]")
]


@app.command("fit")
def fit_command(
    data: Data,
    targets: Annotated[str, typer.Option(help="Columns to forecast, with commas between.")],
    horizon: Annotated[int, typer.Option(help="Leads: steps ahead to forecast.")],
    n_steps: Annotated[
        int | None, typer.Option(help="Lookback: readings in a window.  [default: by the data]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Model name.  [default: the file's]")] = None,
    features: Annotated[
        str | None, typer.Option(help="Columns to forecast from.  [default: the targets]")
    ] = None,
    series_column: SeriesColumn = None,
    time_column: TimeColumn = None,
    series: Annotated[
        str, typer.Option(help="Glob (* and ?) of the series that a worker serves with it.")
    ] = "*",
    step: Annotated[
        str, typer.Option(help="Seconds between rows, or 'auto', or 'none': any distance.")
    ] = "auto",
    arch: Annotated[
        Literal["segmented", "lstm"],
        typer.Option(
            help="An LSTM over segments beside a line, or over the readings as they come."
        ),
    ] = "segmented",
    segment: Annotated[
        int | None, typer.Option(help="Readings in a segment.  [default: by the lookback]")
    ] = None,
    mix: Annotated[
        bool | None,
        typer.Option(help="Each target sees all features.  [default: if some are no targets]"),
    ] = None,
    line: Annotated[
        bool, typer.Option(help="Start from a straight line (ridge) from readings to leads.")
    ] = True,
    members: Annotated[int, typer.Option(help="Networks whose mean is the forecast.")] = 1,
    units: Annotated[
        int | None, typer.Option(help="LSTM units.  [default: by the rows; 50 for lstm]")
    ] = None,
    layers: Annotated[int, typer.Option(help="LSTM layers, 1 or 2.")] = 1,
    activation: Annotated[Literal["tanh", "relu"], typer.Option(help="LSTM activation.")] = "tanh",
    dropout: Annotated[float, typer.Option(help="Share that is left out (segmented).")] = 0.3,
    normalization: Annotated[
        Literal["last", "instance", "standard", "none"], typer.Option(help="Inside the graph.")
    ] = "last",
    loss: Annotated[
        Literal["mae", "huber", "mse"], typer.Option(help="What is made small.")
    ] = "mae",
    train_rows: Annotated[
        int | None, typer.Option(help="Rows of each series to train on.  [default: 70 %]")
    ] = None,
    validation_rows: Annotated[
        int | None, typer.Option(help="Rows to stop early by.  [default: the next 10 %]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs at most.  [default: by the windows]")
    ] = None,
    patience: Annotated[int, typer.Option(help="Epochs without gain before stopping.")] = 10,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows per step.  [default: by their number]")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at its highest.")] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 1e-4,
    season: Annotated[
        int | None,
        typer.Option(help="Season in steps, for baselines and lookback.  [default: by the step]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="One seed, one model.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the model files.")] = Path("models"),
) -> None:
    """Fit a model and write NAME.onnx, NAME.keras and NAME.json.

    The pattern follows from the number of features and targets and the horizon; lookback, segments
    and size follow from the data, unless they are given.

    Example: tidecast-trainer fit taxi.csv --name taxi --targets value --horizon 5
    """
    from trainer.config import fit_config

    named = _names(targets)
    config = fit_config(
        name=name or data.stem,
        targets=named,
        features=_names(features) if features else named,
        n_steps=n_steps,
        horizon=horizon,
        arch=arch,
        segment=segment,
        mix=mix,
        line=line,
        members=members,
        units=units,
        layers=layers,
        activation=activation,
        dropout=dropout,
        normalization=normalization,
        loss=loss,
        train_rows=train_rows,
        validation_rows=validation_rows,
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        season=season,
        seed=seed,
        series=series,
        step_seconds=_step(step),
    )
    history = _load(data, config, series_column, time_column)
    out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be is better known before the fit
    from trainer.export import write_model

    fitted = _fit_with_bar(config, history)
    for remark in fitted.remarks:
        typer.echo(remark, err=True)
    path, spec = write_model(out, fitted, _now())
    if not len(fitted.windows.starts["validation"]):
        typer.echo(
            "no validation window fits: the figures below are of the training rows",
            err=True,
        )
    own, floor = spec.validation.mae, spec.validation.naive_mae
    typer.echo(
        f"wrote {path} (and .keras, .json): {spec.pattern}, version {spec.version}; validation MAE "
        f"{sum(own) / len(own):.5g}, naive {sum(floor) / len(floor):.5g}"
    )


@app.command("evaluate")
def evaluate_command(
    model: Annotated[Path, typer.Argument(help="The .onnx file that 'fit' wrote.")],
    data: Data,
    series_column: SeriesColumn = None,
    time_column: TimeColumn = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the first series' forecasts to this PNG file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a model on the test rows beside naive, seasonal naive, drift and ridge.

    The split is the one of its training: rows it learned from or was stopped by are left out.

    Example: tidecast-trainer evaluate models/taxi.onnx taxi.csv --json
    """
    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"--picture {picture}: the name of a PNG file ends in .png")
    from trainer.evaluate import evaluate_file, open_model
    from trainer.report import lead_table, overall_table, series_table
    from trainer.series import load_history

    spec, predict = open_model(model)
    columns = tuple(dict.fromkeys((*spec.features, *spec.targets)))
    history = load_history(
        data,
        columns,
        features=spec.features,
        series_column=series_column,
        time_column=time_column,
        step_seconds=spec.step_seconds,
    )
    evaluation = evaluate_file(spec, predict, history)
    if picture is not None:
        _draw(picture, spec, predict, history)
    if as_json:
        typer.echo(json.dumps({"name": spec.name, "version": spec.version} | evaluation.as_json()))
        return
    title = f"{spec.name} {spec.version} on {evaluation.windows} test windows of "
    title += f"{escape(str(data))}, season {evaluation.season}"
    scores = {"model": evaluation.model, **evaluation.baselines}
    console = _console()
    console.print(overall_table(title, scores))
    if spec.horizon > 1:
        console.print(lead_table(scores))
    if len(evaluation.by_series) > 1:
        console.print(series_table(evaluation))
    typer.echo(evaluation.verdict())
    if picture is not None:
        typer.echo(f"drew {picture}")


@app.command("export")
def export_command(
    model: Annotated[Path, typer.Argument(help="The .keras file that 'fit' wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder.  [default: beside it]")] = None,
) -> None:
    """Rebuild and verify the .onnx file from a .keras file and the .json beside it.

    Example: tidecast-trainer export models/taxi.keras --out deploy/models
    """
    from trainer.export import export_again

    path, spec = export_again(model, out)
    typer.echo(f"wrote {path}: {spec.pattern}, version {spec.version}")


@app.command("patterns")
def patterns_command(
    out: Annotated[Path | None, typer.Option(help="Keep the model files in this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Fit and run the six patterns on their tutorial series.

    Example: tidecast-trainer patterns --out models/patterns
    """
    load_tensorflow()
    from trainer.patterns import EXAMPLES, run_examples

    rows: list[dict[str, Any]] = []
    with _folder(out) as folder, _bar("fitting patterns", len(EXAMPLES)) as (bar, task):
        for example, forecast in run_examples(folder):
            shape = (len(example.window), len(example.features))
            rows.append(
                {
                    "pattern": example.pattern,
                    "tensors": f"[b, {shape[0]}, {shape[1]}] -> [b, {example.horizon}, "
                    f"{len(example.targets)}]",
                    "window": example.window,
                    "expected": example.expected,
                    "forecast": [[round(float(v), 4) for v in lead] for lead in forecast],
                }
            )
            bar.advance(task)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(title="The six patterns", title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(escape(v) if isinstance(v, str) else _tuples(v) for v in row.values()))
    _console().print(table)


def _load(
    data: Path, config: "FitConfig", series_column: str | None, time_column: str | None
) -> "History":
    from trainer.series import load_history

    history = load_history(
        data,
        config.columns,
        features=config.features,
        series_column=series_column,
        time_column=time_column,
        step_seconds=config.step_seconds,
    )
    step = "any step" if history.step_seconds is None else f"step {history.step_seconds:g} s"
    dropped = f", {history.dropped} more left out: too close to the one before"
    dropped *= bool(history.dropped)
    if history.dropped > history.rows / 10 and series_column is None:
        dropped += " (several series in one file? name their column with --series-column)"
    typer.echo(
        f"{data}: {history.rows} rows, {len(history.series)} series, {step}, "
        f"{history.missing} rows with missing values{dropped}",
        err=True,
    )
    return history


def _fit_with_bar(config: "FitConfig", history: "History") -> "Fitted":
    from trainer.fit import fit
    from trainer.plan import make_plan

    plan = make_plan(config, history)
    for reason in plan.reasons:
        typer.echo(f"picked {reason}", err=True)
    with _bar(f"fitting {config.name}", plan.epochs) as (bar, task):

        def after(epoch: int, total: int, loss: float, validation: float | None) -> None:
            shown = "" if validation is None else f"  validation {validation:.4f}"
            bar.update(task, completed=epoch, total=total, description=f"loss {loss:.4f}{shown}")

        return fit(config, history, after, plan)


def _draw(picture: Path, spec: Any, predict: Any, history: "History") -> None:
    import numpy as np

    from trainer.evaluate import windows_for
    from trainer.report import draw_forecasts

    windows = windows_for(spec, history)
    starts = windows.starts["test"]
    starts = starts[windows.owner[starts] == windows.owner[starts[0]]]
    inputs, actual = windows.gather(starts)
    times = history.series[int(windows.owner[starts[0]])].times
    rows = starts + spec.n_steps - int(np.searchsorted(windows.owner, windows.owner[starts[0]]))
    places = rows if times is None else times[rows].astype("datetime64[ms]")
    title = f"{spec.name} {spec.version}: {spec.targets[0]}, one step ahead"
    draw_forecasts(picture, title, places, actual[:, 0, 0], {1: predict(inputs)[:, 0, 0]})


@contextmanager
def _bar(what: str, total: int) -> Iterator[tuple[Progress, Any]]:
    """Show progress on stderr: a bar on a terminal, its last state elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        yield bar, bar.add_task(what, total=total)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _console() -> Console:
    """Return stdout, wide enough for a table that goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"an empty column name in {text!r}; write names with commas between")
    return names


def _step(text: str) -> float | Literal["auto"] | None:
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"--step {text!r}: neither seconds nor 'auto' nor 'none'") from error


def _tuples(rows: Any) -> str:
    return ", ".join(
        f"{row[0]:.6g}" if len(row) == 1 else f"({', '.join(f'{v:.6g}' for v in row)})"
        for row in rows
    )


def _now() -> datetime:
    """Return the time to write into files; SOURCE_DATE_EPOCH fixes it for reproducible ones."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        return datetime.fromtimestamp(int(fixed), UTC) if fixed else datetime.now(UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"SOURCE_DATE_EPOCH {fixed!r}: not seconds since 1970") from error


def main() -> None:
    """Run the command line and exit: 0 success, 2 wrong usage or bad input, 1 anything else."""
    try:
        app(standalone_mode=False)
    except TyperException as error:
        typer.echo(f"tidecast-trainer: {error.format_message()} See --help.", err=True)
        sys.exit(2)
    except TrainerError as error:
        typer.echo(f"tidecast-trainer: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.echo(f"tidecast-trainer: {reason}; name a place that can be written", err=True)
        sys.exit(2)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("tidecast-trainer: interrupted; nothing was written", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
