"""The images, built and run: what is in them, and that a worker in one does its work and ends well.

    make image-test

It is not collected with the other tests, since it takes minutes: the trainer's image has TensorFlow
in it and fits the model of the compose file.
"""

import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import redis

from tests.deploy import images
from tests.deploy.compose import FOLDER, SERVICES, STREAMS, client_of, server_of, write_record
from tests.deploy.engine import Project
from tests.deploy.images import Image, Process
from tests.model_files import write_mean_model
from tests.redis.servers import HOST, Server, flavours, free_port
from tests.redis.waiting import wait_for

MEGABYTE = 1_000_000
LARGEST = 250 * MEGABYTE
USER = 10001
TEMPORARY = {"tmp", "var/tmp", "run/lock"}
"""Folders of the base that are for all; a read-only root keeps them shut."""
GRACE = 30.0
STOPS = 20


@pytest.fixture(scope="module")
def worker(project: Project) -> Iterator[Image]:
    why = images.missing()
    if why is not None:
        pytest.skip(why)
    with project.built("worker") as image:
        yield image


@pytest.fixture(scope="module")
def trainer(project: Project) -> Iterator[Image]:
    with project.built("trainer") as image:
        yield image


def said(image: Image, log: Path, *command: str, **how: Any) -> str:
    """Run a command in an image to its good end and return what it wrote to stdout."""
    out = log.with_suffix(".out")
    out.unlink(missing_ok=True)
    with image.start(command, log=log, out=out, **how) as process:
        assert process.wait(600) == 0, log.read_text()
    return out.read_text()


# What is in it


def test_it_says_what_it_is(worker: Image) -> None:
    labels = worker.config["Labels"]
    about = {
        name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()
    }
    assert about["title"] == "tidecast-worker"
    assert about["version"] == images.version()
    assert about["licenses"] == "Apache-2.0"
    assert about["base.name"] == images.BASE_NAME
    assert about["description"]
    assert worker.config["User"] == f"{USER}:{USER}"
    assert worker.command == ["tidecast-worker", "run"]
    assert worker.config["Healthcheck"]["Test"][0] == "CMD"
    assert list(worker.config["ExposedPorts"]) == ["9464/tcp"]


def test_it_adds_less_than_250_megabytes_to_its_base(worker: Image, project: Project) -> None:
    with project.opened(images.BASE_NAME) as below:
        added = images.unpacked(worker) - images.unpacked(below)
    print(f"{added / MEGABYTE:.1f} MB above the base")  # noqa: T201 - a figure of the run
    assert 50 * MEGABYTE < added < LARGEST


def test_no_tensorflow_no_trainer_and_no_installer_are_in_it(worker: Image) -> None:
    (packages,) = worker.root.glob("opt/tidecast/lib/python3*/site-packages")
    found = {path.name.split("-")[0].split(".")[0] for path in packages.iterdir()}
    assert {"onnxruntime", "numpy", "redis", "tidecast"} <= found
    assert not {name for name in found if name.startswith(("tensorflow", "keras", "tf2onnx"))}
    assert not found & {"pip", "setuptools", "pkg_resources", "torch", "pytest"}
    assert not found & {"polars", "clevercsv", "chardet", "zstandard"}
    assert {path.name for path in (packages / "tidecast").iterdir() if path.is_dir()} <= {
        "worker",
        "files",
        "__pycache__",
    }
    assert not (worker.root / "opt/tidecast/bin/tidecast-trainer").exists()


def test_nothing_of_how_this_machine_finds_packages_is_in_it(worker: Image) -> None:
    for place in ("etc/pip.conf", "run/secrets", "root/.config", "root/.cache", "build"):
        assert not (worker.root / place).exists()
    assert "secret" not in worker.history.replace("type=secret", "")


def test_its_user_owns_nothing_and_can_change_nothing(worker: Image) -> None:
    for folder, folders, files in os.walk(worker.root):
        for name in (*folders, *files):
            path = Path(folder, name)
            found = path.lstat()
            assert USER not in (found.st_uid, found.st_gid), path
            if stat.S_ISREG(found.st_mode):
                assert not found.st_mode & stat.S_IWOTH, path
            elif stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_IWOTH:
                assert path.relative_to(worker.root).as_posix() in TEMPORARY


def test_its_processes_have_a_user_and_no_rights(worker: Image, tmp_path: Path) -> None:
    status = said(worker, tmp_path / "log", "cat", "/proc/self/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines())
    assert set(facts["Uid"].split()) == set(facts["Gid"].split()) == {str(USER)}
    assert facts["Groups"].split() == []
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts[kind], 16) == 0
    assert facts["NoNewPrivs"] == "1"


def test_its_processes_can_write_nowhere(worker: Image, tmp_path: Path) -> None:
    code = (
        "import os, errno\n"
        "for folder, _, _ in os.walk('/'):\n"
        "    if folder.startswith(('/proc', '/dev/')): continue\n"
        "    try: os.close(os.open(folder + '/written', os.O_CREAT | os.O_WRONLY))\n"
        "    except OSError as e: assert e.errno in (errno.EROFS, errno.EACCES), folder\n"
        "    else: raise SystemExit(folder + ' is writable')\n"
    )
    said(worker, tmp_path / "log", "python3", "-c", code)


def test_its_bytecode_counts_as_true_without_a_look_at_the_source(worker: Image) -> None:
    (packages,) = worker.root.glob("opt/tidecast/lib/python3*/site-packages")
    for source in (packages / "tidecast").rglob("*.py"):
        (made,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        assert int.from_bytes(made.read_bytes()[4:8], "little") == 0b01


# What it does


@dataclass(frozen=True)
class Line:
    """The line of the compose file: its server, its passwords and settings, and our image."""

    image: Image
    server: Server
    client: redis.Redis
    folder: Path

    def environment(self, service: str, **more: str) -> dict[str, str]:
        """What the compose file gives a service, with the server where it is here."""
        url = f"redis://{HOST}:{self.server.port}/0"
        return {**SERVICES[service]["environment"], "TIDECAST_REDIS_URL": url, **more}

    def worker(self, *words: str, **more: str) -> Process:
        """Start a worker, or another command, with the health port that ``more`` names."""
        more.setdefault("TIDECAST_HTTP_PORT", str(free_port()))
        return self.image.start(
            [*self.image.config["Entrypoint"], *(words or self.image.config["Cmd"])],
            environment=self.environment("worker", **more),
            mounts={"/models": self.folder / "models", "/run/password": self.folder / "password"},
            log=self.log,
        )

    def feeder(self) -> Process:
        """Start the feeder."""
        mounts = {
            "/feed.sh": FOLDER / "feed.sh",
            "/data": self.folder / "record",
            "/run/password": self.folder / "password",
        }
        return self.image.start(
            SERVICES["feeder"]["entrypoint"],
            environment=self.environment("feeder"),
            mounts=mounts,
            log=self.log,
        )

    @property
    def log(self) -> Path:
        """Where all processes write what they have to say."""
        return self.folder / "log"

    def added(self, suffix: str = "") -> int:
        """Return how many entries all streams of readings, or of what follows them, ever had."""
        streams = [name + suffix for name in STREAMS if self.client.exists(name + suffix)]
        infos: list[Any] = [self.client.xinfo_stream(name) for name in streams]
        return sum(info["entries-added"] for info in infos)

    def forecasts_more_than(self, count: int) -> bool:
        """Tell whether more forecasts were ever written."""
        return self.added(":forecasts") > count


@pytest.fixture(params=flavours()[:1])
def line(worker: Image, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Line]:
    passwords, record = tmp_path / "password", tmp_path / "record"
    passwords.mkdir()
    record.mkdir()
    job = SERVICES["passwords"]
    said(
        worker,
        tmp_path / "log",
        *job["entrypoint"],
        job["command"][0],
        user=job["user"],
        mounts={"/passwords.py": FOLDER / "passwords.py"},
        writable={"/run/password": passwords},
    )
    write_record(record)
    write_mean_model(
        tmp_path / "models" / "co2.onnx", name="co2", n_steps=1, features=("co2",), targets=("co2",)
    )
    with (
        server_of(request.param, tmp_path / "server", passwords) as server,
        client_of(server, passwords) as client,
    ):
        yield Line(worker, server, client, tmp_path)


def answer(port: str, path: str) -> int | None:
    """Return the status that a worker's HTTP port answers, None where nobody does."""
    try:
        with urlopen(f"http://{HOST}:{port}{path}", timeout=30) as got:
            return int(got.status)
    except HTTPError as error:
        return error.code
    except OSError:
        return None


@contextmanager
def ending_well(process: Process, line: Line) -> Iterator[Process]:
    """End a process at the end of the block as an engine would, and see that it ends well."""
    with process:
        yield process
        process.send(signal.SIGTERM)
        assert process.wait(GRACE) == 0, line.log.read_text()


def healthy(line: Line, port: str) -> bool:
    """Run the image's health check beside a worker."""
    _, *command = line.image.config["Healthcheck"]["Test"]
    with line.image.start(
        command, environment={"TIDECAST_HTTP_PORT": port}, log=line.log
    ) as process:
        return process.wait(60) == 0


def test_two_workers_forecast_what_the_feeder_sends(line: Line) -> None:
    ports = str(free_port()), str(free_port())
    with (
        ending_well(line.feeder(), line),
        ending_well(line.worker(TIDECAST_HTTP_PORT=ports[0]), line),
        ending_well(line.worker(TIDECAST_HTTP_PORT=ports[1]), line),
    ):
        wait_for(lambda: all(line.client.exists(f"{name}:forecasts") for name in STREAMS))
        wait_for(lambda: [answer(port, "/readyz") for port in ports] == [200, 200])
        wait_for(lambda: sorted(shares(line)) == [2, 2])
        for port in ports:
            assert answer(port, "/startupz") == answer(port, "/livez") == 200
            assert healthy(line, port)
    assert not any(line.client.exists(f"{name}:dead") for name in STREAMS)
    assert "telemetry" not in line.log.read_text()


def shares(line: Line) -> list[int]:
    """Return how many streams each worker has, as the image's own status command tells."""
    told = said(
        line.image,
        line.log,
        *("tidecast-worker", "status", "--json"),
        environment=line.environment("worker"),
        mounts={"/run/password": line.folder / "password"},
    )
    return [member["holds"] for fleet in json.loads(told)["fleets"] for member in fleet["members"]]


def test_it_ends_well_as_soon_as_it_hears_a_signal(line: Line) -> None:
    for _ in range(STOPS):
        with line.worker() as worker:
            wait_for(partial(worker.hears, signal.SIGTERM))
            worker.send(signal.SIGTERM)
            assert worker.wait(GRACE) == 0, line.log.read_text()


def test_sigterm_ends_it_well_each_time_and_nothing_is_lost_or_comes_twice(line: Line) -> None:
    with ending_well(line.feeder(), line):
        for _ in range(STOPS):
            with ending_well(line.worker(), line):
                wait_for(partial(line.forecasts_more_than, line.added(":forecasts")))
    with line.worker("run", "--burst") as last:
        assert last.wait(120) == 0, line.log.read_text()
    assert line.added(":forecasts") == line.added() > 0


def test_without_a_server_it_lives_and_ends_well(line: Line) -> None:
    line.server.kill()
    port = str(free_port())
    with ending_well(line.worker(TIDECAST_HTTP_PORT=port), line):
        wait_for(lambda: answer(port, "/livez") == 200)
        assert answer(port, "/startupz") == answer(port, "/readyz") == 503
        assert healthy(line, port)


def test_the_health_check_fails_where_nobody_answers(line: Line) -> None:
    assert not healthy(line, str(free_port()))


def test_the_trainer_fits_the_compose_files_model_and_a_worker_serves_it(
    trainer: Image, line: Line
) -> None:
    service, models, scratch = SERVICES["trainer"], line.folder / "models", line.folder / "scratch"
    (models / "co2.onnx").unlink()
    scratch.mkdir()
    for folder in (models, scratch):
        os.chown(folder, USER, USER)
    fitted = said(
        trainer,
        line.folder / "fit",
        *trainer.config["Entrypoint"],
        *service["command"],
        mounts={"/data": line.folder / "record"},
        writable={"/models": models, "/tmp": scratch},  # noqa: S108 - a volume and a tmpfs
    )
    assert (models / "co2.onnx").is_file(), fitted
    with ending_well(line.feeder(), line), ending_well(line.worker(), line):
        wait_for(partial(line.forecasts_more_than, 0))
