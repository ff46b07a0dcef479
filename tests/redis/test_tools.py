"""The servers and the bad network that the fault tests stand on do what they say."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from tests.redis import soak
from tests.redis.proxy import Proxy
from tests.redis.servers import HOST, Server, client_at, truncate_last_transaction
from tests.redis.waiting import wait_for

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"
THREE_WRITES = "for i = 1, 3 do redis.call('RPUSH', KEYS[1], ARGV[1]) end"


@pytest.fixture
def proxy(durable_server: Server) -> Iterator[Proxy]:
    with Proxy(durable_server.port) as proxy:
        yield proxy


@pytest.fixture
def direct(durable_server: Server) -> Iterator[redis.Redis]:
    """A client that the faults of the network do not reach."""
    with durable_server.client() as client:
        yield client


@pytest.fixture
def far(proxy: Proxy) -> Iterator[redis.Redis]:
    """A client with one open connection through the proxy."""
    with proxy.client() as client:
        client.ping()
        yield client


def raw(proxy: Proxy) -> socket.socket:
    """Return a bare connection through the proxy, which has been answered once."""
    connection = socket.create_connection((HOST, proxy.port), 10)
    connection.sendall(PING)
    assert connection.recv(100) == PONG
    return connection


# Servers


def test_a_crash_keeps_every_acknowledged_write(durable_server: Server) -> None:
    acknowledged: list[int] = []

    def reaches(count: int) -> bool:
        return len(acknowledged) > count

    def write() -> None:
        with durable_server.client() as client, suppress(redis.ConnectionError):
            while True:
                client.rpush("list", len(acknowledged))
                acknowledged.append(len(acknowledged))

    for crash in range(1, 4):
        writer = threading.Thread(target=write)
        writer.start()
        wait_for(partial(reaches, 50 * crash))
        durable_server.kill()
        writer.join()
        durable_server.start()
        with durable_server.client() as client:
            values: Any = client.lrange("list", 0, -1)
        assert {int(value) for value in values} >= set(acknowledged)
        assert len(values) <= len(acknowledged) + crash  # the last of each may or may not stand


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs util-linux")
def test_a_server_does_not_outlive_tests_that_are_killed(
    server_flavour: str, tmp_path: Path
) -> None:
    code = (
        "import os, signal; from pathlib import Path; from tests.redis.servers import Server\n"
        f"server = Server(flavour={server_flavour!r}, folder=Path({str(tmp_path / 's')!r}))\n"
        "server.start(); print(server.process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(killed.stdout)
    wait_for(lambda: gone(pid))


def gone(pid: int) -> bool:
    """Tell whether a process has ended; what nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_stopped_server_comes_back_on_its_port_with_its_data(durable_server: Server) -> None:
    url = durable_server.url
    with durable_server.client() as client:
        client.set("key", "value")
        durable_server.stop()
        assert not durable_server.alive
        with pytest.raises(redis.ConnectionError):
            client.ping()
        durable_server.start()
        assert client.get("key") == b"value"
        durable_server.restart()
        assert client.get("key") == b"value"
    assert durable_server.url == url


def test_a_paused_server_accepts_and_does_not_answer(durable_server: Server) -> None:
    with durable_server.client(timeout=0.05) as hasty, durable_server.client() as client:
        durable_server.pause()
        with pytest.raises(redis.TimeoutError):
            hasty.incr("counter")
        durable_server.resume()
        assert client.incr("counter") >= 1
    durable_server.pause()
    durable_server.stop()
    assert not durable_server.alive


def test_start_waits_until_the_data_are_loaded(server_flavour: str, tmp_path: Path) -> None:
    slow = ("key-load-delay 1000", "loading-process-events-interval-bytes 1024")
    with Server(flavour=server_flavour, folder=tmp_path / "s", directives=slow) as server:
        with server.client() as client:
            client.mset({f"key{i}": "x" * 100 for i in range(200)})
            client.save()
        server.restart()
        with server.client() as client:
            assert client.dbsize() == 200
    assert not server.folder.exists()


def test_a_server_that_cannot_start_says_why(server_flavour: str, tmp_path: Path) -> None:
    server = Server(flavour=server_flavour, folder=tmp_path / "s", directives=("nonsense 1",))
    with pytest.raises(RuntimeError, match="nonsense"):
        server.start()
    assert not server.alive


def test_a_replica_follows_its_primary(durable_server: Server, tmp_path: Path) -> None:
    with (
        Proxy(durable_server.port) as proxy,
        Server(
            flavour=durable_server.flavour, folder=tmp_path / "r", replica_of=proxy.port
        ) as replica,
        durable_server.client() as primary,
        replica.client() as reader,
    ):
        primary.set("key", 1)
        wait_for(lambda: reader.get("key") == b"1")
        assert proxy.reset()
        primary.set("key", 2)
        wait_for(lambda: reader.get("key") == b"2")


# A power failure


def test_a_cut_takes_exactly_the_last_transaction(durable_server: Server) -> None:
    random = Random(1)
    for stand in range(6):
        with durable_server.client() as client:
            assert client.llen("list") == 3 * stand
            client.eval(THREE_WRITES, 1, "list", "kept")
            client.set("looks like one", b"*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nEXEC\r\n")
            client.eval(THREE_WRITES, 1, "list", "lost")
            client.set("after", stand)
        size = durable_server.append_only_files()[-1].stat().st_size
        durable_server.kill()
        cut = truncate_last_transaction(durable_server, random)
        assert cut > 0
        assert durable_server.append_only_files()[-1].stat().st_size == size - cut
        durable_server.start()
        with durable_server.client() as client:
            assert client.lrange("list", 3 * stand, -1) == [b"kept"] * 3
            assert client.exists("looks like one") == 1
            assert client.get("after") is None
        durable_server.rewrite_append_only_files()


def test_every_place_of_a_cut_drops_the_whole_transaction(durable_server: Server) -> None:
    """One start per byte would take long: these are the first and the last place."""

    class Place(Random):
        def __init__(self, place: Callable[[int, int], int]) -> None:
            super().__init__()
            self.place = place

        def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
            assert stop is not None
            assert step == 1
            return self.place(start, stop - 1)

    for place in (min, max):
        with durable_server.client() as client:
            client.eval(THREE_WRITES, 1, "list", "lost")
        durable_server.kill()
        assert truncate_last_transaction(durable_server, Place(place)) > 0
        durable_server.start()
        with durable_server.client() as client:
            assert client.exists("list") == 0
        durable_server.rewrite_append_only_files()


def test_without_a_transaction_nothing_is_cut(durable_server: Server) -> None:
    with durable_server.client() as client:
        client.set("key", "MULTI")
        with pytest.raises(RuntimeError, match="kill it first"):
            truncate_last_transaction(durable_server, Random(1))
        durable_server.kill()
        assert truncate_last_transaction(durable_server, Random(1)) == 0
        durable_server.start()
        assert client.get("key") == b"MULTI"


# The network


def test_without_a_fault_everything_passes(proxy: Proxy, far: redis.Redis) -> None:
    value = Random(1).randbytes(3_000_000)
    far.set("big", value)
    assert far.get("big") == value
    pipeline = far.pipeline()
    for i in range(2_000):
        pipeline.rpush("list", i)
    assert pipeline.execute()[-1] == 2_000
    assert set(proxy.hits.values()) == {0}


def test_a_fault_without_a_connection_hits_nothing(proxy: Proxy) -> None:
    assert not proxy.delay(1)
    assert not proxy.reset(every=True)
    assert not proxy.cut_after(1)
    assert not proxy.cut_request_after(1)
    assert not proxy.half_open(1)
    assert not proxy.reset_half_open()
    assert not proxy.drop_reply()
    assert set(proxy.hits.values()) == {0}


def test_delay(proxy: Proxy, far: redis.Redis) -> None:
    start = time.monotonic()
    assert proxy.delay(0.5)
    assert far.incr("counter") == 1
    assert time.monotonic() - start >= 0.5
    assert proxy.hits["delay"] == 1


def test_a_delayed_request_arrives_though_its_sender_has_given_up(
    proxy: Proxy, direct: redis.Redis
) -> None:
    with proxy.client(timeout=0.5) as hasty:
        wait_for(lambda: answers(hasty))
        assert proxy.delay(1.5)
        with pytest.raises(redis.TimeoutError):
            hasty.incr("counter")
    wait_for(lambda: direct.get("counter") == b"1")


def test_reset(proxy: Proxy) -> None:
    with closing(raw(proxy)) as one, closing(raw(proxy)) as another:
        assert proxy.reset(every=True)
        for connection in (one, another):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    assert proxy.hits["reset"] == 2


def test_a_client_sees_a_reset_only_while_it_waits(
    proxy: Proxy, far: redis.Redis, direct: redis.Redis
) -> None:
    """redis-py looks at an idle connection before it uses it, and opens another."""
    assert proxy.reset()
    assert far.ping()

    def strike() -> None:
        wait_for(lambda: clients(direct, "blocked") == 1)
        assert proxy.reset()

    with ThreadPoolExecutor() as pool:
        struck = pool.submit(strike)
        with pytest.raises(redis.ConnectionError):
            far.blpop(["list"])
        struck.result()
    assert proxy.hits["reset"] == 2


def test_one_of_several_connections_is_chosen_by_the_seed(durable_server: Server) -> None:
    def hit(seed: int) -> list[int]:
        with Proxy(durable_server.port, seed=seed) as proxy, ExitStack() as stack:
            connections = [stack.enter_context(closing(raw(proxy))) for _ in range(4)]
            assert proxy.half_open(600)
            assert proxy.half_open(600)
            for connection in connections:
                connection.sendall(PING)
            wait_for(lambda: proxy.hits["half_open"] == 2)
            assert proxy.reset_half_open()
            return [i for i, connection in enumerate(connections) if is_reset(connection)]

    def is_reset(connection: socket.socket) -> bool:
        try:
            assert connection.recv(100) == PONG
        except ConnectionResetError:
            return True
        return False

    first = hit(3)
    assert len(first) == 2
    assert hit(3) == first
    assert any(hit(seed) != first for seed in range(4, 10))


@pytest.mark.parametrize("count", [0, 1, 6])
def test_cut_after(proxy: Proxy, count: int) -> None:
    with closing(raw(proxy)) as connection:
        assert proxy.cut_after(count)
        if count:
            connection.sendall(PING)
            assert connection.recv(100) == PONG[:count]
        assert connection.recv(100) == b""
    assert proxy.hits["cut_after"] == 1


def test_a_cut_reply_is_an_error_to_a_client(proxy: Proxy, far: redis.Redis) -> None:
    far.set("big", b"x" * 500_000)
    assert proxy.cut_after(300_000)
    with pytest.raises(redis.ConnectionError):
        far.get("big")
    assert proxy.hits["cut_after"] == 1
    assert far.strlen("big") == 500_000


def test_a_cut_request_is_not_executed(proxy: Proxy, far: redis.Redis, direct: redis.Redis) -> None:
    assert proxy.cut_request_after(10)
    with pytest.raises(redis.ConnectionError):
        far.incr("counter")
    assert proxy.hits["cut_request_after"] == 1
    assert direct.get("counter") is None
    assert far.incr("counter") == 1


def clients(direct: redis.Redis, kind: str = "connected") -> int:
    info: Any = direct.info("clients")
    return int(info[f"{kind}_clients"])


def test_half_open(proxy: Proxy, direct: redis.Redis) -> None:
    with proxy.client(timeout=0.5) as hasty:
        wait_for(lambda: answers(hasty))
        assert proxy.half_open(600)
        before = clients(direct)
        with pytest.raises(redis.TimeoutError):
            hasty.incr("counter")
    assert proxy.hits["half_open"] == 1
    assert clients(direct) == before  # the server does not learn that its client has gone
    assert direct.get("counter") is None
    assert proxy.reset_half_open()
    wait_for(lambda: clients(direct) == before - 1)
    assert not proxy.reset_half_open()


def test_a_half_open_connection_is_reset_in_the_end(proxy: Proxy) -> None:
    with closing(raw(proxy)) as connection:
        assert proxy.half_open(0.05)
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    assert not proxy.reset_half_open()
    assert proxy.hits["half_open"] == 0  # there was nothing to swallow


def test_drop_reply(proxy: Proxy, far: redis.Redis, direct: redis.Redis) -> None:
    for count in range(1, 51):
        assert proxy.drop_reply()
        with pytest.raises(redis.ConnectionError):
            far.incr("counter")
        assert direct.get("counter") == str(count).encode()
        assert proxy.hits["drop_reply"] == count
        assert far.ping()


def test_a_request_under_way_is_answered_before_the_next_ones_reply_is_dropped(
    proxy: Proxy, direct: redis.Redis
) -> None:
    with closing(raw(proxy)) as connection:
        connection.sendall(b"*3\r\n$5\r\nBLPOP\r\n$4\r\nlist\r\n$1\r\n0\r\n")
        wait_for(lambda: clients(direct, "blocked") == 1)
        assert proxy.drop_reply()
        direct.rpush("list", "x")
        assert connection.recv(100) == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"
        connection.sendall(b"*2\r\n$4\r\nINCR\r\n$7\r\ncounter\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    assert direct.get("counter") == b"1"


def test_refuse(proxy: Proxy, far: redis.Redis) -> None:
    assert proxy.refuse(3.0)
    assert not proxy.refuse(3.0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, proxy.port), 10)
    with proxy.client() as late:
        with pytest.raises(redis.ConnectionError):
            late.ping()
        assert far.ping()  # it has its connection already
        wait_for(lambda: answers(late))
    assert proxy.hits["refuse"] == 1


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False


def test_a_dead_server_and_its_return_are_seen_through_the_proxy(
    durable_server: Server, far: redis.Redis
) -> None:
    far.set("key", "value")
    durable_server.kill()
    for _ in range(20):
        assert not answers(far)
    durable_server.start()
    assert far.get("key") == b"value"


def test_a_server_that_reads_nothing_holds_its_senders_up(durable_server: Server) -> None:
    with Proxy(durable_server.port) as proxy, closing(raw(proxy)) as connection:
        durable_server.pause()
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.sendall(b"x" * 100_000_000)


def test_hundreds_of_faults_leave_nothing_behind(durable_server: Server) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    files, threads = open_files(), threading.active_count()
    random = Random(1)
    with Proxy(durable_server.port, seed=1) as proxy, proxy.client() as client:
        while proxy.hits.total() < 500:
            # A fault without a connection to hit needs one first.
            answers(client)
            random.choice(FAULTS)(proxy)
        assert min(proxy.hits.values()) > 0
        left = client_at(proxy.port)
        wait_for(lambda: answers(left))
    assert not answers(left)
    left.close()
    proxy.close()
    assert threading.active_count() == threads
    assert open_files() == files


FAULTS: list[Callable[[Proxy], bool]] = [
    lambda proxy: proxy.delay(0.001),
    lambda proxy: proxy.reset(),
    lambda proxy: proxy.cut_after(3),
    lambda proxy: proxy.cut_request_after(3),
    lambda proxy: proxy.half_open(0.001),
    lambda proxy: proxy.drop_reply(),
    lambda proxy: proxy.refuse(0.001),
]


def test_every_suite_that_the_soak_runs_is_there() -> None:
    assert all(Path(file).is_file() for *_, file in soak.SUITES.values())
