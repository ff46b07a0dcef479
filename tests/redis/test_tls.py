"""Certificates that do not fit, and ports that speak something else: a clear line, never less."""

import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from tests.model_files import write_mean_model
from tests.redis.servers import Server, flavours
from tests.redis.tls import ACL, House, tls_house
from tests.redis.waiting import wait_for

needs_redis = pytest.mark.skipif(
    "redis" not in flavours() and "CI" not in os.environ, reason="no redis-server is installed"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with tls_house(tmp_path_factory.mktemp("tls") / "house", names=("localhost",)) as found:
        yield found


def status(house: House, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """What the operator's ``status`` says, with something else in its environment."""
    merged: dict[str, str | None] = {**os.environ, **house.environment("operator"), **environment}
    return subprocess.run(
        [sys.executable, "-m", "tidecast.worker", "status"],
        env={name: value for name, value in merged.items() if value is not None}
        | {"TIDECAST_CONNECT_PATIENCE": "0.5"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@needs_redis
def test_with_all_in_place_the_server_answers(house: House) -> None:
    assert status(house).returncode == 0


@needs_redis
def test_an_authority_that_is_not_ours_is_not_trusted(house: House, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    for value in (str(other), None):
        result = status(house, TIDECAST_REDIS_CA_FILE=value)
        assert result.returncode == 2
        assert "certificate verify failed" in result.stderr
        assert "--redis-ca-file names the one that is" in result.stderr
        assert "tries in" in result.stderr  # it did try again


@needs_redis
def test_a_certificate_for_another_name_is_refused(house: House) -> None:
    result = status(house, TIDECAST_REDIS_URL=f"rediss://127.0.0.1:{house.tls_port}")
    assert result.returncode == 2
    assert "the URL must name the server as its certificate does" in result.stderr


@needs_redis
def test_a_server_that_wants_our_certificate_says_so(house: House) -> None:
    bare = {"TIDECAST_REDIS_CERT_FILE": None, "TIDECAST_REDIS_KEY_FILE": None}
    result = status(house, **bare)
    assert result.returncode == 2
    assert "a certificate of ours that it trusts: --redis-cert-file" in result.stderr


@needs_redis
def test_our_own_certificate_of_another_authority_is_refused(house: House, tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("client@tidecast")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    own = {"TIDECAST_REDIS_CERT_FILE": str(tmp_path / "both.pem"), "TIDECAST_REDIS_KEY_FILE": None}
    result = status(house, **own)
    assert result.returncode == 2
    assert "a certificate of ours that it trusts: --redis-cert-file" in result.stderr


@needs_redis
def test_plain_text_to_a_tls_port_is_told_and_tls_to_a_plain_one(house: House) -> None:
    files = {f"TIDECAST_REDIS_{name}_FILE": None for name in ("CA", "CERT", "KEY")}
    url = f"redis://localhost:{house.tls_port}"
    result = status(house, TIDECAST_REDIS_URL=url, **files)
    assert result.returncode == 2
    assert "a port that speaks TLS does that to plain text" in result.stderr
    result = status(house, TIDECAST_REDIS_URL=f"rediss://localhost:{house.server.port}")
    assert result.returncode == 2
    assert "a port that does not speak TLS does that too; nothing was sent" in result.stderr


@needs_redis
def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    with tls_house(tmp_path / "house") as house:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(house.file("ca2.pem"))
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        issued = authority.issue_cert("localhost", not_after=past)
        issued.private_key_pem.write_to_path(house.file("server.key"))
        issued.cert_chain_pems[0].write_to_path(house.file("server.pem"))
        house.server.restart()
        result = status(house, TIDECAST_REDIS_CA_FILE=str(house.file("ca2.pem")))
        assert result.returncode == 2
        assert "certificate has expired" in result.stderr
        assert "the server needs a new certificate" in result.stderr


@needs_redis
def test_a_running_worker_waits_for_a_certificate_it_can_trust(tmp_path: Path) -> None:
    """The server's certificate is replaced by a wrong one, and then by a right one again."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    log = tmp_path / "log"
    with tls_house(tmp_path / "house") as house:
        right = {name: house.file(name).read_bytes() for name in ("server.pem", "server.key")}
        command = [sys.executable, "-m", "tidecast.worker", "run", "--models", str(model)]
        command += ["--from", "earliest"]  # it may come back after the reading
        with (
            log.open("w") as file,
            subprocess.Popen(
                command, stderr=file, env=os.environ | house.environment("worker")
            ) as worker,
        ):
            try:
                wait_for(lambda: "follow readings" in log.read_text())
                issued = trustme.CA().issue_cert("localhost")
                issued.private_key_pem.write_to_path(house.file("server.key"))
                issued.cert_chain_pems[0].write_to_path(house.file("server.pem"))
                house.server.restart()
                wait_for(lambda: "its authority is not trusted" in log.read_text())
                assert worker.poll() is None
                for name, content in right.items():
                    house.file(name).write_bytes(content)
                house.server.restart()
                with house.client("administrator") as client:
                    wait_for(lambda: bool(client.exists("readings:lease:default")))
                    client.xadd("readings", {"value": 1})
                    wait_for(lambda: client.xlen("readings:forecasts") == 1)
            finally:
                worker.terminate()
        assert worker.returncode == 0


@pytest.mark.parametrize("flavour", flavours())
def test_every_flavour_takes_the_users(flavour: str, tmp_path: Path) -> None:
    users = tmp_path / "users.acl"
    users.write_text(ACL.read_text() + "user administrator on nopass ~* &* +@all\n")
    directives = (f'aclfile "{users}"',)
    with Server(flavour=flavour, folder=tmp_path / "s", directives=directives) as server:
        client = redis.Redis(port=server.port, username="administrator", password="any")  # noqa: S106
        names = client.acl_users()
        client.close()
    found = {name.decode() if isinstance(name, bytes) else name for name in names}
    assert found >= {"worker", "feeder", "subscriber", "operator"}


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])  # noqa: S104 - it leads to this machine
def test_an_open_server_elsewhere_is_told_once(host: str, tmp_path: Path, server_url: str) -> None:
    """The address 0.0.0.0 leads to this machine too, and is no loopback address."""
    del server_url
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    with Server(flavour=flavours()[0], folder=tmp_path / "s") as server:
        command = [
            sys.executable,
            "-m",
            "tidecast.worker",
            "run",
            "--burst",
            "--models",
            str(model),
        ]
        result = subprocess.run(
            [*command, "--redis-url", f"redis://{host}:{server.port}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert result.stderr.count("lets anyone in") == (host == "0.0.0.0")  # noqa: S104
