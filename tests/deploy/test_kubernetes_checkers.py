"""The manifests render, and outside judges find nothing in them or in the Dockerfiles."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.custom_resources import MODELS
from tests.deploy.manifests import (
    EVERY,
    NAMESPACE,
    ROOT,
    each_overlay,
    kustomize,
    one,
    rendered,
    settings_of,
)

CHECKS = ROOT / ".venv-checks" / "bin"
OLDEST_KUBERNETES = "1.27"
DOCKERFILES = ("Dockerfile", "Dockerfile.trainer")


@pytest.mark.parametrize("folder", EVERY)
def test_it_renders_into_its_namespace(folder: str) -> None:
    names = set()
    for manifest in rendered(folder):
        where = manifest["metadata"].get("namespace")
        assert where == (None if manifest["kind"] == "Namespace" or folder == "base" else NAMESPACE)
        names.add((manifest["kind"], manifest["metadata"]["name"]))
    assert len(names) == len(rendered(folder))


@each_overlay
def test_the_settings_read_here_are_those_that_are_rendered(overlay: str) -> None:
    config = one(f"overlays/{overlay}", "ConfigMap")
    assert config["data"] == settings_of(overlay)
    pod = one(f"overlays/{overlay}", "Deployment")["spec"]["template"]["spec"]
    (source,) = pod["containers"][0]["envFrom"]
    assert source == {"configMapRef": {"name": config["metadata"]["name"]}}


def tool(name: str) -> str:
    """Return the path of a checker; skips where it is not installed, and fails where CI is set."""
    path = CHECKS / name
    if not path.exists():
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no {name} in .venv-checks; make .venv-checks/.ready installs it")
    return str(path)


def write_rendered(folder: Path) -> list[Path]:
    """Write what each folder that is applied renders to into a file."""
    files = []
    for name in sorted(set(EVERY) - {"base"}):
        path = folder / f"{name.replace('/', '-')}.yaml"
        path.write_text(yaml.safe_dump_all(rendered(name)))
        files.append(path)
    return files


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, None], ids=["oldest", "newest"])
def test_kubernetes_validate_knows_every_field(version: str | None, tmp_path: Path) -> None:
    command: list[str | Path] = [tool("kubernetes-validate"), "--strict", *write_rendered(tmp_path)]
    if version is not None:
        command[1:1] = ["--kubernetes-version", version]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if " passed " not in line]
    unknown = {word for line in said for word in re.findall(r"find schema for kind (\w+)", line)}
    assert unknown == set(MODELS)
    assert (done.returncode, len(said)) == (0, len(unknown)), said


@pytest.mark.parametrize("kind", MODELS)
def test_the_operators_know_every_field(kind: str) -> None:
    MODELS[kind].model_validate(one("overlays/autoscaled", kind))


def test_checkov_finds_nothing_that_has_no_reason_beside_it(tmp_path: Path) -> None:
    checkov, frameworks = tool("checkov"), {"dockerfile"}
    if kustomize() is not None:
        write_rendered(tmp_path)
        frameworks.add("kubernetes")
    for dockerfile in DOCKERFILES:
        shutil.copy(ROOT / "deploy" / dockerfile, tmp_path)
    options = ["--framework", *sorted(frameworks), "--skip-download", "--compact"]
    done = subprocess.run(
        [checkov, "--directory", tmp_path, *options, "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    said = json.loads(done.stdout)
    reports = said if isinstance(said, list) else [said]
    assert {report["check_type"] for report in reports} == frameworks
    for report in reports:
        found, summary = report["results"], report["summary"]
        assert [(check["check_id"], check["file_path"]) for check in found["failed_checks"]] == []
        assert summary["parsing_errors"] == 0
        assert summary["passed"] > 100
        for check in found["skipped_checks"]:
            reason = check["check_result"]["suppress_comment"]
            assert len(reason.split()) > 5, (check["check_id"], check["file_path"], reason)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_finds_nothing(dockerfile: str) -> None:
    command = [tool("hadolint"), "--no-color", str(ROOT / "deploy" / dockerfile)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
