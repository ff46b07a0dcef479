"""A server's URL, read once; what the others are handed is its parts, and a form fit for a log."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from redis.connection import SSLConnection, parse_url

SENTINEL_PORT = 26379
SENTINEL_SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
FIXED = {
    "ssl_min_version",
    "ssl_ciphers",
    "protocol",
    "decode_responses",
    "retry",
    "redis_connect_func",
    "max_connections",
}
WHY_FIXED = {
    "max_connections": "reading, committing and looking after partitions need a connection each"
}
SENTINEL_LOGIN = {"sentinel_username": "username", "sentinel_password": "password"}
UNREADABLE = "host or port cannot be read (in a password, / ? # [ ] @ are %2F %3F %23 %5B %5D %40)"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server is, or which sentinels know where the primary of ``service`` is.

    Attributes:
        text: the URL without its passwords, for people.
        tls: whether the way there is TLS.
        user: the ACL user, None where the URL names none.
        password: that user's, None where the URL holds none.
        options: all else that the URL says, in the driver's words: host, port, database, the path
            of a socket, and what stands behind the question mark. With sentinels, no host.
        sentinels: the host and port of each; empty where the server itself is named.
        service: what the sentinels call the servers.
        sentinel_login: what the sentinels themselves ask for, in the driver's words.
    """

    text: str
    tls: bool
    user: str | None
    password: str | None = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_login: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_unchecked(self) -> bool:
        """Whether the check of the server's certificate is off."""
        return (
            self.options.get("ssl_cert_reqs") in {"none", "optional"}
            or self.options.get("ssl_check_hostname") is False
        )


def address_of(url: str) -> Address:
    """Read a URL, which may be ``redis+sentinel://user:password@host:port,host:port/service/db``.

    Raises:
        ValueError: it cannot be read, or asks for what may not be chosen. The message never quotes
            what may be a piece of a password.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SENTINEL_SCHEMES:
        return _address(url, url)
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    if "@" in path:
        raise ValueError(UNREADABLE)
    sentinels = tuple(_sentinels(hosts))
    service, _, db = path.rstrip("/").partition("/")
    if not service:
        raise ValueError("the name of the service is missing behind the hosts")
    if db and not re.fullmatch("[0-9]+", db):
        raise ValueError(f"the database {db!r} is no number")
    options = parse_qsl(query)
    others = urlencode([(name, value) for name, value in options if name not in SENTINEL_LOGIN])
    return _address(
        url,
        f"{SENTINEL_SCHEMES[scheme]}://{userinfo}{at}/{db}?{others}",
        sentinels=sentinels,
        service=unquote(service),
        sentinel_login={
            SENTINEL_LOGIN[name]: value for name, value in options if name in SENTINEL_LOGIN
        },
    )


def _address(url: str, server: str, **sentinels: Any) -> Address:
    """Return what a URL says, ``server`` being its server in a URL that the driver reads."""
    parts = _split(server)
    # What the driver would stumble over later, or what would change the replies' shape.
    fixed = FIXED & {name for name, _ in parse_qsl(parts.query)}
    if fixed:
        why = "".join(f": {WHY_FIXED[name]}" for name in fixed & WHY_FIXED.keys())
        raise ValueError(f"{', '.join(sorted(fixed))} cannot be chosen{why}")
    options: dict[str, Any] = parse_url(server)  # type: ignore[no-untyped-call]
    return Address(
        text=masked(url),
        tls=options.get("connection_class") is SSLConnection,
        user=options.pop("username", None),
        # The driver takes "user:@" for no password, and it is the empty one of a user without any.
        password=options.pop("password", parts.password),
        options=options,
        **sentinels,
    )


def _sentinels(hosts: str) -> Iterator[tuple[str, int]]:
    for host in hosts.split(","):
        parts = _split(f"//{host}")
        if not parts.hostname:
            raise ValueError("a sentinel's host is missing")
        yield parts.hostname, parts.port or SENTINEL_PORT


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(UNREADABLE) from None
    (parts.hostname or "").encode("idna")
    return parts


def masked(url: str) -> str:
    """Return a URL fit for a log: without its passwords, wherever they stand."""
    url = re.sub(r"([?&])([^=&]*)=[^&]*", _masked_option, url)
    # Up to the last @, because a password may hold what ends it for a parser.
    return re.sub(r"(?s)^([a-z+]+://)?+[^:]*:.*@", r"\1***@", url)


def _masked_option(found: re.Match[str]) -> str:
    secret = "password" in unquote(found[2]).lower()
    return f"{found[1]}{found[2]}=***" if secret else found[0]


def is_loopback(host: str) -> bool:
    """Tell whether a host is this very machine by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
