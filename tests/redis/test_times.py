"""Times as people send them, and clocks that run ahead: what a worker forecasts of them."""

import json
import time
from pathlib import Path

import pytest
import redis

from tests.conftest import Run
from tests.model_files import spec_in, write_mean_model
from tests.redis.test_worker_process import dead, forecasts


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Says what the newest minute was."""
    return write_mean_model(tmp_path / "models" / "mean.onnx", n_steps=1, step_seconds=60.0)


def run(tidecast: Run, model: Path, *options: str) -> str:
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", *options)
    assert result.returncode == 0, result.stderr
    return result.stderr


def add(client: redis.Redis, at: object, value: object) -> None:
    client.xadd("readings", {"series": "a", "ts": str(at), "value": str(value)})


def told(client: redis.Redis) -> list[tuple[int, float]]:
    return [(one["at"], one["forecast"]["value"][0]) for one in forecasts(client)]


def test_numbers_of_every_unit_are_the_same_time(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 1709251200, 1)
    add(client, 1709251260000, 2)
    add(client, 1709251320000000, 3)
    add(client, 1709251380000000000, 4)
    add(client, "1709251440.25", 5)
    add(client, "2024-03-01 01:05:00+01:00", 6)
    client.xadd("readings", {"data": '{"series":"a","ts":1709251560,"value":7}'})
    run(tidecast, model)
    times = [1709251200000 + 60_000 * minute for minute in range(7)]
    times[4] += 250
    assert told(client) == list(zip(times, range(1, 8), strict=True))
    assert not dead(client)


def test_a_unit_that_is_said_is_not_guessed(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 60_000, 1)
    add(client, 60_060, 2)
    run(tidecast, model, "--time-unit", "s")
    assert told(client) == [(60_000_000, 1), (60_060_000, 2)]


def test_a_date_is_not_taken_for_a_number(client: redis.Redis, tidecast: Run, model: Path) -> None:
    add(client, 20240131, 1)
    run(tidecast, model)
    (letter,) = dead(client)
    assert letter["reason"] == (
        "time '20240131' may be a date or a number since 1970; send ISO 8601, or say --time-unit"
    )


def test_a_reading_far_ahead_costs_itself_also_after_a_restart(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    """::

    entry at   0 s    0 s         0 s    0 s, after a restart
    time       0 s    ten years   60 s   120 s
    forecast   x      a letter    x      x
    """
    now = time.time_ns() // 1_000_000
    add(client, now, 1)
    add(client, now + 10 * 365 * 86_400_000, 2)
    add(client, now + 60_000, 3)
    run(tidecast, model)
    add(client, now + 120_000, 4)
    run(tidecast, model)
    assert [value for _, value in told(client)] == [1, 3, 4]
    (letter,) = dead(client)
    assert "more than 86400 s ahead of its entry and of all readings before" in letter["reason"]
    assert "--max-skew" in letter["reason"]


def test_a_restarted_worker_knows_how_far_time_had_come(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    """A minute at each leap: what stands in the checkpoint is all that says it was one."""
    now = time.time_ns() // 1_000_000
    options = ["--max-skew", "90"]
    for minute in range(20):
        add(client, now + 60_000 * minute, minute)
    run(tidecast, model, *options)
    client.xtrim("readings", maxlen=0)
    add(client, now + 60_000 * 20, 20)
    add(client, now + 60_000 * 40, 40)
    run(tidecast, model, *options)
    assert [value for _, value in told(client)] == [*range(21)]
    assert len(dead(client)) == 1


MINUTE = 60_000
START = 1_709_251_200_000
GRID = {"step_seconds": 60.0, "gaps": "linear", "max_gap": 2}


def feed(client: redis.Redis, *readings: tuple[float, object]) -> None:
    """Add readings of so many minutes."""
    for minute, value in readings:
        add(client, START + round(MINUTE * minute), value)


def minutes(client: redis.Redis) -> list[tuple[float, float]]:
    return [((at - START) / MINUTE, round(value, 3)) for at, value in told(client)]


def test_a_late_reading_amends_its_slot(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    """::

    minute              0   1   2   3   4        as they come: 0 2 3 1 4
    first forecast      0  (3)  6                3 stands for the hole, of 0 and 6
    after minute 3          .   6   9
    1 comes, with 6         6   6   9            nothing is published
    after minute 4              6   9   3
    """
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    feed(client, (0, 0), (2, 6), (3, 9), (1, 6), (4, 3))
    said = run(tidecast, model)
    assert minutes(client) == [(2, 3), (3, 6), (4, 6)]
    assert [one.get("filled") for one in forecasts(client)] == [0.3333, 0.3333, None]
    assert "5 readings -> 3 forecasts" in said
    assert "1 amended what windows hold" in said
    assert not dead(client)


def test_a_late_reading_lets_its_hole_be_filled_anew(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    """::

    minute          0   1   2   3   4
    until 1 comes   0  (2) (4)  6
    after it        0   9 (7.5) 6   3
    """
    model = write_mean_model(tmp_path / "m.onnx", n_steps=4, **GRID)
    feed(client, (0, 0), (3, 6), (1, 9), (4, 3))
    run(tidecast, model)
    assert minutes(client) == [(3, 3), (4, (9 + 7.5 + 6 + 3) / 4)]


@pytest.mark.parametrize(
    ("option", "expected", "ignored"),
    [("last", [(0, 1), (0, 5), (1, 2)], 1), ("first", [(0, 1), (1, 2)], 2)],
)
def test_of_two_readings_of_one_time_one_counts(
    client: redis.Redis,
    tidecast: Run,
    tmp_path: Path,
    option: str,
    expected: list[tuple[float, float]],
    ignored: int,
) -> None:
    """::

    comes     0:1   0:1   0:5   1:2
    last       1     .     5     2       the same again is no news, another value is
    first      1     .     .     2
    """
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1, **GRID)
    feed(client, (0, 1), (0, 1), (0, 5), (1, 2))
    said = run(tidecast, model, "--twice", option)
    assert minutes(client) == expected
    assert f"{ignored} ignored, as they came twice" in said


def test_readings_faster_than_the_step_forecast_as_they_come(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    """::

    comes     0:1  0.2:2  0.4:3  1:4
    window     1     2      3   3 4      the last of a slot counts
    """
    model = write_mean_model(tmp_path / "m.onnx", n_steps=2, min_steps=1, **GRID)
    feed(client, (0, 1), (0.2, 2), (0.4, 3), (1, 4))
    run(tidecast, model)
    assert minutes(client) == [(0, 1), (0.2, 2), (0.4, 3), (1, 3.5)]


def test_a_quick_sensor_does_not_make_slots_short(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    """::

    seconds   0  10  20  30 | 40  50  60  70  80  90 | 100 ... 150 | 160
    value     0   1   2   3 |  4   5   6   7   8   9 |  10 ...  15 |  16
    slot of        0        |           60           |     120     | 180
    """
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    feed(client, *((number / 6, number) for number in range(17)))
    run(tidecast, model)
    found = minutes(client)
    assert len(found) == 7, "one for each reading from the third minute's first on"
    windows = [(3, 9, 10), (3, 9, 15), (9, 15, 16)]
    assert [value for _, value in (found[0], *found[-2:])] == [
        round(sum(window) / 3, 3) for window in windows
    ]


@pytest.mark.parametrize(("option", "letters"), [("drop", 0), ("dead", 1)])
def test_a_reading_whose_slot_is_gone_is_counted_or_a_letter(
    client: redis.Redis, tidecast: Run, tmp_path: Path, option: str, letters: int
) -> None:
    """Minute 0 comes when the window of three minutes holds 2, 3 and 4."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    feed(client, (1, 1), (2, 2), (3, 3), (4, 4), (0, 9), (5, 5))
    said = run(tidecast, model, "--late", option)
    assert minutes(client) == [(3, 2), (4, 3), (5, 4)]
    assert [one["reason"] for one in dead(client)] == letters * [
        "late: 240000 ms before the series' newest reading"
    ]
    assert ("1 dropped, as they came too late (--late dead keeps them)" in said) == (not letters)


def test_a_missing_value_is_a_hole(client: redis.Redis, tidecast: Run, tmp_path: Path) -> None:
    """::

    comes     0:1   1:-   2:3   3:null
    window     1    (2)    3
    """
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    feed(client, (0, 1), (1, "-"), (2, 3))
    client.xadd("readings", {"data": f'{{"series":"a","ts":{START + 3 * MINUTE},"value":null}}'})
    said = run(tidecast, model)
    assert minutes(client) == [(2, 2)]
    assert forecasts(client)[0]["filled"] == 0.3333
    assert "4 readings -> 1 forecasts" in said
    assert "2 without a value" in said
    assert not dead(client)


def test_a_file_of_before_treats_late_readings_as_before(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=2, step_seconds=60.0)
    assert spec_in(model).spec_version == 1
    feed(client, (0, 1), (1, 3), (0, 9), (2, 5))
    run(tidecast, model)
    assert minutes(client) == [(1, 2), (2, 4)]
    assert len(dead(client)) == 1


def test_history_fills_windows_without_a_forecast(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    rows = "".join(f"{START + MINUTE * minute},{minute}\n" for minute in range(5))
    (tmp_path / "a.csv").write_text("ts,value\n" + rows)
    fed = tidecast("feed", tmp_path / "a.csv", "--history", "--rate", "max")
    assert fed.stderr.splitlines()[-1] == "sent 5 readings to readings"
    feed(client, (5, 5))
    said = run(tidecast, model)
    assert minutes(client) == [(5, 4)]
    assert "6 readings -> 1 forecasts" in said
    assert "5 of history" in said
    status = tidecast("status")
    assert "of 6 readings, 5 of history" in status.stdout
    (partition,) = json.loads(tidecast("status", "--json").stdout)["partitions"]
    assert partition["fates"] == {
        "readings": 6,
        "history": 5,
        **dict.fromkeys(("waiting", "amended", "ignored", "dropped", "missing", "unserved"), 0),
        **dict.fromkeys(("joined", "closed", "broken"), 0),
    }
    feed(client, (6, "-"))
    run(tidecast, model)
    assert "of 7 readings, 5 of history, 1 without a value" in tidecast("status").stdout


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (
            120,
            (
                "the slots between are filled, or windows start anew (--gaps, --max-gap); send "
                "them so, or fit with --step 120"
            ),
        ),
        (
            10,
            (
                "of each step the last reading counts; 'tidecast-trainer fit --step 60 --aggregate "
                "mean' makes a model of their mean, --step 10 one of all of them"
            ),
        ),
    ],
)
def test_another_pace_than_the_models_is_told_once(
    client: redis.Redis, tidecast: Run, tmp_path: Path, seconds: int, said: str
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", name="boiler", n_steps=3, **GRID)
    feed(client, *((number * seconds / 60, number) for number in range(40)))
    log = run(tidecast, model, "--read-size", "10")
    told = [line for line in log.splitlines() if "readings come every" in line]
    begin = f"model boiler: readings come every {seconds} s, the model wants 60 s"
    assert [line[line.index("model") :] for line in told] == [f"{begin}: {said}"]


def test_the_models_own_pace_is_not_told(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    feed(client, *((number + 0.2 * (number % 3), number) for number in range(500)))
    assert "readings come every" not in run(tidecast, model)


def test_a_new_series_is_forecast_naively_until_its_model_can(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    """::

    minute                1  2  3  4  5    a window of five, four readings at least, season 3
    value                 7  1  4  6  2
    naive                 7  1             the newest, for both leads
    one season before           7, 1       of minutes 1 and 2
    the model                      .  .    means of 7 7 1 4 6 and 7 1 4 6 2
    """
    described = {"name": "mean", "n_steps": 5, "horizon": 2, "min_steps": 4, "season": 3}
    model = write_mean_model(tmp_path / "m.onnx", **described, **GRID)
    feed(client, *zip(range(1, 6), (7, 1, 4, 6, 2), strict=True))
    run(tidecast, model, "--cold-start", "naive")
    found = [(one["model"], one["forecast"]["value"]) for one in forecasts(client)]
    assert found == [
        ("naive", [7, 7]),
        ("naive", [1, 1]),
        ("seasonal-naive", [7, 1]),
        ("mean", [5, 5]),
        ("mean", [4, 4]),
    ]
    assert ["version" in one for one in forecasts(client)] == [False] * 3 + [True] * 2
    assert not any("filled" in one for one in forecasts(client)[:3])


@pytest.mark.parametrize("restarts", [False, True], ids=["at once", "over a restart"])
def test_a_quiet_series_is_forgotten(
    client: redis.Redis, tidecast: Run, tmp_path: Path, restarts: bool
) -> None:
    """::

    minute   0    1 2 3 4 5 6 7 8 9    10           11   12
    a             x x x x x x x x x    x            x    x
    b        x                         x, anew      x    x forecast

    Without a step, b's reading of minute 11 would be the third of its window.
    """
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3)
    options, said = ["--series-ttl", "300"], ""
    for minute in range(13):
        for series in ("a", "b"):
            if series == "a" or minute in (0, 10, 11, 12):
                at = START + MINUTE * minute
                client.xadd("readings", {"series": series, "ts": at, "value": minute})
        if restarts and minute in (4, 8):
            said += run(tidecast, model, *options)
            client.xtrim("readings", maxlen=0)
    said += run(tidecast, model, *options)
    assert "1 quiet series forgotten (--series-ttl)" in said
    found = [(one["series"], (one["at"] - START) // MINUTE) for one in forecasts(client)]
    assert [minute for series, minute in found if series == "a"] == [*range(2, 13)]
    assert [minute for series, minute in found if series == "b"] == [12]


def test_a_limit_on_quiet_series_below_that_on_clocks_is_warned_of(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, START, 1)
    said = run(tidecast, model, "--series-ttl", "3600")
    assert "--series-ttl 3600 is shorter than --max-skew 86400" in said
    assert "shorter" not in run(tidecast, model, "--series-ttl", "3600", "--max-skew", "60")


def test_what_holds_for_several_streams_is_told_once(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **GRID)
    for stream in ("readings", "others"):
        times = [START + 2 * MINUTE * number for number in range(300)]
        body = {"series": stream, "ts": times, "value": [1.0] * len(times)}
        client.xadd(stream, {"data": json.dumps(body)})
    said = run(tidecast, model, "--input", "readings,others")
    assert said.count("readings come every 120 s") == 1
