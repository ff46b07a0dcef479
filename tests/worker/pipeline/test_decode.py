"""Every entry shape, read in bulk and one by one."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.naming import Naming
from tidecast.worker.pipeline.readings import LONGEST_PAYLOAD, Readings
from tidecast.worker.pipeline.wire import Entry, Reject

ID = b"1700000000123-4"


def decode(
    *fields: bytes | str, features: tuple[str, ...] = ("value",)
) -> tuple[Readings, list[Reject]]:
    return Decoder("readings", features).decode([entry(*fields)])


def entry(*fields: bytes | str) -> Entry:
    return ID, [f.encode() if isinstance(f, str) else f for f in fields]


def rows(readings: Readings) -> list[tuple[str, int, tuple[float, ...]]]:
    columns = [readings.columns[name].tolist() for name in readings.columns]
    return list(
        zip(
            [name.decode() for name in readings.series],
            readings.times.tolist(),
            zip(*columns, strict=True),
            strict=True,
        )
    )


def test_flat() -> None:
    readings, rejects = decode("series", "boiler-7", "ts", "1700000000000", "value", "71.3")
    assert rows(readings) == [("boiler-7", 1700000000000, (71.3,))]
    assert rejects == []


def test_series_defaults_to_the_stream_and_time_to_the_entry_id() -> None:
    assert rows(decode("value", "1e1")[0]) == [("readings", 1700000000123, (10.0,))]


@pytest.mark.parametrize(
    "fields",
    [
        ("series", "a", "ts", "5", "value", "3"),
        ("data", '{"series":"a","ts":5,"value":3}'),
        ("data", '[{"series":"a","ts":5,"value":3}]'),
        ("data", '{"series":["a"],"ts":[5],"value":[3]}'),
    ],
)
def test_an_id_that_is_no_time_matters_only_to_readings_without_one(fields: list[str]) -> None:
    nanoseconds = b"1700000000000000000-0"
    decoder = Decoder("readings", ("value",))
    readings, rejects = decoder.decode([(nanoseconds, entry(*fields)[1])])
    assert (rows(readings), rejects) == ([("a", 5, (3.0,))], [])
    _, (reject,) = decoder.decode([(nanoseconds, entry("data", '{"value":3}')[1])])
    assert "outside the years" in reject.reason


@pytest.mark.parametrize("body", ["body", "data", "msg", "value"])
def test_json_object(body: str) -> None:
    readings, _ = decode(body, '{"series":"b","ts":5,"value":1.5,"other":"x"}')
    assert rows(readings) == [("b", 5, (1.5,))]


def test_json_array_keeps_its_order() -> None:
    readings, _ = decode(
        "data", '[{"series":"b","value":1},{"series":"a","ts":"1970-01-01","value":2}]'
    )
    assert rows(readings) == [("b", 1700000000123, (1.0,)), ("a", 0, (2.0,))]


def test_columns() -> None:
    readings, _ = decode("data", '{"series":["a","b"],"ts":[1,2],"value":[1.5,2.5]}')
    assert rows(readings) == [("a", 1, (1.5,)), ("b", 2, (2.5,))]


def test_columns_of_one_series() -> None:
    readings, _ = decode("data", '{"series":"a","value":[1.5,2.5]}')
    assert rows(readings) == [("a", 1700000000123, (1.5,)), ("a", 1700000000123, (2.5,))]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("0", 0),
        ("2023-11-14T22:13:20Z", 1700000000000),
        ("2023-11-14 22:13:20.5", 1700000000500),
        ("2023-11-15T00:13:20+02:00", 1700000000000),
    ],
)
def test_times(time: str, expected: int) -> None:
    assert decode("ts", time, "value", "1")[0].times.tolist() == [expected]
    body = orjson.dumps({"ts": time, "value": 1})
    assert decode("data", body)[0].times.tolist() == [expected]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (("ts", "-1", "value", "1"), "is neither seconds"),
        (("ts", "-" + "0" * 40 + "5", "value", "1"), "is neither seconds"),
        (("ts", "9" * 30, "value", "1"), "outside the years"),
        (("ts", "1_0", "value", "1"), "is neither seconds"),
        (("ts", "noon", "value", "1"), "is neither seconds"),
        (("series", "", "value", "1"), "series name of 0 bytes"),
        (("series", b"\xff", "value", "1"), "not UTF-8"),
        (("series", "x" * 513, "value", "1"), "series name of 513 bytes"),
        (("data", "{"), "not JSON"),
        (("data", "[1]"), "not an object"),
        (("data", '{"ts":true,"value":1}'), "time is True"),
        (("data", '{"series":null,"value":1}'), "series is None"),
        (("data", '{"series":["a"],"value":[1,2]}'), "unequal length"),
        (("data", '[{"value":1},{"value":1,"ts":"x"}]'), "is neither seconds"),
    ],
)
def test_unreadable_entries_are_rejected_whole(
    fields: tuple[bytes | str, ...], reason: str
) -> None:
    readings, rejects = decode(*fields)
    assert len(readings) == 0
    assert len(rejects) == 1
    assert reason in rejects[0].reason
    assert rejects[0].entry == ID
    assert list(orjson.loads(rejects[0].payload)) == list(fields[::2])


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("abc", "is 'abc', not a number"),
        ("1_0", "is '1_0', not a number"),
        ("nan", "is missing"),
        ("-inf", "not a finite number"),
        ("1e999", "not a finite number"),
    ],
)
def test_a_cell_that_is_no_number_says_so(cell: str, fault: str) -> None:
    readings, _ = decode("series", "a", "value", cell)
    assert not np.isfinite(readings.columns["value"][0])
    assert fault in readings.fault(0, "value")


@pytest.mark.parametrize("cell", ["true", '"x"', "[1]", "{}"])
def test_json_cells_that_are_no_numbers(cell: str) -> None:
    readings, rejects = decode("data", f'[{{"value":{cell}}}]')
    assert rejects == []
    assert "not a number" in readings.fault(0, "value")


def test_a_missing_feature_is_named() -> None:
    readings, _ = decode("temp", "1", features=("temp", "hum"))
    assert readings.fault(0, "hum") == "feature 'hum' is missing"


def test_payloads_are_bounded() -> None:
    readings, _ = decode("value", "1", "note", "x" * 5000)
    assert len(readings.payload(0)) == LONGEST_PAYLOAD


series_cells = st.sampled_from(["a", "b-7", "boiler é", "", "x" * 513]) | st.text(max_size=4)
time_cells = st.integers(0, 10**13).map(str) | st.sampled_from(
    ["+5", " 5", "5 ", "1_0", "-1", "", "9" * 30, "0" * 40 + "7", "2024-01-01", "noon"]
)
value_cells = st.floats().map(repr) | st.sampled_from([" 1", "1_0", "1e999", "abc", "", "0x10"])
body_cells = st.sampled_from(["[warn] hot", '{"value":9}', '[{"value":1},{"value":2}]', "{", "hot"])
flat = st.tuples(series_cells, time_cells, value_cells).map(
    lambda c: ["series", c[0], "ts", c[1], "value", c[2]]
)
with_body = st.tuples(value_cells, body_cells).map(lambda c: ["value", c[0], "msg", c[1]])
only_body = body_cells.map(lambda body: ["value", body])
json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.just("5")
documents = st.fixed_dictionaries(
    {"value": st.lists(st.floats(-9, 9) | st.integers(0, 9) | json_values, max_size=3)},
    optional={
        "series": st.lists(st.sampled_from(["a", "é", 7, None]), max_size=3) | st.just("one"),
        "ts": st.lists(st.integers(-1, 10**13), max_size=3) | st.sampled_from([5, "1970-01-01"]),
        "note": st.just([1]),
    },
)
columns = documents.map(lambda document: ["data", json.dumps(document)])
# Two entries of uneven shape can be as wide together as two even ones.
UNEVEN: list[list[str | bytes]] = [
    ["series", "a", "value", "1"],
    ["series", "b"],
    ["value", "2", "series", "c", "value", "3"],
]
layouts = st.one_of(flat, with_body, only_body, columns, st.sampled_from(UNEVEN))


def said(decoded: tuple[Readings, list[Reject]]) -> list[object]:
    """All that a reading or a reject is told by."""
    readings, rejects = decoded
    values = readings.columns.get("value", np.full(len(readings), np.nan))
    told: list[object] = [
        (
            readings.ids[i],
            readings.series[i],
            int(readings.times[i]),
            repr(float(value)),
            readings.payload(i),
            None if np.isfinite(value) else readings.fault(i, "value"),
        )
        for i, value in enumerate(values)
    ]
    return told + [(reject.reason, reject.entry, reject.payload) for reject in rejects]


@given(st.lists(flat, max_size=40) | st.lists(layouts, max_size=40))
@example(UNEVEN)
def test_what_an_entry_says_does_not_hang_on_its_neighbours(
    shapes: list[list[str | bytes]],
) -> None:
    decoder = Decoder("readings", ["value"])
    entries = [(b"%d-0" % place, entry(*fields)[1]) for place, fields in enumerate(shapes)]
    together = decoder.decode(entries)
    alone = [said(decoder.decode([one])) for one in entries]
    assert sorted(map(str, said(together))) == sorted(str(row) for rows_ in alone for row in rows_)
    assert together[0].ids == sorted(together[0].ids, key=lambda i: int(i.partition(b"-")[0]))


@pytest.mark.parametrize("more", [0, 40])
def test_entries_of_very_many_layouts_are_each_read_by_its_own(more: int) -> None:
    """They differ in later and later fields, in their order, and in how many they have."""
    usual = [["series", "s"], ["ts", "5"], ["value", "1"]]
    usual += [[f"f{number}", "0"] for number in range(6 + more)]
    shapes = [usual[place:] + usual[:place] for place in range(9)]
    shapes += [[*usual[:place], ["g", "0"], *usual[place:]] for place in range(9)]
    shapes += [[*usual[:place], ["h", "0"], *usual[place + 1 :]] for place in range(3, 9)]
    entries = [
        (b"%d-0" % number, entry(*(word for pair in shape for word in pair))[1])
        for number, shape in enumerate(shapes * 3)
    ]
    for number, (_, fields) in enumerate(entries):
        fields[fields.index(b"value") + 1] = b"%d" % number
    readings, rejects = Decoder("readings", ["value"]).decode(entries)
    assert rejects == []
    assert rows(readings) == [("s", 5, (float(number),)) for number in range(len(entries))]
    assert readings.ids == [entry_id for entry_id, _ in entries]
    assert json.loads(readings.payload(7))["value"] == "7"


@pytest.mark.parametrize("others", [("data",), ("data", "msg"), ("data", "value")])
def test_documents_of_several_layouts_stay_in_the_order_of_their_entries(
    others: tuple[str, ...],
) -> None:
    shapes = ["body", *others] * 4
    entries = [
        (b"%d-0" % number, entry(shape, f'{{"series":"s","ts":{number},"value":{number}}}')[1])
        for number, shape in enumerate(shapes)
    ]
    readings, _ = Decoder("readings", ["value"]).decode(entries)
    assert readings.times.tolist() == list(range(len(shapes)))
    assert readings.places.tolist() == list(range(len(shapes)))
    assert readings.ids == [entry_id for entry_id, _ in entries]
    assert readings.payload(3) == b'{"series":"s","ts":3,"value":3}'


def test_columns_in_bulk_and_one_by_one_agree() -> None:
    """A cell of null sends the document the slow way; the other readings must not change."""
    document = {"series": ["a", "b"], "ts": [1, 2], "value": [1.5, 2]}
    slow = {"series": ["a", "b", "c"], "ts": [1, 2, 3], "value": [1.5, 2, None]}
    decoder = Decoder("readings", ["value"])
    quick, slower = (
        said(decoder.decode([entry("data", orjson.dumps(d))])) for d in (document, slow)
    )
    assert slower[:2] == quick
    assert "'value' is missing" in str(slower[2])


def test_an_array_of_one_bad_item_is_rejected_whole() -> None:
    readings, rejects = decode("data", '[{"value":1},7]')
    assert (len(readings), len(rejects)) == (0, 1)


def test_features_of_several_layouts_stay_with_their_readings() -> None:
    decoder = Decoder("readings", ["temp", "hum"])
    shapes = [("temp", "1"), ("hum", "2")] * 40
    readings, _ = decoder.decode([(b"%d-0" % i, entry(*s)[1]) for i, s in enumerate(shapes)])
    np.testing.assert_array_equal(readings.columns["temp"], [1, np.nan] * 40)
    np.testing.assert_array_equal(readings.columns["hum"], [np.nan, 2] * 40)
    assert readings.fault(1, "temp") == "feature 'temp' is missing"


def test_readings_of_several_layouts_keep_the_order_of_their_entries() -> None:
    """Each layout is decoded in bulk, and so are the documents."""
    shapes = [*[("temp", "1")] * 20, *[("hum", "2")] * 40, ("hum", "x")]
    shapes += [*[("data", '{"temp":3}')] * 20, *[("temp", "4")] * 20]
    decoder = Decoder("readings", ["temp", "hum"])
    readings, _ = decoder.decode([(b"%d-0" % i, entry(*s)[1]) for i, s in enumerate(shapes)])
    assert readings.places.tolist() == list(range(101))
    assert readings.ids == [b"%d-0" % i for i in range(101)]
    wanted = [1.0] * 20 + [np.nan] * 41 + [3.0] * 20 + [4.0] * 20
    np.testing.assert_array_equal(readings.columns["temp"], wanted)
    assert "'x', not a number" in readings.fault(60, "hum")


def test_nesting_too_deep_to_write_again_is_said() -> None:
    _, rejects = decode("data", '{"value":1,"ts":' + "[" * 1000 + "]" * 1000 + "}")
    assert rejects[0].reason.startswith("time is a deeply nested list")
    readings, _ = decode("data", '{"value":"x","extra":' + "[" * 500 + "]" * 500 + "}")
    assert readings.payload(0) == b'"nested too deeply to repeat"'


def test_a_part_keeps_faults_with_their_readings() -> None:
    readings, _ = decode("data", '[{"value":1},{"value":"x"},{"value":3},{"value":"y"}]')
    part = readings.part(1, 4)
    assert part.fault(0, "value") == "feature 'value' is 'x', not a number"
    assert part.fault(2, "value") == "feature 'value' is 'y', not a number"
    assert len(part) == 3


def test_names_of_any_script() -> None:
    entries = [entry("series", name, "value", "1") for name in ("é", "温度", "a")]
    readings, _ = Decoder("readings", ["value"]).decode(entries)
    assert [name.decode() for name in readings.series] == ["é", "温度", "a"]


@given(st.lists(st.lists(st.binary(max_size=12), max_size=6).filter(lambda f: len(f) % 2 == 0)))
def test_any_bytes_are_readings_or_rejects(shapes: list[list[bytes]]) -> None:
    entries = [(b"%d-0" % number, fields) for number, fields in enumerate(shapes)]
    readings, rejects = Decoder("readings", ["value"]).decode(entries)
    seen = set(readings.ids) | {reject.entry for reject in rejects}
    assert seen == {entry_id for entry_id, fields in entries if b"[]" not in fields}
    for i in range(len(readings)):
        readings.payload(i)


commas = st.lists(
    st.sampled_from(
        ["1", "2,3", "[4", "5]", '"6', '7"', '{"a":8', "9}", "-0", "007", " 1", "\n2", ""]
    ),
    min_size=17,
    max_size=20,
)


@given(commas)
@example(["1"] * 16 + ["2,3", '"6', '7"'])
def test_cells_keep_to_themselves_though_many_are_read_at_once(cells: list[str]) -> None:
    """Numbers, and times, are read as one JSON array where that gives the same."""
    decoder = Decoder("readings", ["value"])
    for shape in (["value", ""], ["value", "1", "ts", ""]):
        entries = [(b"%d-0" % i, entry(*shape[:-1], cell)[1]) for i, cell in enumerate(cells)]
        alone = [said(decoder.decode([one])) for one in entries]
        together = said(decoder.decode(entries))
        assert sorted(map(str, together)) == sorted(str(row) for rows_ in alone for row in rows_)


@pytest.mark.parametrize("shape", ["object", "array", "columns"])
def test_documents_in_bulk_are_those_read_one_by_one(shape: str) -> None:
    """Of 40 entries one is odd, and says what it says; the others are not touched by it."""
    rows_ = [{"series": f"s{i}", "ts": 1000 - i, "value": i + 0.5} for i in range(40)]
    rows_[7]["value"] = "x"
    bodies: dict[str, list[object]] = {
        "object": list(rows_),
        "array": [[row, row] for row in rows_],
        "columns": [{name: [cell, cell] for name, cell in row.items()} for row in rows_],
    }
    entries = [
        (b"%d-0" % i, entry("data", orjson.dumps(body))[1]) for i, body in enumerate(bodies[shape])
    ]
    decoder = Decoder("readings", ["value"])
    together = said(decoder.decode(entries))
    assert together == [row for one in entries for row in said(decoder.decode([one]))]
    assert len(together) == (40 if shape == "object" else 80)
    assert "'x', not a number" in str(together)


def test_entries_that_are_flat_and_alike_are_one_part_however_large() -> None:
    entries = [
        entry("series", "a", "ts", str(i), "value", "1", "note", "x" * 50) for i in range(99)
    ]
    ((part, readings, rejects),) = Decoder("readings", ["value"]).decode_in_parts(entries, 60)
    assert part == entries
    assert readings.times.tolist() == list(range(99))
    assert rejects == []


def test_other_entries_come_in_parts_of_about_a_size() -> None:
    """::

    bytes  100 100 100 | 100 | 500 | 100 100 100 | ...   of at most 300, but for one that has more
    """
    bodies = [orjson.dumps({"value": i, "note": "x" * 70}).ljust(96) for i in range(20)]
    bodies[4] = bodies[4].ljust(496)
    bodies[7] = b"{".ljust(96)
    entries = [(b"%d-0" % i, [b"data", body]) for i, body in enumerate(bodies)]
    decoder = Decoder("readings", ["value"])
    parts = list(decoder.decode_in_parts(entries, 300))
    assert [len(part) for part, _, _ in parts] == [3, 1, 1, 3, 3, 3, 3, 3]
    assert [one for part, _, _ in parts for one in part] == entries
    for part, readings, rejects in parts:
        assert said((readings, rejects)) == said(decoder.decode(part))


def test_an_entry_that_comes_without_its_fields_is_refused_alone() -> None:
    """As one does that is larger than may be read at once."""
    large: Entry = (b"5-0", [])
    sound = entry(b"value", b"1")
    decoder = Decoder("readings", ["value"])
    for entries in ([large], [large, sound], [sound, large, sound]):
        readings, rejects = decoder.decode(entries)
        assert len(readings) == len(entries) - 1
        (reject,) = rejects
        assert (reject.entry, reject.kind) == (b"5-0", "malformed")
        assert reject.reason.startswith("an entry with more bytes than may be read at once")
        ((part, again, refused),) = decoder.decode_in_parts(entries, 10**6)
        assert (len(part), len(again), refused) == (len(entries), len(readings), rejects)


def test_no_entries_hold_no_readings() -> None:
    readings, rejects = Decoder("readings", ["value"]).decode([])
    assert (len(readings), rejects) == (0, [])


@pytest.mark.parametrize("body", ['{"value":1}', '[{"value":1}]', '{"value":[1],"ts":60}'])
def test_a_time_that_is_told_once_is_read_once(body: str) -> None:
    """Read again, its milliseconds would be seconds."""
    fields = ("ts", "60", "data", body)
    readings, rejects = Decoder("readings", ["value"], Naming(unit="s")).decode([entry(*fields)])
    assert (readings.times.tolist(), rejects) == ([60_000], [])
