"""The compose file keeps its promises, as far as that shows without an engine."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import typer

from tests.deploy import images
from tests.deploy.compose import (
    FILE,
    FOLDER,
    JOBS,
    SERVICES,
    SILENT,
    STREAMS,
    WHOLE,
    client_of,
    server_of,
    write_record,
)
from tests.redis.servers import flavours
from tidecast.trainer import __main__ as trainer
from tidecast.trainer.series import load_history
from tidecast.worker.settings import Settings

OWN_IMAGES = {"tidecast-worker", "tidecast-trainer"}
HEALTH_OF_ITS_IMAGE = {"worker"}

each_service = pytest.mark.parametrize("name", SERVICES)


@each_service
def test_a_service_can_write_only_to_its_volumes_and_gain_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


@each_service
def test_a_service_is_not_root_but_where_new_volumes_are_roots(name: str) -> None:
    user = SERVICES[name].get("user", "of the image")
    own = SERVICES[name]["image"].split(":")[0] in OWN_IMAGES
    assert name == "passwords" or (own and user == "of the image") or int(user.split(":")[0]) > 0


@each_service
def test_a_service_has_bounds(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert SERVICES[name]["logging"]["options"]["max-size"]


@each_service
def test_an_image_is_pinned_to_a_version(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag)
    assert (image in OWN_IMAGES) == ("build" in SERVICES[name])
    assert image not in OWN_IMAGES or tag == images.version()


@each_service
def test_ports_are_open_to_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_the_server_is_on_a_network_that_nothing_else_reaches() -> None:
    assert SERVICES["server"]["networks"] == ["readings"]
    assert WHOLE["networks"]["readings"] == {"internal": True}
    assert {name for name in SERVICES if "readings" in SERVICES[name].get("networks", [])} == {
        *("server", "worker", "feeder")
    }


@each_service
def test_a_service_is_looked_after(name: str) -> None:
    service = SERVICES[name]
    if name in JOBS:
        assert "restart" not in service
        return
    assert service["restart"] == "unless-stopped"
    if name in HEALTH_OF_ITS_IMAGE:
        assert "healthcheck" not in service
        return
    check = service["healthcheck"]
    if name in SILENT:
        assert check == {"disable": True}
    else:
        assert {"test", "interval", "timeout", "retries", "start_period"} <= set(check)


@each_service
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        kind = "service_completed_successfully" if other in JOBS else "service_healthy"
        assert how == {"condition": kind}
    writers = {"password": "passwords", "record": "record", "models": "trainer"}
    for volume in (word.split(":")[0] for word in SERVICES[name].get("volumes", [])):
        if volume in writers and writers[volume] != name:
            assert writers[volume] in SERVICES[name]["depends_on"]


@each_service
def test_every_file_that_is_mounted_is_there_to_be_read(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, *_, mode = volume.split(":")
        if source.startswith("."):
            assert (FILE.parent / source).is_file()
            assert mode == "ro"
        else:
            assert source in WHOLE["volumes"]


def test_a_password_is_nowhere_but_in_files() -> None:
    assert "requirepass" not in (FOLDER / "server.conf").read_text()
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or value == "/run/password/password"
            assert "@" not in value


def test_passwords_are_made_once(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "passwords.py"), str(tmp_path)]
    subprocess.run(command, check=True)
    (tmp_path / "server.conf").unlink()
    first = (tmp_path / "password").read_text()
    subprocess.run(command, check=True)
    assert (tmp_path / "password").read_text() == first
    assert (tmp_path / "server.conf").read_text() == f"requirepass {first}\n"
    assert len(first) > 40
    assert {path.name for path in tmp_path.iterdir()} == {"password", "server.conf"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o444}


@pytest.mark.parametrize("flavour", flavours())
def test_the_server_asks_for_its_password_and_writes_all_down(flavour: str, tmp_path: Path) -> None:
    passwords = tmp_path / "password"
    passwords.mkdir()
    subprocess.run([sys.executable, str(FOLDER / "passwords.py"), str(passwords)], check=True)
    with server_of(flavour, tmp_path / "server", passwords) as server:
        with server.client() as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        with client_of(server, passwords) as client:
            client.xadd("readings", {"series": "s", "value": 1})
            told: Any = client.config_get("maxmemory-policy", "appendonly")
            assert told == {"maxmemory-policy": "noeviction", "appendonly": "yes"}
        server.stop()
        server.start()
        with client_of(server, passwords) as client:
            assert client.xlen("readings") == 1


def test_the_workers_understand_what_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.input == tuple(STREAMS)
    assert settings.fleet == "default"  # as Prometheus is told
    assert settings.start == "earliest"
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_the_trainer_understands_what_it_is_told() -> None:
    (name, *words) = SERVICES["trainer"]["command"]
    command: Any = typer.main.get_command(trainer.app)
    told = command.commands[name].make_context(name, list(words)).params
    assert told["targets"] == "co2"
    assert told["out"] == Path("/models")
    assert told["data"] == Path("/data/co2.csv")


def test_the_replayed_rows_are_those_that_the_trainer_never_saw(tmp_path: Path) -> None:
    write_record(tmp_path)
    history = load_history(tmp_path / "co2.csv", ("co2",))
    unseen = history.series[0].values[round(0.8 * history.rows) :, 0]
    values = sorted(f"{value:.1f}" for value in unseen if value == value)
    stations: dict[str, list[str]] = {}
    for stream in range(len(STREAMS)):
        with (tmp_path / f"live-{stream}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                stations.setdefault(row["series"], []).append(row["co2"])
    assert len(stations) == 100
    assert all(sorted(station) == values for station in stations.values())
    assert len({tuple(station) for station in stations.values()}) == 100


def test_prometheus_takes_its_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool; apt-get install prometheus")
    command = [promtool, "check", "config", "--syntax-only", str(FOLDER / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
