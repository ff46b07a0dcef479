"""InfluxDB's line protocol, by the examples of its reference and by lines that are none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidecast.worker.pipeline.cells import UnreadableError
from tidecast.worker.pipeline.line_protocol import is_lines, lines_of, point_of


def point(name: str, tags: dict[str, str], fields: dict[str, Any], time: int | None) -> object:
    at = {} if time is None else {"timestamp": time}
    return {"name": name, "tags": tags, "fields": fields, **at}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("w temp=1", point("w", {}, {"temp": 1.0}, None)),
        ("w,a=b,c=d t=-15e3,n=7i 1", point("w", {"a": "b", "c": "d"}, {"t": -15e3, "n": 7}, 1)),
        ("w t=t,f=F,n=False", point("w", {}, {"t": True, "f": False, "n": False}, None)),
        ("w u=18446744073709551615u -5", point("w", {}, {"u": 2**64 - 1}, -5)),
        (r"w\ x\,y=z,a\ b=c\=d\,e f\ g=1", point("w x,y=z", {"a b": "c=d,e"}, {"f g": 1.0}, None)),
        (r'w s="a, b = \"c\" \\ d",t=1 9', point("w", {}, {"s": 'a, b = "c" \\ d', "t": 1.0}, 9)),
        ('w s="two\nlines",t=1', point("w", {}, {"s": "two\nlines", "t": 1.0}, None)),
        ("w,a=b  temp=1   17 ", point("w", {"a": "b"}, {"temp": 1.0}, 17)),
        (r"w\z,a=b\z temp=1", point("w\\z", {"a": "b\\z"}, {"temp": 1.0}, None)),
        ("größe,ort=Köln wert=1", point("größe", {"ort": "Köln"}, {"wert": 1.0}, None)),
        ("w temp=1,temp=2", point("w", {}, {"temp": 2.0}, None)),
    ],
)  # fmt: skip
def test_lines(line: str, expected: object) -> None:
    assert is_lines(line.encode())
    assert list(lines_of(line.encode())) == [line.strip().encode()]
    assert point_of(line.encode()) == expected


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("w", "''"),
        ("w ", "''"),
        ("w,a temp=1", "',a temp=1'"),
        ("w,a= temp=1", "',a= temp=1'"),
        ("w temp", "'temp'"),
        ("w temp=", "'temp='"),
        ("w temp=1,", "''"),
        ("w temp=1,x", "'x'"),
        ("w temp=1_0", "'temp=1_0'"),
        ("w temp=nan", "'temp=nan'"),
        ("w temp=inf", "'temp=inf'"),
        ("w temp=0x1", "'temp=0x1'"),
        ("w temp=1 2 3", "'2 3'"),
        ("w temp=1 2.5", "'2.5'"),
        ('w s="x', "'s=\"x'"),
        ("w temp=\u0661", "'temp=\u0661'"),
        ("w temp=1 " + "9" * 21, "'999"),
        (",a=b temp=1", "',a=b temp=1'"),
    ],
)
def test_what_is_no_line_says_from_where_on(line: str, rest: str) -> None:
    with pytest.raises(UnreadableError) as error:
        point_of(line.encode())
    assert f"not line protocol from {rest}" in str(error.value)


def test_lines_of_a_text() -> None:
    text = b'\n# 5" x\nw a=1\r\n\n  v b="1\n2" 5\n#w c=1\nu d="\\"" 6'
    assert list(lines_of(text)) == [b"w a=1", b'v b="1\n2" 5', b'u d="\\"" 6']


@pytest.mark.parametrize(
    "text",
    [
        "",
        "71.3",
        "-",
        "nan",
        "hot",
        "a b",
        "a=b",
        "a, b=c",
        '{"a":1}',
        "[1]",
        '"a b=c"',
        "x y =1",
        "1",
    ],
)
def test_other_texts_are_no_lines(text: str) -> None:
    assert not is_lines(text.encode())


@pytest.mark.parametrize(
    "piece", ["a", "\\", "\\ ", "a,", ",a=b", "a=b ", " ", '"', "a=", "#\n", "# \n"]
)
def test_looking_at_a_long_text_takes_no_time_to_speak_of(piece: str) -> None:
    """Each is 200,000 characters, which a pattern that tries all ways to read them never ends."""
    text = (piece * (200_000 // len(piece))).encode()
    for some in (text, b"w " + text, b"w,a=b " + text, b'w a="' + text):
        is_lines(some)
        for line in lines_of(some):
            try:
                point_of(line)
            except UnreadableError:
                continue


words = st.text(st.sampled_from('ab ,=\\"é#'), min_size=1, max_size=6)


def escaped(word: str, marks: str) -> str:
    return "".join("\\" + c if c in marks else c for c in word)


@given(words, st.dictionaries(words, words, max_size=3), words, st.integers(0, 10**19))
def test_what_is_written_is_read(name: str, tags: dict[str, str], key: str, time: int) -> None:
    """Names that end in a backslash, or begin like a comment, cannot be written at all."""
    said = [name, key, *tags, *tags.values()]
    if any("\\" in word for word in said) or name.startswith(("#", '"')) or key.startswith('"'):
        return
    if name != name.strip():
        return
    line = escaped(name, ", ")
    line += "".join(f",{escaped(k, ',= ')}={escaped(v, ',= ')}" for k, v in tags.items())
    line += f" {escaped(key, ',= ')}=1.5 {time}"
    assert point_of(line.encode()) == point(name, tags, {key: 1.5}, time)
