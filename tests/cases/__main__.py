"""Tries each file of a folder as a user would, and prints what came of it.

    python -m tests.cases [FOLDER]

Each kind of entries is sent to a stream, looked at by ``check`` and read by a worker. Then the
files: ``look`` says what one is; where it refuses, the option that it names is tried. Then it is
fitted and fed, with the same choices for all. A file whose values are those of ``plain.csv`` must
give that one's figures, and its feed the same forecasts, by the model of ``plain.csv``. Others are
forecast by the models that were made of them.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.cases import entries
from tests.cases.entries import Came
from tests.redis.servers import Server
from tidecast.worker.pipeline.wire import DEFAULT_FLEET
from tidecast.worker.store.keys import forecasts_key

PLAIN = "plain.csv"
KINDS = (".csv", ".tsv", ".gz", ".zst", ".parquet", ".jsonl", ".json", ".xlsx", ".txt", ".zip")
CHOICES = ("--horizon", "3", "--n-steps", "24", "--epochs", "2", "--units", "8", "--no-report")
REMEDY = re.compile(r"--(?:skip-lines|skip-footer|series-column|encoding|columns)[ =]('[^']+'|\S+)")
NAMES = re.compile(r"name its (\d+) columns")


@dataclass
class Case:
    """What came of a file."""

    path: Path
    stream: str
    options: list[str] = field(default_factory=list)
    said: str = ""
    target: str = ""
    error: float | None = None
    fit: str = ""
    fed: str = ""
    live: str = ""


def program(name: str, *words: object, url: str = "") -> "subprocess.CompletedProcess[str]":
    """Run one of the two programs."""
    command = [sys.executable, "-m", f"tidecast.{name}", *map(str, words)]
    command += ["--redis-url", url] if url else []
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].split(": ", 1)[-1] if lines else ""


def look(case: Case) -> None:
    """Look at a file; where it is refused, once more by the option that the refusal names."""
    for _ in range(2):
        result = program("trainer", "look", case.path, "--json", "--no-draw", *case.options)
        if result.returncode == 0:
            found = json.loads(result.stdout)
            words = shlex.split(found["fit"])
            if "--target" in words:
                case.target = words[words.index("--target") + 1]
                case.options = [word for word in words[7:] if word.startswith("--")]
            case.said = "; ".join([*found["read"], *found["made"], *map(_short, found["notes"])])
            return
        case.said = last_line(result.stderr)
        if "Traceback" in result.stderr:
            case.said = "TRACEBACK"
        if case.options or not (named := remedy(case.said)):
            return
        case.options = named


def _short(note: str) -> str:
    return note.split(": ", 1)[-1]


def remedy(said: str) -> list[str]:
    """Return the option that a refusal names."""
    if columns := NAMES.search(said):
        others = [f"column {place}" for place in range(2, int(columns[1]))]
        return ["--columns=" + ",".join(["time", *others, "power"])]
    found = REMEDY.search(said)
    return [shlex.split(found[0].replace(" ", "=", 1))[0]] if found else []


def renamed(case: Case) -> list[str]:
    return [] if case.target == "power" else ["--name-feature", f"{case.target}=power"]


def fit(case: Case, models: Path) -> None:
    """Fit a file, and keep the error on the validation rows."""
    words = ("--target", "power", "--name", case.stream, "--out", models, *renamed(case))
    result = program("trainer", "fit", case.path, *CHOICES, *words, *case.options)
    if result.returncode != 0:
        case.fit = last_line(result.stderr)
    else:
        spec = json.loads((models / f"{case.stream}.json").read_text())
        case.error = sum(spec["validation"]["mae"]) / len(spec["validation"]["mae"])


def feed(case: Case, url: str) -> None:
    """Feed a file to a stream of its own."""
    is_long = any(one.startswith("--series-column") for one in case.options)
    words = [] if is_long else ["--series", "s"]
    words += [*renamed(case), *case.options, "--input", case.stream, "--rate", "max"]
    result = program("worker", "feed", case.path, *words, url=url)
    case.fed = f"{'' if result.returncode == 0 else 'refused: '}{last_line(result.stderr)}"


def forecasts(client: redis.Redis, stream: str, fleet: str = DEFAULT_FLEET) -> list[Any]:
    """Return forecasts in order; times may lie within the same steps in another way."""
    entries: Any = client.xrange(forecasts_key(stream, fleet))
    said = [json.loads(fields[b"forecast"]) for _, fields in entries]
    return [one["forecast"] for one in said]


def files(folder: Path) -> Iterator[Path]:
    """The files to try, the plain one first."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS)
    yield from sorted(found, key=lambda path: path.name != PLAIN)


def run(folder: Path, server: Server, work: Path) -> list[Case]:
    """Try all files."""
    url, client = server.url, server.client()
    cases = [Case(path, f"case{number}") for number, path in enumerate(files(folder))]
    console = Console(stderr=True)
    for case in cases:
        console.print(f"{case.path.name} ...", highlight=False)
        look(case)
        if case.target:
            fit(case, work / case.stream)
            feed(case, url)
    plain = cases[0]
    serve(work, plain, [case.stream for case in cases if case.target], url, DEFAULT_FLEET)
    wanted = forecasts(client, plain.stream)
    for case in cases:
        if not case.target:
            continue
        if plain.error and case.error and abs(case.error / plain.error - 1) < 1e-6:
            case.fit = "as plain"
        elif case.error:
            case.fit = f"MAE {case.error:.4g}"
        if forecasts(client, case.stream) == wanted:
            case.live = f"{len(wanted)}, as plain"
            continue
        serve(work, case, [case.stream], url, "own")
        case.live = f"{len(forecasts(client, case.stream, 'own'))} by its own model"
    return cases


def serve(work: Path, case: Case, streams: Sequence[str], url: str, fleet: str) -> None:
    """Let a worker with a file's model read streams to their ends."""
    words = ("--models", work / case.stream / f"{case.stream}.onnx", "--from", "earliest")
    where = ("--burst", "--input", ",".join(streams), "--fleet", fleet)
    program("worker", "run", *words, *where, url=url)


def table_of(cases: Sequence[Case]) -> Table:
    """Return what came of each file, a row for each."""
    table = Table(title=f"{len(cases)} files", title_justify="left", show_lines=True)
    for heading in ("file", "read, or refused", "with", "fit", "fed", "live forecasts"):
        table.add_column(heading)
    for case in cases:
        cells = (case.path.name, case.said, " ".join(case.options), case.fit, case.fed, case.live)
        table.add_row(*cells)
    return table


def table_of_entries(found: Sequence[Came]) -> Table:
    """Return what came of each kind of entries, a row for each."""
    table = Table(title=f"{len(found)} kinds of entries", title_justify="left", show_lines=True)
    for heading in (
        "entries",
        "told",
        "sent",
        "forecasts",
        "series",
        "the first",
        "refused, or told",
        "check adds",
    ):
        table.add_column(heading)
    for one in found:
        kind = one.kind
        counts = (str(len(kind.fields)), str(one.forecasts))
        said = (one.series, one.first, one.dead, one.checked)
        table.add_row(kind.name, " ".join(kind.options), *counts, *map(escape, said))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with Server(flavour="valkey", folder=work / "server") as server:
            client = server.client()
            came = list(entries.run(client, server.url, work))
            Console(width=200).print(table_of_entries(came))
            cases = [] if folder is None else run(folder, server, work / "models")
    if cases:
        Console(width=200).print(table_of(cases))
    odd = any(case.said == "TRACEBACK" for case in cases)
    sys.exit(odd or any(one.dead.startswith("TRACEBACK") for one in came))


if __name__ == "__main__":
    main()
