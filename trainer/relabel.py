"""Which series a written model serves: changed without a fit, and seen where two serve the same."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from tidecast.trainer.errors import ConfigError, ModelError
from tidecast.trainer.evaluate import open_content
from tidecast.trainer.files import write_atomically
from tidecast.worker.contract import METADATA_KEY, ModelSpec, SpecError, globs_overlap


def relabel(path: Path, series: str) -> tuple[ModelSpec, ModelSpec]:
    """Let a model file serve the series of another glob; return its description before and after.

    Its graph, its version and all else stay as they are, also what a newer writer put there. The
    ``.json`` beside it, from which it would be exported again, is changed alike.

    Raises:
        ModelError: absent, unreadable, or it does not answer its golden window as it should.
        ConfigError: no glob.
    """
    import onnx

    if not path.is_file():
        raise ModelError(f"{path}: no such file; name an .onnx file that 'fit' wrote")
    content = path.read_bytes()
    before, _ = open_content(content, path)
    model = onnx.load_model_from_string(content)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = _renamed(entry.value, series)
    content = model.SerializeToString(deterministic=True)
    after, predict = open_content(content, path)
    answer = predict(np.array([after.golden.window], after.numbers))[0]
    off = np.abs(answer - np.array(after.golden.forecast)).max(axis=0)
    if not (off <= np.array(after.golden_margins())).all():
        raise ModelError(
            f"{path}: it does not answer its golden window as it should, and nothing was written; "
            "the file is damaged: export or fit the model again"
        )
    beside = path.with_suffix(".json")
    if beside.is_file() and _version(beside.read_text()) == after.version:
        write_atomically(beside, _renamed(beside.read_text(), series, indent=2).encode())
    write_atomically(path, content)
    return before, after


def _renamed(text: str, series: str, indent: int | None = None) -> str:
    """Return a description with another glob, checked."""
    described = json.loads(text) | {"series": series}
    separators = (",", ":") if indent is None else None
    renamed = json.dumps(described, ensure_ascii=False, indent=indent, separators=separators)
    try:
        ModelSpec.from_json(renamed)
    except SpecError as error:
        raise ConfigError(f"--series {series!r}: {error}") from error
    return renamed


def _version(text: str) -> Any:
    try:
        return json.loads(text).get("version")
    except (ValueError, AttributeError):
        return None


def contention(path: Path, spec: ModelSpec) -> str:
    """Say which files beside a model could serve the same series, and what to do; empty if none.

    A worker of that folder would not start.
    """
    rivals = [other for other in sorted(path.parent.glob("*.onnx")) if other.name != path.name]
    served = {other: glob for other in rivals if (glob := _glob(other)) is not None}
    shared = {other: glob for other, glob in served.items() if globs_overlap(glob, spec.series)}
    if not shared:
        return ""
    others = ", ".join(f"{other} ({glob!r})" for other, glob in shared.items())
    return (
        f"{path} serves series {spec.series!r}, and so in part or whole {others}: a worker of "
        f"{path.parent} will not start and say 'two models for one series'. Give them globs that "
        "share no name, which takes no new fit: tidecast-trainer relabel "
        f"{shlex.quote(str(path))} --series GLOB; or keep one in a folder of its own"
    )


def _glob(path: Path) -> str | None:
    """Return what a file says that it serves, None if it says nothing."""
    import onnx

    try:
        properties = onnx.load(path, load_external_data=False).metadata_props
        texts = [entry.value for entry in properties if entry.key == METADATA_KEY]
        return ModelSpec.from_json(texts[0]).series if texts else None
    except (OSError, SpecError, ValueError):
        return None
    except Exception:  # noqa: BLE001 - protobuf's errors have no common type that onnx names
        return None
