"""The rows in JSON: an object a line, an array of objects, a document that holds them; pure."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import polars as pl

from tidecast.files.errors import FileError

FEWEST = 2
"""Values in each of the lists that are the columns of a table."""


def json_rows(text: bytes) -> tuple[pl.DataFrame, str]:
    """Return the rows of JSON text, and where in it they were, if that is no line of it.

    Raises:
        FileError: it is broken, or a document that holds several tables.
    """
    text = text.lstrip()
    if text.startswith(b"["):
        return pl.read_json(BytesIO(text), infer_schema_length=None), ""
    first, _, more = text.partition(b"\n")
    if more.strip() and _is_whole(first):
        return pl.read_ndjson(BytesIO(text), infer_schema_length=None), ""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"no JSON that can be read ({error})") from error
    tables = dict(_tables(document, ""))
    if len(tables) > 1:
        names = ", ".join(map(repr, tables))
        raise FileError(f"a document with several tables ({names}); write one to a file of its own")
    if not tables:
        return pl.read_ndjson(BytesIO(json.dumps(document).encode())), ""
    ((where, table),) = tables.items()
    if isinstance(table, dict):
        return pl.DataFrame(table, strict=False), where
    return pl.read_json(BytesIO(json.dumps(table).encode()), infer_schema_length=None), where


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _tables(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield the lists of objects in a document, and objects of lists as long as each other."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        yield where, value
    if not isinstance(value, dict):
        return
    lists = {name: one for name, one in value.items() if _is_column(one)}
    if len(lists) > 1 and len({len(one) for one in lists.values()}) == 1:
        yield where, lists
        return
    for name, one in value.items():
        yield from _tables(one, f"{where}.{name}" if where else name)


def _is_column(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= FEWEST
        and not any(isinstance(one, list | dict) for one in value)
    )
