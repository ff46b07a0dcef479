"""Makes each password of the compose file, once, in the volume of those who need it.

    python3 passwords.py FOLDER...

A folder gets ``password`` and, for the server, ``server.conf`` with the same one. The files are
for all users to read: each service is one of its own, and a volume is seen only where it is
mounted.
"""

import secrets
import sys
from pathlib import Path


def make(folder: Path) -> None:
    """Write the folder's files unless a password is there already."""
    password = folder / "password"
    if not password.exists():
        write(password, secrets.token_urlsafe(32))
    write(folder / "server.conf", f"requirepass {password.read_text()}\n")


def write(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    unfinished.chmod(0o444)
    unfinished.replace(path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        make(Path(name))
