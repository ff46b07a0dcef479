"""Writes what was measured as the page docs/accuracy.md."""

from collections.abc import Iterator, Sequence

import numpy as np

from tests.accuracy.cases import Result
from tests.benchmarks.report import machine
from tests.benchmarks.workers import ROOT

PAGE = ROOT / "docs" / "accuracy.md"

INTRODUCTION = """# Accuracy

`make accuracy DATA=folder` fits every row below by the command line with nothing but its columns,
its horizon and a seed, and writes this page. Lookback, segments, size and epochs are picked by
the fit. Numbers are means over seeds 1 to {seeds}, in brackets the least and the most. Measured
on {day}, {machine}.

## ETTh1, the published table

12, 4 and 4 months of 30 days, every stride-1 test window, nothing fitted again (Zhou et al. 2021,
"Informer"). Mean squared error in standard deviations of the training rows. *Live* is the same
from forecasts that a worker published: the test rows went through `tidecast-worker feed`, a
server and `tidecast-worker run`, and what stood on `readings:forecasts` was scored. All measures
agree with the offline ones to 1e-5, or the run fails.

"""

OTHERS = """
## New York taxi demand, five half-hours ahead

The first 70 % of `nyc_taxi.csv` train, the last 20 % test; mean absolute error, which is the
literature's sum of absolute errors but for a constant. The ratio is to the better of the
baselines.

"""

FILES = """
## Other records, one and twelve steps ahead

MASE beside the best of naive, seasonal naive, drift, closed-form ridge and ETS on the same
windows. A ratio below 1 beats them all.

"""

CAVEATS = """
## How to read it

- Times are of whole commands on a machine that other programs share: loading, picking, training,
  export and checks.
- The ridge in these tables is the usual one: one line for all targets, of the model's own
  lookback. The line that the model starts from is better (docs/design.md), which is part of the
  gain.
- The rules of a fit (trainer/plan.py, trainer/selection.py) were settled with the test errors of
  these records in view. No fit looks at its test rows, but the rules suit these records a little
  better than they will suit others.
- Where training did not clearly better its line on the validation rows, the line alone was
  exported, and seeds give the same numbers.
- Published numbers are from the papers: LSTMa and Informer from Zhou et al. 2021, NLinear from
  Zeng et al. 2023, PatchTST from Nie et al. 2023, SegRNN from Lin et al. 2023, each with
  lookbacks of their own.
"""


def document(results: Sequence[Result], day: str) -> str:
    """Return the page."""
    seeds = max(len(one.found) for one in results)
    table = [one for one in results if one.case.live]
    taxi = [one for one in results if one.case.measure == "mae"]
    files = [one for one in results if one.case.measure == "mase"]
    parts = [INTRODUCTION.format(seeds=seeds, day=day, machine=where())]
    if table:
        parts += [*_published(table)]
    if taxi:
        parts += [OTHERS, *_relative(taxi)]
    if files:
        parts += [FILES, *_relative(files)]
    return "".join([*parts, CAVEATS])


def where() -> str:
    """Return what this ran on, in words."""
    facts = machine()
    return f"{facts['processor']}, commit {facts['commit']}"


def _published(results: Sequence[Result]) -> Iterator[str]:
    yield "| | leads | offline | live | at most | hoped for | ridge | published | picked | fit |\n"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | ---: |\n"
    for one in results:
        case = one.case
        yield (
            f"| {case.name} | {case.horizon} | {_spread(one.found)} | {_spread(one.live)} | "
            f"{case.goal:g}{_met(one.found, case.goal)} | {case.reach:g} | "
            f"{one.baselines['ridge']:.4f} | {case.published} | {one.picked} | "
            f"{np.mean(one.seconds):.0f} s |\n"
        )


def _relative(results: Sequence[Result]) -> Iterator[str]:
    yield "| record | leads | model | best baseline | ratio | at most | picked | fit |\n"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |\n"
    for one in results:
        case = one.case
        best = min(one.baselines, key=lambda name: one.baselines[name])
        yield (
            f"| {case.name.replace('_', ' ')} | {case.horizon} | {_spread(one.found)} | "
            f"{best} {one.baselines[best]:.4g} | {_spread(one.relative, 3)} | "
            f"{case.goal:g}{_met(one.relative, case.goal)} | {one.picked} | "
            f"{np.mean(one.seconds):.0f} s |\n"
        )


def _spread(values: Sequence[float], digits: int = 4) -> str:
    """Return the mean, and the least and most if they differ."""
    digits = digits if max(values, default=0) < 100 else 1
    mean, low, high = (
        f"{value:.{digits}f}" for value in (np.mean(values), min(values), max(values))
    )
    return mean if low == high else f"{mean} ({low}-{high})"


def _met(values: Sequence[float], goal: float) -> str:
    """Mark what was missed on average."""
    return "" if np.mean(values) <= goal else " **missed**"
