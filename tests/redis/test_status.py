"""What ``tidecast-worker status`` says of real workers on a real server."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.waiting import wait_for
from tidecast.worker.store.position import position_of
from tidecast.worker.store.status import fleets, statuses

OWN = {"lag": 0, "series": 1, "evicted": 0, "lost": 0, "dead_letters": 1, "owner": None}


@pytest.fixture
def drain(client: redis.Redis, tidecast: Run, tmp_path: Path) -> Callable[..., None]:
    """Let a worker read all there is: five readings of one series and one that is none."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)

    def run(*options: str) -> None:
        add(client, 5)
        client.xadd("readings", {"series": "a", "value": "x"})
        words = ("--models", model, "--from", "earliest", "--burst", *options)
        result = tidecast("run", *words)
        assert result.returncode == 0, result.stderr

    return run


def add(client: redis.Redis, count: int, stream: str = "readings") -> None:
    for value in range(count):
        client.xadd(stream, {"series": "a", "value": value})


def told(tidecast: Run, *options: str) -> dict[str, Any]:
    """What ``--json`` says; the table must say it too."""
    result, table = tidecast("status", "--json", *options), tidecast("status", *options)
    assert (result.returncode, table.returncode) == (0, 0), result.stderr + table.stderr
    assert result.stdout.count("\n") == 1
    assert result.stderr == table.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    assert_table(table.stdout, document)
    return document


def assert_table(text: str, document: dict[str, Any]) -> None:
    rows = [line.split() for line in text.splitlines()]
    for one in document["partitions"]:
        (row,) = [row for row in rows if one["stream"] in row and (one["offset"] or "-") in row]
        assert row[:3] == ["-" if one[n] is None else one[n] for n in ("stream", "owner", "offset")]
        numbers = [one[name] for name in ("series", "evicted", "lost", "dead_letters")]
        assert row[3] == ("-" if one["lag"] is None else str(one["lag"]))
        assert row[-4:] == ["-" if number is None else str(number) for number in numbers]
        assert ("unreadable" in row) == (one["checkpoint_error"] is not None)
    for fleet in document["fleets"]:
        assert ["fleet", f"{fleet['fleet']},"] in [row[:2] for row in rows]
        for member in fleet["members"]:
            (row,) = [row for row in rows if row[:1] == [member["token"]]]
            assert [row[2], row[5]] == [str(member["holds"]), str(member["follows"])]


def test_a_worker_that_is_done_leaves_its_traces(
    client: redis.Redis, tidecast: Run, drain: Callable[..., None]
) -> None:
    drain()
    stands: Any = client.get("readings:offset:default")
    offset = position_of(stands).offset
    document = told(tidecast)
    (one,) = document["partitions"]
    assert one | OWN | {"fleet": "default", "stream": "readings", "offset": offset} == one
    assert one["checkpoint_offset"] == offset
    assert 0 <= one["checkpoint_age"] < 600
    assert (one["checkpoint_error"], one["errors"]) == (None, [])
    assert document["fleets"] == [{"fleet": "default", "members": [], "error": None}]

    client.hset("readings:checkpoint:default", "saved_at", 1000)
    add(client, 5)
    (later,) = told(tidecast)["partitions"]
    assert later["lag"] == 5
    assert later["offset"] == offset
    assert later["checkpoint_age"] > 1e9

    client.delete("readings")
    (gone,) = told(tidecast)["partitions"]
    assert (gone["lag"], gone["errors"]) == (None, [])


def test_a_running_worker_owns_and_is_a_member(
    client: redis.Redis, tidecast: Run, server_url: str, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    command = [sys.executable, "-m", "tidecast.worker", "run", "--redis-url", server_url]
    command += ["--models", str(model), "--input", "r:{9..10}", "--lease", "60"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: sum(one.owner is not None for one in statuses(client, None)) == 2)
            document = told(tidecast)
            one_only = told(tidecast, "--input", "r:{10..11}")
        finally:
            process.send_signal(signal.SIGTERM)
    assert [one["stream"] for one in document["partitions"]] == ["r:{9}", "r:{10}"]
    (member,) = document["fleets"][0]["members"]
    assert member | {"follows": 2, "holds": 2} == member
    assert {one["owner"] for one in document["partitions"]} == {member["token"]}
    assert [one["stream"] for one in one_only["partitions"]] == ["r:{10}"]
    assert one_only["fleets"][0]["members"] == [member | {"follows": 1, "holds": 1}]
    (left,) = fleets(client, None)
    assert left.members == ()


def test_two_fleets_stand_apart(tidecast: Run, drain: Callable[..., None]) -> None:
    drain("--fleet", "a")
    drain("--fleet", "b")
    partitions = told(tidecast)["partitions"]
    assert [(one["fleet"], one["lag"]) for one in partitions] == [("a", 6), ("b", 0)]
    assert [one["dead_letters"] for one in partitions] == [1, 2]
    result = tidecast("status", "--input", "readings", "--input", "reedings")
    assert result.stderr == "no fleet has read reedings here\n"


def test_a_member_that_is_silent_for_a_lease_is_no_longer_shown(client: redis.Redis) -> None:
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    member = '{"token":"%s","inputs":["r"]}'
    client.zadd("tidecast:members:f", {member % "alive": now, member % "dead": now - 11_000})
    client.pexpire("tidecast:members:f", 100_000)
    (fleet,) = fleets(client, None)
    assert [one.token for one in fleet.members] == ["alive"]
    client.pexpire("tidecast:members:f", 80_000)
    client.zadd("tidecast:members:f", {member % "alive": now - 20_000})
    assert fleets(client, None) == []


def test_what_cannot_be_read_is_said_and_hides_nothing(
    client: redis.Redis, tidecast: Run, drain: Callable[..., None]
) -> None:
    drain()
    client.hset("readings:checkpoint:default", "manifest", '{"layout":99}')
    client.delete("readings:dead")
    client.set("readings:dead", "in the way")
    client.zadd("tidecast:members:default", {"no JSON": 1})
    for key in ("wrong", "wrong:offset:default", "wrong:lease:default", "wrong:dead"):
        client.hset(key, "in the", "way")
    client.set("wrong:checkpoint:default", "in the way")
    client.set("text:offset:default", "noon")
    document = told(tidecast)
    readings, text, wrong = document["partitions"]
    assert "layout 99" in readings["checkpoint_error"]
    assert readings | {"lag": 0, "series": None, "dead_letters": None} == readings
    assert readings["errors"][0].startswith("readings:dead: WRONGTYPE")
    assert text["errors"] == ["text:offset:default: b'noon' is no entry id"]
    assert len(wrong["errors"]) == 4
    assert wrong["checkpoint_error"].startswith("wrong:checkpoint:default: WRONGTYPE")
    assert "its members cannot be read" in document["fleets"][0]["error"]
    lines = tidecast("status").stderr.splitlines()
    assert len(lines) == 9
    assert "Traceback" not in "".join(lines)


def test_where_nobody_reads_it_says_what_to_run(client: redis.Redis, tidecast: Run) -> None:
    client.xadd("readings", {"value": 1})
    assert told(tidecast) == {"fleets": [], "partitions": []}
    result = tidecast("status")
    assert result.stdout == ""
    assert result.stderr == (
        "no fleet has read a stream here; "
        "'tidecast-worker run --models models/ --input readings' reads one\n"
    )
    refused = tidecast("status", "--input", "a:{3..1}")
    assert refused.returncode == 2
    assert refused.stderr.startswith("tidecast-worker: --input: {3..1}")


def test_a_terminal_obeys_no_name(client: redis.Redis, server_url: str) -> None:
    client.set("\x1b[31m[bold]x\u202e:offset:f", "1-0")
    client.set("\x1b[31m[bold]x\u202e:lease:f", b"\x1b]0;me\x07")
    command = [sys.executable, "-m", "tidecast.worker", "status", "--redis-url", server_url]
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "120"}
    subprocess.run(command, stdout=theirs, env=environment, check=True, timeout=120)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert r"\x1b[31m[bold]x\u202e" in shown
    assert r"\x1b]0;me\x07" in shown
    assert not any(raw in shown for raw in ("\u202e", "\x07", "\x1b[31m", "\x1b]0"))
