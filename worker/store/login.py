"""How to enter a server: whose password, which certificates; checked before anything is sent.

Secrets come from files, so that none stands in a process's arguments or environment. The password
is read anew for each connection, and certificates too, so a file that was replaced counts from the
next one.
"""

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

USERINFO = re.compile(r"(?s)^([a-z+]+://)([^/?]*)@")
TLS_SCHEMES = ("rediss://", "rediss+sentinel://")


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who we are to a server and how we know it; paths of PEM files where TLS is meant.

    Attributes:
        user: the ACL user; None: the URL's, or the server's default user.
        password_file: holds the user's password and nothing else.
        ca_file: who may vouch for the server; None: whom this machine trusts.
        cert_file: our own certificate, with those that lead to its authority behind it.
        key_file: the certificate's key, not encrypted; None: it is in ``cert_file``.
        sentinel_password_file: holds what the sentinels themselves ask for.
    """

    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    sentinel_password_file: Path | None = None

    def applied(self, url: str) -> tuple[str, str | None, dict[str, Any]]:
        """Return the URL without a user, that user, and options for the driver.

        A URL that holds a password keeps both.

        Raises:
            ValueError: a file cannot be used, or the URL and the login contradict each other. The
                message quotes no password.
        """
        options = self._tls(url)
        url, named, has_password = _without_user(url)
        if self.user and named and named != self.user:
            raise ValueError(f"it names the user {named!r} and --redis-user names {self.user!r}")
        user = self.user or named
        if has_password and self.password_file is not None:
            raise ValueError("it holds a password and --redis-password-file another; leave one out")
        if self.password_file is not None:
            read_password(self.password_file)
        elif user and not has_password:
            raise ValueError(f"no password for the user {user!r}; --redis-password-file names one")
        elif user and not named:
            options["username"] = user
        return url, user, options

    def check_sentinels(self, *, named: bool, has_password: bool) -> None:
        """Refuse a password for sentinels that a URL does not name, or has a password for.

        Raises:
            ValueError: it is so, or the file cannot be used.
        """
        if self.sentinel_password_file is None:
            return
        option = "--redis-sentinel-password-file"
        if not named:
            raise ValueError(f"{option} is for sentinels, and this URL names none")
        if has_password:
            raise ValueError(f"it holds a sentinel_password and {option} another; leave one out")
        read_password(self.sentinel_password_file)

    def _tls(self, url: str) -> dict[str, Any]:
        files = {
            "--redis-ca-file": self.ca_file,
            "--redis-cert-file": self.cert_file,
            "--redis-key-file": self.key_file,
        }
        given = [name for name, path in files.items() if path is not None]
        if not url.startswith(TLS_SCHEMES):
            if given:
                raise ValueError(f"{given[0]} is for TLS, and this URL is not; rediss:// is")
            return {}
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("--redis-key-file without --redis-cert-file")
        _check_files(self.ca_file, self.cert_file, self.key_file)
        options = {
            "ssl_ca_certs": self.ca_file,
            "ssl_certfile": self.cert_file,
            "ssl_keyfile": self.key_file,
        }
        found = {name: str(path) for name, path in options.items() if path is not None}
        return {"ssl_min_version": ssl.TLSVersion.TLSv1_2, **found}


def read_password(path: Path) -> str:
    """Return what a file holds, without the end of its line.

    Raises:
        ValueError: it cannot be read, or holds no password.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"the password file {path} is no file")
    try:
        password = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"the password file {path} cannot be read: {reason}") from error
    if not password:
        raise ValueError(f"the password file {path} is empty")
    return password


def _without_user(url: str) -> tuple[str, str | None, bool]:
    """Return a URL without a user that has no password, that user, and if there is a password."""
    found = USERINFO.match(url)
    if found is None:
        return url, None, False
    user, colon, _ = found[2].partition(":")
    if colon:
        return url, unquote(user) or None, True
    return found[1] + url[found.end() :], unquote(user) or None, False


def _check_files(ca: Path | None, certificate: Path | None, key: Path | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"--redis-ca-file {ca}: {_said(error)}") from error
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"--redis-cert-file {certificate} with its key {key or 'in it'}: {_said(error)}"
            ) from error


def _said(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no usable PEM file ({error.reason or error})"
    return error.strerror or str(error)


def is_unchecked(url: str) -> bool:
    """Tell whether a URL turns the check of the server's certificate off, in the driver's words."""
    query = {name: value.lower() for name, value in parse_qsl(urlsplit(url).query)}
    off = {"0", "f", "false", "n", "no"}
    return (
        query.get("ssl_cert_reqs") in {"none", "optional"} or query.get("ssl_check_hostname") in off
    )


def is_loopback(host: str) -> bool:
    """Tell whether a host is this very machine by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
