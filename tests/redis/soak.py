"""The long campaigns: what was tried, and what was lost or doubled.

    python -m tests.redis.soak [--share 1.0] [--flavour valkey]

With ``--share 0.1`` each campaign has a tenth of its length. Prints a table; exits 1 if anything
was lost, doubled or out of order.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from random import Random

from tests.redis import campaigns
from tests.redis.campaigns import Nursery, nursery
from tests.redis.servers import FLAVOURS, Server
from tests.redis.verifier import Outcome

Campaign = Callable[[Nursery, Server, int, Random], Outcome]
CAMPAIGNS: dict[str, tuple[int, Campaign]] = {
    "worker killed": (1000, lambda *a: campaigns.kills(*a, readings=1000)[0]),
    "network fault": (10_000, lambda *a: campaigns.network(*a)[0]),
    "server killed": (200, lambda *a: campaigns.server_kills(*a)[0]),
    "owner asleep past its lease": (500, campaigns.pauses),
    "worker joins or leaves, 8 partitions": (500, campaigns.fleet),
    "trouble, clock steps": (200, campaigns.troubles),
}
LINE = "| {:<38} | {:>6} | {:>9} | {:>9} | {:>4} | {:>7} | {:>12} | {:>5} |"


@contextmanager
def _place(flavour: str) -> Iterator[tuple[Nursery, Server]]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(flavour=flavour, folder=Path(folder) / "server", durable=True)
        with server, nursery(Path(folder) / "nursery") as home:
            yield home, server


def main() -> None:
    """Run all campaigns and print their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--flavour", choices=FLAVOURS, default="valkey")
    options = parser.parse_args()
    out = sys.stdout
    server = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True)  # noqa: S607
    out.write(
        f"{date.today().isoformat()}, {options.flavour}, "  # noqa: DTZ011 - the day on this machine
        f"redis-py {version('redis')}, commit {server.stdout.strip()}, share {options.share:g}\n\n"
    )
    out.write(
        LINE.format(
            "tried", "times", "readings", "forecasts", "lost", "doubled", "out of order", "s"
        )
        + "\n"
    )
    flawless = True
    for name, (times, campaign) in CAMPAIGNS.items():
        start = time.monotonic()
        count = max(1, round(times * options.share))
        with _place(options.flavour) as (home, place):
            found = campaign(home, place, count, Random(count))
        numbers = (found.readings, found.forecasts, found.lost, found.doubled, found.disordered)
        out.write(LINE.format(name, count, *numbers, round(time.monotonic() - start)) + "\n")
        out.flush()
        flawless = flawless and found.flawless
    sys.exit(0 if flawless else 1)


if __name__ == "__main__":
    main()
