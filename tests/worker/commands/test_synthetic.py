"""Made-up readings: what goes out on the wire is what the sensors gave, and looks like sensors."""

from collections import defaultdict

import hiredis
import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.commands.feed import duration_of, rate_of
from tidecast.worker.commands.synthetic import (
    MOST_CELLS,
    WAVE,
    Batch,
    Sensors,
    SyntheticReadings,
    synthetic_readings,
)
from tidecast.worker.errors import SettingsError
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.epoch import LATEST_TIME
from tidecast.worker.pipeline.naming import Naming

NOW = 1_700_000_000_000
STREAM = "readings:é"
Reading = tuple[str, int, tuple[float, ...]]


def sensors(
    count: int = 3, features: int = 1, step_ms: int | None = None, seed: int = 1
) -> Sensors:
    return Sensors(count, features, step_ms=step_ms, random=np.random.default_rng(seed))


def source(
    series: int = 3,
    features: tuple[str, ...] = ("value",),
    naming: tuple[str, str] = ("series", "ts"),
    **other: int,
) -> SyntheticReadings:
    return synthetic_readings(
        STREAM.encode(),
        series=series,
        features=features,
        per_entry=other.get("per_entry", 1),
        step_ms=other.get("step_ms"),
        longest=other.get("longest"),
        random=np.random.default_rng(1),
        series_field=naming[0],
        time_field=naming[1],
    )


def rows(batch: Batch) -> list[Reading]:
    """The readings of a batch with the numbers that its hundredths stand for."""
    numbers = [tuple(hundredth / 100 for hundredth in one) for one in batch.hundredths.T.tolist()]
    names = [f"synthetic-{sensor}" for sensor in batch.sensors.tolist()]
    return list(zip(names, batch.times.tolist(), numbers, strict=True))


def words_of(commands: bytes) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(commands)
    words = []
    while (command := reader.gets()) is not False:
        words.append(command)
    assert not reader.has_data()
    return words


def decoded(
    commands: bytes, head: list[bytes], features: tuple[str, ...], naming: tuple[str, str]
) -> list[Reading]:
    """What a worker makes of the entries that these commands add."""
    words = words_of(commands)
    assert [command[: len(head)] for command in words] == [head] * len(words)
    entries = [(b"5-0", command[len(head) :]) for command in words]
    decoder = Decoder(STREAM, features, Naming(series=(naming[0],), time=(naming[1],)))
    readings, rejects = decoder.decode(entries)
    assert rejects == []
    names = [name.decode() for name in readings.series]
    numbers = zip(*(readings.columns[name].tolist() for name in features), strict=True)
    return list(zip(names, readings.times.tolist(), numbers, strict=True))


@given(
    st.integers(1, 5),
    st.sampled_from([("value",), ("temp", "hum"), ("data", "value", 'wind "é"')]),
    st.sampled_from([("series", "ts"), ("sensor", "ts"), ("body", "when")]),
    st.integers(1, 4),
    st.none() | st.integers(1, 100_000),
    st.none() | st.integers(1, 1000),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 500)), min_size=1, max_size=4),
)
def test_a_worker_decodes_what_the_sensors_gave(
    series: int,
    features: tuple[str, ...],
    naming: tuple[str, str],
    per_entry: int,
    step_ms: int | None,
    longest: int | None,
    takes: list[tuple[int, int]],
) -> None:
    made = {"step_ms": step_ms, "longest": longest}
    given = {name: value for name, value in made.items() if value is not None}
    readings = source(series, features, naming, per_entry=per_entry, **given)
    twin = sensors(series, len(features), step_ms)
    limit = [b"MAXLEN", b"~", b"%d" % longest] if longest else []
    head = [b"XADD", STREAM.encode(), *limit, b"*"]
    now = NOW
    for entries, passed in takes:
        now += passed
        pipeline = readings.take(entries, now)
        assert (pipeline.entries, pipeline.readings) == (entries, entries * per_entry)
        assert len(words_of(pipeline.commands)) == entries
        expected = rows(twin.read(entries * per_entry, now))
        assert decoded(pipeline.commands, head, features, naming) == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 3))
def test_values_do_not_hang_on_how_readings_are_cut(cuts: list[int], features: int) -> None:
    whole = sensors(4, features).read(sum(cuts), NOW)
    cut = sensors(4, features)
    parts = [cut.read(count, NOW) for count in cuts]
    assert np.concatenate([part.sensors for part in parts]).tolist() == whole.sensors.tolist()
    joined = np.concatenate([part.hundredths for part in parts], axis=1)
    assert joined.tolist() == whole.hundredths.tolist()


def test_one_seed_gives_one_course() -> None:
    one, same, another = (sensors(seed=seed).read(50, NOW) for seed in (1, 1, 2))
    assert one.hundredths.tolist() == same.hundredths.tolist() != another.hundredths.tolist()


def test_sensors_swing_each_in_its_own_phase() -> None:
    values = sensors(2).read(2 * 20 * WAVE, NOW).hundredths[0].reshape(-1, 2) / 100
    assert values.mean(axis=0) == pytest.approx([50, 50], abs=0.5)
    assert values.std(axis=0) == pytest.approx([30 / 2**0.5] * 2, rel=0.05)
    later = np.corrcoef(values[WAVE:, 0], values[:-WAVE, 0])[0, 1]
    assert later > 0.99
    assert np.corrcoef(values[:, 0], values[:, 1])[0, 1] < 0.9


def test_noise_never_leaves_the_texts_there_are() -> None:
    class Loud(np.random.Generator):
        def standard_normal(self, *_: object, **__: object) -> object:  # type: ignore[override]
            return np.array([[-1e6], [1e6]])

    loud = Sensors(2, 1, step_ms=None, random=Loud(np.random.PCG64(1)))
    assert loud.read(2, NOW).hundredths.tolist() == [[0, 10_000]]


def test_clock_times_fill_the_time_since_the_last_call_and_never_go_back() -> None:
    """The clock is set back by 300 ms before the third call::

    call     1       2        3        4
    now    1000    1400     1100     1600
    times  1000  1100..1400 1400  1500 1600
    """
    read = sensors().read
    calls = [(2, 1000), (4, 1400), (1, 1100), (2, 1600)]
    times = [read(count, now).times.tolist() for count, now in calls]
    assert times == [[1000, 1000], [1100, 1200, 1300, 1400], [1400], [1500, 1600]]


def test_with_a_step_each_sensor_has_its_own_steady_times() -> None:
    stepping = sensors(3, step_ms=60_000)
    times = defaultdict(list)
    for count, now in ((4, NOW), (7, NOW + 5), (1, NOW - 9)):
        for name, time, _ in rows(stepping.read(count, now)):
            times[name].append(time - NOW)
    steady = [0, 60_000, 120_000, 180_000]
    assert times == {f"synthetic-{sensor}": steady for sensor in range(3)}


@pytest.mark.parametrize("step_ms", [LATEST_TIME - NOW + 1, 10**15])
def test_steps_end_where_no_worker_follows(step_ms: int) -> None:
    stepping = sensors(1, step_ms=step_ms)
    assert stepping.read(1, NOW).times.tolist() == [NOW]
    with pytest.raises(SettingsError, match=r"1 steps of .* make the step shorter"):
        stepping.read(1, NOW)
    latest = sensors(1, step_ms=LATEST_TIME - NOW)
    assert latest.read(2, NOW).times.tolist() == [NOW, LATEST_TIME]


@pytest.mark.parametrize(
    ("rate", "features", "per_entry", "entries"),
    [
        (0, 1, 1, MOST_CELLS),
        (0, 2, 1, MOST_CELLS // 2),
        (0, 1, 1000, MOST_CELLS // 1000),
        (0, 1, 10 * MOST_CELLS, 1),
        (0.001, 1, 1, 1),
        (1000, 1, 1, 4),
        (10_000, 1, 10, 4),
        (1000, 1, 1000, 1),
        (1e9, 1, 1, MOST_CELLS),
    ],
)
def test_pipelines_are_bounded_and_come_steadily(
    rate: float, features: int, per_entry: int, entries: int
) -> None:
    names = tuple(f"f{number}" for number in range(features))
    assert source(features=names, per_entry=per_entry).entries_at(rate) == entries


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h", 3600), ("2", 2), ("0.5", 0.5), ("1.5m", 90)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "0", "0.1ms", "1d", "1 s", "1e3", "nan", "\uff11s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no duration"):
        duration_of(text)


@pytest.mark.parametrize(("text", "rate"), [("max", 0), ("0", 0), ("0.5", 0.5), ("300000", 3e5)])
def test_rates(text: str, rate: float) -> None:
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "Max", "-1", "nan", "inf", "1e10"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is neither 'max' nor a number"):
        rate_of(text)
