"""Columns of words -> a column of 0 and 1 for each word, called ``column=word``; pure."""

from collections.abc import Mapping, Sequence

import polars as pl

from tidecast.files.errors import FileError
from tidecast.files.table import Table

FEWEST, MOST = 2, 50
"""Words of a column; more are names or notes."""


def words_of(table: Table, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the different words of columns, in the order of the alphabet.

    Raises:
        FileError: there is no such column, or it has one word alone or too many.
    """
    table.has(*names)
    found = {}
    for name in names:
        words = table.frame[name].cast(pl.String).str.strip_chars().drop_nulls().unique().sort()
        if not FEWEST <= len(words) <= MOST:
            raise FileError(
                f"{table.path}: column {name!r} has {len(words):,} different words; --categories "
                f"is for columns of {FEWEST} to {MOST}"
            )
        found[name] = tuple(words.to_list())
    return found


def indicators(categories: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """Return the columns that stand for one of words; others stand for themselves."""
    return [f"{name}={word}" for word in categories.get(name, ())] or [name]


def with_indicators(table: Table, categories: Mapping[str, Sequence[str]]) -> Table:
    """Return a table with a column for each word: 1, 0, or null where the word is none of them.

    Raises:
        FileError: there is no such column.
    """
    table.has(*categories)
    columns = []
    for name, words in categories.items():
        text = table.frame[name].cast(pl.String).str.strip_chars()
        known = text.is_in(list(words))
        for word in words:
            is_it = (text == word).cast(pl.Float64).set(~known.fill_null(value=False), None)
            columns.append(is_it.alias(f"{name}={word}"))
    return table.with_columns(columns)
