"""Tables and pictures of forecasts and their errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

from trainer.evaluate import Evaluation
from trainer.scores import Scores

Doubles = npt.NDArray[np.float64]

HEADINGS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "bias": "bias",
    "smape": "sMAPE",
    "mase": "MASE",
    "rmsse": "RMSSE",
    "unit_mae": "MAE in\ntraining sd",
    "unit_mse": "MSE in\ntraining sd",
}
LEADS_SHOWN = 12
SERIES_SHOWN = 5
FORECAST, ACTUAL = "#1f6feb", "#24292f"


def overall_table(title: str, scores: Mapping[str, Scores]) -> Table:
    """Return each forecaster's errors over all leads together, a row for each."""
    table = Table(title=title, title_justify="left")
    table.add_column("over all leads")
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right")
    for name, one in scores.items():
        overall = one.overall()
        table.add_row(name, *(_number(overall[measure]) for measure in HEADINGS))
    return table


def lead_table(scores: Mapping[str, Scores]) -> Table:
    """Return each forecaster's mean absolute error by lead; of many leads some."""
    table = Table(title="MAE by lead", title_justify="left")
    table.add_column("lead", justify="right")
    for name in scores:
        table.add_column(name, justify="right")
    count = len(next(iter(scores.values())).mae)
    shown = np.unique(np.geomspace(1, count, LEADS_SHOWN).round()) if count > LEADS_SHOWN else None
    for lead in range(count) if shown is None else shown.astype(int) - 1:
        table.add_row(str(lead + 1), *(_number(one.mae[lead]) for one in scores.values()))
    return table


def series_table(evaluation: Evaluation) -> Table:
    """Return the series on which the model does worst beside the best baseline."""
    some = evaluation.by_series[:SERIES_SHOWN]
    title = f"The {len(some)} of {len(evaluation.by_series)} series that it does worst on"
    table = Table(title=title, title_justify="left")
    table.add_column("series")
    for heading in ("windows", "MAE", "MASE", f"MAE of {evaluation.best}"):
        table.add_column(heading, justify="right")
    for one in some:
        numbers = (one.mae, one.mase, one.baseline_mae)
        table.add_row(escape(one.series), f"{one.windows:,}", *map(_number, numbers))
    return table


def draw_forecasts(
    path: Path,
    title: str,
    times: Sequence[object],
    actual: npt.ArrayLike,
    leads: Mapping[int, npt.ArrayLike],
) -> None:
    """Draw forecasts over what came, as PNG.

    Args:
        path: where to write.
        title: the picture's title.
        times: a time for each actual value, ``[k]``.
        actual: what came, ``[k]``.
        leads: lead -> its forecast of each actual value, ``[k]``, NaN where there is none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    truth = np.asarray(actual, np.float64)
    places = np.asarray(times)
    top.plot(places, truth, color=ACTUAL, linewidth=1.6, label="actual")
    for number, (lead, forecast) in enumerate(sorted(leads.items())):
        values = np.asarray(forecast, np.float64)
        color = FORECAST if number == 0 else "#f0883e"
        label = f"forecast, {lead} step{'s' * (lead > 1)} ahead"
        top.plot(places, values, color=color, linewidth=1.0, label=label)
        bottom.plot(places, values - truth, color=color, linewidth=0.8)
    bottom.axhline(0, color=ACTUAL, linewidth=0.8)
    top.set_title(title)
    top.legend(loc="upper left")
    bottom.set_ylabel("forecast - actual")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
