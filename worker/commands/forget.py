"""The command ``tidecast-worker forget``: drops all that is kept of series."""

import time
from collections.abc import Sequence
from typing import Annotated

import redis
import typer

from tidecast.worker.commands.connection import client_of
from tidecast.worker.commands.options import AsJson, takes
from tidecast.worker.commands.terminal import tell, write, write_json
from tidecast.worker.errors import SettingsError
from tidecast.worker.logs import printable
from tidecast.worker.pipeline.cells import UnreadableError, checked_name
from tidecast.worker.pipeline.wire import Forgotten
from tidecast.worker.settings import OneStreamSettings
from tidecast.worker.store.orders import Orders
from tidecast.worker.store.status import fleets, statuses

MOST = 100
"""Series that are forgotten by one command: of so many a fleet remembers what became of them."""
BETWEEN = 0.1
"""Seconds between two looks at a fleet's checkpoint."""


@takes(OneStreamSettings)
def forget_command(
    settings: OneStreamSettings,
    series: Annotated[
        list[str], typer.Option("--series", metavar="NAME", help="Series; may be repeated.")
    ],
    fleet: Annotated[
        str | None, typer.Option(help="Whose state.  [default: of all who read the stream]")
    ] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the fleets' word.")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Drop all that is kept of series: windows, open slots, and since when readings are late.

    An entry on the input stream says so. Each fleet obeys when it reads that far, and so does each
    replay; later readings begin the series anew. Forecasts and readings stay where they are.

    Example: tidecast-worker forget --series meter --input readings
    """
    names = [_name(one) for one in dict.fromkeys(series)]
    if len(names) > MOST:
        raise SettingsError(f"{len(names)} series; {MOST} at a time: give the others afterwards")
    client = client_of(settings)
    orders = Orders(client, settings.input)
    readers = [one.fleet for one in statuses(client, [settings.input])]
    if fleet is not None and fleet not in readers:
        raise SettingsError(
            f"--fleet {fleet}: no such fleet has read {settings.input}; "
            f"{_listed(readers) if readers else 'none'} has"
        )
    readers = [one for one in readers if fleet in (None, one)]
    entries = orders.forget(names, fleet)
    done = _wait(client, settings.input, orders, readers, entries, patience)
    if as_json:
        write_json(
            {
                "stream": settings.input,
                "entries": dict(zip(map(bytes.decode, names), entries, strict=True)),
                "fleets": {name: _facts(found) for name, found in done.items()},
            }
        )
    else:
        _show(done)
    waited = [name for name, found in done.items() if found is None]
    if waited or not readers:
        who = f"fleet {_listed(waited)} has" if waited else "no fleet has"
        tell(
            f"{who} not come to entry {entries[-1]} of {settings.input} yet, or not saved since: "
            "whoever reads that far forgets the series there"
        )


def _name(text: str) -> bytes:
    try:
        name = text.encode()
        checked_name(name)
    except (UnreadableError, UnicodeEncodeError) as error:
        raise SettingsError(f"--series {text[:60]!r}: {error}; give a series' name") from error
    return name


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _wait(
    client: redis.Redis,
    stream: str,
    orders: Orders,
    readers: Sequence[str],
    entries: Sequence[str],
    patience: float,
) -> dict[str, tuple[Forgotten, ...] | None]:
    """Return what each fleet did; None: it has not yet, as far as it has saved."""
    living = {one.fleet for one in fleets(client, [stream]) if one.members}
    last = time.monotonic() + patience
    found: dict[str, tuple[Forgotten, ...] | None] = dict.fromkeys(readers)
    while True:
        for name in [name for name, done in found.items() if done is None]:
            progress = orders.progress(name, entries)
            found[name] = progress.done if progress.passed else None
        waited = [name for name, done in found.items() if done is None and name in living]
        if not waited or time.monotonic() >= last:
            return found
        time.sleep(BETWEEN)


def _facts(done: Sequence[Forgotten] | None) -> dict[str, list[str]] | None:
    if done is None:
        return None
    return {
        "forgotten": [one.series for one in done if one.held],
        "unknown": [one.series for one in done if not one.held],
    }


def _show(done: dict[str, tuple[Forgotten, ...] | None]) -> None:
    for name, found in done.items():
        for one in found or ():
            said = "forgot series {}" if one.held else "knew no series {}"
            write(printable(f"fleet {name} {said.format(one.series)}") + "\n")
