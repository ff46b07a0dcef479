"""Separators, headers, comments and lines before them, told by a file's head."""

from collections.abc import Sequence

import pytest

from tidecast.files.dialect import dialect_of, first_row_of_data, kind_of
from tidecast.files.errors import FileError
from tidecast.files.options import FileOptions

ROWS = [
    ("2024-03-01 00:00:00", "1.5"),
    ("2024-03-01 01:00:00", "2.5"),
    ("2024-03-01 02:00:00", "4"),
]


def text(separator: str, rows: Sequence[Sequence[str]] = ROWS, header: str = "time,temp") -> str:
    lines = [header.replace(",", separator), *(separator.join(row) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("separator", "told"),
    [
        (",", ()),
        (";", ("; between columns",)),
        ("\t", ("tabs between columns",)),
        ("|", ("| between columns",)),
    ],
)
def test_separators(separator: str, told: tuple[str, ...]) -> None:
    found = dialect_of(text(separator))
    assert (found.separator, found.names, found.told) == (separator, ("time", "temp"), told)
    assert found.lines == 1


def test_a_decimal_comma_is_no_separator() -> None:
    rows = [(time, number.replace(".", ",")) for time, number in ROWS]
    assert dialect_of(text(";", rows)).separator == ";"


def test_blanks_between_columns() -> None:
    found = dialect_of("date clock temp\n2024-03-01 00:00 1.5\n2024-03-01 01:00 2.5\n")
    assert (found.separator, found.names) == (" ", ("date", "clock", "temp"))


def test_a_separator_that_is_told() -> None:
    assert dialect_of("a:b\n1:2\n3:4\n", FileOptions(separator=":")).names == ("a", "b")


def test_a_file_of_one_column() -> None:
    assert dialect_of("temp\n1\n2\n").names == ("temp",)


def test_names_lose_the_blanks_around_them() -> None:
    assert dialect_of('time, temp ," x "\n0,1,2\n1,2,3\n').names == ("time", "temp", "x")


def test_comments_are_no_rows() -> None:
    found = dialect_of("#group,false\n# made by hand\ntime,temp\n0,1\n# here\n1,2\n")
    assert (found.names, found.lines, found.comments) == (("time", "temp"), 3, True)


def test_a_header_that_is_a_comment_is_told() -> None:
    found = dialect_of("# made by hand\n# time,temp\n2024-03-01,1\n2024-03-02,2\n")
    assert (found.names, found.lines) == (("time", "temp"), 2)
    assert found.told == ("the header of line 2, a comment",)


def test_without_a_header_the_remedy_is_told() -> None:
    lines = "".join(",".join(row) + "\n" for row in ROWS)
    with pytest.raises(
        FileError, match=r"\(2024-03-01 00:00:00,1.5\): it has no .* --columns time"
    ):
        dialect_of(lines)
    found = dialect_of(lines, FileOptions(columns=("time", "temp")))
    assert (found.names, found.lines) == (("time", "temp"), 0)


def test_names_that_are_told_stand_for_a_header() -> None:
    found = dialect_of(text(","), FileOptions(columns=("a", "b")))
    assert (found.names, found.lines) == (("a", "b"), 1)
    assert found.told == ("line 1 ('time temp') left out",)


def test_lines_before_the_header_are_named_with_the_remedy() -> None:
    lines = "Logger 3\nSite,cellar\n\n" + text(",")
    with pytest.raises(FileError, match=r"^line 1, 'Logger 3', stands before .* --skip-lines 3 "):
        dialect_of(lines)
    with pytest.raises(FileError, match=r"^line 1, 'Logger 3', stands before .* --skip-lines 3 "):
        dialect_of(lines, FileOptions(skip_lines=0))  # rows are wider than that
    found = dialect_of(lines, FileOptions(skip_lines=3))
    assert (found.names, found.lines) == (("time", "temp"), 4)


def test_columns_without_names() -> None:
    found = dialect_of(",time,temp\n0,2024-03-01,1,\n1,2024-03-02,2,\n")
    assert found.names == ("column 1", "time", "temp", "column 4")
    assert found.nameless == {"column 1", "column 4"}
    assert found.beyond == {"column 4"}


def test_names_that_come_twice() -> None:
    assert dialect_of("t,a,a,a\n0,1,2,3\n1,2,3,4\n").names == (
        "t",
        "a",
        "a (twice, 2)",
        "a (twice, 3)",
    )


@pytest.mark.parametrize("head", ["\n\n", "# nothing\n"])
def test_nothing_is_said(head: str) -> None:
    with pytest.raises(FileError, match="no rows"):
        dialect_of(head)


def test_numbers_as_names_are_a_header_above_times() -> None:
    rows = [["time", "1", "2"], ["2024-03-01", "5", "6"], ["2024-03-02", "7", "8"]]
    assert first_row_of_data(rows) == 1


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("", ""), ("-", ""), ("NaN", ""), ("1.5", "number"), ("1.234,5", "number"),
        ("-1e-9", "number"),
        ("1 234", "number"), ("2024-03-01", "time"), ("1/3/24 5:00 PM", "time"), ("13:30", "time"),
        ("01.03.2024 00:00", "time"), ("warm", "text"), ("1.5 kW", "text"),
    ],
)  # fmt: skip
def test_kinds(cell: str, kind: str) -> None:
    assert kind_of(cell) == kind
