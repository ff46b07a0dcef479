"""The tool that finds blind tests: its mutants, its sample, its list, and a small run of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.mutants.catalogue import Catalogue, Mutant, shares
from tests.mutants.report import Equal, Tally, document, read_equal, stale, survivors, tally
from tests.mutants.sight import Sight
from tests.mutants.trial import ROOT, Verdict

SOURCE = '''"""A file."""

Numbers = list[int]
LIMIT = 5


def clipped(numbers: Numbers, *, most: int = 3) -> Numbers:
    """Return small numbers."""
    if not numbers:
        raise ValueError("there are none, so give some")
    print("done", len(numbers))
    return [number + 1 for number, _ in zip(numbers, numbers, strict=True) if number < LIMIT][:most]
'''


def changes(source: str, size: int = 1000, seed: int = 1) -> set[tuple[str, str]]:
    return {(m.before, m.after) for m in Catalogue("f.py", source).sample(size, seed)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 5", "LIMIT = 6"),
        ("LIMIT = 5", "LIMIT = None"),
        ("if not numbers:", "if numbers:"),
        ("if not numbers:", "if False:"),
        ('raise ValueError("there are none, so give some")', "pass"),
        ('print("done", len(numbers))', "pass"),
        ('print("done", len(numbers))', 'print("XXdoneXX", len(numbers))'),
    ],
)
def test_each_kind_of_mistake_is_made(before: str, after: str) -> None:
    assert (before, after) in changes(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("number + 1", "number - 1"), ("< LIMIT", "<= LIMIT"), ("if number < LIMIT", "if True")],
)
def test_mistakes_are_made_within_a_line(old: str, new: str) -> None:
    (line,) = (line.strip() for line in SOURCE.splitlines() if "for number" in line)
    assert (line, line.replace(old, new)) in changes(SOURCE)


def test_types_texts_for_people_and_strictness_stay() -> None:
    found = changes(SOURCE)
    assert not any("XXthere" in after or "strict=False" in after for _, after in found)
    assert not any(before.startswith("Numbers =") for before, _ in found)
    assert all(after.count("strict=True") == before.count("strict=True") for before, after in found)
    assert not any(before.startswith('"""') for before, _ in found)


def test_a_sample_is_the_seeds_and_lies_on_many_lines() -> None:
    found = Catalogue("f.py", SOURCE).sample(5, 1)
    assert found == Catalogue("f.py", SOURCE).sample(5, 1)
    assert found != Catalogue("f.py", SOURCE).sample(5, 2)
    assert len({mutant.line for mutant in found}) == 5
    assert [mutant.line for mutant in found] == sorted(mutant.line for mutant in found)
    for mutant in found:
        assert mutant.before in SOURCE
        compile(mutant.source, "f.py", "exec")
        assert mutant.source != SOURCE


def test_a_change_elsewhere_leaves_the_sample() -> None:
    longer = "EARLIER = 1\n" + SOURCE
    gone = {change for change in changes(SOURCE, 5) if "EARLIER" not in change[0]}
    assert len(gone & changes(longer, 6)) >= 4


def test_shares_go_by_lines() -> None:
    assert shares({"a": 100, "b": 50, "c": 50}, 8) == {"a": 4, "b": 2, "c": 2}
    found = shares({"a": 70, "b": 20, "c": 12, "d": 1}, 10)
    assert found == {"a": 7, "b": 2, "c": 1, "d": 0}


def test_an_entry_that_fits_no_mutant_is_stale() -> None:
    fits = Equal(file="f.py", before="LIMIT = 5", after="LIMIT = 6", reason="")
    rotten = Equal(file="f.py", before="LIMIT = 4", after="LIMIT = 5", reason="")
    elsewhere = Equal(file="g.py", before="LIMIT = 4", after="LIMIT = 5", reason="")
    catalogues = {"f.py": Catalogue("f.py", SOURCE)}
    assert stale([fits, rotten, elsewhere], catalogues) == [rotten]


def test_every_entry_of_the_list_still_fits_and_has_a_reason() -> None:
    equal = read_equal()
    files = {one.file for one in equal}
    catalogues = {file: Catalogue(file, (ROOT / file).read_text()) for file in files}
    assert stale(equal, catalogues) == []
    assert all(one.reason for one in equal)


def test_equal_mutants_count_neither_way() -> None:
    mutants = [Mutant("f.py", line, f"{line}", f"{line} + 1", "") for line in range(4)]
    outcomes = ("killed", "late", "survived", "unseen")
    verdicts = [Verdict(m, outcome, 1, 0.0) for m, outcome in zip(mutants, outcomes, strict=True)]
    equal = [Equal(file="f.py", before="2", after="2 + 1", reason="the same")]
    assert tally(verdicts, equal) == Tally(tried=4, killed=2, survived=1)
    assert tally(verdicts, []).share == 0.5
    assert [verdict.mutant.line for verdict in survivors(verdicts, equal)] == [3]
    assert "f.py:3 survived" in document(verdicts, equal)
    assert "f.py:2 survived" not in document(verdicts, equal)


SEEN = """\
LIMIT = 5


def outer(x):
    def traced(y):
        return y + LIMIT

    return trace(traced)(x)


def idle():
    return 1
"""


@pytest.mark.parametrize(
    ("line", "tests"),
    [
        (8, ["quick", "slow"]),  # as it is
        (6, ["quick", "slow"]),  # by the function around it, as its own copy ran
        (12, []),
        (1, ["quick", "slow"]),  # at import, by whatever sees some line
    ],
)
def test_a_line_is_tried_on_the_tests_that_see_it(
    line: int, tests: list[str], tmp_path: Path
) -> None:
    (tmp_path / "f.py").write_text(SEEN)
    folder = tmp_path / "seen"
    folder.mkdir()
    told: dict[str, Any] = {"contexts": ["slow", "quick"], "seconds": {"slow": 2.0, "quick": 1.0}}
    told["seen_by"] = {"slow": ["slow"], "quick": ["quick"]}
    (folder / "tests.json").write_text(json.dumps(told))
    data = coverage.CoverageData(str(folder / "own.1"))
    for context, lines in (("", {1, 4, 11}), ("0", {5, 8}), ("1", {5, 8})):
        data.set_context(context)
        data.add_lines({str(tmp_path / "f.py"): lines})
    data.write()
    assert Sight(tmp_path, [folder]).tests("f.py", SEEN, line) == tests


def test_a_small_run() -> None:
    """A mistake in what is tested is found, and one in what is not survives; nothing is changed."""
    file = "worker/pipeline/wire.py"
    before = (ROOT / file).read_bytes()
    words = [sys.executable, "-m", "tests.mutants", "--sample", "3", "--jobs", "1", "--only", file]

    def run(tests: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*words, "--tests", tests], cwd=ROOT, capture_output=True, text=True, check=False
        )

    seen = run("tests/worker/pipeline/test_wire.py")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert "|     3 |      3 |     0 |        0 |       100.0% |" in seen.stdout
    unseen = run("tests/worker/store/test_keys.py")
    assert unseen.returncode == 1, unseen.stdout + unseen.stderr
    assert f"{file}:" in unseen.stdout
    assert "no test sees this line" in unseen.stdout
    assert (ROOT / file).read_bytes() == before
