"""The compose file, its passwords and its server."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import redis
import yaml

from tests.deploy.images import ROOT
from tests.redis.servers import HOST, Server

FILE = ROOT / "deploy" / "compose.yaml"
FOLDER = ROOT / "deploy" / "compose"
WHOLE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = WHOLE["services"]
STREAMS = [f"readings:{{{number}}}" for number in range(4)]
JOBS = {"passwords", "record", "trainer"}
"""What ends by itself; all other services are to run on."""
SILENT = {"feeder"}
"""What listens nowhere; it ends when it cannot go on."""
OURS_TO_SAY = ("include", "port", "dir")


def server_of(flavour: str, folder: Path, passwords: Path) -> Server:
    """Return the compose file's server, with a port and a folder of its own."""
    lines = (FOLDER / "server.conf").read_text().splitlines()
    told = [line for line in lines if not line.startswith(OURS_TO_SAY)]
    include = f'include "{passwords / "server.conf"}"'
    return Server(flavour=flavour, folder=folder, directives=(include, *told))


def write_record(folder: Path) -> None:
    """Write the history and the rows to replay, as the job ``record`` does."""
    subprocess.run([sys.executable, FOLDER / "record.py", folder], check=True)


def client_of(server: Server, passwords: Path) -> redis.Redis:
    """Return a client that has the password."""
    password = (passwords / "password").read_text()
    return redis.Redis(host=HOST, port=server.port, password=password, protocol=2)
