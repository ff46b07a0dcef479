"""Log lines for people and for machines, on stderr."""

import logging
import sys
from datetime import UTC, datetime
from typing import Literal

import orjson

LOGGER = logging.getLogger("tidecast")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message and what ``extra={"facts": ...}`` adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        return orjson.dumps(line | getattr(record, "facts", {})).decode()


def start_logging(style: Literal["text", "json"]) -> None:
    """Send the project's log lines to stderr in the given style."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if style == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    )
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
