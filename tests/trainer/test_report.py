"""The report: one page that needs nothing else, true to the evaluation, safe with any name."""

import base64
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.model_files import spec_of
from tests.trainer.conftest import config_of, history_of
from tidecast.trainer import report as report_of
from tidecast.trainer.dataset import make_windows
from tidecast.trainer.evaluate import evaluate_part
from tidecast.trainer.export import write_model
from tidecast.trainer.fit import Fitted, fit
from tidecast.trainer.record import SUFFIX, read_record, record_of
from tidecast.trainer.report import (
    MOST_POINTS,
    Subject,
    _residuals,
    _span,
    _span_note,
    _stretches,
    write_report,
)
from tidecast.trainer.series import History, Part, Series

Doubles = npt.NDArray[np.float64]

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
NASTY = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Collects what a page shows and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += [data.strip()] if data.strip() else []


def several(horizon: int) -> Fitted:
    random = np.random.default_rng(4)
    parts = tuple(
        Series(name, np.arange(150) * 3_600_000, random.normal(size=(150, 2)).cumsum(axis=0))
        for name in (NASTY, "b")
    )
    config = config_of(features=("a", "b"), targets=("a", "b"), horizon=horizon)
    return fit(config, History(("a", "b"), parts, 3600.0))


def report(fitted: Fitted, folder: Path, part: Part = "validation") -> Page:
    _, spec = write_model(folder, fitted, MOMENT)
    evaluation = fitted.validation
    if part == "test":
        evaluation = evaluate_part(
            lambda window: window[:, -1:, :],
            fitted.history,
            fitted.windows,
            "test",
            fitted.plan.season,
            (fitted.config.features, fitted.config.targets),
        )
    record = record_of(fitted, spec.version, f"{NASTY}.csv")
    subject = Subject(spec, fitted.history, fitted.windows, evaluation, record)
    write_report(folder / "m.html", subject)
    return Page((folder / "m.html").read_text())


@pytest.mark.parametrize("horizon", [1, 10])
def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path, horizon: int) -> None:
    fitted = several(horizon)
    page = report(fitted, tmp_path)
    assert page.open == []
    assert page.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    text = (tmp_path / "m.html").read_text()
    assert not re.search(r"https?://", text)
    pictures = [base64.b64decode(link.split(",")[1]).decode() for link in page.links]
    assert all(picture.rstrip().endswith("</svg>") for picture in pictures)
    # Curves, two targets' spans and windows, leads if several, series, two targets' residuals.
    assert len(pictures) == 1 + 2 + 2 + (horizon > 1) + 1 + 2
    assert "script" not in page.tags
    assert any(NASTY in word for word in page.words)
    assert fitted.validation.verdict() in page.words
    assert fitted.history.digest() in page.words
    assert any("flatter" in word for word in page.words)


def test_the_same_fit_has_the_same_page(tmp_path: Path, wave: Fitted) -> None:
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        report(wave, tmp_path / name)
        pages.append((tmp_path / name / "m.html").read_bytes())
    assert pages[0] == pages[1]


def test_test_rows_are_called_so(tmp_path: Path) -> None:
    fitted = fit(config_of(), history_of(np.random.default_rng(0).normal(size=300).cumsum()))
    page = report(fitted, tmp_path, "test")
    assert any("never saw" in word for word in page.words)
    assert "ETS" in page.words


def subject_of(history: History, offset: list[float]) -> Subject:
    """Forecasts of ``a`` and ``b`` that are the newest values and so much more, on test rows."""
    names = ("a", "b")
    windows = make_windows(
        history, names, names, n_steps=2, horizon=1, train_rows=20, validation_rows=0
    )
    evaluation = evaluate_part(
        lambda inputs: inputs[:, -1:, :] + np.array(offset, np.float32),
        history,
        windows,
        "test",
        1,
        (names, names),
        thorough=False,
    )
    spec = spec_of(n_steps=2, features=names, targets=names, step_seconds=60.0)
    return Subject(spec, history, windows, evaluation, None)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is drawn over a whole span, instead of its picture."""
    found: list[Any] = []
    monkeypatch.setattr(report_of, "draw_span", lambda *given: found.append(given))
    return found


def gappy(rows: int) -> tuple[History, Doubles]:
    """A short series and a long one, of which ten readings are missing, and the long one's values.

    Both begin an hour apart.
    """
    long = np.random.default_rng(1).normal(size=(rows, 2))
    long[30:40] = np.nan
    parts = (
        Series("short", np.arange(40) * 60_000, long[100:140].copy()),
        Series("long", (60 + np.arange(rows)) * 60_000, long),
    )
    return History(("a", "b"), parts, 60.0), long


def test_the_whole_span_is_drawn_with_its_gaps(spans: list[Any]) -> None:
    """Test rows begin at the 20th; after the gap a window takes two readings."""
    history, values = gappy(200)
    subject = subject_of(history, [2.0, -3.0])
    _span(subject, 1, "b")
    ((times, actual, forecast, labels, series),) = spans
    assert (labels[0], series) == ("b", "long")
    assert times[0] == np.datetime64("1970-01-01T01:20")
    assert len(times) == len(actual) == len(forecast) == 180
    lost = np.zeros(180, np.bool_)
    lost[10:22] = True
    np.testing.assert_array_equal(np.isnan(forecast), lost)
    np.testing.assert_allclose(actual[~lost], values[20:, 1][~lost], rtol=1e-5)
    np.testing.assert_allclose(forecast[~lost], values[19:-1, 1][~lost] - 3, rtol=1e-5, atol=1e-5)


def test_a_long_span_is_drawn_as_means(spans: list[Any]) -> None:
    history, values = gappy(20 + 2 * MOST_POINTS + 101)
    subject = subject_of(history, [0.0, 0.0])
    _span(subject, 0, "a")
    ((times, actual, *_),) = spans
    assert len(actual) == len(times) == -(-(2 * MOST_POINTS + 101) // 3)
    assert actual[10] == pytest.approx(values[50:53, 0].mean(), rel=1e-5)
    assert times[1] - times[0] == np.timedelta64(3, "m")
    assert "the mean of 3 readings" in _span_note(subject)
    assert "most windows" in _span_note(subject)


def test_panels_name_the_series_and_the_measure() -> None:
    history, _ = gappy(200)
    titles = {one.title for one in _stretches(subject_of(history, [1.0, 1.0]), 0)}
    assert len(titles) == 3
    for title in titles:
        assert re.fullmatch(r"(short|long)\n(worst|median|best): MASE [\d.]+", title)
    alone = History(("a", "b"), history.series[1:], 60.0)
    assert all("\n" not in one.title for one in _stretches(subject_of(alone, [1.0, 1.0]), 0))


def test_residuals_are_forecast_less_actual() -> None:
    """One step ahead, in order of time, of the series that has most windows."""
    random = np.random.default_rng(1)
    parts = tuple(
        Series(name, np.arange(rows) * 60_000, random.normal(size=(rows, 2)))
        for name, rows in (("short", 40), ("long", 60), ("shorter", 30))
    )
    subject = subject_of(History(("a", "b"), parts, 60.0), [2.0, -3.0])
    for target, offset in ((0, 2.0), (1, -3.0)):
        actual = parts[1].values[20:, target]
        before = parts[1].values[19:-1, target]
        np.testing.assert_allclose(
            _residuals(subject, target), before + offset - actual, rtol=1e-5, atol=1e-5
        )
    bias = subject.evaluation.model.bias[0]
    assert bias == pytest.approx(-0.5, abs=0.2)  # of the same sign: the mean of both


def test_a_record_of_another_version_is_none(tmp_path: Path, wave: Fitted) -> None:
    path, spec = write_model(tmp_path, wave, MOMENT)
    assert read_record(path, spec.version) is None
    record = record_of(wave, spec.version, "data.csv")
    path.with_suffix(SUFFIX).write_text(record.model_dump_json())
    assert read_record(path, spec.version) == record
    assert read_record(path, "another") is None
