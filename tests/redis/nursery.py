"""Real worker processes that start in milliseconds, can be told where to die, and can be broken.

    python -m tests.redis.nursery

Reads one JSON object a line from stdin and forks a worker for each: the interpreter and its imports
are paid for once. Answers with the process' number. The child is composed as the command line does
it; ``die_at`` names a step between read and commit and how often it may be passed, ``without``
names a guard of the commit script to take out, ``together`` makes one partition's trouble all's,
``clock_steps`` makes its clock jump.
"""

import ctypes
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from tidecast.worker.commands.run import compose
from tidecast.worker.errors import LostServerError, TidecastError
from tidecast.worker.logs import LOGGER, start_logging
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.service.budget import Budget
from tidecast.worker.service.health import Health
from tidecast.worker.service.holdings import Holdings
from tidecast.worker.service.loop import Worker
from tidecast.worker.settings import Settings
from tidecast.worker.store import server
from tidecast.worker.store.commit import SCRIPT, Committer

PR_SET_PDEATHSIG = 1
LEASE = "if holder ~= ARGV[1] then return 'lost ' .. holder end\n"
OFFSET = "  return 'at ' .. stands\n"
SET = "redis.call('SET', KEYS[1], ARGV[3] .. ' ' .. ARGV[5])\n"
CHECKS = SCRIPT[SCRIPT.index("for i, kind in") : SCRIPT.index("local holder")]
IDS = " and is_used_up(KEYS[i]) then"
GUARDS = {
    "lease": SCRIPT.replace(LEASE, ""),
    "offset": SCRIPT.replace(OFFSET, ""),
    "checks": SCRIPT.replace(CHECKS, ""),
    "ids": SCRIPT.replace(IDS, " and false then"),
    "order": SCRIPT.replace(CHECKS, "")
    .replace(SET, "")
    .replace("local forecasts, ", SET + "local forecasts, "),
}


def broken(guard: str | None) -> str:
    """Return the commit script without one of its guards."""
    if guard is None:
        return SCRIPT
    if GUARDS[guard] == SCRIPT or SET not in GUARDS[guard]:
        raise AssertionError(f"the script has no guard {guard!r} of this wording any more")
    return GUARDS[guard]


def work(wish: dict[str, Any]) -> None:
    """Be a worker until told to stop."""
    settings = Settings(**wish["settings"])
    start_logging(settings.log_format)
    registry = load_registry(settings.models)
    url = settings.url or ""
    client = server.connect(url, patience=60, notice=LOGGER.warning)
    worker, stopping = compose(settings, registry, client, Health(), Budget())
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    opened: Callable[..., Committer] = worker.open_committer
    worker.open_committer = partial(opened, script=broken(wish.get("without")))
    worker.pause = lambda failures: stopping.wait(min(0.02 * failures, 0.2))
    worker.saving_share = 1.0  # its checkpoints are many on purpose
    worker.longest_pause = wish.get("longest_pause", 0.2)
    if wish.get("together"):
        Holdings.fail = _fail_together  # type: ignore[method-assign, assignment]
    _meddle(worker, wish)
    worker.run()


def _fail_together(_: Holdings, stream: str, error: Exception) -> None:
    raise LostServerError(f"{stream}: {error}")


def _meddle(worker: Worker, wish: dict[str, Any]) -> None:
    passed: Counter[str] = Counter()
    step, times = wish.get("die_at", ("", 0))
    number = getattr(signal, wish.get("signal", "SIGKILL"))

    def reached(name: str) -> None:
        passed[name] += 1
        if name == step and passed[name] == times:
            os.kill(os.getpid(), number)

    worker.reached = reached
    if "clock_steps" in wish:
        random, steady, shift = Random(wish["clock_steps"]), worker.clock, [0.0]

        def clock() -> float:
            if random.random() < 0.02:
                shift[0] = random.choice([-3600.0, -5.0, 0.0, 5.0, 3600.0])
            return steady() + shift[0]

        worker.clock = clock


def main() -> None:
    """Fork a worker for each line of stdin."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        wish = json.loads(line)
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody else would end it
            log = os.open(wish["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 2)
            os.dup2(log, 1)
            os.close(0)
            code = 0
            try:
                work(wish)
            except TidecastError as error:
                LOGGER.error("tidecast-worker: %s", error)
                code = error.exit_code
            os._exit(code)
        print(child, flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
