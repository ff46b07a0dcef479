"""What is fitted and measured, beside what others published of the same rows."""

from dataclasses import dataclass, field
from pathlib import Path

ETT = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
ETT_ROWS = (8640, 2880, 14_400)
"""The protocol of Zhou et al. 2021: 12, 4 and 4 months of 30 days."""


@dataclass(frozen=True)
class Case:
    """One model to fit with nothing but its columns and horizon.

    ``rows`` are those of training, of validation and of all three parts; None: 70, 10 and 20 % of
    the file. ``measure`` is what is compared, ``goal`` and ``reach`` are the most it may be and
    what is hoped for; where ``relative`` they are shares of the better of the baselines. ``week``
    adds the newest value a week before, so many steps, to those.
    """

    name: str
    file: str
    targets: tuple[str, ...]
    horizon: int
    measure: str
    goal: float
    reach: float
    features: tuple[str, ...] = ()
    rows: tuple[int, int, int] | None = None
    series_column: str | None = None
    relative: bool = False
    published: str = ""
    week: int | None = None

    @property
    def live(self) -> bool:
        """Tell whether the test rows are replayed through a worker too."""
        return self.rows is not None


@dataclass
class Result:
    """What the seeds of one case reached: offline, live, and how long fits took."""

    case: Case
    found: list[float] = field(default_factory=list)
    live: list[float] = field(default_factory=list)
    absolute: list[float] = field(default_factory=list)
    baselines: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    picked: str = ""

    @property
    def relative(self) -> list[float]:
        """The measure over the least of the baselines'."""
        best = min(self.baselines.values())
        return [value / best for value in self.found]


def ett(
    name: str,
    targets: tuple[str, ...],
    horizon: int,
    goal: float,
    reach: float,
    published: str,
    features: tuple[str, ...] = (),
) -> Case:
    """Return a case of the ETT protocol: mean squared error in training deviations."""
    return Case(
        name=name,
        file="ETTh1.csv",
        targets=targets,
        horizon=horizon,
        measure="unit_mse",
        goal=goal,
        reach=reach,
        features=features,
        rows=ETT_ROWS,
        published=published,
    )


TABLES = (
    ett("ETTh1, 7 to 7", ETT, 1, 0.097, 0.094, "ridge .100"),
    ett("ETTh1, 7 to 7", ETT, 24, 0.290, 0.280, "LSTMa .650, Informer .577"),
    ett("ETTh1, 7 to 7", ETT, 96, 0.360, 0.348, "NLinear .374, PatchTST .370, SegRNN .351"),
    ett("ETTh1, OT alone", ("OT",), 24, 0.0258, 0.025, "LSTMa .114, Informer .098"),
    ett("ETTh1, OT alone", ("OT",), 96, 0.053, 0.051, "Informer .193, NLinear .053"),
    ett("ETTh1, 7 to OT", ("OT",), 24, 0.0258, 0.025, "below OT alone", ETT),
)
TAXI = Case(
    "New York taxi", "nyc_taxi.csv", ("value",), 5, "mae", 0.80, 0.70, relative=True, week=336
)
FILES = (
    ("nyc_taxi", "value", None),
    ("machine_temperature_system_failure", "value", None),
    ("ec2_cpu_utilization_5f5533", "value", None),
    ("ec2_cpu_utilization_24ae8d", "value", None),
    ("rds_cpu_utilization_e47b3b", "value", None),
    ("elb_request_count_8c0756", "value", None),
    ("speed_7578", "value", None),
    ("electricity-short-with-ex-vars", "y", "unique_id"),
)
OTHERS = tuple(
    Case(
        name,
        f"{name}.csv",
        (column,),
        horizon,
        "mase",
        1.05,
        1.0,
        series_column=series,
        relative=True,
    )
    for name, column, series in FILES
    for horizon in (1, 12)
)
CASES = (*TABLES, TAXI, *OTHERS)


def prepared(case: Case, data: Path, folder: Path) -> Path:
    """Return a case's file, cut to its rows."""
    path = data / case.file
    if case.rows is None:
        return path
    short = folder / case.file
    with path.open() as file:
        lines = [line for _, line in zip(range(1 + case.rows[2]), file, strict=False)]
    short.write_text("".join(lines))
    return short
