"""The commands ``tidecast-worker dead-letters``: what a person or a script sees of dead letters.

Whatever a letter says, nothing of it reaches a terminal but printable characters.
"""

import datetime
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tidecast.usage import GroupedCommand
from tidecast.worker.commands.connection import client_of
from tidecast.worker.commands.options import AsJson, takes
from tidecast.worker.commands.terminal import tell, write, write_json
from tidecast.worker.errors import SettingsError
from tidecast.worker.logs import printable
from tidecast.worker.pipeline.epoch import LATEST_TIME
from tidecast.worker.settings import LettersSettings, RetrySettings
from tidecast.worker.store.dead_letters import DeadLetters, Letter, StuckLetterError

COUNTED = 1000
MOST_REASONS = 5
LONGEST_SHOWN = 120

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID...", help="Letters, as 'list' names them.")
]
Every = Annotated[bool, typer.Option("--all", help="All letters there are now.")]
Reason = Annotated[str, typer.Option(help="Only letters whose reason holds this text.")]


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, retry or drop readings that got no forecast.",
)


@app.command("list", cls=GroupedCommand)
@takes(LettersSettings)
def list_command(
    settings: LettersSettings,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Letters, at most.")] = 20,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest first, and count their reasons.

    Example: tidecast-worker dead-letters list --limit 50 --reason late
    """
    box = DeadLetters(client_of(settings), settings.input, settings.fleet)
    total = box.count()
    counts = Counter(_kind(letter.reason) for letter in islice(box.newest_first(), COUNTED))
    letters = box.oldest_first() if oldest else box.newest_first()
    chosen = list(islice((one for one in letters if reason in one.reason), limit))
    if as_json:
        facts = {"stream": box.key, "total": total, "letters": list(map(_facts, chosen))}
        write_json(facts | {"counted": counts.total(), "reasons": dict(counts.most_common())})
        return
    console = Console()
    if console.is_terminal and chosen:
        console.print(_table(chosen))
    else:
        write("".join(f"{'  '.join(_cells(letter))}\n" for letter in chosen))
    for line in _summary(box.key, total, counts):
        tell(line)


@app.command("show", cls=GroupedCommand)
@takes(LettersSettings)
def show_command(
    settings: LettersSettings,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Letter, as 'list' names it.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter whole.

    Example: tidecast-worker dead-letters show 1700000000000-0
    """
    box = DeadLetters(client_of(settings), settings.input, settings.fleet)
    letter = box.find(letter_id)
    there = box.source(letter) is not None
    if as_json:
        write_json(_facts(letter) | {"source_is_there": there})
        return
    state = f"still on {box.stream}" if there else f"no longer on {box.stream}"
    lines = {
        "id": letter.id,
        "when": _when(letter),
        "source": f"{letter.entry} ({state})",
        "reason": letter.reason,
        "payload": letter.text,
    }
    if letter.fleet is not None:
        lines["fleet"] = letter.fleet
    write("".join(f"{name:8} {printable(text)}\n" for name, text in lines.items()))


@app.command("retry", cls=GroupedCommand)
@takes(RetrySettings)
def retry_command(
    settings: RetrySettings,
    ids: Ids = None,
    every: Every = False,
    reason: Reason = "",
) -> None:
    """Put readings back on their input stream, and their letters away.

    Each is decoded as it was the first time and keeps its time. Where its series has gone on
    meanwhile it comes late, and amends the slot that is its own. The fleet that refused it reads it
    again, and no other.

    Example: tidecast-worker dead-letters retry --all --reason "is missing"
    """
    box = DeadLetters(
        client_of(settings),
        settings.input,
        settings.fleet,
        naming=settings.naming,
    )
    letters = _chosen(box, ids or [], every, reason)
    _treat(box, letters, box.retry, f"put back on {box.stream}", named=bool(ids))


@app.command("drop", cls=GroupedCommand)
@takes(LettersSettings)
def drop_command(
    settings: LettersSettings,
    ids: Ids = None,
    every: Every = False,
    reason: Reason = "",
) -> None:
    """Delete dead letters for good.

    Example: tidecast-worker dead-letters drop --all --reason "late:"
    """
    box = DeadLetters(client_of(settings), settings.input, settings.fleet)
    letters = _chosen(box, ids or [], every, reason)
    _treat(box, letters, box.drop, f"dropped from {box.key}", named=bool(ids))


def _chosen(
    box: DeadLetters, ids: Sequence[str], every: bool, reason: str
) -> Generator[Letter, None, None]:
    """Return the letters that are named, or all whose reason fits."""
    if bool(ids) == every or (reason and not every):
        raise SettingsError(
            "name dead letters by their ids, or all of them by --all, which --reason can narrow; "
            "'tidecast-worker dead-letters list' shows ids"
        )
    if ids:
        # All are found before the first is touched.
        found = [box.find(letter_id) for letter_id in dict.fromkeys(ids)]
        return (letter for letter in found)
    return _all_with_progress(box, reason)


def _all_with_progress(box: DeadLetters, reason: str) -> Generator[Letter, None, None]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(escape(f"reading {printable(box.key)}"), total=box.count())
        for letter in box.oldest_first():
            if reason in letter.reason:
                yield letter
            bar.advance(task)


def _treat(
    box: DeadLetters,
    letters: Generator[Letter, None, None],
    act: Callable[[Letter], bool],
    done: str,
    *,
    named: bool,
) -> None:
    """Retry or drop letters and say how many; those that are named must all be treated."""
    count, failures, first_failure = 0, 0, ""
    try:
        with closing(letters):
            for letter in letters:
                try:
                    if act(letter):
                        count += 1
                    elif named:
                        raise box.missing(letter.id)
                except (StuckLetterError, SettingsError) as error:
                    failures, first_failure = failures + 1, first_failure or str(error)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on with the rest", err=True)
        raise typer.Exit(1) from None
    finally:
        if count or not named:
            tell(f"{count} {done}")
    if failures > 1:
        first_failure += f" (and {failures - 1} more like it)"
    if failures and named:
        raise SettingsError(first_failure)
    if failures:
        tell(first_failure)


def _summary(key: str, total: int, counts: Counter[str]) -> Iterator[str]:
    """Yield how many letters there are, and of which kinds the newest are."""
    yield f"{total} dead letters on {key}"
    if total:
        yield f"of the newest {counts.total()}:"
    for kind, number in counts.most_common(MOST_REASONS):
        yield f"{number:7}  {kind}"
    if len(counts) > MOST_REASONS:
        yield f"{counts.total() - sum(n for _, n in counts.most_common(MOST_REASONS)):7}  others"


def _kind(reason: str) -> str:
    """Return a reason without the values in it, so that reasons alike can be counted."""
    value = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+]?\d[^\s,;)]*)"""
    reason = re.sub(rf"\b(is|time|name|line|column|char) {value}", r"\1 ...", reason)
    return re.sub(r"\b\d\S* (ms|bytes)\b", r"... \1", reason)


def _table(letters: Sequence[Letter]) -> Table:
    """Return the letters, two lines each, so that a narrow terminal shows them too."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("id, when", no_wrap=True)
    table.add_column("source entry", no_wrap=True)
    table.add_column("reason, payload", overflow="fold", ratio=1)
    for letter in letters:
        shown, when, entry, reason, payload = _cells(letter)
        said = Group(Text(reason), Text(payload, "dim", no_wrap=True, overflow="ellipsis"))
        table.add_row(Text(f"{shown}\n{when}"), Text(entry), said)
    return table


def _cells(letter: Letter) -> list[str]:
    """Return what a list shows of a letter, in printable characters."""
    payload = printable(letter.text)
    if len(payload) > LONGEST_SHOWN:
        payload = payload[: LONGEST_SHOWN - 3] + "..."
    shown = map(printable, (letter.entry, letter.reason))
    return [letter.id, _when(letter), *shown, payload]


def _when(letter: Letter) -> str:
    if letter.at > LATEST_TIME:  # somebody else's letter, with an id of their own
        return f"{letter.at} ms"
    moment = datetime.datetime.fromtimestamp(letter.at / 1000, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _facts(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "at": letter.at,
        "entry": letter.entry,
        "fleet": letter.fleet,
        "reason": letter.reason,
        "payload": letter.text,
    }
