"""Connections: how long a server is waited for, what is said meanwhile, what is never done."""

import re
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import SSLConnection

from tests.redis.servers import free_port
from tidecast.worker.errors import LostServerError, ServerError, SettingsError
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.login import Login
from tidecast.worker.store.server import backoff, client_of, connect, forget


def clock_of(*seconds: float) -> Callable[[], float]:
    """A clock that shows these times one after the other, and stays at the last."""
    return chain(seconds, repeat(seconds[-1])).__next__


def test_a_server_that_answers_is_taken_without_a_word(server_url: str) -> None:
    with connect(server_url, patience=0, notice=pytest.fail) as client:
        assert client.ping()


def test_an_absent_server_is_told_once_and_given_up_in_time() -> None:
    url = f"redis://u:s3cret@127.0.0.1:{free_port()}/0"
    told: list[str] = []
    with pytest.raises(ServerError) as given_up:
        # At the start, at each of three failures, and when it is given up.
        connect(url, patience=5, notice=told.append, clock=clock_of(100, 101, 104, 105, 105))
    shown = re.escape(url.replace("u:s3cret", "***"))
    (notice,) = told
    assert re.fullmatch(rf"no answer from {shown} yet \(Error 111 .*\); trying for 5 s", notice)
    message = rf"no usable server at {shown} after 3 tries in 5 s \(Error 111 .*\); start it, or .*"
    assert re.fullmatch(message, str(given_up.value))


def test_without_patience_one_try_is_all() -> None:
    with pytest.raises(ServerError, match="after 1 tries in 0 s"):
        connect(f"redis://127.0.0.1:{free_port()}", patience=0, notice=pytest.fail)


def test_a_refused_password_is_told_as_such(client: redis.Redis, server_url: str) -> None:
    client.acl_setuser("u", enabled=True, passwords=["+right"], commands=["+@all"], keys=["*"])
    try:
        wrong = server_url.replace("unix://", "unix://u:wrong@")
        with pytest.raises(ServerError, match="refuses the user name or password") as refused:
            connect(wrong, patience=0, notice=pytest.fail)
        assert "u:wrong" not in str(refused.value)
        right = server_url.replace("unix://", "unix://u:right@")
        with connect(right, patience=0, notice=pytest.fail) as entered:
            assert entered.acl_whoami() == "u"
    finally:
        client.acl_deluser("u")


def test_a_password_is_read_anew_for_each_connection(
    client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    """And a file that is away, while it is replaced, is an outage that passes."""
    file = tmp_path / "password"
    file.write_text("first\n")
    login = Login(user="u", password_file=file)
    client.acl_setuser("u", enabled=True, passwords=["+first"], commands=["+@all"])
    try:
        with connect(server_url, login=login, patience=0, notice=pytest.fail) as ours:
            forget(ours)
            file.unlink()
            with pytest.raises(
                LostServerError, match=r"^the password file .* cannot be read: No s"
            ):
                _ping(ours)
            client.execute_command("ACL", "SETUSER", "u", "resetpass", ">next")  # type: ignore[no-untyped-call]
            file.write_text("next\n")
            _ping(ours)
    finally:
        client.acl_deluser("u")


@driver_errors()
def _ping(client: redis.Redis) -> None:
    client.ping()


def test_pauses_grow_and_never_end() -> None:
    pauses = backoff(longest=1.0)
    found = [pauses.compute(failures) for failures in range(1, 3000)]
    assert min(found) >= 0.1
    assert max(found) == 1.0
    assert found[0] <= 0.3


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///s", "redis+sentinel://h/s"])
def test_a_client_sends_each_command_once_and_waits_so_long(url: str) -> None:
    """Who sends a command knows if it may be sent again; and RESP 2 is what replies are read as."""
    options = client_of(url).connection_pool.connection_kwargs
    assert options["retry"].get_retries() == 0
    assert options["protocol"] == 2
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (10, 5)
    assert options["driver_info"] is None


def test_the_url_may_choose_what_is_not_fixed() -> None:
    pool = client_of("redis://h:7/3?socket_timeout=20&health_check_interval=9").connection_pool
    chosen = {"host": "h", "port": 7, "db": 3, "socket_timeout": 20, "health_check_interval": 9}
    assert pool.connection_kwargs | chosen == pool.connection_kwargs


@pytest.mark.parametrize(("timeout", "theirs"), [("", 2), ("?socket_timeout=1", 1)])
def test_sentinels_are_not_waited_for_so_long(timeout: str, theirs: float) -> None:
    """There are several, asked one after the other."""
    pool: Any = client_of(f"redis+sentinel://:mine@h,i:5/s/3{timeout}").connection_pool
    assert pool.service_name == "s"
    assert pool.connection_kwargs["db"] == 3
    assert pool.connection_kwargs.get("password") == "mine"
    sentinels = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in sentinels] == [("h", 26379), ("i", 5)]
    for one in sentinels:
        assert one["socket_timeout"] == theirs
        assert one["socket_connect_timeout"] == 2
        assert one.get("password") is None  # it is the data server's
        assert one["retry"].get_retries() == 0


def test_tls_is_for_sentinels_and_the_data_server_alike() -> None:
    pool: Any = client_of("rediss+sentinel://h/s?sentinel_password=theirs").connection_pool
    (sentinel,) = pool.sentinel_manager.sentinels
    assert issubclass(pool.connection_class, SSLConnection)
    assert issubclass(sentinel.connection_pool.connection_class, SSLConnection)
    assert sentinel.connection_pool.connection_kwargs.get("password") == "theirs"
    assert pool.connection_kwargs.get("password") is None


def test_a_url_that_is_none_is_refused_with_an_example() -> None:
    with pytest.raises(SettingsError) as refused:
        client_of("http://u:s3cret@h")
    text = str(refused.value)
    assert text.startswith("--redis-url 'http://***@h': ")
    assert text.endswith("redis://localhost:6379/0, or redis+sentinel://localhost:26379/service/0")


def test_who_forgets_his_connections_gets_a_new_one(client: redis.Redis) -> None:
    before = client.client_id()
    assert client.client_id() == before
    forget(client)
    assert client.client_id() != before


@pytest.mark.parametrize(
    ("error", "ours", "said"),
    [
        (
            redis.AuthenticationError("no"),
            LostServerError,
            "the server refuses: no; check user and",
        ),
        (redis.ResponseError("no"), ServerError, "the server refuses: no; check the user's rights"),
        (redis.ConnectionError("gone"), LostServerError, "gone"),
        (redis.TimeoutError("late"), LostServerError, "late"),
        (OSError(5, "broken"), LostServerError, "[Errno 5] broken"),
        (OSError(), LostServerError, "OSError()"),
        (
            redis.ConnectionError("x: certificate has expired"),
            LostServerError,
            "x: certificate has expired [the server needs a new certificate]",
        ),
    ],
)
def test_the_drivers_errors_become_ours(error: Exception, ours: type[Exception], said: str) -> None:
    with pytest.raises(ours, match=f"^{re.escape(said)}") as translated, driver_errors():
        raise error
    assert translated.value.__cause__ is error


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), driver_errors():
        raise ZeroDivisionError
    with driver_errors():
        pass
