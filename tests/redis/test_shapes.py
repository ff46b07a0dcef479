"""Entries of many shapes on one stream of a real server, through real worker processes."""

import json
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
import redis

from tests.conftest import Run
from tests.model_files import write_mean_model

STREAM = "readings"
FIRST = 1_709_251_200_000
SHAPES = 9


def fields_of(number: int) -> dict[Any, Any]:
    """A reading of series ``w,n=s<k>`` or ``s<k>``; all that names one has two shapes at least."""
    name, at, value = f"s{number % 2}", FIRST + 1000 * number, number + 0.5
    point = {"name": "w", "tags": {"n": name}, "fields": {"temp": value}, "timestamp": at}
    plain = {"series": name, "ts": at, "temp": value}
    shapes: list[dict[Any, Any]] = [
        plain,
        {"payload": json.dumps(plain)},
        {"message": json.dumps({"device": {"id": name}, "values": {"temp": value}, "ts": at})},
        {"data": json.dumps(point)},
        {"data": f"w,n={name} temp={value} {at}000000"},
        {"msg": ormsgpack.packb(plain)},
        {'{"id":7}': json.dumps({"before": None, "after": plain, "op": "c"})},
        {"event": json.dumps({"specversion": "1.0", "source": name, "time": at, "data": plain})},
        {"sensor": name, "time": at, "metric": "temp", "reading": value},
    ]
    return shapes[number // 2 % SHAPES]


def options(model: Path) -> list[object]:
    words: list[object] = ["run", "--models", model, "--from", "earliest", "--burst"]
    words += ["--max-skew", "inf", "--log-format", "json"]
    return [*words, "--feature-field", "metric", "--value-field", "reading"]


def messages(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines()]


def forecasts(client: redis.Redis) -> list[dict[str, Any]]:
    entries: Any = client.xrange(f"{STREAM}:forecasts")
    return [json.loads(fields[b"forecast"]) for _, fields in entries]


@pytest.mark.parametrize("cuts", [(), (1, 37, 38, 90)])
def test_shapes_of_one_stream_are_one_record_however_it_is_cut(
    client: redis.Redis, tidecast: Run, tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    """Runs that end between entries go on from their checkpoint as one that reads all at once."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, features=("temp",), targets=("temp",))
    count, told = 6 * SHAPES * 2, []
    firsts = [0, *cuts]
    for first, beyond in zip(firsts, [*cuts, count], strict=True):
        for number in range(first, beyond):
            client.xadd(STREAM, fields_of(number), id=f"{FIRST + 1000 * number}-0")
        done = tidecast(*options(model), "--series-field", "series", "--time-field", "ts")
        assert done.returncode == 0, done.stderr
        told += messages(done.stderr)
    assert client.xlen(f"{STREAM}:dead") == 0

    by_name: dict[str, list[tuple[int, float]]] = {}
    for number in range(count):
        shape = number // 2 % SHAPES
        name = f"s{number % 2}"
        if shape in (3, 4):
            name = f"w,n={name}"
        own_time = shape != SHAPES - 1
        series = name if own_time else STREAM
        by_name.setdefault(series, []).append((FIRST + 1000 * number, number + 0.5))
    expected = {
        name: [
            (rows[i][0], sum(value for _, value in rows[i - 2 : i + 1]) / 3)
            for i in range(2, len(rows))
        ]
        for name, rows in by_name.items()
    }
    found: dict[str, list[tuple[int, float]]] = {}
    for one in forecasts(client):
        found.setdefault(one["series"], []).append((one["at"], one["forecast"]["temp"][0]))
    assert found.keys() == expected.keys()
    for series, rows in expected.items():
        assert [at for at, _ in found[series]] == [at for at, _ in rows]
        values = [value for _, value in rows]
        assert [value for _, value in found[series]] == pytest.approx(values, rel=1e-5)

    recognised = [line for line in told if "recognised" in line["message"]]
    assert {line["level"] for line in recognised} == {"info"}
    for known in ("Telegraf's JSON", "line protocol", "MessagePack", "Debezium", "CloudEvents"):
        lines = [line for line in recognised if f"recognised {known}" in line["message"]]
        assert len(lines) >= 1, known
        assert cuts or len(lines) == 1, known


def test_the_options_of_a_letter_mend_its_cause(
    client: redis.Redis, server_url: str, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1, features=("temp",), targets=("temp",))
    body = '{"sensor":"a","timestamp":1709251200000,"temperature":"70.5"}'
    client.xadd(STREAM, {"raw": body}, id=f"{FIRST}-0")
    run = ("run", "--models", model, "--from", "earliest", "--burst")
    assert tidecast(*run).returncode == 0
    letters: Any = client.xrange(f"{STREAM}:dead")
    ((_, letter),) = letters
    reason = letter[b"reason"].decode()
    assert reason == (
        "feature 'temp' is missing; there are 'sensor', 'timestamp', 'temperature': "
        "--payload-field raw --series-field sensor --time-field timestamp --value temp=temperature"
    )
    mended = reason.partition(": ")[2].split()
    naming = mended[mended.index("--series-field") : mended.index("--value")]
    retried = tidecast("dead-letters", "retry", "--all", "--redis-url", server_url, *naming)
    assert retried.returncode == 0, retried.stderr
    assert tidecast(*run, *mended).returncode == 0
    (forecast,) = forecasts(client)
    assert (forecast["series"], forecast["at"]) == ("a", FIRST)
    assert forecast["forecast"]["temp"] == [70.5]
