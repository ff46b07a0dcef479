"""What the commands write for people and scripts: nothing in it can play with a terminal."""

import json
import os
import sys
from typing import Any


def printable(text: str) -> str:
    """Return a text with whatever would move a terminal's cursor or colours spelled out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def write_json(document: dict[str, Any]) -> None:
    """Write one JSON document on a line of stdout."""
    # ASCII alone: a terminal obeys some characters that JSON may hold as they are.
    write(json.dumps(document).replace("\x7f", "\\u007f") + "\n")


def write(text: str) -> None:
    """Write a text to stdout, until nobody reads it any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, as with "| head -1"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
