"""Tables of errors for the terminal."""

from collections.abc import Mapping

import numpy as np
from rich.markup import escape
from rich.table import Table

from tidecast.trainer.evaluate import Evaluation
from tidecast.trainer.figures import number
from tidecast.trainer.scores import Scores

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


def overall_table(title: str, scores: Mapping[str, Scores]) -> Table:
    """Return each forecaster's errors over all leads together, a row for each."""
    table = Table(title=title, title_justify="left")
    table.add_column("over all leads")
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right")
    for name, one in scores.items():
        overall = one.overall()
        table.add_row(name, *(number(overall[measure]) for measure in HEADINGS))
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
        table.add_row(str(lead + 1), *(number(one.mae[lead]) for one in scores.values()))
    return table


def series_table(evaluation: Evaluation) -> Table:
    """Return the series on which the model does worst beside the best baseline."""
    some = evaluation.by_series[:SERIES_SHOWN]
    few = len(some) < len(evaluation.by_series)
    count = f"{len(some)} of {len(evaluation.by_series):,}" if few else str(len(some))
    title = f"The {count} series, by how it does beside {evaluation.best}, the worst first"
    table = Table(title=title, title_justify="left")
    table.add_column("series")
    best = evaluation.best
    for heading in ("windows", "MAE", "MASE", f"MAE of {best}", f"MASE of {best}"):
        table.add_column(heading, justify="right")
    for one in some:
        numbers = (one.mae, one.mase, one.baseline_mae, one.baseline_mase)
        table.add_row(escape(one.series), f"{one.windows:,}", *map(number, numbers))
    return table
