"""What both programs say of wrong usage, and how their ``--help`` shows options."""

from typing import Any

from typer.core import TyperCommand
from typer.exceptions import TyperException

ELSEWHERE = "Options"
"""Under which options stand that name no group."""


def complaint(program: str, error: TyperException) -> str:
    """Return what to say of an error in one line, or the help where no command was named."""
    said = error.format_message()
    return said if said.startswith("Usage: ") else f"{program}: {said} See --help."


class GroupedCommand(TyperCommand):
    """A command whose options stand in groups, as plain text for terminals and pipes alike."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group in the order of its first option."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else ELSEWHERE
                panel = getattr(parameter, "rich_help_panel", None)
                groups.setdefault(panel or usual, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)
