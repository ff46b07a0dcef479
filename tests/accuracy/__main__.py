"""Fit every case with the default choices, score it offline and live; write docs/accuracy.md.

    python -m tests.accuracy --data FOLDER [--seeds 3] [--only TEXT ...] [--write] [--json FILE]

Each case is fitted by the command line as a user would, with nothing but its columns, its horizon
and a seed. ETTh1's test rows are also replayed through a server and a worker, and the table made of
what was published. ``--only`` takes cases whose name has the text. What ``--json FILE`` holds of an
earlier run is not run again, so that a run that was broken off goes on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.accuracy.cases import CASES, Case, Result, prepared
from tests.accuracy.live import live_scores, weekly_naive
from tests.accuracy.report import PAGE, document

console = Console(stderr=True)


def run_case(case: Case, data: Path, seeds: int, folder: Path) -> Result:
    """Fit and score a case with each seed."""
    result = Result(case)
    path = prepared(case, data, folder)
    for seed in range(1, seeds + 1):
        begun = time.monotonic()
        log = _trainer("fit", path, *_options(case), "--seed", seed, "--out", folder)
        result.seconds.append(time.monotonic() - begun)
        model = folder / "m.onnx"
        series = ["--series-column", case.series_column] if case.series_column else []
        evaluation = json.loads(_trainer("evaluate", model, path, *series, "--json", "--no-report"))
        overall = evaluation["model"]["overall"]
        result.found.append(overall[case.measure])
        result.absolute.append(overall["unit_mae"])
        result.baselines = {
            name: scores["overall"][case.measure]
            for name, scores in evaluation["baselines"].items()
        }
        if case.week:
            result.baselines["weekly naive"] = weekly_naive(model, path, case.week)
        spec = json.loads(model.with_suffix(".json").read_text())
        record = json.loads(model.with_suffix(".fit.json").read_text())
        result.picked = f"{spec['n_steps']} steps, segments of {record['choices']['segment']}"
        if case.live:
            scores, windows = live_scores(model, path, folder)
            result.live.append(scores.overall()[case.measure] or 0.0)
            agree(case, overall, scores.overall(), windows, evaluation["windows"])
        console.print(
            f"{case.name}, H={case.horizon}, seed {seed}: {case.measure} {result.found[-1]:.5f}"
            f" (of the best baseline {result.relative[-1]:.3f}), fit {result.seconds[-1]:.0f} s"
            f"{log.count('alone') * ', the line stands alone'}"
        )
    return result


def agree(
    case: Case, offline: dict[str, float], live: dict[str, float | None], *windows: int
) -> None:
    """Demand that the published forecasts give the offline table to 1e-5, window for window."""
    if windows[0] != windows[1]:
        raise SystemExit(f"{case.name}: {windows[0]} windows live, {windows[1]} offline")
    for measure, value in offline.items():
        other = live[measure]
        if other is None or abs(other - value) > 1e-5 * max(1.0, abs(value)):
            raise SystemExit(f"{case.name}: {measure} is {other} live and {value} offline")


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write results as JSON."""
    rows: list[dict[str, Any]] = [vars(one) | {"case": vars(one.case)} for one in results]
    path.write_text(json.dumps(rows, indent=1))


def read_results(path: Path) -> list[Result]:
    """Return the results that a file holds; none where there is no file."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text())
    return [Result(**(row | {"case": Case(**_tuples(row["case"]))})) for row in rows]


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }


def _options(case: Case) -> list[object]:
    options: list[object] = ["--name", "m", "--targets", ",".join(case.targets)]
    options += ["--horizon", case.horizon, "--no-report"]
    if case.features:
        options += ["--features", ",".join(case.features)]
    if case.rows:
        options += ["--train-rows", case.rows[0], "--validation-rows", case.rows[1]]
    if case.series_column:
        options += ["--series-column", case.series_column]
    return options


def _trainer(*words: object) -> str:
    """Run a command of the trainer; return its stdout, or of a fit what it said on stderr."""
    command = [sys.executable, "-m", "tidecast.trainer", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return done.stderr if words[0] == "fit" else done.stdout


def main() -> None:
    """Measure, print, and perhaps write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the records")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of cases")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    chosen = [case for case in CASES if any(part in case.name for part in options.only)]
    absent = {case.file for case in chosen if not (options.data / case.file).is_file()}
    if absent or not chosen:
        parser.error(f"--data {options.data}: {', '.join(sorted(absent)) or 'no case'} is missing")
    if options.write and (len(chosen) < len(CASES) or options.seeds < 3):
        parser.error("--write wants every case and at least three seeds")
    earlier = read_results(options.json) if options.json else []
    results: list[Result] = []
    for case in chosen:
        found = [one for one in earlier if (one.case, len(one.found)) == (case, options.seeds)]
        with tempfile.TemporaryDirectory() as folder:
            results += found or [run_case(case, options.data, options.seeds, Path(folder))]
        if options.json:
            write_results(options.json, results)
    page = document(results, f"{datetime.now(UTC):%Y-%m-%d}")
    sys.stdout.write(page)
    if options.write:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
