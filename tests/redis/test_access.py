"""The whole line under the least rights, over mutual TLS; and every other thing a user may try."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.model_files import write_mean_model
from tests.redis.servers import flavours
from tests.redis.tls import USERS, House, password_of, tls_house
from tests.redis.waiting import wait_for
from tidecast.worker.store.keys import dead_key, forecasts_key

pytestmark = pytest.mark.skipif(
    "redis" not in flavours() and "CI" not in os.environ, reason="no redis-server is installed"
)

KEYS = {
    "input": "readings:{0}",
    "forecasts": "readings:{0}:forecasts",
    "dead": "readings:{0}:dead",
    "forecasts of another fleet": "readings:{0}:forecasts:summer",
    "dead of another fleet": "readings:{0}:dead:summer",
    "offset": "readings:{0}:offset:default",
    "lease": "readings:{0}:lease:default",
    "checkpoint": "readings:{0}:checkpoint:default",
    "fleets": "readings:{0}:fleets",
    "members": "tidecast:members:default",
    "other": "orders",
    "beside the input": "readings:{0}x}",
    "beside the forecasts": "readings:{9}:forecasts{0}",
    "a name too long": "readings:{12345}",
}
MAY: dict[str, dict[str, set[str]]] = {
    "worker": {
        "": {"ping", "info", "time", "role", "script|load"},
        "input": {
            *("xread", "xrange", "xinfo|stream", "xinfo|groups", "xpending", "exists"),
            *("xgroup|create", "xgroup|setid", "xgroup|destroy", "xtrim", "evalsha"),
        },
        "forecasts": {"xadd", "xtrim", "type", "xinfo|stream", "evalsha"},
        "dead": {"xadd", "xtrim", "type", "xinfo|stream", "evalsha"},
        "offset": {"get", "set", "type", "exists", "evalsha"},
        "lease": {"get", "set", "type", "pttl", "pexpire", "del", "evalsha"},
        "checkpoint": {"hset", "hget", "hmget", "hkeys", "hdel", "evalsha"},
        "fleets": {"sadd", "smembers"},
        "members": {"zadd", "zrem", "zrange", "zremrangebyscore", "pexpire", "evalsha"},
    },
    "feeder": {"": {"ping", "info"}, "input": {"xadd"}},
    "subscriber": {
        "": {"ping", "info", "unsubscribe", "punsubscribe"},
        "forecasts": {"xread", "xrange", "xrevrange", "xlen"},
    },
    "operator": {
        "": {"ping", "info", "time", "role", "script|load", "scan"},
        "input": {
            *("xinfo|stream", "xinfo|groups", "xrange", "xrevrange", "xlen", "xadd"),
            *("type", "evalsha"),
        },
        "dead": {"xlen", "xrange", "xrevrange", "xdel", "type", "evalsha"},
        "offset": {"get"},
        "lease": {"get"},
        "checkpoint": {"hmget"},
        "members": {"zrange", "pttl"},
    },
}
for of_user in MAY.values():
    of_user |= {f"{k} of another fleet": of_user[k] for k in ("forecasts", "dead") if k in of_user}
"""What each user may do: commands without a key, then those on each kind of key."""
CHANNELS = {"worker": {"publish"}, "subscriber": {"subscribe", "psubscribe"}}
ALWAYS = {"auth", "hello", "quit", "reset"}
"""What the server lets anybody do who is connected: log in, hang up."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with tls_house(tmp_path_factory.mktemp("tls") / "house") as found:
        yield found


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _alone(house: House) -> Iterator[None]:
    """An empty server for each test, and no process left behind."""
    with house.client("administrator") as client:
        client.flushall()
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def command(house: House, user: str, *words: str | Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tidecast.worker", *map(str, words)],
        env=os.environ | house.environment(user),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def finished(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


@pytest.mark.parametrize("fleet", ["default", "summer"])
def test_the_whole_line_runs_under_the_least_rights(
    house: House, tmp_path: Path, fleet: str
) -> None:
    forecasts, dead = forecasts_key("readings:{0}", fleet), dead_key("readings:{0}", fleet)
    whose = ("--fleet", fleet)
    model = write_mean_model(tmp_path / "m.onnx", n_steps=2)
    rows = tmp_path / "rows.csv"
    rows.write_text("value\n" + "".join(f"{value}\n" for value in range(100)) + "abc\n7\n")
    inputs = ("--input", "readings:{0}")
    watching = command(house, "subscriber", "watch", "--series", "ro*", "--count", "50", *whose)
    with house.client("administrator") as client:
        wait_for(lambda: client.pubsub_numpat() == 1)
        options = ("--trim", "--checkpoint-every", "0.2", "--from", "earliest", *whose)
        worker = command(house, "worker", "run", *inputs, "--models", model, *options)
        for _ in range(2):  # a second worker, for the leases' sake
            finished(command(house, "feeder", "feed", str(rows), *inputs, "--rate", "max"))
        wait_for(lambda: client.xlen(forecasts) == 201)
        standby = command(house, "worker", "run", *inputs, "--models", model, *whose)
        wait_for(lambda: client.zcard(f"tidecast:members:{fleet}") == 2)
        wait_for(lambda: client.hexists(f"readings:{{0}}:checkpoint:{fleet}", "manifest"))
        out, err = finished(command(house, "operator", "status", "--json"))
        status = json.loads(out)
        assert status["partitions"][0]["errors"] == []
        assert status["partitions"][0]["checkpoint_error"] is None
        assert len(status["fleets"][0]["members"]) == 2
        out, _ = finished(
            command(house, "operator", "dead-letters", "list", *inputs, "--json", *whose)
        )
        first, second = (letter["id"] for letter in json.loads(out)["letters"])
        finished(command(house, "operator", "dead-letters", "retry", *inputs, first, *whose))
        wait_for(lambda: client.xlen(dead) == 2)  # it is as wrong as before
        finished(command(house, "operator", "dead-letters", "drop", *inputs, second, *whose))
        words = ("--series", "rows", "--fleet", fleet, "--patience", "120")
        out, err = finished(command(house, "operator", "forget", *inputs, *words))
        assert (out, err) == (f"fleet {fleet} forgot series rows\n", "")
        for process in (standby, worker):
            process.send_signal(signal.SIGTERM)
            _, err = finished(process)
            assert "WARNING" not in err
        assert client.exists(f"readings:{{0}}:lease:{fleet}") == 0
    out, _ = finished(watching)
    assert len(out.splitlines()) == 50
    with house.client("subscriber") as client:
        assert len(client.xrange(forecasts)) == 201


def commands_of(house: House) -> dict[str, int]:
    """Every command that the server knows, or its subcommands, with the words it takes at least."""
    with house.client("administrator") as client:
        names = client.execute_command("COMMAND LIST")
        told: Any = client.execute_command("COMMAND INFO", *names)
    found: dict[str, int] = {}
    rows = list(told.values()) if isinstance(told, dict) else told
    for row in rows:
        name, arity, subcommands = _facts(row)
        if not subcommands:
            found[name] = abs(arity)
        for sub in subcommands:
            name, arity, _ = _facts(sub)
            found[name] = abs(arity)
    return found


def _facts(row: Any) -> tuple[str, int, list[Any]]:
    if isinstance(row, dict):
        name, arity, below = row["name"], row["arity"], row.get("subcommands", [])
    else:
        name, arity, below = row[0], row[1], row[9]
    return (name.decode() if isinstance(name, bytes) else name).lower(), arity, below


def words_of(name: str, arity: int, key: str) -> list[str]:
    """A command with as many words as it wants, each of them a key where one may stand."""
    words = name.split("|")
    return [*words, *[key] * (arity - len(words))]


SHAPES = {
    "info": ["memory"],
    "xread": ["STREAMS", "{key}", "0-0"],
    "evalsha": ["x", "1", "{key}"],
    "set": ["{key}", "v"],
    "xtrim": ["{key}", "MAXLEN", "1"],
    "xpending": ["{key}", "g"],
}
"""Commands whose keys the server finds only in a sentence that makes sense."""


def sentence(name: str, arity: int, key: str) -> list[str]:
    shape = SHAPES.get(name)
    return [name, *(w.format(key=key) for w in shape)] if shape else words_of(name, arity, key)


@pytest.mark.parametrize("user", USERS)
def test_each_user_may_do_what_is_listed_and_nothing_else(house: House, user: str) -> None:
    may = MAY[user]
    with house.client("administrator") as client:
        found, wrong = commands_of(house), []
        assert len(found) > 300
        for kind, key in KEYS.items():
            listed = may.get("", set()) | may.get(kind, set()) | ALWAYS
            listed |= CHANNELS.get(user, set())
            for name, arity in found.items():
                answer: Any = client.execute_command(
                    "ACL DRYRUN", user, *sentence(name, arity, key)
                )
                if (answer == b"OK") != (name in listed):
                    wrong.append((kind, name, answer))
    # A key's name as the channel is somebody else's channel.
    wrong = [one for one in wrong if one[1] not in CHANNELS.get(user, set())]
    assert wrong == []


@pytest.mark.parametrize("user", USERS)
def test_what_is_not_listed_is_refused_on_the_wire(house: House, user: str) -> None:
    """The same, done for real: the server refuses before it looks at what is asked."""
    every = set().union(*MAY[user].values()) | CHANNELS.get(user, set()) | ALWAYS
    with house.client(user) as client:
        for name, arity in commands_of(house).items():
            if name in every:
                continue
            with pytest.raises(redis.ResponseError) as refused:
                client.execute_command(*sentence(name, arity, KEYS["input"]))
            # DEBUG and MODULE are off for everybody unless the configuration says otherwise.
            told = str(refused.value)
            assert "no permissions" in told or "command not allowed" in told, (name, told)


@pytest.mark.parametrize("user", USERS)
def test_channels_of_others_are_closed(house: House, user: str) -> None:
    with house.client("administrator") as client:
        for name in ("publish", "subscribe", "psubscribe", "spublish", "ssubscribe"):
            for channel in ("forecast:boiler-7", "forecast@summer:b", "orders", "forecas", "*"):
                tail = ["x"] if "publish" in name else []
                answer: Any = client.execute_command("ACL DRYRUN", user, name, channel, *tail)
                listed = name in CHANNELS.get(user, set()) and channel.startswith(
                    ("forecast:", "forecast@")
                )
                # Patterns are compared as they are written.
                listed = listed and name != "psubscribe"
                assert (answer == b"OK") == listed, (name, channel, answer)
        for channel in ("forecast:*", "forecast@*"):
            answer = client.execute_command("ACL DRYRUN", user, "psubscribe", channel)
            assert (answer == b"OK") == (user == "subscriber")


@pytest.mark.parametrize(
    ("words", "channels"),
    [
        ((), "forecast:*"),
        (("--series", "boiler-7"), "forecast:*"),
        (("--series", "boiler-*", "--fleet", "summer"), "forecast@summer:*"),
    ],
)
def test_who_may_hear_nothing_is_told_so(house: House, words: list[str], channels: str) -> None:
    _, err = finished(command(house, "feeder", "watch", *words), code=2)
    assert err.count("\n") == 1
    assert f"the server does not let this user hear {channels}" in err
    assert "give it that right" in err


def test_nobody_enters_without_a_password(house: House) -> None:
    with house.client("worker") as client:
        client.connection_pool.connection_kwargs |= {"username": None, "password": None}
        with pytest.raises(redis.AuthenticationError):
            client.ping()
    for user in ("default", *USERS):
        with house.client("worker") as client:
            client.connection_pool.connection_kwargs |= {"username": user, "password": "guess"}
            with pytest.raises(redis.AuthenticationError):
                client.ping()


def test_no_secret_appears_anywhere(house: House, tmp_path: Path) -> None:
    """Logs, status, errors and process arguments, of runs that work and of runs that do not."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    told = []
    worker = command(house, "worker", "run", "--models", model, "--input", "readings:{0}")
    with house.client("administrator") as client:
        wait_for(lambda: client.exists("readings:{0}:lease:default"))
        told += [str(client.client_list()), str(client.get("readings:{0}:lease:default"))]
    told.append(Path(f"/proc/{worker.pid}/cmdline").read_text())
    told += finished(command(house, "operator", "status"))
    worker.send_signal(signal.SIGTERM)
    told += finished(worker)
    wrong = house.file("wrong.password")
    wrong.write_text("s3cret-of-the-thief")
    words = ("run", "--models", model, "--redis-password-file", wrong)
    told += finished(command(house, "worker", *words), code=2)
    told += finished(
        command(house, "worker", "status", "--redis-url", "redis://:s3cret-of-the-url@x:y/"), code=2
    )
    assert "refuses the user name or password" in "".join(told)
    key = house.file("client.key").read_text().splitlines()[1]
    for text in told:
        assert "s3cret" not in text
        assert key not in text


def test_a_new_password_counts_from_the_next_connection(house: House, tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    path = house.file("worker.password")
    inputs = ("--input", "readings:{0}", "--from", "earliest")
    worker = command(house, "worker", "run", "--models", model, *inputs)
    with house.client("administrator") as client:
        wait_for(lambda: client.exists("readings:{0}:lease:default"))
        client.execute_command("ACL SETUSER", "worker", ">another", f"<{password_of('worker')}")
        client.execute_command("CLIENT KILL", "USER", "worker")
        # A mounted secret follows seconds later; until then the server refuses, and is asked again.
        wait_for(lambda: "auth" in str(client.acl_log()))
        path.write_text("another")
        client.xadd("readings:{0}", {"value": 1})
        wait_for(lambda: client.xlen("readings:{0}:forecasts") == 1)
        worker.send_signal(signal.SIGTERM)
        finished(worker)
        client.execute_command("ACL SETUSER", "worker", f">{password_of('worker')}", "<another")
        path.write_text(password_of("worker"))
