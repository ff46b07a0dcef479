"""Malformed entries, through a real server and a real worker process: each is accounted for.

``TIDECAST_FUZZ`` says how many entries are tried (20,000). Every one has either an exact outcome
(its forecasts byte for byte, its number of dead letters and of unserved readings), or, where bytes
are random, exactly one forecast or one dead letter.
"""

import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import ormsgpack
import pytest
import redis

from tests.conftest import Run
from tests.model_files import spec_in, write_mean_model

MANY = int(os.environ.get("TIDECAST_FUZZ", "20000"))
STREAM = "sensors"
MORE = re.compile(r"(\d+) more readings of this entry, as the one before: (.*)")
"""Served by the model, so that a reading that names no series never goes by in silence."""
FIRST = 1_700_000_000_000
LATEST = 253_402_300_799_999
MB = 1_000_000
BODIES = (b"body", b"data", b"msg", b"value", b"payload", b"message", b"__data__", b"event")


@dataclass(frozen=True, slots=True)
class Case:
    """An entry's fields and what must come of it.

    ``forecasts`` are (series, time, value); ``either``: a forecast, a letter or a hole, who knows;
    ``anything``: several of them, too, or of other series.
    """

    fields: list[bytes]
    forecasts: tuple[tuple[str, int, float], ...] = ()
    letters: int = 0
    unserved: int = 0
    missing: int = 0
    either: bool = False
    anything: bool = False


Kind = Callable[[Random, int], Case]


# What entries are made of


def number(place: int) -> float:
    """A value of its own for each entry, exact as a 32-bit float."""
    return place + 0.5


def name(random: Random) -> str:
    return f"s-{random.randrange(500)}"


def text_of_all_planes(random: Random) -> str:
    planes = [(1, 0xD7FF), (0xE000, 0xFFFF)] + [(p << 16, (p << 16) + 0xFFFF) for p in range(1, 17)]
    return "".join(chr(random.randint(*random.choice(planes))) for _ in range(random.randint(1, 9)))


def some_bytes(random: Random, longest: int = 40) -> bytes:
    return random.randbytes(random.randint(0, longest))


def like_a_number(random: Random) -> bytes:
    return bytes(
        random.choices(b"0123456789012345678901234567890.eE+-_ naif", k=random.choice(SIZES))
    )


SIZES = (1, 2, 3, 5, 8, 20)


def flat(*pairs: tuple[str | bytes, object]) -> list[bytes]:
    return [w if isinstance(w, bytes) else str(w).encode() for pair in pairs for w in pair]


def body(random: Random, text: str | bytes) -> list[bytes]:
    """One field of JSON, sometimes beside a field that nobody asked for."""
    fields = [random.choice(BODIES), text if isinstance(text, bytes) else text.encode()]
    return fields if random.random() < 0.7 else [*fields, b"other", some_bytes(random)]


def json_body(random: Random, document: object) -> list[bytes]:
    return body(random, json.dumps(document, ensure_ascii=random.random() < 0.5))


def bad(fields: list[bytes]) -> Case:
    return Case(fields, letters=1)


# Readings as they should be


def flat_reading(random: Random, place: int) -> Case:
    series, at, value = name(random), random.randint(0, LATEST), number(place)
    fields = [("series", series), ("ts", at), ("value", value)]
    if random.random() < 0.2:
        del fields[1]
        at = FIRST + place
    random.shuffle(fields)
    return Case(flat(*fields), ((series, at, value),))


def flat_reading_of_one_layout(random: Random, place: int) -> Case:
    series, value = name(random), number(place)
    return Case(flat(("series", series), ("value", value)), ((series, FIRST + place, value),))


def flat_reading_with_more(random: Random, place: int) -> Case:
    """Fields that nobody asked for, also JSON and an empty name, change nothing."""
    value = number(place)
    fields = flat(("value", value), ("data", "[1"), ("", ""), (text_of_all_planes(random), ""))
    return Case(fields, ((STREAM, FIRST + place, value),))


def json_reading(random: Random, place: int) -> Case:
    series, value = name(random), number(place)
    item = {"series": series, "ts": place, "value": value, "x": [None, {}], "": ""}
    return Case(json_body(random, item), ((series, place, value),))


def json_array(random: Random, place: int) -> Case:
    """Readings, some of them unserved, none at all too."""
    names = [random.choice([name(random), "u-1", 7]) for _ in range(random.randint(0, 5))]
    items = [{"series": series, "value": place + i / 4} for i, series in enumerate(names)]
    said = tuple(
        (series, FIRST + place, place + i / 4)
        for i, series in enumerate(names)
        if isinstance(series, str) and series != "u-1"
    )
    return Case(json_body(random, items), said, unserved=len(names) - len(said))


def columns(random: Random, place: int) -> Case:
    size = random.randint(0, 5)
    names = [random.choice([name(random), "u-2"]) for _ in range(size)]
    values, times = [place + i / 4 for i in range(size)], list(range(size))
    readings = [r for r in zip(names, times, values, strict=True) if r[0] != "u-2"]
    document = {"series": names, "ts": times, "value": values, "ignored": [[], 3] * size}
    return Case(json_body(random, document), tuple(readings), unserved=names.count("u-2"))


def name_of_all_planes(random: Random, place: int) -> Case:
    series, value = "s" + text_of_all_planes(random), number(place)
    fields = flat(("series", series), ("value", value))
    if random.random() < 0.5:
        fields = json_body(random, {"series": series, "value": value})
    return Case(fields, ((series, FIRST + place, value),))


def longest_name(_: Random, place: int) -> Case:
    series, value = "s" * 508 + "\N{WATER WAVE}", number(place)
    return Case(flat(("series", series), ("value", value)), ((series, FIRST + place, value),))


def unserved(random: Random, _: int) -> Case:
    series = random.choice(["u-3", "S-1", "\n", " s-1", "\0s", "U" * 512])
    # Without an equals sign, as with one it might be a line of the line protocol.
    odd = b"?" + some_bytes(random).replace(b"=", b"-")
    return Case(flat(("series", series), ("value", odd)), unserved=1)


def missing_value(random: Random, _: int) -> Case:
    """A hole of its series: no forecast, and no letter."""
    text = random.choice(["", " ", "null", "nan", "NaN", "NA", "n/a", "None", "-", "?"])
    if random.random() < 0.5:
        return Case(flat(("series", name(random)), ("value", text)), missing=1)
    value = random.choice([text, None])
    return Case(json_body(random, {"series": name(random), "value": value}), missing=1)


def telegraf(random: Random, place: int) -> Case:
    """As an object, in a batch or in CloudEvents; as a line, in MessagePack, or in an envelope."""
    tag, value = random.choice(["a", "b c", "\N{WATER WAVE}"]), number(place)
    at = random.choice([FIRST + place, 0])
    metric: dict[str, Any] = {"name": "s", "tags": {"n": tag}, "fields": {"value": value, "x": "y"}}
    metric |= {"timestamp": at} if at else {}
    said = ((f"s,n={tag}", at or FIRST + place, value),)
    line = f's,n={tag.replace(" ", chr(92) + " ")} value={value},x="y" {at or ""}'.encode()
    event = {"specversion": "1.0", "source": "u", "data": metric}
    packed = ormsgpack.packb(metric)
    shapes = [metric, {"metrics": [metric]}, event, {"payload": metric}, line, packed]
    one = random.choice([*shapes, envelope(line), envelope(packed), b"\n#\n" + line + b"\n\n"])
    fields = body(random, one) if isinstance(one, bytes) else json_body(random, one)
    return Case(fields, said)


def envelope(inner: bytes) -> bytes:
    """FastStream's binary one."""
    return b"\x89BIN\r\n\x1a\n" + struct.pack(">HIIH", 1, 18, 20, 0) + inner


def device(random: Random, place: int) -> Case:
    series, value = name(random), number(place)
    owner: Any = random.choice([series, {"id": series}, {"id": series, "x": []}])
    item = {"device": owner, "values": {"value": value}, "timestamp": FIRST + place}
    many = random.randint(1, 3)
    said = ((series, FIRST + place, value),) * many
    document = [item] * many if random.random() < 0.7 else {"data": [item] * many, "x": 1}
    return Case(json_body(random, document), said)


def change(random: Random, place: int) -> Case:
    """Debezium's, under the key's JSON or in a field; sometimes a row that was deleted."""
    series, value = name(random), number(place)
    row = {"series": series, "value": value} if random.random() < 0.8 else None
    said: dict[str, Any] = {"before": None, "after": row, "op": "c", "ts_ms": FIRST + place}
    if random.random() < 0.5:
        said = {"schema": {"type": "struct"}, "payload": said}
    text = json.dumps(said).encode()
    key = json.dumps({"id": random.randrange(9)}).encode()
    fields = random.choice([[key, text], [b"key", key, b"value", text]])
    return Case(fields, ((series, FIRST + place, value),) if row else ())


def lines_of_json(random: Random, place: int) -> Case:
    names = [name(random) for _ in range(random.randint(2, 4))]
    texts = [json.dumps({"series": series, "value": number(place)}) for series in names]
    text = random.choice(["\n", "\r\n", " \n\n"]).join(texts)
    said = tuple((series, FIRST + place, number(place)) for series in names)
    return Case(body(random, text + random.choice(["", "\n"])), said)


def broken_shape(random: Random, place: int) -> Case:
    """A shape that is known, with bytes lost, doubled or changed."""
    kind = random.choice([telegraf, device, change, lines_of_json])
    fields = [bytearray(text) for text in kind(random, place).fields]
    text = fields[1]
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(text))
        action = random.randrange(3)
        if action == 0:
            del text[at : at + random.randint(1, 9)]
        elif action == 1:
            text[at:at] = text[at : at + random.randint(1, 9)]
        else:
            text[at] = random.randrange(256)
        if not text:
            break
    return Case(list(map(bytes, fields)), anything=True)


def no_reading(random: Random, _: int) -> Case:
    texts = ["[]", "[ \n\t]", '{"value":[]}', '{"series":[],"ts":[],"value":[]}']
    return Case(body(random, random.choice(texts)))


# Random bytes


def random_fields(random: Random, _: int) -> Case:
    """No field is called ``value``, so the stream's own series lacks it."""
    pairs = [(b"?" + some_bytes(random), some_bytes(random)) for _ in range(random.randint(1, 6))]
    return bad(flat(*pairs))


def random_cells(random: Random, _: int) -> Case:
    pairs: list[tuple[bytes, bytes]] = [(b"series", b"s" + some_bytes(random, 6))]
    pairs.append((b"value", random.choice([some_bytes, like_a_number])(random)))
    if random.random() < 0.3:
        pairs.append((b"ts", random.choice([some_bytes, like_a_number])(random)))
    pairs += [random.choice(pairs)] if random.random() < 0.2 else []
    random.shuffle(pairs)
    return Case(flat(*pairs), either=True)


def random_json(random: Random, _: int) -> Case:
    return bad(body(random, random.choice([b"{", b"["]) + b"\0" + some_bytes(random)))


def flipped_json(random: Random, place: int) -> Case:
    """An object with one byte changed, but not so that no model serves its series."""
    text = bytearray(b'{"series":"s-1","value":%d}' % place)
    text[random.randrange(12, len(text))] = random.randrange(256)
    return Case([b"data", bytes(text)], either=True)


# Wrong in a known way


def wrong_value(random: Random, _: int) -> Case:
    texts = ["---", "abc", "nanna", "-nan", "inf", "-Infinity", "1e39", "-4e38", "1_0", "0x10"]
    texts += ["1,5", "\u0661", "1 2", "--1", "nul", "True", "{", "[", "{}x", "9" * 5000]
    texts += ["1e999999999"]
    return bad(flat(("series", name(random)), ("value", random.choice(texts))))


def wrong_time(random: Random, _: int) -> Case:
    texts = [
        "",
        "-1",
        "+1",
        "1_0",
        "1,5",
        "1e3",
        " 7",
        "\u0661",
        "now",
        "10000-01-01",
        "1969-12-31",
    ]
    texts += [str(LATEST + 1), "9" * 19, "9" * 20, "9" * 5000, "0001-01-01T00:00:00+23:59"]
    texts += ["9999-12-31T23:59:59.999-23:59", "2024-13-01", "2024-02-30", "NaN", "{}", "\0"]
    pairs = [("series", random.choice([name(random), "u-4"])), ("ts", random.choice(texts))]
    return bad(flat(*pairs, ("value", 1)))


def wrong_name(random: Random, _: int) -> Case:
    names = [
        b"",
        b"s" * 513,
        b"s" * 600,
        b"u" * 600,
        b"s\xff",
        b"\x80",
        b"s\xed\xa0\x80",
        b"\xc0\x80",
    ]
    return bad(flat(("series", random.choice(names)), ("value", 1)))


def wrong_json_cell(random: Random, _: int) -> Case:
    """A reading of which one cell has the wrong type or size."""
    anything: list[Any] = [None, True, [1], {}, {"a": 1}]
    wrong: dict[str, list[Any]] = {
        "series": [*anything, 1.5, "", "s" * 600, 1e300],
        "ts": [*anything, -1, LATEST + 1, 10**19, -1.5, 1e300, "", "x", "9" * 40, -(2**63)],
        "value": [True, {}, {"a": 1}, "1e39", "x", 1e39, -1e300, ["y"], [True], [{}], [[]]],
    }
    item = {"series": name(random), "ts": 1, "value": 1}
    cell = random.choice(list(item))
    changed = item | {cell: random.choice(wrong[cell])}
    return bad(json_body(random, changed))


def odd_json(random: Random, _: int) -> Case:
    numbers = ["NaN", "-Infinity", "Infinity", "1e999", "-1e999", "9" * 400, "01", "1.", ".5", "+1"]
    numbers += ["", "0x1", "1,", "'1'", "1 1", "\ufeff1", "1}", "nul", "tru", "\0"]
    text = '{"series":"s-1","value":%s}' % random.choice(numbers)  # noqa: UP031 - braces
    others = ["\ufeff" + '{"value":1}', "", " ", "5", "null", '"x"', "{", "[", "[{]}", "[1", "{}{}"]
    return bad([b"data", (text if random.random() < 0.7 else random.choice(others)).encode()])


def odd_json_that_is_one(random: Random, _: int) -> Case:
    """Keys that appear twice and integers beyond 64 bits."""
    texts = ['{"series":"s-1","value":1,"value":2}', '{"series":"u","series":"s-1","value":1}']
    texts += ['{"series":"s-1","value":[1],"value":3}', '{"value":' + "9" * 30 + "}"]
    texts += ['{"value":18446744073709551616}', '{"value":-9223372036854775809}', '{"value":-0}']
    texts += ['{"ts":18446744073709551616,"value":1}', '{"value":1e-999}', '{"ts":1e3,"value":1}']
    return Case(body(random, random.choice(texts)), either=True)


def surrogates(random: Random, place: int) -> Case:
    """Escaped surrogates: a pair is a character, a lone one is none."""
    high, low = random.randint(0xD800, 0xDBFF), random.randint(0xDC00, 0xDFFF)
    item = '{"series":"s%s","value":%s}'
    if random.random() < 0.3:
        pair = f"\\u{high:04x}\\u{low:04X}"
        series = "s" + chr(0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00)
        value = number(place)
        return Case(body(random, item % (pair, value)), ((series, FIRST + place, value),))
    if random.random() < 0.2:
        return bad(body(random, b'{"series":"s\xed\xa0\x80","value":1}'))
    lone = [f"\\u{high:04x}", f"\\u{low:04x}", f"\\u{low:04x}\\u{high:04x}", f"\\u{high:04x}x"]
    return bad(body(random, item % (random.choice(lone), 1)))


def unequal_columns(random: Random, _: int) -> Case:
    sizes = random.sample(range(1, 5), 3)
    document = {"series": ["s-1"] * sizes[0], "ts": [1] * sizes[1], "value": [1] * sizes[2]}
    if random.random() < 0.3:
        del document[random.choice(["series", "ts"])]
    return bad(json_body(random, document))


def mixed_items(random: Random, _: int) -> Case:
    """One item that is no reading: the whole entry is set aside."""
    items: list[Any] = [{"series": "s-1", "value": 1}] * random.randint(0, 3)
    items.append(random.choice([1, None, True, "x", [], [[]], 1.5, {"series": "", "value": 1}]))
    random.shuffle(items)
    return bad(json_body(random, items))


def mixed_cells(random: Random, place: int) -> Case:
    """Each cell of a column is judged by itself."""
    wrong: list[Any] = [True, "x", [], {}, 1e39, "---"]
    values: list[Any] = [random.choice(wrong), number(place), random.choice(wrong), place]
    series = name(random)
    names: list[Any] = [name(random), series, "u-5", 5]
    said = ((series, FIRST + place, number(place)),)
    document: object = {"series": names, "value": values}
    if random.random() < 0.5:
        document = [{"series": s, "value": v} for s, v in zip(names[:3], values[:3], strict=True)]
        return Case(json_body(random, document), said, letters=1, unserved=1)
    return Case(json_body(random, document), said, letters=1, unserved=2)


def nested(random: Random, _: int, *, depth: int = 0) -> Case:
    depth = depth or random.choice([2, 5, 100, 250, 260, 500, 900, 1020, 1030])
    arrays, objects = "[" * depth + "]" * depth, '{"value":' * depth + "1" + "}" * depth
    value = '{"series":"s-1","value":%s}'
    texts = [arrays, objects.replace("value", "a"), f"[{arrays}]", '[{"value":1},%s]' % arrays]  # noqa: UP031
    texts += [value % arrays, value % objects, '{"series":%s,"value":1}' % objects, "[" * depth]  # noqa: UP031
    return bad(body(random, random.choice(texts)))


# Huge ones, of which there are a few


def huge_value(_: Random, __: int) -> Case:
    return bad(flat(("series", "s-1"), ("value", "9" * MB)))


def huge_name(_: Random, __: int) -> Case:
    return bad(flat(("series", "s" * MB), ("value", 1)))


def huge_time(_: Random, __: int) -> Case:
    return bad(flat(("series", "s-1"), ("ts", "9" * MB), ("value", 1)))


def huge_field_name(random: Random, _: int) -> Case:
    return bad([b"?" + random.randbytes(MB), b""])


def huge_ignored_field(random: Random, place: int) -> Case:
    value = number(place)
    fields = flat(("value", value), ("other", random.randbytes(MB)))
    return Case(fields, ((STREAM, FIRST + place, value),))


def huge_json(random: Random, _: int) -> Case:
    texts = ['{"value":"%s"}' % ("\N{WATER WAVE}" * (MB // 4)), "[" + "9" * MB + "]"]
    return bad(body(random, random.choice([*texts, "[" + "{" * MB, '{"' + "\\u0000" * (MB // 6)])))


def huge_emptiness(random: Random, _: int) -> Case:
    return Case(body(random, "[" + " " * MB + "]"))


def thousands_of_items(random: Random, place: int) -> Case:
    """More readings than one commit holds."""
    size = 7000
    items = [{}, {"value": number(place)}, {"series": "u-6"}] * size
    said = ((STREAM, FIRST + place, number(place)),) * size
    return Case(json_body(random, items), said, letters=size, unserved=size)


def thousands_of_fields(random: Random, _: int) -> Case:
    fields = flat(*((f"f{i}", some_bytes(random, 8)) for i in range(10_000)))
    return bad([*fields, b"ts", random.choice([b"1", b"never"])])


def thousands_of_fields_and_a_reading(random: Random, place: int) -> Case:
    value = number(place)
    fields = flat(*((f"f{i}", some_bytes(random, 8)) for i in range(9_999)), ("value", value))
    return Case(fields, ((STREAM, FIRST + place, value),))


def thousands_of_keys(random: Random, place: int) -> Case:
    item = {f"k{i}": i for i in range(10_000)} | {"value": number(place)}
    return Case(json_body(random, item), ((STREAM, FIRST + place, number(place)),))


GOOD: list[Kind] = [flat_reading, json_reading, json_array, columns, name_of_all_planes]
GOOD += [flat_reading_with_more, longest_name, unserved, missing_value, no_reading]
GOOD += [telegraf, device, change, lines_of_json]
BAD: list[Kind] = [random_fields, random_cells, random_json, flipped_json, wrong_value, wrong_time]
BAD += [wrong_name, wrong_json_cell, odd_json, odd_json_that_is_one, surrogates, unequal_columns]
BAD += [mixed_items, mixed_cells, nested, broken_shape]
HUGE: list[Kind] = [huge_value, huge_name, huge_time, huge_field_name, huge_ignored_field]
HUGE += [huge_json, huge_emptiness, thousands_of_items, thousands_of_fields]
HUGE += [thousands_of_fields_and_a_reading, thousands_of_keys]
HUGE += [partial(nested, depth=depth) for depth in (10_000, 10_000, 10_000, 100_000)]


def cases(random: Random, many: int) -> list[Case]:
    """Entries of all kinds; runs of one layout too, which are decoded in bulk."""
    huge = HUGE * 3
    places = dict(zip(random.sample(range(many), len(huge)), huge, strict=True))
    made: list[Case] = []
    while len(made) < many:
        kind = places.get(len(made)) or random.choice(random.choice([GOOD, BAD]))
        made.append(kind(random, len(made)))
        run = random.randint(20, 60) if random.random() < 0.01 else 0
        for place in range(len(made), min(len(made) + run, many)):
            kind = places.get(place, flat_reading_of_one_layout)
            made.append(kind(random, place))
    return made


def cases_beyond_the_years(many: int) -> list[Case]:
    """Entries at the end, with ids beyond the year 9999, as ids in nanoseconds are."""
    pairs = [("series", "s-1"), ("value", "1")]
    return [
        bad(flat(*pairs)),
        Case(flat(*pairs, ("ts", 5)), (("s-1", 5, 1.0),)),
        bad([b"data", b'{"series":"s-1","value":1}']),
        *(Case(flat(*pairs, ("ts", at)), (("s-1", at, 1.0),)) for at in range(many)),
    ]


def entry_id(place: int) -> str:
    return f"{FIRST + place if place < MANY else 2**63 + place}-0"


def add(client: redis.Redis, made: list[Case]) -> dict[bytes, int]:
    """Put the entries on the stream; return their places by id."""
    pipe: Any = client.pipeline(transaction=False)
    for place, case in enumerate(made):
        pipe.execute_command("XADD", STREAM, entry_id(place), *case.fields)
        if len(pipe) == 500:
            pipe.execute()
    pipe.execute()
    return {entry_id(place).encode(): place for place in range(len(made))}


# The books


def all_of(client: redis.Redis, stream: str) -> Iterator[dict[bytes, bytes]]:
    first = "-"
    while entries := client.xrange(stream, min=first, count=2000):
        some: Any = entries
        yield from (fields for _, fields in some)
        first = f"({some[-1][0].decode()}"


def record(place: int, forecast: tuple[str, int, float], version: str) -> bytes:
    series, at, value = forecast
    said = {"series": series, "at": at, "step": None, "model": "mean", "version": version}
    said |= {"fleet": "default", "entry": entry_id(place), "forecast": {"value": [float(value)]}}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def check_forecasts(
    client: redis.Redis, made: list[Case], ids: dict[bytes, int], version: str
) -> Counter[int]:
    """Demand the right bytes in the right order; return how many forecasts each entry has."""
    found, exact, last = Counter[int](), [], 0
    for fields in all_of(client, f"{STREAM}:forecasts"):
        said = json.loads(fields[b"forecast"])
        place = ids[said["entry"].encode()]
        assert last <= place, "out of order"
        assert said["series"].encode() == fields[b"series"]
        assert all(map(math.isfinite, said["forecast"]["value"]))
        found[place] += 1
        last = place
        if not (made[place].either or made[place].anything):
            exact.append(fields[b"forecast"])
    wanted = [record(place, f, version) for place, case in enumerate(made) for f in case.forecasts]
    for one, other in zip(exact, wanted, strict=False):
        assert one == other
    assert len(exact) == len(wanted)
    return found


def check_letters(client: redis.Redis, ids: dict[bytes, int]) -> tuple[Counter[int], int]:
    """Return how many readings letters tell of by entry, and how many of these were decoded.

    Beyond a thousand of an entry, one letter tells of all the others.
    """
    found, decoded = Counter[int](), 0
    for fields in all_of(client, f"{STREAM}:dead"):
        assert set(fields) == {b"reason", b"entry", b"payload", b"fleet"}
        reason, payload = fields[b"reason"].decode(), fields[b"payload"]
        assert 0 < len(fields[b"reason"]) <= 512
        assert 0 < len(payload) <= 1024
        if not (len(payload) == 1024 and payload.endswith(b"...")):
            json.loads(payload)
        many = MORE.fullmatch(reason)
        readings, reason = (int(many[1]), many[2]) if many else (1, reason)
        found[ids[fields[b"entry"]]] += readings
        decoded += readings * reason.startswith("feature 'value' ")
    return found, decoded


def check_each(made: list[Case], forecasts: Counter[int], letters: Counter[int]) -> None:
    for place, case in enumerate(made):
        if case.anything:
            continue
        said = (forecasts[place], letters[place])
        wanted = (len(case.forecasts), case.letters)
        allowed = [(0, 1), (1, 0), (0, 0)] if case.either else [wanted]
        assert said in allowed, (said, allowed, place, str(case.fields)[:2000])


def work(tidecast: Run, model: Path) -> Counter[str]:
    """Let a worker read the stream to its end; return the counts of its summaries."""
    options = ("--models", model, "--input", STREAM, "--from", "earliest", "--burst")
    times = ("--time-unit", "ms", "--max-skew", "inf")
    result = tidecast("run", *options, *times, "--log-format", "json")
    assert result.returncode == 0, result.stderr[-4000:]
    lines = [json.loads(line) for line in result.stderr.split("\n") if line]
    assert not [line for line in lines if line["level"] not in ("info", "warning")]
    assert not [line for line in lines if "rebuilding" in line["message"]]
    counts = Counter[str]()
    for line in lines:
        counts.update({k: v for k, v in line.items() if "seconds" in line and isinstance(v, int)})
    return counts


def test_every_malformed_entry_is_accounted_for(
    client: redis.Redis, tidecast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDECAST_LONGEST_DEAD", "0")
    monkeypatch.setenv("TIDECAST_LONGEST_FORECASTS", "0")
    model = write_mean_model(tmp_path / "mean.onnx", name="mean", n_steps=1, series="s*")
    made = [*cases(Random(MANY), MANY), *cases_beyond_the_years(30)]
    ids = add(client, made)

    counts = work(tidecast, model)
    assert client.ping()
    stands: Any = client.get(f"{STREAM}:offset:default")
    assert stands == list(ids)[-1] + b" %d" % len(ids)
    forecasts = check_forecasts(client, made, ids, spec_in(model).version)
    letters, decoded = check_letters(client, ids)
    written = client.xlen(f"{STREAM}:dead")
    assert written < letters.total()
    check_each(made, forecasts, letters)

    assert counts["forecasts"] == forecasts.total()
    assert counts["rejects"] == letters.total()
    assert counts["unserved"] >= sum(case.unserved for case in made)
    assert counts["missing"] >= sum(case.missing for case in made) > MANY / 100
    gone = decoded + counts["unserved"] + counts["missing"]
    assert counts["readings"] == counts["forecasts"] + gone
    assert counts["evicted"] == counts["lost"] == 0
    assert min(forecasts.total(), letters.total(), counts["unserved"]) > MANY / 100

    assert work(tidecast, model)["readings"] == 0, "all of it stands, and is not read again"
    assert client.xlen(f"{STREAM}:forecasts") == forecasts.total()
    assert client.xlen(f"{STREAM}:dead") == written
