"""Campaigns in which single partitions come to harm, and the others must not notice.

Each fault is done to one partition's keys and undone later, so that nothing of it is left that a
worker could not mend: in the end every reading has its forecast exactly once.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import redis

from tests.redis.campaigns import Nursery, end, feed, last_id
from tests.redis.proxy import Proxy
from tests.redis.servers import Server
from tests.redis.verifier import Outcome, verify
from tests.redis.waiting import wait_for
from tidecast.worker.store.keys import (
    checkpoint_key,
    dead_key,
    forecasts_key,
    lease_key,
    offset_key,
)
from tidecast.worker.store.position import position_of

FLEET = "default"
STREAMS = [f"readings:{{{number}}}" for number in range(5)]
PUT_IN_THE_WAY = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end
redis.call('RPUSH', KEYS[1], 'in the way')
"""
TAKE_AWAY = """
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end
"""
USE_UP = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end
redis.call('XADD', KEYS[1], ARGV[1], 'in', 'the way')
redis.call('XDEL', KEYS[1], ARGV[1])
"""
LAST = f"{2**64 - 1}-{2**64 - 1}"
Undo = Callable[[], object]
Fault = Callable[[redis.Redis, str], Undo]


def in_the_way(key_of: Callable[[str], str]) -> Fault:
    """Lay a list where something else belongs; what was there comes back unharmed."""

    def fault(client: redis.Redis, stream: str) -> Undo:
        key = key_of(stream)
        client.eval(PUT_IN_THE_WAY, 2, key, f"{key}:aside")
        return lambda: client.eval(TAKE_AWAY, 2, key, f"{key}:aside")

    return fault


def moved(client: redis.Redis, stream: str) -> Undo:
    """Set the offset to what is no entry id. From there nobody can move it, so it can come back."""
    key = offset_key(stream, FLEET)
    before: Any = client.getset(key, "noon")
    return lambda: client.set(key, before)


def stolen(client: redis.Redis, stream: str) -> Undo:
    """Take the lease away, move the offset while it is gone, and bring both back."""
    lease, offset = lease_key(stream, FLEET), offset_key(stream, FLEET)
    client.set(lease, "thief")
    before: Any = client.getset(offset, "1-0")

    def undo() -> None:
        client.set(offset, before)
        client.delete(lease)

    return undo


def used_up(key_of: Callable[[str], str]) -> Fault:
    """Leave a stream without an id for another entry; what was there comes back unharmed."""

    def fault(client: redis.Redis, stream: str) -> Undo:
        key = key_of(stream)
        client.eval(USE_UP, 2, key, f"{key}:aside", LAST)
        client.xadd(stream, {"series": "s0", "value": "abc"})  # so that there is a reject
        return lambda: client.eval(TAKE_AWAY, 2, key, f"{key}:aside")

    return fault


FAULTS: dict[str, Fault] = {
    "input": in_the_way(lambda stream: stream),
    "forecasts": in_the_way(lambda stream: forecasts_key(stream, FLEET)),
    "dead": in_the_way(lambda stream: dead_key(stream, FLEET)),
    "offset": in_the_way(lambda stream: offset_key(stream, FLEET)),
    "lease": in_the_way(lambda stream: lease_key(stream, FLEET)),
    "checkpoint": in_the_way(lambda stream: checkpoint_key(stream, FLEET)),
    "no entry id": moved,
    "thief": stolen,
    "forecasts' ids": used_up(lambda stream: forecasts_key(stream, FLEET)),
    "dead letters' ids": used_up(lambda stream: dead_key(stream, FLEET)),
}
WITHOUT_INPUT = {"input"}
"""While this is done to a stream, nobody can put readings on it."""


def one_in_trouble(
    home: Nursery,
    server: Server,
    turns: int,
    random: Random,
    *,
    faults: Sequence[str] = tuple(FAULTS),
    **wish: Any,
) -> tuple[Outcome, Counter[str]]:
    """Harm one partition after the other, while nothing else happens to three workers.

    The others must go on meanwhile, and none of them may be restored. Also returns how often each
    fault was done.

    Raises:
        AssertionError: another partition stopped, or was taken from the server again.
    """
    done: Counter[str] = Counter()
    with server.client() as client:
        # Nobody is to lose a lease because the machine is busy.
        settings = {"lease": 30.0}
        crew = [home.start(server.url, *STREAMS, settings=settings, **wish) for _ in range(3)]
        wait_for(lambda: shared(client, 3))
        go_on(client, STREAMS, random)
        for turn in range(turns):
            name = faults[turn % len(faults)]
            victim = random.choice(STREAMS)
            others = [stream for stream in STREAMS if stream != victim]
            restored = restores(home, others)
            undo = FAULTS[name](client, victim)
            if name not in WITHOUT_INPUT:
                feed(client, victim, 20, random)
            wait_for(lambda: not held(client, victim))  # noqa: B023
            go_on(client, others, random)
            undo()
            feed(client, victim, 20, random)
            wait_for(lambda: consumed(client)(victim))  # noqa: B023
            again = restores(home, others) - restored
            assert not again, f"{name} of {victim}: {again} were restored, too"
            done[name] += 1
        for pid in crew:
            end(pid, signal.SIGTERM)
        return drained(home, server, client), done


def troubles_in_a_storm(
    home: Nursery, server: Server, turns: int, random: Random
) -> tuple[Outcome, Counter[str]]:
    """Harm single partitions while workers are killed and a network lies; the others go on.

    Also returns how often each fault was done.

    Raises:
        AssertionError: another partition stopped.
    """
    done: Counter[str] = Counter()
    settings = {"lease": 1.0}
    with Proxy(server.port, seed=random.randrange(1000)) as proxy, server.client() as client:
        urls = [server.url, server.url, f"{proxy.url}?socket_timeout=0.5"]
        crew = [home.start(url, *STREAMS, settings=settings) for url in urls]
        go_on(client, STREAMS, random)
        storm: Sequence[Callable[[], object]] = (
            proxy.reset,
            proxy.drop_reply,
            lambda: proxy.cut_after(random.randrange(2000)),
            lambda: proxy.half_open(random.random() * 0.3),
        )
        for _ in range(turns):
            name, victim = random.choice(list(FAULTS)), random.choice(STREAMS)
            undo = FAULTS[name](client, victim)
            if name not in WITHOUT_INPUT:
                feed(client, victim, 20, random)
            if random.random() < 0.3:
                place = random.randrange(len(crew))
                end(crew[place], random.choice((signal.SIGKILL, signal.SIGTERM)))
                crew[place] = home.start(urls[place], *STREAMS, settings=settings)
            random.choice(storm)()
            go_on(client, [stream for stream in STREAMS if stream != victim], random)
            undo()
            feed(client, victim, 20, random)
            time.sleep(random.random() * 0.2)
            done[name] += 1
        for pid in crew:
            end(pid, signal.SIGKILL)
        return drained(home, server, client), done


def go_on(client: redis.Redis, streams: Sequence[str], random: Random) -> None:
    """Wait until streams have been read to their end, several times over."""
    for _ in range(3):
        for stream in streams:
            feed(client, stream, 10, random)
        wait_for(lambda: all(map(consumed(client), streams)))


def consumed(client: redis.Redis) -> Callable[[str], bool]:
    """Return what tells whether a stream's offset stands at its newest reading."""

    def tell(stream: str) -> bool:
        stands: Any = client.get(offset_key(stream, FLEET))
        return bool(position_of(stands or b"").offset.encode() == last_id(client, stream))

    return tell


def held(client: redis.Redis, stream: str) -> bool:
    """Tell whether a worker has the lease of a stream."""
    key = lease_key(stream, FLEET)
    return client.type(key) == b"string" and client.get(key) not in (None, b"thief")


def shared(client: redis.Redis, workers: int) -> bool:
    """Tell whether all streams are held, by so many workers and evenly: none will move any more."""
    owners = Counter(client.get(lease_key(stream, FLEET)) for stream in STREAMS)
    even = max(owners.values()) - min(owners.values()) <= 1
    return None not in owners and len(owners) == workers and even


def restores(home: Nursery, streams: Sequence[str]) -> Counter[str]:
    """Count how often each stream was taken from the server, by all workers."""
    log = home.log.read_text()
    return Counter({stream: log.count(f"follow {stream} after") for stream in streams})


def drained(home: Nursery, server: Server, client: redis.Redis) -> Outcome:
    """Let a worker that nothing disturbs end the work, and compare."""
    home.drain(server.url, *STREAMS)
    outcomes = [verify(client, stream, home.models) for stream in STREAMS]
    return sum(outcomes[1:], outcomes[0])
