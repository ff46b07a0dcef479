"""What became of the mutants, in plain text, and those that are no mistake."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import Catalogue, Mutant
from tests.mutants.trial import Verdict

EQUAL = Path(__file__).with_name("equal.toml")
WANTED = 0.9
"""The share of the mutants that the tests are to find."""


@dataclass(frozen=True, kw_only=True)
class Equal:
    """A mutant that is no mistake: the lines before and after, without their indent, and why."""

    file: str
    before: str
    after: str
    reason: str

    def is_(self, mutant: Mutant) -> bool:
        """Tell whether this is that mutant."""
        return (self.file, self.before, self.after) == (mutant.file, mutant.before, mutant.after)


def read_equal(path: Path = EQUAL) -> list[Equal]:
    """Return the list of those that are no mistake."""
    found = tomllib.loads(path.read_text()).get("equal", [])
    return [Equal(**{name: text.strip("\n") for name, text in one.items()}) for one in found]


def stale(equal: Sequence[Equal], catalogues: dict[str, Catalogue]) -> list[Equal]:
    """Return the entries that no mutant of the given files fits any more."""
    return [
        one
        for one in equal
        if one.file in catalogues and not catalogues[one.file].holds(one.before, one.after)
    ]


@dataclass(frozen=True)
class Tally:
    """How many mutants were tried, killed, and survived, though they are mistakes."""

    tried: int
    killed: int
    survived: int

    @property
    def share(self) -> float:
        """The killed share of those that are mistakes."""
        real = self.killed + self.survived
        return self.killed / real if real else 1.0


def tally(verdicts: Sequence[Verdict], equal: Sequence[Equal]) -> Tally:
    """Count verdicts; a mutant that is listed as equal counts only where it was killed."""
    killed = sum(verdict.killed for verdict in verdicts)
    return Tally(len(verdicts), killed, len(survivors(verdicts, equal)))


def survivors(verdicts: Sequence[Verdict], equal: Sequence[Equal]) -> list[Verdict]:
    """Return the verdicts on mistakes that no test found."""
    return [
        verdict
        for verdict in verdicts
        if not verdict.killed and not any(one.is_(verdict.mutant) for one in equal)
    ]


def document(verdicts: Sequence[Verdict], equal: Sequence[Equal]) -> str:
    """Return the report: a table by file, then each survivor as a difference."""
    return "\n".join([*_table(verdicts, equal), "", *_differences(verdicts, equal)])


def _table(verdicts: Sequence[Verdict], equal: Sequence[Equal]) -> Iterator[str]:
    files = sorted({verdict.mutant.file for verdict in verdicts})
    folders = sorted({str(Path(file).parent) for file in files})
    yield f"| {'file':32} | tried | killed | equal | survived | killed share |"
    yield f"| {'-' * 32} | ----: | -----: | ----: | -------: | -----------: |"
    for name in [*files, *folders, "all"]:
        own = [
            v for v in verdicts if name in ("all", v.mutant.file, str(Path(v.mutant.file).parent))
        ]
        counts = tally(own, equal)
        same = counts.tried - counts.killed - counts.survived
        yield (
            f"| {name:32} | {counts.tried:5} | {counts.killed:6} | {same:5} | "
            f"{counts.survived:8} | {counts.share:12.1%} |"
        )


def _differences(verdicts: Sequence[Verdict], equal: Sequence[Equal]) -> Iterator[str]:
    for verdict in survivors(verdicts, equal):
        mutant = verdict.mutant
        seen = f"{verdict.tests} tests pass" if verdict.tests else "no test sees this line"
        yield f"{mutant.file}:{mutant.line} survived: {seen}"
        yield difference(mutant)
        yield ""


def difference(mutant: Mutant) -> str:
    """Return what a mutant takes away and what it puts there."""
    before = (f"-   {line}" for line in mutant.before.splitlines())
    return "\n".join([*before, *(f"+   {line}" for line in mutant.after.splitlines())])
