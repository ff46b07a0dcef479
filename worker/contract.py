"""The model file's metadata: what a trainer writes into an ONNX file and a worker reads out of it.

One JSON object under the metadata key ``tidecast`` says everything that the graph itself does not:
names, step, series, figures and a golden window. The reader owns the format, so it lives here; the
trainer imports this module and nothing else of the worker.
"""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

METADATA_KEY = "tidecast"
SPEC_VERSION: Final = 1
INPUT_NAME = "window"
OUTPUT_NAME = "forecast"
RESERVED_FIELDS = frozenset({"series", "ts"})

Pattern = Literal[
    "univariate_one_step",
    "multi_input_one_step",
    "multi_output_one_step",
    "univariate_multi_step",
    "multi_input_multi_step",
    "multi_output_multi_step",
]

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Column = Annotated[str, Field(min_length=1, max_length=256)]
SeriesGlob = Annotated[str, Field(min_length=1, max_length=512)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class SpecError(ValueError):
    """A model description is absent, of another version, or breaks its own rules."""


def pattern_of(features: int, targets: int, horizon: int) -> Pattern:
    """Return which of the six patterns a model with these counts follows.

    Raises:
        SpecError: a count is below one, or one feature is asked for several targets.
    """
    if min(features, targets, horizon) < 1:
        raise SpecError(
            f"{features} features, {targets} targets and horizon {horizon} make no model: "
            "each must be at least 1"
        )
    if features == 1 and targets > 1:
        raise SpecError(
            f"one feature cannot drive {targets} targets: name the targets as features too"
        )
    if features == 1:
        return "univariate_one_step" if horizon == 1 else "univariate_multi_step"
    if targets == 1:
        return "multi_input_one_step" if horizon == 1 else "multi_input_multi_step"
    return "multi_output_one_step" if horizon == 1 else "multi_output_multi_step"


def is_next_step(delta: Any, step: float) -> Any:
    """Tell whether a reading ``delta`` after the previous one is its next step.

    Half a step of jitter either way is forgiven; more is a gap (or a late reading). Trainer and
    worker cut windows by this one rule. ``delta`` is a number or an array in the unit of ``step``;
    the answer is a bool or an array of them.
    """
    return (2 * delta > step) & (2 * delta < 3 * step)


def globs_overlap(left: str, right: str) -> bool:
    """Tell whether some series name matches both globs (``*`` any run, ``?`` any one character)."""
    reachable = {(0, 0)}
    pending = [(0, 0)]
    while pending:
        i, j = pending.pop()
        for state in _glob_moves(left, right, i, j):
            if state not in reachable:
                reachable.add(state)
                pending.append(state)
    return (len(left), len(right)) in reachable


def _glob_moves(left: str, right: str, i: int, j: int) -> list[tuple[int, int]]:
    a = left[i] if i < len(left) else ""
    b = right[j] if j < len(right) else ""
    moves = []
    if a == "*":
        moves.append((i + 1, j))
        if b:
            moves.append((i, j + 1))
    if b == "*":
        moves.append((i, j + 1))
        if a:
            moves.append((i + 1, j))
    if a and b and "*" not in (a, b) and (a == b or "?" in (a, b)):
        moves.append((i + 1, j + 1))
    return moves


def glob_regex(glob: str) -> re.Pattern[str]:
    """Compile a series glob; only ``*`` and ``?`` are special."""
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in glob), re.DOTALL)


class _Part(BaseModel):
    """Immutable piece of the description; unknown keys are kept out, for newer writers."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Training(_Part):
    """What the model learned from.

    ``rows`` and ``series`` count the training part; ``first`` and ``last`` are its first and last
    time (ISO 8601, None without a time column). ``train_rows`` and ``validation_rows`` repeat the
    split that was asked for, per series (None: 70 % and 10 %).
    """

    rows: Count
    series: Count
    first: str | None = None
    last: str | None = None
    train_rows: Count | None = None
    validation_rows: Count | None = None
    season: Positive = 1


class Validation(_Part):
    """Errors on the validation rows, one number per lead, averaged over the targets.

    ``mase`` is None where the training rows never change, so that there is nothing to scale by.
    """

    mae: tuple[FiniteFloat, ...]
    mase: tuple[FiniteFloat | None, ...]
    naive_mae: tuple[FiniteFloat, ...]


class Golden(_Part):
    """One real window ``[n_steps, F]`` and the forecast ``[horizon, T]`` that Keras gave for it."""

    window: tuple[tuple[FiniteFloat, ...], ...]
    forecast: tuple[tuple[FiniteFloat, ...], ...]


class ModelSpec(_Part):
    """Everything about a model that its graph does not say; see ``docs/design.md``.

    ``step_seconds`` None means that every reading is the next step, whatever its time. ``series``
    is a glob (``*`` and ``?``) over series names.
    """

    spec_version: Literal[1]
    name: Name
    version: Annotated[str, Field(pattern=r"^[0-9a-f]{6,64}$")]
    pattern: Pattern
    n_steps: Positive
    horizon: Positive
    features: Annotated[tuple[Column, ...], Field(min_length=1)]
    targets: Annotated[tuple[Column, ...], Field(min_length=1)]
    step_seconds: Annotated[float, Field(gt=0)] | None
    series: SeriesGlob
    trained_at: str
    training: Training
    validation: Validation
    golden: Golden

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        features, targets = len(self.features), len(self.targets)
        expected = pattern_of(features, targets, self.horizon)
        _require(self.pattern == expected, f"pattern is {self.pattern!r}, shapes say {expected!r}")
        for label, names in (("features", self.features), ("targets", self.targets)):
            _require(len(set(names)) == len(names), f"{label} repeat a name: {list(names)}")
        taken = RESERVED_FIELDS.intersection(self.features)
        _require(not taken, f"features use a reserved name: {sorted(taken)}")
        for label, table, rows, columns in (
            ("golden.window", self.golden.window, self.n_steps, features),
            ("golden.forecast", self.golden.forecast, self.horizon, targets),
        ):
            shape_holds = len(table) == rows and all(len(row) == columns for row in table)
            _require(shape_holds, f"{label} is not of shape [{rows}, {columns}]")
        for label in ("mae", "mase", "naive_mae"):
            leads = len(getattr(self.validation, label))
            _require(leads == self.horizon, f"validation.{label} has {leads} leads")
        return self

    def to_json(self) -> str:
        """Return the JSON object that goes under the metadata key."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a description back.

        Raises:
            SpecError: not JSON, an unknown ``spec_version``, a missing or broken field, by name.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(_first_complaint(error)) from error


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise SpecError(complaint)


def _first_complaint(error: ValidationError) -> str:
    complaints = error.errors(include_url=False)
    versions = [c for c in complaints if c["loc"] == ("spec_version",) and c["type"] != "missing"]
    first = (versions or complaints)[0]
    field = ".".join(str(part) for part in first["loc"])
    if versions:
        return f"spec_version is {first['input']!r}, this reader knows {SPEC_VERSION}"
    if first["type"] == "missing":
        return f"field {field!r} is missing"
    reason = str(first["msg"]).removeprefix("Value error, ")
    return f"field {field!r}: {reason}" if field else reason
