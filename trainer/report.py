"""Tables and pictures of forecasts and their errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from trainer.evaluate import Scores

Doubles = npt.NDArray[np.float64]

FORECAST, ACTUAL = "#1f6feb", "#24292f"


def error_table(title: str, scores: Mapping[str, Scores]) -> Table:
    """Return errors per lead, one group of columns for each named set of scores.

    The last row is over all leads together.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("lead", justify="right")
    for name in scores:
        for measure in ("MAE", "RMSE", "sMAPE", "MASE"):
            table.add_column(f"{name}\n{measure}", justify="right")
    leads = len(next(iter(scores.values())).mae)
    for lead in range(leads):
        row = [
            value
            for s in scores.values()
            for value in (s.mae[lead], s.rmse[lead], s.smape[lead], s.mase[lead])
        ]
        table.add_row(str(lead + 1), *map(_number, row), end_section=lead == leads - 1)
    table.add_row("all", *(_number(v) for s in scores.values() for v in s.overall().values()))
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
