"""What the images stand on, and their processes as an engine would run them.

    python -m tests.deploy.images      # checks them: ``image_checks.py``, ``compose_checks.py``

The base is assembled by debootstrap and buildah, once, under the name that the Dockerfiles' build
argument expects, and kept in ``build/images``. A Docker engine (``engine.py``) builds our images on
it, each once for all checks.

A process of an image gets what its configuration says: entry point, environment, user. It is the
first of a process namespace, so the kernel treats its signals as in a container. Its root is
read-only, with nothing writable below, and it can gain no privileges.

What this does not show: limits of processor and memory, a network of its own, profiles of seccomp
and AppArmor, the schedule of the health check (its command is run), and names of other services;
the compose file on the engine does. The base is Debian's own, not the one that the build argument
names by default: its Python lies elsewhere and is another patch release.
"""

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "images"
RELEASE = "bookworm"
BASE_NAME = f"python:3.11-slim-{RELEASE}"
BASE = f"localhost/{BASE_NAME}"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = ("buildah", "debootstrap", "util-linux")
TOOLS = ("buildah", "debootstrap", "setpriv", "unshare")
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--propagation", "private")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
UNSHIPPED = (
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)


def missing() -> str | None:
    """Return why images can be neither built nor run here, None if they can."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)} here; apt-get install {' '.join(PACKAGES)}"
    if os.geteuid() != 0:
        return "only root can assemble the base image and enter an image"
    enter = [*NAMESPACES, "mount", "-t", "proc", "proc", "/proc"]
    tried = subprocess.run(enter, capture_output=True, text=True, check=False)
    return f"this machine gives no namespaces: {tried.stderr.strip()}" if tried.returncode else None


def buildah(*words: str | Path) -> str:
    """Run a buildah command on the storage of these tests; return what it said on stdout."""
    return _run("buildah", *_storage(_driver()), *words)


@cache
def _driver() -> str:
    """Return how layers are kept: laid over one another where the kernel can, or else as copies."""
    asked = ["buildah", *_storage("overlay"), "info"]
    works = subprocess.run(asked, capture_output=True, check=False).returncode == 0
    return "overlay" if works else "vfs"


def _storage(driver: str) -> list[str | Path]:
    root, run = CACHE / driver, CACHE / f"{driver}-run"
    return ["--root", root, "--runroot", run, "--storage-driver", driver]


def _run(*words: str | Path) -> str:
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / f"{words[0]}.log"
    with log.open("wb") as stderr:
        ran = subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)
    if ran.returncode:
        told = f"{ran.stdout}\n{log.read_text(errors='replace')}"[-5000:]
        raise RuntimeError(f"{shlex.join(map(str, words))}: exit code {ran.returncode}\n{told}")
    return ran.stdout.strip()


def assemble_base() -> None:
    """Make the base image unless it is there: Debian's smallest system, with Python."""
    buildah("rm", "--all")  # of a run that was broken off, as are images without a name
    buildah("rmi", "--prune")
    if not made(BASE):
        with assembled(RELEASE, "ca-certificates", "python3", "python3-venv") as (container, _):
            buildah("config", "--cmd", "python3", container)
            buildah("commit", "--quiet", container, BASE)


def made(name: str) -> bool:
    """Tell whether there is an image of a name."""
    return name in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines()


@contextmanager
def assembled(release: str, *packages: str) -> Iterator[tuple[str, Path]]:
    """Yield a container of the smallest system of a Debian release, and where its files are."""
    container = buildah("from", "scratch")
    try:
        root = Path(buildah("mount", container))
        include = f"--include={','.join(packages)}"
        _run("debootstrap", "--variant=minbase", include, release, root, *_mirror())
        for folder in UNSHIPPED:
            shutil.rmtree(root / folder, ignore_errors=True)
        buildah("config", "--env", f"PATH={SYSTEM_PATH}", container)
        yield container, root
    finally:
        buildah("rm", container)


def _mirror() -> list[str]:
    """Return where this machine's own packages come from, if it is a Debian of that release."""
    apt = shutil.which("apt-get")
    if apt is None:
        return []
    words = [apt, "indextargets", "--format", "$(SITE)", f"Codename: {RELEASE}"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()[:1]


def version() -> str:
    """Return the project's version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def pip_settings() -> dict[str, list[str]]:
    """Return what pip is told on this machine by files and environment: words by their key."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    told: dict[str, list[str]] = {}
    for section, key, value in re.findall(r"^:?(\w+):?\.([\w-]+)=(.*)$", said, re.MULTILINE):
        if section in {"env", "global", "install"} and key != "config-file":
            told.setdefault(key, []).extend(ast.literal_eval(value).split())
    return told


def write_pip_settings(told: Mapping[str, Sequence[str]], file: Path) -> None:
    """Write pip's settings into a file of its kind."""
    lines = [f"{key} = {' '.join(dict.fromkeys(values))}" for key, values in told.items()]
    file.write_text("\n".join(["[global]", *lines]) + "\n")


@dataclass(frozen=True)
class Image:
    """An image: what its configuration says, and its files in a copy that processes can enter."""

    config: Mapping[str, Any]
    history: str
    root: Path

    @property
    def command(self) -> list[str]:
        """What it runs when it is told nothing."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that its processes get."""
        return dict(entry.split("=", 1) for entry in self.config["Env"])

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        mounts: Mapping[str, Path] | None = None,
        writable: Mapping[str, Path] | None = None,
        user: str | None = None,
        log: Path,
        out: Path | None = None,
    ) -> "Process":
        """Start a command as the image's user, or another.

        Args:
            command: words, the first of which is found in the image.
            environment: variables beside those of the image.
            mounts: what stands at a path of the image, to be read.
            writable: the same, to be written as well.
            user: numbers of a user and a group with a colon between.
            log: what it writes to stderr is added to this file.
            out: the same for stdout; None: the log gets that, too.
        """
        uid, gid = (user or self.config["User"]).split(":")
        become = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
        become += ["--bounding-set", "-all", "--inh-caps", "-all"]
        variables = self.environment | dict(environment or {})
        inside = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]
        script = self._mounting(mounts or {}, writable or {})
        script.append(shlex.join(["exec", "chroot", str(self.root), *become, *inside]))
        with (out or log).open("ab") as stdout, log.open("ab") as stderr:
            outer = subprocess.Popen(
                [*NAMESPACES, "sh", "-euc", "\n".join(script)], stdout=stdout, stderr=stderr
            )
        return Process(outer)

    def _mounting(self, mounts: Mapping[str, Path], writable: Mapping[str, Path]) -> list[str]:
        """Return the lines of a shell script that let the image's root be as in a container."""
        root = shlex.quote(str(self.root))
        script = [f"mount --bind {root} {root}", f"mount -t proc proc {root}/proc"]
        for one in DEVICES:
            (self.root / "dev" / one).touch()
            script.append(f"mount --bind /dev/{one} {root}/dev/{one}")
        for inside, outside in {**mounts, **writable}.items():
            place = self.root / inside.lstrip("/")
            if outside.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            script.append(shlex.join(["mount", "--bind", str(outside), str(place)]))
            if inside in mounts:
                script.append(shlex.join(["mount", "-o", "remount,bind,ro", str(place)]))
        return [*script, f"mount -o remount,bind,ro {root}"]


def unpacked(image: Image) -> int:
    """Return the bytes of an image's files, each counted once."""
    sizes = {}
    for folder, _, files in os.walk(image.root):
        for name in files:
            found = Path(folder, name).lstat()
            sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


class Process:
    """The first process of a container, seen from outside; it is ended with the block."""

    def __init__(self, outer: "subprocess.Popen[bytes]") -> None:
        self._outer = outer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGKILL)
        self._outer.wait()

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._outer.poll() is not None

    @property
    def pid(self) -> int | None:
        """Its number outside, None before its start and after its end."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        with suppress(OSError, ValueError):
            return int(children.read_text())
        return None

    def hears(self, number: signal.Signals) -> bool:
        """Tell whether it has said what a signal does to it; the kernel drops all others."""
        with suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text()
            caught = next(row for row in status.splitlines() if row.startswith("SigCgt:"))
            return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, as the engine does to stop a container."""
        with suppress(ProcessLookupError):
            os.kill(self.pid or self._outer.pid, number)

    def wait(self, timeout: float) -> int:
        """Wait for its end; return its exit code, negative for a signal's number."""
        return self._outer.wait(timeout)


if __name__ == "__main__":
    checks = [Path(__file__).with_name(f"{what}_checks.py") for what in ("image", "compose")]
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-rs", *checks], cwd=ROOT))
