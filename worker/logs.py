"""Log lines for people and for machines, on stderr; nothing in them can play with a terminal.

Names of series, of streams and of keys are others' texts. In a line for people, whatever would move
a cursor, break the line or turn the direction of writing is spelled out; a machine gets ASCII.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

LOGGER = logging.getLogger("tidecast")


def printable(text: str) -> str:
    """Return a text with whatever is no printable character spelled out, such as an ESC."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def json_line(document: dict[str, Any]) -> str:
    """Return a document as JSON on one line, in ASCII: a terminal obeys some of the rest."""
    return json.dumps(document).replace("\x7f", "\\u007f")


class TextFormatter(logging.Formatter):
    """A line for people: time, level and message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the record's line in printable characters."""
        return printable(super().formatMessage(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message and what ``extra={"facts": ...}`` adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        return json_line(line | getattr(record, "facts", {}))


def start_logging(style: Literal["text", "json"]) -> None:
    """Send the project's log lines to stderr in the given style."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
