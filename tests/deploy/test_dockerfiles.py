"""The Dockerfiles, their locked packages, and what of the tree they see."""

import re
import tomllib

import pytest

from tests.deploy import images
from tests.deploy.images import ROOT

DOCKERFILES = ("Dockerfile", "Dockerfile.trainer")
LOCKS = ("worker", "trainer", "build")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(lock: str) -> dict[str, set[str]]:
    """Return the versions of each package that a lock file names, one for each range of Pythons."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line[:1].isalnum():
            name, version = re.match(r"([\w.-]+)(?:\[[^]]*\])?==(\S+)", line).groups()  # type: ignore[union-attr]  # all are pinned
            found.setdefault(name, set()).add(version)
    return found


def named(requirements: list[str]) -> set[str]:
    """Return the names of packages, written as in a lock file."""
    names = (re.split(r"[\[<>=;!~ ]", one, maxsplit=1)[0] for one in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_a_dockerfile_names_the_version_and_a_base_of_ones_choice(dockerfile: str) -> None:
    text = (ROOT / "deploy" / dockerfile).read_text()
    assert f"ARG BASE={images.BASE_NAME}\n" in text
    assert f"ARG VERSION={images.version()}\n" in text
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}


@pytest.mark.parametrize("lock", LOCKS)
def test_an_image_gets_the_versions_that_the_tests_run_with(lock: str) -> None:
    tested, shipped = pinned("requirements.lock"), pinned(f"requirements-{lock}.lock")
    assert shipped
    assert {name: versions for name, versions in shipped.items() if versions != tested[name]} == {}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_an_image_has_hashes(lock: str) -> None:
    text = (ROOT / f"requirements-{lock}.lock").read_text()
    entries = re.split(r"\n(?=\w)", text.strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert " @ " not in text


def test_the_worker_has_its_own_packages_and_no_others() -> None:
    locked = set(pinned("requirements-worker.lock"))
    own = named(PROJECT["project"]["dependencies"])
    extras = PROJECT["project"]["optional-dependencies"]
    assert own <= locked
    apart = ("trainer", "files", "embedded", "dev")
    others = named([one for extra in apart for one in extras[extra]])
    assert locked & (others - own) == set()


def test_the_trainer_has_what_it_names() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    own = named([*PROJECT["project"]["dependencies"], *extras["trainer"], *extras["files"]])
    assert own - {"tidecast"} <= set(pinned("requirements-trainer.lock"))


def test_a_build_sees_nothing_but_what_goes_into_an_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    seen = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied: set[str] = set()
    for dockerfile in DOCKERFILES:
        text = (ROOT / "deploy" / dockerfile).read_text()
        for words in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
            copied |= set(words.split())
    assert seen == copied
