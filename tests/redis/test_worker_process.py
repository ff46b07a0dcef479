"""A real worker process on a real server: order, resumption, signals, bad entries."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis._parsers import BaseParser
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import Run
from tests.model_files import spec_in, write_lstm_model, write_mean_model, write_slow_model
from tests.redis.waiting import wait_for
from tidecast.worker.errors import (
    LeaseError,
    LostServerError,
    PartitionError,
    PositionError,
    ServerError,
)
from tidecast.worker.pipeline.wire import Position, Reject
from tidecast.worker.store.checkpoint import Checkpoints
from tidecast.worker.store.commit import UNDER_WAY, Committer
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.keys import lease_key, offset_key
from tidecast.worker.store.lease import Leases
from tidecast.worker.store.position import position_of
from tidecast.worker.store.source import Streams


def forecasts(client: redis.Redis, stream: str = "readings") -> list[dict[str, Any]]:
    entries: Any = client.xrange(f"{stream}:forecasts")
    return [json.loads(fields[b"forecast"]) for _, fields in entries]


def dead(client: redis.Redis) -> list[dict[str, str]]:
    entries: Any = client.xrange("readings:dead")
    return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in entries]


def add(client: redis.Redis, series: str, *values: object) -> None:
    for value in values:
        client.xadd("readings", {"series": series, "value": str(value)})


def means(client: redis.Redis, series: str) -> list[float]:
    return [f["forecast"]["value"][0] for f in forecasts(client) if f["series"] == series]


@pytest.fixture
def mean_model(tmp_path: Path) -> Path:
    return write_mean_model(tmp_path / "models" / "mean.onnx", name="mean", n_steps=3)


@pytest.mark.parametrize("read_size", [1, 2, 1000])
def test_each_reading_gives_one_forecast_once_the_window_is_full(
    client: redis.Redis, tidecast: Run, mean_model: Path, read_size: int
) -> None:
    for value in (1, 2, 3, 4, 5):
        add(client, "a", value)
        add(client, "b", 10 * value)
    result = tidecast(
        "run",
        "--models",
        mean_model,
        "--from",
        "earliest",
        "--burst",
        "--read-size",
        str(read_size),
    )
    assert result.returncode == 0, result.stderr
    assert means(client, "a") == [2, 3, 4]
    assert means(client, "b") == [20, 30, 40]


def test_the_record_says_all_that_the_contract_promises(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(
        tmp_path / "m.onnx",
        name="boiler",
        n_steps=1,
        horizon=2,
        features=("temp", "hum"),
        targets=("temp", "hum"),
        step_seconds=60.0,
    )
    entry: Any = client.xadd(
        "readings", {"series": 'boiler "7" é', "ts": "1700000000000", "temp": "71", "hum": "41"}
    )
    assert tidecast("run", "--models", model, "--from", "earliest", "--burst").returncode == 0
    assert forecasts(client) == [
        {
            "series": 'boiler "7" é',
            "at": 1700000000000,
            "step": 60000,
            "model": "boiler",
            "version": spec_in(model).version,
            "fleet": "default",
            "entry": entry.decode(),
            "forecast": {"temp": [56.0, 56.0], "hum": [56.0, 56.0]},
        }
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [(None, 2.0), (0.3333, 4.0), (0.3333, 6.0)]),
        (("--gaps", "hold"), [(None, 2.0), (0.3333, 3.6667), (0.3333, 5.6667)]),
        (("--max-gap", "0"), [(None, 2.0)]),
    ],
)
def test_a_series_forecasts_through_a_hole(
    client: redis.Redis, tidecast: Run, tmp_path: Path, options: tuple[str, ...], expected: Any
) -> None:
    """Of six minutes the fourth has no reading."""
    grid: dict[str, Any] = {"step_seconds": 60.0, "gaps": "linear", "max_gap": 1}
    model = write_mean_model(tmp_path / "m.onnx", n_steps=3, **grid)
    for minute, value in ((0, 1), (1, 2), (2, 3), (4, 5), (5, 9)):
        client.xadd("readings", {"series": "a", "ts": 60_000 * minute, "value": value})
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", *options)
    assert result.returncode == 0, result.stderr
    found = [(f.get("filled"), round(f["forecast"]["value"][0], 4)) for f in forecasts(client)]
    assert found == expected
    assert ("--gaps and --max-gap: model tiny" in result.stderr) == bool(options)
    assert dead(client) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), [(0.5, 1.25), (0.25, 1.75), (None, 2.5)]), (("--cold-start", "none"), [(None, 2.5)])],
)
def test_a_new_series_is_forecast_before_its_window_is_full(
    client: redis.Redis, tidecast: Run, tmp_path: Path, options: tuple[str, ...], expected: Any
) -> None:
    """Its oldest reading stands for what it lacks."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=4, gaps="none", min_steps=2)
    add(client, "a", 1, 2, 3, 4)
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", *options)
    assert result.returncode == 0, result.stderr
    found = [(f.get("filled"), f["forecast"]["value"][0]) for f in forecasts(client)]
    assert found == expected


def test_a_restart_goes_on_as_if_nothing_had_happened(
    client: redis.Redis, tidecast: Run, mean_model: Path
) -> None:
    for first in (1, 3, 5):
        add(client, "a", first, first + 1)
        assert (
            tidecast("run", "--models", mean_model, "--from", "earliest", "--burst").returncode == 0
        )
    assert means(client, "a") == [2, 3, 4, 5]


def test_latest_forecasts_only_what_comes_after_and_fills_windows_from_before(
    client: redis.Redis, tidecast: Run, mean_model: Path
) -> None:
    add(client, "a", 1, 2, 3)
    assert tidecast("run", "--models", mean_model, "--from", "latest", "--burst").returncode == 0
    assert forecasts(client) == []
    add(client, "a", 4)
    assert tidecast("run", "--models", mean_model, "--from", "latest", "--burst").returncode == 0
    assert means(client, "a") == [3]


def test_bad_entries_are_set_aside_and_the_next_is_forecast(
    client: redis.Redis, tidecast: Run, mean_model: Path
) -> None:
    add(client, "a", 1, "abc", 2, "nan", "inf", 3, "1e39")
    client.xadd("readings", {"series": "a", "other": "4"})
    client.xadd("readings", {"data": "{"})
    add(client, "a", 4)
    result = tidecast("run", "--models", mean_model, "--from", "earliest", "--burst")
    assert result.returncode == 0, result.stderr
    assert "5 rejected" in result.stderr
    assert "1 without a value" in result.stderr
    assert means(client, "a") == [2, 3]
    reasons = [letter["reason"] for letter in dead(client)]
    for expected in ("'abc', not a number", "inf", "32-bit", "is missing", "not JSON"):
        assert sum(expected in reason for reason in reasons) >= 1, (expected, reasons)
    assert len(reasons) == 5
    assert all(client.xrange("readings", d["entry"], d["entry"]) for d in dead(client))


def test_several_models_serve_the_series_they_name(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    write_mean_model(tmp_path / "a.onnx", name="short", n_steps=1, series="s-*")
    write_mean_model(tmp_path / "b.onnx", name="long", n_steps=2, series="l-*")
    for value in (1, 3):
        add(client, "s-1", value)
        add(client, "l-1", value)
        add(client, "nobody", value)
    result = tidecast("run", "--models", tmp_path, "--from", "earliest", "--burst")
    assert [(f["model"], f["forecast"]["value"][0]) for f in forecasts(client)] == [
        ("short", 1),
        ("short", 3),
        ("long", 2),
    ]
    assert "2 of series that no model serves" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_0_and_all_committed(
    client: redis.Redis,
    server_url: str,
    mean_model: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tidecast.worker", "run", "--redis-url", server_url]
    command += ["--models", str(mean_model), "--from", "earliest", "--log-format", "json"]
    monkeypatch.setenv("TIDECAST_SUMMARY_EVERY", "0.1")
    log = tmp_path / "log"
    with log.open("w") as file, subprocess.Popen(command, stderr=file) as process:
        add(client, "a", 1, 2, 3)
        wait_for(lambda: '"forecasts":' in log.read_text())
        add(client, "a", *range(500))
        process.send_signal(number)
        process.wait(timeout=120)
    assert process.returncode == 0, log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (loaded,) = [line for line in lines if "version" in line]
    said = f"model mean {spec_in(mean_model).version}: univariate_one_step, 3 steps of value"
    assert loaded["message"].startswith(said)
    assert any(line["message"] == "series a starts to forecast" for line in lines)
    summaries = [line for line in lines if "seconds" in line]
    assert len(summaries) > 1
    assert sum(line["forecasts"] for line in summaries) == len(forecasts(client))
    stands: Any = client.get("readings:offset:default")
    consumed: Any = client.xrange("readings", max=position_of(stands).offset)
    assert len(forecasts(client)) == len(consumed) - 2


def seconds_of(pid: int) -> float:
    """How much processor a process has taken."""
    taken = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]
    return int(taken) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_while_models_load(tmp_path: Path, number: signal.Signals) -> None:
    """ONNX Runtime says nothing to Python for many minutes; no server has been asked by then."""
    command = [sys.executable, "-m", "tidecast.worker", "run", "--redis-url", "redis://127.0.0.1:1"]
    command += ["--models", str(write_slow_model(tmp_path / "m.onnx"))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: seconds_of(process.pid) > 5)  # far more than the command's imports
            process.send_signal(number)
            _, log = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, log) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_while_it_waits_for_a_server(
    mean_model: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "tidecast.worker", "run", "--redis-url", "redis://127.0.0.1:1"]
    command += ["--models", str(mean_model), "--connect-patience", "600"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "no answer" not in process.stderr.readline():
            pass
        process.send_signal(number)
        _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log


def test_an_embedded_server_is_found_by_feed_and_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean_model: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    data = tmp_path / "line.csv"
    data.write_text("timestamp,value\n" + "".join(f"2024-01-01 00:0{i}:00,{i}\n" for i in range(6)))
    worker = [sys.executable, "-m", "tidecast.worker"]
    with subprocess.Popen([*worker, "run", "--models", mean_model, "--from", "earliest"]) as run:
        socket = tmp_path / f"tidecast-{Path(tmp_path).stat().st_uid}" / "server.sock"
        wait_for(socket.exists)
        watching = subprocess.Popen(
            [*worker, "watch", "--plain", "--count", "4"], stdout=subprocess.PIPE, text=True
        )
        with redis.Redis(unix_socket_path=str(socket)) as client:
            wait_for(lambda: client.pubsub_numpat() == 1)
        assert subprocess.run([*worker, "feed", data, "--rate", "0"], check=False).returncode == 0
        heard, _ = watching.communicate(timeout=120)
        run.send_signal(signal.SIGTERM)
    assert [json.loads(line)["forecast"]["value"][0] for line in heard.splitlines()] == [1, 2, 3, 4]
    assert run.returncode == 0
    assert not socket.exists()


def test_watch_ends_well_when_its_reader_has_heard_enough(
    client: redis.Redis, server_url: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "tidecast.worker",
        "watch",
        "--plain",
        "--redis-url",
        server_url,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        wait_for(lambda: client.pubsub_numpat() == 1)
        client.publish("forecast:a", "{}")
        assert process.stdout.readline() == b"{}\n"
        process.stdout.close()
        while process.poll() is None:
            client.publish("forecast:a", "{}")
            time.sleep(0.05)
        assert (process.returncode, process.stderr.read()) == (0, b"")


def test_errors_of_the_driver_are_translated_at_the_edges(
    client: redis.Redis, server_url: str
) -> None:
    nowhere = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    client.acl_setuser("guest", enabled=True, nopass=True, commands=["+ping"])
    guest = redis.Redis.from_url(server_url, username="guest")
    for stranger, error in ((nowhere, LostServerError), (guest, ServerError)):
        streams = Streams(client=stranger, count=1, block_ms=None)
        for call in (
            lambda s=stranger: Committer(s, "f", "me", longest_forecasts=0, longest_dead=0),
            lambda s=streams: s.facts("readings"),
            lambda s=stranger: Leases(s, "f", "me", ["readings"], seconds=1).acquire("readings"),
            lambda s=stranger: Checkpoints(s, "f", "me").manifest("readings"),
            lambda s=streams: list(s.replay("readings", "0-0", "5-0")),
            lambda s=streams: s.follow({"readings": "0-0"}).read(),
        ):
            with pytest.raises(error):
                call()
    guest.close()


def test_a_commit_is_done_once_and_only_from_its_offset(client: redis.Redis) -> None:
    client.set("readings:lease:default", "me")
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    committer.begin("readings", Position("0-0", 0))
    reject = Reject("why", b"1-0", b"{}")
    for _ in range(2):  # the second is the resent one: its reply was lost
        committer.send("readings", "0-0", Position("5-0", 1), [b"a"], [b"{}"], [reject])
        committer.settle()
    assert client.xlen("readings:forecasts") == client.xlen("readings:dead") == 1
    committer.send("readings", "0-0", Position("6-0", 2), [b"a"], [b"{}"], [])
    with pytest.raises(PositionError, match="5-0"):
        committer.settle()
    assert client.xlen("readings:forecasts") == 1
    assert committer.position("readings") == Position("5-0", 1)
    client.set("readings:lease:default", "another")
    committer.send("readings", "5-0", Position("6-0", 2), [b"a"], [b"{}"], [])
    with pytest.raises(LeaseError, match="another"):
        committer.settle()
    assert client.xlen("readings:forecasts") == 1
    committer.close()


def test_a_recount_moves_nothing_but_the_count_and_is_the_owners(client: redis.Redis) -> None:
    client.set("readings:lease:default", "me")
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    committer.begin("readings", Position("4-0", 2))
    assert committer.position("readings") == Position("4-0", 2)
    committer.recount("readings", Position("4-0", 9))
    assert (committer.under_way, client.get("readings:offset:default")) == (0, b"4-0 9")
    committer.send("readings", "4-0", Position("5-0", 10), [b"a"], [b"{}"], [])
    with pytest.raises(PositionError, match="5-0"):
        committer.recount("readings", Position("4-0", 11))
    client.set("readings:lease:default", "another")
    with pytest.raises(LeaseError, match="another"):
        committer.recount("readings", Position("5-0", 11))
    assert committer.position("readings") == Position("5-0", 10)
    assert client.xlen("readings:forecasts") == 1
    committer.close()


@pytest.mark.parametrize(
    ("key_of", "value", "error"),
    [(offset_key, "3-0", PositionError), (lease_key, "another", LeaseError)],
)
def test_a_commit_sent_behind_a_refused_one_is_refused_too(
    client: redis.Redis,
    key_of: Callable[[str, str], str],
    value: str,
    error: type[PartitionError],
) -> None:
    client.set(lease_key("readings", "default"), "me")
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    committer.begin("readings", Position("0-0", 0))
    client.set(key_of("readings", "default"), value)
    committer.send("readings", "0-0", Position("5-0", 1), [b"a"], [b"{}"], [])
    committer.send("readings", "5-0", Position("6-0", 2), [b"a"], [b"{}"], [])
    assert committer.under_way == 2
    for _ in range(2):
        with pytest.raises(error, match=value):
            committer.settle()
    assert (client.xlen("readings:forecasts"), committer.under_way) == (0, 0)
    committer.close()


def test_two_commits_are_under_way_at_most(client: redis.Redis) -> None:
    client.set(lease_key("readings", "default"), "me")
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    committer.begin("readings", Position("0-0", 0))
    for number in range(5):
        committer.send(
            "readings", f"{number}-0", Position(f"{number + 1}-0", 1), [b"a"], [b"{}"], []
        )
        assert committer.under_way == min(number + 1, UNDER_WAY)
    assert client.xlen("readings:forecasts") >= 4
    committer.settle()
    assert (client.xlen("readings:forecasts"), committer.under_way) == (5, 0)
    committer.close()


@pytest.mark.parametrize("rules", [["-set"], ["-xadd", "(+xadd ~readings:forecasts)"], ["-xgroup"]])
def test_missing_rights_stop_the_whole_commit(
    client: redis.Redis, server_url: str, rules: list[str]
) -> None:
    """What the second half of a commit may not write, the first half must not have written."""
    client.set("readings:lease:default", "me")
    begun = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    begun.begin("readings", Position("0-0", 0))
    begun.close()
    all_but = ["reset", "on", "nopass", "~*", "&*", "+@all", *rules]
    client.execute_command("ACL", "SETUSER", "clerk", *all_but)  # type: ignore[no-untyped-call]
    login: dict[str, Any] = {"username": "clerk", "password": "x"}
    with redis.Redis.from_url(server_url, protocol=2, **login) as clerk:
        committer = Committer(clerk, "default", "me", longest_forecasts=0, longest_dead=0)
        committer.send(
            "readings", "0-0", Position("5-0", 1), [b"a"], [b"{}"], [Reject("why", b"1-0", b"{}")]
        )
        with pytest.raises(ServerError, match="may not"):
            committer.settle()
        assert not client.exists("readings:forecasts", "readings:dead")
        assert committer.position("readings") == Position("0-0", 0)
        committer.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (f"{code} some words", LostServerError)
        for code in (
            *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS"),
            *("NOAUTH", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "WRONGPASS"),
        )
    ]
    + [(f"{code} some words", ServerError) for code in ("WRONGTYPE", "NOPERM", "ERR")],
)
def test_what_passes_is_told_from_what_does_not(reply: str, error: type[Exception]) -> None:
    with pytest.raises(error), driver_errors():
        raise BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]


def test_a_failover_under_a_blocked_read_is_survived(
    client: redis.Redis, server_url: str, mean_model: Path
) -> None:
    command = [sys.executable, "-m", "tidecast.worker", "run", "--redis-url", server_url]
    command += ["--models", str(mean_model), "--from", "earliest"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        add(client, "a", 1, 2, 3)
        wait_for(lambda: len(forecasts(client)) == 1)
        wait_for(lambda: unblocked(client))
        add(client, "a", 4)
        wait_for(lambda: len(forecasts(client)) == 2)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert log.count("rebuilding from the server after: UNBLOCKED") == 1
    assert means(client, "a") == [2, 3]


def unblocked(client: redis.Redis) -> bool:
    """Answer a blocked read as a primary that becomes a replica; tell whether there was one."""
    return any(
        client.client_unblock(int(one["id"]), error=True)
        for one in client.client_list()
        if one["cmd"] == "xread"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("readings", "a string"), ("readings:dead", "a string"), ("readings:offset:default", "noon")],
)
def test_a_key_in_the_way_ends_a_burst_with_one_line_that_names_it(
    client: redis.Redis, tidecast: Run, mean_model: Path, key: str, value: str
) -> None:
    """All that can be read is read before."""
    if key != "readings":
        add(client, "a", 1, 2, 3)
    for number in (1, 2, 3):
        client.xadd("others", {"value": number})
    client.set(key, value)
    inputs = ("--input", "readings", "--input", "others")
    options = ("--from", "earliest", "--burst")
    result = tidecast("run", "--models", mean_model, *inputs, *options)
    assert result.returncode == 2, result.stderr
    assert len(forecasts(client, "others")) == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("tidecast-worker: not all was read: readings: what lies at " + key)
    assert "Traceback" not in result.stderr


def test_a_key_of_another_type_stops_the_whole_commit(client: redis.Redis) -> None:
    client.set("readings:dead", "in the way")
    client.set("readings:lease:default", "me")
    committer = Committer(client, "default", "me", longest_forecasts=0, longest_dead=0)
    committer.begin("readings", Position("0-0", 0))
    committer.send(
        "readings", "0-0", Position("5-0", 1), [b"a"], [b"{}"], [Reject("why", b"1-0", b"{}")]
    )
    with pytest.raises(ServerError, match="readings:dead is a string"):
        committer.settle()
    assert client.xlen("readings:forecasts") == 0
    assert committer.position("readings") == Position("0-0", 0)
    committer.close()


def test_entries_of_very_many_readings_are_committed_in_pieces(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    for first in range(0, 50_000, 100):
        body = {"series": "a", "ts": list(range(first, first + 100)), "value": [1.0] * 100}
        client.xadd("readings", {"data": json.dumps(body)})
    client.config_resetstat()
    assert tidecast("run", "--models", model, "--from", "earliest", "--burst").returncode == 0
    assert [f["at"] for f in forecasts(client)] == list(range(50_000))
    moves: Any = client.info("commandstats")["cmdstat_xgroup|setid"]
    assert 1 < moves["calls"] < 500


def test_a_heavy_stream_is_forecast_in_order(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_lstm_model(tmp_path / "lstm.onnx", units=8, n_steps=5)
    pipeline = client.pipeline(transaction=False)
    for i in range(5000):
        pipeline.xadd("readings", {"series": f"s{i % 7}", "ts": i, "value": i % 13})
    pipeline.execute()
    assert tidecast("run", "--models", model, "--from", "earliest", "--burst").returncode == 0
    assert [f["at"] for f in forecasts(client)] == list(range(28, 5000))


def test_nobody_is_told_of_what_runs_here(server_url: str, tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would complain of a home that it cannot write to."""
    model = write_mean_model(tmp_path / "m.onnx")
    words = ["run", "--redis-url", server_url, "--models", str(model), "--burst"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORT_")}
    result = subprocess.run(
        [sys.executable, "-m", "tidecast.worker", *words],
        env=environment | {"HOME": "/proc/nowhere"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "telemetry" not in result.stderr


def hears_sigterm(process: Path) -> bool:
    """Whether a process has a handler for SIGTERM, by the kernel's word."""
    status = (process / "status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_heard_while_the_command_loads(number: signal.Signals) -> None:
    """The first process of a namespace hears no signal that it has no handler for."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may make a process namespace")
    command = shutil.which("tidecast-worker", path=str(Path(sys.executable).parent))
    assert command is not None
    words = ["unshare", "--pid", "--fork", "--kill-child", command, "run"]
    # Where the command is measured, coverage has a handler of its own, and before the command has.
    alone = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    for _ in range(20):  # a machine that is busy elsewhere may look too late
        with subprocess.Popen(words, env=alone, stderr=subprocess.DEVNULL) as outer:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            wait_for(lambda: children.read_text() != "")  # noqa: B023
            first = Path("/proc") / children.read_text().split()[0]
            wait_for(lambda: not first.exists() or hears_sigterm(first))  # noqa: B023
            with suppress(ProcessLookupError, FileNotFoundError):
                loading = "onnxruntime" not in (first / "maps").read_text()
                os.kill(int(first.name), number)
                if loading and outer.wait(timeout=60) == 0:
                    return
    raise AssertionError("no stop was heeded while the command loaded")
