"""What is written is what Keras computes, by LSTM operators, and says what it learned from."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tests.model_files import spec_of, write_mean_model
from tests.trainer.conftest import config_of, history_of, untrained
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.errors import ExportError, ModelError
from tidecast.trainer.evaluate import Predict, open_model
from tidecast.trainer.export import describe, export, export_again, write_model
from tidecast.trainer.fit import Fitted, fit
from tidecast.trainer.networks import Predictor
from tidecast.trainer.parity import (
    PARITY,
    PARITY_BATCHES,
    check_operators,
    check_parity,
    relative_error,
)
from tidecast.trainer.patterns import EXAMPLES, Example
from tidecast.trainer.series import History, Series
from tidecast.worker.pipeline.model import Model

Floats = npt.NDArray[np.float32]

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def test_members_differ_and_export_as_one(tmp_path: Path) -> None:
    history = history_of(np.random.default_rng(3).normal(size=200).cumsum())
    fitted = fit(config_of(members=3, line=False, normalization="standard"), history)
    assert [len(epochs) for epochs in fitted.losses] == [2, 2, 2]
    path, _ = write_model(tmp_path, fitted, MOMENT)
    graph = onnx.load(path).graph
    assert sum(node.op_type == "LSTM" for node in graph.node) == 3
    heads = [fitted.network.get_layer(f"head_of_{m}").get_weights()[0] for m in (1, 2)]
    assert not np.allclose(heads[0], heads[1])
    reopened = Predictor(keras.models.load_model(path.with_suffix(".keras")))
    samples = samples_of(fitted)
    np.testing.assert_array_equal(reopened(samples), fitted.predictor(samples))


def test_a_model_is_exported_again_beside_its_network_or_elsewhere(
    tmp_path: Path, wave: Fitted
) -> None:
    path, spec = write_model(tmp_path, wave, MOMENT)
    written = path.read_bytes()
    path.unlink()
    elsewhere = tmp_path / "new" / "folder"
    for folder in (None, elsewhere):
        again, described = export_again(path.with_suffix(".keras"), folder)
        assert again == (folder or tmp_path) / "m.onnx"
        assert again.read_bytes() == written
        assert described == spec
        assert Model(again).spec == spec  # a worker finds the version right
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"m\.json: no such file; 'fit' writes it"):
        export_again(path.with_suffix(".keras"), None)


NETWORKS = [
    {"arch": "lstm", "activation": "tanh", "layers": 1},
    {"arch": "lstm", "activation": "relu", "layers": 2},
    {"arch": "lstm", "activation": "tanh", "normalization": "standard"},
    {"arch": "segmented", "activation": "tanh", "layers": 1, "segment": 1},
    {"arch": "segmented", "activation": "relu", "layers": 2, "segment": 2, "mix": True},
    {"arch": "segmented", "activation": "tanh", "segment": 5, "normalization": "instance"},
    {"arch": "segmented", "activation": "tanh", "segment": 3, "normalization": "standard"},
]


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.pattern for e in EXAMPLES])
@pytest.mark.parametrize("choices", NETWORKS)
def test_every_pattern_exports_as_lstm_operators(
    example: Example, choices: dict[str, object]
) -> None:
    config = example.config().model_copy(update={"units": 5} | choices)
    network, windows = untrained(config, example.history())
    samples, _ = windows.gather(windows.starts["train"])
    described = spec_of(
        n_steps=5,
        horizon=example.horizon,
        features=example.features,
        targets=example.targets,
        golden_window=samples[0],
    )
    content, spec = export(Predictor(network), described, samples)
    graph = onnx.load_from_string(content).graph
    assert sum(node.op_type == "LSTM" for node in graph.node) == config.layers
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    targets = len(example.targets)
    expected = [["batch", 5, len(example.features)], ["batch", example.horizon, targets]]
    assert shapes == expected
    golden = np.asarray(network(samples[:1]))[0]
    np.testing.assert_allclose(spec.golden.forecast, golden, rtol=1e-6)


@pytest.fixture(scope="module")
def graph(wave: Fitted) -> Any:
    """The graph of the wave's network."""
    content, _ = export(wave.predictor, describe(wave, MOMENT), samples_of(wave))
    return onnx.load_from_string(content)


def samples_of(fitted: Fitted) -> Floats:
    return fitted.windows.gather(fitted.windows.starts["train"])[0]


def off_by(fitted: Fitted, share: float, size: int) -> Predict:
    """What Keras forecasts, but in batches of one size off by a share of the largest forecast."""
    largest = np.abs(fitted.predictor(samples_of(fitted))).max()

    def predict(windows: Floats) -> Floats:
        wrong = np.float32(share * largest * (len(windows) == size))
        return np.asarray(fitted.predictor(windows) + wrong, np.float32)

    return predict


@pytest.mark.parametrize("size", [1, 7, 256])
def test_another_answer_than_keras_gives_is_refused(wave: Fitted, graph: Any, size: int) -> None:
    """Off by twice of what is forgiven, or by half of it, and at one batch size alone."""
    samples, validation = samples_of(wave), describe(wave, MOMENT).validation
    assert len(samples) not in PARITY_BATCHES
    check_parity(graph, off_by(wave, PARITY / 2, size), samples, validation)
    with pytest.raises(ExportError, match=rf"differ by .* at batch size {size}, ") as refused:
        check_parity(graph, off_by(wave, PARITY * 2, size), samples, validation)
    assert "diverged" not in str(refused.value)  # nothing shows that
    assert f"keras {keras.__version__}" in str(refused.value)
    assert "report this line" in str(refused.value)


@pytest.mark.parametrize("size", [1, 7, 256])
def test_an_answer_of_another_shape_is_refused(wave: Fitted, graph: Any, size: int) -> None:
    def predict(windows: Floats) -> Floats:
        return wave.predictor(windows)[:, : 1 if len(windows) == size else 2]

    wanted = rf"answers \({size}, 2, 1\) and Keras \({size}, 1, 1\) at batch size {size}, "
    with pytest.raises(ExportError, match=wanted):
        check_parity(graph, predict, samples_of(wave), describe(wave, MOMENT).validation)


def test_a_network_is_called_diverged_where_something_shows_it(wave: Fitted, graph: Any) -> None:
    """Forecasts that are no numbers, or errors a hundred times those of the newest value."""
    samples, sound = samples_of(wave), describe(wave, MOMENT).validation

    def lost(windows: Floats) -> Floats:
        return np.where(np.arange(len(windows))[:, None, None] < 3, np.inf, wave.predictor(windows))

    with pytest.raises(ExportError, match=rf"diverged: for 3 of {len(samples)} windows .*--learn"):
        check_parity(graph, lost, samples, sound)
    for times, diverged in ((99.0, False), (101.0, True)):
        wild = sound.model_copy(update={"mae": tuple(times * each for each in sound.naive_mae)})
        with pytest.raises(ExportError) as refused:
            check_parity(graph, off_by(wave, 1.0, 7), samples, wild)
        assert ("diverged: its MAE on the validation rows is" in str(refused.value)) is diverged
        assert ("report this line" in str(refused.value)) is not diverged


def test_a_target_that_never_changed_shows_no_divergence(wave: Fitted, graph: Any) -> None:
    """Whatever a network errs there is more than nothing."""
    validation = spec_of(horizon=2).validation.model_copy(update={"mae": (1e-9, 1e-9)})
    with pytest.raises(ExportError, match="report this line"):
        check_parity(graph, off_by(wave, 1.0, 1), samples_of(wave), validation)


def test_a_file_tells_what_has_a_say_and_which_rows_its_figures_are_of(wave: Fitted) -> None:
    """The wave's network did not earn its place; files from before tell neither."""
    spec = describe(wave, MOMENT)
    assert (spec.training.kind, spec.validation.rows) == ("line", "validation")
    assert spec.without_network.startswith("a straight line (ridge) alone")
    flattered = replace(wave, validation=replace(wave.validation, part="train"))
    assert describe(flattered, MOMENT).validation.rows == "training"
    assert describe(replace(wave, kind="network"), MOMENT).without_network == ""
    older = spec_of()
    assert (older.training.kind, older.without_network) == (None, "")


def test_a_small_target_counts_beside_a_large_one() -> None:
    """An error of 1e-4 is nothing beside 1,000 and everything beside 0.001."""
    expected = np.array([[[1000.0, 0.001]]], np.float32)
    off = np.array([[[0.0, 1e-4]]], np.float32)
    scale = np.abs(expected[0, 0])
    assert relative_error(expected + off, expected, scale) == pytest.approx(0.1, rel=1e-3)
    assert relative_error(expected + off[..., ::-1], expected, scale) < 1e-6


def test_a_diverged_network_is_refused(wave: Fitted) -> None:
    lost = replace(wave.validation.model, mae=(np.nan, 1.0))
    with pytest.raises(ExportError, match="diverged"):
        describe(replace(wave, validation=replace(wave.validation, model=lost)), MOMENT)


def test_a_golden_forecast_that_is_no_number_is_refused(wave: Fitted) -> None:
    """No sample shows it, and no worker would serve the file."""
    spec = describe(wave, MOMENT)
    wild = tuple((3e38 * (-1) ** step,) for step in range(spec.n_steps))
    golden = spec.golden.model_copy(update={"window": wild})
    with pytest.raises(ExportError, match=r"no worker would serve it.*golden\.forecast\.0\.0"):
        export(wave.predictor, spec.model_copy(update={"golden": golden}), samples_of(wave))


def test_what_it_learned_from_is_told_of_the_training_rows_alone(wave: Fitted) -> None:
    """::

    series   minutes of values   of training rows   that windows touch
    early    -5 to -1            -5 to -3           none
    late     5 to 99             0 to 69            5 to 69
    short    1000 to 1004        1000 to 1002       none
    """
    values = np.where(np.arange(100) < 5, np.nan, np.arange(100.0))[:, None]
    late = Series("late", np.arange(100) * 60_000, values)
    short = Series("short", np.arange(1000, 1005) * 60_000, np.arange(5.0)[:, None])
    early = Series("early", np.arange(-5, 0) * 60_000, np.arange(5.0)[:, None])
    history = History(("value",), (early, late, short), 60.0)
    windows = windows_of(wave, history)
    training = describe(replace(wave, slots=history, windows=windows), MOMENT).training
    assert (training.rows, training.series) == (65, 1)
    assert (training.first, training.last) == ("1970-01-01T00:05:00Z", "1970-01-01T01:09:00Z")
    unknown = replace(history, series=(replace(late, times=None),), step_seconds=None)
    told = replace(wave, slots=unknown, windows=windows_of(wave, unknown))
    assert describe(told, MOMENT).training.first is None
    assert describe(told, MOMENT).training.last is None


def windows_of(fitted: Fitted, history: History) -> Windows:
    config = fitted.config
    return make_windows(
        history,
        config.features,
        config.targets,
        n_steps=fitted.plan.n_steps,
        horizon=config.horizon,
        train_rows=config.train_rows,
        validation_rows=config.validation_rows,
    )


def test_a_week_ahead_of_daily_readings(tmp_path: Path) -> None:
    """As many validation windows as leads, one target: the file holds, and so do its figures."""
    week = np.tile([5.0, 1.0, 2.0, 4.0, 3.0, 9.0, 8.0], 30)
    noise = np.random.default_rng(1).normal(0, 0.3, len(week))
    config = config_of(horizon=7, n_steps=14, validation_rows=13, epochs=1)
    fitted = fit(config, history_of(week + noise, step=86_400, every=86_400))
    assert len(fitted.windows.starts["validation"]) == 7
    path, spec = write_model(tmp_path, fitted, MOMENT)
    _, predict = open_model(path)
    inputs, actual = fitted.windows.gather(fitted.windows.starts["validation"])
    for told, forecast in (
        (spec.validation.mae, predict(inputs)),
        (spec.validation.naive_mae, np.repeat(inputs[:, -1:], 7, axis=1)),
    ):
        np.testing.assert_allclose(told, np.abs(forecast - actual).mean(axis=(0, 2)), rtol=1e-4)
    np.testing.assert_allclose(fitted.predictor(inputs), predict(inputs), rtol=1e-5)


def test_the_saved_network_opens_with_keras_alone(wave: Fitted, tmp_path: Path) -> None:
    write_model(tmp_path, wave, MOMENT)
    network = keras.models.load_model(tmp_path / "m.keras")
    answers = [predict(samples_of(wave)) for predict in (Predictor(network), wave.predictor)]
    np.testing.assert_array_equal(answers[0], answers[1])


def test_a_graph_without_lstm_operators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not LSTM operators"):
        check_operators(onnx.load(write_mean_model(tmp_path / "mean.onnx")))
