"""Where the command begins: Ctrl-C is answered in plain words while the rest is loaded, too.

``--version`` needs none of the rest.
"""

import os
import signal
import sys
from typing import NoReturn

from tidecast.trainer.errors import NOTHING, StoppedError


def main() -> None:
    """Run the command line and exit as it says."""
    # What a shell starts in the background ignores Ctrl-C, and is left to.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _stopped)
    if sys.argv[1:] == ["--version"]:
        from tidecast.version import line

        sys.stdout.write(f"{line()}\n")
        return
    from tidecast.trainer.__main__ import main as run

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _stopped(*_: object) -> NoReturn:
    """End at once: an import that an exception broke off may turn it into another one."""
    error = StoppedError(NOTHING)
    os.write(2, f"tidecast-trainer: {error}\n".encode())
    os._exit(error.exit_code)
