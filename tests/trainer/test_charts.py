"""What pictures show: the lines, their names and where they stand, read off the figures."""

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tidecast.trainer import charts
from tidecast.trainer.charts import (
    ACTUAL,
    BASELINES,
    FAINT,
    MODEL,
    SECOND,
    Stretch,
    draw_forecasts,
    draw_leads,
    draw_losses,
    draw_residuals,
    draw_series,
    draw_span,
    draw_stretches,
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn, instead of their text."""
    figures: list[Any] = []
    monkeypatch.setattr(charts, "_svg", figures.append)
    return figures


def lines_of(axes: Any) -> dict[str, Any]:
    """The lines of a panel by their names; those that a legend leaves out begin with _."""
    return {str(line.get_label()): line for line in axes.get_lines()}


def legend_of(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_losses_are_shown_by_epoch_with_the_best_marked(drawn: list[Any]) -> None:
    draw_losses([[(3.0, 4.0), (2.0, 2.5), (1.0, 3.0)], [(5.0, None)]], "loss")
    (axes,) = drawn[0].axes
    training, validation, best, second = axes.get_lines()
    assert legend_of(axes) == ["training", "validation", "best epoch, kept"]
    assert (training.get_color(), validation.get_color()) == (FAINT, MODEL)
    assert training.get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    assert validation.get_xydata().tolist() == [[1, 4], [2, 2.5], [3, 3]]
    assert best.get_xydata().tolist() == [[2, 2.5]]
    assert second.get_xydata().tolist() == [[1, 5]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_losses_stand_beside_what_they_begin_as_and_what_is_served(drawn: list[Any]) -> None:
    """Where no epoch betters the line, what is kept is what training began with."""
    draw_losses([[(3.0, 4.0), (2.0, 2.5)]], "loss", (2.0, 1.75))
    draw_losses([[(3.0, 4.0), (2.0, 2.5)]], "loss", (3.0, 2.75))
    shown = [lines_of(figure.axes[0]) for figure in drawn]
    assert shown[0]["best epoch, kept"].get_xydata().tolist() == [[0, 2]]
    assert shown[1]["best epoch, kept"].get_xydata().tolist() == [[2, 2.5]]
    assert [set(shown[0][name].get_ydata()) for name in ("line", "served")] == [{2.0}, {1.75}]


def test_a_whole_span_is_shown_with_its_errors(drawn: list[Any]) -> None:
    hours = np.datetime64("2024-01-01T00") + np.arange(5000)
    actual = 1000.0 * np.arange(5000)
    draw_span(hours, actual, actual + 2, ("load [MW]", "one step ahead", "time (UTC)"), "pump-1")
    top, bottom = drawn[0].axes
    assert legend_of(top) == ["actual", "forecast, one step ahead"]
    assert (top.get_title(), top.get_ylabel()) == ("pump-1", "load [MW]")
    assert (bottom.get_xlabel(), bottom.get_ylabel()) == ("time (UTC)", "forecast - actual")
    assert set(bottom.get_lines()[0].get_ydata()) == {2.0}
    assert top.get_xlim() == bottom.get_xlim()
    assert top.yaxis.get_major_formatter()(1_234_567.0, 0) == "1,234,567"


@pytest.mark.parametrize("hours", [30, 48, 55, 400, 5000, 60_000])
@pytest.mark.parametrize("kind", ["stretches", "span", "forecasts"])
def test_no_date_runs_into_the_next(
    tmp_path: Path, drawn: list[Any], monkeypatch: pytest.MonkeyPatch, kind: str, hours: int
) -> None:
    """Measured as they are drawn, from any hour on."""
    times = np.datetime64("2023-12-30T21") + np.arange(hours)
    values = np.zeros(hours)
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    if kind == "stretches":
        one = Stretch("one", times, values, values, values, "naive", None)
        draw_stretches([one] * 3, "load", "time")
    elif kind == "span":
        draw_span(times, values, values, ("load", "ahead", "time"), "")
    else:
        draw_forecasts(tmp_path / "m.png", "taxi", times, values, {1: values})
    figure = drawn[-1]
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [
            label.get_window_extent()
            for label, place in zip(axes.get_xticklabels(), axes.get_xticks(), strict=False)
            if low <= place <= high and label.get_text() and label.get_visible()
        ]
        ends = [(box.x0, box.x1) for box in ticks]
        assert all(one[1] + 2 < other[0] for one, other in pairwise(sorted(ends))), ends


def test_each_stretch_has_a_panel_of_its_own_beside_the_others(drawn: list[Any]) -> None:
    hours = np.datetime64("2024-01-01T00") + np.arange(200)
    values = np.arange(200.0)
    known = Stretch("worst", hours, values, values + 1, values + 2, "naive", hours[5])
    unknown = Stretch("best", np.arange(200), values, values, values, "naive", None)
    draw_stretches([known, unknown], "load", "time")
    left, right = drawn[0].axes
    assert left.get_position().y0 == right.get_position().y0  # in a row
    assert left.get_position().x1 < right.get_position().x0
    assert (left.get_title(), right.get_title()) == ("worst", "best")
    assert (left.get_ylabel(), right.get_ylabel()) == ("load", "")
    assert left.get_xlabel() == right.get_xlabel() == "time"
    assert legend_of(left) == ["actual", "forecast", "naive"]
    assert right.get_legend() is None
    shown = lines_of(left)
    looks = [
        (name, shown[name].get_color(), shown[name].get_linestyle()) for name in legend_of(left)
    ]
    assert looks == [("actual", ACTUAL, "-"), ("forecast", MODEL, "-"), ("naive", SECOND, "--")]
    assert [shown[name].get_ydata()[0] for name in legend_of(left)] == [0, 1, 2]
    assert shown["forecast"].get_zorder() > shown["actual"].get_zorder()
    assert (len(left.get_lines()), len(right.get_lines())) == (4, 3)  # where the forecast begins
    assert 3 <= len(left.get_xticks()) <= 7
    assert np.datetime64("2024") <= np.datetime64(round(left.get_xticks()[1] * 24), "h")


def test_errors_by_lead_begin_at_nothing(drawn: list[Any]) -> None:
    draw_leads({"model": [1.0, 2.0], "ridge": [2.0, 3.0]}, "lead (hours)", "MAE")
    (axes,) = drawn[0].axes
    shown = lines_of(axes)
    assert shown["model"].get_xydata().tolist() == [[1, 1], [2, 2]]
    assert (shown["model"].get_color(), shown["model"].get_linestyle()) == (MODEL, "-")
    assert (shown["ridge"].get_color(), shown["ridge"].get_linestyle()) == BASELINES["ridge"]
    assert shown["model"].get_linewidth() > shown["ridge"].get_linewidth()
    assert axes.get_ylim()[0] == 0
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lead (hours)", "MAE")
    assert legend_of(axes) == ["model", "ridge"]
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_each_series_has_two_bars_the_first_on_top(drawn: list[Any]) -> None:
    draw_series(["a" * 50, ""], np.array([[1.0, 2.0], [3.0, 4.0]]), "naive", "MASE")
    (axes,) = drawn[0].axes
    bars = [(round(b.get_y() + b.get_height() / 2, 2), b.get_width()) for b in axes.patches]
    assert bars == [(-0.19, 1), (0.81, 3), (0.19, 2), (1.19, 4)]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a" * 40, "(only one)"]
    assert axes.yaxis_inverted()
    assert (axes.get_xlabel(), legend_of(axes)) == ("MASE", ["model", "naive"])


def test_residuals_are_a_distribution_and_an_autocorrelation(drawn: list[Any]) -> None:
    residuals = np.random.default_rng(0).normal(0.5, size=3000)
    residuals[0] = 1e6
    draw_residuals(residuals, "load", "lag (hours)", 24)
    left, right = drawn[0].axes
    assert sum(bar.get_height() for bar in left.patches) == 3000
    assert max(bar.get_x() for bar in left.patches) < 10  # one far out does not press the others
    (mean,) = (line for line in left.get_lines() if line.get_label() == "mean (bias)")
    assert mean.get_xdata() == [residuals.mean()] * 2
    assert (left.get_xlabel(), left.get_ylabel()) == (
        "forecast - actual, load, one step ahead",
        "windows",
    )
    segments = right.collections[-1].get_segments()
    assert [tuple(each[0]) for each in segments] == [(lag, 0) for lag in range(1, 25)]
    assert legend_of(right) == ["95 % of pure noise"]
    (noise,) = right.patches
    assert noise.get_height() == pytest.approx(2 * 1.96 / np.sqrt(3000))
    assert right.get_xlabel() == "lag (hours)"
    for few in (np.zeros(100), np.arange(3.0)):  # of which there is no autocorrelation
        draw_residuals(few, "load", "lag", 24)
        assert not drawn[-1].axes[1].axison


def test_forecasts_are_drawn_over_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    save = Figure.savefig

    def noted(figure: Any, *words: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *words, **options)

    monkeypatch.setattr(Figure, "savefig", noted)
    path, actual = tmp_path / "new" / "folder" / "m.png", [1.0, 2.0, 4.0]
    draw_forecasts(
        path, "taxi", [7, 8, 9], actual, {5: [np.nan, 1.0, 1.0], 1: [0.5, 2.0, 5.0]}, "load [MW]"
    )
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:]) == (1320, 605)
    top, bottom = figures[0].axes
    assert legend_of(top) == ["actual", "forecast, 1 step ahead", "forecast, 5 steps ahead"]
    colors = [line.get_color() for line in top.get_lines()]
    assert colors == [ACTUAL, MODEL, SECOND]
    assert top.get_lines()[1].get_xydata().tolist() == [[7, 0.5], [8, 2], [9, 5]]
    assert bottom.get_lines()[0].get_xydata().tolist() == [[7, -0.5], [8, 0], [9, 1]]
    assert [line.get_color() for line in bottom.get_lines()[:2]] == [MODEL, SECOND]
    assert (top.get_title(), top.get_ylabel()) == ("taxi", "load [MW]")
    assert bottom.get_ylabel() == "forecast - actual"
    assert top.get_xlim() == bottom.get_xlim()
    heights = [axes.get_position().height for axes in (top, bottom)]
    assert heights[0] > 2 * heights[1]
