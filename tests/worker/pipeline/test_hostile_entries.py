"""Entries that are made to take memory or time are refused, and cost about their own bytes."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from tests.model_files import spec_of, write_mean_model
from tidecast.worker.pipeline.bodies import (
    LARGEST_DOCUMENT,
    LIGHT,
    LIGHT_LINES,
    MOST_READINGS,
    Body,
    contents,
    slices_of,
)
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.naming import Names, Naming
from tidecast.worker.pipeline.outcome import MOST_LETTERS, Commit
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.step import ANY_ROOM, Pipeline, Room, most_readings
from tidecast.worker.pipeline.wire import Entry, Reject

MB = 1_000_000
GOOD: Entry = (b"2-0", [b"data", b'[{"series":"good","ts":5,"value":1.5}]'])


def pipeline_of(folder: Path, **described: Any) -> Pipeline:
    registry = load_registry(write_mean_model(folder / "m.onnx", n_steps=1, **described))
    return Pipeline(registry, Decoder("readings", registry.features), 1_000_000, late="dead")


def peak_of(work: Callable[[], Any]) -> tuple[Any, int]:
    """What some work returns, and how many bytes it held at most beyond those before."""
    gc.collect()
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def filled(item: str, size: int, around: str = "[%s]") -> bytes:
    """JSON of about so many bytes that repeats an item."""
    return (around % ",".join([item] * (size // (len(item) + 1)))).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(filled("{}", 9 * MB // 10), id="empty objects"),
        pytest.param(filled("null", 9 * MB // 10), id="nulls"),
        pytest.param(filled('""', 9 * MB // 10), id="texts"),
        pytest.param(filled("[]", 4 * MB), id="empty arrays"),
        pytest.param(filled("{}", 4 * MB), id="more empty objects"),
        pytest.param(filled('{"value":1}', 4 * MB), id="readings"),
        pytest.param(filled("{}", 4 * MB, '[{"value":[%s]}]'), id="one item"),
        pytest.param(filled("{}", 4 * MB, '{"value":[%s]}'), id="a column of objects"),
        pytest.param(filled("null", 4 * MB, '{"value":[%s]}'), id="a column of nulls"),
        pytest.param(filled("[{}]", 4 * MB, '{"other":[%s],"value":1}'), id="beside a value"),
        pytest.param(b"[" * 4 * MB, id="brackets"),
        pytest.param(b'[{"value":1},' * (MB // 3), id="brackets and values"),
        pytest.param(b'["' + b'\\"' * 2 * MB + b'"]', id="quotes"),
        pytest.param(filled("1", 20 * MB), id="20 MB"),
        pytest.param(filled('{"fields":{}}', 4 * MB, '{"metrics":[%s]}'), id="a batch"),
        pytest.param(b"{}\n" * (4 * MB // 3) + b"x", id="JSON lines"),
        pytest.param(b"\x90" * 2 * MB, id="MessagePack within itself"),
        pytest.param(b"\xdd\x00\x1e\x84\x80" + b"\x90" * 2 * MB, id="empty arrays, packed"),
        pytest.param(b"\xdd\x00\x01\x86\xa1" + b"\x80" * 100_001, id="empty maps, packed"),
        pytest.param(b"\x81\xa1a" * 100_000 + b"\x01", id="maps within maps, packed"),
        pytest.param(b"\xdd\x7f\xff\xff\xff" * 900, id="arrays that never come"),
        pytest.param(b"\xdf\x7f\xff\xff\xff", id="a map that never comes"),
        pytest.param(b"w a=1" + b",a=1" * (MB // 4), id="a line of fields"),
        pytest.param(b"w" + b",a=1" * (MB // 4) + b" a=1", id="a line of tags"),
        pytest.param(b"w a=1\n" * 20_000 + b"w", id="very many lines"),
        pytest.param(b'w a="' + b"\n" * 2 * MB, id="breaks in a text that has no end"),
    ],
)
def test_what_is_beyond_is_refused_with_its_reason_and_costs_about_its_bytes(
    tmp_path: Path, body: bytes
) -> None:
    """Nothing of it is on record but one letter, and the entry behind it is forecast."""
    pipeline = pipeline_of(tmp_path)
    list(pipeline.step([GOOD]))
    hostile: Entry = (b"1-0", [b"data", body])
    commits, peak = peak_of(lambda: list(pipeline.step([hostile, GOOD])))
    (letter,) = [reject for commit in commits for reject in commit.rejects]
    assert letter.kind == "malformed"
    assert letter.entry == b"1-0"
    assert len(letter.payload) <= 1024
    assert [name for commit in commits for name in commit.series] == [b"good"]
    assert peak < 10 * len(body) + 25 * MB


def test_an_entry_may_hold_so_many_readings() -> None:
    decoder = Decoder("readings", ["value"], most=3)
    for three, four in (
        (b'[{"value":1},{"value":2},{"value":3}]', b'[{"value":1},{},{},{"value":2}]'),
        (b'{"value":[1,2,3]}', b'{"value":[1,2,3,4]}'),
    ):
        readings, rejects = decoder.decode([(b"1-0", [b"data", three]), (b"2-0", [b"data", four])])
        assert readings.columns["value"].tolist() == [1, 2, 3]
        assert [reject.reason for reject in rejects] == [
            "an entry of 4 readings; 3 are allowed: send them in several entries"
        ]


def test_a_document_has_so_many_bytes() -> None:
    decoder = Decoder("readings", ["value"])
    body = b'{"value":1}'.ljust(LARGEST_DOCUMENT)
    readings, rejects = decoder.decode([(b"1-0", [b"data", body])])
    assert (len(readings), rejects) == (1, [])
    _, (reject,) = decoder.decode([(b"1-0", [b"data", body + b" "])])
    assert "a document of 64000001 bytes; 64000000 are allowed" in reject.reason


def test_how_many_readings_hangs_on_what_their_forecasts_take() -> None:
    small, large = spec_of(), spec_of(horizon=720)
    assert most_readings([small]) == MOST_READINGS
    assert most_readings([small, large]) == ANY_ROOM.forecasts // (200 + 14 * 720)


def wide(number: int) -> dict[str, Any]:
    """An object that takes many times its bytes."""
    return {"series": f"s{number % 9}", "ts": number, "value": number / 2, "more": [{}] * 40}


def alone(items: list[Any]) -> tuple[list[tuple[Any, ...]], list[Reject]]:
    """What the decoder makes of items in one entry each."""
    decoder = Decoder("readings", ["value"])
    entries = [(b"1-0", [b"data", orjson.dumps([item])]) for item in items]
    readings, rejects = decoder.decode(entries)
    return told(readings), rejects


def told(readings: Any) -> list[tuple[Any, ...]]:
    return [
        (
            readings.series[i],
            int(readings.times[i]),
            readings.fault(i, "value"),
            readings.payload(i),
            repr(float(readings.columns["value"][i])),
        )
        for i in range(0, len(readings), 97)
    ]


def test_a_large_array_is_parsed_in_slices_and_says_the_same() -> None:
    items = [wide(i) for i in range(20_000)]
    items[97]["value"] = "x"
    items[19_982]["value"] = None
    body = orjson.dumps(items)
    slices = slices_of(Body(body), MOST_READINGS)
    assert slices is not None
    assert len(slices) == 7
    assert max(beyond - first for first, beyond in slices) < 2 * LIGHT
    pulses: list[int] = []
    decoder = Decoder("readings", ["value"])
    (readings, rejects), peak = peak_of(
        lambda: decoder.decode([(b"1-0", [b"data", body]), GOOD], lambda: pulses.append(1))
    )
    assert told(readings.part(0, len(items))) == alone(items)[0]
    assert (len(readings), rejects) == (len(items) + 1, [])
    assert readings.places.tolist() == [0] * len(items) + [1]
    assert len(pulses) == len(slices)
    assert readings.said(7) is readings.said(7)  # many letters of a slice parse it once
    assert peak < 4 * len(body) + 25 * MB
    _, whole = peak_of(lambda: orjson.loads(body))
    assert peak < whole


def test_very_many_lines_are_parsed_in_slices_and_say_the_same() -> None:
    lines = [f"w,n=s{i % 9},note=x value={i / 2},o={i}i {i}".encode() for i in range(15_000)]
    lines[97] = b'w,n=a value="x",o="a\nb" 97'
    body = b"\n".join(lines)
    assert len(body) > 8 * LIGHT_LINES
    pulses: list[int] = []
    decoder = Decoder("readings", ["value"], Naming(unit="ms"))
    (readings, rejects), peak = peak_of(
        lambda: decoder.decode([(b"1-0", [b"data", body])], lambda: pulses.append(1))
    )
    alone, _ = decoder.decode([(b"1-0", [b"data", line]) for line in lines])
    assert told(readings) == told(alone)
    assert (len(readings), rejects) == (len(lines), [])
    assert len(pulses) > 8
    assert peak < 5 * len(body) + 25 * MB
    _, (reject,) = decoder.decode([(b"1-0", [b"data", body + b"\nw"])])
    assert reject.reason.startswith("not line protocol from ''")


def test_a_large_text_of_json_lines_is_an_array_of_them() -> None:
    body = b"\n".join(orjson.dumps(wide(i)) for i in range(20_000))
    decoder = Decoder("readings", ["value"])
    readings, rejects = decoder.decode([(b"1-0", [b"data", body])])
    assert rejects == []
    assert told(readings) == alone([wide(i) for i in range(20_000)])[0]


def test_objects_that_all_differ_take_no_memory_afterwards() -> None:
    body = orjson.dumps([{f"k{i}": {"a": {}}} for i in range(5000)])
    decoder = Decoder("readings", ["value"])
    (readings, _), peak = peak_of(lambda: decoder.decode([(b"1-0", [b"data", body])]))
    assert len(readings) == 5000
    assert peak < 25 * MB
    assert len(decoder.news()) == 0


def test_one_bad_item_refuses_a_large_array_whole() -> None:
    items: list[Any] = [wide(i) for i in range(20_000)]
    items[15_000] = {"value": 1, "ts": "noon"}
    readings, (reject,) = Decoder("readings", ["value"]).decode(
        [(b"1-0", [b"data", orjson.dumps(items)])]
    )
    assert len(readings) == 0
    assert "time 'noon' is neither" in reject.reason
    assert reject.kind == "time"


@pytest.mark.parametrize("tail", [b"", b"]]", b"} ]", b"] []", b",]", b"x]"])
def test_a_large_array_that_is_no_json_is_refused(tail: bytes) -> None:
    body = orjson.dumps([wide(i) for i in range(20_000)])[:-1] + tail
    readings, (reject,) = Decoder("readings", ["value"]).decode([(b"1-0", [b"data", body])])
    assert len(readings) == 0
    assert reject.reason.startswith("not JSON: ")


def test_columns_of_ordinary_readings_may_be_as_many_as_are_allowed() -> None:
    n = MOST_READINGS
    body = orjson.dumps(
        {"series": [f"s{i}" for i in range(n)], "ts": list(range(n)), "value": [0.5] * n}
    )
    assert len(body) > LIGHT
    assert contents(body, Names(("value",)))[1] == n
    readings, rejects = Decoder("readings", ["value"]).decode([(b"1-0", [b"data", body])])
    assert (len(readings), rejects) == (n, [])


def test_an_entry_of_very_many_fields_is_a_reading_and_its_payload_is_cut() -> None:
    fields = [text for i in range(300_000) for text in (b"f%d" % i, b"1")]
    decoder = Decoder("readings", ["value"])
    (readings, _), peak = peak_of(lambda: decoder.decode([(b"1-0", fields)]))
    payload, second = peak_of(lambda: readings.payload(0))
    assert payload.endswith(b"...")
    assert max(peak, second) < 10 * sum(map(len, fields)) + 25 * MB


def letters_of(commit: Commit) -> list[tuple[str, int]]:
    return [(reject.reason, reject.count) for reject in commit.rejects]


def test_very_many_bad_readings_of_an_entry_share_a_letter(tmp_path: Path) -> None:
    """Values, times and forecasts alike; other entries of the commit have letters of their own."""
    pipeline = pipeline_of(tmp_path, step_seconds=1)
    few = MOST_LETTERS + 2
    many = (b"1-0", [b"data", orjson.dumps({"value": ["y"] * few})])
    one = (b"2-0", [b"data", b'{"value":["x",1]}'])
    commits = list(pipeline.step([many, one]))
    letters = [letter for commit in commits for letter in letters_of(commit)]
    nothing = ("feature 'value' is 'y', not a number", 1)
    assert letters[:MOST_LETTERS] == [nothing] * MOST_LETTERS
    assert letters[MOST_LETTERS:] == [
        (f"2 more readings of this entry, as the one before: {nothing[0]}", 2),
        ("feature 'value' is 'x', not a number", 1),
    ]
    late = (b"3-0", [b"data", orjson.dumps({"value": [1] * few, "ts": [1002, *[5] * (few - 1)]})])
    (commit,) = pipeline.step([late])
    assert len(commit.records) == 1
    assert [reject.count for reject in commit.rejects] == [1] * MOST_LETTERS + [1]
    assert {reject.kind for reject in commit.rejects} == {"late"}
    assert sum(reject.count for reject in commit.rejects) == few - 1


def test_an_entry_of_very_many_series_goes_through_the_windows_in_parts(tmp_path: Path) -> None:
    """As if it had been several, in memory that is bounded; their letters are as few as before."""
    registry = load_registry(write_mean_model(tmp_path / "m.onnx", n_steps=3))
    n = 9000
    names = [f"s{i % 2500}" if i % 7 else f"n{i}" for i in range(n)]
    values: list[Any] = [i if i % 3 else "y" for i in range(n)]
    first = (b"1-0", [b"data", orjson.dumps({"series": names, "value": values})])
    second = (b"2-0", [b"data", orjson.dumps({"series": names[:10], "value": [1] * 10})])

    def worked(room: Room) -> list[Commit]:
        decoder = Decoder("readings", registry.features)
        pipeline = Pipeline(registry, decoder, 3000, room=room, clock=lambda: 0.0)
        commits = [commit for _ in range(18) for commit in pipeline.step([first, second])]
        for commit in commits:
            commit.inference.clear()
            commit.started.sort()  # they come in the order of their places, part by part
        return commits

    whole, parts = worked(Room()), worked(Room(windows=12 * 700))
    assert parts == whole
    assert sum(len(commit.records) for commit in whole) > 10_000
    assert sum(commit.evicted for commit in whole) > 1000
    assert letters_of(parts[0])[:2] == letters_of(parts[0])[1:3]
    assert [count for _, count in letters_of(parts[0])] == [1] * MOST_LETTERS + [2000]


def test_as_many_bad_readings_as_letters_have_one_each(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path)
    entry = (b"1-0", [b"data", orjson.dumps({"value": ["y"] * MOST_LETTERS})])
    (commit,) = pipeline.step([entry])
    assert [reject.count for reject in commit.rejects] == [1] * MOST_LETTERS
    assert np.all([reject.payload == b'{"value":"y"}' for reject in commit.rejects])
