"""Columns of words among the features of a fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tidecast.files.categories import indicators, words_of
from tidecast.files.errors import FileError
from tidecast.files.options import FileOptions
from tidecast.files.table import read_table
from tidecast.trainer.errors import ConfigError, DataError


def words_in(path: Path, file: FileOptions, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the words of a file's columns; nothing where none is named.

    Raises:
        DataError: the file cannot be read, or a column holds too many different words.
    """
    if not names:
        return {}
    try:
        return words_of(read_table(path, file), names)
    except FileError as error:
        raise DataError(str(error)) from error


def with_words(
    targets: Sequence[str], features: Sequence[str], words: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Return the features with one for each word in place of those that hold words.

    Raises:
        ConfigError: a target holds words.
    """
    for name in words.keys() & set(targets):
        raise ConfigError(f"--categories {name}: a target; numbers alone can be forecast")
    named = dict.fromkeys([*features, *words])
    return tuple(feature for name in named for feature in indicators(words, name))
