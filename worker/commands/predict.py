"""The command ``tidecast-worker predict``: a file's forecasts, as a worker would make them live."""

import csv
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import orjson
import typer

from tidecast.files.command import takes_file
from tidecast.files.options import FileOptions
from tidecast.worker.commands.rows import FileRows, Row, Wire, name_of
from tidecast.worker.commands.terminal import tell
from tidecast.worker.errors import SettingsError
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.epoch import iso_of
from tidecast.worker.pipeline.grid import grid_of
from tidecast.worker.pipeline.model import Model
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.pipeline.step import Pipeline
from tidecast.worker.pipeline.wire import Entry

AT_ONCE = 1000
MOST_SERIES = 10_000_000
Data = Annotated[
    Path, typer.Argument(help="CSV, Parquet, JSON lines or Excel file, packed or not.")
]
Models = Annotated[Path, typer.Option(help="A model file, or the folder of several.")]
Series = Annotated[str | None, typer.Option(help="Series name.  [default: the file's name]")]
Newest = Annotated[
    bool, typer.Option("--newest", help="Only the forecast behind each series' last row.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="CSV file to write, a row for each value.  [default: JSON lines on stdout]"),
]


class Writer(Protocol):
    """Takes forecasts, as JSON."""

    def __call__(self, records: Iterable[bytes]) -> None:
        """Write forecasts."""


@takes_file()
def predict_command(
    file: FileOptions,
    data: Data,
    models: Models = Path("models"),
    series: Series = None,
    newest: Newest = False,
    out: Out = None,
) -> None:
    """Forecast behind the rows of a file, as a worker would that they are sent to; no server.

    Example: tidecast-worker predict taxi.csv --models models/taxi.onnx --newest

    Example: tidecast-worker predict meters.csv --series-column meter --out forecasts.csv
    """
    registry = load_registry(models)
    wire = Wire(series=series or name_of(data), time_unit=file.time_unit)
    rows = FileRows(path=data, wire=wire, file=file)
    tell(f"{data}: read {len(rows):,} rows; {'; '.join(rows.told)}")
    last: dict[bytes, bytes] = {}
    made, reasons = 0, dict[str, int]()
    with _writer(out) as write:
        for commit in forecasts(registry, rows):
            for reject in commit.rejects:
                reasons[reject.reason] = reasons.get(reject.reason, 0) + 1
            if newest:
                last.update(zip(commit.series, commit.records, strict=True))
                continue
            made += len(commit.records)
            write(commit.records)
        write(last.values())
    tell(f"{made + len(last):,} forecasts{f' in {out}' if out else ''}")
    for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])[:3]:
        tell(f"{count:,} rows refused: {reason}")
    if not made and not last:
        names = ", ".join(map(_served, registry.models))
        raise SettingsError(
            f"{data}: no forecast; is a series served by one of the models, and are its rows as "
            f"many as that needs? They are {names}"
        )


def forecasts(registry: Registry, rows: Iterable[Row]) -> Iterator[Commit]:
    """Yield what a worker would write of rows, some at a time.

    Args:
        registry: the models.
        rows: in the order of their times.
    """
    decoder = Decoder("predict", registry.features, words=registry.words)
    pipeline = Pipeline(registry, decoder, MOST_SERIES, max_skew=np.inf)
    waiting = iter(rows)
    while chunk := list(islice(waiting, AT_ONCE)):
        entries = [_entry(number, fields) for number, fields in chunk if fields]
        if entries:
            yield from pipeline.step(entries)


def _served(model: Model) -> str:
    spec = model.spec
    steps = grid_of(spec).min_steps or spec.n_steps
    return f"{spec.name} (series {spec.series}, from {steps} steps on)"


def _entry(number: int, fields: dict[str, str]) -> Entry:
    return b"%d-1" % number, [text.encode() for pair in fields.items() for text in pair]


@contextmanager
def _writer(out: Path | None) -> Iterator[Writer]:
    """Yield what writes forecasts: as JSON lines to stdout, or as rows of a CSV file."""
    if out is None:
        yield _to_stdout
        return
    with out.open("w", newline="") as target:
        table = csv.writer(target)
        table.writerow(["series", "at", "lead", "target", "value"])

        def write(records: Iterable[bytes]) -> None:
            for record in records:
                table.writerows(_rows_of(orjson.loads(record)))

        yield write


def _to_stdout(records: Iterable[bytes]) -> None:
    for record in records:
        sys.stdout.write(record.decode() + "\n")


def _rows_of(said: dict[str, Any]) -> Iterator[tuple[str, str, int, str, float]]:
    for target, leads in said["forecast"].items():
        for lead, value in enumerate(leads, 1):
            yield said["series"], iso_of(said["at"]), lead, target, value
