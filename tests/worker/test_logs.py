"""Log lines, whatever the names in them hold."""

import json
import logging

import pytest

from tidecast.worker.logs import JsonFormatter, TextFormatter, json_line, printable

NASTY = [
    *("\x1b[31m", "a\nb", "\r", "\x00", "\x7f", "\x9b31m", "\x85", "\u2028", "\ufeff"),
    *(chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
    "\ud800",
]


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("tidecast", logging.INFO, "", 0, "series %s starts", (text,), None)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_nothing_in_a_line_plays_with_a_terminal(text: str) -> None:
    line = TextFormatter().format(record(text))
    assert line.isprintable()
    assert line.endswith(f"series {printable(text)} starts")
    assert printable(text) == text.encode("unicode_escape").decode()


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_nothing_in_json_does_and_it_says_the_same(text: str) -> None:
    line = JsonFormatter().format(record(text))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"series {text} starts"
    assert json.loads(json_line({text: text})) == {text: text}


def test_what_is_printable_stays_as_it_is() -> None:
    assert printable("Küche-7 \\ 温度") == "Küche-7 \\ 温度"
