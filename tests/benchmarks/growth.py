"""How the cost of a forecast grows with one thing at a time."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.benchmarks.cases import Bench, alone, names
from tests.benchmarks.streams import fill_columns, fill_flat
from tests.benchmarks.workers import command, rate_of
from tests.model_files import write_lstm_model

LETTERS = tuple(f"f{number}" for number in range(32))


@dataclass(frozen=True)
class Axis:
    """One thing that grows, the sizes to try, and how to measure one of them.

    ``measure`` returns forecasts per second and, where the model itself grows, the windows per
    second of ONNX Runtime alone, else None.
    """

    name: str
    sizes: Sequence[int]
    measure: Callable[[Bench, int], tuple[float, float | None]]


def _rate(
    bench: Bench,
    models: Path,
    *,
    n_steps: int,
    series: int,
    forecasts: int,
    features: int = 1,
    per_entry: int = 1000,
    options: Sequence[object] = (),
) -> float:
    rounds = max(2, round(bench.of(forecasts) / series))
    wide = LETTERS[:features] if features > 1 else ("value",)
    fill_columns(
        bench.client,
        "grow",
        names(series),
        n_steps - 1 + rounds,
        features=wide,
        per_entry=per_entry,
    )
    words = command(bench.url, models, "grow", "--from", "earliest", *options)
    return rate_of(bench.client, "grow", words, rounds * series)


def _model(bench: Bench, n_steps: int, features: int = 1, horizon: int = 1) -> Path:
    path = bench.folder / f"m-{n_steps}-{features}-{horizon}" / "m.onnx"
    wide = LETTERS[:features] if features > 1 else ("value",)
    if not path.exists():
        write_lstm_model(
            path, name="m", n_steps=n_steps, horizon=horizon, features=wide, targets=wide[:1]
        )
    return path


def _by_series(bench: Bench, series: int) -> tuple[float, float | None]:
    return _rate(bench, bench.small, n_steps=5, series=series, forecasts=400_000), None


def _by_steps(bench: Bench, n_steps: int) -> tuple[float, float | None]:
    model = _model(bench, n_steps)
    many = max(4000, 600_000 // n_steps)
    rate = _rate(bench, model, n_steps=n_steps, series=500, forecasts=many)
    return rate, alone(model, 0.75, (16, 64, 256))


def _by_features(bench: Bench, features: int) -> tuple[float, float | None]:
    model = _model(bench, 24, features=features)
    rate = _rate(bench, model, n_steps=24, series=500, forecasts=50_000, features=features)
    return rate, alone(model, 0.75, (16, 64, 256))


def _by_horizon(bench: Bench, horizon: int) -> tuple[float, float | None]:
    model = _model(bench, 24, horizon=horizon)
    rate = _rate(bench, model, n_steps=24, series=500, forecasts=50_000)
    return rate, alone(model, 0.75, (16, 64, 256))


def _by_models(bench: Bench, models: int) -> tuple[float, float | None]:
    """Each serves its share of 1,000 series, and the readings of all come mixed."""
    folder = bench.folder / f"models-{models}"
    for number in range(models):
        path = folder / f"m{number}.onnx"
        if not path.exists():
            glob = f"s*{number:02d}" if models == 100 else f"s*{number}" if models == 10 else "*"
            write_lstm_model(path, name=f"m{number}", n_steps=5, series=glob)
    series = [f"s{number:03d}" for number in range(1000)]
    rounds = max(2, bench.of(300))
    fill_columns(bench.client, "grow", series, 4 + rounds)
    words = command(bench.url, folder, "grow", "--from", "earliest")
    return rate_of(bench.client, "grow", words, rounds * len(series)), None


def _by_read_size(bench: Bench, size: int) -> tuple[float, float | None]:
    readings = 4000 + bench.of(min(300_000, 20_000 * size))
    fill_flat(bench.client, "grow", readings, 1000)
    words = command(bench.url, bench.small, "grow", "--from", "earliest", "--read-size", size)
    return rate_of(bench.client, "grow", words, readings - 4000), None


def _by_threads(bench: Bench, threads: int) -> tuple[float, float | None]:
    """The heavy model, the only kind that gains by more than one."""
    features = ("a", "b", "c", "d", "e", "f", "g")
    rounds = max(40, bench.of(60))
    fill_columns(bench.client, "grow", names(64), 335 + rounds, features=features, per_entry=64)
    words = command(bench.url, bench.heavy, "grow", "--from", "earliest", "--threads", threads)
    return rate_of(bench.client, "grow", words, rounds * 64), None


AXES = (
    Axis("series", (100, 1000, 10_000, 100_000, 1_000_000), _by_series),
    Axis("n_steps", (5, 24, 96, 336, 720), _by_steps),
    Axis("features", (1, 2, 8, 32), _by_features),
    Axis("horizon", (1, 8, 24, 96), _by_horizon),
    Axis("models", (1, 10, 100), _by_models),
    Axis("read size", (1, 10, 100, 1000, 10_000), _by_read_size),
    Axis("threads", tuple(sorted({1, os.cpu_count() or 1})), _by_threads),
)

Growth = dict[str, list[tuple[int, float, float | None]]]
"""For each axis: size, forecasts per second, and those of ONNX Runtime alone."""


def measure(bench: Bench, tell: Callable[[str], object]) -> Growth:
    """Measure each axis, the sizes in turn, twice; keep the better of the two."""
    found: Growth = {}
    for axis in AXES:
        tell(f"growth by {axis.name}")
        runs = [[axis.measure(bench, size) for size in axis.sizes] for _ in range(2)]
        found[axis.name] = [
            (size, max(r[0] for r in rates), max((r[1] for r in rates if r[1]), default=None))
            for size, *rates in zip(axis.sizes, *runs, strict=True)
        ]
    return found


def draw(growth: Growth, folder: Path) -> list[Path]:
    """Draw a picture of each axis: microseconds for one forecast against size."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, points in growth.items():
        figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
        sizes = [size for size, *_ in points]
        axes.plot(sizes, [1e6 / rate for _, rate, _ in points], "o-", label="worker")
        model = [(size, 1e6 / floor) for size, _, floor in points if floor]
        if model:
            axes.plot(*zip(*model, strict=True), "s--", label="ONNX Runtime alone")
            axes.legend()
        axes.set(xscale="log", xlabel=name, ylabel="µs for one forecast", ylim=(0, None))
        axes.grid(visible=True, alpha=0.3)
        paths.append(folder / f"growth-{name.replace(' ', '-')}.svg")
        figure.savefig(paths[-1], metadata={"Date": None})
        plt.close(figure)
    return paths
