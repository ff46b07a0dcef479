"""What an entry has that looks like parts of a reading, and the options that would read it."""

from typing import Any

import orjson
import pytest

from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.naming import PLAIN, Names, Naming
from tidecast.worker.pipeline.suggest import MOST_NAMED, Suggestion, suggest

AT = "1709251200000"
SENSOR = "--series-field after.sensor"


def suggested(
    *words: object, features: tuple[str, ...] = ("temp",), naming: Naming = PLAIN
) -> Suggestion:
    texts = [orjson.dumps(w) if isinstance(w, dict | list) else w for w in words]
    fields = [text if isinstance(text, bytes) else str(text).encode() for text in texts]
    return suggest(fields, Names(features, naming))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (
            ("sensor", "boiler-7", "timestamp", AT, "temp", 70),
            "--series-field sensor --time-field timestamp",
        ),
        (
            ("data", {"Sensor_ID": "b", "eventTime": "2024-03-01", "temp": 1}),
            "--series-field Sensor_ID --time-field eventTime",
        ),
        (("series", "s", "ts", "5", "temp", 1), ""),
        (("id", "7", "Temperature", "21.5"), "--series-field id --value temp=Temperature"),
        (("data", {"host": {"id": "q"}, "m": {"T": 2}}), "--series-field host.id --value temp=m.T"),
        (("raw", {"series": "s", "temp": 1}), "--payload-field raw"),
        (("raw", "w,a=b temp=1 5"), "--payload-field raw"),
        (("a b", {"temp": 1, "note": "x"}), "--payload-field 'a b'"),
        (
            ("sensor", "a", "metric", "temp", "value", "2"),
            "--series-field sensor --feature-field metric --value-field value",
        ),
        (("sensor", "a", "metric", "h", "value", "2"), "--series-field sensor --value temp=value"),
        (("when", "soon", "temp", 1), ""),
        (("data", {"name": "w", "fields": {"temperature": 1}}), "--value temp=fields.temperature"),
        (("key", {"id": 1}, "value", {"op": "c", "after": {"temp": 1, "sensor": "q"}}), SENSOR),
        (("data", "no document"), ""),
        (("data", "{"), ""),
        ((), ""),
    ],
)  # fmt: skip
def test_options_that_would_read_an_entry(words: tuple[Any, ...], options: str) -> None:
    assert suggested(*words).options == options


def test_what_is_named_already_is_not_asked_for() -> None:
    found = suggested("series", "s", "data", {"sensor": "a", "timestamp": int(AT), "temp": 1})
    assert (found.names_series, found.names_time) == (True, False)
    assert found.options == "--time-field timestamp"
    found = suggested("data", {"device": "a", "time": 5, "values": {"temp": 1}})
    assert (found.names_series, found.names_time, found.options) == (True, True, "")
    naming = Naming(series=("sensor",), time=("at",), feature="metric", value="v")
    found = suggested("sensor", "a", "at", "5", "metric", "p", "v", "1", naming=naming)
    assert (found.names_series, found.names_time, found.options) == (True, True, "")


def test_one_feature_beside_others() -> None:
    found = suggested("temp", 1, "humidity", 2, "x", 3, features=("temp", "hum"))
    assert found.values == {"hum": "humidity"}
    assert suggested("temp", 1, "x", 3, features=("temp", "hum")).values == {}
    assert suggested("x", 3, "y", 4, features=("temp",)).values == {}


def test_what_is_said_is_bounded() -> None:
    wide = suggested(*(word for i in range(10_000) for word in (f"f{i}", i)))
    assert len(wide.fields) == MOST_NAMED
    assert len(str(suggested("x" * 10**6, "1"))) < 100
    assert str(suggested("sensor", "a", "temp", 1)) == (
        "there are 'sensor', 'temp': --series-field sensor"
    )
    assert str(suggested("data", {})) == "there are no fields"


@pytest.mark.parametrize(
    "words",
    [
        (b"sensor", b"boiler-7", b"timestamp", AT.encode(), b"temperature", b"70"),
        (b"raw", b'{"sensor":{"id":"boiler-7"},"at":1709251200000,"m":{"t":70}}'),
        (b"sensor", b"boiler-7", b"time", AT.encode(), b"metric", b"temp", b"value", b"70"),
    ],
)
def test_the_options_read_what_they_were_suggested_for(words: tuple[bytes, ...]) -> None:
    found = suggest(list(words), Names(("temp",)))
    long = found.long or ("", "")
    naming = Naming(
        series=(found.series,),
        time=(found.time,),
        payload=(found.payload,) if found.payload else (),
        values=tuple(found.values.items()),
        feature=long[0],
        value=long[1],
    )
    readings, rejects = Decoder("readings", ["temp"], naming).decode([(b"1-0", list(words))])
    assert rejects == []
    assert readings.series == [b"boiler-7"]
    assert readings.times.tolist() == [int(AT)]
    assert readings.columns["temp"].tolist() == [70.0]
