"""The options of commands that read a file: one name and one help for each."""

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from tidecast.files.options import FileOptions

PANEL = "The file, where it should not be told by what is in it"
HELP = {
    "series_column": "Column that names the series of each row (long files), or several, commas "
    "between.",
    "one_series": "All rows are of one series, whatever their other columns say.",
    "series_rows": "Each row is a series, its values beside each other.",
    "time_column": "Column of times, or several: of dates and times of day, or of year, month, day "
    "and hour, commas between; or none.",
    "time_unit": "What numbers there count since 1970; auto: told by their size.",
    "time_format": "Form of times, such as '%d/%m/%Y %H:%M'; excel: days since 1900.",
    "time_zone": "Zone of times that name none, such as Europe/Berlin.  [default: UTC]",
    "missing": "Marker of missing values beside the usual ones (--missing=-999); repeatable.",
    "rename": "Another name for a column: 'Temp, °C=temp'; repeatable.",
    "separator": "Between columns: , ; | tab or blank.",
    "decimal": "Decimal mark.",
    "encoding": "Of the text: utf-8, cp1252, utf-16.",
    "sheet": "Of an Excel file, where several have rows.",
    "skip_lines": "Lines before the header.",
    "skip_footer": "Rows at the end that are none.",
    "columns": "Names of all columns, commas between, where there is no header.",
}
FLAGS = {"rename": "--name-feature", "one_series": "--one-series"}
SEPARATORS = {"tab": "\t", "\\t": "\t", "blank": " ", "space": " "}


def takes_file(but: Sequence[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a file; it gets them as ``file``.

    Args:
        but: options that the command has from elsewhere.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()
        more = list(_parameters(but))
        parameters = [one for one in own if one.name != "file"]

        @functools.wraps(command)
        def told(*first: Any, **given: Any) -> None:
            said = {one.name: given.pop(one.name) for one in more}
            command(*first, file=options_of(said), **given)

        told.__signature__ = inspect.Signature([*parameters, *more])  # type: ignore[attr-defined]
        told.__annotations__ = {one.name: one.annotation for one in (*parameters, *more)}
        return told

    return give


def _parameters(but: Sequence[str]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(FileOptions)
    kinds = {"missing": list[str], "rename": list[str], "columns": str}
    for field in fields(FileOptions):
        if field.name in but:
            continue
        kind = kinds.get(field.name, hints[field.name])
        default = None if field.name in kinds else field.default
        flag = FLAGS.get(field.name, "--" + field.name.replace("_", "-"))
        option = typer.Option(
            flag, help=HELP[field.name], rich_help_panel=PANEL, show_default=False
        )
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind | None if field.name in kinds else kind, option],
        )


def options_of(said: dict[str, Any]) -> FileOptions:
    """Return what options of a command line say.

    Raises:
        typer.BadParameter: one of them says nothing that can be meant.
    """
    said = {name: value for name, value in said.items() if value is not None}
    separator = said.get("separator")
    if separator is not None:
        said["separator"] = SEPARATORS.get(separator, separator)
        if len(said["separator"].encode()) != 1:
            raise typer.BadParameter(f"--separator {separator!r}: one character, tab or blank")
    if said.get("skip_footer", 0) < 0 or said.get("skip_lines", 0) < 0:
        raise typer.BadParameter("--skip-lines and --skip-footer count lines, 0 or more")
    if "columns" in said:
        said["columns"] = tuple(name.strip() for name in said["columns"].split(","))
    if "missing" in said:
        said["missing"] = tuple(said["missing"])
    if "rename" in said:
        said["rename"] = tuple(map(_pair, said["rename"]))
    return FileOptions(**said)


def _pair(text: str) -> tuple[str, str]:
    column, mark, name = text.rpartition("=")
    if not mark or not column.strip() or not name.strip():
        raise typer.BadParameter(f"--name-feature {text!r}: write COLUMN=NAME, as 'Temp, °C=temp'")
    return column.strip(), name.strip()
