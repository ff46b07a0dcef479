"""Where a server is, as its URL says it, and what of a URL may stand in a log."""

import pytest

from tidecast.worker.store.address import address_of, masked


@pytest.mark.parametrize(
    ("url", "options", "tls", "login"),
    [
        ("redis://h", {"host": "h"}, False, (None, None)),
        (
            "rediss://u:p@h:7000/3?ssl_ca_certs=/x",
            {"host": "h", "port": 7000, "db": 3, "ssl_ca_certs": "/x"},
            True,
            ("u", "p"),
        ),
        ("redis://[::1]:6379/0", {"host": "::1", "port": 6379, "db": 0}, False, (None, None)),
        ("unix:///run/x.sock?db=1", {"path": "/run/x.sock", "db": 1}, False, (None, None)),
    ],
)
def test_a_servers_own_url_is_the_drivers_to_read(
    url: str, options: dict[str, object], tls: bool, login: tuple[str | None, str | None]
) -> None:
    found = address_of(url)
    kept = {name: value for name, value in found.options.items() if name != "connection_class"}
    assert (kept, found.tls, (found.user, found.password)) == (options, tls, login)
    assert (found.sentinels, found.service, found.sentinel_login) == ((), "", {})


@pytest.mark.parametrize(
    ("url", "db", "user", "sentinels", "service"),
    [
        ("redis+sentinel://h/s", None, None, (("h", 26379),), "s"),
        ("redis+sentinel://u:p@h:1,i/s/2", 2, "u", (("h", 1), ("i", 26379)), "s"),
        ("rediss+sentinel://[::1]:5/s/", None, None, (("::1", 5),), "s"),
        ("redis+sentinel://h/my%2Fown%20one/12", 12, None, (("h", 26379),), "my/own one"),
        ("redis+sentinel://a@b:c@h/s", None, "a@b", (("h", 26379),), "s"),
        ("redis+sentinel://h/s/2/", 2, None, (("h", 26379),), "s"),
    ],
)
def test_sentinels_know_where_a_service_is(
    url: str,
    db: int | None,
    user: str | None,
    sentinels: tuple[tuple[str, int], ...],
    service: str,
) -> None:
    found = address_of(url)
    assert (found.sentinels, found.service) == (sentinels, service)
    assert (found.options.get("db"), found.user, found.tls) == (db, user, url.startswith("rediss"))


def test_what_sentinels_ask_for_is_theirs_alone() -> None:
    url = "redis+sentinel://h/s?sentinel_username=me&socket_timeout=3&sentinel_password=a%26b"
    found = address_of(url)
    assert found.sentinel_login == {"username": "me", "password": "a&b"}
    assert found.options["socket_timeout"] == 3
    assert not found.options.keys() & {"username", "password", "sentinel_username"}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://h", "name of the service is missing"),
        ("redis+sentinel://h//0", "name of the service is missing"),
        ("redis+sentinel://h,/s", "a sentinel's host is missing"),
        ("redis+sentinel://h/s/x", "the database 'x' is no number"),
        ("redis+sentinel://h/s/1x", "the database '1x' is no number"),
        ("redis+sentinel://h:noport/s", "host or port cannot be read"),
        ("redis+sentinel://:pa/ss@h/s", "host or port cannot be read"),
        ("redis://h:99999", "host or port cannot be read"),
        ("redis+sentinel://h/s?protocol=3", "protocol cannot be chosen"),
        ("redis://h?retry=1&protocol=3", "protocol, retry cannot be chosen"),
    ],
)
def test_what_cannot_be_read_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        address_of(url)
    assert "ss@h" not in str(refused.value)
    assert refused.value.__cause__ is None  # it would quote the URL


@pytest.mark.parametrize(
    "option",
    [
        "ssl_min_version",
        "ssl_ciphers",
        "protocol",
        "decode_responses",
        "retry",
        "redis_connect_func",
        "max_connections",
    ],
)
@pytest.mark.parametrize("url", ["redis://h", "redis+sentinel://h/s"])
def test_what_changes_the_replies_cannot_be_chosen(url: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option} cannot be chosen($|: reading, .* each$)"):
        address_of(f"{url}?{option}=1")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://u:p@h/0", "redis://***@h/0"),
        ("redis://u:p@q@h/0", "redis://***@h/0"),
        ("redis://u:a\nb@h", "redis://***@h"),
        ("u:p@h", "***@h"),
        ("redis://h?db=1&ssl_Password=x&a=b", "redis://h?db=1&ssl_Password=***&a=b"),
        (
            "redis+sentinel://u:p@h,i/s?sentinel_password=x",
            "redis+sentinel://***@h,i/s?sentinel_password=***",
        ),
    ],
)
def test_a_log_shows_all_but_the_passwords(url: str, shown: str) -> None:
    assert masked(url) == shown
