"""Options of the command line, made of the fields of settings, and how ``--help`` shows them.

(pydantic-settings has a command line of its own. It stands on argparse, whose messages and exits
are not those of the other options, and it has no way to put them into groups.)
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, get_args, get_origin

import typer
from pydantic import ByteSize, SecretStr
from pydantic.fields import FieldInfo

from tidecast.worker.settings import CommandSettings

Given = TypeVar("Given", bound=CommandSettings)
Own = ParamSpec("Own")
Config = Annotated[Path | None, typer.Option(help="TOML file with settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def takes(
    kind: type[Given],
) -> Callable[[Callable[Concatenate[Given, Own], None]], Callable[..., None]]:
    """Give a command the options of some settings; it gets the settings before its own arguments.

    Raises (the command, when it is called):
        SettingsError: an option, a variable of the environment or a key of ``--config`` is wrong.
    """

    def give(command: Callable[Concatenate[Given, Own], None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        config = inspect.Parameter(
            "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config
        )
        parameters = [one.replace(kind=one.KEYWORD_ONLY) for one in own]
        parameters += [*_parameters(kind), config]

        @functools.wraps(command)
        def told(config: Path | None = None, **given: Any) -> None:
            options = {name: given.pop(name) for name in kind.model_fields}
            command(kind.load(config, **options), **given)  # type: ignore[call-arg]

        told.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        told.__annotations__ = {one.name: one.annotation for one in parameters}
        return told

    return give


def _parameters(kind: type[CommandSettings]) -> Iterator[inspect.Parameter]:
    """Yield a parameter for each field, those of one class after the other."""
    groups = [base for base in kind.__mro__ if issubclass(base, CommandSettings)]
    for group in groups:
        for name in filter(kind.model_fields.__contains__, inspect.get_annotations(group)):
            yield inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_option(name, kind.model_fields[name], group.heading),
            )


def _option(name: str, field: FieldInfo, heading: str) -> Any:
    """Return what typer reads of a field; bounds are left to the settings."""
    extra = field.json_schema_extra
    flag = extra["option"] if isinstance(extra, dict) else "--" + name.replace("_", "-")
    shown = _shown(field.default)
    read = _read(field.annotation)
    if read is bool:  # what a file or the environment switches on can be switched off
        flag = f"{flag}/--no-{str(flag).removeprefix('--')}"
    return Annotated[
        read | None,
        typer.Option(
            str(flag),
            metavar="NAME" if read == list[str] else None,
            help=f"{field.description}{f'  [default: {shown}]' * bool(shown)}",
            rich_help_panel=heading,
        ),
    ]


def _read(annotation: Any) -> Any:
    """Return the type as which typer reads an option of this type."""
    if isinstance(annotation, UnionType):
        (annotation,) = set(get_args(annotation)) - {NoneType}
    if get_origin(annotation) is tuple:
        return list[str]
    return str if annotation in (SecretStr, ByteSize) else annotation


def _shown(default: object) -> str:
    """Return a default as one would give it; of None, the field's own text tells what it means."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, ByteSize):
        return default.human_readable(decimal=True).replace(".0", "")
    if isinstance(default, float):
        return f"{default:g}"
    return "" if default is None or default is False else str(default)
