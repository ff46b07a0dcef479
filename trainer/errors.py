"""Everything the trainer raises on purpose.

::

    TrainerError         anything below; the command line prints it as one line
    |-- UserError        the user can mend it: exit code 2
    |   |-- ConfigError  a choice is wrong or contradicts another
    |   |-- DataError    the data file is absent, unreadable or too short
    |   |-- ExtraError   a package of the extra 'trainer' is not installed
    |   `-- ModelError   a model file cannot be read back
    |-- ExportError      the exported graph is not what Keras computes
    `-- StoppedError     Ctrl-C ended a command before it had a result: exit code 130
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

NOTHING = "before the end: nothing was written; run the same command again"
"""What Ctrl-C leaves of a command that keeps nothing on its way."""


class TrainerError(Exception):
    """The root of the tree."""

    exit_code = 1


class UserError(TrainerError):
    """Something the user can mend; the message says what, the value and what to do."""

    exit_code = 2


class ConfigError(UserError):
    """A choice is wrong or contradicts another."""


class DataError(UserError):
    """The data file is absent, unreadable or too short."""


class ExtraError(UserError):
    """A package of the extra ``trainer`` is not installed."""


class ModelError(UserError):
    """A model file cannot be read back."""


class ExportError(TrainerError):
    """The exported graph is not what Keras computes, or not of the promised operators."""


class StoppedError(TrainerError):
    """Ctrl-C came before there was anything to end with; the message says what is kept."""

    exit_code = 130

    def __init__(self, rest: str) -> None:
        super().__init__(f"interrupted {rest}")


@contextmanager
def interruptible(rest: Callable[[], str]) -> Iterator[None]:
    """Make Ctrl-C within the block an ``StoppedError``; ``rest`` then says what became of it.

    Raises:
        StoppedError: Ctrl-C was pressed.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(rest()) from error
