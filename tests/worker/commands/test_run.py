"""What ``run`` makes of its settings and models before the worker starts."""

from pathlib import Path
from typing import Any

import pytest

from tests.model_files import write_mean_model
from tidecast.worker.commands.run import kept_forecasts
from tidecast.worker.errors import SettingsError
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.settings import Settings

WIDE: dict[str, Any] = {"features": ("a", "b"), "targets": ("a", "b"), "horizon": 100}


@pytest.mark.parametrize(
    ("given", "described", "kept"),
    [
        ({}, {}, 256_000_000 // 214),
        ({}, WIDE, 256_000_000 // (200 + 14 * 200)),
        ({"keep_forecasts": "2MB"}, WIDE, 2_000_000 // 3000),
        ({"keep_forecasts": "1KB"}, WIDE, 1),
        ({"keep_forecasts": "0"}, WIDE, 0),
        ({"keep_forecasts": "2MB", "longest_forecasts": 77}, WIDE, 77),
        ({"keep_forecasts": "2MB", "longest_forecasts": 0}, WIDE, 0),
    ],
)
def test_forecasts_are_kept_by_bytes_unless_a_number_is_said(
    tmp_path: Path, given: dict[str, Any], described: dict[str, Any], kept: int
) -> None:
    registry = load_registry(write_mean_model(tmp_path / "m.onnx", **described))
    assert kept_forecasts(Settings.load(None, **given), registry) == kept


def test_what_is_no_size_is_told() -> None:
    with pytest.raises(SettingsError, match=r"setting keep_forecasts .much.: could not parse"):
        Settings.load(None, keep_forecasts="much")
