"""Make small mistakes in the trainer and the worker's core, and count those that no test finds.

    python -m tests.mutants [--sample 300] [--seed 1] [--only trainer/fit.py ...] [--jobs 2]

The sample is spread over the files by their lines. First all tests run once under coverage; a
mutant is then tried on those that see its line, the quickest first, until one fails or takes far
too long. ``--only`` takes files whose path begins with the text. The report goes to stdout, the
progress to stderr; the exit code is 1 where less than 90 % of the mistakes are found, and 2 where
tests fail without any or ``equal.toml`` lists what is no mutant any more.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.mutants.catalogue import Catalogue, Mutant, shares
from tests.mutants.report import WANTED, difference, document, read_equal, stale, tally
from tests.mutants.sight import MEASURED, Sight, watch
from tests.mutants.trial import OPTIONS, ROOT, Verdict, copy_tree, start, try_all, usual, wait, warm

TESTS = {
    "trainer": ("tests/trainer",),
    "worker": (
        "tests/worker/pipeline",
        "tests/worker/store",
        "tests/worker/service/test_recovery_machine.py",
        "tests/redis/test_connection.py",
        "tests/redis/test_source.py",
        "tests/redis/test_dead_letters.py",
        "tests/redis/test_status.py",
        "tests/redis/test_recovery.py",
        "tests/redis/test_loop.py",
        "tests/redis/test_partitions.py",
        "tests/redis/test_tls.py",
        "tests/redis/test_failover.py",
        "tests/redis/test_worker_process.py",
    ),
}
"""The tests that look at the files of each folder; test_end_to_end.py sees most and says little."""


def tell(text: str) -> None:
    """Say on stderr what is going on."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a program for developers


def catalogues_of(only: Sequence[str]) -> dict[str, Catalogue]:
    """Return the catalogue of each file that is asked for and holds anything to mistake."""
    found = {}
    for part in MEASURED:
        for path in sorted((ROOT / part).glob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            if not only or file.startswith(tuple(only)):
                catalogue = Catalogue(file, path.read_text())
                if len(catalogue):
                    found[file] = catalogue
    return found


def look(tree: Path, folder: Path, tests: dict[str, Sequence[str]]) -> Sight | None:
    """Run all tests without a mutant and return what they see; None where some fail."""
    options = [option for option in OPTIONS if option != "--exitfirst"]
    children = {}
    for part, files in tests.items():
        log, seen = folder / f"{part}.log", folder / f"seen-{part}"

        def work(seen: Path = seen, files: Sequence[str] = files) -> int:
            return watch(tree, seen, files, options, usual())

        children[start(tree, log, work)] = log
    sound = True
    for child, log in children.items():
        if wait(child) != 0:
            said = log.read_text()[-6000:]
            tell(f"tests fail without a mutant, so there is nothing to try:\n{said}")
            sound = False
    return Sight(tree, [folder / f"seen-{part}" for part in tests]) if sound else None


def sample_of(catalogues: dict[str, Catalogue], size: int, seed: int) -> list[Mutant]:
    """Return the sample over all files."""
    share = shares({file: one.lines for file, one in catalogues.items()}, size)
    return [m for file, one in catalogues.items() for m in one.sample(share[file], seed)]


def with_tests(
    mutants: Iterable[Mutant], catalogues: dict[str, Catalogue], sight: Sight
) -> Iterator[tuple[Mutant, dict[str, float]]]:
    """Yield each mutant with the tests that see it and the seconds that each takes."""
    for mutant in mutants:
        tests = sight.tests(mutant.file, catalogues[mutant.file].source, mutant.line)
        yield mutant, {test: sight.seconds[test] for test in tests}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tests", nargs="*", help="instead of those that __main__.py lists")
    chosen = parser.parse_args(arguments)
    catalogues = catalogues_of(chosen.only)
    equal = read_equal()
    rotten = stale(equal, catalogues)
    for one in rotten:
        tell(f"equal.toml: no mutant of {one.file} turns\n  {one.before}\ninto\n  {one.after}")
    if rotten or not catalogues:
        return 2
    wings = {file.partition("/")[0] for file in catalogues}
    tests: dict[str, Sequence[str]] = {wing: TESTS[wing] for wing in sorted(wings)}
    if chosen.tests:
        tests = {"chosen": chosen.tests}
    mutants = sample_of(catalogues, chosen.sample, chosen.seed)
    total = sum(map(len, catalogues.values()))
    tell(f"{len(mutants)} of {total} mutants in {len(catalogues)} files, seed {chosen.seed}")
    warm(trainer="trainer" in wings)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and leave nothing
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tidecast-mutants-") as name:
        folder = Path(name)
        first = copy_tree(folder / "tree-0")
        sight = look(first, folder, tests)
        if sight is None:
            return 2
        tell(f"{len(sight.seconds)} tests pass without a mutant, {time.monotonic() - begun:.0f} s")
        trees = [first, *(copy_tree(folder / f"tree-{i}") for i in range(1, chosen.jobs))]
        verdicts = []
        for verdict in try_all(with_tests(mutants, catalogues, sight), trees, folder):
            verdicts.append(verdict)
            _tell_verdict(verdict, len(verdicts), len(mutants))
    order = {mutant: place for place, mutant in enumerate(mutants)}
    verdicts.sort(key=lambda verdict: order[verdict.mutant])
    print(document(verdicts, equal))  # noqa: T201 - the report
    counts = tally(verdicts, equal)
    tell(f"{counts.share:.1%} killed, {time.monotonic() - begun:.0f} s")
    return 0 if counts.share >= WANTED else 1


def _tell_verdict(verdict: Verdict, number: int, total: int) -> None:
    mutant = verdict.mutant
    tell(
        f"{number}/{total} {verdict.outcome:8} {mutant.file}:{mutant.line} "
        f"({verdict.tests} tests, {verdict.seconds:.1f} s)"
    )
    if not verdict.killed:
        tell(difference(mutant))


if __name__ == "__main__":
    sys.exit(main())
