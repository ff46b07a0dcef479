"""A TLS server with the users of ``deploy/redis/users.acl``, and certificates for all concerned."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
import trustme

from tests.redis.servers import HOST, Server, client_at, free_port

ACL = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
USERS = ("worker", "feeder", "subscriber", "operator")
ADMINISTRATOR = "user administrator on nopass ~* &* +@all"


def password_of(user: str) -> str:
    """A password that would be found wherever it leaked."""
    return f"s3cret-of-the-{user}"


@dataclass(frozen=True, kw_only=True)
class House:
    """A running TLS server: where it is, and the files with which to enter it."""

    server: Server
    tls_port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.tls_port}"

    def file(self, name: str) -> Path:
        return self.folder / name

    def environment(self, user: str) -> dict[str, str]:
        """What a process of that user finds in its environment: no secret, only files."""
        return {
            "TIDECAST_REDIS_URL": self.url,
            "TIDECAST_REDIS_USER": user,
            "TIDECAST_REDIS_PASSWORD_FILE": str(self.file(f"{user}.password")),
            "TIDECAST_REDIS_CA_FILE": str(self.file("ca.pem")),
            "TIDECAST_REDIS_CERT_FILE": str(self.file("client.pem")),
            "TIDECAST_REDIS_KEY_FILE": str(self.file("client.key")),
        }

    def client(self, user: str) -> redis.Redis:
        """A client of one of the users, over the plain port, for what is no matter of TLS."""
        client = client_at(self.server.port)
        client.connection_pool.connection_kwargs |= {
            "username": user,
            "password": None if user == "administrator" else password_of(user),
        }
        if user == "administrator":
            client.connection_pool.connection_kwargs["password"] = "any"  # noqa: S105 - nopass
        return client


def write_certificate(authority: trustme.CA, folder: Path, name: str, *names: str) -> None:
    """Write a certificate and its key as ``NAME.pem`` and ``NAME.key``."""
    issued = authority.issue_cert(*names)
    issued.private_key_pem.write_to_path(folder / f"{name}.key")
    for number, part in enumerate(issued.cert_chain_pems):
        part.write_to_path(folder / f"{name}.pem", append=number > 0)


@contextmanager
def tls_house(
    folder: Path, *, names: tuple[str, ...] = ("localhost", HOST), acl: bool = True
) -> Iterator[House]:
    """Run a server that speaks TLS and asks for certificates; ``names`` are those of its own."""
    folder.mkdir(parents=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    write_certificate(authority, folder, "server", *names)
    write_certificate(authority, folder, "client", "client@tidecast")
    for user in USERS:
        (folder / f"{user}.password").write_text(password_of(user) + "\n")
    port = free_port()
    directives = [
        f"tls-port {port}",
        f'tls-cert-file "{folder}/server.pem"',
        f'tls-key-file "{folder}/server.key"',
        f'tls-ca-cert-file "{folder}/ca.pem"',
        "tls-auth-clients yes",
    ]
    if acl:
        lines = [with_password(line) for line in ACL.read_text().splitlines()]
        (folder / "users.acl").write_text("\n".join([*lines, ADMINISTRATOR]) + "\n")
        directives.append(f'aclfile "{folder}/users.acl"')
    server = Server(flavour="redis", folder=folder / "server", directives=tuple(directives))
    with server:
        yield House(server=server, tls_port=port, folder=folder)
    shutil.rmtree(folder)


def with_password(line: str) -> str:
    """A line of the ACL file with the digest of the user's password, as an operator adds it."""
    _, user, on, rest = line.split(" ", 3)
    if user not in USERS:
        return line
    digest = hashlib.sha256(password_of(user).encode()).hexdigest()
    return f"user {user} {on} {rest.replace('resetpass', f'resetpass #{digest}', 1)}"
