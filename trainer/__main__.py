"""The command line ``tidecast-trainer``: composes functions, owns no logic."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typer.exceptions import TyperException

from tidecast.files.command import takes_file
from tidecast.files.options import FileOptions
from tidecast.trainer import options
from tidecast.trainer.backend import load_tensorflow
from tidecast.trainer.errors import (
    NOTHING,
    ConfigError,
    StoppedError,
    TrainerError,
    interruptible,
)
from tidecast.trainer.extra import check_extra
from tidecast.trainer.figures import number, unit_of
from tidecast.trainer.look_command import look_command
from tidecast.usage import GroupedCommand, complaint
from tidecast.version import Version

if TYPE_CHECKING:
    from tidecast.trainer.config import FitConfig
    from tidecast.trainer.fit import Fitted
    from tidecast.trainer.record import FitRecord
    from tidecast.trainer.report import Subject
    from tidecast.trainer.resume import Kept
    from tidecast.trainer.series import History
    from tidecast.trainer.tune import Found
    from tidecast.worker.contract import ModelSpec

CTRL_C = StoppedError.exit_code

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Fit forecasting LSTMs and export each as one self-contained ONNX file.",
)


@app.callback()
def options_of_all(_version: Version = False) -> None:
    """Take what stands before a command."""


@app.command("fit", cls=GroupedCommand)
@takes_file()
def fit_command(
    file: FileOptions,
    data: options.Data,
    horizon: options.Horizon,
    targets: options.Targets = None,
    target: options.Target = None,
    n_steps: options.NSteps = None,
    name: options.Name = None,
    features: options.Features = None,
    feature: options.Feature = None,
    categories: options.Categories = None,
    series: options.SeriesGlob = "*",
    step: options.Step = "auto",
    aggregate: options.Aggregate = "last",
    arch: options.Arch = "segmented",
    segment: options.Segment = None,
    mix: options.Mix = None,
    line: options.WithLine = True,
    members: options.Members = 1,
    units: options.Units = None,
    layers: options.Layers = 1,
    activation: options.Activation = "tanh",
    dropout: options.Dropout = None,
    normalization: options.Normalization = None,
    loss: options.Loss = "mae",
    train_rows: options.TrainRows = None,
    validation_rows: options.ValidationRows = None,
    epochs: options.Epochs = None,
    patience: options.Patience = 6,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = 3e-3,
    weight_decay: options.WeightDecay = 1e-4,
    season: options.Season = None,
    gaps: options.GapPolicy = "linear",
    max_gap: options.MaxGap = None,
    at_least: options.AtLeast = None,
    at_most: options.AtMost = None,
    seed: options.Seed = 1,
    out: options.Out = Path("models"),
    resume: options.Resume = None,
    report: options.Report = True,
) -> None:
    """Fit a model and write NAME.onnx, and what belongs to it beside it.

    The pattern follows from the number of features and targets and the horizon; lookback, segments
    and size follow from the data, unless they are given. NAME.html shows how it went. Ctrl-C ends
    the training and keeps the best model so far; what a fit that was broken off had learned is
    kept in NAME.unfinished.npz, from which --resume goes on. Another fit of that name does not
    write over it unless --anew says so. No forecast passes what --at-least and --at-most say.

    Example: tidecast-trainer fit taxi.csv --name taxi --targets value --horizon 5 --at-least 0
    """
    check_extra()
    from tidecast.trainer.bounds import bounds_of
    from tidecast.trainer.categories import with_words, words_in
    from tidecast.trainer.config import fit_config, rules_of, step_of
    from tidecast.trainer.relabel import contention
    from tidecast.trainer.report import Subject
    from tidecast.trainer.resume import Kept

    named = _names("target", targets, target)
    used = _names("feature", features, feature) if features or feature else named
    words = words_in(data, file, _names("category", categories, None) if categories else ())
    used = with_words(named, used, words)
    config = fit_config(
        name=name or data.stem,
        targets=named,
        features=used,
        aggregate=rules_of(aggregate, (*used, *named)),
        categories=words,
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
        gaps=gaps,
        max_gap=max_gap,
        bounds=bounds_of(at_least or (), at_most or (), named),
        seed=seed,
        series=series,
        **step_of(step),
    )
    kept = Kept(out / f"{config.name}.unfinished.npz", resume)
    with interruptible(kept.interrupted):
        history = _load(data, config, file)
        out.mkdir(parents=True, exist_ok=True)  # if it cannot be, that is better known before
        fitted = _fit_with_bar(config, history, kept)
        for remark in fitted.remarks:
            typer.echo(remark, err=True)
        path, spec, record = _write(out, fitted, data)
    if not fitted.broken_off:
        kept.drop()
    if report:
        _report_of_fit(path.with_suffix(".html"), Subject.of(fitted, spec, record), data)
    if not len(fitted.windows.starts["validation"]):
        typer.echo(
            "no validation window fits: the figures below are of the training rows, and flatter",
            err=True,
        )
    typer.echo(
        f"wrote {path} (and what belongs to it): {spec.pattern}, version {spec.version}; "
        f"{_errors(spec)}"
    )
    if spec.bounded:
        typer.echo(f"forecasts are bounded: {spec.bounded}")
    if spec.without_network:
        typer.echo(f"{spec.name} is {spec.without_network}")
    _warn(contention(path, spec))


app.command("look", cls=GroupedCommand)(takes_file()(look_command))


@app.command("evaluate", cls=GroupedCommand)
@takes_file()
def evaluate_command(
    file: FileOptions,
    model: Annotated[Path, typer.Argument(help="The .onnx file that 'fit' wrote.")],
    data: options.Data,
    picture: options.Picture = None,
    report: options.Report = True,
    as_json: options.Json = False,
) -> None:
    """Score a model on the test rows beside naive, seasonal naive, drift, ridge and ETS.

    The split is the one of its training: rows it learned from or was stopped by are left out. The
    report NAME.html beside the model is written anew for them.

    Example: tidecast-trainer evaluate models/taxi.onnx taxi.csv --json
    """
    check_extra()
    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"--picture {picture}: the name of a PNG file ends in .png")
    from tidecast.trainer.dataset import without_windows
    from tidecast.trainer.evaluate import evaluate_windows, open_model, windows_for
    from tidecast.trainer.record import read_record
    from tidecast.trainer.report import Subject, write_report
    from tidecast.trainer.series import load_history
    from tidecast.trainer.slots import slotted
    from tidecast.trainer.tables import lead_table, overall_table, series_table

    spec, predict = open_model(model)
    columns = tuple(dict.fromkeys((*spec.features, *spec.targets)))
    history = load_history(
        data,
        columns,
        features=spec.features,
        file=file,
        step_seconds=spec.step_seconds,
        calendar=spec.calendar,
        rules=spec.aggregate,
        categories=spec.categories,
        joins=spec.spec_version > 1,
        numbers=spec.numbers,
    )
    _warn(*history.remarks)
    history = slotted(spec, history)
    windows = windows_for(spec, history)
    evaluation = evaluate_windows(spec, predict, history, windows)
    if short := without_windows(windows, history, "test"):
        _warn(f"{short}, and so no say in these scores")
    page = model.with_suffix(".html")
    if report:
        record = read_record(model, spec.version)
        write_report(page, Subject(spec, history, windows, evaluation, record))
    if picture is not None:
        drawn = f"{page} is written" if report else "nothing was written"
        with interruptible(lambda: f"while {picture} was drawn; {drawn}; run the same again"):
            _draw(picture, spec, predict, history)
    if as_json:
        typer.echo(json.dumps({"name": spec.name, "version": spec.version} | evaluation.as_json()))
        return
    title = f"{spec.name} {spec.version} on {evaluation.windows:,} test windows of "
    title += f"{escape(str(data))}, season {evaluation.season}"
    scores = {"model": evaluation.model, **evaluation.baselines}
    console = _console()
    console.print(overall_table(title, scores))
    if spec.horizon > 1:
        console.print(lead_table(scores))
    if len(evaluation.by_series) > 1:
        console.print(series_table(evaluation))
    typer.echo(evaluation.verdict())
    if spec.without_network:
        typer.echo(f"{spec.name} is {spec.without_network}")
    for written in filter(None, (page if report else None, picture)):
        typer.echo(f"see {written}")


@app.command("tune", cls=GroupedCommand)
@takes_file()
def tune_command(
    file: FileOptions,
    data: options.Data,
    horizon: options.Horizon,
    targets: options.Targets = None,
    target: options.Target = None,
    minutes: options.Minutes = 15.0,
    trials: options.Trials = None,
    name: options.Name = None,
    features: options.Features = None,
    feature: options.Feature = None,
    categories: options.Categories = None,
    step: options.Step = "auto",
    aggregate: options.Aggregate = "last",
    members: options.Members = 1,
    normalization: options.Normalization = None,
    loss: options.Loss = "mae",
    train_rows: options.TrainRows = None,
    validation_rows: options.ValidationRows = None,
    season: options.Season = None,
    at_least: options.AtLeast = None,
    at_most: options.AtMost = None,
    seed: options.Seed = 1,
    out: options.Out = Path("models"),
    as_json: options.Json = False,
) -> None:
    """Search for a better lookback, segment, size, dropout and learning rate.

    Each trial is a fit, judged by the validation rows; the first is what 'fit' would choose. Test
    rows are not looked at. The same command goes on with what NAME.tune.sqlite keeps. It ends with
    the command to fit the best model.

    Example: tidecast-trainer tune taxi.csv --targets value --horizon 5 --minutes 30
    """
    check_extra()
    from tidecast.trainer.bounds import bounds_of
    from tidecast.trainer.categories import with_words, words_in
    from tidecast.trainer.config import fit_config, rules_of, step_of

    named = _names("target", targets, target)
    used = _names("feature", features, feature) if features or feature else named
    words = words_in(data, file, _names("category", categories, None) if categories else ())
    used = with_words(named, used, words)
    config = fit_config(
        name=name or data.stem,
        targets=named,
        features=used,
        aggregate=rules_of(aggregate, (*used, *named)),
        categories=words,
        horizon=horizon,
        members=members,
        normalization=normalization,
        loss=loss,
        train_rows=train_rows,
        validation_rows=validation_rows,
        season=season,
        bounds=bounds_of(at_least or (), at_most or (), named),
        seed=seed,
        **step_of(step),
    )
    history = _load(data, config, file)
    out.mkdir(parents=True, exist_ok=True)
    storage = out / f"{config.name}.tune.sqlite"
    found = _search_with_bar(config, history, storage, minutes, trials)
    if as_json:
        typer.echo(json.dumps(vars(found)))
        return
    usual = ""
    if found.usual is not None:
        usual = f", {number(found.usual)} with what a fit chooses by itself"
    typer.echo(
        f"best of {found.trials} trials ({found.broken_off} broken off): validation error "
        f"{number(found.error)} of the naive one{usual}"
    )
    chosen = [f"--{key.replace('_', '-')} {value:.6g}" for key, value in found.choices.items()]
    typer.echo(f"fit it: tidecast-trainer {_told('fit', chosen)}")


@app.command("export")
def export_command(
    model: Annotated[Path, typer.Argument(help="The .keras file that 'fit' wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder.  [default: beside it]")] = None,
) -> None:
    """Rebuild and verify the .onnx file from a .keras file and the .json beside it.

    Example: tidecast-trainer export models/taxi.keras --out deploy/models
    """
    check_extra()
    from tidecast.trainer.export import export_again
    from tidecast.trainer.relabel import contention

    path, spec = export_again(model, out)
    typer.echo(f"wrote {path}: {spec.pattern}, version {spec.version}")
    _warn(contention(path, spec))


@app.command("relabel")
def relabel_command(
    model: Annotated[Path, typer.Argument(help="The .onnx file that 'fit' wrote.")],
    series: Annotated[
        str, typer.Option(help="Glob (* and ?) of the series that a worker serves with it.")
    ],
) -> None:
    """Let a model serve other series, without a new fit.

    Only what the file says of itself changes: graph, forecasts and version stay. Globs of models
    in one folder must share no name. A running worker goes on as before; it looks when it starts.

    Example: tidecast-trainer relabel models/pumps.onnx --series 'pump-*'
    """
    check_extra()
    from tidecast.trainer.relabel import contention, relabel

    before, after = relabel(model, series)
    typer.echo(
        f"{model} serves series {after.series!r}, before {before.series!r}; {after.name} "
        f"{after.version} as it was"
    )
    _warn(contention(model, after))


@app.command("patterns")
def patterns_command(
    out: Annotated[Path | None, typer.Option(help="Keep the model files in this folder.")] = None,
    as_json: options.Json = False,
) -> None:
    """Fit and run the six patterns on their tutorial series.

    Example: tidecast-trainer patterns --out models/patterns
    """
    check_extra()
    load_tensorflow()
    from tidecast.trainer.patterns import EXAMPLES, run_examples
    from tidecast.trainer.relabel import contention

    rows: list[dict[str, Any]] = []

    def interrupted() -> str:
        lie = "nothing was written" if out is None else f"{out} holds the models of those"
        return f"after {len(rows)} of {len(EXAMPLES)} patterns: {lie}; run the same command again"

    with (
        interruptible(interrupted),
        _folder(out) as folder,
        _bar("fitting patterns", len(EXAMPLES)) as (bar, task),
    ):
        for example, spec, forecast in run_examples(folder):
            shape = (len(example.window), len(example.features))
            rows.append(
                {
                    "pattern": example.pattern,
                    "tensors": f"[b, {shape[0]}, {shape[1]}] -> [b, {example.horizon}, "
                    f"{len(example.targets)}]",
                    "kind": spec.training.kind,
                    "window": example.window,
                    "expected": example.expected,
                    "forecast": [[round(float(v), 4) for v in lead] for lead in forecast],
                }
            )
            bar.advance(task)
    if out is not None:
        _warn(contention(out / f"{spec.name}.onnx", spec))
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(title="The six patterns", title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(escape(v) if isinstance(v, str) else _tuples(v) for v in row.values()))
    _console().print(table)


def _errors(spec: "ModelSpec") -> str:
    """Say how far a model errs beside the newest value, over all leads, and on which rows."""
    unit, told = unit_of(spec.targets), spec.validation
    own, floor = (number(sum(each) / len(each), unit=unit) for each in (told.mae, told.naive_mae))
    return f"MAE on the {told.rows} rows {own}, naive {floor}"


def _warn(*remarks: str) -> None:
    for remark in filter(None, remarks):
        typer.echo(f"note: {remark}", err=True)


def _load(data: Path, config: "FitConfig", file: FileOptions) -> "History":
    from tidecast.trainer.series import load_history

    history = load_history(
        data,
        config.columns,
        features=config.features,
        file=file,
        step_seconds=config.step_seconds,
        calendar=config.calendar,
        rules=config.aggregate,
        categories=config.categories,
    )
    step = f"step {history.step}" if history.step_seconds else "any step"
    fate = (
        "aggregated with others of their step"
        if config.aggregate
        else (
            "in the same step as a later one, which counts"
            if len(config.features) == 1
            else "in the same step as others, with which they are joined"
        )
    )
    dropped = f", {history.dropped:,} more {fate}" * bool(history.dropped)
    typer.echo(f"{data}: {'; '.join(history.told)}", err=True)
    typer.echo(
        f"{data}: {history.rows:,} rows, {len(history.series):,} series, {step}, "
        f"{history.missing:,} rows with missing values{dropped}",
        err=True,
    )
    _warn(*history.remarks)
    return history


def _fit_with_bar(config: "FitConfig", history: "History", kept: "Kept") -> "Fitted":
    """Fit with progress on stderr, and keep a file to go on from until it is done."""
    from functools import partial

    from tidecast.trainer.backend import device
    from tidecast.trainer.fit import fit
    from tidecast.trainer.plan import make_plan
    from tidecast.trainer.resume import key_of

    plan = make_plan(config, history)
    for reason in plan.reasons:
        typer.echo(f"picked {reason}", err=True)
    key = key_of(config, plan, history)
    earlier = kept.earlier(key)
    load_tensorflow()
    typer.echo(f"training on {device()}", err=True)
    with _bar(f"fitting {config.name}", plan.epochs * config.members) as (bar, task):

        def after(epoch: int, total: int, loss: float, validation: float | None) -> None:
            shown = "" if validation is None else f"  validation {number(validation)}"
            told = f"loss {number(loss)}{shown}"
            bar.update(task, completed=epoch, total=total, description=told)

        fitted = fit(config, history, after, plan, earlier=earlier, keep=partial(kept.keep, key))
    if fitted.broken_off:
        typer.echo(
            f"broken off: the best model so far is being written; {kept.path} is kept, --resume "
            "goes on with it",
            err=True,
        )
    return fitted


def _write(out: Path, fitted: "Fitted", data: Path) -> tuple[Path, "ModelSpec", "FitRecord"]:
    """Write the model and the record of its fit; return the model's path, spec and that record."""
    from tidecast.trainer.export import write_model
    from tidecast.trainer.files import write_atomically
    from tidecast.trainer.record import SUFFIX, record_of

    path, spec = write_model(out, fitted, _now())
    record = record_of(fitted, spec.version, data.name)
    write_atomically(path.with_suffix(SUFFIX), record.model_dump_json(indent=2).encode())
    return path, spec, record


def _report_of_fit(page: Path, subject: "Subject", data: Path) -> None:
    from tidecast.trainer.report import write_report

    model = page.with_suffix(".onnx")
    rest = (
        f"while the report was drawn; {model} is written and whole, {page} is not: "
        f"'tidecast-trainer evaluate {model} {data}' writes a report"
    )
    with interruptible(lambda: rest):
        write_report(page, subject)


def _search_with_bar(
    config: "FitConfig", history: "History", storage: Path, minutes: float, trials: int | None
) -> "Found":
    from tidecast.trainer.tune import search

    load_tensorflow()
    with _bar(f"tuning {config.name}", trials) as (bar, task):

        def after(count: int, best: "Found | None") -> None:
            shown = "" if best is None else f"best {number(best.error)} of naive"
            bar.update(task, advance=1, description=f"trial {count}  {shown}")

        return search(config, history, storage, seconds=60 * minutes, trials=trials, after=after)


def _told(command: str, more: list[str]) -> str:
    """Return this program's own options as another command's, with more behind them."""
    import shlex

    left_out = {"--minutes", "--trials"}
    words = iter(sys.argv[2:])
    kept = []
    for word in words:
        if word.split("=")[0] in left_out:
            if "=" not in word:
                next(words, None)
            continue
        kept.append(shlex.quote(word))
    return " ".join([command, *kept, *more])


def _draw(picture: Path, spec: Any, predict: Any, history: "History") -> None:
    import numpy as np

    from tidecast.trainer.charts import draw_forecasts
    from tidecast.trainer.evaluate import windows_for

    windows = windows_for(spec, history)
    starts = windows.starts["test"]
    starts = starts[windows.owner[starts] == windows.owner[starts[0]]]
    inputs, actual = windows.gather(starts)
    times = history.moments(history.series[int(windows.owner[starts[0]])])
    rows = starts + spec.n_steps - int(np.searchsorted(windows.owner, windows.owner[starts[0]]))
    places = rows if times is None else times[rows].astype("datetime64[ms]")
    target, series = spec.targets[0], history.series[int(windows.owner[starts[0]])].name
    title = f"{spec.name} {spec.version}: {target}{f' of {series}' * bool(series)}, one step ahead"
    draw_forecasts(picture, title, places, actual[:, 0, 0], {1: predict(inputs)[:, 0, 0]}, target)


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[tuple[Progress, Any]]:
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


def _names(what: str, text: str | None, each: list[str] | None) -> tuple[str, ...]:
    """Return the columns of ``--targets a,b`` and of each ``--target``."""
    if text is None and not each:
        raise ConfigError(f"no {what}: name columns with --{what}s a,b or with --{what} for each")
    names = tuple(name.strip() for name in text.split(",")) if text is not None else ()
    names += tuple(name.strip() for name in each or ())
    if not all(names):
        raise ConfigError(f"an empty column name in {text!r}; write names with commas between")
    return names


def _tuples(rows: Any) -> str:
    return ", ".join(
        number(row[0], 6) if len(row) == 1 else f"({', '.join(number(v, 6) for v in row)})"
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
    """Run the command line and exit.

    0 success, 2 wrong usage or bad input, 130 Ctrl-C before there was a result, 1 anything else.
    """
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        typer.echo(complaint("tidecast-trainer", error), err=True)
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
        code = CTRL_C
    # Of a Ctrl-C that no command minds, Typer tells by this code alone.
    if code == CTRL_C:
        typer.echo(f"tidecast-trainer: {StoppedError(NOTHING)}", err=True)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
