"""What is wrong with a file of readings."""


class FileError(Exception):
    """It cannot be read, or may be read in two ways; the message says what settles it."""
