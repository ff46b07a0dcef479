"""The model file's metadata: what a trainer writes into an ONNX file and a worker reads out of it.

One JSON object under the metadata key ``tidecast`` says everything that the graph itself does not:
names, step, series, figures and a golden window. The reader owns the format, so it lives here; the
trainer imports this module and ``pipeline.model_file``, and nothing else of the worker.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

METADATA_KEY = "tidecast"
SPEC_VERSION: Final = 2
INPUT_NAME = "window"
OUTPUT_NAME = "forecast"
GOLDEN_TOLERANCE = 1e-4
"""Of a target's largest golden forecast."""
GOLDEN_ROUNDING = 1e-6
"""Of a target's largest golden reading."""
DOUBLE_ROUNDING = 1e-15
"""The same of a model of 64-bit numbers."""
RESERVED_FIELDS = frozenset({"series", "ts", "tidecast:fleet"})
VERSION_DIGITS = 12
DECIDING = {"features", "targets", "n_steps", "horizon", "step_seconds", "golden"}
"""What of a description decides forecasts, beside the graph."""
LONGEST_METADATA = 32_000_000
"""Bytes of a description; a golden window takes about 20 for each number."""
MOST_NUMBERS = 1_000_000
"""In a window, and in a forecast."""
LARGEST_FLOAT32 = 3.4028234663852886e38
LONGEST_COMPLAINT = 300

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
Word = Annotated[str, Field(min_length=1, max_length=128)]
SeriesGlob = Annotated[str, Field(min_length=1, max_length=512)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
StepSeconds = Annotated[float, Field(ge=0.001, le=1e12)]
"""From a millisecond, in which times are told, to more than all times that there are."""
# A table of millions of wrong cells is refused at the first, as each complaint takes a kilobyte.
Float32 = Annotated[float, Field(ge=-LARGEST_FLOAT32, le=LARGEST_FLOAT32)]
Row = Annotated[tuple[Float32, ...], FailFast()]
Rows = Annotated[tuple[Row, ...], Field(max_length=MOST_NUMBERS), FailFast()]
Columns = Annotated[tuple[Column, ...], Field(min_length=1), FailFast()]


Gaps = Literal["linear", "hold", "seasonal", "none"]
"""What becomes of empty slots; see docs/time.md."""
Calendar = Literal["1mo", "1bd"]
"""Steps that are no number of seconds: months, and business days."""
Rule = Literal["last", "mean", "sum", "min", "max", "count"]
"""What becomes of a feature's several readings in one slot."""
Numbers = Literal["float32", "float64"]
"""What windows and forecasts are made of."""
Bounds = tuple[float | None, float | None]
"""What no forecast of a target falls below, and what none exceeds; None: anything."""
Kind = Literal["naive", "line", "network", "line and network"]
"""What has a say in a model's forecasts; a network or a line that does not is in the graph, too."""
WITHOUT_NETWORK: Final[dict[Kind | None, str]] = {
    "naive": "the naive forecast alone: it repeats the newest value, no network has a say in it",
    "line": "a straight line (ridge) alone: no network has a say in it",
}


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


def limits_of(
    targets: Iterable[str], bounds: Mapping[str, Bounds]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the bounds of each target, infinite where it has none."""
    pairs = [bounds.get(target, (None, None)) for target in targets]
    return (
        tuple(-math.inf if least is None else least for least, _ in pairs),
        tuple(math.inf if most is None else most for _, most in pairs),
    )


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
    """Compile a series glob; only ``*`` and ``?`` are special.

    Matching takes no more steps than name and glob have characters, multiplied, whatever they are:
    each piece between two stars is looked for once, where it comes first. That leaves most room for
    those behind it, so nothing is gained by trying elsewhere, and the atomic groups forbid it.
    """
    first, *between = (
        "".join("." if c == "?" else re.escape(c) for c in piece) for piece in glob.split("*")
    )
    pattern = first
    if between:
        *middle, last = between
        pattern += "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}"
    return re.compile(pattern, re.DOTALL)


class _Part(BaseModel):
    """Immutable piece of the description; unknown keys are kept out, for newer writers."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Training(_Part):
    """What the model learned from.

    ``rows`` and ``series`` count the training part; ``first`` and ``last`` are its first and last
    time (ISO 8601, None without a time column). ``train_rows`` and ``validation_rows`` repeat the
    split that was asked for, per series (None: 70 % and 10 %). ``kind`` is what of it has a say in
    the forecasts (None: an older file, which does not tell).
    """

    rows: Count
    series: Count
    first: str | None = None
    last: str | None = None
    train_rows: Count | None = None
    validation_rows: Count | None = None
    season: Positive = 1
    kind: Kind | None = None


class Validation(_Part):
    """Errors on the validation rows, one number per lead, averaged over the targets.

    ``rows`` is "training" where there were no validation rows and these are of the training rows.
    ``mase`` is None where the training rows never change, so that there is nothing to scale by.
    """

    mae: Annotated[tuple[FiniteFloat, ...], FailFast()]
    mase: Annotated[tuple[FiniteFloat | None, ...], FailFast()]
    naive_mae: Annotated[tuple[FiniteFloat, ...], FailFast()]
    rows: Literal["validation", "training"] = "validation"


class Golden(_Part):
    """One real window ``[n_steps, F]`` and the forecast ``[horizon, T]`` that Keras gave for it."""

    window: Rows
    forecast: Rows


class ModelSpec(_Part):
    """Everything about a model that its graph does not say; see ``docs/design.md``.

    ``step_seconds`` None means that every reading is the next step, whatever its time. ``series``
    is a glob (``*`` and ``?``) over series names. ``gaps`` says how empty slots are filled, up to
    ``max_gap`` of them in a row; a file of version 1 leaves them empty. ``min_steps`` is from how
    many slots on a window is forecast from, its rest extended (None: ``n_steps``). ``aggregate``
    says what becomes of a column's readings in one slot; of others the last counts. ``calendar`` is
    the step where that is no number of seconds. ``categories`` are fields that hold one of some
    words, for each of which there is a feature ``field=word`` that is 1 or 0. ``numbers`` is what
    the graph takes and returns, ``bounds`` are those of targets between which the graph keeps its
    forecasts.
    """

    spec_version: Literal[1, 2]
    name: Name
    version: Annotated[str, Field(pattern=r"^[0-9a-f]{6,64}$")]
    pattern: Pattern
    n_steps: Positive
    horizon: Positive
    features: Columns
    targets: Columns
    step_seconds: StepSeconds | None
    calendar: Calendar | None = None
    gaps: Gaps = "none"
    max_gap: Count = 0
    min_steps: Positive | None = None
    aggregate: Annotated[dict[Column, Rule], Field(max_length=MOST_NUMBERS)] = {}
    categories: Annotated[dict[Column, tuple[Word, ...]], Field(max_length=MOST_NUMBERS)] = {}
    numbers: Numbers = "float32"
    bounds: Annotated[dict[Column, Bounds], Field(max_length=MOST_NUMBERS)] = {}
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
            numbers = f"{label} is of {rows} x {columns} numbers, more than {MOST_NUMBERS:,}"
            _require(rows * columns <= MOST_NUMBERS, numbers)
            shape_holds = len(table) == rows and all(len(row) == columns for row in table)
            _require(shape_holds, f"{label} is not of shape [{rows}, {columns}]")
        unknown = self.aggregate.keys() - {*self.features, *self.targets}
        _require(not unknown, f"aggregate names columns that there are not: {sorted(unknown)}")
        words = {f"{name}={word}" for name, some in self.categories.items() for word in some}
        absent = words - set(self.features)
        _require(not absent, f"categories name features that there are not: {sorted(absent)}")
        for name, (least, most) in self.bounds.items():
            _require(name in self.targets, f"bounds name a target that there is not: {name!r}")
            _require(
                least is None or most is None or least <= most,
                f"bounds of {name!r} leave nothing between {least} and {most}",
            )
        one = self.step_seconds is None or self.calendar is None
        _require(one, f"both step_seconds and calendar {self.calendar!r} say the step")
        steps = self.has_steps or not self.aggregate
        _require(steps, "aggregate wants a step: without one, each reading is a slot")
        for label in ("mae", "mase", "naive_mae"):
            leads = len(getattr(self.validation, label))
            _require(leads == self.horizon, f"validation.{label} has {leads} leads")
        return self

    @property
    def has_steps(self) -> bool:
        """Whether readings fall into slots; else each one is the next step."""
        return self.step_seconds is not None or self.calendar is not None

    @property
    def without_network(self) -> str:
        """Say in words that no network has a say in the forecasts; empty if one may have."""
        return WITHOUT_NETWORK.get(self.training.kind, "")

    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return what forecasts of each target do not fall below, and not exceed, ``[T]`` each."""
        return limits_of(self.targets, self.bounds)

    @property
    def bounded(self) -> str:
        """Say in words what bounds forecasts; empty if nothing does."""
        said = []
        for target, (least, most) in self.bounds.items():
            edges = [("at least", least), ("at most", most)]
            told = " and ".join(f"{how} {limit:g}" for how, limit in edges if limit is not None)
            said.append(f"{target} {told}")
        return ", ".join(said)

    def golden_margins(self) -> tuple[float, ...]:
        """Return how far from the golden forecast each target's may be, ``[T]``.

        Each target by its own size; a forecast near zero may carry its readings' rounding. In
        64-bit numbers, by how far the target moves from its newest reading, in window and forecast.
        """
        margins, double = [], self.numbers == "float64"
        for place, target in enumerate(self.targets):
            leads = [lead[place] for lead in self.golden.forecast]
            readings = [0.0]
            if target in self.features:
                readings = [row[self.features.index(target)] for row in self.golden.window]
            newest = readings[-1] if double else 0.0
            moves = [lead - newest for lead in leads]
            moves += [reading - newest for reading in readings] if double else []
            rounding = DOUBLE_ROUNDING if double else GOLDEN_ROUNDING
            margin = GOLDEN_TOLERANCE * max(map(abs, moves))
            margins.append(margin + rounding * max(map(abs, readings)))
        return tuple(margins)

    def to_json(self) -> str:
        """Return the JSON object that goes under the metadata key."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a description back.

        Raises:
            SpecError: too long, not JSON, an unknown ``spec_version``, a missing or broken field,
                by name.
        """
        if len(text) > LONGEST_METADATA:
            raise SpecError(f"{len(text):,} bytes long, more than {LONGEST_METADATA:,}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(_first_complaint(error)) from error


def version_of(computation: Iterable[bytes | memoryview], spec: ModelSpec) -> str:
    """Return the SHA-256 of all that decides a model's forecasts, of which ``version`` is a prefix.

    Whatever else a description says, such as the series that the model serves, may change without
    another version.

    Args:
        computation: the model's fields ``graph``, ``opset_import`` and ``functions`` as they stand
            in the file, with their tags, by their number.
        spec: its description.
    """
    deciding = spec.model_dump(mode="json", include=DECIDING)
    if spec.spec_version > 1:
        filling: dict[str, object] = {
            "gaps": spec.gaps,
            "max_gap": spec.max_gap,
            "min_steps": spec.min_steps,
        }
        filling |= {"aggregate": spec.aggregate} if spec.aggregate else {}
        filling |= {"calendar": spec.calendar} if spec.calendar else {}
        filling |= {"categories": spec.categories} if spec.categories else {}
        deciding = {"grid": filling | {"season": spec.training.season}, **deciding}
        deciding |= {"numbers": spec.numbers} if spec.numbers != "float32" else {}
        deciding |= {"bounds": spec.bounds} if spec.bounds else {}
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True, separators=(",", ":")).encode())
    for part in computation:
        digest.update(part)
    return digest.hexdigest()


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise SpecError(complaint)


def _first_complaint(error: ValidationError) -> str:
    complaints = error.errors(include_url=False)
    versions = [c for c in complaints if c["loc"] == ("spec_version",) and c["type"] != "missing"]
    first = (versions or complaints)[0]
    field = ".".join(str(part) for part in first["loc"])
    value = repr(first["input"])[:LONGEST_COMPLAINT]
    if versions:
        return f"spec_version is {value}, this reader knows 1 to {SPEC_VERSION}"
    if first["type"] == "missing":
        return f"field {field!r} is missing"
    reason = str(first["msg"]).removeprefix("Value error, ")[:LONGEST_COMPLAINT]
    if not field:
        return reason
    told = f" is {value}" if isinstance(first["input"], str | int | float) else ""
    return f"field {field!r}{told}: {reason}"
