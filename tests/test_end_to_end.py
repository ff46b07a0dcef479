"""From data to a forecast that someone hears, through every real part."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import redis

from tests.conftest import Run
from tidecast.trainer.backend import load_tensorflow
from tidecast.trainer.evaluate import open_model, windows_for
from tidecast.trainer.export import export_again
from tidecast.trainer.fit import fit
from tidecast.trainer.patterns import EXAMPLES, Example
from tidecast.trainer.scores import Scale, score
from tidecast.trainer.series import load_history
from tidecast.trainer.slots import slotted
from tidecast.worker.store.keys import forecasts_key

IDS = [example.pattern for example in EXAMPLES]
READ_SIZES = (1, 7, 1000)
Floats = npt.NDArray[np.float32]


def trainer(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidecast.trainer", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)


@pytest.fixture(scope="session")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the six patterns' models, fitted by the command line."""
    folder = tmp_path_factory.mktemp("patterns")
    result = trainer("patterns", "--out", folder, "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [row["pattern"] for row in rows] == IDS
    return folder


@contextmanager
def live_worker(url: str, models: Path, stream: str = "readings") -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "tidecast.worker",
        "run",
        "--redis-url",
        url,
        "--models",
        str(models),
    ]
    command += ["--input", stream, "--from", "earliest", "--cold-start", "none"]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0


def hear(client: redis.Redis, count: int, send: Any) -> list[dict[str, Any]]:
    """Subscribe, let ``send`` do its work, and return what is heard."""
    heard: list[dict[str, Any]] = []
    channel: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    channel.psubscribe("forecast:*")
    while channel.get_message(timeout=0.1):
        pass
    send()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        message = channel.get_message(timeout=0.5)
        if message:
            heard.append(json.loads(message["data"]))
        elif len(heard) >= count:
            break  # and not one more
    channel.close()
    return heard


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_the_expected_number_is_heard(
    client: redis.Redis, server_url: str, patterns: Path, example: Example
) -> None:
    def send() -> None:
        for row in example.window:
            fields: Any = dict(zip(example.features, row, strict=True))
            client.xadd("readings", {"series": "tutorial", **fields})

    with live_worker(server_url, patterns / f"{example.pattern}.onnx"):
        heard = hear(client, 1, send)
    assert len(heard) == 1
    for place, target in enumerate(example.targets):
        expected = [lead[place] for lead in example.expected]
        assert heard[0]["forecast"][target] == pytest.approx(expected, rel=0.01)


def readings_of(example: Example, series: int) -> list[tuple[str, Any]]:
    """Interleaved readings: every series gets its window and three more."""
    random = np.random.default_rng(series)
    levels = random.uniform(50, 500, series)
    return [
        (
            f"s{i}",
            {
                name: float(np.float32(levels[i] + 10 * step + j + random.normal(0, 2)))
                for j, name in enumerate(example.features)
            },
        )
        for step in range(8)
        for i in random.permutation(series).tolist()
    ]


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_published_forecasts_are_kerass_own(
    client: redis.Redis, tidecast: Run, patterns: Path, example: Example
) -> None:
    """For 1, 2 and 500 interleaved series, each on a stream of its own, and every read size."""
    load_tensorflow()
    import keras

    network = keras.models.load_model(patterns / f"{example.pattern}.keras", compile=False)
    least = open_model(patterns / f"{example.pattern}.onnx")[0].min_steps or 5
    expected = {}
    pipeline = client.pipeline(transaction=False)
    for count in (1, 2, 500):
        sent = readings_of(example, count)
        for name, fields in sent:
            pipeline.xadd(f"in-{count}", {"series": name, **fields})
        names, windows = served_windows(sent, least)
        expected[f"in-{count}"] = names, np.asarray(network(windows, training=False))
    pipeline.execute()
    model = patterns / f"{example.pattern}.onnx"
    inputs = [word for stream in expected for word in ("--input", stream)]
    for size in READ_SIZES:
        options = ("--from", "earliest", "--burst", "--read-size", str(size), "--fleet", f"f{size}")
        result = tidecast("run", "--models", model, *inputs, *options)
        assert result.returncode == 0, result.stderr
        for stream, (names, answers) in expected.items():
            entries: Any = client.xrange(forecasts_key(stream, f"f{size}"))
            published = [json.loads(fields[b"forecast"]) for _, fields in entries]
            assert [p["series"] for p in published] == names
            got = np.array([[p["forecast"][t] for t in example.targets] for p in published])
            np.testing.assert_allclose(got.transpose(0, 2, 1), answers, rtol=1e-5)


def served_windows(sent: list[tuple[str, Any]], least: int) -> tuple[list[str], Floats]:
    """The series and the window ``[k, 5, F]`` of each reading with so many up to it."""
    tails: dict[str, list[list[float]]] = {}
    names, windows = [], []
    for name, fields in sent:
        tail = tails.setdefault(name, [])
        tail.append(list(fields.values()))
        if len(tail) >= least:
            names.append(name)
            windows.append([tail[0]] * (5 - len(tail)) + tail[-5:])
    return names, np.array(windows, np.float32)


@pytest.fixture(scope="module")
def taxi(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> tuple[Path, Any]:
    """A model of taxi rides, and what its evaluation says."""
    data, folder = shared_data / "nyc_taxi.csv", tmp_path_factory.mktemp("taxi")
    fitted = trainer(
        *("fit", data, "--targets", "value", "--n-steps", 24, "--horizon", 5),
        *("--name", "taxi", "--epochs", 6, "--no-report", "--out", folder),
    )
    assert fitted.returncode == 0, fitted.stderr
    model = folder / "taxi.onnx"
    return model, json.loads(trainer("evaluate", model, data, "--json").stdout)


def test_taxi_live_errors_are_the_evaluations(
    client: redis.Redis, tidecast: Run, taxi: tuple[Path, Any], shared_data: Path
) -> None:
    data = shared_data / "nyc_taxi.csv"
    model, evaluated = taxi
    spec, _ = open_model(model)
    history = load_history(data, spec.targets, step_seconds=spec.step_seconds)
    history = slotted(spec, history)
    windows = windows_for(spec, history)
    starts = windows.starts["test"]
    unlearned = str(int(0.7 * history.rows))
    assert tidecast("feed", data, "--rate", "0", "--from-row", unlearned).returncode == 0
    assert tidecast("run", "--models", model, "--from", "earliest", "--burst").returncode == 0
    entries: Any = client.xrange("readings:forecasts")
    live = {f["at"]: f for f in (json.loads(fields[b"forecast"]) for _, fields in entries)}
    times = history.series[0].times
    assert times is not None
    newest = times[starts + spec.n_steps - 1].tolist()
    forecast = np.array([live[at]["forecast"]["value"] for at in newest])[:, :, None]
    _, actual = windows.gather(starts)
    scores = score(forecast, actual, Scale([np.nan], [np.nan], [np.nan]))
    assert scores.mae == pytest.approx(evaluated["model"]["per_lead"]["mae"], rel=1e-5)
    assert scores.rmse == pytest.approx(evaluated["model"]["per_lead"]["rmse"], rel=1e-5)
    assert np.mean(scores.mae) < evaluated["baselines"]["naive"]["overall"]["mae"]
    assert "LOSES" not in evaluated["verdict"]


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A counter's record at 7e12, where 32-bit numbers lie 524,288 apart, and its model beside it.

    It moves by 2,000 an hour and a daily season.
    """
    hours = np.arange(700)
    steps = np.round(2000 + 800 * np.sin(hours * np.pi / 12))
    counts = (7e12 + np.cumsum(steps)).astype(np.int64)
    data = tmp_path_factory.mktemp("meter") / "meter.csv"
    times = hours * 3_600_000 + 1_700_002_800_000
    pl.DataFrame({"ts": times, "energy": counts}).write_csv(data)
    fitted = trainer(
        *("fit", data, "--targets", "energy", "--horizon", 3, "--n-steps", 48),
        *("--epochs", 1, "--no-report", "--out", data.parent),
    )
    assert fitted.returncode == 0, fitted.stderr
    assert "picked 64-bit numbers: energy changes by " in fitted.stderr
    return data


def test_a_counter_is_right_to_a_thousandth_of_its_steps_live(
    client: redis.Redis, tidecast: Run, meter: Path
) -> None:
    """From a file to what is published; a stop in between takes windows from the checkpoint."""
    times, counts = pl.read_csv(meter).to_numpy().T
    model = meter.with_suffix(".onnx")
    options = ("--models", model, "--from", "earliest", "--burst")
    for rows in (("--to-row", "600"), ("--from-row", "600")):
        assert tidecast("feed", meter, "--rate", "0", *rows).returncode == 0
        result = tidecast("run", *options)
        assert result.returncode == 0, result.stderr
    assert "64-bit numbers" in result.stderr
    entries: Any = client.xrange("readings:forecasts")
    made = [json.loads(fields[b"forecast"]) for _, fields in entries]
    whole = [one for one in made if "filled" not in one]
    assert len(whole) == 700 - 47
    at = {time: place for place, time in enumerate(times.tolist())}
    tested = [one for one in whole if 560 <= at[one["at"]] < 697]
    errors = [
        np.abs(np.array(one["forecast"]["energy"]) - counts[at[one["at"]] + 1 :][:3])
        for one in tested
    ]
    assert np.max(errors) < 2  # a thousandth of 2,000
    scores = json.loads(trainer("evaluate", model, meter, "--no-report", "--json").stdout)
    live = [one["forecast"]["energy"] for one in whole if at[one["at"]] >= 629][:-3]
    truth = [counts[at[one["at"]] + 1 :][:3] for one in whole if at[one["at"]] >= 629][:-3]
    found = np.abs(np.array(live) - truth).mean(axis=0)
    assert scores["model"]["per_lead"]["mae"] == pytest.approx(found, abs=0.01)


def test_one_seed_gives_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own, as Python's hash seed differs between them."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    data = tmp_path / "wave.csv"
    pl.DataFrame({"value": np.sin(np.arange(200) / 5).round(6)}).write_csv(data)
    files = []
    for out in ("one", "two"):
        options = ("--n-steps", 8, "--horizon", 2, "--units", 8, "--epochs", 3, "--seed", 1)
        there = ("--no-report", "--out", tmp_path / out)
        result = trainer("fit", data, "--targets", "value", *options, *there)
        assert result.returncode == 0, result.stderr
        files.append(tmp_path / out / "wave.onnx")
    assert files[0].read_bytes() == files[1].read_bytes()
    version = open_model(files[0])[0].version
    assert open_model(files[1])[0].version == version
    _, again = export_again(files[0].with_suffix(".keras"), tmp_path / "again")
    assert again.version == version


def test_another_seed_gives_another_model() -> None:
    history = EXAMPLES[0].history()
    config = EXAMPLES[0].config().model_copy(update={"epochs": 1})
    weights = [
        fit(config.model_copy(update={"seed": seed}), history).network.get_weights()
        for seed in (1, 1, 2)
    ]
    assert all((one == two).all() for one, two in zip(weights[0], weights[1], strict=True))
    assert not all((one == two).all() for one, two in zip(weights[0], weights[2], strict=True))
