"""Keras network -> one self-contained, verified ONNX file."""

import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidecast.trainer.backend import load_tensorflow
from tidecast.trainer.errors import ExportError, ModelError
from tidecast.trainer.files import write_atomically
from tidecast.trainer.fit import Fitted
from tidecast.trainer.networks import Predictor
from tidecast.trainer.parity import TAMER, check_operators, check_parity
from tidecast.trainer.series import History
from tidecast.worker.contract import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAME,
    SPEC_VERSION,
    VERSION_DIGITS,
    Golden,
    ModelSpec,
    SpecError,
    Training,
    Validation,
    version_of,
)

Floats = npt.NDArray[np.floating[Any]]

OPSET = 18
PLACEHOLDER = "0" * VERSION_DIGITS


def describe(fitted: Fitted, trained_at: datetime) -> ModelSpec:
    """Return a fitted model's description; its version and golden forecast are yet to come.

    Raises:
        ExportError: the network diverged.
    """
    config, history = fitted.config, fitted.slots
    if not np.isfinite(fitted.validation.model.mae).all():
        raise ExportError(
            "the network diverged: its MAE is no number, and nothing was written; " + TAMER
        )
    window, _ = fitted.windows.gather(fitted.windows.starts["train"][-1:])
    # Only the training part is told: the other rows were not learned from.
    train = fitted.windows.starts["train"]
    real = np.concatenate([series.real for series in history.series])
    rows = fitted.windows.touched("train") & real
    first, last = _span(history, rows)
    return ModelSpec(
        spec_version=SPEC_VERSION,
        name=config.name,
        version=PLACEHOLDER,
        pattern=config.pattern,
        n_steps=fitted.plan.n_steps,
        horizon=config.horizon,
        features=config.features,
        targets=config.targets,
        step_seconds=None if history.calendar else history.step_seconds,
        calendar=history.calendar,
        gaps=fitted.plan.gaps,
        max_gap=fitted.plan.max_gap,
        min_steps=fitted.min_steps,
        aggregate=config.aggregate,
        categories=config.categories,
        numbers=fitted.predictor.numbers,
        bounds=config.bounds,
        series=config.series,
        trained_at=_iso(trained_at),
        training=Training.model_validate(
            {
                "rows": int(rows.sum()),
                "series": len(np.unique(fitted.windows.owner[train])),
                "first": first,
                "last": last,
                "train_rows": config.train_rows,
                "validation_rows": config.validation_rows,
                "season": fitted.plan.season,
                "kind": fitted.kind,
            }
        ),
        validation=Validation.model_validate(
            {
                "mae": fitted.validation.model.mae,
                "mase": fitted.validation.model.mase,
                "naive_mae": fitted.validation.naive.mae,
                "rows": "training" if fitted.validation.part == "train" else "validation",
            }
        ),
        golden=Golden.model_validate(
            {
                "window": window[0].tolist(),
                "forecast": np.zeros((config.horizon, len(config.targets))).tolist(),
            }
        ),
    )


def export(predictor: Predictor, spec: ModelSpec, samples: Floats) -> tuple[bytes, ModelSpec]:
    """Return the ONNX file's bytes and the description inside, with version and golden forecast.

    Args:
        predictor: of the Keras network.
        spec: its description; version and golden forecast are filled in.
        samples: real windows ``[k, n_steps, F]`` for the comparison with Keras.

    Raises:
        ExportError: no LSTM operator, a loop instead, another answer than Keras gives, or a
            description that no worker takes.
    """
    import onnx

    model = _convert(predictor)
    check_operators(model)
    _rename(model, spec)
    check_parity(model, predictor, samples, spec.validation, _own(spec))
    golden = np.array(spec.golden.window, spec.numbers)[None]
    forecast = predictor(golden)[0]
    known = spec.golden.model_copy(
        update={"forecast": tuple(map(tuple, forecast.astype(float).tolist()))}
    )
    described = spec.model_copy(update={"golden": known})
    version = version_of([_computation(model)], described)[:VERSION_DIGITS]
    described = described.model_copy(update={"version": version})
    text = described.to_json()
    try:
        ModelSpec.from_json(text)
    except SpecError as error:
        raise ExportError(
            f"no worker would serve it, and nothing was written: {error}; {TAMER} where a forecast "
            "is no number, and choose fewer steps or columns where there are too many"
        ) from error
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True), described


def _own(spec: ModelSpec) -> list[int | None]:
    """Return which feature each target is, if it is one."""
    return [
        spec.features.index(target) if target in spec.features else None for target in spec.targets
    ]


def _computation(model: Any) -> bytes:
    """Return what decides what a model computes, as it will stand in the file."""
    import onnx

    deciding = onnx.ModelProto(
        graph=model.graph, opset_import=model.opset_import, functions=model.functions
    )
    content: bytes = deciding.SerializeToString(deterministic=True)
    return content


def write_model(folder: Path, fitted: Fitted, trained_at: datetime) -> tuple[Path, ModelSpec]:
    """Write ``NAME.onnx``, ``NAME.keras`` and ``NAME.json`` and return the first's path.

    Raises:
        ExportError: the exported graph is not what Keras computes.
    """
    samples, _ = fitted.windows.gather(_spread(fitted.windows.starts["train"]))
    content, spec = export(fitted.predictor, describe(fitted, trained_at), samples)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{spec.name}.onnx"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        saved = Path(scratch) / path.with_suffix(".keras").name
        _save_network(fitted.network, saved)
        saved.replace(path.with_suffix(".keras"))
    write_atomically(path.with_suffix(".json"), spec.model_dump_json(indent=2).encode())
    write_atomically(path, content)
    return path, spec


def _save_network(network: Any, path: Path) -> None:
    """Save layers and weights without optimizer and loss, so that Keras alone can open the file."""
    import keras

    keras.Model(network.input, network.output, name=network.name).save(path)


def export_again(keras_file: Path, out: Path | None) -> tuple[Path, ModelSpec]:
    """Rebuild the ONNX file from a ``.keras`` file and the ``.json`` beside it.

    Raises:
        ModelError: one of the two is absent or unreadable.
        ExportError: the exported graph is not what Keras computes.
    """
    described = keras_file.with_suffix(".json")
    for file in (keras_file, described):
        if not file.is_file():
            raise ModelError(f"{file}: no such file; 'fit' writes it beside the .onnx file")
    load_tensorflow()
    import keras

    try:
        spec = ModelSpec.from_json(described.read_text())
        network = keras.models.load_model(keras_file, compile=False)
    except SpecError as error:
        raise ModelError(f"{described}: {error}; fit the model again") from error
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ModelError(f"{keras_file}: not a Keras model ({reason}); fit it again") from error
    content, spec = export(Predictor(network), spec, np.array([spec.golden.window], spec.numbers))
    path = (out or keras_file.parent) / f"{spec.name}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path, spec


def _convert(predictor: Predictor) -> Any:
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model, _ = tf2onnx.convert.from_function(
        predictor.function, input_signature=predictor.signature, opset=OPSET
    )
    return model


def _rename(model: Any, spec: ModelSpec) -> None:
    """Put the graph in one canonical form, so that equal networks have equal bytes.

    tf2onnx's order of nodes and constants hangs on Python's hash seed, its names on counters of the
    process. Here nodes go in the order in which the output needs them, constants in order of use,
    and names follow. The tensors' shapes are written out too, as tf2onnx leaves unknown what it
    cannot infer.
    """
    graph = model.graph
    nodes = _in_order_of_need(graph)
    used = dict.fromkeys(name for node in nodes for name in node.input)
    constants = {constant.name: constant for constant in graph.initializer}
    ordered = [constants[name] for name in used if name in constants]
    names = {"": "", graph.input[0].name: INPUT_NAME, graph.output[0].name: OUTPUT_NAME}
    for number, constant in enumerate(ordered):
        names[constant.name] = constant.name = f"constant_{number}"
    for number, node in enumerate(nodes):
        for place, output in enumerate(node.output):
            names.setdefault(output, f"value_{number}_{place}")
        node.name = f"{node.op_type.lower()}_{number}"
        node.doc_string = ""
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        node.attribute.sort(key=lambda attribute: attribute.name)
    for value, name, shape in (
        (graph.input[0], INPUT_NAME, (spec.n_steps, len(spec.features))),
        (graph.output[0], OUTPUT_NAME, (spec.horizon, len(spec.targets))),
    ):
        value.name = name
        dimensions = value.type.tensor_type.shape.dim
        dimensions[0].dim_param = "batch"
        for dimension, size in zip(dimensions[1:], shape, strict=True):
            dimension.dim_value = size
    _replace(graph.node, nodes)
    _replace(graph.initializer, ordered)
    del graph.value_info[:]
    graph.name = "tidecast"
    graph.doc_string = model.doc_string = ""


def _in_order_of_need(graph: Any) -> list[Any]:
    """Return the nodes that the output needs, each after those it needs itself."""
    makers = {output: node for node in graph.node for output in node.output if output}
    ordered: dict[int, Any] = {}
    pending = [(makers[graph.output[0].name], False)]
    while pending:
        node, needs_are_met = pending.pop()
        if id(node) in ordered:
            continue
        if needs_are_met:
            ordered[id(node)] = node
            continue
        pending.append((node, True))
        pending += [(makers[name], False) for name in reversed(node.input) if name in makers]
    return list(ordered.values())


def _replace(repeated: Any, messages: list[Any]) -> None:
    """Put messages in place of a repeated field's, from which they may come."""
    copies = [type(message).FromString(message.SerializeToString()) for message in messages]
    del repeated[:]
    repeated.extend(copies)


def _spread(starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return starts[np.linspace(0, len(starts) - 1, min(256, len(starts))).astype(np.int64)]


def _span(history: History, rows: npt.NDArray[np.bool_]) -> tuple[str, str] | tuple[None, None]:
    """Return the first and the last time of some rows, None where times are unknown."""
    known = [history.moments(series) for series in history.series]
    if any(times is None for times in known):
        return None, None
    times = np.concatenate([times for times in known if times is not None])[rows]
    first, last = (
        _iso(datetime.fromtimestamp(int(edge) / 1000, UTC)) for edge in (times.min(), times.max())
    )
    return first, last


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
