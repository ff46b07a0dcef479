"""Every option of the trainer arrives where it is meant to; nothing is fitted here."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.conftest import config_of
from tidecast.files.options import FileOptions
from tidecast.trainer import __main__ as program
from tidecast.trainer import backend, extra
from tidecast.trainer.errors import (
    ConfigError,
    DataError,
    ExportError,
    ExtraError,
    ModelError,
    TrainerError,
)

FIT: dict[str, Any] = {
    "name": "other", "n_steps": 9, "arch": "segmented", "segment": 3, "mix": False, "line": False,
    "members": 2, "units": 7, "layers": 2, "activation": "relu", "dropout": 0.25,
    "normalization": "standard", "loss": "huber", "train_rows": 33, "validation_rows": 11,
    "epochs": 5, "patience": 4, "batch_size": 16, "learning_rate": 0.5, "weight_decay": 0.125,
    "season": 12, "seed": 3, "series": "pump-*", "step_seconds": 90.0,
    "gaps": "hold", "max_gap": 5,
}  # fmt: skip
TUNE = (
    *("name", "members", "normalization", "loss", "train_rows", "validation_rows", "season"),
    *("seed", "step_seconds"),
)


class Loaded(Exception):  # noqa: N818 - it ends the command where its options have been read
    """Carries what a command would have loaded."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a command line makes of its words: data, configuration, columns, unit of time."""

    def load(*given: Any) -> None:
        raise Loaded(given)

    monkeypatch.setattr(program, "_load", load)

    def ask(*words: str) -> Any:
        with pytest.raises(Loaded) as loaded:
            program.app(words, standalone_mode=False)
        return loaded.value.args[0]

    return ask


def words_of(choices: dict[str, Any]) -> list[str]:
    words = []
    for name, value in choices.items():
        flag = {"step_seconds": "step"}.get(name, name.replace("_", "-"))
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return words


@pytest.mark.parametrize("command", ["fit", "tune"])
def test_every_option_reaches_the_configuration(command: str, asked: Any) -> None:
    told = FIT if command == "fit" else {name: FIT[name] for name in TUNE}
    usual = config_of(name="data", targets=("a",), features=("a", "b"), horizon=6)
    assert all(getattr(usual, name) != value for name, value in told.items() if name != "arch")
    words = [command, "data.csv", "--targets", "a", "--features", "a, b", "--horizon", "6"]
    more = ("--series-column", "site", "--aggregate", "mean,a=sum")
    data, config, file = asked(*words, *words_of(told), *more)
    assert (data, file) == (Path("data.csv"), FileOptions(series_column="site"))
    assert config.aggregate == {"a": "sum", "b": "mean"}
    assert (config.targets, config.features, config.horizon) == (("a",), ("a", "b"), 6)
    assert {name: getattr(config, name) for name in told} == told


@pytest.mark.parametrize("command", ["fit", "tune"])
def test_without_options_the_configurations_own_defaults_stand(command: str, asked: Any) -> None:
    _, config, file = asked(command, "folder/taxi.csv", "--targets", "a", "--horizon", "1")
    assert file == FileOptions()
    assert (config.name, config.features) == ("taxi", ("a",))
    given = {"name", "targets", "features", "horizon"}
    fields = type(config).model_fields
    assert {name: getattr(config, name) for name in fields.keys() - given} == {
        name: field.default for name, field in fields.items() if name not in given
    }
    assert config.series == "*"  # a model serves all that have its features


@pytest.mark.parametrize("command", ["fit", "tune"])
def test_any_column_can_be_named(command: str, asked: Any) -> None:
    targets = ("--target", "Temp, °C", "--target", "b", "--targets", "c,d")
    features = ("--feature", "x,y", "--features", "c,d,b", "--feature", "Temp, °C")
    _, config, _ = asked(command, "a.csv", *targets, *features, "--horizon", "1")
    assert config.targets == ("c", "d", "Temp, °C", "b")
    assert config.features == ("c", "d", "b", "x,y", "Temp, °C")


def test_without_a_target_it_is_said() -> None:
    with pytest.raises(ConfigError, match="no target: name columns with --targets a,b or with --t"):
        program.app(("fit", "a.csv", "--horizon", "1"), standalone_mode=False)


def test_the_lstm_over_readings_can_be_chosen(asked: Any) -> None:
    _, config, *_ = asked("fit", "a.csv", "--targets", "a", "--horizon", "1", "--arch", "lstm")
    assert config.arch == "lstm"


@pytest.mark.parametrize(
    ("error", "code"),
    [(TrainerError, 1), (ConfigError, 2), (DataError, 2), (ModelError, 2), (ExportError, 1)],
)
def test_what_the_user_can_mend_ends_with_2(error: type[TrainerError], code: int) -> None:
    assert error("why").exit_code == code


def test_a_gpu_is_named_and_its_absence_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert backend.device().endswith(" processors; TensorFlow finds no GPU")
    names = {"one": {"device_name": "NVIDIA H100"}, "two": {}}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [*names] * (kind == "GPU"))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", names.__getitem__)
    assert backend.device() == "GPU: NVIDIA H100, None"


@pytest.mark.parametrize(
    ("absent", "told"),
    [({"optuna"}, "optuna is not installed"), ({"onnx", "tf2onnx"}, "onnx, tf2onnx are not")],
)
def test_what_the_extra_lacks_is_named(
    absent: set[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra.check_extra()
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name in absent else object())
    with pytest.raises(ExtraError, match=rf"^{told}.*pip install 'tidecast\[trainer\]'$"):
        extra.check_extra()


@pytest.mark.parametrize(
    ("text", "seconds", "calendar"),
    [
        ("5m", 300.0, None),
        ("30", 30.0, None),
        ("1.5h", 5400.0, None),
        ("1d", 86_400.0, None),
        ("2w", 1_209_600.0, None),
        ("auto", "auto", None),
        ("none", None, None),
        ("1mo", None, "1mo"),
        ("1bd", None, "1bd"),
    ],
)
def test_a_step_may_be_told_in_several_ways(
    text: str, seconds: object, calendar: str | None, asked: Any
) -> None:
    _, config, *_ = asked("fit", "x.csv", "--targets", "a", "--horizon", "1", "--step", text)
    assert (config.step_seconds, config.calendar) == (seconds, calendar)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--step", "5q"), "--step '5q': neither a time"),
        (("--aggregate", "middle"), "'middle' is none of last, mean"),
        (("--aggregate", "mean,z=sum"), "--aggregate z=...: neither a feature nor a target"),
        (("--aggregate", "mean", "--step", "none"), "--step none has none"),
    ],
)
def test_what_makes_no_slots_is_refused(words: tuple[str, ...], said: str) -> None:
    given = ("fit", "x.csv", "--targets", "a", "--horizon", "1", *words)
    with pytest.raises(ConfigError, match=re.escape(said)):
        program.app(given, standalone_mode=False)
