"""Model files made without TensorFlow: small graphs of known arithmetic."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from tidecast.worker.contract import VERSION_DIGITS, ModelSpec, pattern_of, version_of

BATCH = "batch"


def spec_of(
    *,
    name: str = "tiny",
    version: str = "abcdef",
    n_steps: int = 3,
    horizon: int = 1,
    features: tuple[str, ...] = ("value",),
    targets: tuple[str, ...] = ("value",),
    step_seconds: float | None = None,
    series: str = "*",
    golden_window: Any = None,
    golden_forecast: Any = None,
    kind: str | None = None,
    gaps: str | None = None,
    max_gap: int = 0,
    season: int = 1,
    min_steps: int | None = None,
    aggregate: dict[str, str] | None = None,
    calendar: str | None = None,
    categories: Mapping[str, tuple[str, ...]] | None = None,
    numbers: str = "float32",
    bounds: dict[str, Any] | None = None,
) -> ModelSpec:
    """Return a description whose golden pair is all zero unless given; of version 2 with ``gaps``.

    What writes a file gives it the version of what is in it.
    """
    window = np.zeros((n_steps, len(features))) if golden_window is None else golden_window
    forecast = np.zeros((horizon, len(targets))) if golden_forecast is None else golden_forecast
    return ModelSpec.model_validate(
        {
            "spec_version": 1 if gaps is None else 2,
            **({} if gaps is None else {"gaps": gaps, "max_gap": max_gap, "min_steps": min_steps}),
            "name": name,
            "version": version,
            "pattern": pattern_of(len(features), len(targets), horizon),
            "n_steps": n_steps,
            "horizon": horizon,
            "features": features,
            "targets": targets,
            "aggregate": aggregate or {},
            "calendar": calendar,
            "categories": categories or {},
            "numbers": numbers,
            "bounds": bounds or {},
            "step_seconds": step_seconds,
            "series": series,
            "trained_at": "2026-01-01T00:00:00Z",
            "training": {"rows": 1, "series": 1, "kind": kind, "season": season},
            "validation": {
                "mae": [0.0] * horizon,
                "mase": [None] * horizon,
                "naive_mae": [0.0] * horizon,
            },
            "golden": {
                "window": np.asarray(window).tolist(),
                "forecast": np.asarray(forecast).tolist(),
            },
        }
    )


def write_mean_model(path: Path, **described: Any) -> Path:
    """Write a model whose every lead and target is the mean of the whole window."""
    spec = spec_of(**described)
    rows, columns = spec.horizon, len(spec.targets)
    nodes = [
        helper.make_node("ReduceMean", ["window"], ["mean"], axes=[1, 2], keepdims=1),
        helper.make_node("Tile", ["mean", "repeats"], ["forecast"]),
    ]
    repeats = numpy_helper.from_array(np.array([1, rows, columns], np.int64), "repeats")
    return _write(path, spec, nodes, [repeats])


def write_graph(path: Path, nodes: list[Any], constants: dict[str, Any], **described: Any) -> Path:
    """Write a model of some operators from ``window`` to ``forecast``."""
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    return _write(path, spec_of(**described), nodes, tensors)


def write_picking_model(path: Path) -> Path:
    """Write a model that looks each reading up: 0, 1, 2 or 3 give 0, 10, 20 or 30, others fail."""
    nodes = [
        helper.make_node("Cast", ["window"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["forecast"]),
    ]
    table = np.array([0, 10, 20, 30], np.float32)
    return write_graph(path, nodes, {"table": table}, n_steps=1)


def write_slow_model(path: Path) -> Path:
    """Write a small model that takes many minutes to load: ONNX Runtime computes its constants."""
    nodes = [helper.make_node("ConstantOfShape", ["sizes"], ["product 0"])]
    nodes += [
        helper.make_node("MatMul", [f"product {i}", "product 0"], [f"product {i + 1}"])
        for i in range(1000)
    ]
    nodes += [
        helper.make_node("ReduceMean", ["product 1000"], ["mean"], keepdims=0),
        helper.make_node("Add", ["window", "mean"], ["forecast"]),
    ]
    return write_graph(path, nodes, {"sizes": np.array([3000, 3000])}, n_steps=1)


def write_lstm_model(path: Path, *, units: int = 50, seed: int = 1, **described: Any) -> Path:
    """Write an LSTM of random weights (``last`` normalisation, one dense head) of true cost."""
    spec = spec_of(**described)
    random = np.random.default_rng(seed)
    wide, outs = len(spec.features), spec.horizon * len(spec.targets)
    weights = {
        "w": random.normal(0, 0.2, (1, 4 * units, wide)),
        "r": random.normal(0, 0.2, (1, 4 * units, units)),
        "b": random.normal(0, 0.2, (1, 8 * units)),
        "head": random.normal(0, 0.2, (units, outs)),
    }
    shapes = {
        "shape": np.array([-1, spec.horizon, len(spec.targets)], np.int64),
        "end": np.array(spec.n_steps - 1, np.int64),
        "axis": np.array([0], np.int64),
        "start": np.array([spec.n_steps - 1], np.int64),
        "stop": np.array([spec.n_steps], np.int64),
        "one": np.array([1], np.int64),
        "targets": np.array([0] * len(spec.targets), np.int64),
    }
    nodes = [
        helper.make_node("Slice", ["window", "start", "stop", "one"], ["last"]),
        helper.make_node("Sub", ["window", "last"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r", "b"], ["", "state"], hidden_size=units),
        helper.make_node("Squeeze", ["state", "axis"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "head"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["change"]),
        helper.make_node("Gather", ["last", "targets"], ["base"], axis=2),
        helper.make_node("Add", ["change", "base"], ["forecast"]),
    ]
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    constants += [numpy_helper.from_array(v, k) for k, v in shapes.items() if k != "end"]
    return _write_with_golden(path, nodes, constants, random, described)


def write_segmented_model(
    path: Path, *, width: int = 128, segment: int = 24, seed: int = 1, **described: Any
) -> Path:
    """Write an LSTM over segments of the window, shared by all features; of random weights.

    ``[n_steps / segment, segment] -> Dense(width) -> LSTM(width) -> Dense(horizon)`` for each
    feature, its newest value subtracted before and added behind; all features are targets.
    """
    spec = spec_of(**described)
    random = np.random.default_rng(seed)
    n_steps, wide, horizon = spec.n_steps, len(spec.features), spec.horizon
    weights = {
        "embed": random.normal(0, 0.1, (segment, width)),
        "w": random.normal(0, 0.1, (1, 4 * width, width)),
        "r": random.normal(0, 0.1, (1, 4 * width, width)),
        "b": random.normal(0, 0.1, (1, 8 * width)),
        "head": random.normal(0, 0.1, (width, horizon)),
    }
    shapes = {
        "axis": [0],
        "along": [1],
        "start": [n_steps - 1],
        "stop": [n_steps],
        "segments": [-1, n_steps // segment, segment],
        "leads": [-1, wide, horizon],
    }
    nodes = [
        helper.make_node("Slice", ["window", "start", "stop", "along"], ["last"]),
        helper.make_node("Sub", ["window", "last"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["apart"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["apart", "segments"], ["cut"]),
        helper.make_node("MatMul", ["cut", "embed"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r", "b"], ["", "state"], hidden_size=width),
        helper.make_node("Squeeze", ["state", "axis"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "head"], ["flat"]),
        helper.make_node("Reshape", ["flat", "leads"], ["by feature"]),
        helper.make_node("Transpose", ["by feature"], ["change"], perm=[0, 2, 1]),
        helper.make_node("Add", ["change", "last"], ["forecast"]),
    ]
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    constants += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in shapes.items()]
    return _write_with_golden(path, nodes, constants, random, described)


def _write_with_golden(
    path: Path,
    nodes: list[Any],
    constants: list[Any],
    random: np.random.Generator,
    described: dict[str, Any],
) -> Path:
    """Write a model whose golden pair is what it answers to a random window."""
    spec = spec_of(**described)
    _write(path, spec, nodes, constants)
    window = random.normal(50, 10, (1, spec.n_steps, len(spec.features))).astype(np.float32)
    forecast = ort.InferenceSession(path).run(None, {"window": window})[0]
    golden = spec_of(**described, golden_window=window[0], golden_forecast=forecast[0])
    return _write(path, golden, nodes, constants)


def _write(path: Path, spec: ModelSpec, nodes: list[Any], constants: list[Any]) -> Path:
    window = [BATCH, spec.n_steps, len(spec.features)]
    forecast = [BATCH, spec.horizon, len(spec.targets)]
    kind = TensorProto.DOUBLE if spec.numbers == "float64" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("window", kind, window)],
        [helper.make_tensor_value_info("forecast", kind, forecast)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    stamp(model, spec)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def stamp(model: Any, spec: ModelSpec) -> None:
    """Put a description into a model, with the version that the two have now."""
    deciding = onnx.ModelProto(
        graph=model.graph, opset_import=model.opset_import, functions=model.functions
    )
    version = version_of([deciding.SerializeToString(deterministic=True)], spec)[:VERSION_DIGITS]
    described = spec.model_copy(update={"version": version})
    helper.set_model_props(model, {"tidecast": described.to_json()})


def spec_in(path: Path) -> ModelSpec:
    """Return the description in a model file."""
    return ModelSpec.from_json(onnx.load(path).metadata_props[0].value)
