"""What is wrong with a file of readings."""


class FileError(Exception):
    """It cannot be read, or may be read in two ways; the message says what settles it.

    What a message shows of the file is one line, whatever the file holds.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(map(_printable, message)))


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


class InterleavedError(FileError):
    """Rows of several series would be read as one; ``column`` tells them apart, if any does."""

    def __init__(self, message: str, column: str | None) -> None:
        super().__init__(message)
        self.column = column
