"""Pictures of forecasts and their errors, in colours that the colour-blind can tell apart."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.figures import number

Doubles = npt.NDArray[np.float64]

ACTUAL, MODEL, SECOND, THIRD, FAINT = "#222222", "#0072B2", "#D55E00", "#009E73", "#8a8a8a"
"""Of the palette of Okabe & Ito 2008, "Color universal design"."""
BASELINES = {
    "naive": ("#8a8a8a", ":"),
    "seasonal naive": ("#009E73", "--"),
    "drift": ("#CC79A7", ":"),
    "ridge": ("#D55E00", "-."),
    "ETS": ("#E69F00", "--"),
}
WIDTH = 10.5


@dataclass(frozen=True)
class Stretch:
    """Readings and what was forecast of them, at the same times, ``[k]`` each; NaN: no forecast.

    ``rival`` is the forecast of the baseline called ``name``; ``begin`` is the time of the newest
    reading that the forecasts knew, None where each knew another.
    """

    title: str
    times: Any
    actual: Doubles
    forecast: Doubles
    rival: Doubles
    name: str
    begin: Any


@dataclass(frozen=True)
class Trace:
    """One column of a file: its name, and times and values of some of its series."""

    name: str
    lines: Sequence[tuple[Any, Doubles]]


def draw_columns(path: Path, title: str, columns: Sequence[Trace], time_label: str) -> None:
    """Draw columns of a file below each other over their times, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, max(2.5, 1.5 * len(columns) + 0.8)), layout="constrained")
    panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    for axes, trace in zip(panels, columns, strict=True):
        for place, (times, values) in enumerate(trace.lines):
            color = (MODEL, SECOND, THIRD)[place % 3]
            axes.plot(times, values, color=color, linewidth=0.8)
        axes.set_ylabel(trace.name, rotation=0, horizontalalignment="right")
        _plain(axes)
        _value_axis(axes.yaxis)
    panels[0].set_title(title)
    panels[-1].set_xlabel(time_label)
    _date_axis(panels[-1], columns[-1].lines[0][0], most=10)
    with warnings.catch_warnings():
        # Names in letters that the font has not are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, dpi=100)


def draw_forecasts(
    path: Path,
    title: str,
    times: npt.ArrayLike,
    actual: npt.ArrayLike,
    leads: Mapping[int, npt.ArrayLike],
    target: str = "",
) -> None:
    """Draw forecasts over what came, as PNG.

    Args:
        path: where to write.
        title: the picture's title.
        times: a time for each actual value, ``[k]``.
        actual: what came, ``[k]``.
        leads: lead -> its forecast of each actual value, ``[k]``, NaN where there is none.
        target: what is forecast, with its unit where that is known.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    truth = np.asarray(actual, np.float64)
    places = np.asarray(times)
    top.plot(places, truth, color=ACTUAL, linewidth=1.6, label="actual")
    for place, (lead, forecast) in enumerate(sorted(leads.items())):
        values = np.asarray(forecast, np.float64)
        color = MODEL if place == 0 else SECOND
        label = f"forecast, {lead} step{'s' * (lead > 1)} ahead"
        top.plot(places, values, color=color, linewidth=1.0, label=label)
        bottom.plot(places, values - truth, color=color, linewidth=0.8)
    bottom.axhline(0, color=ACTUAL, linewidth=0.8)
    top.set_title(title)
    top.set_ylabel(target)
    top.legend(loc="upper left")
    bottom.set_ylabel("forecast - actual")
    _value_axis(top.yaxis)
    _value_axis(bottom.yaxis)
    _date_axis(bottom, places, most=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw_losses(
    losses: Sequence[Sequence[tuple[float, float | None]]],
    measure: str,
    levels: tuple[float, float] | None = None,
) -> str:
    """Draw each member's training and validation loss by epoch; return the picture as SVG.

    ``levels`` are the validation losses of the line that all begin as, and of what is served.
    """
    figure, (axes,) = _figure(3.2)
    for place, member in enumerate(losses):
        epochs = np.arange(1, len(member) + 1)
        first = place == 0
        axes.plot(
            epochs, [loss for loss, _ in member], color=FAINT, label="training" if first else None
        )
        watched = [np.nan if each is None else each for _, each in member]
        if not np.isnan(watched).all():
            axes.plot(epochs, watched, color=MODEL, label="validation" if first else None)
            begin = [] if levels is None else [(0, levels[0])]  # it may stay the best
            kept = min([*begin, *zip(epochs, watched, strict=True)], key=lambda point: point[1])
            label = "best epoch, kept" if first else None
            axes.plot(*kept, "o", color=MODEL, label=label)
    if levels is not None:
        for level, style, label in zip(levels, (":", "-."), ("line", "served"), strict=True):
            axes.axhline(level, color=SECOND, linestyle=style, linewidth=1.2, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel(measure)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _value_axis(axes.yaxis)
    axes.legend(fontsize=8, loc="upper right")
    return _svg(figure)


def draw_stretches(stretches: Sequence[Stretch], target: str, time_label: str) -> str:
    """Draw what came before, what was forecast and what came, a panel each; return it as SVG."""
    figure, panels = _figure(3.4, columns=len(stretches))
    for axes, one in zip(panels, stretches, strict=True):
        axes.plot(one.times, one.actual, color=ACTUAL, linewidth=1.3, label="actual")
        axes.plot(one.times, one.forecast, color=MODEL, linewidth=1.6, label="forecast", zorder=3)
        axes.plot(one.times, one.rival, color=SECOND, linestyle="--", linewidth=1.1, label=one.name)
        if one.begin is not None:
            axes.axvline(one.begin, color=FAINT, linewidth=0.8)
        axes.set_title(one.title, fontsize=10)
        axes.set_xlabel(time_label)
        _date_axis(axes, one.times)
        _value_axis(axes.yaxis)
    panels[0].set_ylabel(target)
    panels[0].legend(fontsize=8, loc="upper left")
    return _svg(figure)


def draw_span(
    times: Any,
    actual: npt.NDArray[Any],
    forecast: npt.NDArray[Any],
    labels: tuple[str, str, str],
    series: str,
) -> str:
    """Draw what came and what was forecast of it over a whole span, errors below; as SVG.

    Args:
        times: of each place, ``[k]``.
        actual: what came, ``[k]``, NaN where nothing was forecast.
        forecast: of it, ``[k]``.
        labels: the target, how far ahead it is forecast, and the axis of times.
        series: whose it is; empty for an only one.
    """
    from matplotlib.figure import Figure

    target, ahead, time_label = labels
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for axes in (top, bottom):
        _plain(axes)
    top.plot(times, actual, color=ACTUAL, linewidth=1.0, label="actual")
    top.plot(times, forecast, color=MODEL, linewidth=0.8, label=f"forecast, {ahead}")
    bottom.plot(times, forecast - actual, color=MODEL, linewidth=0.6)
    bottom.axhline(0, color=ACTUAL, linewidth=0.8)
    top.set_title(series, fontsize=10)
    top.set_ylabel(target)
    bottom.set_ylabel("forecast - actual")
    bottom.set_xlabel(time_label)
    top.legend(fontsize=8, loc="upper left", ncols=2)
    _value_axis(top.yaxis)
    _value_axis(bottom.yaxis)
    _date_axis(bottom, times, most=12)
    return _svg(figure)


def draw_leads(errors: Mapping[str, Sequence[float]], lead_label: str, measure: str) -> str:
    """Draw each forecaster's error by lead; return the picture as SVG."""
    figure, (axes,) = _figure(3.4)
    for name, values in errors.items():
        color, style = BASELINES.get(name, (MODEL, "-"))
        leads = np.arange(1, len(values) + 1)
        width = 1.2 if name in BASELINES else 2.2
        axes.plot(leads, values, style, color=color, linewidth=width, label=name)
    axes.set_xlabel(lead_label)
    axes.set_ylabel(measure)
    axes.set_ylim(bottom=0)
    _value_axis(axes.yaxis)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(ncols=2, fontsize=8, loc="lower right")
    return _svg(figure)


def draw_series(names: Sequence[str], pairs: Doubles, rival: str, measure: str) -> str:
    """Draw each series' error and the rival's, ``[series, 2]``, as bars; return it as SVG."""
    figure, (axes,) = _figure(1.2 + 0.34 * len(names))
    places = np.arange(len(names))
    axes.barh(places - 0.19, pairs[:, 0], 0.38, color=MODEL, label="model")
    axes.barh(places + 0.19, pairs[:, 1], 0.38, color=SECOND, label=rival)
    axes.set_yticks(places, [name[:40] or "(only one)" for name in names])
    axes.invert_yaxis()
    _value_axis(axes.xaxis)
    axes.set_xlabel(measure)
    axes.legend(fontsize=8, loc="lower right")
    return _svg(figure)


def draw_residuals(residuals: Doubles, target: str, lag_label: str, lags: int) -> str:
    """Draw the distribution and the autocorrelation of one-step errors in order of time, as SVG."""
    from statsmodels.tsa.stattools import acf

    figure, (left, right) = _figure(3.2, columns=2)
    low, high = np.quantile(residuals, (0.001, 0.999))
    left.hist(np.clip(residuals, low, high), bins=60, color=MODEL)
    left.axvline(0, color=ACTUAL, linewidth=0.8)
    left.axvline(residuals.mean(), color=SECOND, linestyle="--", label="mean (bias)")
    left.set_xlabel(f"forecast - actual, {target}, one step ahead")
    left.set_ylabel("windows")
    _value_axis(left.xaxis)
    _value_axis(left.yaxis)
    left.locator_params(axis="x", nbins=6)
    left.legend(fontsize=8, loc="upper right")
    lags = min(lags, len(residuals) // 2 - 1)
    if lags < 1 or not residuals.std():
        right.set_axis_off()
        return _svg(figure)
    bound = 1.96 / np.sqrt(len(residuals))
    right.axhspan(-bound, bound, color=FAINT, alpha=0.3, label="95 % of pure noise")
    found = acf(residuals, nlags=lags, fft=True)[1:]
    right.vlines(np.arange(1, lags + 1), 0, found, color=MODEL, linewidth=1.2)
    right.axhline(0, color=ACTUAL, linewidth=0.8)
    _value_axis(right.yaxis)
    right.set_xlabel(lag_label)
    right.set_ylabel("autocorrelation of errors")
    right.legend(fontsize=8, loc="upper right")
    return _svg(figure)


def _figure(height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, columns)).tolist()
    for axes in panels:
        _plain(axes)
    return figure, panels


def _plain(axes: Any) -> None:
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _value_axis(axis: Any) -> None:
    """Write numbers as people do, without a power of ten in a corner."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: number(float(value))))


def _date_axis(axes: Any, times: Any, most: int = 5) -> None:
    """Write so few dates, and so short, that none runs into the next."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if np.asarray(times).dtype.kind == "M":
        locator: Any = AutoDateLocator(minticks=2, maxticks=most)  # type: ignore[no-untyped-call]  # no types there
        axes.xaxis.set_major_locator(locator)
        formatter: Any = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]  # no types there
        axes.xaxis.set_major_formatter(formatter)


def _svg(figure: Any) -> str:
    """Return a figure as SVG, the same bytes each time."""
    import matplotlib as mpl

    content = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "tidecast"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
