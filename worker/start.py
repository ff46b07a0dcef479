"""Where the command begins: a wish to stop is heeded before what it needs is loaded.

The first process of a container hears no signal that it has no handler for, and loading takes a
third of a second.
"""

import os
import signal


def main() -> None:
    """Run the command line and exit as it says."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing is begun that would need an end
    from tidecast.worker.__main__ import main as run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run()
