"""The command ``tidecast-worker status``: what a person or a script sees of fleets and streams.

Whatever a stream or a worker is called, nothing of it reaches a terminal but printable characters.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidecast.worker.commands.connection import client_of
from tidecast.worker.commands.options import AsJson, takes
from tidecast.worker.commands.terminal import tell, write_json
from tidecast.worker.errors import SettingsError
from tidecast.worker.logs import printable
from tidecast.worker.pipeline.fates import Fates, fates_of
from tidecast.worker.settings import ServerSettings, streams_of
from tidecast.worker.store.status import FleetStatus, PartitionStatus, fleets, statuses

UNCUT = 10_000
"""Columns of an output that is no terminal: whoever reads it wants a line in one piece."""
UNITS = (("d", 86400), ("h", 3600), ("min", 60))
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME",
        help="Input streams, commas between; may be repeated; 'a:{0..3}' is four.  "
        "[default: all that were read]",
    ),
]


@takes(ServerSettings)
def status_command(settings: ServerSettings, input_: Input = None, as_json: AsJson = False) -> None:
    """Show who owns which stream, how far it is read, and what lies beside it.

    Series, evicted series, entries removed unread, what became of readings and what keeps most of
    them from being forecast are as of the checkpoint. A "-" says that nothing is there, or that the
    server does not know.

    Example: tidecast-worker status --input 'readings:{0..3}'
    """
    streams = _streams(input_)
    client = client_of(settings)
    _show(statuses(client, streams), fleets(client, streams), streams, as_json=as_json)


def _streams(names: Sequence[str] | None) -> list[str] | None:
    """Return the streams that the options name, None for all."""
    try:
        return list(streams_of(names)) if names else None
    except ValueError as error:
        raise SettingsError(f"--input: {error}") from error


def _show(
    partitions: Sequence[PartitionStatus],
    found: Sequence[FleetStatus],
    streams: Sequence[str] | None,
    *,
    as_json: bool,
) -> None:
    """Print all that is known, on stderr what is missing or cannot be read."""
    if as_json:
        write_json(
            {"fleets": list(map(asdict, found)), "partitions": list(map(asdict, partitions))}
        )
    else:
        _draw(partitions, found)
    for line in _notes(partitions, found, streams):
        tell(line)


def _draw(partitions: Sequence[PartitionStatus], found: Sequence[FleetStatus]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=UNCUT)
    held = {fleet: list(group) for fleet, group in groupby(partitions, lambda one: one.fleet)}
    for fleet in found:
        many = len(fleet.members)
        members = f"{many or 'no'} living member{'s' * (many != 1)}"
        console.print(Text(f"fleet {printable(fleet.fleet)}, {members}"))
        for member in fleet.members:
            holds = f"holds {member.holds} of the {member.follows} streams it follows"
            console.print(Text(f"  {printable(member.token)}  {holds}"))
        if fleet.fleet in held:
            console.print(_table(held[fleet.fleet]))
            if became := _became(held[fleet.fleet]):
                console.print(Text(became))


def _table(partitions: Iterable[PartitionStatus]) -> Table:
    """Return one fleet's partitions, a line each."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("stream", "owner", "offset"):
        table.add_column(name, overflow="fold", no_wrap=name == "offset")
    for name in ("lag", "saved", "series", "evicted", "unread", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in partitions:
        table.add_row(*map(Text, _cells(one)))
    return table


def _became(partitions: Iterable[PartitionStatus]) -> str:
    """Say what became of a fleet's readings that gave no forecast, nothing where all gave one."""
    fates = Fates()
    for one in partitions:
        fates.add(fates_of(one.fates or {}))
    told = list(fates.told())
    return f"of {fates.readings} readings, {', '.join(told)}" if told else ""


def _cells(one: PartitionStatus) -> list[str]:
    """Return what a table shows of a partition, in printable characters."""
    saved = "unreadable" if one.checkpoint_error else _ago(one.checkpoint_age)
    numbers = (one.lag, saved, one.series, one.evicted, one.lost, one.dead_letters)
    facts = (one.stream, one.owner, one.offset, *numbers)
    return ["-" if fact is None else printable(str(fact)) for fact in facts]


def _ago(seconds: float | None) -> str | None:
    """Return an age as people say it."""
    if seconds is None:
        return None
    for unit, size in UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _notes(
    partitions: Sequence[PartitionStatus],
    found: Sequence[FleetStatus],
    streams: Sequence[str] | None,
) -> Iterator[str]:
    """Yield what cannot be read, what hinders forecasts, and what nobody has read."""
    for fleet in found:
        if fleet.error:
            yield f"fleet {fleet.fleet}: {fleet.error}"
    for one in partitions:
        if one.checkpoint_error:
            yield f"fleet {one.fleet}, {one.stream}: checkpoint: {one.checkpoint_error}"
        for error in (*one.errors, *(one.hindered or {}).values()):
            yield f"fleet {one.fleet}, {one.stream}: {error}"
    absent = sorted(set(streams or ()) - {one.stream for one in partitions})
    if absent and partitions:
        more = f" and {len(absent) - 1} more" * (len(absent) > 1)
        yield f"no fleet has read {absent[0]}{more} here"
    if not partitions:
        name = streams[0] if streams else "readings"
        yield (
            "no fleet has read a stream here; "
            f"'tidecast-worker run --models models/ --input {name}' reads one"
        )
