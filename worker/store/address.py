"""The server's URL: its parts where sentinels are named, and a form fit for a log."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

SENTINEL_PORT = 26379
SENTINEL_SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
FIXED = {
    "ssl_min_version",
    "ssl_ciphers",
    "protocol",
    "decode_responses",
    "retry",
    "redis_connect_func",
}
LOGIN = {"sentinel_username": "username", "sentinel_password": "password"}
UNREADABLE = "host or port cannot be read (in a password, / ? # [ ] @ are %2F %3F %23 %5B %5D %40)"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server is, or which sentinels know where the primary of ``service`` is.

    ``server`` is a URL that redis-py reads. With ``sentinels`` its host stands for any data server;
    ``login`` is what the sentinels themselves ask for.
    """

    server: str = field(repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    login: dict[str, str] = field(default_factory=dict, repr=False)


def address_of(url: str) -> Address:
    """Read a URL, which may be ``redis+sentinel://user:password@host:port,host:port/service/db``.

    Raises:
        ValueError: it cannot be read, or asks for what may not be chosen. The message never quotes
            what may be a piece of a password.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SENTINEL_SCHEMES:
        _check(url)
        return Address(server=url)
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
    others = urlencode([(name, value) for name, value in options if name not in LOGIN])
    server = f"{SENTINEL_SCHEMES[scheme]}://{userinfo}{at}localhost/{db}?{others}"
    _check(server)
    login = {LOGIN[name]: value for name, value in options if name in LOGIN}
    return Address(server=server, sentinels=sentinels, service=unquote(service), login=login)


def _sentinels(hosts: str) -> Iterator[tuple[str, int]]:
    for host in hosts.split(","):
        parts = _split(f"//{host}")
        if not parts.hostname:
            raise ValueError("a sentinel's host is missing")
        yield parts.hostname, parts.port or SENTINEL_PORT


def _check(url: str) -> None:
    """Refuse what the driver would stumble over later, or what would change the replies' shape."""
    fixed = FIXED & {name for name, _ in parse_qsl(_split(url).query)}
    if fixed:
        raise ValueError(f"{', '.join(sorted(fixed))} cannot be chosen")


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
