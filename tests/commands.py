"""Commands of the worker, each in a process forked from one that has loaded what they need.

    python -m tests.commands

Reads one JSON object a line from stdin, runs the command that it names to its end, and answers with
its exit code: the interpreter and its imports, half a second of a processor, are paid for once.
What a command is like that starts by itself, ``tests/redis/test_worker_process.py`` shows.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants import CONTEXT
from tests.redis.servers import dying_with_us
from tidecast.worker.__main__ import main as worker


@dataclass(frozen=True)
class Commands:
    """Runs commands one after the other.

    Attributes:
        process: forks them.
        folder: where what they write is kept until the next one.
    """

    process: subprocess.Popen[str]
    folder: Path

    def run(
        self, *words: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with this process' folder, and its environment unless told another."""
        out, err = self.folder / "out", self.folder / "err"
        wish = {
            "words": words,
            "environment": dict(os.environ if environment is None else environment),
            "folder": str(Path.cwd()),
            "out": str(out),
            "err": str(err),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


@contextmanager
def commands(folder: Path) -> Iterator[Commands]:
    """Load what commands need, for the length of the block."""
    loaded = [*dying_with_us(), sys.executable, "-m", "tests.commands"]
    with subprocess.Popen(
        loaded, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Commands(process, folder)
        finally:
            process.kill()


def become(wish: Mapping[str, Any]) -> None:
    """Be a process that was started in this way."""
    os.chdir(wish["folder"])
    os.environ.clear()
    os.environ.update(wish["environment"])
    sys.argv[1:] = wish["words"]
    if coverage := sys.modules.get("coverage"):  # what is seen is seen by the test that asks
        measuring = coverage.Coverage.current()
        if measuring is not None:
            measuring.switch_context(os.environ.get(CONTEXT, ""))
    reading, writing = os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    places = ((os.devnull, reading), (wish["out"], writing), (wish["err"], writing))
    for number, (place, mode) in enumerate(places):
        opened = os.open(place, mode)
        os.dup2(opened, number)
        os.close(opened)


def main() -> None:
    """Fork a command for each line of stdin, and wait for its end."""
    gc.freeze()  # or each child would copy all of it to look for garbage in it
    for line in sys.stdin:
        wish = json.loads(line)
        child = os.fork()
        if child == 0:
            become(wish)
            worker()  # which exits as it does anywhere
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
