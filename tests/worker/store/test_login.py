"""How a URL and a login go together, and what is refused before anything is sent."""

import socket
from pathlib import Path

import pytest
import redis
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tidecast.worker.errors import LostServerError, SettingsError
from tidecast.worker.settings import Settings
from tidecast.worker.store.address import address_of, is_loopback, masked
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.login import Login, read_password
from tidecast.worker.store.server import client_of


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("s3cret\n")
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    trustme.CA().issue_cert("a@b").private_key_and_cert_chain_pem.write_to_path(tmp_path / "c.pem")
    return tmp_path / "c.pem"


def test_a_password_file_loses_the_end_of_its_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(" a b \r\n")
    assert read_password(path) == " a b "


@pytest.mark.parametrize(
    ("url", "user", "named"),
    [
        ("redis://h", None, None),
        ("redis://h", "u", "u"),
        ("redis://u@h/3", None, "u"),
        ("redis://u%40x@h", "u@x", "u@x"),
        ("redis+sentinel://u@h,i/s", None, "u"),
    ],
)
def test_a_user_comes_from_either_side(
    password: Path, url: str, user: str | None, named: str | None
) -> None:
    known = client_of(url, Login(user=user, password_file=password)).connection_pool
    assert not {"username", "password"} & known.connection_kwargs.keys()
    said = known.connection_kwargs["credential_provider"].get_credentials()
    assert said == ((named, "s3cret") if named else ("s3cret",))


@pytest.mark.parametrize(
    ("url", "user", "said"),
    [
        ("redis://u:p@h/1", None, ("u", "p")),
        ("redis://u:p@h/1", "u", ("u", "p")),
        ("redis://:p@h/1", "u", ("u", "p")),
        ("redis://:p@h/1", None, (None, "p")),
        ("redis://u%3A%40:p%2F%23@h", None, ("u:@", "p/#")),
        ("redis://u:@h", None, ("u", "")),  # a user whom the server asks for no password
        ("redis://u@h?password=p", None, ("u", "p")),
        ("unix://u@/s?password=p", None, ("u", "p")),
        ("rediss+sentinel://u:p@h,i/s/2", None, ("u", "p")),
        ("redis://h", None, (None, None)),
    ],
)
def test_a_url_may_hold_user_and_password(
    url: str, user: str | None, said: tuple[str | None, str | None]
) -> None:
    known = client_of(url, Login(user=user)).connection_pool.connection_kwargs
    assert (known["username"], known["password"]) == said


def test_a_url_is_read_once_for_all() -> None:
    address = address_of(
        "rediss+sentinel://u:s%2Fcret@a,b:7,[fd00::1]:8/the%20service/2?ssl_cert_reqs=none"
        "&sentinel_username=su&sentinel_password=sp&socket_timeout=3"
    )
    assert address.sentinels == (("a", 26379), ("b", 7), ("fd00::1", 8))
    assert (address.service, address.tls, address.is_unchecked) == ("the service", True, True)
    assert (address.user, address.password) == ("u", "s/cret")
    assert address.sentinel_login == {"username": "su", "password": "sp"}
    assert address.options == {
        "db": 2,
        "ssl_cert_reqs": "none",
        "socket_timeout": 3.0,
        "connection_class": redis.SSLConnection,
    }
    assert address.text == (
        "rediss+sentinel://***@a,b:7,[fd00::1]:8/the%20service/2?ssl_cert_reqs=none"
        "&sentinel_username=su&sentinel_password=***&socket_timeout=3"
    )
    plain = address_of("redis://h:7/3")
    assert (plain.options, plain.tls) == ({"host": "h", "port": 7, "db": 3}, False)
    assert (plain.user, plain.password, plain.sentinels) == (None, None, ())


@pytest.mark.parametrize(
    ("url", "told", "message"),
    [
        ("redis://:p@h", {"password_file": "password"}, "leave one out"),
        ("redis://h?password=p", {"password_file": "password"}, "leave one out"),
        ("redis+sentinel://u:p@h/s", {"password_file": "password"}, "leave one out"),
        ("redis://a@h", {"password_file": "password", "user": "b"}, "names the user 'a'"),
        ("redis://h", {"user": "b"}, "no password for the user 'b'"),
        ("redis://h", {"password_file": "nowhere"}, "No such file"),
        ("redis://h", {"password_file": "empty"}, "is empty"),
        ("redis://h", {"password_file": "."}, "is no file"),
        ("redis://h", {"ca_file": "c.pem"}, "--redis-ca-file is for TLS"),
        ("unix:///s", {"cert_file": "c.pem"}, "--redis-cert-file is for TLS"),
        ("rediss://h", {"key_file": "c.pem"}, "--redis-key-file without --redis-cert-file"),
        ("rediss://h", {"ca_file": "nowhere"}, "No such file"),
        ("rediss://h", {"ca_file": "password"}, "no usable PEM file"),
        ("rediss://h", {"cert_file": "password"}, "no usable PEM file"),
        ("rediss://h", {"cert_file": "c.pem", "key_file": "password"}, "no usable PEM file"),
    ],
)
@pytest.mark.usefixtures("password", "certificate")
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, url: str, told: dict[str, str], message: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    paths = {k: tmp_path / v for k, v in told.items() if k != "user"}
    login = Login(user=told.get("user"), **paths)
    with pytest.raises(SettingsError, match=message) as refused:
        client_of(url, login)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.0.5", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("fd00::1", False),
        ("0.0.0.0", False),  # noqa: S104 - an address to look at
        ("db.example", False),
    ],
)
def test_what_is_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) == here


@pytest.mark.parametrize("value", ["no", "False", "0", "n"])
def test_a_check_that_is_off_is_seen(value: str) -> None:
    assert address_of(f"rediss://h?ssl_check_hostname={value}").is_unchecked
    assert address_of("rediss://h?ssl_cert_reqs=none").is_unchecked
    # Of two, the driver takes the first.
    assert address_of("rediss://h?ssl_cert_reqs=none&ssl_cert_reqs=required").is_unchecked
    assert not address_of("rediss://h?ssl_cert_reqs=required&ssl_check_hostname=yes").is_unchecked


@pytest.mark.parametrize("option", ["ssl_min_version=769", "ssl_ciphers=NULL"])
def test_a_url_cannot_weaken_tls(option: str) -> None:
    with pytest.raises(SettingsError, match="cannot be chosen"):
        client_of(f"rediss://h?{option}")


def test_the_logins_files_win_over_the_urls(certificate: Path) -> None:
    url = "rediss://h?ssl_ca_certs=/elsewhere"
    options = client_of(url, Login(ca_file=certificate)).connection_pool.connection_kwargs
    assert options["ssl_ca_certs"] == str(certificate)


def test_tls_is_never_older_than_it_should_be(certificate: Path) -> None:
    login = Login(cert_file=certificate)
    for url in ("rediss://h", "rediss+sentinel://h/s"):
        options = client_of(url, login).connection_pool.connection_kwargs
        assert options["ssl_min_version"].name == "TLSv1_2"
        assert options["ssl_certfile"] == str(certificate)


def test_a_key_that_is_encrypted_is_refused_and_nobody_is_asked_for_its_password(
    tmp_path: Path,
) -> None:
    issued = trustme.CA().issue_cert("a@b")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "c.pem")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
    )
    (tmp_path / "k.pem").write_bytes(encrypted)
    with pytest.raises(
        SettingsError, match=r"--redis-cert-file .*c\.pem with its key .*k\.pem: no us"
    ):
        client_of("rediss://h", Login(cert_file=tmp_path / "c.pem", key_file=tmp_path / "k.pem"))


LOST = [
    ("ca", None, "names is gone"),
    ("ca", "", "look at the files of --redis-ca-file"),
    ("ca", "no PEM", "look at the files of --redis-ca-file"),
    ("cert", None, "names is gone"),
    ("cert", "no PEM", "look at the files of --redis-ca-file"),
    ("key", None, "names is gone"),
    ("key", "no PEM", "look at the files of --redis-ca-file"),
    ("key", "another's", "look at the files of --redis-ca-file"),
]


@pytest.mark.parametrize(("name", "content", "told"), LOST)
def test_a_file_that_is_lost_or_spoilt_after_the_start_is_told(
    name: str, content: str | None, told: str, tmp_path: Path
) -> None:
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority = trustme.CA()
    authority.cert_pem.write_to_path(paths["ca"])
    issued, other = authority.issue_cert("a@b"), authority.issue_cert("c@d")
    issued.cert_chain_pems[0].write_to_path(paths["cert"])
    issued.private_key_pem.write_to_path(paths["key"])
    login = Login(ca_file=paths["ca"], cert_file=paths["cert"], key_file=paths["key"])
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        url = f"rediss://127.0.0.1:{somebody.getsockname()[1]}"
        with client_of(url, login) as client:
            if content is None:
                paths[name].unlink()
            elif content == "another's":
                other.private_key_pem.write_to_path(paths[name])
            else:
                paths[name].write_text(content)
            with pytest.raises(LostServerError, match=told):
                _ping(client)


def test_a_socket_that_is_not_there_is_no_matter_of_tls(tmp_path: Path) -> None:
    with (
        client_of(f"unix://{tmp_path}/none.sock") as client,
        pytest.raises(LostServerError, match=r"No such file or directory\.$"),
    ):
        _ping(client)


@driver_errors()
def _ping(client: redis.Redis) -> None:
    client.ping()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h", "this URL names none"),
        ("redis+sentinel://h/s?sentinel_password=s3cret", "leave one out"),
    ],
)
def test_a_password_for_sentinels_is_for_sentinels(url: str, why: str, password: Path) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        client_of(url, Login(sentinel_password_file=password))
    assert "s3cret" not in str(caught.value)


def test_the_sentinels_password_is_looked_at_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        client_of("redis+sentinel://h/s", Login(sentinel_password_file=tmp_path / "none"))


def test_nothing_that_is_printed_holds_a_password(password: Path) -> None:
    url = "redis://u:s3cret@h/1"
    settings = Settings.load(None, redis_url="rediss://:s3cret@h", redis_password_file=password)
    login = Login(user="u", password_file=password)
    sentinels = address_of("redis+sentinel://:s3cret@h/s?sentinel_password=s3cret")
    shown = [settings, settings.login, login, sentinels, address_of(url)]
    shown += [sentinels.text, address_of("redis://h?password=s3cret")]
    shown += [client_of(url), client_of(url).connection_pool, client_of("redis://h", login)]
    shown.append(client_of("redis+sentinel://h/s", Login(sentinel_password_file=password)))
    shown.append(client_of("redis://h", login).connection_pool.make_connection())
    for one in shown:
        assert "s3cret" not in f"{one!r} {one}"
    assert "s3cret" not in masked(url)
    assert masked("redis://h?pass%77ord=s3cret&x=1") == "redis://h?pass%77ord=***&x=1"
