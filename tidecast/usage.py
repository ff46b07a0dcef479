"""What both programs say of wrong usage."""

from typer.exceptions import TyperException


def complaint(program: str, error: TyperException) -> str:
    """Return what to say of an error in one line, or the help where no command was named."""
    said = error.format_message()
    return said if said.startswith("Usage: ") else f"{program}: {said} See --help."
