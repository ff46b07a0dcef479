"""JSON documents: what one holds, and many read together as each by itself."""

from typing import Any

import numpy as np
import orjson
import pytest

from tidecast.worker.pipeline.bodies import contents
from tidecast.worker.pipeline.cells import UnreadableError
from tidecast.worker.pipeline.documents import Document, decode_documents
from tidecast.worker.pipeline.naming import Names

NAMES = Names(("value", "hum"))


def document(said: Any, place: int = 0, stated: int | None = None) -> Document:
    """The document of an entry whose id is of second ``place``, on a stream called ``s``."""
    body = orjson.dumps(said)
    return Document(place, b"%d000-0" % place, b"s", stated, *contents(body, NAMES))


def together(*documents: Document) -> tuple[list[tuple[object, ...]], dict[int, str]]:
    """Every reading of documents decoded together, and why some documents are refused."""
    decoded = decode_documents(documents, NAMES)
    found, refused = decoded.readings, decoded.refused
    readings: list[tuple[object, ...]] = [
        (
            int(found.places[i]),
            found.ids[i],
            found.series[i],
            int(found.times[i]),
            {name: repr(float(column[i])) for name, column in found.columns.items()},
            orjson.loads(found.payload(i)),
            [found.fault(i, name) for name in NAMES.features],
        )
        for i in range(len(found))
    ]
    return readings, {place: f"{error.kind}: {error}" for place, error in refused.items()}


def one_by_one(*documents: Document) -> tuple[list[tuple[object, ...]], dict[int, str]]:
    """The same, each document by itself."""
    readings: list[tuple[object, ...]] = []
    refused: dict[int, str] = {}
    for one in documents:
        own, bad = together(one)
        readings += own
        refused |= bad
    return readings, refused


def only(found: tuple[list[tuple[Any, ...]], dict[int, str]]) -> list[Any]:
    """The readings, without columns in which there is nothing, as neighbours may have one."""
    return [
        (*row[:4], {k: v for k, v in row[4].items() if v != "nan"}, *row[5:]) for row in found[0]
    ]


def test_an_object_an_array_and_columns() -> None:
    assert contents(b'{"value":1}', NAMES) == ([{"value": 1}], 1)
    assert contents(b'[{"value":1},7]', NAMES) == ([{"value": 1}, 7], 2)
    assert contents(b"[]", NAMES) == ([], 0)
    # A list under a name that nobody wants makes no columns, and neither does one of times.
    assert contents(b'{"value":1,"note":[1,2]}', NAMES)[1] == 1
    assert contents(b'{"ts":[1,2]}', NAMES) == ([{"ts": [1, 2]}], 1)
    columns = b'{"value":[1,2],"series":"a","note":[1]}'
    assert contents(columns, NAMES) == ({"value": [1, 2], "series": "a"}, 2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "^not JSON: "),
        (b'{"value":[1,2],"hum":[1]}', r"^columns of unequal length: \{'value': 2, 'hum': 1\}$"),
        (b'{"value":[1,2],"hum":5}', r"^columns of unequal length: \{'value': 2, 'hum': '5'\}$"),
        (b'{"value":[1],"series":["a","b"]}', r"length: \{'value': 1, 'series': 2\}$"),
    ],
)
def test_what_is_no_document(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        contents(body, NAMES)


def test_readings_of_a_document() -> None:
    items = [{"value": 1, "other": 2}, {"series": 7, "ts": "1970-01-01", "hum": None}]
    readings, refused = together(document(items, place=5))
    assert [row[:4] for row in readings] == [(5, b"5000-0", b"s", 5000), (5, b"5000-0", b"7", 0)]
    assert [row[4] for row in readings] == [
        {"value": "1.0", "hum": "nan"},
        {"value": "nan", "hum": "nan"},
    ]
    assert [row[5] for row in readings] == items
    assert readings[1][6] == ["feature 'value' is missing", "feature 'hum' is missing"]
    assert refused == {}
    assert [row[3] for row in together(document(items, stated=9))[0]] == [9, 0]


ROW = {"series": "a", "ts": 77, "value": 1.5, "hum": 2}


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([ROW, ROW | {"series": "é"}], id="objects"),
        pytest.param([ROW], id="one object an entry"),
        pytest.param([[ROW, ROW | {"ts": 8}], [ROW]], id="arrays"),
        pytest.param([{"value": 1}, {"value": 2, "note": []}], id="nothing but a value"),
        pytest.param([{"value": -0.0}, {"value": 2**60}], id="a zero and a large number"),
        pytest.param([{"value": [1, 2]}, {"value": [3]}], id="columns of a value"),
        pytest.param([{k: [v, v] for k, v in ROW.items()}] * 3, id="columns"),
        pytest.param([ROW | {"value": [1, 2], "hum": [3, 4]}] * 2, id="columns of one series"),
        pytest.param(
            [{"value": [1], "series": 7, "ts": "1970-01-02"}] * 2, id="singles to be read"
        ),
        pytest.param([{"series": "x" * 512, "value": 1}], id="the longest name"),
    ],
)
@pytest.mark.parametrize("stated", [None, 9])
def test_documents_that_are_alike_are_read_together(said: list[Any], stated: int | None) -> None:
    """And say what each says by itself, which sees to names, times and places, too."""
    documents = [document(one, place, stated) for place, one in enumerate(said, 3)]
    found = together(*documents)
    assert found == one_by_one(*documents)
    assert len(found[0]) >= len(said)
    assert found[1] == {}


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([{"value": 1}, {"value": 1, "ts": 5}], id="one has a time"),
        pytest.param([{"value": 1, "ts": 5}, {"value": 1}], id="one has none"),
        pytest.param([{"value": [1]}, {"hum": [1]}], id="columns of other features"),
        pytest.param([{"note": 1}, {"value": 1}], id="no feature"),
        pytest.param([[{"value": 1}, 5], [{"value": 2}]], id="an item that is no object"),
        pytest.param([{"value": "1"}, {"value": 2}], id="a text for a number"),
        pytest.param([{"value": True}, {"value": 2}], id="a truth for a number"),
        pytest.param([{"value": None}, {"value": 2}], id="nothing for a number"),
        pytest.param([{"value": 1, "ts": "1970-01-01"}, {"value": 2}], id="a text for a time"),
        pytest.param([{"value": 1, "ts": 5.0}, {"value": 2, "ts": 7}], id="a fraction for a time"),
        pytest.param([{"value": 1, "ts": -1}, {"value": 2, "ts": 7}], id="a time before 1970"),
        pytest.param([{"value": 1, "series": 7}, {"value": 2}], id="a number for a name"),
        pytest.param([{"value": 1, "series": ""}, {"value": 2}], id="an empty name"),
        pytest.param(
            [{"value": [1, 2], "series": ["a", 7]}, {"value": [3], "series": ["a"]}],
            id="a number among names",
        ),
        pytest.param([{"value": [1], "series": None}, {"value": [2]}], id="no name for a column"),
        pytest.param([{"value": [1], "ts": "noon"}, {"value": [2]}], id="no time for a column"),
        pytest.param([[5], [{"value": 2, "ts": -1}], [{"value": 3}], []], id="several at once"),
    ],
)
def test_what_a_document_says_does_not_hang_on_its_neighbours(said: list[Any]) -> None:
    documents = [document(one, place) for place, one in enumerate(said)]
    found, alone = together(*documents), one_by_one(*documents)
    assert only(found) == only(alone)
    assert found[1] == alone[1]
    assert len(found[0]) + len(found[1]) >= 1


def test_an_id_that_is_no_time_matters_to_readings_without_one_alone() -> None:
    def late(said: Any, place: int = 0) -> Document:
        body = orjson.dumps(said)
        return Document(place, b"9" * 19 + b"-0", b"s", None, *contents(body, NAMES))

    readings, refused = together(late({"value": 1}), late({"value": 1, "ts": 5}, 1))
    assert [row[:2] for row in readings] == [(1, b"9" * 19 + b"-0")]
    assert list(refused) == [0]
    assert refused[0].startswith("time: time '9999999999999999999-0' lies outside the years")


def test_columns_are_64_bit_numbers_and_no_zero_is_negative() -> None:
    found = decode_documents([document({"value": -0.0})], NAMES).readings
    assert found.columns["value"].dtype == np.float64
    assert not np.signbit(found.columns["value"][0])
    assert list(found.columns) == ["value"]
    assert found.faults == {}
