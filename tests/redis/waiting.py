"""Waiting until something holds, however long a loaded machine takes."""

import time
from collections.abc import Callable

PATIENCE = 600.0
"""Seconds after which a test waits in vain."""


def wait_for(holds: Callable[[], object]) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it did not within ``PATIENCE``.
    """
    last = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > last:
            raise AssertionError(f"did not come to hold in {PATIENCE:g} s")
        time.sleep(0.005)
