"""What a fit chose and how it went: the file NAME.fit.json beside the model, for its report."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from tidecast.trainer.errors import ModelError
from tidecast.trainer.fit import Fitted
from tidecast.trainer.series import History

SUFFIX = ".fit.json"


class FitRecord(BaseModel):
    """A fit's choices, reasons and losses, and the fingerprint of its data.

    ``levels`` are the errors of the line and of what is served, as ``Fitted`` has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    choices: dict[str, Any]
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    losses: tuple[tuple[tuple[float, float | None], ...], ...]
    levels: tuple[float, float] | None = None
    data: dict[str, str]


def record_of(fitted: Fitted, version: str, source: str) -> FitRecord:
    """Return the record of a fit of the data from ``source``."""
    plan = {name: value for name, value in vars(fitted.plan).items() if name != "reasons"}
    return FitRecord(
        version=version,
        choices=fitted.config.model_dump(mode="json") | plan,
        reasons=fitted.plan.reasons,
        remarks=fitted.remarks,
        losses=tuple(tuple(member) for member in fitted.losses),
        levels=fitted.levels,
        data=fingerprint(fitted.history, source),
    )


def fingerprint(history: History, source: str) -> dict[str, str]:
    """Return what tells one set of data from another, in words."""
    known = [history.moments(series) for series in history.series]
    times = [each for each in known if each is not None]
    span = "unknown"
    if times:
        edges = (min(int(t[0]) for t in times), max(int(t[-1]) for t in times))
        span = " to ".join(str(np.datetime64(edge, "ms")) for edge in edges) + " UTC"
    step = history.step if history.step_seconds else "any"
    return {
        "file": source,
        "rows": f"{history.rows:,}, of which {history.missing:,} with a missing value",
        "series": f"{len(history.series):,}",
        "columns": ", ".join(history.columns),
        "step": step,
        "time": span,
        "SHA-256": history.digest(),
    }


def read_record(model: Path, version: str) -> FitRecord | None:
    """Return the record beside a model file; None if there is none of this version.

    Raises:
        ModelError: it is unreadable.
    """
    path = model.with_suffix(SUFFIX)
    if not path.is_file():
        return None
    try:
        record = FitRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise ModelError(f"{path}: {reason}; remove it or fit the model again") from error
    return record if record.version == version else None
