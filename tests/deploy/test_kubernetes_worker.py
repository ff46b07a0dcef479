"""A worker that is told just what the manifests say does its work, with the rights it is given."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from tests.deploy.manifests import CONTAINER, MOUNTS, each_overlay, settings_of
from tests.model_files import write_mean_model
from tests.redis.servers import flavours, free_port
from tests.redis.tls import House, password_of, tls_house
from tests.redis.waiting import wait_for
from tidecast.worker.settings import expanded

pytestmark = pytest.mark.skipif(
    "redis" not in flavours() and "CI" not in os.environ, reason="no redis-server is installed"
)

SECRET = {
    "password": "worker.password",
    "ca.crt": "ca.pem",
    "tls.crt": "client.pem",
    "tls.key": "client.key",
}
"""The keys of the Secret, and which of the house's files they hold."""


def asked(port: str, path: str) -> tuple[int, str]:
    """Return the status and text of an answer, 0 where nobody listens."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except URLError:
        return 0, ""


def probe(kind: str, port: str) -> int:
    """Return what the kubelet would be answered."""
    return asked(port, CONTAINER[f"{kind}Probe"]["httpGet"]["path"])[0]


def told_by(overlay: str, house: House, folder: Path, port: str) -> dict[str, str]:
    """Return an overlay's settings with places of this machine; mounts become folders."""
    for name, file in SECRET.items():
        (folder / "secret").mkdir(exist_ok=True)
        (folder / "secret" / name).symlink_to(house.file(file))
    told = settings_of(overlay)
    for mount, here in (("redis", folder / "secret"), ("models", folder / "models")):
        inside = MOUNTS[mount]["mountPath"]
        told = {name: value.replace(inside, str(here)) for name, value in told.items()}
    return told | {"TIDECAST_REDIS_URL": f"{house.url}/0", "TIDECAST_HTTP_PORT": port}


@each_overlay
def test_a_worker_that_is_told_just_this_does_its_work(overlay: str, tmp_path: Path) -> None:
    write_mean_model(tmp_path / "models" / "m.onnx", n_steps=1)
    log, command = tmp_path / "log", [sys.executable, "-m", "tidecast.worker", *CONTAINER["args"]]
    with tls_house(tmp_path / "house") as house:
        port = str(free_port())
        told = told_by(overlay, house, tmp_path, port)
        first, *_ = streams = sorted(expanded(told["TIDECAST_INPUT"]))
        with log.open("w") as file, subprocess.Popen(command, stderr=file, env=told) as worker:
            try:
                wait_for(lambda: worker.poll() is not None or probe("readiness", port) == 200)
                assert worker.poll() is None, log.read_text()
                assert (probe("startup", port), probe("liveness", port)) == (200, 200)
                lag = r'^tidecast_partition_lag_entries\{stream="([^"]+)"\}'
                found = re.findall(lag, asked(port, "/metrics")[1], re.MULTILINE)
                assert sorted(found) == streams
                client = house.client("administrator")
                client.xadd(first, {"series": "s", "value": 1})
                wait_for(lambda: client.xlen(f"{first}:forecasts") == 1)
                house.server.kill()
                wait_for(lambda: probe("readiness", port) == 503)
                assert probe("liveness", port) == 200
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(timeout=120) == 0, log.read_text()
            finally:
                worker.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[-1]["message"].startswith("stopped")
    assert password_of("worker") not in log.read_text()
