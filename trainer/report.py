"""One self-contained HTML page for a model: how it learned, what it forecasts, where it errs."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined

from tidecast.trainer.charts import (
    Stretch,
    draw_leads,
    draw_losses,
    draw_residuals,
    draw_series,
    draw_stretches,
)
from tidecast.trainer.dataset import Windows
from tidecast.trainer.evaluate import MODEL, Evaluation
from tidecast.trainer.files import write_atomically
from tidecast.trainer.record import FitRecord
from tidecast.trainer.series import History, Part
from tidecast.trainer.tables import HEADINGS, number
from tidecast.worker.contract import ModelSpec

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

SHORT = 8
"""Horizons below this are shown as a stretch of one-step forecasts, not as single windows."""
STRETCH = 96
LOOKED_BACK = 3
"""Horizons of readings that are shown before a forecast."""
MOST_TARGETS = 3
MOST_SERIES = 25
MOST_RESIDUALS = 5000


@dataclass(frozen=True)
class Subject:
    """What a report is of: a model, its evaluation, and the windows and history of both."""

    spec: ModelSpec
    history: History
    windows: Windows
    evaluation: Evaluation
    record: FitRecord | None

    @property
    def part(self) -> Part:
        """The part that was evaluated."""
        return self.evaluation.part

    def forecasts(self, starts: Ints, target: int) -> tuple[Doubles, Doubles]:
        """Return the model's forecasts of windows and those of its best rival, ``[k, horizon]``."""
        inputs, _ = self.windows.gather(starts)
        found = self.evaluation.forecasters
        model, rival = (found[name](starts, inputs) for name in (MODEL, self.evaluation.best))
        mine, its = (np.asarray(each, np.float64)[:, :, target] for each in (model, rival))
        return mine, its


@dataclass(frozen=True)
class Section:
    """Pictures under a title."""

    title: str
    note: str
    pictures: Sequence[str]


def write_report(path: Path, subject: Subject) -> None:
    """Write the page."""
    environment = Environment(
        loader=PackageLoader("tidecast.trainer", ""), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["embedded"] = lambda svg: base64.b64encode(svg.encode()).decode()
    spec, evaluation = subject.spec, subject.evaluation
    step = "every reading is a step" if spec.step_seconds is None else f"step {_step(spec)}"
    page = environment.get_template("report.html.jinja").render(
        title=f"{spec.name} {spec.version}",
        subtitle=f"{spec.pattern}: {', '.join(spec.features)} to {', '.join(spec.targets)}, "
        f"{spec.n_steps} readings in, {spec.horizon} out, {step}; fitted {spec.trained_at}",
        verdict=evaluation.verdict(),
        loses=evaluation.loses,
        headings=[heading.replace("\n", " ") for heading in HEADINGS.values()],
        scores=list(_scores(evaluation)),
        part_note=f"{evaluation.windows:,} {subject.part} windows, season {evaluation.season}. "
        + PARTS[subject.part],
        sections=list(_sections(subject)),
        words=list(_words(subject.record)),
    )
    write_atomically(path, page.encode())


PARTS: Mapping[Part, str] = {
    "train": "There were no validation rows: these are rows that the model learned from.",
    "validation": "The model was stopped and chosen by these rows, so they flatter it; evaluate it "
    "for rows that it never saw.",
    "test": "The model never saw these rows.",
}


def _scores(evaluation: Evaluation) -> Iterator[tuple[str, list[str]]]:
    for name, scores in {"model": evaluation.model, **evaluation.baselines}.items():
        overall = scores.overall()
        yield name, [number(overall[measure]) for measure in HEADINGS]


def _sections(subject: Subject) -> Iterator[Section]:
    spec, evaluation = subject.spec, subject.evaluation
    if subject.record is not None and any(subject.record.losses):
        loss = subject.record.choices.get("loss", "loss")
        yield Section(
            "Learning curves",
            "Training errs more than validation where dropout is at work in the one alone.",
            (draw_losses(subject.record.losses, f"{loss} in training deviations"),),
        )
    yield Section(
        f"Forecast against actual on the worst, median and best {subject.part} windows",
        "By mean absolute error over all leads and targets.",
        tuple(
            draw_stretches(_stretches(subject, target), name, _time_label(subject))
            for target, name in list(enumerate(spec.targets))[:MOST_TARGETS]
        ),
    )
    if spec.horizon > 1:
        measure = "mase" if evaluation.model.mase[0] is not None else "mae"
        errors = {"model": evaluation.model, **evaluation.baselines}
        by_lead = {name: getattr(scores, measure) for name, scores in errors.items()}
        lead = (
            "lead (readings ahead)" if spec.step_seconds is None else f"lead ({_step(spec)} each)"
        )
        note = "MASE: 1 is the error of the seasonal naive forecast on the training rows."
        yield Section(
            "Error by lead",
            note if measure == "mase" else "",
            (draw_leads(by_lead, lead, measure.upper()),),
        )
    if len(evaluation.by_series) > 1:
        worst = evaluation.by_series[:MOST_SERIES]
        pairs = np.array([[one.mae, one.baseline_mae] for one in worst])
        yield Section(
            "Error by series",
            f"The {len(worst)} of {len(evaluation.by_series):,} series on which the model does "
            f"worst beside {evaluation.best}, the worst first.",
            (draw_series([one.series for one in worst], pairs, evaluation.best, "MAE"),),
        )
    lags = 2 * evaluation.season if 1 < evaluation.season <= 100 else 48
    yield Section(
        "What is left over",
        "Errors one step ahead, in order of time. Bars beyond the band are structure that "
        "the model has not learned.",
        tuple(
            draw_residuals(_residuals(subject, target), name, f"lag ({_lag(spec)})", lags)
            for target, name in list(enumerate(spec.targets))[:MOST_TARGETS]
        ),
    )


def _stretches(subject: Subject, target: int) -> list[Stretch]:
    """Return the worst, median and best windows, or stretches of windows where leads are few."""
    windows, spec = subject.windows, subject.spec
    errors = subject.evaluation.window_errors
    starts = windows.starts[subject.part]
    short = spec.horizon < SHORT
    if short:  # the mean over the windows that go on without a break from each
        length = min(STRETCH, len(starts))
        sums = np.concatenate([[0.0], np.cumsum(errors)])
        errors = (sums[length:] - sums[:-length]) / length
        unbroken = starts[length - 1 :] - starts[: len(errors)] == length - 1
        errors = np.where(unbroken, errors, np.nan) if unbroken.any() else errors
    order = np.argsort(errors)[: int(np.isfinite(errors).sum())]
    picked = {"worst": order[-1], "median": order[len(order) // 2], "best": order[0]}
    return [
        (_run if short else _single)(
            subject, target, int(place), f"{name} (error {errors[place]:.3g})"
        )
        for name, place in picked.items()
    ]


def _single(subject: Subject, target: int, place: int, title: str) -> Stretch:
    """Return one window: its newest readings, all its leads."""
    windows = subject.windows
    start = subject.windows.starts[subject.part][place : place + 1]
    edge = int(start[0]) + windows.n_steps
    first = max(int(start[0]), edge - LOOKED_BACK * windows.horizon)
    rows = np.arange(first, edge + windows.horizon)
    before = np.full(edge - first, np.nan)
    model, rival = subject.forecasts(start, target)
    times = _times(subject, rows)
    return Stretch(
        title=title,
        times=times,
        actual=windows.outputs[rows, target].astype(np.float64),
        forecast=np.concatenate([before, model[0]]),
        rival=np.concatenate([before, rival[0]]),
        name=subject.evaluation.best,
        begin=times[edge - 1 - first],
    )


def _run(subject: Subject, target: int, place: int, title: str) -> Stretch:
    """Return the one-step forecasts of windows that follow each other."""
    windows = subject.windows
    starts = windows.starts[subject.part][place : place + STRETCH]
    starts = starts[: 1 + np.argmin(np.append(np.diff(starts) == 1, [False]))]
    rows = starts + windows.n_steps
    model, rival = subject.forecasts(starts, target)
    return Stretch(
        title=title,
        times=_times(subject, rows),
        actual=windows.outputs[rows, target].astype(np.float64),
        forecast=model[:, 0],
        rival=rival[:, 0],
        name=subject.evaluation.best,
        begin=None,
    )


def _residuals(subject: Subject, target: int) -> Doubles:
    """Return the one-step errors of the newest windows of the series that has most of them."""
    windows = subject.windows
    starts = windows.starts[subject.part]
    owners, counts = np.unique(windows.owner[starts], return_counts=True)
    starts = starts[windows.owner[starts] == owners[counts.argmax()]][-MOST_RESIDUALS:]
    errors = [
        subject.forecasts(chunk, target)[0][:, 0] - windows.outputs[chunk + windows.n_steps, target]
        for chunk in np.array_split(starts, -(-len(starts) // 1000))
    ]
    return np.concatenate(errors)


def _times(subject: Subject, rows: Ints) -> Any:
    """Return the times of rows of one series, or their numbers if those are unknown."""
    owner = int(subject.windows.owner[rows[0]])
    rows = rows - int(np.searchsorted(subject.windows.owner, owner))
    times = subject.history.series[owner].times
    return rows if times is None else times[rows].astype("datetime64[ms]")


def _time_label(subject: Subject) -> str:
    return "row" if subject.history.series[0].times is None else "time (UTC)"


def _step(spec: ModelSpec) -> str:
    """Return a step in the largest unit that it is a whole number of."""
    seconds = spec.step_seconds or 0.0
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"


def _lag(spec: ModelSpec) -> str:
    return "readings" if spec.step_seconds is None else f"steps of {_step(spec)}"


def _words(record: FitRecord | None) -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
    """Yield tables of words: what was picked, what was told, what it learned from."""
    if record is None:
        return
    picked = [("picked", reason) for reason in record.reasons]
    said = [("left out", remark) for remark in record.remarks]
    if picked or said:
        yield "What the fit decided", [*picked, *said]
    choices = {name: value for name, value in record.choices.items() if value is not None}
    yield "Configuration", [(name, _plain(value)) for name, value in choices.items()]
    yield "Data", list(record.data.items())


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
