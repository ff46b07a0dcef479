"""Entries as people send them: what each is read as, and what a letter says of one that is not."""

import struct
from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any

import orjson
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.naming import PLAIN, Naming
from tidecast.worker.pipeline.readings import Readings
from tidecast.worker.pipeline.wire import Entry, Reject

AT = 1709251200000
ID = b"1709251234567-0"
OF_ID = 1709251234567
ISO = "2024-03-01T00:00:00Z"
METRIC = {"name": "w", "tags": {"site": "a", "host": "h"}, "fields": {"temp": 70.5}}
CHANGE = {
    "before": None,
    "after": {"series": "s", "temp": 70.5},
    "source": {"ts_ms": AT, "table": "t"},
    "op": "c",
    "ts_ms": AT + 9,
}
DELETION = {**CHANGE, "after": None, "op": "d"}
EVENT = {"specversion": "1.0", "type": "t", "source": "/boilers", "id": "1", "time": ISO}
Row = tuple[str, int, float | None]


def entry(*words: bytes | str | dict[str, Any] | list[Any]) -> Entry:
    """An entry of fields and values; objects and arrays are JSON."""
    texts = [orjson.dumps(w) if isinstance(w, dict | list) else w for w in words]
    return ID, [text.encode() if isinstance(text, str) else text for text in texts]


def faststream(body: bytes) -> bytes:
    """A body in FastStream's binary envelope, with two headers."""
    headers = b"".join(
        struct.pack(">H", len(text)) + text for text in (b"correlation_id", b"7", b"k", b"v")
    )
    head = struct.pack(">HIIH", 1, 18, 20 + len(headers), 2)
    return b"\x89BIN\r\n\x1a\n" + head + headers + body


def rows(readings: Readings, feature: str = "temp") -> list[Row]:
    column = readings.columns.get(feature)
    values = [None] * len(readings) if column is None else column.tolist()
    names = [name.decode() for name in readings.series]
    return list(zip(names, readings.times.tolist(), values, strict=True))


def decoded(
    one: Entry, naming: Naming = PLAIN, features: Sequence[str] = ("temp",)
) -> tuple[list[Row], list[Reject]]:
    readings, rejects = Decoder("readings", features, naming).decode([one])
    return rows(readings), rejects


CASES: dict[str, tuple[Entry, list[Row], str]] = {
    **{
        f"JSON in {field}": (
            entry(field, {"series": "s", "ts": AT, "temp": "70.5"}),
            [("s", AT, 70.5)],
            "JSON",
        )
        for field in ("payload", "message", "__data__", "body", "data", "msg", "value", "event")
    },
    "seconds": (entry("ts", "1709251200", "temp", "1"), [("readings", AT, 1.0)], "flat fields"),
    "JSON lines": (
        entry("data", b'{"series":"s","ts":5,"temp":1}\r\n\n {"series":"s","ts":6,"temp":2} \n'),
        [("s", 5, 1.0), ("s", 6, 2.0)],
        "JSON lines",
    ),
    "line protocol": (
        entry("data", "w,site=a,host=h temp=70.5 1709251200000000000"),
        [("w,host=h,site=a", AT, 70.5)],
        "line protocol, Telegraf's JSON",
    ),
    "lines": (
        entry("payload", "# a comment\nw temp=1i\n\nw,site=a\\ b hum=3,temp=2 1709251200\n"),
        [("w", OF_ID, 1.0), ("w,site=a b", AT, 2.0)],
        "line protocol, Telegraf's JSON",
    ),
    "MessagePack": (
        entry("data", ormsgpack.packb({"series": "s", "ts": AT, "temp": 70.5})),
        [("s", AT, 70.5)],
        "MessagePack",
    ),
    "MessagePack of several": (
        entry("data", ormsgpack.packb([{"series": "s", "ts": AT, "temp": i} for i in range(20)])),
        [("s", AT, float(i)) for i in range(20)],
        "MessagePack",
    ),
    "FastStream": (
        entry("__data__", faststream(b'{"series":"s","ts":5,"temp":1}')),
        [("s", 5, 1.0)],
        "FastStream's envelope",
    ),
    "FastStream, MessagePack": (
        entry("__data__", faststream(ormsgpack.packb({"series": "s", "ts": 5, "temp": 1}))),
        [("s", 5, 1.0)],
        "FastStream's envelope, MessagePack",
    ),
    "FastStream's envelope of before": (
        entry("__data__", {"data": '{"series":"s","ts":5,"temp":1}', "headers": {"k": "v"}}),
        [("s", 5, 1.0)],
        "JSON in data",
    ),
    "Telegraf": (
        entry("data", {**METRIC, "timestamp": 1709251200}),
        [("w,host=h,site=a", AT, 70.5)],
        "Telegraf's JSON",
    ),
    "Telegraf, without tags and time": (
        entry("data", {"name": "w", "fields": {"temp": 1}}),
        [("w", OF_ID, 1.0)],
        "Telegraf's JSON",
    ),
    "Telegraf, a batch": (
        entry("data", {"metrics": [{**METRIC, "timestamp": 1709251200 + i} for i in range(3)]}),
        [("w,host=h,site=a", AT + 1000 * i, 70.5) for i in range(3)],
        "Telegraf's JSON",
    ),
    "device and values": (
        entry("data", {"device": {"id": "d"}, "values": {"temp": 70.5}, "timestamp": AT}),
        [("d", AT, 70.5)],
        "device and values",
    ),
    "a device by its name": (
        entry("data", {"device": "d", "ts": AT, "values": {"temp": 70.5}}),
        [("d", AT, 70.5)],
        "device and values",
    ),
    "CloudEvents": (
        entry("data", {**EVENT, "data": {"temp": 70.5}}),
        [("/boilers", AT, 70.5)],
        "CloudEvents",
    ),
    "CloudEvents with a subject": (
        entry("data", {**EVENT, "subject": "b-7", "data": {"ts": 5, "temp": 70.5}}),
        [("b-7", 5, 70.5)],
        "CloudEvents",
    ),
    "CloudEvents of several": (
        entry("data", {**EVENT, "data": [{"temp": 1}, {"temp": 2, "series": "s"}]}),
        [("/boilers", AT, 1.0), ("s", AT, 2.0)],
        "CloudEvents",
    ),
    "CloudEvents of Telegraf": (
        entry("data", {**EVENT, "data": METRIC}),
        [("w,host=h,site=a", AT, 70.5)],
        "CloudEvents, Telegraf's JSON",
    ),
    "Debezium, compact": (entry('{"id":7}', CHANGE), [("s", AT, 70.5)], "Debezium"),
    "Debezium, extended": (
        entry("key", {"id": 7}, "value", CHANGE),
        [("s", AT, 70.5)],
        "Debezium",
    ),
    "Debezium with a schema": (
        entry('{"schema":{},"payload":{"id":7}}', {"schema": {"type": "x"}, "payload": CHANGE}),
        [("s", AT, 70.5)],
        "JSON in payload, Debezium",
    ),
    "Debezium, a deletion": (entry('{"id":7}', DELETION), [], "Debezium"),
    "Debezium, a tombstone": (entry('{"id":7}', "default"), [], "flat fields"),
    "nested in a payload": (
        entry("message", {"payload": {"series": "s", "ts": 5, "temp": 1}, "seq": 1}),
        [("s", 5, 1.0)],
        "JSON in payload",
    ),
    "a list in a payload": (
        entry("message", {"series": "s", "payload": [{"ts": 5, "temp": 1}, {"ts": 6, "temp": 2}]}),
        [("s", 5, 1.0), ("s", 6, 2.0)],
        "JSON in payload",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_known_shapes_are_read_without_options(case: str) -> None:
    one, expected, shape = CASES[case]
    assert decoded(one) == (expected, [])
    assert Decoder("readings", ["temp"]).shape_of(one) == shape


def test_a_historians_value_is_read_where_a_model_has_that_feature() -> None:
    one = entry("data", {"Tagname": "t", "Time": ISO, "value": 70.5})
    readings, _ = Decoder("readings", ["value"]).decode([one])
    assert rows(readings, "value") == [("t", AT, 70.5)]
    assert decoded(one, Naming(values=(("temp", "value"),)))[0] == [("t", AT, 70.5)]
    assert decoded(one)[0] == [("t", AT, None)]


@pytest.mark.parametrize(
    ("naming", "one", "expected"),
    [
        (
            Naming(series=("sensor",), time=("timestamp",)),
            entry("sensor", "boiler-7", "timestamp", str(AT), "temp", "70"),
            ("boiler-7", AT, 70.0),
        ),
        (
            Naming(series=("sensor",), time=("timestamp",)),
            entry("data", {"sensor": "boiler-7", "timestamp": AT, "temp": 70}),
            ("boiler-7", AT, 70.0),
        ),
        (
            Naming(series=("site", "sensor")),
            entry("site", "a", "sensor", "7", "temp", "1"),
            ("a/7", OF_ID, 1.0),
        ),
        (
            Naming(series=("site", "sensor")),
            entry("data", {"site": "a/b", "sensor": 7, "temp": 1}),
            ("a\\/b/7", OF_ID, 1.0),
        ),
        (
            Naming(series=("site", "sensor")),
            entry("data", {"site": ["a"], "sensor": "7", "temp": [1]}),
            ("a/7", OF_ID, 1.0),
        ),
        (
            Naming(series=("site", "sensor")),
            entry("site", "a", "sensor", "7", "data", {"temp": 1}),
            ("a/7", OF_ID, 1.0),
        ),
        (
            Naming(series=("site", "sensor")),
            entry("site", "a", "data", {"temp": 1, "site": "b", "sensor": "7"}),
            ("b/7", OF_ID, 1.0),
        ),
        (Naming(time=("at", "ts")), entry("ts", "5", "temp", "1"), ("readings", 5, 1.0)),
        (
            Naming(time=("at", "ts")),
            entry("data", {"ts": 5, "at": 6, "temp": 1}),
            ("readings", 6, 1.0),
        ),
        (
            Naming(series=("sensor.id",), time=("meta.at",)),
            entry("data", {"sensor": {"id": "q"}, "meta": {"at": 5}, "temp": 1}),
            ("q", 5, 1.0),
        ),
        (
            Naming(payload=("reading",)),
            entry("reading", {"series": "s", "ts": 5, "temp": 1}),
            ("s", 5, 1.0),
        ),
        (
            Naming(path="payload.after", series=("sensor",)),
            entry("data", {"sensor": "q", "payload": {"after": {"temp": 1}}}),
            ("q", OF_ID, 1.0),
        ),
        (
            Naming(path="results"),
            entry("data", {"series": "s", "results": [{"temp": 1, "ts": 5}]}),
            ("s", 5, 1.0),
        ),
        (
            Naming(values=(("temp", "m.temperature"),)),
            entry("data", {"series": "s", "m": {"temperature": 1}}),
            ("s", OF_ID, 1.0),
        ),
        (
            Naming(values=(("temp", "temperature"),)),
            entry("temperature", "1", "series", "s"),
            ("s", OF_ID, 1.0),
        ),
        (
            Naming(values=(("temp", "temperature"),)),
            entry("data", {"name": "w", "fields": {"temperature": 1}}),
            ("w", OF_ID, 1.0),
        ),
        (
            Naming(values=(("temp", "temperature"),)),
            entry("data", {"temperature": [1], "ts": [5]}),
            ("readings", 5, 1.0),
        ),
        (Naming(values=(("temp", "other"),)), entry("temp", "1"), ("readings", OF_ID, 1.0)),
        (
            Naming(feature="metric", value="value"),
            entry("series", "s", "metric", "temp", "value", "1"),
            ("s", OF_ID, 1.0),
        ),
        (
            Naming(feature="metric", value="v", values=(("temp", "T"),)),
            entry("data", {"series": "s", "metric": "T", "v": "1"}),
            ("s", OF_ID, 1.0),
        ),
        (
            Naming(series=("host",)),
            entry("data", {**METRIC, "timestamp": 5}),
            ("h", 5, 70.5),
        ),
        (
            Naming(series=("series",), unit="s"),
            entry("data", {**METRIC, "timestamp": 5}),
            ("w,host=h,site=a", 5000, 70.5),
        ),
    ],
)  # fmt: skip
def test_options_say_where_the_parts_of_a_reading_lie(
    naming: Naming, one: Entry, expected: Row
) -> None:
    assert decoded(one, naming) == ([expected], [])


def test_the_long_form_leaves_out_what_nobody_wants_and_says_so_once() -> None:
    naming = Naming(feature="metric", value="value")
    decoder = Decoder("readings", ["temp", "hum"], naming)
    flat = [
        entry("metric", name, "value", value)
        for name, value in (("temp", "1"), ("p", "7"), ("hum", "x"), ("q", "8"))
    ]
    nested = [
        entry("data", {"metric": "hum", "value": 3}),
        entry("data", {"metric": "p", "value": 4}),
    ]
    for _ in range(2):
        readings, rejects = decoder.decode([*flat, *nested])
        assert rejects == []
        assert rows(readings)[0] == ("readings", OF_ID, 1.0)
        assert [readings.fault(1, "hum"), len(readings)] == [
            "feature 'hum' is 'x', not a number",
            3,
        ]
        assert readings.columns["hum"][2] == 3
        assert [readings.payload(i) for i in range(3)] == [
            b'{"metric":"temp","value":"1"}',
            b'{"metric":"hum","value":"x"}',
            b'{"metric":"hum","value":3}',
        ]
    (remark,) = decoder.remarks()
    assert remark == (
        "readings: readings of 'p', 'q' are left out, as no model has such a feature; is one "
        "called otherwise? --value FEATURE=p"
    )
    decoder.decode([entry("metric", "r", "value", "7")])
    assert decoder.remarks() == []


JOINED = Naming(series=("site", "sensor"))
NO_TIME = {"name": "w", "fields": {"temp": 1}, "timestamp": "x"}
WIDE = {**{f"k{i}": i for i in range(70)}, "data": [{"temp": 1}]}


def tagged(name: object, tag: object) -> Entry:
    return entry("data", {"name": name, "tags": {"a": tag}, "fields": {"temp": 1}})


@pytest.mark.parametrize(
    ("one", "naming", "reason"),
    [
        (entry("site", "a", "temp", "1"), JOINED, "no field 'sensor', which --series-field"),
        (entry("data", {"site": "a", "temp": 1}), JOINED, "no field 'sensor', which --series-f"),
        (entry("site", "a", "data", {"temp": 1}), JOINED, "no field 'sensor', which --series-f"),
        (tagged(None, "b"), PLAIN, "series is None, not a name"),
        (tagged("w", []), PLAIN, "series is [], not a name"),
        (entry("data", NO_TIME), PLAIN, "time 'x' is neither"),
        (entry("data", "w temp=1 x"), PLAIN, "not line protocol from 'x' on"),
        (entry("data", "w temp=1\nw temp=\n"), PLAIN, "not line protocol from 'temp=' on"),
        (entry("data", b"w,a=\xff temp=1"), PLAIN, "is not UTF-8"),
        (entry("data", b"\x81\xa4temp"), PLAIN, "not MessagePack"),
        (entry("data", b"\xdd\x7f\xff\xff\xff"), PLAIN, "not MessagePack"),
        (entry("data", b'{"temp":1}\n{"temp":'), PLAIN, "not JSON"),
        (entry("data", WIDE), PLAIN, "in an envelope of 71 fields; 64 are allowed"),
    ],
)
def test_what_cannot_be_read_says_why(one: Entry, naming: Naming, reason: str) -> None:
    found, rejects = decoded(one, naming)
    assert found == []
    (reject,) = rejects
    assert reason in reject.reason


def test_no_two_names_become_one_series() -> None:
    pairs = [("a/b", "c"), ("a", "b/c"), ("a\\", "/b"), ("a", "\\/b"), ("a/", "b"), ("a", "/b")]
    naming = Naming(series=("site", "sensor"))
    decoder = Decoder("readings", ["temp"], naming)
    for shape in (
        [entry("site", one, "sensor", other, "temp", "1") for one, other in pairs],
        [entry("data", {"site": one, "sensor": other, "temp": 1}) for one, other in pairs],
    ):
        readings, _ = decoder.decode(shape)
        assert len(set(readings.series)) == len(pairs)
        assert readings.series == [
            name for one in shape for name in decoder.decode([one])[0].series
        ]
    tags: list[dict[str, str]] = [{"a": "b,c=d"}, {"a": "b", "c": "d"}, {"a": "b\\,c=d"}, {}]
    metrics = [{"name": "w", "tags": some, "fields": {"temp": 1}} for some in tags]
    metrics += [{"name": "w,a=b", "tags": {"c": "d"}, "fields": {"temp": 1}}]
    metrics += [{"name": "w,a=b,c=d", "fields": {"temp": 1}}]
    readings, _ = Decoder("readings", ["temp"]).decode([entry("data", m) for m in metrics])
    assert len(set(readings.series)) == len(metrics)


@pytest.mark.parametrize(
    ("one", "hint"),
    [
        (
            entry("sensor", "a", "temperature", "2"),
            "; there are 'sensor', 'temperature': --series-field sensor --value temp=temperature",
        ),
        (
            entry("reading", {"sensor": "q", "temp": 2}),
            "; there are 'sensor', 'temp': --payload-field reading --series-field sensor",
        ),
        (
            entry("data", {"sensor": {"id": "q"}, "m": {"temp": 2}}),
            "; there are 'sensor.id', 'm.temp': --series-field sensor.id --value temp=m.temp",
        ),
        (entry("data", {}), "; there are no fields"),
        (entry("temp", "x"), ""),
        (entry("temp", ""), ""),
    ],
)
def test_a_reading_without_features_says_what_there_is(one: Entry, hint: str) -> None:
    readings, rejects = Decoder("readings", ["temp"]).decode([one])
    assert (len(readings), rejects) == (1, [])
    assert readings.hint(0) == hint


def test_what_was_recognised_is_told_once() -> None:
    decoder = Decoder("readings", ["temp"])
    shapes = [CASES[k][0] for k in ("Telegraf", "lines", "JSON in data", "Debezium, compact")]
    decoder.decode(shapes)
    lines, telegraf, change = decoder.news()
    assert lines == "readings: recognised line protocol (docs/entries.md)"
    assert telegraf == (
        "readings: recognised Telegraf's JSON: series in name, series in tags.host, series in "
        "tags.site, time in timestamp, temp in fields.temp (docs/entries.md)"
    )
    assert change == (
        "readings: recognised Debezium: series in after.series, time in source.ts_ms, temp in "
        "after.temp (docs/entries.md)"
    )
    decoder.decode(shapes)
    assert decoder.news() == []


def test_what_is_told_of_shapes_is_bounded() -> None:
    """Envelopes in envelopes make very many, and keys are as long as somebody likes."""
    decoder = Decoder("readings", ["temp"])
    fields = ("payload", "message", "body", "data")
    inner = {"temp": 1, "series": "s"}
    nested = [{a: {b: {c: {d: inner}}}} for a, b, c, d in product(fields, repeat=4)]
    readings, rejects = decoder.decode([entry("data", one) for one in nested])
    assert (len(readings), rejects) == (len(nested), [])
    assert 0 < len(decoder.news()) <= 32
    other = Decoder("readings", ["temp"])
    other.decode([entry("data", {"name": "w", "tags": {"k" * 9999: "v"}, "fields": {"temp": 1}})])
    assert max(map(len, other.news())) < 400


# What an entry says hangs on nothing but itself


def said(decoder: Decoder, entries: list[Entry]) -> list[str]:
    """All that is made of entries, in their order."""
    readings, rejects = decoder.decode(entries)
    told = [
        (
            readings.ids[i],
            readings.series[i],
            int(readings.times[i]),
            [repr(float(c[i])) for _, c in sorted(readings.columns.items()) if c[i] == c[i]],
            readings.payload(i),
            readings.hint(i),
            [readings.fault(i, name) for name in decoder.names.features],
        )
        for i in range(len(readings))
    ]
    letters = [(reject.entry, reject.reason, reject.payload) for reject in rejects]
    return sorted(map(repr, [*told, *letters]))


OF_EACH = [one for one, _, _ in CASES.values()]
ODD = [
    entry("data", {"name": "w", "tags": {"site": None}, "fields": {"temp": 1}}),
    entry("data", {"name": "w", "tags": {"site": "a"}, "fields": {"temp": "x"}, "timestamp": 1}),
    entry("data", {"name": "w", "tags": {"site": "a"}, "fields": {}, "timestamp": "x"}),
    entry("data", {"device": {"id": 7}, "values": {"temp": None}}),
    entry("data", {"device": {}, "values": {"temp": 1}}),
    entry("data", {"values": {"temp": 1}, "device": 1.5}),
    entry("data", [METRIC, {"temp": 1}, {"device": "d", "values": {"temp": 3}}, {}]),
    entry("data", [METRIC, {"temp": 1, "ts": "x"}]),
    entry("data", "w,site=a temp"),
    entry("temp", "1", "sensor", "a"),
    entry("metric", "temp", "v", "1"),
    entry("metric", "p", "v", "1"),
    entry("data", {"metric": "p", "v": 1, "series": ""}),
    entry("data", {"Tagname": "t", "Time": ISO, "value": 1, "temp": 2}),
    entry("data", {"Tagname": "t", "Time": "x", "temp": 2}),
]
NAMINGS = [
    PLAIN,
    Naming(series=("name", "site"), time=("timestamp", "ts"), values=(("temp", "value"),)),
    Naming(feature="metric", value="v"),
    Naming(path="data", payload=("m",)),
]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(NAMINGS))
def test_mixed_shapes_give_the_same_readings_however_they_are_cut(
    random: Random, naming: Naming
) -> None:
    some = random.choices([*OF_EACH, *ODD], k=random.randint(1, 40))
    entries = [(b"%d-0" % (OF_ID + place), fields) for place, (_, fields) in enumerate(some)]
    alone = sorted(
        row for one in entries for row in said(Decoder("readings", ["temp", "hum"], naming), [one])
    )
    assert said(Decoder("readings", ["temp", "hum"], naming), entries) == alone
    parts = Decoder("readings", ["temp", "hum"], naming).decode_in_parts(entries, 300)
    assert [one for part, _, _ in parts for one in part] == entries
    keep = Decoder("readings", ["temp", "hum"], naming)
    place, cut = 0, list[str]()
    while place < len(entries):
        size = random.randint(1, 9)
        cut += said(keep, entries[place : place + size])
        place += size
    assert sorted(cut) == alone
