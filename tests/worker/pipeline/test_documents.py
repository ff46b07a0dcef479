"""JSON documents: what one holds, and many read together as each by itself."""

from typing import Any

import numpy as np
import orjson
import pytest

from tidecast.worker.pipeline.cells import UnreadableError
from tidecast.worker.pipeline.documents import Document, Names, contents, decode_alike, rows_of

NAMES = Names(("value", "hum"), "series", "ts")


def document(said: Any, place: int = 0, stated: int | None = None) -> Document:
    """The document of an entry whose id is of second ``place``, on a stream called ``s``."""
    body = orjson.dumps(said)
    return Document(place, b"%d000-0" % place, b"s", stated, *contents(body, NAMES))


def alike(*documents: Document) -> list[tuple[object, ...]] | None:
    """Every reading of documents decoded together, with its entry; None if they are refused."""
    found = decode_alike(documents, NAMES)
    if found is None:
        return None
    return [
        (
            int(found.places[i]),
            found.ids[i],
            found.series[i],
            int(found.times[i]),
            {name: float(column[i]) for name, column in found.columns.items()},
            orjson.loads(found.payload(i)),
        )
        for i in range(len(found))
    ]


def one_by_one(*documents: Document) -> list[tuple[object, ...]]:
    """The same, each reading by itself."""
    return [
        (one.place, one.entry_id, series, time, {k: float(v) for k, v in values.items()}, said)
        for one in documents
        for series, time, values, said in rows_of(one, NAMES)
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


def test_readings_of_a_document_by_themselves() -> None:
    items = [{"value": 1, "other": 2}, {"series": 7, "ts": "1970-01-01", "hum": None}]
    assert list(rows_of(document(items, place=5), NAMES)) == [
        (b"s", 5000, {"value": 1}, items[0]),
        (b"7", 0, {"hum": None}, items[1]),
    ]
    assert [time for _, time, _, _ in rows_of(document(items, stated=9), NAMES)] == [9, 0]


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
    assert alike(*documents) == one_by_one(*documents)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([{"value": 1}, {"value": [1]}], id="an object and columns"),
        pytest.param([{"value": [1]}, {"value": 1}], id="columns and an object"),
        pytest.param([{"value": 1}, {"value": 1, "ts": 5}], id="one has a time"),
        pytest.param([{"value": 1, "ts": 5}, {"value": 1}], id="one has none"),
        pytest.param([{"value": [1]}, {"hum": [1]}], id="columns of other features"),
        pytest.param([{"note": 1}], id="no feature"),
        pytest.param([[{"value": 1}, 5]], id="an item that is no object"),
        pytest.param([{"value": "1"}], id="a text for a number"),
        pytest.param([{"value": True}], id="a truth for a number"),
        pytest.param([{"value": None}], id="nothing for a number"),
        pytest.param([{"value": 1, "ts": "1970-01-01"}], id="a text for a time"),
        pytest.param([{"value": 1, "ts": 5.0}], id="a fraction for a time"),
        pytest.param([{"value": 1, "ts": -1}], id="a time before 1970"),
        pytest.param([{"value": 1, "series": 7}], id="a number for a name"),
        pytest.param([{"value": 1, "series": ""}], id="an empty name"),
        pytest.param([{"value": [1, 2], "series": ["a", 7]}], id="a number among names"),
        pytest.param([{"value": [1], "series": None}], id="no name for a column"),
        pytest.param([{"value": [1], "ts": "noon"}], id="no time for a column"),
    ],
)
def test_documents_that_are_not_alike_or_unusual_go_the_slow_way(said: list[Any]) -> None:
    assert alike(*(document(one, place) for place, one in enumerate(said))) is None


def test_an_id_that_is_no_time_sends_those_without_one_the_slow_way() -> None:
    def late(said: Any) -> Document:
        return Document(0, b"9" * 19 + b"-0", b"s", None, *contents(orjson.dumps(said), NAMES))

    assert alike(late({"value": 1})) is None
    assert alike(late({"value": 1, "ts": 5})) is not None


def test_columns_are_64_bit_numbers_and_no_zero_is_negative() -> None:
    found = decode_alike([document({"value": -0.0})], NAMES)
    assert found is not None
    assert found.columns["value"].dtype == np.float64
    assert not np.signbit(found.columns["value"][0])
    assert list(found.columns) == ["value"]
    assert found.faults == {}
