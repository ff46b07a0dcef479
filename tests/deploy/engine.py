"""The compose file on a real Docker engine.

The engine is the one at hand, with the images that the compose file names. Where none runs but its
programs are installed, one is started for the length of the run, with images, containers and
settings in folders of its own; what it leaves are its chains in the machine's firewall. It asks no
registry: the base of our images is assembled (``images.py``), and so
are stand-ins for Valkey's and Prometheus' images, from Debian's packages and the embedded server.
They bear the names that the compose file says, have other versions, and are otherwise as the
originals: the same programs, and folders that belong to the same users. Nothing stands in for
Grafana's image, so it is left out there.
"""

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy import images
from tests.deploy.compose import FILE, SERVICES
from tests.deploy.images import CACHE, Image, buildah
from tests.redis.servers import HOST, dying_with_us, program_of
from tests.redis.waiting import wait_for

PROJECT = "tidecast-check"
PACKAGES = ("docker.io", "iptables")
PROGRAMS = ("docker", "dockerd", "iptables")
STAND_INS = {"server": [], "prometheus": ["prometheus"]}
"""Services whose images are stood in for, with the images' entry points."""
DEBIAN = "trixie"
"""The release whose packages stand in: the first with Valkey and a Compose of today."""
DEBIAN_NAME = f"localhost/tidecast-stand-in:{DEBIAN}"
PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"


def missing() -> str | None:
    """Return why there can be no engine here, None if there can."""
    if _at_hand():
        composes = _works("docker", "compose", "version")
        return None if composes else "this machine's Docker engine has no 'docker compose'"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return (
            f"no Docker engine runs here, and no {', '.join(absent)} to start one; "
            f"apt-get install {' '.join(PACKAGES)}"
        )
    return images.missing()


def _at_hand() -> bool:
    """Tell whether an engine runs here."""
    return _works("docker", "info")


def _works(*command: str) -> bool:
    with suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


@dataclass(frozen=True)
class Project:
    """The compose file as a project of its own on an engine.

    Attributes:
        environment: tells ``docker`` where the engine is.
        changes: a second compose file, of what has to be otherwise here.
        whole: whether all of it is there, and with the images that it names.
    """

    environment: Mapping[str, str]
    changes: Path
    whole: bool

    @property
    def services(self) -> list[str]:
        """All services that are there."""
        return [name for name in SERVICES if self.whole or name != "grafana"]

    def compose(self, *words: str) -> str:
        """Run a command of Compose and return what it wrote to stdout."""
        told = ("compose", "--project-name", PROJECT, "--file", FILE, "--file", self.changes)
        return self.docker(*told, *words)

    def docker(self, *words: str | Path) -> str:
        """Run a command of Docker and return what it wrote to stdout."""
        environment = {**os.environ, **self.environment}
        command = ["docker", *words]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"{command}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
        return ran.stdout

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return what the engine knows of each container of a service, running or not."""
        ids = self.compose("ps", "--all", "--quiet", service).split()
        told: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids)) if ids else []
        return told

    def built(self, service: str) -> AbstractContextManager[Image]:
        """Build a service's image and yield it, as ``opened`` does."""
        self.compose("build", service)
        return self.opened(SERVICES[service]["image"])

    @contextmanager
    def opened(self, name: str) -> Iterator[Image]:
        """Yield an image with a copy of its files for the length of the block."""
        (told,) = json.loads(self.docker("image", "inspect", name))
        history = self.docker("history", "--no-trunc", name)
        container = self.docker("create", name, "anything").strip()
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "root"  # the folder itself is shut to an image's user
            root.mkdir(mode=0o755)
            self._unpack(container, root)
            self.docker("rm", container)
            yield Image(told["Config"], history, root)

    def _unpack(self, container: str, folder: Path) -> None:
        command, environment = ["docker", "export", container], {**os.environ, **self.environment}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as exported:
            unpacking: list[str | Path] = [
                "tar",
                "--extract",
                "--numeric-owner",
                "--directory",
                folder,
            ]
            subprocess.run(unpacking, stdin=exported.stdout, check=True)

    def get(self, service: str, port: int, path: str) -> Any:
        """Return the JSON that a service's page answers on this machine."""
        address = self.compose("port", service, str(port)).strip()
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
            return json.load(answer)


@contextmanager
def project() -> Iterator[Project]:
    """Yield the project, with nothing of it built or started; nothing of it runs afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder, changes = Path(name), Path(name) / "changes.yaml"
        if _at_hand():
            changes.write_text(_free_ports())
            with _removed(Project({}, changes, whole=True)) as made:
                yield made
            return
        changes.write_text(_free_ports() + _builds(folder))
        with (
            _own_engine(folder) as environment,
            _removed(Project(environment, changes, whole=False)) as made,
        ):
            yield made


@contextmanager
def _removed(made: Project) -> Iterator[Project]:
    """Remove what a broken-off run left of a project, and all of it at the end of the block."""
    gone = ("down", "--volumes", "--remove-orphans")
    made.compose(*gone)
    try:
        yield made
    finally:
        made.compose(*gone)


def _free_ports() -> str:
    """Return a change of the compose file: its pages are where this machine has room for them."""
    pages = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    lines = [
        f'  {name}: {{ports: !override ["{HOST}::{port.rsplit(":", 1)[1]}"]}}\n'
        for name, (port,) in pages.items()
    ]
    return "services:\n" + "".join(lines)


def _builds(folder: Path) -> str:
    """Return changes of the compose file: an engine of our own builds on this machine's network.

    Secrets tell it where pip finds packages here, but for what lies on this machine's disk.
    """
    settings = images.pip_settings()
    secrets = {"pip.conf": str(folder / "pip.conf")}
    reached = {
        key: [word for word in words if not _on_disk(word)] for key, words in settings.items()
    }
    told = {key: words for key, words in reached.items() if words}
    if "cert" in settings:
        secrets["ca.pem"] = settings["cert"][0]
        told["cert"] = ["/run/secrets/ca.pem"]
    images.write_pip_settings(told, folder / "pip.conf")
    build = json.dumps({"network": "host", "secrets": list(secrets)})
    lines = [f"  {name}: {{build: {build}}}\n" for name in SERVICES if "build" in SERVICES[name]]
    given = json.dumps({name: {"file": path} for name, path in secrets.items()})
    return "".join(lines) + f"secrets: {given}\n"


def _on_disk(word: str) -> bool:
    return word.startswith(("/", "file:"))


@contextmanager
def _own_engine(folder: Path) -> Iterator[dict[str, str]]:
    """Run an engine that has our base and the stand-ins; yield what tells ``docker`` of it."""
    data, socket = CACHE / "engine", folder / "docker.sock"
    environment = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(folder / "config")}
    shutil.rmtree(data, ignore_errors=True)
    command: list[str | Path] = [
        *dying_with_us(),
        *("dockerd", "--host", f"unix://{socket}", "--pidfile", folder / "pid"),
        *("--data-root", data, "--exec-root", folder / "exec", "--bridge", "none"),
        *("--config-file", folder / "daemon.json"),
    ]
    (folder / "daemon.json").write_text("{}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        there = Project(environment, folder, whole=False)
        wait_for(lambda: _answers(there, process))
        images.assemble_base()
        _assemble_stand_ins(folder / "config" / "cli-plugins")
        for name in (images.BASE_NAME, *(SERVICES[name]["image"] for name in STAND_INS)):
            archive = folder / "image.tar"
            buildah("push", "--quiet", f"localhost/{name}", f"docker-archive:{archive}:{name}")
            there.docker("load", "--quiet", "--input", archive)
            archive.unlink()
        yield environment
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(data, ignore_errors=True)


def _answers(there: Project, process: "subprocess.Popen[bytes]") -> bool:
    if process.poll() is not None:
        said = (CACHE / "dockerd.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"dockerd ended with {process.returncode}:\n{said}")
    with suppress(RuntimeError):
        there.docker("info")
        return True
    return False


def _assemble_stand_ins(plugins: Path) -> None:
    """Make the images that stand in, and take Compose out of what they are made of."""
    if not images.made(DEBIAN_NAME):
        packages = ("ca-certificates", "docker-compose", "prometheus", "valkey-tools", "wget")
        with images.assembled(DEBIAN, *packages) as (container, root):
            shutil.rmtree(root / "etc/valkey")  # for Debian's own user alone
            buildah("commit", "--quiet", container, DEBIAN_NAME)
    container = buildah("from", "--pull-never", DEBIAN_NAME)
    try:
        root = Path(buildah("mount", container))
        plugins.mkdir(parents=True)
        shutil.copy2(root / PLUGIN, plugins)
        shutil.copy2(_embedded_server(), root / "usr/local/bin/valkey-server")
        for service, entry in STAND_INS.items():
            _own_volumes(root, service)
            buildah("config", "--entrypoint", json.dumps(entry), container)
            buildah("commit", "--quiet", container, f"localhost/{SERVICES[service]['image']}")
    finally:
        buildah("rm", container)


def _embedded_server() -> Path:
    found = program_of("valkey")
    if found is None:
        raise RuntimeError("the embedded server is not installed; make setup")
    return found


def _own_volumes(root: Path, service: str) -> None:
    """Make the folders for a service's volumes, as its image has them: its user's own."""
    uid, gid = map(int, SERVICES[service]["user"].split(":"))
    for volume in SERVICES[service]["volumes"]:
        _, place, *mode = volume.split(":")
        if not mode:
            (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
            os.chown(root / place.lstrip("/"), uid, gid)
