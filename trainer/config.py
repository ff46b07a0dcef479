"""What a fit is told."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tidecast.trainer.errors import ConfigError
from tidecast.worker.contract import (
    RESERVED_FIELDS,
    Column,
    Gaps,
    Name,
    Pattern,
    SeriesGlob,
    SpecError,
    StepSeconds,
    pattern_of,
)

Activation = Literal["tanh", "relu"]
Arch = Literal["segmented", "lstm"]
Normalization = Literal["last", "instance", "standard", "none"]
Loss = Literal["mae", "huber", "mse"]


class FitConfig(BaseModel):
    """Every choice of a fit; frozen.

    What is None is picked by ``plan`` from the data. ``train_rows`` and ``validation_rows``
    count rows of each series; None means the first 70 % and the next 10 %. ``step_seconds`` "auto"
    takes the data's own step, None makes every reading the next step.
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
    season: Annotated[int, Field(ge=1)] | None = None
    gaps: Gaps = "linear"
    max_gap: Annotated[int, Field(ge=0)] | None = None
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
