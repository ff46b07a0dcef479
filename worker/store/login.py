"""How to enter a server: whose password, which certificates; checked before anything is sent.

Secrets come from files, so that none stands in a process's arguments or environment. The password
is read anew for each connection, and certificates too, so a file that was replaced counts from the
next one.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.credentials import CredentialProvider

from tidecast.worker.store.address import Address


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

    def applied(self, address: Address) -> dict[str, Any]:
        """Return who we are to the server at an address, and how we know it, for the driver.

        Raises:
            ValueError: a file cannot be used, or the URL and the login contradict each other. The
                message quotes no password.
        """
        options = self._tls(address)
        if self.user and address.user and address.user != self.user:
            raise ValueError(
                f"it names the user {address.user!r} and --redis-user names {self.user!r}"
            )
        user = self.user or address.user
        if self.password_file is None:
            if user and address.password is None:
                raise ValueError(
                    f"no password for the user {user!r}; --redis-password-file names one"
                )
            return options | {"username": user, "password": address.password}
        if address.password is not None:
            raise ValueError("it holds a password and --redis-password-file another; leave one out")
        return options | {"credential_provider": _FileCredentials(user, self.password_file)}

    def applied_to_sentinels(self, address: Address) -> dict[str, Any]:
        """Return who we are to the sentinels at an address, for the driver.

        Raises:
            ValueError: there is a password for sentinels, and the URL names none or has one for
                them, or the file cannot be used.
        """
        if self.sentinel_password_file is None:
            return address.sentinel_login
        option = "--redis-sentinel-password-file"
        if not address.sentinels:
            raise ValueError(f"{option} is for sentinels, and this URL names none")
        if "password" in address.sentinel_login:
            raise ValueError(f"it holds a sentinel_password and {option} another; leave one out")
        user = address.sentinel_login.get("username")
        return {"credential_provider": _FileCredentials(user, self.sentinel_password_file)}

    def _tls(self, address: Address) -> dict[str, Any]:
        files = {
            "--redis-ca-file": self.ca_file,
            "--redis-cert-file": self.cert_file,
            "--redis-key-file": self.key_file,
        }
        given = [name for name, path in files.items() if path is not None]
        if not address.tls:
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


class _FileCredentials(CredentialProvider):
    """A user and the password that its file holds when a connection is made.

    Raises:
        ValueError: the file cannot be read now.
    """

    def __init__(self, user: str | None, path: Path) -> None:
        read_password(path)
        self._user = user
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return what to log in with; a file that is being replaced is there in a moment."""
        try:
            password = read_password(self._path)
        except ValueError as error:
            raise redis.ConnectionError(str(error)) from error
        return (self._user, password) if self._user else (password,)


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
