"""The long campaigns: what was tried, and what was lost or doubled.

    python -m tests.redis.soak [--share 1.0] [--flavour valkey] [--jobs 4] [--only kill ...]

Each campaign is cut into parts with a server, workers and a seed of their own, and ``--jobs`` parts
run at a time: most of them mostly wait. With ``--share 0.1`` each campaign has a tenth of its
length; with ``--only`` those run whose names hold one of the words. Prints two tables, after Ctrl-C
of the parts that had ended; exits 1 if anything was lost, doubled, out of order or failed. What is
in the second table runs without a server, or on the embedded one, whatever the flavour.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from itertools import chain, zip_longest
from pathlib import Path
from random import Random

from tests.redis import campaigns, partition_campaigns
from tests.redis.campaigns import GRID, Nursery, nursery
from tests.redis.servers import FLAVOURS, Server
from tests.redis.verifier import Outcome

Campaign = Callable[[Nursery, Server, int, Random], Outcome]
CAMPAIGNS: dict[str, tuple[int, int, Campaign]] = {
    "worker killed": (1000, 100, lambda *a: campaigns.kills(*a, readings=1000)[0]),
    "network fault": (10_000, 500, lambda *a: campaigns.network(*a)[0]),
    "server killed": (200, 50, lambda *a: campaigns.server_kills(*a)[0]),
    "owner asleep past its lease": (500, 50, campaigns.pauses),
    "worker joins or leaves, 8 partitions": (500, 100, campaigns.fleet),
    "trouble, clock steps": (200, 50, campaigns.troubles),
    "one partition in trouble": (200, 50, lambda *a: partition_campaigns.one_in_trouble(*a)[0]),
    "the same, workers and network failing": (
        500,
        50,
        lambda *a: partition_campaigns.troubles_in_a_storm(*a)[0],
    ),
}
"""How often something is tried, and how often in one part."""
SUITES: dict[str, tuple[int, int, str, str]] = {
    "history of saving and dying": (
        10_000,
        500,
        "TIDECAST_EXAMPLES",
        "tests/worker/service/test_recovery_machine.py",
    ),
    "malformed entry": (100_000, 100_000, "TIDECAST_FUZZ", "tests/redis/test_fuzz.py"),
}
"""The same, and the tests that read the number from the environment."""
LINE = "| {:<38} | {:>7} | {:>9} | {:>9} | {:>4} | {:>7} | {:>12} | {:>5} |"
SHORT = "| {:<38} | {:>7} | {:>7} | {:>5} |"


@dataclass(frozen=True)
class Part:
    """A piece of a campaign or suite."""

    name: str
    count: int
    seed: int
    flavour: str


@dataclass(frozen=True)
class Found:
    """What a part came to; ``times`` is how often something was tried in it."""

    times: int = 0
    outcome: Outcome = field(default_factory=Outcome)
    failed: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Found") -> "Found":
        return Found(
            self.times + other.times,
            self.outcome + other.outcome,
            self.failed + other.failed,
            self.seconds + other.seconds,
        )


def parts(name: str, times: int, size: int, flavour: str) -> list[Part]:
    """Cut a campaign into parts of at most ``size``."""
    sizes = [size] * (times // size) + ([times % size] if times % size else [])
    return [Part(name, count, seed, flavour) for seed, count in enumerate(sizes, start=1)]


def run(part: Part) -> Found:
    """Run one part; whatever breaks it is a failure and told on stderr."""
    start = time.monotonic()
    try:
        found = _suite(part) if part.name in SUITES else Found(part.count, _campaign(part))
    except Exception as error:  # noqa: BLE001 - the other parts go on, this one counts as failed
        sys.stderr.write(f"{part}: {type(error).__name__}: {error}\n")
        found = Found(failed=1)
    return found + Found(seconds=time.monotonic() - start)


def _campaign(part: Part) -> Outcome:
    campaign = CAMPAIGNS[part.name][2]
    with _place(part.flavour) as (home, server):
        return campaign(home, server, part.count, Random(part.seed))


@contextmanager
def _place(flavour: str) -> Iterator[tuple[Nursery, Server]]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(flavour=flavour, folder=Path(folder) / "server", durable=True)
        with server, nursery(Path(folder) / "nursery", **GRID) as home:
            yield home, server


def _suite(part: Part) -> Found:
    _, _, variable, file = SUITES[part.name]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=0"]
    seeded = [f"--hypothesis-seed={part.seed}", file]
    environment = {**os.environ, variable: str(part.count)}
    done = subprocess.run([*command, *seeded], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:])
    return Found(part.count, failed=int(done.returncode != 0))


def in_turn(groups: list[list[Part]]) -> list[Part]:
    """Mix the parts of all groups, so that those that wait run beside those that compute."""
    return [part for part in chain.from_iterable(zip_longest(*groups)) if part]


def run_all(groups: list[list[Part]], jobs: int) -> dict[str, Found]:
    """Run all parts, telling on stderr how far it is, and add up what they found by name."""
    todo, start = in_turn(groups), time.monotonic()
    found: dict[str, Found] = {group[0].name: Found() for group in groups}
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"))
    running = {pool.submit(run, part): part for part in todo}
    try:
        for number, future in enumerate(as_completed(running), start=1):
            part, one = running[future], future.result()
            found[part.name] += one
            sys.stderr.write(
                f"{time.monotonic() - start:6.0f} s  {number:3}/{len(todo)}  {part.name}, "
                f"{part.count} with seed {part.seed}: {one.seconds:.0f} s, "
                f"{'BROKE OFF' if one.failed else one.outcome}\n"
            )
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the parts under way do not count\n")
    pool.shutdown(wait=False, cancel_futures=True)
    for child in multiprocessing.active_children():
        child.terminate()
    return found


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--flavour", choices=FLAVOURS, default="valkey")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD")
    options = parser.parse_args()
    known = [(name, times, size) for name, (times, size, _) in CAMPAIGNS.items()]
    known += [(name, times, size) for name, (times, size, _, _) in SUITES.items()]
    wanted = [one for one in known if any(word in one[0] for word in options.only)]
    groups = [
        parts(name, max(1, round(times * options.share)), size, options.flavour)
        for name, times, size in wanted
    ]
    commit = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True)  # noqa: S607
    found = run_all(groups, options.jobs)
    out = sys.stdout
    out.write(
        f"{date.today().isoformat()}, {options.flavour}, "  # noqa: DTZ011 - the day on this machine
        f"redis-py {version('redis')}, commit {commit.stdout.strip()}, share {options.share:g}, "
        f"{options.jobs} parts at a time\n\n"
    )
    heads = ("tried", "times", "readings", "forecasts", "lost", "doubled", "out of order", "s")
    out.write(LINE.format(*heads) + "\n")
    for name in filter(found.__contains__, CAMPAIGNS):
        sum_ = found[name].outcome
        numbers = (sum_.readings, sum_.forecasts, sum_.lost, sum_.doubled, sum_.disordered)
        out.write(LINE.format(name, found[name].times, *numbers, round(found[name].seconds)) + "\n")
    out.write("\n" + SHORT.format("held against a reference", "times", "failed", "s") + "\n")
    for name in filter(found.__contains__, SUITES):
        short = (found[name].times, found[name].failed, round(found[name].seconds))
        out.write(SHORT.format(name, *short) + "\n")
    bad = any(one.failed or not one.outcome.flawless for one in found.values())
    broken = [name for name, one in found.items() if one.failed]
    out.write(f"\nparts that broke off: {', '.join(broken) or 'none'}\n")
    sys.exit(bad)


if __name__ == "__main__":
    main()
