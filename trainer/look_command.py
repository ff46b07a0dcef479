"""The command ``tidecast-trainer look``: what it prints and draws."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tidecast.files.options import FileOptions
from tidecast.trainer import options
from tidecast.trainer.errors import ConfigError
from tidecast.trainer.extra import check_extra
from tidecast.trainer.figures import number

if TYPE_CHECKING:
    from tidecast.trainer.look import ColumnLook, Look

MOST_PANELS, MOST_LINES, MOST_POINTS = 24, 3, 2000
Picture = Annotated[
    Path | None,
    typer.Option(help="Draw the columns to this PNG file.  [default: NAME.look.png here]"),
]
Draw = Annotated[bool, typer.Option("--draw/--no-draw", help="Draw a picture of each column.")]


def look_command(
    file: FileOptions,
    data: options.Data,
    picture: Picture = None,
    draw: Draw = True,
    as_json: options.Json = False,
) -> None:
    """Say what a file holds, what would be made of it, what is odd, and how to fit it.

    Example: tidecast-trainer look meter.csv
    """
    check_extra()
    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"--picture {picture}: the name of a PNG file ends in .png")
    from tidecast.trainer.look import look

    found = look(data, file)
    if draw and found.history is not None:
        picture = picture or Path(f"{data.name.split('.')[0]}.look.png")
        _draw(picture, found)
    else:
        picture = None
    if as_json:
        typer.echo(json.dumps(_as_json(found)))
        return
    typer.echo(f"{data}: {'; '.join(_read(found))}")
    if found.history is not None:
        typer.echo("; ".join(_made(found)))
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(_table(found))
    for note in found.notes:
        typer.echo(f"note: {note}")
    if found.command():
        typer.echo(f"fit it: {found.command()}")
    else:
        typer.echo("no column of numbers can be forecast")
    if picture is not None:
        typer.echo(f"see {picture}")


def _read(found: "Look") -> list[str]:
    return [f"read {len(found.rows.series):,} rows", *found.rows.told]


def _made(found: "Look") -> list[str]:
    """Say which series, steps and gaps there are."""
    from tidecast.trainer.look import names_of

    history = found.history
    if history is None:
        return []
    count = len(history.series)
    said = ["one series" if count == 1 else f"{count:,} series: {names_of(history)}"]
    if history.step_seconds is None:
        return [*said, "no step that most rows keep: every reading is the next step"]
    said.append(f"a step of {history.step}")
    empty = found.slots - history.rows
    said.append(
        f"{empty:,} of {found.slots:,} steps without a row ({empty / found.slots:.1%})"
        if empty > 0
        else "a row in every step"
    )
    if history.dropped:
        said.append(f"{history.dropped:,} more rows in steps that have one")
    return said


def _table(found: "Look") -> Table:
    table = Table(title_justify="left")
    table.add_column("column")
    for heading in ("holds", "least", "median", "most", "missing", "different values"):
        table.add_column(heading, justify="right")
    for one in found.columns:
        values = _values(one)
        shown = [number(values[key]) for key in ("least", "median", "most")]
        kind = "text" if one.values is None else "numbers"
        cells = (kind, *shown, f"{one.missing:,}", f"{one.distinct:,}")
        table.add_row(escape(one.name), *cells)
    return table


def _values(column: "ColumnLook") -> Mapping[str, float | None]:
    known = np.zeros(0) if column.values is None else column.values[np.isfinite(column.values)]
    if not len(known):
        return dict.fromkeys(("least", "median", "most"))
    return {
        "least": float(known.min()),
        "median": float(np.median(known)),
        "most": float(known.max()),
    }


def _as_json(found: "Look") -> dict[str, Any]:
    history = found.history
    return {
        "file": str(found.path),
        "rows": len(found.rows.series),
        "read": list(found.rows.told),
        "made": _made(found),
        "time_columns": list(found.rows.time_columns),
        "series": 0 if history is None else len(history.series),
        "step_seconds": None if history is None else history.step_seconds,
        "calendar": None if history is None else history.calendar,
        "steps": found.slots,
        "columns": [
            {
                "name": one.name,
                "kind": "text" if one.values is None else "numbers",
                "missing": one.missing,
                "distinct": one.distinct,
                **_values(one),
            }
            for one in found.columns
        ],
        "notes": list(found.notes),
        "fit": found.command(),
    }


def _draw(picture: Path, found: "Look") -> None:
    from tidecast.trainer.charts import Trace, draw_columns
    from tidecast.trainer.look import thinned

    history = found.history
    if history is None:
        return
    traces = []
    for place, name in enumerate(history.columns[:MOST_PANELS]):
        lines = []
        for series in history.series[:MOST_LINES]:
            moments = history.moments(series)
            rows = np.arange(len(series)) if moments is None else moments
            times, values = thinned(rows.astype(np.float64), series.values[:, place], MOST_POINTS)
            shown = times if moments is None else times.astype(np.int64).astype("datetime64[ms]")
            lines.append((shown, values))
        traces.append(Trace(name, lines))
    some = len(history.series) > MOST_LINES
    title = (
        f"{found.path.name}{f', the first {MOST_LINES} of {len(history.series):,} series' * some}"
    )
    draw_columns(picture, title, traces, "time, UTC" if found.rows.times is not None else "row")
