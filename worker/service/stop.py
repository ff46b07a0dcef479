"""The wish to stop, which a signal handler may bring at any moment."""

import os
import select
from contextlib import suppress


class Stop:
    """A flag to set and to wait for; uses two file descriptors.

    Not ``threading.Event``: its lock may be held by the very code that the handler interrupts, and
    then ``set`` waits for ever. Writing to a pipe may interrupt anything.
    """

    def __init__(self) -> None:
        self._asked = False
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._poll = select.poll()
        self._poll.register(reading, select.POLLIN)

    def set(self) -> None:
        """Ask to stop."""
        self._asked = True
        with suppress(BlockingIOError):  # the pipe is full of wishes
            os.write(self._writing, b"\0")

    def is_set(self) -> bool:
        """Tell whether somebody has asked."""
        return self._asked

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, or less when asked to stop."""
        self._poll.poll(1000 * seconds)
