"""What ``--version`` of both programs says."""

from importlib import metadata
from typing import Annotated

import typer


def line() -> str:
    """Return the name and the version that are installed, as ``tidecast 0.1.0``."""
    try:
        return f"tidecast {metadata.version('tidecast')}"
    except metadata.PackageNotFoundError:  # a checkout that is merely on the path
        return "tidecast, not installed: its version is unknown"


def _show(wanted: bool) -> None:
    if wanted:
        typer.echo(line())
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_show, is_eager=True, help="Show the version and exit."),
]
