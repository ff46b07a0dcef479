"""The wheel in environments of its own, beside others who have the same names."""

import json
import os
import subprocess
import sys
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from typing import Any

import pytest
import redis
from packaging.requirements import Requirement

from tidecast.trainer.__main__ import app

pytestmark = pytest.mark.xdist_group("wheel")  # they share two environments

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "tidecast", "trainer", "worker")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = f"tidecast {PROJECT['version']}\n"
OPTIONAL = PROJECT["optional-dependencies"]
EXTRA = sorted(
    Requirement(text).name
    for text in (*OPTIONAL["trainer"], *OPTIONAL["files"])
    if Requirement(text).name != "tidecast"
)
PROGRAMS = list(PROJECT["scripts"])
PYPI = """
trainer==0.0.36 --hash=sha256:d986702c6d6d988e74a4f8da0f9c11a8c7d89274a11436957e91217a19b487a6
worker==2018.4.1 --hash=sha256:7a9d1b390801c869e081df1fd6a289da396b0d1b1493eff47be870128c886252
"""
"""Fetched, never run; with hashes, as nobody looks after what comes under such names."""
ARGUMENTS = {
    "fit": ("wave.csv", "--targets", "value", "--horizon", "2"),
    "evaluate": ("m.onnx", "wave.csv"),
    "tune": ("wave.csv", "--targets", "value", "--horizon", "2"),
    "export": ("m.keras",),
    "relabel": ("m.onnx", "--series", "pump-*"),
    "look": ("wave.csv",),
    "patterns": (),
}
"""Each command of the trainer, as it would run."""
FORECASTS = 120 - 8 + 1
"""Of 120 rows, with full windows of 8."""
DRAIN = ("--from", "earliest", "--burst", "--cold-start", "none")
SMALL = ("--arch", "lstm", "--n-steps", "8", "--units", "4", "--epochs", "1")
Result = subprocess.CompletedProcess[str]


def call(*words: object, cwd: Path, stdin: str = "", **environment: str) -> Result:
    """Run a program that knows nothing of this checkout."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=known | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


def pip(*words: object, cwd: Path) -> Result:
    return call(sys.executable, "-m", "pip", "--disable-pip-version-check", *words, cwd=cwd)


def build(kind: str, tree: Path, out: Path) -> Path:
    """Have setuptools make a ``wheel`` or an ``sdist`` of a source tree."""
    out.mkdir()
    code = f"from setuptools import build_meta as b; b.build_{kind}({str(out)!r})"
    result = call(sys.executable, "-c", code, cwd=tree)
    assert result.returncode == 0, result.stderr
    (made,) = out.iterdir()
    return made


@dataclass(frozen=True)
class Environment:
    """An environment of Python's, and what the wheel alone put into its site-packages."""

    folder: Path
    site: Path
    added: set[str]

    def run(
        self, program: str, *words: object, cwd: Path, stdin: str = "", **environment: str
    ) -> Result:
        return call(self.folder / "bin" / program, *words, cwd=cwd, stdin=stdin, **environment)


def install(folder: Path, *words: object) -> Result:
    """Install into an environment that has no pip of its own."""
    python = folder / "bin" / "python"
    return pip("--python", python, "install", "--no-deps", *words, cwd=folder)


def environment(folder: Path, wheel: Path, extra: str = "") -> Environment:
    """Install the wheel, and link what it asks for with that extra: the trainer's would be 3 GB."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    result = install(folder, "--no-index", wheel)
    assert result.returncode == 0, result.stderr
    added = {path.name for path in site.iterdir()}
    (own,) = metadata.distributions(name="tidecast", path=[str(site)])
    for distribution in dependencies(own, extra):
        assert distribution.files
        for name in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(str(distribution.locate_file(name)))
    return Environment(folder, site, added)


def dependencies(own: metadata.Distribution, extra: str) -> Iterator[metadata.Distribution]:
    """All that pip would install with a distribution, from where these tests have it."""
    todo, seen = [(own, {extra})], set()
    for distribution, extras in todo:  # which grows
        for text in distribution.requires or ():
            wish = Requirement(text)
            wanted = not wish.marker or any(
                wish.marker.evaluate({"extra": one}) for one in {"", *extras}
            )
            if wanted and wish.name == "tidecast":  # an extra that takes another one in
                todo.append((own, wish.extras))
            elif wanted and (key := (wish.name.lower(), *sorted(wish.extras))) not in seen:
                seen.add(key)
                found = metadata.distribution(wish.name)
                todo.append((found, wish.extras))
                yield found


@contextmanager
def without(path: Path) -> Iterator[None]:
    """Take something out of an environment for a while."""
    aside = path.rename(path.with_name(f"{path.name}.aside"))
    try:
        yield
    finally:
        aside.rename(path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, so that nothing is left in the checkout, or taken from there."""
    tree = tmp_path_factory.mktemp("source") / "tree"
    tree.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            unwanted = ignore_patterns("__pycache__")
            copytree(ROOT / name, tree / name, symlinks=True, ignore=unwanted)
        else:
            copy(ROOT / name, tree)
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that whoever downloads an sdist gets."""
    folder = tmp_path_factory.mktemp("built")
    sdist = build("sdist", tree, folder / "sdist")
    result = pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", sdist, cwd=folder)
    assert result.returncode == 0, result.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Where trainer and worker can run, beside PyPI's ``worker`` and ``trainer`` if it is there.

    Nobody runs those, so it does not matter that the latter is for Python 3.11 at most.
    """
    full = environment(tmp_path_factory.mktemp("full"), wheel, "trainer")
    (names := full.folder / "pypi.txt").write_text(PYPI)
    how = ("--retries", "1", "--only-binary", ":all:", "--ignore-requires-python")
    result = install(full.folder, *how, "--require-hashes", "-r", names)
    assert result.returncode == 0 or "CI" not in os.environ, result.stderr
    return full


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Where no extra is installed."""
    return environment(tmp_path_factory.mktemp("plain"), wheel)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with a ``worker`` and a ``trainer`` that end who imports them."""
    desk = tmp_path_factory.mktemp("desk")
    for name in ("worker", "trainer"):
        (desk / name).mkdir()
        (desk / name / "__init__.py").write_text(f"raise SystemExit('a user has this {name}')\n")
    rows = [f"2024-01-01 {i // 60:02d}:{i % 60:02d}:00,{i % 7 + i / 100}\n" for i in range(120)]
    (desk / "wave.csv").write_text("timestamp,value\n" + "".join(rows))
    return desk


@pytest.fixture(scope="module")
def model(full: Environment, desk: Path) -> Path:
    """A model that the installed trainer fitted."""
    words = ("fit", *ARGUMENTS["fit"], *SMALL)
    result = full.run("tidecast-trainer", *words, cwd=desk, PYTHONPATH=str(desk))
    assert result.returncode == 0, result.stderr
    return desk / "models" / "wave.onnx"


def test_a_wheel_has_every_file_of_the_tree(tree: Path, wheel: Path, tmp_path: Path) -> None:
    """Whether it is built from the tree or by way of an sdist."""
    wheels = (wheel, build("wheel", tree, tmp_path / "wheel"))
    one, other = ({n: z.read(n) for n in z.namelist()} for z in map(zipfile.ZipFile, wheels))
    assert one == other
    folders = {tree / "worker", tree / "trainer"}
    own = (path for path in (tree / "tidecast").rglob("*") if path.is_file())
    files = {path.relative_to(tree).as_posix() for path in own}
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        files.add(f"tidecast/{path.relative_to(tree).as_posix()}")
    assert {name for name in one if ".dist-info/" not in name} == files


@pytest.mark.parametrize("name", ["full", "plain"])
def test_it_adds_one_name_to_site_packages(name: str, request: pytest.FixtureRequest) -> None:
    installed: Environment = request.getfixturevalue(name)
    assert installed.added == {"tidecast", f"tidecast-{PROJECT['version']}.dist-info"}


def test_each_name_leads_where_it_led_before(full: Environment, desk: Path) -> None:
    names = ("tidecast", "trainer", "worker")
    code = f"from importlib.util import find_spec; print(*map(find_spec, {names}), sep='\\n')"

    def places(**environment: str) -> list[Path]:
        told = full.run("python", "-P", "-c", code, cwd=desk, **environment).stdout.splitlines()
        return [Path(line.split("origin='")[1].split("'")[0]).parents[1] for line in told]

    assert places(PYTHONPATH=str(desk)) == [full.site, desk, desk]
    if not (full.site / "worker").exists():
        pytest.skip("no index to install PyPI's packages from")
    assert places() == [full.site] * 3


def test_the_line_runs_beside_others_of_its_names(
    full: Environment, model: Path, desk: Path, server_url: str, client: redis.Redis
) -> None:
    def run(program: str, *words: object) -> str:
        result = full.run(program, *words, cwd=desk, PYTHONPATH=str(desk))
        assert result.returncode == 0, result.stderr
        return result.stdout

    where = ("--redis-url", server_url)
    told = run("tidecast-trainer", "export", model.with_suffix(".keras"), "--out", "again")
    assert json.loads(model.with_suffix(".json").read_text())["version"] in told
    run("tidecast-worker", "feed", "wave.csv", "--rate", "max", *where)
    listen = ("watch", "--plain", "--count", str(FORECASTS), *where)
    listeners = client.pubsub_numpat()
    with subprocess.Popen(
        [full.folder / "bin" / "tidecast-worker", *listen],
        cwd=desk,
        env=os.environ | {"PYTHONPATH": str(desk)},
        stdout=subprocess.PIPE,
    ) as watch:
        try:
            while client.pubsub_numpat() == listeners:
                assert watch.poll() is None
                time.sleep(0.05)
            again = desk / "again" / model.name
            run("tidecast-worker", "run", "--models", again, *DRAIN, *where)
            heard = watch.communicate(timeout=60)[0].splitlines()
        finally:
            watch.kill()
    entries: Any = client.xrange("readings:forecasts")
    assert heard == [fields[b"forecast"] for _, fields in entries]
    assert len(heard) == FORECASTS


def test_the_worker_needs_no_extra(
    plain: Environment, model: Path, desk: Path, server_url: str, client: redis.Redis
) -> None:
    rows = (desk / "wave.csv").read_text()
    where = ("--redis-url", server_url)
    for words in (("feed", "-", "--series", "wave"), ("run", "--models", model, *DRAIN)):
        result = plain.run("tidecast-worker", *words, *where, cwd=desk, stdin=rows)
        assert result.returncode == 0, result.stderr
    assert client.xlen("readings:forecasts") == FORECASTS


def test_a_file_takes_an_extra_that_is_named(plain: Environment, desk: Path) -> None:
    result = plain.run("tidecast-worker", "feed", "wave.csv", cwd=desk)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(
        "pip install 'tidecast[files]'; CSV with a header can be sent to standard input, "
        "feed - < wave.csv"
    )


def test_a_worker_without_a_server_says_which_extra_has_one(
    plain: Environment, model: Path, tmp_path: Path
) -> None:
    where = {"TMPDIR": str(tmp_path)}  # no other embedded server is found there
    result = plain.run("tidecast-worker", "run", "--models", model, cwd=tmp_path, **where)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "tidecast-worker: no --redis-url, and the embedded server is not installed: "
        "pip install 'tidecast[embedded]', or name a server with --redis-url"
    )


@pytest.mark.parametrize("command", [one.name for one in app.registered_commands])
def test_no_command_of_the_trainer_begins_without_its_extra(
    plain: Environment, desk: Path, command: str
) -> None:
    result = plain.run("tidecast-trainer", command, *ARGUMENTS[command], cwd=desk)
    assert result.returncode == 2
    assert result.stderr == (
        f"tidecast-trainer: {', '.join(EXTRA)} are not installed; the trainer needs its extra: "
        "pip install 'tidecast[trainer]'\n"
    )
    helped = plain.run("tidecast-trainer", command, "--help", cwd=desk)
    assert helped.returncode == 0
    assert f"Example: tidecast-trainer {command}" in " ".join(helped.stdout.split())


@pytest.mark.parametrize("name", EXTRA)
def test_one_package_that_is_missing_is_told_before_a_command_begins(
    full: Environment, desk: Path, name: str
) -> None:
    with without(full.site / name):
        result = full.run("tidecast-trainer", "patterns", cwd=desk)
    assert result.returncode == 2
    assert result.stderr == (
        f"tidecast-trainer: {name} is not installed; the trainer needs its extra: "
        "pip install 'tidecast[trainer]'\n"
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_version_is_told_quickly(plain: Environment, desk: Path, program: str) -> None:
    """With neither numpy nor the server's driver loaded, so a tenth of a second is enough."""
    script = plain.folder / "bin" / program
    result = plain.run("python", "-X", "importtime", script, "--version", cwd=desk)
    assert (result.returncode, result.stdout) == (0, VERSION)
    loaded = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "importlib.metadata" in loaded
    assert loaded & {"numpy", "onnxruntime", "redis", "tensorflow"} == set()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_version_without_metadata_is_unknown(
    plain: Environment, desk: Path, program: str
) -> None:
    module = program.replace("-", ".")
    assert plain.run("python", "-m", module, "--version", cwd=desk).stdout == VERSION
    with without(plain.site / f"tidecast-{PROJECT['version']}.dist-info"):
        for words in ((plain.folder / "bin" / program,), ("-m", module)):
            result = plain.run("python", *words, "--version", cwd=desk)
            assert result.returncode == 0, result.stderr
            assert result.stdout == "tidecast, not installed: its version is unknown\n"
