"""Where a server is, as its URL says it, and what of a URL may stand in a log."""

import pytest

from tidecast.worker.store.address import Address, address_of, masked


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://u:p@h:7000/3?ssl_ca_certs=/x",
        "redis://[::1]:6379/0",
        "unix:///run/x.sock?db=1",
    ],
)
def test_a_servers_own_url_is_the_drivers_to_read(url: str) -> None:
    assert address_of(url) == Address(server=url)


@pytest.mark.parametrize(
    ("url", "server", "sentinels", "service"),
    [
        ("redis+sentinel://h/s", "redis://localhost/?", (("h", 26379),), "s"),
        (
            "redis+sentinel://u:p@h:1,i/s/2",
            "redis://u:p@localhost/2?",
            (("h", 1), ("i", 26379)),
            "s",
        ),
        ("rediss+sentinel://[::1]:5/s/", "rediss://localhost/?", (("::1", 5),), "s"),
        (
            "redis+sentinel://h/my%2Fown%20one/12",
            "redis://localhost/12?",
            (("h", 26379),),
            "my/own one",
        ),
        ("redis+sentinel://a@b:c@h/s", "redis://a@b:c@localhost/?", (("h", 26379),), "s"),
        ("redis+sentinel://h/s/2/", "redis://localhost/2?", (("h", 26379),), "s"),
        ("redis+sentinel://h/s?a=1&b=2", "redis://localhost/?a=1&b=2", (("h", 26379),), "s"),
    ],
)
def test_sentinels_know_where_a_service_is(
    url: str, server: str, sentinels: tuple[tuple[str, int], ...], service: str
) -> None:
    assert address_of(url) == Address(server=server, sentinels=sentinels, service=service)


def test_what_sentinels_ask_for_is_theirs_alone() -> None:
    found = address_of("redis+sentinel://h/s?sentinel_username=me&x=1&sentinel_password=a%26b")
    assert found.login == {"username": "me", "password": "a&b"}
    assert found.server == "redis://localhost/?x=1"


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
    ],
)
@pytest.mark.parametrize("url", ["redis://h", "redis+sentinel://h/s"])
def test_what_changes_the_replies_cannot_be_chosen(url: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option} cannot be chosen$"):
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
