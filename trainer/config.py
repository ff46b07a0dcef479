"""What a fit is told."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tidecast.trainer.errors import ConfigError
from tidecast.worker.contract import (
    RESERVED_FIELDS,
    Bounds,
    Calendar,
    Column,
    Gaps,
    Name,
    Pattern,
    Rule,
    SeriesGlob,
    SpecError,
    StepSeconds,
    pattern_of,
)

Activation = Literal["tanh", "relu"]
Arch = Literal["segmented", "lstm"]
Normalization = Literal["last", "instance", "standard", "none"]
Loss = Literal["mae", "huber", "mse"]
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""In the units that a step may be told in."""


class FitConfig(BaseModel):
    """Every choice of a fit; frozen.

    What is None is picked by ``plan`` from the data. ``train_rows`` and ``validation_rows``
    count rows of each series; None means the first 70 % and the next 10 %. ``step_seconds`` "auto"
    takes the data's own step, None makes every reading the next step, unless ``calendar`` says it.
    ``aggregate`` names the columns of which not the last reading of a step counts, ``categories``
    the columns of words that stand behind features ``column=word``, ``bounds`` what forecasts of
    some targets do not fall below, and not exceed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    targets: Annotated[tuple[Column, ...], Field(min_length=1)]
    features: Annotated[tuple[Column, ...], Field(min_length=1)]
    n_steps: Annotated[int, Field(ge=1)] | None = None
    horizon: Annotated[int, Field(ge=1)]
    arch: Arch = "segmented"
    segment: Annotated[int, Field(ge=1)] | None = None
    mix: bool | None = None
    line: bool = True
    members: Annotated[int, Field(ge=1, le=20)] = 1
    activation: Activation = "tanh"
    units: Annotated[int, Field(ge=1, le=4096)] | None = None
    layers: Annotated[int, Field(ge=1, le=2)] = 1
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    normalization: Normalization | None = None
    loss: Loss = "mae"
    train_rows: Annotated[int, Field(ge=1)] | None = None
    validation_rows: Annotated[int, Field(ge=0)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1)] = 6
    batch_size: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    step_seconds: StepSeconds | Literal["auto"] | None = "auto"
    calendar: Calendar | None = None
    season: Annotated[int, Field(ge=1)] | None = None
    gaps: Gaps = "linear"
    max_gap: Annotated[int, Field(ge=0)] | None = None
    aggregate: dict[str, Rule] = {}
    categories: dict[str, tuple[str, ...]] = {}
    bounds: dict[str, Bounds] = {}
    series: SeriesGlob = "*"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for label, names in (("targets", self.targets), ("features", self.features)):
            if len(set(names)) < len(names):
                raise ValueError(f"{label} repeat a name: {', '.join(names)}")
        if self.n_steps is not None and (self.segment or 1) > self.n_steps:
            raise ValueError(
                f"a segment of {self.segment} does not fit into {self.n_steps} steps; choose "
                "--segment from 1 to --n-steps"
            )
        for option, given in (
            ("--normalization instance", self.normalization == "instance"),
            ("--segment", self.segment is not None),
            ("--mix", self.mix is not None),
        ):
            if self.arch == "lstm" and given:
                raise ValueError(f"{option} is for --arch segmented")
        taken = RESERVED_FIELDS.intersection(self.features)
        if taken:
            raise ValueError(f"features may not be called {sorted(taken)}: the wire uses the names")
        try:
            pattern_of(len(self.features), len(self.targets), self.horizon)
        except SpecError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _aggregated(self) -> Self:
        if self.aggregate and self.step_seconds is None and self.calendar is None:
            raise ValueError("--aggregate wants steps to aggregate in; --step none has none")
        for name in self.aggregate:
            if name not in self.columns:
                raise ValueError(f"--aggregate {name}=...: neither a feature nor a target")
        return self

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        for name, (least, most) in self.bounds.items():
            if name not in self.targets:
                raise ValueError(f"bounds of {name!r}, which is no target")
            if least is not None and most is not None and least > most:
                raise ValueError(
                    f"--at-least {least:g} and --at-most {most:g} leave nothing for {name!r}"
                )
        return self

    @property
    def pattern(self) -> Pattern:
        """Which of the six patterns this is."""
        return pattern_of(len(self.features), len(self.targets), self.horizon)

    @property
    def columns(self) -> tuple[str, ...]:
        """Features, then targets that are no features."""
        return tuple(dict.fromkeys((*self.features, *self.targets)))


def fit_config(**choices: Any) -> FitConfig:
    """Return a checked configuration.

    Raises:
        ConfigError: a choice is wrong; the message names it, its value and what is allowed.
    """
    try:
        return FitConfig(**choices)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:
            raise ConfigError(reason) from error
        option = str(first["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{option} {first['input']!r}: {reason}") from error


def step_of(text: str) -> dict[str, Any]:
    """Return ``step_seconds`` and ``calendar`` that a text says, such as ``5m``, ``1mo`` or auto.

    Raises:
        ConfigError: it says no time.
    """
    if text in get_args(Calendar):
        return {"step_seconds": None, "calendar": text}
    if text in ("auto", "none"):
        return {"step_seconds": "auto" if text == "auto" else None}
    count, unit = (text[:-1], text[-1]) if text[-1:] in SECONDS else (text, "s")
    try:
        return {"step_seconds": float(count) * SECONDS[unit]}
    except ValueError as error:
        raise ConfigError(
            f"--step {text!r}: neither a time (5m, 1h, 30 for seconds), nor 1mo (months), 1bd "
            "(business days), 'auto' or 'none'"
        ) from error


def rules_of(text: str, columns: Sequence[str]) -> dict[str, str]:
    """Return the rule of each column; nothing where the last reading of all of them counts.

    Args:
        text: a rule for all columns, or for one as in ``mean,rain=sum``.
        columns: that there are.

    Raises:
        ConfigError: it names no rule.
    """
    rules = dict.fromkeys(columns, "last")
    for part in text.split(","):
        name, _, rule = part.strip().rpartition("=")
        if rule not in get_args(Rule):
            raise ConfigError(
                f"--aggregate {part.strip()!r}: {rule!r} is none of {', '.join(get_args(Rule))}"
            )
        rules |= {name: rule} if name else dict.fromkeys(columns, rule)
    return {} if set(rules.values()) == {"last"} else rules
