"""What is found in entries: held against what they were made of."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.model_files import write_mean_model
from tidecast.worker.pipeline.findings import MOST_LOOKED_AT, Findings, find
from tidecast.worker.pipeline.naming import Names, Naming
from tidecast.worker.pipeline.registry import Registry, load_registry
from tidecast.worker.pipeline.wire import Entry

START = 1_709_251_200_000


def entries(*said: dict[str, Any]) -> list[Entry]:
    return [
        (b"%d-0" % (START + number), [str(word).encode() for pair in one.items() for word in pair])
        for number, one in enumerate(said)
    ]


def found(
    some: list[Entry], naming: Naming | None = None, registry: Registry | None = None
) -> Findings:
    features = registry.features if registry else ()
    names = Names(features, naming or Naming())
    return find("readings", some, names, registry, fleet="default", rules={"max_skew": 86_400_000})[
        0
    ]


def test_fields_that_look_like_series_and_time_are_named_with_their_options() -> None:
    one = found(entries({"sensor": "boiler-7", "timestamp": START, "temp": 70}))
    assert (one.named, one.times.named, one.some) == (0, 0, ["readings"])
    assert one.options == "--series-field sensor --time-field timestamp"
    assert one.fields == ["sensor", "timestamp", "temp"]
    assert list(one.features) == ["temp"]
    assert one.times.unit == "the entries' ids, as no time is named"
    naming = Naming(series=("sensor",), time=("timestamp",))
    one = found(entries({"sensor": "boiler-7", "timestamp": START, "temp": 70}), naming)
    assert (one.named, one.times.named, one.some, one.options) == (1, 1, ["boiler-7"], "")


def test_step_jitter_gaps_doubles_and_late_ones() -> None:
    """::

    seconds   a   0 10 20 31 40 50 80 80 70      b   5 15 25
    """
    times = [("a", t) for t in (0, 10, 20, 31, 40, 50, 80, 80, 70)]
    times += [("b", t) for t in (5, 15, 25)]
    said = ({"series": s, "ts": START + 1000 * t, "value": t} for s, t in times)
    one = found(entries(*said))
    assert (one.series, one.some, one.readings) == (2, ["a", "b"], 12)
    assert (one.times.step, one.times.jitter) == (10.0, 1.0)
    assert (one.times.gaps, one.times.longest_gap) == (1, 20.0)
    assert (one.times.doubles, one.times.late) == (1, 1)
    assert (one.times.first, one.times.last) == (
        "2024-03-01T00:00:00.000Z",
        "2024-03-01T00:01:20.000Z",
    )


@pytest.mark.parametrize(
    ("at", "unit"),
    [
        (START, "ms since 1970, told by their size"),
        (START // 1000, "s since 1970, told by their size"),
        ("2024-03-01T00:00:00Z", "texts"),
    ],
)
def test_how_times_are_written(at: object, unit: str) -> None:
    assert found(entries({"series": "a", "ts": at, "value": 1})).times.unit == unit


def test_features_have_ranges_and_holes() -> None:
    values: list[Any] = [3, "-", 8.5, "word", -2]
    said: list[dict[str, Any]] = [{"series": "a", "value": value, "label": "x"} for value in values]
    one = found(entries(*said)).features
    assert list(one) == ["value"]
    assert (one["value"].low, one["value"].high) == (-2.0, 8.5)
    assert (one["value"].numbers, one["value"].missing) == (3, 2)


def test_shapes_are_counted_and_mixed_ones_read() -> None:
    told = {"name": "w", "tags": {"s": "a"}, "fields": {"temp": 1.5}, "timestamp": START // 1000}
    some: list[dict[str, Any]] = [
        {"series": "b", "temp": 2},
        {"payload": json.dumps(told)},
        {"series": "b", "temp": 3},
    ]
    one = found(entries(*some))
    assert one.shapes == {"flat fields": 2, "Telegraf's JSON": 1}
    assert one.features["temp"].high == 3.0
    assert one.series == 2


def test_what_models_would_make_of_it(tmp_path: Path) -> None:
    write_mean_model(tmp_path / "a.onnx", name="one", series="a*", step_seconds=60.0)
    write_mean_model(tmp_path / "b.onnx", name="two", series="b*")
    said: list[dict[str, Any]] = [
        {"series": name, "ts": START + 60_000 * number, "value": value}
        for number, (name, value) in enumerate([("a1", 1), ("a2", 2), ("c", 3), ("a1", "x")])
    ]
    said += [{"data": "{broken"}, {"series": "a1", "ts": 4_000_000_000_000, "value": 1}]
    one = found(entries(*said), registry=load_registry(tmp_path))
    assert [(s.model, s.series, s.some) for s in one.served] == [
        ("one", 2, ["a1", "a2"]),
        ("two", 0, []),
        (None, 1, ["c"]),
    ]
    assert {reject.kind: reject.count for reject in one.rejected} == {
        "value": 1,
        "malformed": 1,
        "ahead": 1,
    }
    assert next(one.reason for one in one.rejected if one.kind == "value").startswith(
        "feature 'value' is 'x', not a number"
    )


def test_of_very_many_entries_some_are_looked_at_one_by_one() -> None:
    said = ({"series": f"s{n % 7}", "ts": START + 1000 * n, "value": n} for n in range(1000))
    one = found(entries(*said))
    assert (one.entries, one.looked_at, one.series) == (1000, MOST_LOOKED_AT, 7)
    assert one.some == ["s0", "s1", "s2", "s3", "s4"]
