"""``feed`` of files as people have them, and of standard input: what lies on the stream then."""

import gzip
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import polars as pl
import pytest
import redis

from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.waiting import wait_for

ROWS = ["2024-01-01T00:00:00,1.5", "2024-01-01T01:00:00,2.5", "2024-01-01T02:00:00,4"]
CSV = "time,value\n" + "\n".join(ROWS) + "\n"
FED = [("1704067200000", "1.5"), ("1704070800000", "2.5"), ("1704074400000", "4")]


def fed(client: redis.Redis, series: str = "boiler") -> list[tuple[str, str]]:
    """Times and values of all readings on the stream, which are of one series."""
    entries: Any = client.xrange("readings")
    assert {fields[b"series"].decode() for _, fields in entries} == {series}
    return [(fields[b"ts"].decode(), fields[b"value"].decode()) for _, fields in entries]


def written(path: Path) -> Path:
    """The rows in a file, of the kind that its name says."""
    if path.suffix == ".parquet":
        frame = pl.read_csv(CSV.encode(), try_parse_dates=True)
        frame.with_columns(note=pl.lit(None, pl.String)).write_parquet(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(CSV.encode()))
    else:
        path.write_text(CSV)
    return path


@pytest.mark.parametrize("name", ["boiler.csv", "boiler.csv.gz", "boiler.parquet"])
def test_a_file_is_fed_by_its_kind_and_its_name(
    client: redis.Redis, tidecast: Run, tmp_path: Path, name: str
) -> None:
    result = tidecast("feed", written(tmp_path / name), "--rate", "max")
    assert result.returncode == 0, result.stderr
    read, sent = result.stderr.splitlines()
    span = "times in time, 2024-01-01 00:00 to 2024-01-01 02:00 UTC"
    assert re.fullmatch(rf".*{name}: read 3 rows;( gzip;)? {span}", read)
    assert sent == "sent 3 readings to readings"
    assert [(time, float(value)) for time, value in fed(client)] == [
        (time, float(value)) for time, value in FED
    ]


def test_a_hole_in_one_column_is_said_to_be_one_and_costs_no_letter(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    """A model that reads that column alone has a hole there, and no reading that it refuses."""
    path = tmp_path / "x.csv"
    rows = [f"2024-01-01T{hour:02}:00,{'' if hour == 5 else hour},7," for hour in range(12)]
    path.write_text("\n".join(["time,a,b,void", *rows]) + "\n")
    assert tidecast("feed", path, "--rate", "max").returncode == 0
    entries: Any = client.xrange("readings")
    assert [fields[b"a"] for _, fields in entries][4:7] == [b"4", b"", b"6"]
    assert all(set(fields) == {b"series", b"ts", b"a", b"b"} for _, fields in entries)
    steps: Any = {"n_steps": 3, "step_seconds": 3600.0, "gaps": "linear", "max_gap": 1}
    model = write_mean_model(tmp_path / "m.onnx", features=("a",), targets=("a",), **steps)
    assert tidecast("run", "--models", model, "--from", "earliest", "--burst").returncode == 0
    assert client.xlen("readings:forecasts") == 9  # all but the hole, from the third on
    assert not client.exists("readings:dead")


def test_rows_are_sent_in_the_order_of_their_times(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    """Newest first, as many exports have them."""
    path = tmp_path / "boiler.csv"
    path.write_text("\n".join(["time,value", *reversed(ROWS)]) + "\n")
    result = tidecast("feed", path, "--rate", "max", "--from-row", "1", "--to-row", "3")
    read, sent = result.stderr.splitlines()
    assert read.endswith("; rows sorted by time")
    assert sent == "sent 2 readings to readings"
    assert fed(client) == FED[1:]


def test_a_file_of_the_office_is_fed_as_numbers_and_times(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    path = tmp_path / "boiler.csv"
    rows = [
        "Datum;Uhrzeit;Wärme",
        "31.01.2024;00:00;1,5",
        "31.01.2024;01:00;",
        "1.2.2024;0:00;1.234,5",
    ]
    path.write_bytes("\n".join(rows).encode("cp1252"))
    result = tidecast("feed", path, "--rate", "max", "--name-feature", "Wärme=value")
    assert result.returncode == 0, result.stderr
    assert result.stderr.endswith("sent 2 readings to readings, 1 empty rows skipped\n")
    assert fed(client) == [("1706659200000", "1.5"), ("1706745600000", "1234.5")]


def test_two_sensors_do_not_become_one_series(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    path = tmp_path / "boiler.csv"
    rows = [f"2024-03-0{day},{name},{day}\n" for day in range(1, 9) for name in "ab"]
    path.write_text("time,room,value\n" + "".join(rows))
    result = tidecast("feed", path, "--rate", "max")
    assert result.returncode == 2
    assert "Give --series-column room, whose 2 values tell them apart" in result.stderr
    assert not client.exists("readings")


def test_options_of_a_file_are_none_of_standard_input(tidecast: Run) -> None:
    result = tidecast("feed", "-", "--series", "a", "--decimal", ",")
    assert result.returncode == 2
    assert "--series-column and --time-column alone can be told" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv.gz", gzip.compress(CSV.encode())[:-9], "cannot be read (Compressed file ended"),
        ("a.parquet", b"PAR1 or not", "can be read (parquet: File out of specification"),
        ("a.csv", b"time,value\n0,\xff", "not UTF-8; it looks like "),
    ],
    ids=["gzip", "Parquet", "CSV"],  # gzip writes the time of day into what it makes
)
def test_a_broken_file_is_one_line(
    tidecast: Run, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    result = tidecast("feed", tmp_path / name)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@contextmanager
def feeding(server_url: str) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """Run a ``feed`` of standard input; yield it with what it reads and what it says."""
    words = [sys.executable, "-m", "tidecast.worker", "feed", "-", "--series", "boiler"]
    words += ["--redis-url", server_url]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as feed:
        assert feed.stdin
        assert feed.stderr
        yield feed, feed.stdin, feed.stderr


def test_standard_input_is_sent_as_it_comes(client: redis.Redis, server_url: str) -> None:
    """Each row is on the stream before the next one is written."""
    with feeding(server_url) as (feed, rows, said):
        rows.write("time,value\n")
        for number, row in enumerate(ROWS, 1):
            rows.write(row + "\n")
            rows.flush()
            wait_for(partial(_holds, client, number))
        rows.close()
        assert said.read() == "sent 3 readings to readings\n"
    assert feed.returncode == 0
    assert fed(client) == FED


def test_ctrl_c_ends_what_waits_for_standard_input(client: redis.Redis, server_url: str) -> None:
    with feeding(server_url) as (feed, rows, said):
        rows.write(f"time,value\n{ROWS[0]}\n")
        rows.flush()
        wait_for(partial(_holds, client, 1))
        feed.send_signal(signal.SIGINT)
        assert said.read() == "interrupted; after 1 rows\n"
    assert feed.returncode == 1


def test_ctrl_c_counts_what_is_on_its_way(client: redis.Redis, server_url: str) -> None:
    """Rows that the server is about to take belong to those that are in."""
    with feeding(server_url) as (feed, rows, said):
        rows.write(f"time,value\n{ROWS[0]}\n")
        rows.flush()
        wait_for(partial(_holds, client, 1))
        client.client_pause(60_000, all=False)
        try:
            rows.write(ROWS[1] + "\n")
            rows.flush()
            wait_for(partial(_waits, client))
            feed.send_signal(signal.SIGINT)
            time.sleep(0.2)  # long enough to end, were it not held back
        finally:
            client.client_unpause()
        assert said.read() == "interrupted; after 2 rows\n"
    assert feed.returncode == 1
    assert _holds(client, 2)


def _waits(client: redis.Redis) -> bool:
    """Whether an entry of somebody's is held up by a pause."""
    clients: Any = client.client_list()
    return any(one["cmd"] == "xadd" and "b" in one["flags"] for one in clients)


def _holds(client: redis.Redis, entries: int) -> bool:
    return client.xlen("readings") == entries


def test_standard_input_without_a_name_is_told(tidecast: Run) -> None:
    result = tidecast("feed", "-")
    assert result.returncode == 2
    assert "--series is missing: standard input has no name to take; add it" in result.stderr
