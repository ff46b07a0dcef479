"""The command ``tidecast-worker check``: what a stream holds, as a worker would read it."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tidecast.worker.commands.connection import client_of
from tidecast.worker.commands.options import AsJson, takes
from tidecast.worker.commands.terminal import tell, write_json
from tidecast.worker.errors import SettingsError
from tidecast.worker.logs import printable
from tidecast.worker.pipeline.findings import Feature, Findings, Times, find
from tidecast.worker.pipeline.naming import Names
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.service.hindrances import Hindrances
from tidecast.worker.service.rules import override, rules_of
from tidecast.worker.settings import CheckSettings, ShapeSettings, TimeSettings
from tidecast.worker.store.source import Streams


@takes(CheckSettings)
def check_command(
    settings: CheckSettings,
    models: Annotated[
        Path | None,
        typer.Option(help="Model file, or directory of them: what they would make of it."),
    ] = None,
    entries: Annotated[
        int, typer.Option(min=1, max=100_000, help="Newest entries to look at.")
    ] = 1000,
    as_json: AsJson = False,
) -> None:
    """Look at a stream's newest entries as a worker would, and change nothing.

    Shows their shape, series, features and times, which model would serve each series, what would
    be rejected and why, and the options that would mend it. Without --models any field with numbers
    counts as a feature. Windows begin at the first entry that is looked at.

    Example: tidecast-worker check --input readings --models models/
    """
    registry = load_registry(models) if models else None
    for said in override(registry.models, settings) if registry else ():
        tell(said)
    client = client_of(settings)
    newest = Streams(client=client, count=entries, block_ms=None).newest(settings.input)
    if not newest:
        raise SettingsError(
            f"there are no entries on {settings.input} here; name another --input or --redis-url"
        )
    names = Names((), settings.naming)
    if registry:
        names = Names(registry.features, settings.naming, registry.words)
    found, commits = find(
        settings.input, newest, names, registry, fleet=settings.fleet, rules=rules_of(settings)
    )
    hindrances = Hindrances(settings.input)
    for commit in commits:
        hindrances.take(commit)
    hindrances.judge(0.0)
    stands = (said for kind, said in hindrances.stands.items() if kind != "nameless")
    remarks = [*_remarks(found), *stands]
    command = _command(settings, models, found.options)
    if as_json:
        write_json({**asdict(found), "remarks": remarks, "command": command})
        return
    _draw(found)
    for remark in remarks:
        tell(remark)
    typer.echo(printable(command))


def _remarks(found: Findings) -> Iterator[str]:
    """Yield what a person should know of entries that name no series or no time."""
    lacking = []
    if not found.named:
        lacking.append("a series")
    if not found.times.named:
        lacking.append("a time")
    if lacking:
        became = [f"all are of series {found.stream!r}"] * (not found.named)
        became += ["the time is that of arrival"] * (not found.times.named)
        looks = f"; these fields look like them: {found.options}" if found.options else ""
        yield f"no entry names {' or '.join(lacking)}: {', '.join(became)}{looks}"
    elif found.options:
        yield f"the fields look as if these options would read more: {found.options}"


def _command(settings: CheckSettings, models: Path | None, options: str) -> str:
    """Return the command that reads the stream, with the options that mend what is wrong."""
    words = ["tidecast-worker", "run", "--models", str(models or "models/")]
    words += ["--input", settings.input, *_given(settings)]
    return shlex.join(words) + f" {options}" * bool(options)


def _given(settings: CheckSettings) -> Iterator[str]:
    """Yield the options on shapes and on time that this command was given itself."""
    for name, field in {**ShapeSettings.model_fields, **TimeSettings.model_fields}.items():
        said = getattr(settings, name)
        if said != field.default:
            for one in said if isinstance(said, tuple) else (said,):
                yield from ("--" + name.replace("_", "-"), str(one))


def _draw(found: Findings) -> None:
    console = Console()
    span = f"the newest {found.entries} entries, {found.first} to {found.last}"
    console.print(Text(printable(f"{found.stream}: {span}")), soft_wrap=True)
    rows = [(printable(name), printable(said)) for name, said in _rows(found)]
    width = max(len(name) for name, _ in rows)
    for name, said in rows:
        console.print(Text(f"  {name:{width}}  {said}"), soft_wrap=True)


def _rows(found: Findings) -> Iterator[tuple[str, str]]:
    """Yield what a table shows, by its heading."""
    shapes = (f"{shape} ({count} of {found.looked_at})" for shape, count in found.shapes.items())
    yield "shape", ", ".join(shapes)
    yield "fields", ", ".join(found.fields)
    more = ", ..." if found.series > len(found.some) else ""
    yield "series", f"{found.series}: {', '.join(found.some)}{more}"
    yield "readings", str(found.readings)
    for name, feature in found.features.items():
        yield f"feature {printable(name)}", _feature(feature)
    yield from _times(found.times)
    for one in found.served:
        some = f": {', '.join(one.some)}" if one.some else ""
        if one.model is None:
            yield "NO MODEL", f"serves {one.series} series{some}"
        else:
            step = "any step" if one.step is None else f"step {one.step:g} s"
            yield (
                f"model {printable(one.model)}",
                f"{one.glob!r}, {step}, {one.series} series{some}",
            )
    for reject in found.rejected:
        yield "REJECTED", f"{reject.count} ({reject.kind}), such as {reject.entry}: {reject.reason}"


def _feature(feature: Feature) -> str:
    between = "no numbers"
    if feature.low is not None and feature.high is not None:
        between = f"{feature.low:g} to {feature.high:g}"
    return between + (f", {feature.missing} without" if feature.missing else "")


def _times(times: Times) -> Iterator[tuple[str, str]]:
    span = f", {times.first} to {times.last}" if times.first else ""
    yield "times", f"{times.unit}{span}"
    if times.step is not None:
        yield "step", f"{times.step:g} s, nine of ten within {times.jitter or 0.0:g} s of it"
    gaps = f", {times.longest_gap:g} s at most" if times.longest_gap else ""
    yield "odd", f"{times.gaps} gaps{gaps}; {times.doubles} times twice, {times.late} late"
