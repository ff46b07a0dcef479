"""The compose file on a real Docker engine: one command, and the whole line runs.

    make image-test

Like ``image_checks.py`` it is not collected with the other tests. Where the engine is our own
(``engine.py``), Grafana is not there.
"""

import json
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from tests.deploy.compose import JOBS, SERVICES, SILENT, STREAMS
from tests.deploy.engine import Project
from tests.deploy.images import ROOT
from tests.redis.waiting import wait_for

WORKERS = 2
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "tidecast.json").read_text())


@pytest.fixture(scope="module")
def line(project: Project) -> Project:
    """The whole line, started by one command."""
    up(project, "--build")
    return project


def up(project: Project, *words: str) -> None:
    """Do what ``docker compose up`` does, without staying there."""
    try:
        project.compose("up", "--detach", *words, *project.services)
    except RuntimeError as error:
        error.add_note(project.compose("logs", "--no-color"))
        raise


def containers_of(project: Project, service: str) -> list[dict[str, Any]]:
    """Return what the engine knows of each container of a service; skip one that is not there."""
    if service not in project.services:
        pytest.skip(f"no image of {service} can be had here")
    found = project.containers(service)
    assert found
    return found


def exit_codes(project: Project, service: str) -> list[int]:
    """Return with what a service's containers ended."""
    return [container["State"]["ExitCode"] for container in project.containers(service)]


def status(project: Project) -> dict[str, Any]:
    """Return what the status command says in a worker's container."""
    said = project.compose("exec", "-T", "worker", "tidecast-worker", "status", "--json")
    told: dict[str, Any] = json.loads(said)
    return told


def shares(project: Project) -> list[int]:
    """Return how many streams each worker has."""
    return sorted(one["holds"] for fleet in status(project)["fleets"] for one in fleet["members"])


def entries(project: Project, stream: str) -> int:
    """Return how many entries a stream ever had."""
    code = (
        "import redis; from pathlib import Path;"
        "password = Path('/run/password/password').read_text();"
        "client = redis.Redis(host='server', password=password, protocol=2);"
        f"there = client.exists({stream!r});"
        f"print(client.xinfo_stream({stream!r})['entries-added'] if there else 0)"
    )
    return int(project.compose("exec", "-T", "worker", "python3", "-c", code))


def forecasts(project: Project) -> dict[str, int]:
    """Return how many forecasts each stream of them ever had."""
    return {f"{stream}:forecasts": entries(project, f"{stream}:forecasts") for stream in STREAMS}


def more_than(project: Project, before: dict[str, int]) -> bool:
    return all(entries(project, stream) > count for stream, count in before.items())


def found(project: Project, query: str) -> list[float]:
    """Return the values that Prometheus answers to a query."""
    answer = project.get("prometheus", 9090, f"/api/v1/query?query={quote(query)}")
    return [float(one["value"][1]) for one in answer["data"]["result"]]


@pytest.mark.parametrize("name", sorted(JOBS))
def test_a_job_ends_well(line: Project, name: str) -> None:
    assert exit_codes(line, name) == [0]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - JOBS))
def test_a_service_runs_and_is_well(line: Project, name: str) -> None:
    containers = containers_of(line, name)
    assert len(containers) == SERVICES[name]["deploy"].get("replicas", 1)
    for container in containers:
        assert container["State"]["Status"] == "running"
        assert container["RestartCount"] == 0
    if name not in SILENT:
        wait_for(
            lambda: (
                {one["State"]["Health"]["Status"] for one in line.containers(name)} == {"healthy"}
            )
        )


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_the_engine_holds_a_service_to_its_bounds(line: Project, name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    for container in containers_of(line, name):
        held = container["HostConfig"]
        assert held["ReadonlyRootfs"] is True
        assert held["CapDrop"] == ["ALL"]
        assert held["SecurityOpt"] == ["no-new-privileges:true"]
        assert held["PidsLimit"] == limits["pids"]
        assert held["NanoCpus"] == float(limits["cpus"]) * 1e9
        size, unit = int(limits["memory"][:-1]), limits["memory"][-1]
        assert held["Memory"] == size << {"m": 20, "g": 30}[unit]


def test_two_workers_share_the_streams_and_forecast_all_that_comes(line: Project) -> None:
    wait_for(lambda: shares(line) == [len(STREAMS) // WORKERS] * WORKERS)
    wait_for(partial(more_than, line, {f"{stream}:forecasts": 100 for stream in STREAMS}))
    for partition in status(line)["partitions"]:
        assert partition["dead_letters"] == partition["lost"] == 0
        assert partition["errors"] == []


def test_prometheus_finds_every_worker_and_has_nothing_to_alert(line: Project) -> None:
    wait_for(lambda: found(line, 'sum(up{job="tidecast"})') == [WORKERS])
    wait_for(lambda: found(line, "sum(tidecast_partitions)") == [len(STREAMS)])
    wait_for(lambda: (found(line, "sum(tidecast_forecasts_total)") or [0])[0] > 1000)
    wait_for(lambda: set(states(line)) == {"inactive"})


def states(project: Project) -> list[str]:
    """Return how Prometheus sees each alert, and an error in a rule."""
    groups = project.get("prometheus", 9090, "/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [rule.get("state", "inactive") if rule["health"] == "ok" else "error" for rule in rules]


def test_who_only_watches_cannot_even_name_the_server(line: Project) -> None:
    ask = ("exec", "-T", "prometheus", "wget", "--spider")
    line.compose(*ask, "http://worker:9464/livez")
    with pytest.raises(RuntimeError, match=r"(?i)bad address|unable to resolve"):
        line.compose(*ask, "http://server:6379/")


def test_one_command_scales(line: Project) -> None:
    up(line, "--scale", f"worker={len(STREAMS)}")
    wait_for(lambda: shares(line) == [1] * len(STREAMS))
    wait_for(lambda: found(line, 'sum(up{job="tidecast"})') == [len(STREAMS)])
    up(line, "--scale", f"worker={WORKERS}")
    wait_for(lambda: shares(line) == [len(STREAMS) // WORKERS] * WORKERS)


def test_grafana_shows_the_dashboard(line: Project) -> None:
    assert containers_of(line, "grafana")
    told = line.get("grafana", 3000, f"/api/dashboards/uid/{DASHBOARD['uid']}")
    assert told["meta"]["provisioned"] is True
    assert told["dashboard"]["title"] == DASHBOARD["title"]
    assert len(told["dashboard"]["panels"]) == len(DASHBOARD["panels"])


def test_all_end_well_and_go_on_where_they_were(line: Project) -> None:
    before = forecasts(line)
    line.compose("stop")
    for name in line.services:
        assert set(exit_codes(line, name)) == {0}, name
    up(line)
    kept = forecasts(line)
    assert all(kept[stream] >= count for stream, count in before.items())
    wait_for(partial(more_than, line, {stream: count + 100 for stream, count in kept.items()}))
    for partition in status(line)["partitions"]:
        assert partition["dead_letters"] == partition["lost"] == 0
