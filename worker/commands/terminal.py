"""What the commands write for people and scripts: nothing in it can play with a terminal."""

import os
import sys
from typing import Any

import typer

from tidecast.worker.logs import json_line, printable


def tell(text: str) -> None:
    """Write a line for people to stderr, in printable characters."""
    typer.echo(printable(text), err=True)


def write_json(document: dict[str, Any]) -> None:
    """Write one JSON document on a line of stdout."""
    write(json_line(document) + "\n")


def write(text: str) -> None:
    """Write a text to stdout, until nobody reads it any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, as with "| head -1"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
