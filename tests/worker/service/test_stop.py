"""The wish to stop, brought by real signals at every moment of a wait."""

import os
import signal
import subprocess
import sys
import threading

from tidecast.worker.service.stop import Stop

BOMBARDED = """
import os, signal
from tidecast.worker.service.stop import Stop
for round in range(3000):
    os.closerange(3, 50)  # what the round before opened
    stop = Stop()
    signal.signal(signal.SIGALRM, lambda *_: stop.set())
    signal.setitimer(signal.ITIMER_REAL, 0.0003 + round % 97 * 1e-6)
    while not stop.is_set():
        stop.wait(0.00001)
"""


def test_a_signal_at_any_moment_of_a_wait_ends_it() -> None:
    """threading.Event hangs here within the first few hundred rounds."""
    subprocess.run([sys.executable, "-c", BOMBARDED], check=True, timeout=600)


def test_a_wait_ends_when_asked_and_stays_ended() -> None:
    stop = Stop()
    assert not stop.is_set()
    stop.wait(0.001)
    assert not stop.is_set()
    former = signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        stop.wait(10_000)  # far beyond the time that a test may take
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert stop.is_set()
    stop.wait(10_000)
    assert stop.is_set()
