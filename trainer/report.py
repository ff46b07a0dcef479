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
    draw_span,
    draw_stretches,
)
from tidecast.trainer.dataset import Windows
from tidecast.trainer.evaluate import MODEL, Evaluation
from tidecast.trainer.figures import duration, number, unit_of
from tidecast.trainer.files import write_atomically
from tidecast.trainer.fit import Fitted
from tidecast.trainer.record import FitRecord
from tidecast.trainer.series import History, Part
from tidecast.trainer.tables import HEADINGS
from tidecast.worker.contract import ModelSpec
from tidecast.worker.pipeline.calendar import WORDS

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
MOST_POINTS = 5000
"""Places in the picture of a whole span; of more, means of some."""


@dataclass(frozen=True)
class Subject:
    """What a report is of: a model, its evaluation, and the windows and history of both."""

    spec: ModelSpec
    history: History
    windows: Windows
    evaluation: Evaluation
    record: FitRecord | None

    @classmethod
    def of(cls, fitted: Fitted, spec: ModelSpec, record: FitRecord) -> "Subject":
        """Return that of a fit, whose rows are those that it was chosen by."""
        return cls(spec, fitted.slots, fitted.windows, fitted.validation, record)

    @property
    def part(self) -> Part:
        """The part that was evaluated."""
        return self.evaluation.part

    @property
    def rows(self) -> str:
        """What its rows are called."""
        return "training" if self.part == "train" else self.part

    def series(self, start: int) -> str:
        """Return the name of a window's series, empty where there is only one."""
        name = self.history.series[int(self.windows.owner[start])].name
        return name if len(self.history.series) > 1 else ""

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
    step = f"step {_step(spec)}" if spec.has_steps else "every reading is a step"
    page = environment.get_template("report.html.jinja").render(
        title=f"{spec.name} {spec.version}",
        subtitle=f"{spec.pattern}: {', '.join(spec.features)} to {', '.join(spec.targets)}, "
        f"{spec.n_steps} readings in, {spec.horizon} out, {step}; fitted {spec.trained_at}",
        verdict=evaluation.verdict(),
        loses=evaluation.loses,
        made_of=f"It is {spec.without_network}." if spec.without_network else "",
        headings=[heading.replace("\n", " ") for heading in HEADINGS.values()],
        scores=list(_scores(evaluation)),
        part_note=f"{evaluation.windows:,} {subject.rows} windows, season {evaluation.season}. "
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
        levels = subject.record.levels if loss == "mae" else None
        measure = loss.upper() if loss in ("mae", "mse") else loss
        yield Section(
            "Learning curves",
            _learned(spec, levels is not None),
            (draw_losses(subject.record.losses, f"{measure} in training deviations", levels),),
        )
    targets = list(enumerate(spec.targets))[:MOST_TARGETS]
    yield Section(
        f"The whole {subject.rows} span, one step ahead",
        _span_note(subject),
        tuple(_span(subject, target, name) for target, name in targets),
    )
    yield Section(
        f"Forecast against actual on the worst, median and best {subject.rows} windows",
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
        lead = f"lead ({_step(spec)} each)" if spec.has_steps else "lead (readings ahead)"
        note = "MASE: 1 is the error of the seasonal naive forecast on the training rows."
        yield Section(
            "Error by lead",
            note if measure == "mase" else "",
            (draw_leads(by_lead, lead, _label(measure, spec)),),
        )
    if len(evaluation.by_series) > 1:
        worst = evaluation.by_series[:MOST_SERIES]
        known = all(one.mase is not None and one.baseline_mase is not None for one in worst)
        measure = "mase" if known else "mae"
        keys = (measure, f"baseline_{measure}")
        pairs = np.array([[getattr(one, key) for key in keys] for one in worst])
        yield Section(
            "Error by series",
            f"The {len(worst)} of {len(evaluation.by_series):,} series on which the model does "
            f"worst beside {evaluation.best}, the worst first."
            + " MASE: relative to the series' own changes from season to season."
            * known,
            (
                draw_series(
                    [one.series for one in worst], pairs, evaluation.best, _label(measure, spec)
                ),
            ),
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
            subject, target, int(place), _panel(subject, int(place), name, float(errors[place]))
        )
        for name, place in picked.items()
    ]


def _learned(spec: ModelSpec, levels: bool) -> str:
    """Say what learning curves show, and what of it is served."""
    told = ["Training errs more than validation where dropout is at work in the one alone."]
    if levels:
        told.append("All begin as the line; what is served is judged by the same rows.")
    if spec.without_network:
        told.append(f"Served is {spec.without_network}, so these curves are of what was given up.")
    return " ".join(told)


def _label(measure: str, spec: ModelSpec) -> str:
    unit = unit_of(spec.targets) if measure == "mae" else ""
    return f"{measure.upper()} [{unit}]" if unit else measure.upper()


def _panel(subject: Subject, place: int, name: str, error: float) -> str:
    """Return a panel's title: which window, of which series, and how far it errs."""
    scaled = subject.evaluation.model.mase[0] is not None
    unit = "" if scaled else unit_of(subject.spec.targets)
    told = f"{name}: {'MASE' if scaled else 'MAE'} {number(error, 3, unit)}"
    series = subject.series(subject.windows.starts[subject.part][place])
    return f"{series[:40]}\n{told}" if series else told


def _longest(subject: Subject) -> Ints:
    """Return the windows of the series that has most of them."""
    windows = subject.windows
    starts = windows.starts[subject.part]
    owners, counts = np.unique(windows.owner[starts], return_counts=True)
    longest: Ints = starts[windows.owner[starts] == owners[counts.argmax()]]
    return longest


def _ahead(subject: Subject, starts: Ints, target: int) -> Doubles:
    """Return the one-step forecasts of windows, ``[k]``."""
    chunks = np.array_split(starts, -(-len(starts) // 1000))
    return np.concatenate([subject.forecasts(chunk, target)[0][:, 0] for chunk in chunks])


def _each_mean_of(subject: Subject) -> int:
    """Return of how many readings each place in the picture of the whole span is the mean."""
    starts = _longest(subject)
    return -(-int(starts[-1] - starts[0] + 1) // MOST_POINTS)


def _span_note(subject: Subject) -> str:
    count, several = _each_mean_of(subject), len(subject.evaluation.by_series) > 1
    told = ["The series that has most windows."] * several
    told += [f"Each point is the mean of {count:,} readings."] * (count > 1)
    return " ".join(told)


def _span(subject: Subject, target: int, name: str) -> str:
    """Draw one target over all windows of the series that has most; gaps stay open."""
    starts, count = _longest(subject), _each_mean_of(subject)
    rows = np.arange(starts[0], starts[-1] + 1)
    forecast = np.full(-(-len(rows) // count) * count, np.nan)
    actual = forecast.copy()
    forecast[starts - starts[0]] = _ahead(subject, starts, target)
    ahead = subject.windows.n_steps
    actual[starts - starts[0]] = subject.windows.outputs[starts + ahead, target]
    known = np.isfinite(forecast).reshape(-1, count).sum(axis=1)
    means = [
        np.where(known, np.nansum(each.reshape(-1, count), axis=1) / np.maximum(known, 1), np.nan)
        for each in (actual, forecast)
    ]
    times = _times(subject, rows + ahead)[::count]
    labels = name, "one step ahead", _time_label(subject)
    return draw_span(times, means[0], means[1], labels, subject.series(starts[0]))


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
    starts = _longest(subject)[-MOST_RESIDUALS:]
    actual = windows.outputs[starts + windows.n_steps, target]
    errors: Doubles = _ahead(subject, starts, target) - actual
    return errors


def _times(subject: Subject, rows: Ints) -> Any:
    """Return the times of rows of one series, or their numbers if those are unknown."""
    owner = int(subject.windows.owner[rows[0]])
    rows = rows - int(np.searchsorted(subject.windows.owner, owner))
    times = subject.history.moments(subject.history.series[owner])
    return rows if times is None else times[rows].astype("datetime64[ms]")


def _time_label(subject: Subject) -> str:
    return "row" if subject.history.series[0].times is None else "time (UTC)"


def _lag(spec: ModelSpec) -> str:
    return f"steps of {_step(spec)}" if spec.has_steps else "readings"


def _step(spec: ModelSpec) -> str:
    return WORDS[spec.calendar] if spec.calendar else duration(spec.step_seconds or 0)


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
