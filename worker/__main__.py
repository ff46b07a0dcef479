"""The command line ``tidecast-worker``: its commands, and which error ends with which exit code."""

import sys
from collections.abc import Callable

import typer
from typer.exceptions import TyperException

from tidecast.usage import GroupedCommand, complaint
from tidecast.version import Version
from tidecast.worker.commands import dead_letters
from tidecast.worker.commands.check import check_command
from tidecast.worker.commands.feed import feed_command
from tidecast.worker.commands.forget import forget_command
from tidecast.worker.commands.predict import predict_command
from tidecast.worker.commands.run import run_command
from tidecast.worker.commands.status import status_command
from tidecast.worker.commands.terminal import tell
from tidecast.worker.commands.watch import watch_command
from tidecast.worker.errors import TidecastError
from tidecast.worker.logs import printable

CTRL_C = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Turn live readings on Redis streams into live forecasts.",
)


@app.callback()
def options_of_all(_version: Version = False) -> None:
    """Take what stands before a command."""


app.command("run", cls=GroupedCommand)(run_command)
app.command("feed", cls=GroupedCommand)(feed_command)
app.command("predict", cls=GroupedCommand)(predict_command)
app.command("watch", cls=GroupedCommand)(watch_command)
app.command("status", cls=GroupedCommand)(status_command)
app.command("check", cls=GroupedCommand)(check_command)
app.command("forget", cls=GroupedCommand)(forget_command)
app.add_typer(dead_letters.app, name="dead-letters")


def run_app(application: Callable[..., object]) -> int:
    """Run a command line; return its exit code, with one line on stderr for an error."""
    try:
        code = application(standalone_mode=False)
    except TyperException as error:
        told = complaint("tidecast-worker", error)
        typer.echo("\n".join(map(printable, told.split("\n"))), err=True)
        return 2
    except TidecastError as error:
        tell(f"tidecast-worker: {error}")
        return error.exit_code
    except typer.Exit as ended:
        return ended.exit_code
    except (typer.Abort, KeyboardInterrupt, BrokenPipeError):
        return 0
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        tell(f"tidecast-worker: {reason}; name a place that can be used")
        return 2
    # Typer returns the code of an Exit, and one of its own for a Ctrl-C that no command minds.
    return code if isinstance(code, int) and code != CTRL_C else 0


def main() -> None:
    """Run the command line and exit: 0 success, 2 wrong usage or bad input, 1 anything else."""
    sys.exit(run_app(app))


if __name__ == "__main__":
    main()
