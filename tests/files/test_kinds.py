"""One record, written as people write theirs: read as the same rows, or refused with the remedy."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xlsxwriter
import zstandard

from tidecast.files.errors import FileError
from tidecast.files.layout import Rows, rows_of
from tidecast.files.options import FileOptions
from tidecast.files.table import read_table

MOMENTS = [datetime(2024, 1, 20, tzinfo=UTC) + timedelta(hours=hour) for hour in range(60)]
VALUES = [round(1500 + 700 * np.sin(hour / 4) + hour / 8, 2) for hour in range(60)]
ISO = [moment.strftime("%Y-%m-%dT%H:%M:%S") for moment in MOMENTS]
Cells = list[tuple[str, ...]]
PLAIN = [(at, f"{value:.2f}") for at, value in zip(ISO, VALUES, strict=True)]


def lines(rows: Any = PLAIN, header: str = "time,power", separator: str = ",") -> str:
    """The text of a file."""
    return "\n".join([header, *(separator.join(row) for row in rows)]) + "\n"


def read(path: Path, content: str | bytes, **options: Any) -> Rows:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return rows_of(read_table(path, FileOptions(**options), ["power"]), ["power"])


def check(rows: Rows, values: list[float] = VALUES) -> None:
    """The rows are those of the record."""
    assert rows.times is not None
    order = np.argsort(rows.times.to_numpy(), kind="stable")
    assert [rows.times[int(row)] for row in order] == [int(m.timestamp() * 1000) for m in MOMENTS]
    found = rows.table.frame["power"].cast(pl.Float64).to_numpy()[order]
    np.testing.assert_array_equal(found, values)


def comma(value: float) -> str:
    return f"{value:.2f}".replace(".", ",")


def thousands(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def zipped(files: dict[str, str]) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


ROWS = list(zip(MOMENTS, PLAIN, strict=True))
DATED = [m.strftime("%d.%m.%Y %H:%M") for m in MOMENTS]
KINDS: dict[str, tuple[str | bytes, str]] = {
    "plain": (lines(), ""),
    "semicolons": (lines([(a, b) for a, b in PLAIN], "time;power", ";"), "; between columns"),
    "tabs": (lines(PLAIN, "time\tpower", "\t"), "tabs between columns"),
    "decimal commas": (
        lines([(a, comma(v)) for a, v in zip(ISO, VALUES, strict=True)], "time;power", ";"),
        "decimal comma",
    ),
    "quoted decimal commas": (
        lines([(a, f'"{comma(v)}"') for a, v in zip(ISO, VALUES, strict=True)]),
        "decimal comma",
    ),
    "thousands": (
        lines([(a, thousands(v)) for a, v in zip(ISO, VALUES, strict=True)], "time;power", ";"),
        "decimal comma",
    ),
    "blanks behind commas": (lines([(a, f" {b}") for a, b in PLAIN], "time, power"), ""),
    "quotes behind blanks": (lines([(a, f' "{b}"') for a, b in PLAIN], 'time, "power"'), ""),
    "CR LF and a mark": (("\ufeff" + lines()).replace("\n", "\r\n").encode(), ""),
    "UTF-16": (lines().encode("utf-16"), "utf-16"),
    "Windows-1252": (lines(PLAIN, "time,power,W\u00e4rme").encode("cp1252"), "cp1252"),
    "gzip": (gzip.compress(lines().encode()), "gzip"),
    "zstd": (zstandard.compress(lines().encode()), "zstd"),
    "bzip2": (bz2.compress(lines().encode()), "bzip2"),
    "xz": (lzma.compress(lines().encode()), "xz"),
    "comments": ("# logger 3\n#a,b\n" + lines().replace("\n2024-01-21", "\n#b\n2024-01-21", 1), ""),
    "an empty first column": (lines([("", a, b) for a, b in PLAIN], ",time,power"), ""),
    "a separator too many": (lines([(a, b, "") for a, b in PLAIN]), ""),
    "blank lines": (lines().replace("\n2024-01-21", "\n\n  \n2024-01-21", 1), ""),
    "quoted cells": (lines([(f'"{a}"', f'"{b}"') for a, b in PLAIN], '"time","power"'), ""),
    "another name of the time": (lines(PLAIN, "Zeitpunkt,power"), "times in Zeitpunkt"),
    "newest first": (lines(PLAIN[::-1]), "rows sorted by time"),
    "days first": (
        lines([(a, b) for a, (_, b) in zip(DATED, PLAIN, strict=True)]),
        "'20.01.2024 00:00' is 20 January 2024 (%d.%m.%Y %H:%M)",
    ),
    "months first": (
        lines([(m.strftime("%m/%d/%Y %I:%M %p"), b) for m, (_, b) in ROWS]),
        "'01/20/2024 12:00 AM' is 20 January 2024",
    ),
    "date and time apart": (
        lines([(*a.split("T"), b) for a, b in PLAIN], "date,time,power"),
        "times in date and time",
    ),
    "seconds": (
        lines([(f"{m.timestamp():.0f}", b) for m, (_, b) in ROWS]),
        "seconds since 1970",
    ),
    "seconds with a fraction": (
        lines([(f"{m.timestamp():.3f}", b) for m, (_, b) in ROWS]),
        "seconds since 1970",
    ),
    "a name of several words": (lines(PLAIN, "an hour's end,power"), "times in an hour's end"),
    "seconds in a column of any name, newest first": (
        lines([(f"{m.timestamp():.0f}", b) for m, (_, b) in ROWS[::-1]], "epoch,power"),
        "times in epoch",
    ),
    "dates without hyphens and times of day": (
        lines([(*m.strftime("%Y%m%d %H:%M").split(), b) for m, (_, b) in ROWS], "Tag,von,power"),
        "times in Tag and von",
    ),
    "dates and hours without hyphens": (
        lines([(m.strftime("%Y%m%d%H"), b) for m, (_, b) in ROWS]),
        "'2024012000' is 20 January 2024 (%Y%m%d%H)",
    ),
    "a usual name of other numbers": (
        lines([(a, str(n % 3), b) for n, (a, b) in enumerate(PLAIN)], "Zeitpunkt,ts,power"),
        "times in Zeitpunkt",
    ),
    "annotations": (
        "#datatype,string,dateTime:RFC3339,dateTime:RFC3339,double\n"
        + lines([("", f"{ISO[0]}Z", f"{a}Z", b) for a, b in PLAIN], ",_start,_time,power"),
        "times in _time",
    ),
    "JSON lines": (
        "".join(json.dumps({"time": a, "power": float(b)}) + "\n" for a, b in PLAIN),
        "",
    ),
    "a JSON document": (
        json.dumps({"rows": [{"time": a, "power": float(b)} for a, b in PLAIN]}, indent=1),
        "the rows in 'rows'",
    ),
    "a JSON document of columns": (
        json.dumps({"hourly": {"time": ISO, "power": VALUES}, "units": {"power": "W"}}),
        "the rows in 'hourly'",
    ),
    "zip": (zipped({"x.csv": lines()}), "zip"),
    "lines that end as on old Macs": (lines().replace("\n", "\r"), ""),
    "lines that end so, in another encoding": (
        lines(PLAIN, "time,power,W\u00e4rme").replace("\n", "\r").encode("cp1252"),
        "cp1252",
    ),
    "a first line that names the separator": ("sep=;\n" + lines(PLAIN, "time;power", ";"), ""),
    "units below the header": (lines([("", "kW"), *PLAIN]), "line 2 ('kW') left out"),
    "a header in the middle": (
        lines([*PLAIN[:9], ("time", "power"), *PLAIN[9:]]),
        "the header again in 1 rows, left out",
    ),
    "a unit in each cell": (lines([(a, f"{b} kW") for a, b in PLAIN]), "power in kW"),
    "a currency in each cell": (
        lines([(a, f'"${v:,.2f}"') for a, v in zip(ISO, VALUES, strict=True)]),
        "power in $; commas between thousands",
    ),
    "parts of times": (
        lines(
            [(str(m.year), str(m.month), str(m.day), str(m.hour), b) for m, (_, b) in ROWS],
            "year,month,day,hour,power",
        ),
        "times in year, month, day and hour",
    ),
    "times of day with dots": (
        lines([(*m.strftime("%d/%m/%Y %H.%M.%S").split(), b) for m, (_, b) in ROWS], "D,T,power"),
        "times in D and T",
    ),
    "dates and hours": (
        lines([(a[:10], str(m.hour), b) for m, (a, b) in ROWS], "date,Hour,power"),
        "times in date and Hour",
    ),
    "dates and hours by their ends": (
        lines([(m.strftime("%d.%m.%Y"), str(m.hour + 1), b) for m, (_, b) in ROWS], "day,hr,power"),
        "hours 1 to 24 in hr are taken by their beginnings",
    ),
    "a JSON array": (json.dumps([{"time": a, "power": float(b)} for a, b in PLAIN]), ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_record(kind: str, tmp_path: Path) -> None:
    content, told = KINDS[kind]
    rows = read(tmp_path / "x.csv", content)
    check(rows)
    assert told in "; ".join(rows.told)


def workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    """Write an Excel file; dates are dates in it."""
    with xlsxwriter.Workbook(path, {"default_date_format": "dd.mm.yyyy hh:mm"}) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return path


SHEET = [
    ["time", "power"],
    *([m.replace(tzinfo=None), v] for m, v in zip(MOMENTS, VALUES, strict=True)),
]


@pytest.mark.parametrize(
    ("sheets", "options", "told"),
    [
        ({"a": SHEET}, {}, ""),
        ({"about": [["made by"]], "a": SHEET}, {}, "sheet 'a'"),
        ({"a": SHEET, "b": SHEET}, {"sheet": "b"}, "sheet 'b'"),
        ({"a": [["Logger 3"], [], *SHEET]}, {"skip_lines": 2}, ""),
        ({"a": [["time", "power", None], *SHEET[1:]]}, {}, ""),
        (
            {"a": [SHEET[0], *([d, str(b)] for d, b in zip(DATED, VALUES, strict=True))]},
            {},
            "is 20 January",
        ),
    ],
)
def test_excel(
    tmp_path: Path, sheets: dict[str, list[list[Any]]], options: dict[str, Any], told: str
) -> None:
    path = workbook(tmp_path / "x.xlsx", sheets)
    rows = rows_of(read_table(path, FileOptions(**options), ["power"]), ["power"])
    check(rows)
    assert told in "; ".join(rows.told)


@pytest.mark.parametrize(
    ("sheets", "options", "told"),
    [
        ({"a": SHEET, "b": SHEET}, {}, "several sheets have rows, a, b; say --sheet"),
        ({"a": SHEET}, {"sheet": "c"}, "no sheet 'c' with rows; there are a"),
        ({"a": [["Logger 3"], *SHEET]}, {}, "beside 'Logger 3'; do lines stand .*--skip-lines"),
        ({"a": [["time", "power"]]}, {}, "no rows"),
    ],
)
def test_a_workbook_that_may_mean_two_things_is_refused(
    tmp_path: Path, sheets: dict[str, list[list[Any]]], options: dict[str, Any], told: str
) -> None:
    path = workbook(tmp_path / "x.xlsx", sheets)
    with pytest.raises(FileError, match=told):
        read_table(path, FileOptions(**options))


def test_parquet_with_types(tmp_path: Path) -> None:
    frame = pl.DataFrame({"time": MOMENTS, "power": VALUES})
    frame.write_parquet(tmp_path / "x.parquet")
    check(rows_of(read_table(tmp_path / "x.parquet"), ["power"]))


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "no header": (lines().split("\n", 1)[1], "the first row holds numbers .* --columns time,value"),
    "a preamble": ("Logger 3\nSite,cellar\n\n" + lines(), "'Logger 3', stands .*--skip-lines 3"),
    "two lines of names": (
        lines([("UTC", "kW"), *PLAIN]),
        r"line 1 \('time power'\) and line 2 \('UTC kW'\) may both .*--skip-lines 0 .*-lines 1",
    ),
    "an archive of several files": (zipped({"a": "", "b": ""}), r"of 2 files \(a, b\)"),
    "a broken archive": (b"PK\x03\x04 and more", "cannot be read"),
    "a document of several tables": (
        json.dumps({"a": [{"x": 1}], "b": [{"x": 1}]}),
        "several tables \\('a', 'b'\\)",
    ),
    "a broken document": ('{"a": [', "no JSON that can be read"),
    "numbers of rows": (
        lines([(str(n), b) for n, (_, b) in enumerate(PLAIN)]),
        "--time-column none",
    ),
    "a footer": (lines() + "Total,99\n", "'Total' is no time .* --skip-footer 1 leaves them out"),
    "dates of two kinds": (
        lines([*PLAIN[:9], ("21.01.2024 09:00", "1")]),
        "data row 10: '21.01.2024 09:00' is no time as '2024-01-20T00:00:00' of data row 1 is",
    ),
    "1 March or 3 January": (
        lines([(f"0{d}/03/2024", "1") for d in range(1, 9)]),
        "may be 1 March 2024 or 3 January 2024",
    ),
    "a thousand or one and a bit": (
        lines([(a, '"1,234"') for a, _ in PLAIN]),
        "column 'power': '1,234' may be 1234 or 1.234",
    ),
    "two columns of times": (
        lines([(a, a, b) for a, b in PLAIN], "begin,end,power"),
        "'begin', 'end' hold times; say which .* --time-column 'begin'",
    ),
    "cells too many": (
        lines([*PLAIN[:9], ("0", "1", "2", "3")]),
        "line 11: 4 cells .* 2 columns have names",
    ),
    "rows longer than the header": (
        lines([(a, b, "7") for a, b in PLAIN]),
        "rows have 3 cells, and the header names 2 columns; --columns names",
    ),
    "another encoding": (
        lines(PLAIN, "time,power,\u0412\u0440\u0435\u043c\u044f \u0441").encode("cp1251"),
        "not UTF-8; it looks like .*: --encoding",
    ),
    "broken text": (lines().encode() + b"2024-02-01T00:00:00,\x81\x8d\n", "--encoding"),
    "times of day alone": (lines([(a[11:], b) for a, b in PLAIN]), "without their dates; name"),
    "times of a form that is not known": (
        lines([(f"{d}. M\u00e4rz 2024", "1") for d in range(1, 30)], "Datum,power"),
        "no column of times is seen, but 'Datum' holds '1. M\u00e4rz 2024' .* --time-column none",
    ),
    "footers of a short file": (
        lines([*PLAIN[:10], ("Sum", "9"), ("Mean", "1")], "Datum,power"),
        "'Sum' is no time .* --skip-footer 2",
    ),
    "points between thousands, or decimal ones": (
        lines([(a, f"{990 + n}" if n < 10 else f"1.{n:03}") for n, a in enumerate(ISO)]),
        "'1.010' may be 1010 or 1.010: say --decimal , for the first",
    ),
    "a point beside another column's comma": (
        lines([(a, f"19,{n}", f"1.{100 + n}") for n, a in enumerate(ISO)], "time;t;power", ";"),
        "'1.100' may be 1100 or 1.100",
    ),
    "days of a spreadsheet": (
        lines([(str(45352 + n + n // 5 * 2), "1") for n in range(30)]),
        "'45352' may be 1 March 2024, as spreadsheets count days, or milliseconds",
    ),
    "two columns of times of day": (
        lines([(a[:10], a[11:16], "23:59", b) for a, b in PLAIN], "date,from,to,power"),
        "'date', 'from', 'to' hold dates and times of day; say which",
    ),
    "empty quotes": ('""', "no rows"),
    "separators alone": (",,\n,,\n", "no rows"),
    "nothing": ("", "an empty file"),
    "a header alone": ("time,power\n", "no rows"),
    "no such column": (lines(PLAIN, "time,powr"), "no column 'power'; the file has time, powr"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 9, "x.csv: "),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_may_be_two_things_is_refused(kind: str, tmp_path: Path) -> None:
    content, told = REFUSED[kind]
    with pytest.raises(FileError, match=told) as error:
        read(tmp_path / "x.csv", content)
    assert "\n" not in str(error.value)


SETTLED: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "no header": (lines().split("\n", 1)[1], {"columns": ("time", "power")}),
    "a preamble": ("Logger 3\nSite,cellar\n\n" + lines(), {"skip_lines": 3}),
    "units below names": (lines([("UTC", "kW"), *PLAIN]), {"skip_lines": 0}),
    "a preamble and units": ("x\n" + lines([("s", "kW"), *PLAIN]), {"skip_lines": 1}),
    "parts of times, named": (
        lines(
            [(str(m.year), str(m.month), str(m.day), str(m.hour), b) for m, (_, b) in ROWS],
            "a,b,c,d,power",
        ),
        {"time_column": "a,b,c,d"},
    ),
    "a footer": (lines() + "Total,99\n\n", {"skip_footer": 1}),
    "two columns of times": (
        lines([(a, b[::-1], b) for a, b in PLAIN], "begin,ts,power"),
        {"time_column": "begin"},
    ),
    "date and time, named": (
        lines([(*a.split("T"), b) for a, b in PLAIN], "a day,an hour,power"),
        {"time_column": "a day, an hour"},
    ),
    "another name": (lines(PLAIN, 'time,"Power, kW"'), {"rename": (("Power, kW", "power"),)}),
    "an encoding": (lines(PLAIN, "time,power,\u0412").encode("cp1251"), {"encoding": "cp1251"}),
    "a separator": (lines(PLAIN, "time~power", "~"), {"separator": "~"}),
    "a form": (
        lines([(m.strftime("%Y%j%H%M"), b) for m, (_, b) in ROWS]),
        {"time_format": "%Y%j%H%M"},
    ),
}


@pytest.mark.parametrize("kind", SETTLED)
def test_an_option_settles_it(kind: str, tmp_path: Path) -> None:
    content, options = SETTLED[kind]
    check(read(tmp_path / "x.csv", content, **options))


def test_an_option_that_is_wrong_is_said(tmp_path: Path) -> None:
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: read(tmp_path / "x.csv", lines(), time_column="when"), "no column 'when'"),
        (lambda: read(tmp_path / "x.csv", lines(), series_column="site"), "no column 'site'"),
        (lambda: read(tmp_path / "x.csv", lines(), rename=(("a", "b"),)), "no column 'a'"),
        (
            lambda: read(tmp_path / "x.csv", lines(), rename=(("power", "load"),)),
            "--name-feature calls 'power' 'load'; say that",
        ),
        (
            lambda: read(tmp_path / "x.csv", lines(), rename=(("time", "power"),)),
            "two columns would",
        ),
        (lambda: read(tmp_path / "x.csv", lines(), encoding="utf-99"), "no such encoding"),
        (lambda: read(tmp_path / "x.csv", "\u00e9" + lines(), encoding="ascii"), "is no ascii"),
    ]
    for call, told in wrong:
        with pytest.raises(FileError, match=told):
            call()


def test_long_form_names_its_series(tmp_path: Path) -> None:
    rows = [(f"room {n}", *row) for row in PLAIN[:3] for n in (1, 2)]
    found = read(tmp_path / "x.csv", lines(rows, "id,time,power"), series_column="id")
    assert found.series.to_list() == ["room 1", "room 2"] * 3


def test_a_series_may_be_called_na_and_none_may_be_nameless(tmp_path: Path) -> None:
    rows = [("NA", *PLAIN[0]), ("-", *PLAIN[0])]
    found = read(tmp_path / "x.csv", lines(rows, "id,time,power"), series_column="id")
    assert found.series.to_list() == ["NA", "-"]
    with pytest.raises(FileError, match="data row 3: no series is named there"):
        read(
            tmp_path / "x.csv", lines([*rows, ("", *PLAIN[1])], "id,time,power"), series_column="id"
        )


def test_a_row_for_each_series(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('"V1","V2","V3","V4"\n"H1",1,2,3\n"H2",4,NA,\n"H3",5,NA,6\n')
    rows = rows_of(read_table(path), ["value"])
    assert rows.series.to_list() == ["H1", "H1", "H1", "H2", "H3", "H3", "H3"]
    assert rows.table.frame["value"].to_list() == ["1", "2", "3", "4", "5", None, "6"]
    assert rows.times is None
    assert "each row is a series, named in V1, with its values in value" in rows.told


def test_a_row_for_each_series_with_times_above(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("site,2024-01-01,2024-01-02\na,1,2\nb,3,4\n")
    rows = rows_of(read_table(path), ["value"])
    assert rows.times is not None
    assert rows.times.to_list() == [1704067200000, 1704153600000] * 2


def test_hours_that_were_worked_are_no_times_of_day(tmp_path: Path) -> None:
    rows = [(f"2024-03-{1 + n // 3:02}", str(n * 7 % 11), str(n)) for n in range(60)]
    found = read(tmp_path / "x.csv", lines(rows, "date,hour,power"))
    assert found.time_columns == ("date",)


def test_missing_markers_that_are_told(tmp_path: Path) -> None:
    rows = [(a, "-999" if n == 5 else b) for n, (a, b) in enumerate(PLAIN)]
    found = read(tmp_path / "x.csv", lines(rows), missing=("-999",))
    assert found.table.frame["power"].null_count() == 1


def test_a_marker_is_a_hole_where_there_are_no_times(tmp_path: Path) -> None:
    found = read(tmp_path / "x.csv", "power\n0\n1\nNA\n\n4\n")
    assert found.table.frame["power"].to_list() == ["0", "1", None, "4"]


def test_a_name_may_begin_with_the_mark_of_comments(tmp_path: Path) -> None:
    rows = [(name, *row) for row in PLAIN[:9] for name in ("#1", "A2")]
    text = lines(rows, "sensor,time,power")
    found = read(tmp_path / "x.csv", text, series_column="sensor")
    assert found.series.to_list() == ["#1", "A2"] * 9


def test_numbers_beside_each_other_are_no_series(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("V1,V2,V3\n230,231,229\n231,232,230\n")
    assert rows_of(read_table(path), ["V2"]).table.frame["V2"].to_list() == ["231", "232"]


@pytest.mark.parametrize(
    "odd",
    [
        pl.Series(["a", "b"] * 4).cast(pl.Categorical),
        pl.Series([b"x"] * 8),
        pl.Series([timedelta(1)] * 8),
        pl.Series([[1]] * 8),
    ],
    ids=["categories", "bytes", "durations", "lists"],
)
def test_columns_of_other_types_are_in_nobodys_way(tmp_path: Path, odd: pl.Series) -> None:
    frame = pl.DataFrame({"time": MOMENTS[:8], "power": VALUES[:8], "odd": odd})
    frame.write_parquet(tmp_path / "x.parquet")
    found = rows_of(read_table(tmp_path / "x.parquet"), None)
    assert found.as_text()["power"].len() == 8


def test_numbers_of_another_mark_than_was_told_are_refused(tmp_path: Path) -> None:
    text = "time;power\n2024-03-01;19.1\n2024-03-02;19,1\n"
    with pytest.raises(FileError, match=r"'19.1' has no decimal comma, as others"):
        read(tmp_path / "x.csv", text, decimal=",")
