"""The manifests mean what the worker does, and what they say beside themselves."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from tests.deploy.manifests import (
    CONTAINER,
    DEPLOYMENT,
    FOLDER,
    JOB,
    MOUNTS,
    NAMESPACE,
    OVERLAYS,
    POD,
    ROOT,
    SELECTED,
    USER,
    each_overlay,
    memory_of,
    one,
    read,
    settings_of,
)
from tidecast.trainer import __main__ as trainer
from tidecast.worker.service.health import LONGEST_SILENCE
from tidecast.worker.settings import Settings, expanded
from tidecast.worker.store.server import CONNECT_TIMEOUT, SOCKET_TIMEOUT

SLOW_NETWORK = 12_500_000  # bytes a second
BARE_WORKER = 150_000_000  # bytes without series, with some room

# What the worker is told


@each_overlay
def test_every_setting_is_one_that_the_worker_takes(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = settings_of(overlay)
    assert set(told) <= {f"TIDECAST_{name.upper()}" for name in Settings.model_fields}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.log_format == "json"
    assert settings.connect_patience == 3600


@each_overlay
def test_there_are_partitions_for_every_worker(overlay: str) -> None:
    partitions = len(expanded(settings_of(overlay)["TIDECAST_INPUT"]))
    if overlay == "autoscaled":
        scaled = read("overlays/autoscaled/scaled-object.yaml")["spec"]
        assert scaled["maxReplicaCount"] == partitions
        assert 1 <= scaled["minReplicaCount"] <= scaled["fallback"]["replicas"] <= partitions
    else:
        (replicas,) = read("overlays/single/kustomization.yaml")["replicas"]
        assert replicas == {"name": DEPLOYMENT["metadata"]["name"], "count": 1}
        assert partitions > 1


@each_overlay
def test_the_fleet_is_the_same_wherever_it_is_named(overlay: str) -> None:
    fleet = settings_of(overlay)["TIDECAST_FLEET"]
    labels = read("base/kustomization.yaml")["labels"][0]
    assert labels["pairs"]["app.kubernetes.io/instance"] == fleet
    assert labels["includeTemplates"] is True
    (trigger,) = read("overlays/autoscaled/scaled-object.yaml")["spec"]["triggers"]
    assert f'{{namespace="{NAMESPACE}", fleet="{fleet}"}}' in trigger["metadata"]["query"]


@each_overlay
def test_secrets_are_files_that_the_readme_says_how_to_make(overlay: str) -> None:
    told = settings_of(overlay)
    files = {value for name, value in told.items() if name.endswith("_FILE")}
    assert {Path(file).parent for file in files} == {Path(MOUNTS["redis"]["mountPath"])}
    readme = (FOLDER / "README.md").read_text()
    assert {Path(file).name for file in files} == set(
        re.findall(r"--from-file=([\w.]+)(?![\w.=])", readme)
    )
    (secret,) = (volume["secret"] for volume in POD["volumes"] if volume["name"] == "redis")
    assert f"create secret generic {secret['secretName']} " in readme
    assert secret["defaultMode"] == 0o400
    assert urlsplit(told["TIDECAST_REDIS_URL"]).scheme == "rediss"
    assert "@" not in told["TIDECAST_REDIS_URL"]


def test_no_secret_is_kept_with_the_manifests() -> None:
    for path in FOLDER.rglob("*.yaml"):
        assert not re.search(r"^kind: Secret$|secretGenerator", path.read_text(), re.MULTILINE), (
            path
        )


def test_the_image_is_ours_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, path in (
        ("tidecast-worker", "Dockerfile"),
        ("tidecast-trainer", "Dockerfile.trainer"),
    ):
        dockerfile = (ROOT / "deploy" / path).read_text()
        assert f'ENTRYPOINT ["{name}"]' in dockerfile
        assert f"USER {USER}:{USER}" in dockerfile
        folders = ("fit",) if "trainer" in path else tuple(f"overlays/{one}" for one in OVERLAYS)
        for folder in folders:
            assert read(f"{folder}/kustomization.yaml")["images"] == [
                {"name": name, "newName": name, "newTag": version}
            ]
    assert CONTAINER["image"] == f"tidecast-worker:{version}"
    assert CONTAINER["args"] == ["run"]


# When it starts, is ready, lives and ends


def test_probes_mean_what_they_say() -> None:
    port = int(settings_of("single")["TIDECAST_HTTP_PORT"])
    assert CONTAINER["ports"] == [{"name": "metrics", "containerPort": port}]
    paths = {}
    for kind in ("startup", "readiness", "liveness"):
        probe = CONTAINER[f"{kind}Probe"]
        assert probe["httpGet"]["port"] == "metrics"
        paths[kind] = probe["httpGet"]["path"]
    assert paths == {"startup": "/startupz", "readiness": "/readyz", "liveness": "/livez"}
    assert settings_of("single")["TIDECAST_HTTP_HOST"] == "0.0.0.0"  # noqa: S104 - of a pod
    assert "startupProbe" in CONTAINER  # until it has passed, liveness is not asked


def test_an_absent_server_never_has_a_worker_killed() -> None:
    probe = CONTAINER["startupProbe"]
    patience = float(settings_of("single")["TIDECAST_CONNECT_PATIENCE"])
    assert probe["periodSeconds"] * probe["failureThreshold"] >= patience + 1800  # and a replay


def test_a_loop_that_stands_still_is_restarted_soon_and_a_slow_answer_is_no_standstill() -> None:
    probe = CONTAINER["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= LONGEST_SILENCE
    assert probe["failureThreshold"] > 1
    lease = float(settings_of("single")["TIDECAST_LEASE"])
    assert probe["terminationGracePeriodSeconds"] <= lease


@each_overlay
def test_what_a_worker_may_hold_can_be_saved_before_it_is_killed(overlay: str) -> None:
    grace = POD["terminationGracePeriodSeconds"]
    batch = float(settings_of(overlay)["TIDECAST_LEASE"])
    assert grace > batch + memory_of(overlay) / SLOW_NETWORK
    assert grace > batch + SOCKET_TIMEOUT + CONNECT_TIMEOUT


@each_overlay
def test_a_worker_that_holds_all_series_has_the_memory(overlay: str) -> None:
    told = settings_of(overlay)
    series = len(expanded(told["TIDECAST_INPUT"])) * int(told["TIDECAST_MAX_SERIES"])
    assert BARE_WORKER + series * (200 + 4 * 24) < 0.75 * memory_of(overlay)


# Who may reach whom, and do what


def test_out_go_the_server_and_dns_and_in_comes_prometheus() -> None:
    policy = read("base/network-policy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"] == SELECTED
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    server, dns = policy["egress"]
    url = urlsplit(settings_of("single")["TIDECAST_REDIS_URL"])
    assert server["ports"] == [{"protocol": "TCP", "port": url.port}]
    assert {(port["protocol"], port["port"]) for port in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
    (ingress,) = policy["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": CONTAINER["ports"][0]["containerPort"]}]
    spaces = {}
    for name, peers in (("server", server["to"]), ("dns", dns["to"]), ("in", ingress["from"])):
        (peer,) = peers
        assert peer["podSelector"]["matchLabels"]
        spaces[name] = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert spaces == {
        "server": str(url.hostname).split(".")[1],
        "dns": "kube-system",
        "in": "monitoring",
    }


def test_a_fit_reaches_nothing() -> None:
    policy = read("fit/network-policy.yaml")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    assert set(policy) == {"podSelector", "policyTypes"}
    labels = read("fit/kustomization.yaml")["labels"][0]
    assert policy["podSelector"]["matchLabels"].items() <= labels["pairs"].items()
    assert labels["includeTemplates"] is True


def test_selectors_find_the_workers() -> None:
    labels = read("base/kustomization.yaml")["labels"][0]["pairs"]
    assert SELECTED.items() <= labels.items()
    monitor = read("overlays/autoscaled/pod-monitor.yaml")["spec"]
    budget = read("base/pod-disruption-budget.yaml")["spec"]
    selectors = [DEPLOYMENT["spec"]["selector"], monitor["selector"], budget["selector"]]
    selectors += [spread["labelSelector"] for spread in POD["topologySpreadConstraints"]]
    assert selectors == [{"matchLabels": SELECTED}] * len(selectors)
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")
    (relabeling,) = endpoint["relabelings"]
    label = next(name for name in labels if name.endswith("instance"))
    assert relabeling == {
        "sourceLabels": [f"__meta_kubernetes_pod_label_{re.sub('[^a-z]', '_', label)}"],
        "targetLabel": "fleet",
    }
    target = read("overlays/autoscaled/scaled-object.yaml")["spec"]["scaleTargetRef"]
    assert target == {"name": DEPLOYMENT["metadata"]["name"]}


@each_overlay
def test_a_rendered_selector_finds_the_rendered_workers(overlay: str) -> None:
    folder = f"overlays/{overlay}"
    pods = one(folder, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert pods["app.kubernetes.io/instance"] == settings_of(overlay)["TIDECAST_FLEET"]
    policy = one(folder, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    budget = one(folder, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    assert policy.items() <= pods.items()
    assert budget.items() <= pods.items()


@pytest.mark.parametrize("pod", [POD, JOB], ids=["worker", "trainer"])
def test_a_pod_keeps_to_the_restricted_standard(pod: dict[str, Any]) -> None:
    labels = read("prepare/single/namespace.yaml")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == USER
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}


def test_workers_read_the_models_that_the_trainer_writes() -> None:
    claim = read("prepare/single/models.yaml")["metadata"]["name"]
    volumes = {volume["name"]: volume for volume in (*POD["volumes"], *JOB["volumes"])}
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim
    (models,) = (volume for volume in POD["volumes"] if volume["name"] == "models")
    assert models["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    assert all(mount["readOnly"] for mount in MOUNTS.values())
    assert MOUNTS["models"]["mountPath"] == settings_of("single")["TIDECAST_MODELS"]


# How many there are


@each_overlay
def test_workers_are_replaced_as_their_volume_allows(overlay: str) -> None:
    (mode,) = one(f"prepare/{overlay}", "PersistentVolumeClaim")["spec"]["accessModes"]
    spec = one(f"overlays/{overlay}", "Deployment")["spec"]
    if mode == "ReadWriteOnce":
        assert spec["strategy"] == {"type": "Recreate"}
    else:
        assert mode == "ReadWriteMany"
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] > float(settings_of(overlay)["TIDECAST_LEASE"])
    # What the autoscaler has set would be undone each time that somebody applies this.
    assert ("replicas" in spec) == (overlay == "single")


def test_no_budget_keeps_a_node_from_being_drained() -> None:
    budget = read("base/pod-disruption-budget.yaml")["spec"]
    assert "minAvailable" not in budget
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_trainer_understands_what_it_is_told() -> None:
    (container,) = JOB["containers"]
    name, *words = container["args"]
    command: Any = typer.main.get_command(trainer.app)
    told = command.commands[name].make_context(name, words).params
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[str(told["out"])] == "models"
    assert mounts[str(told["data"].parent)] == "records"
    readme = (FOLDER / "README.md").read_text()
    assert f"--from-file={told['data'].name}=" in readme


def test_the_readme_names_folders_that_are_there() -> None:
    folders = set(re.findall(r"(?:-k|kustomize) ([\w/]+)", (FOLDER / "README.md").read_text()))
    assert {"prepare/single", "fit", "overlays/single"} <= folders
    assert all((FOLDER / folder / "kustomization.yaml").is_file() for folder in folders)


def test_the_alerts_know_the_job_of_the_pod_monitor() -> None:
    text = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text()
    jobs = set(re.findall(r'job=~"([^"$]+)"', text))
    name = read("overlays/autoscaled/pod-monitor.yaml")["metadata"]["name"]
    assert jobs
    assert all(re.fullmatch(job, f"{NAMESPACE}/{name}") for job in jobs)


def test_the_rules_become_a_resource_by_the_command_of_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text()
    (command,) = re.findall(r"^    (\{ printf .*?\}) \|$", readme, re.MULTILINE | re.DOTALL)
    done = subprocess.run(["/bin/sh", "-c", command], cwd=FOLDER, capture_output=True, check=True)
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    assert yaml.safe_load(done.stdout) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "tidecast"},
        "spec": rules,
    }
