"""Where the command begins: what need not wait is done before the rest is loaded.

Loading takes a third of a second. A wish to stop is heeded at once, as the first process of a
container hears no signal that it has no handler for; ``--version`` alone needs nothing more.
"""

import os
import signal
import sys


def main() -> None:
    """Run the command line and exit as it says."""
    # What a shell starts in the background ignores Ctrl-C, and is left to.
    heard = [signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.default_int_handler else []
    for number in (*heard, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # nothing is begun that would need an end
    if sys.argv[1:] == ["--version"]:
        from tidecast.version import line

        sys.stdout.write(f"{line()}\n")
        return
    from tidecast.worker.__main__ import main as run

    for number in (*heard, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    run()
