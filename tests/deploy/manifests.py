"""The manifests for Kubernetes: as they lie in their files, and as kubectl renders them."""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("single", "autoscaled")
EVERY = (
    "base",
    "fit",
    *(f"{kind}/{name}" for kind in ("prepare", "overlays") for name in OVERLAYS),
)
OLDEST_KUSTOMIZE = (5, 0)  # that of kubectl 1.27
NAMESPACE = "tidecast"
USER = 10001

Manifest = dict[str, Any]

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def read(path: str) -> Manifest:
    """Return the one document of a file here."""
    document: Manifest = yaml.safe_load((FOLDER / path).read_text())
    return document


def memory_of(overlay: str) -> int:
    """Return the bytes that a worker may take, which it also asks for."""
    (container,) = one(f"overlays/{overlay}", "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    number, unit = re.fullmatch(r"(\d+)([MG]i)", resources["limits"]["memory"]).groups()  # type: ignore[union-attr]  # else it fails
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


@cache
def kustomize() -> str | None:
    """Return the path of a kubectl that is new enough, None without one; asks no cluster."""
    found = shutil.which("kubectl")
    if found is None:
        return None
    command = [found, "version", "--client", "--output", "json"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", json.loads(said or "{}").get("kustomizeVersion", ""))
    new_enough = version and (int(version[1]), int(version[2])) >= OLDEST_KUSTOMIZE
    return found if new_enough else None


@cache
def rendered(folder: str) -> list[Manifest]:
    """Return what would be applied; skips without a kubectl, also in CI, which has none to get."""
    kubectl = kustomize()
    if kubectl is None:
        pytest.skip("no kubectl of version 1.27 or newer is installed")
    command = [kubectl, "kustomize", str(FOLDER / folder)]
    nowhere = {"HOME": os.devnull, "KUBECONFIG": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def one(folder: str, kind: str) -> Manifest:
    """Return the only manifest of a kind in what a folder renders to."""
    (found,) = [manifest for manifest in rendered(folder) if manifest["kind"] == kind]
    return found


def settings_of(overlay: str) -> dict[str, str]:
    """Return an overlay's settings, read from the files as kustomize does."""
    lines = [
        line
        for path in ("base", f"overlays/{overlay}")
        for line in (FOLDER / path / "settings.env").read_text().splitlines()
    ]
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)


DEPLOYMENT = read("base/deployment.yaml")
POD: dict[str, Any] = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
JOB: dict[str, Any] = read("fit/job.yaml")["spec"]["template"]["spec"]
SELECTED = {"app.kubernetes.io/name": "tidecast-worker"}
MOUNTS = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
