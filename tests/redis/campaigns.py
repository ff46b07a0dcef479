"""Campaigns of faults against real workers on a real server; each returns what it found.

They are short in the test suite and long in the soak run.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import redis

from tests.model_files import write_mean_model
from tests.redis.proxy import Proxy
from tests.redis.servers import Server, dying_with_us, truncate_last_transaction
from tests.redis.verifier import Outcome, verify
from tests.redis.waiting import PATIENCE, wait_for
from tidecast.worker.pipeline.wire import FORGET, HISTORY
from tidecast.worker.store.position import position_of

STEPS = ("acquired", "restored", "read", "stepped", "sent", "settled", "saved", "renewed")
ONCE = {"acquired", "restored"}
SERIES = 7
KINDS = "sssspms"
"""What each of them is: whole readings, sensors that report apart, several readings to a slot."""
START, STEP = 1_700_000_000_000, 1000
GRID: dict[str, Any] = {
    "step_seconds": STEP / 1000,
    "gaps": "linear",
    "max_gap": 2,
    "min_steps": 2,
}
"""What becomes of the readings that ``feed`` puts on a stream."""


@dataclass
class Nursery:
    """Forks workers and knows how to end them."""

    folder: Path
    process: subprocess.Popen[str]
    models: Path
    pids: list[int] = field(default_factory=list)

    def start(self, url: str, *inputs: str, **wish: Any) -> int:
        """Start a worker and return its process number."""
        settings = {
            "redis_url": url,
            "models": str(self.models),
            "input": inputs or ("readings",),
            "start": "earliest",
            "lease": 0.6,  # much less, and workers of a starved machine only lose leases
            "checkpoint_every": 0.05,
            "read_size": 50,
            **wish.pop("settings", {}),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = {"settings": settings, "log": str(self.log), **wish}
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        self.pids.append(int(self.process.stdout.readline()))
        return self.pids[-1]

    @property
    def log(self) -> Path:
        """Where all workers write their log."""
        return self.folder / "workers.log"

    def drain(self, url: str, *inputs: str, **wish: Any) -> None:
        """Let a worker that nothing disturbs read all there is and end."""
        calm = {"burst": True, "lease": 10.0, "checkpoint_every": 5.0, "read_size": 1000}
        settings = {**calm, **wish.pop("settings", {})}
        wait_for(partial_ended(self.start(url, *inputs, settings=settings, **wish)))


def partial_ended(pid: int) -> Callable[[], bool]:
    """Return what tells whether a process has ended."""
    return lambda: not alive(pid)


def alive(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def asleep(pid: int) -> bool:
    """Tell whether a process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def end(pid: int, number: signal.Signals) -> None:
    """Send a process a signal and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    wait_for(partial_ended(pid))


@contextmanager
def nursery(folder: Path, **described: Any) -> Iterator[Nursery]:
    """Run a nursery whose model's arithmetic is exact, so that forecasts compare to the byte."""
    folder.mkdir(parents=True, exist_ok=True)
    models = folder / "models"
    own = "s*" if described else "*"
    write_mean_model(models / "mean.onnx", name="mean", n_steps=4, series=own, **described)
    if described:
        slots = described | {"step_seconds": 2 * described["step_seconds"], "n_steps": 4}
        both = {"features": ("a", "b"), "targets": ("a", "b")}
        write_mean_model(models / "pair.onnx", name="pair", series="p*", **slots, **both)
        rules = {"aggregate": {"value": "sum"}}
        write_mean_model(models / "sum.onnx", name="sum", series="m*", **slots, **rules)
    command = [*dying_with_us(), sys.executable, "-m", "tests.redis.nursery"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        home = Nursery(folder, process, models)
        try:
            yield home
        finally:
            for pid in home.pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.kill()


def feed(client: redis.Redis, stream: str, count: int, random: Random) -> None:
    """Put readings of several series on a stream, 5 % of them of each mess."""
    known: Any = client.xinfo_stream(stream) if client.exists(stream) else {"entries-added": 0}
    first: int = known["entries-added"]
    pipeline = client.pipeline(transaction=False)
    for number in range(first, first + count):
        pipeline.xadd(stream, messy_reading(number, random))
    pipeline.execute()


def messy_reading(number: int, random: Random) -> dict[Any, Any]:
    """Return the next reading of the series whose turn it is, or what may come in its place."""
    said: dict[Any, Any] = {"value": str(random.randrange(1000))}
    mess = random.randrange(20)
    if mess == 0:  # the one before once more, and this one is lost
        number = max(0, number - 1)
    place, rounds = number % SERIES, number // SERIES
    series, at = f"{KINDS[place]}{place}", START + STEP * rounds
    if random.randrange(100) == 0:
        return {FORGET: series}
    if mess == 1:
        at -= STEP * random.randrange(1, 7)
    elif mess == 2:
        said["value"] = random.choice(["-", "", "NaN"])
    elif mess == 3:
        at += random.randrange(-STEP // 2, STEP // 2 + 1)
    elif mess == 4:
        at += STEP * random.randrange(1, 6)
    elif mess == 5:
        said[HISTORY] = "1"
    elif mess == 6:
        said["value"] = "abc"
    if series[0] == "p":  # of two sensors that report by turns
        said["ab"[rounds % 2]] = said.pop("value")
    return {"series": series, "ts": str(at), **said}


def kills(
    home: Nursery, server: Server, count: int, random: Random, *, readings: int = 300
) -> tuple[Outcome, Counter[str]]:
    """Kill the worker at random moments and at each named step; also return how often at which."""
    killed: Counter[str] = Counter()
    with server.client() as client:
        for turn in range(count):
            before = client.xlen("readings:forecasts")
            feed(client, "readings", readings, random)
            if turn % 2:
                step = STEPS[turn // 2 % len(STEPS)]
                times = 1 if step in ONCE else random.randrange(1, 5)
                pid = home.start(server.url, die_at=(step, times))
                wait_for(partial_ended(pid))
            else:
                step = "at random"
                pid = home.start(server.url)
                wait_for(lambda: client.xlen("readings:forecasts") > before)  # noqa: B023
                time.sleep(random.random() * 0.05)
                end(pid, signal.SIGKILL)
            killed[step] += 1
        home.drain(server.url)
        return verify(client, "readings", home.models), killed


def network(
    home: Nursery, server: Server, count: int, random: Random
) -> tuple[Outcome, dict[str, int]]:
    """Break the worker's connections in every way while readings arrive."""
    with Proxy(server.port, seed=random.randrange(1000)) as proxy, server.client() as client:
        faults: list[Callable[[], bool]] = [
            proxy.reset,
            proxy.drop_reply,
            lambda: proxy.cut_after(random.randrange(2000)),
            lambda: proxy.cut_request_after(random.randrange(4000)),
            lambda: proxy.half_open(random.random() * 0.3),
            lambda: proxy.delay(random.random() * 0.6),
            lambda: proxy.refuse(random.random() * 0.05),
        ]
        pid = home.start(f"{proxy.url}?socket_timeout=0.3", settings={"lease": 1.0})
        last = time.monotonic() + PATIENCE + count
        while proxy.hits.total() < count:
            assert time.monotonic() < last, f"only {proxy.hits} hits"
            feed(client, "readings", 20, random)
            random.choice(faults)()
            time.sleep(random.random() * 0.06)
        hits = dict(proxy.hits)
        end(pid, signal.SIGKILL)
        home.drain(server.url)
        return verify(client, "readings", home.models), hits


def server_kills(
    home: Nursery, server: Server, count: int, random: Random
) -> tuple[Outcome, Counter[str]]:
    """Kill the server under a worker at work; every other time, cut its file in the last commit.

    Also returns how often it was killed and how often its file was cut.
    """
    done: Counter[str] = Counter()
    pid = home.start(server.url, settings={"lease": 1.0})
    for turn in range(count):
        with server.client() as client:
            before = client.xlen("readings:forecasts")
            feed(client, "readings", 500, random)
            wait_for(lambda: client.xlen("readings:forecasts") > before)  # noqa: B023
        time.sleep(random.random() * 0.03)
        server.kill()
        done["killed"] += 1
        cut = truncate_last_transaction(server, random) if turn % 2 else 0
        server.start()
        done["cut"] += bool(cut)
        # A kill may cut a write by itself, where the disk is so busy that the write has to wait.
        if cut or server.cut_short:
            server.rewrite_append_only_files()
    end(pid, signal.SIGTERM)
    home.drain(server.url)
    with server.client() as client:
        return verify(client, "readings", home.models), done


def pauses(home: Nursery, server: Server, count: int, random: Random) -> Outcome:
    """Let the owner of a partition sleep through its lease, mostly between read and commit."""
    with server.client() as client:
        for _ in range(count):
            feed(client, "readings", 120, random)
            step = random.choice(("read", "stepped", "sent", "saved", "renewed"))
            sleeper = home.start(
                server.url, die_at=(step, random.randrange(1, 3)), signal="SIGSTOP"
            )
            wait_for(lambda: asleep(sleeper))  # noqa: B023
            awake = home.start(server.url)
            feed(client, "readings", 60, random)
            wait_for(lambda: all_consumed(client))
            os.kill(sleeper, signal.SIGCONT)
            feed(client, "readings", 60, random)
            time.sleep(random.random() * 0.3)
            end(sleeper, signal.SIGKILL)
            end(awake, signal.SIGTERM)
        home.drain(server.url)
        return verify(client, "readings", home.models)


def all_consumed(client: redis.Redis) -> bool:
    """Tell whether the offset stands at the newest reading."""
    stands: Any = client.get("readings:offset:default")
    return stands is not None and position_of(stands).offset.encode() == last_id(client, "readings")


def stale_commits(home: Nursery, server: Server, random: Random, **wish: Any) -> int:
    """Return how many forecasts a worker writes after its lease has gone to another."""
    with server.client() as client:
        feed(client, "readings", 100, random)
        pid = home.start(server.url, die_at=("stepped", 2), signal="SIGSTOP", **wish)
        wait_for(lambda: asleep(pid) and not client.exists("readings:lease:default"))
        client.set("readings:lease:default", "another")
        before = client.xlen("readings:forecasts")
        told = home.log.read_text().count("in trouble")
        os.kill(pid, signal.SIGCONT)
        wait_for(
            lambda: (
                home.log.read_text().count("in trouble") > told
                or client.xlen("readings:forecasts") > before
            )
        )
        written: int = client.xlen("readings:forecasts") - before
        end(pid, signal.SIGKILL)
        return written


def late_commit(home: Nursery, server: Server, random: Random, **wish: Any) -> Outcome:
    """Let a commit arrive when its sender has long given it up and sent it again."""
    options = {"settings": {"lease": 10.0}, "die_at": ("stepped", 3), **wish}
    with Proxy(server.port) as proxy, server.client() as client:
        feed(client, "readings", 200, random)
        pid = home.start(f"{proxy.url}?socket_timeout=0.8", signal="SIGSTOP", **options)
        wait_for(lambda: asleep(pid))
        wait_for(lambda: proxy.answered)  # the commit before, too
        proxy.delay(2.0, every=True)
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: all_consumed(client))
        wait_for(lambda: not proxy.holding)  # the late one is there now
        end(pid, signal.SIGTERM)
        return verify(client, "readings", home.models)


def last_id(client: redis.Redis, stream: str) -> bytes:
    """Return the id of a stream's newest entry."""
    newest: Any = client.xrevrange(stream, count=1)
    found: bytes = newest[0][0]
    return found


def fleet(home: Nursery, server: Server, turns: int, random: Random) -> Outcome:
    """Let up to five workers of one fleet come and go over eight partitions."""
    streams = [f"readings:{{{number}}}" for number in range(8)]
    crew: list[int] = []
    with server.client() as client:
        for _ in range(turns):
            for stream in streams:
                feed(client, stream, 20, random)
            if len(crew) < 5 and (not crew or random.random() < 0.6):
                crew.append(home.start(server.url, *streams))
            else:
                gone = crew.pop(random.randrange(len(crew)))
                end(gone, random.choice((signal.SIGTERM, signal.SIGKILL)))
            time.sleep(random.random() * 0.2)
        for pid in crew:
            end(pid, signal.SIGTERM)
        home.drain(server.url, *streams)
        outcomes = [verify(client, stream, home.models) for stream in streams]
    return sum(outcomes[1:], outcomes[0])


def troubles(home: Nursery, server: Server, turns: int, random: Random) -> Outcome:
    """Flush scripts, pause clients, fill the memory, drop connections, while clocks jump."""
    with server.client() as client:
        pid = home.start(server.url, clock_steps=random.randrange(1000))
        limits: Sequence[Callable[[], object]] = (
            client.script_flush,
            lambda: client.client_pause(100, all=True),
            lambda: client.config_set("maxmemory", 1),
            lambda: client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
        )
        for turn in range(turns):
            feed(client, "readings", 100, random)
            limits[turn % len(limits)]()
            time.sleep(random.random() * 0.2)
            client.config_set("maxmemory", 0)
        end(pid, signal.SIGTERM)
        home.drain(server.url)
        return verify(client, "readings", home.models)


def key_in_the_way(
    home: Nursery,
    server: Server,
    random: Random,
    put: Callable[[redis.Redis], object] = lambda client: client.rpush("readings:dead", "x"),
    **wish: Any,
) -> Outcome:
    """Put something where the rejects belong while a worker is at work, later take it away."""
    with server.client() as client:
        feed(client, "readings", 300, random)
        # Who loses a lease because the machine is busy finds the key before it commits anything.
        pid = home.start(server.url, settings={"lease": 30.0}, **wish)
        wait_for(lambda: all_consumed(client))
        client.rename("readings:dead", "aside")
        put(client)
        feed(client, "readings", 300, random)
        wait_for(lambda: "readings is in trouble" in home.log.read_text())
        client.delete("readings:dead")
        client.rename("aside", "readings:dead")
        wait_for(lambda: all_consumed(client))
        end(pid, signal.SIGTERM)
        return verify(client, "readings", home.models)
