"""Training that is broken off and goes on is training that was not."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.conftest import config_of, history_of, scaling_of, untrained
from tests.trainer.test_command_line import trainer
from tidecast.trainer.config import FitConfig
from tidecast.trainer.dataset import Windows, make_windows
from tidecast.trainer.errors import DataError
from tidecast.trainer.fit import Fitted, fit
from tidecast.trainer.plan import make_plan
from tidecast.trainer.resume import Unfinished, key_of, read_unfinished, write_unfinished
from tidecast.trainer.ridge import Line
from tidecast.trainer.series import History
from tidecast.trainer.training import State, _loss, train

WAVE = history_of(np.sin(np.arange(400) / 5) + np.random.default_rng(0).normal(size=400) / 5)
LONG = config_of(epochs=3, members=2, units=8, learning_rate=0.02)


def windows_of(rows: int, train_rows: int) -> Windows:
    return make_windows(
        history_of(np.arange(rows)),
        ("value",),
        ("value",),
        n_steps=3,
        horizon=2,
        train_rows=train_rows,
        validation_rows=0,
    )


def firsts(windows: Windows, batches: int, **choices: int) -> list[float]:
    """The first reading of each window in so many batches, which here is its number."""
    found: Iterator[tuple[np.ndarray, np.ndarray]] = windows.shuffled(
        5, **({"seed": 1} | choices)
    ).as_numpy_iterator()
    taken = list(islice(found, batches))
    for inputs, outputs in taken:
        ramp = inputs[:, :1] + np.arange(5)[None, :, None]
        np.testing.assert_array_equal(np.concatenate([inputs, outputs], axis=1), ramp)
    return [float(value) for inputs, _ in taken for value in inputs[:, 0, 0]]


def test_each_round_takes_every_window_once_in_an_order_of_its_own() -> None:
    windows = windows_of(60, 41)
    count = len(windows.starts["train"])
    assert count == 37
    seen = firsts(windows, 15)[: 2 * count]
    one, two = seen[:count], seen[count:]
    assert sorted(one) == sorted(two) == list(range(count))
    assert one != two
    assert one != sorted(one)
    assert firsts(windows, 15, seed=2)[:count] != one


def test_windows_go_on_from_any_batch() -> None:
    windows = windows_of(60, 41)
    assert firsts(windows, 6, first=9) == firsts(windows, 15)[45:]


def test_no_batch_tells_keras_its_size() -> None:
    """With a known one Keras takes some additions for others; in training it never is."""
    windows = windows_of(60, 41)
    for batches in (windows.in_order("test", 4), windows.shuffled(4, 1)):
        shapes = [each.shape.as_list() for each in batches.element_spec]
        assert shapes == [[None, 3, 1], [None, 2, 1]]


@pytest.mark.parametrize(("patience", "gains", "epochs"), [(1, (), 1), (3, (2,), 6)])
def test_so_many_epochs_without_a_gain_end_the_training(
    patience: int, gains: tuple[int, ...], epochs: int
) -> None:
    """With next to no learning rate none gains, but where the best until then is forgotten."""
    config = config_of(patience=patience, epochs=9, learning_rate=1e-30)
    network, windows = untrained(config, WAVE, Line.flat(4, 1))
    plan, unit = make_plan(config, WAVE), scaling_of(config, windows).unit

    def after(state: State) -> None:
        if len(state.losses) in gains:
            state.best = np.inf

    state = State()
    assert train(network, config, plan, windows, unit, state=state, after=after)
    assert len(state.losses) == epochs
    assert state.waited == patience
    assert train(network, config, plan, windows, unit, state=state)  # it had ended
    assert len(state.losses) == epochs


class Interrupted:
    """Presses Ctrl-C after some epochs, and keeps what was kept until then in a file."""

    def __init__(self, path: Path, config: FitConfig, epochs: int) -> None:
        self.path, self.epochs = path, epochs
        self.key = key_of(config, make_plan(config, WAVE), WAVE)

    def keep(self, unfinished: Unfinished) -> None:
        write_unfinished(self.path, self.key, unfinished)

    def progress(self, epoch: int, *_: object) -> None:
        if epoch == self.epochs:
            raise KeyboardInterrupt

    def kept(self) -> Unfinished:
        return read_unfinished(self.path, self.key)


@pytest.fixture(scope="module")
def whole() -> Fitted:
    return fit(LONG, WAVE)


@pytest.mark.parametrize("epochs", [1, 3, 5])  # in the first, after it, in the second
def test_a_fit_that_was_broken_off_goes_on_as_if_it_had_not_been(
    tmp_path: Path, whole: Fitted, epochs: int
) -> None:
    broken = Interrupted(tmp_path / "m.npz", LONG, epochs)
    first = fit(LONG, WAVE, broken.progress, keep=broken.keep)
    assert first.broken_off
    assert not whole.broken_off
    second = fit(LONG, WAVE, earlier=broken.kept(), keep=broken.keep)
    assert not second.broken_off
    assert second.losses == whole.losses
    for one, other in zip(second.network.weights, whole.network.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_only_the_same_fit_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with pytest.raises(DataError, match="nothing to go on from"):
        read_unfinished(path, "a")
    write_unfinished(path, "a", Unfinished())
    assert read_unfinished(path, "a") == Unfinished()
    with pytest.raises(DataError, match="other data or with other options"):
        read_unfinished(path, "b")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        read_unfinished(path, "a")


def test_the_key_tells_data_and_choices_apart() -> None:
    def key(config: FitConfig, history: History) -> str:
        return key_of(config, make_plan(config, history), history)

    other = history_of(np.asarray(WAVE.series[0].values) + 1e-9)
    keys = {key(LONG, WAVE), key(LONG, other), key(LONG.model_copy(update={"seed": 2}), WAVE)}
    assert len(keys) == 3


def test_a_killed_fit_resumes_to_the_same_model(tmp_path: Path) -> None:
    """SIGKILL in the midst of the epochs; the version is a digest of graph and weights."""
    data = tmp_path / "data.csv"
    rows = "".join(f"{value[0]:.6f}\n" for value in WAVE.series[0].values)
    data.write_text("value\n" + rows)
    options = [data, "--name", "m", "--targets", "value", "--horizon", "1", "--n-steps", "8"]
    options += ["--epochs", "15", "--patience", "15", "--units", "8", "--no-report"]

    def version(folder: str) -> str:
        import json

        return str(json.loads((tmp_path / folder / "m.json").read_text())["version"])

    assert trainer("fit", *options, "--out", tmp_path / "whole").returncode == 0
    command = [sys.executable, "-m", "tidecast.trainer", "fit", *map(str, options)]
    broken = subprocess.Popen([*command, "--out", str(tmp_path / "broken")])
    kept = tmp_path / "broken" / "m.unfinished.npz"
    deadline = time.monotonic() + 300
    while not kept.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert kept.exists()
    assert not (tmp_path / "broken" / "m.onnx").exists()
    resumed = trainer("fit", *options, "--out", tmp_path / "broken", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert version("broken") == version("whole")
    assert not kept.exists()
    again = trainer("fit", *options, "--out", tmp_path / "broken", "--resume")
    assert again.returncode == 2
    assert "nothing to go on from" in again.stderr


def test_the_loss_of_64_bit_forecasts_sees_a_step_of_a_counter() -> None:
    """At a billion 32-bit numbers lie 64 apart, so it would see nothing."""
    actual, forecast = (np.full((2, 1, 1), 1e9 + by) for by in (0.0, 3.0))
    loss = _loss("mae", np.array([2.0]), "float64")
    assert float(loss(actual, forecast)) == 1.5
