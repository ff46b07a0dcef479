"""What the commands can be told: one name for each option, with its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Data = Annotated[
    Path,
    typer.Argument(help="CSV, Parquet, JSON lines or Excel file, packed or not, wide or long."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Targets = Annotated[
    str | None, typer.Option(help="Columns to forecast, with commas between.", show_default=False)
]
Target = Annotated[
    list[str] | None,
    typer.Option(help="One column to forecast, whatever its name holds; repeatable."),
]
Features = Annotated[
    str | None, typer.Option(help="Columns to forecast from.  [default: the targets]")
]
Feature = Annotated[list[str] | None, typer.Option(help="One of them; repeatable.")]
Categories = Annotated[
    str | None,
    typer.Option(help="Features that hold words (wind: N, NE, ...), with commas between."),
]
Horizon = Annotated[int, typer.Option(help="Leads: steps ahead to forecast.")]
NSteps = Annotated[
    int | None, typer.Option(help="Lookback: readings in a window.  [default: by the data]")
]
Name = Annotated[str | None, typer.Option(help="Model name.  [default: the file's]")]
SeriesGlob = Annotated[
    str, typer.Option(help="Glob (* and ?) of the series that a worker serves with it.")
]
Step = Annotated[
    str,
    typer.Option(
        help="From slot to slot: 5m, 1h, 30 (seconds), 1mo, 1bd, auto, or none: any distance."
    ),
]
Aggregate = Annotated[
    str,
    typer.Option(
        help="What counts of several rows of a step: last, mean, sum, min, max or count, for all "
        "columns or by column (mean,rain=sum)."
    ),
]
Arch = Annotated[
    Literal["segmented", "lstm"],
    typer.Option(help="An LSTM over segments, or over the readings as they come."),
]
Segment = Annotated[
    int | None, typer.Option(help="Readings in a segment.  [default: by the lookback]")
]
Mix = Annotated[
    bool | None,
    typer.Option(help="Each target sees all features.  [default: where it helps]"),
]
WithLine = Annotated[
    bool, typer.Option("--line/--no-line", help="Learn what a straight line (ridge) leaves over.")
]
Members = Annotated[int, typer.Option(help="Networks whose mean is the forecast.")]
Units = Annotated[int | None, typer.Option(help="LSTM units.  [default: by the rows; 50 for lstm]")]
Layers = Annotated[int, typer.Option(help="LSTM layers, 1 or 2.")]
Activation = Annotated[Literal["tanh", "relu"], typer.Option(help="LSTM activation.")]
Dropout = Annotated[
    float | None,
    typer.Option(help="Share that is left out (segmented).  [default: by the windows]"),
]
Normalization = Annotated[
    Literal["last", "instance", "standard", "none"] | None,
    typer.Option(
        help="Inside the graph.  [default: instance for several features or series, else last]"
    ),
]
Loss = Annotated[Literal["mae", "huber", "mse"], typer.Option(help="What is made small.")]
TrainRows = Annotated[
    int | None, typer.Option(help="Rows of each series to train on.  [default: 70 %]")
]
ValidationRows = Annotated[
    int | None, typer.Option(help="Rows to stop early by.  [default: the next 10 %]")
]
Epochs = Annotated[int | None, typer.Option(help="Epochs at most.  [default: by the windows]")]
Patience = Annotated[int, typer.Option(help="Epochs without gain before stopping.")]
BatchSize = Annotated[
    int | None, typer.Option(help="Windows per step.  [default: by their number]")
]
LearningRate = Annotated[float, typer.Option(help="Of AdamW, at its highest.")]
WeightDecay = Annotated[float, typer.Option(help="Of AdamW.")]
Season = Annotated[
    int | None,
    typer.Option(help="Season in steps, for baselines and lookback.  [default: by the step]"),
]
GapPolicy = Annotated[
    Literal["linear", "hold", "seasonal", "none"],
    typer.Option(help="How empty slots are filled when the next reading comes."),
]
AtLeast = Annotated[
    list[str] | None,
    typer.Option(help="What no forecast falls below: 0, or temp=0 for one target; repeatable."),
]
AtMost = Annotated[
    list[str] | None,
    typer.Option(help="What no forecast exceeds: 100, or hum=100 for one target; repeatable."),
]
MaxGap = Annotated[
    int | None,
    typer.Option(help="Empty slots in a row that are filled, at most.  [default: by the data]"),
]
Seed = Annotated[int, typer.Option(help="One seed, one model.")]
Out = Annotated[Path, typer.Option(help="Folder for the model files.")]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--anew",
        help="Go on with a fit that was broken off, or drop it.  [default: refuse if one is kept]",
        show_default=False,
    ),
]
Report = Annotated[
    bool, typer.Option(help="Write NAME.html beside the model: curves, forecasts, errors.")
]
Picture = Annotated[
    Path | None, typer.Option(help="Draw the first series' forecasts to this PNG file.")
]
Minutes = Annotated[float, typer.Option(help="How long to search; it can go on later.")]
Trials = Annotated[int | None, typer.Option(help="Trials at most.  [default: by the minutes]")]
