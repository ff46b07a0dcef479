"""``tidecast-worker forget`` and the entry that it writes: real workers, kills and replays."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.campaigns import GRID, all_consumed, end, feed, nursery
from tests.redis.servers import Server
from tests.redis.verifier import verify
from tests.redis.waiting import wait_for
from tidecast.worker.pipeline.wire import ADDRESSEE, FORGET
from tidecast.worker.store.checkpoint import read_manifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mean_model(tmp_path / "mean.onnx", name="mean", n_steps=3)


@pytest.fixture
def drain(tidecast: Run, model: Path) -> Callable[..., str]:
    """Let a worker read all there is, and return its log."""

    def run(*options: str) -> str:
        words = ("--models", model, "--from", "earliest", "--burst", *options)
        result = tidecast("run", *words)
        assert result.returncode == 0, result.stderr
        return result.stderr

    return run


def add(client: redis.Redis, first: int, beyond: int, *names: str) -> None:
    pipeline = client.pipeline(transaction=False)
    for value in range(first, beyond):
        for name in names or ("meter",):
            pipeline.xadd("readings", {"series": name, "value": value})
    pipeline.execute()


def means(client: redis.Redis, series: str, fleet: str = "") -> list[float]:
    entries: Any = client.xrange(f"readings:forecasts{fleet}")
    found = [json.loads(fields[b"forecast"]) for _, fields in entries]
    return [one["forecast"]["value"][0] for one in found if one["series"] == series]


def test_a_forgotten_series_begins_anew_and_no_other(
    client: redis.Redis, tidecast: Run, drain: Callable[..., str]
) -> None:
    """What was forecast stays, and so do the others' windows, in the checkpoint too."""
    add(client, 0, 5, "meter", "other")
    drain()
    client.xtrim("readings", maxlen=0)
    result = tidecast("forget", "--series", "meter", "--patience", "0")
    assert (result.returncode, result.stdout) == (0, "")
    assert "fleet default has not come to entry" in result.stderr
    log = drain()
    assert "readings: series meter is forgotten, as entry" in log
    assert "0 readings -> 0 forecasts" in log
    client.xtrim("readings", maxlen=0)  # the checkpoint alone knows of it now
    add(client, 5, 8, "meter", "other")
    assert "(1 series from the checkpoint, 0 entries replayed)" in drain()
    assert means(client, "meter") == [1.0, 2.0, 3.0, 6.0]
    assert means(client, "other") == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    result = tidecast("forget", "--series", "meter", "--series", "stranger", "--patience", "0")
    assert "series meter is forgotten" in (log := drain())
    assert "there is no series stranger to forget" in log


def test_a_worker_at_work_answers_the_command(
    client: redis.Redis, server_url: str, tidecast: Run, tmp_path: Path
) -> None:
    add(client, 0, 5)
    with nursery(tmp_path / "nursery") as home:
        pid = home.start(server_url)
        wait_for(lambda: all_consumed(client))
        words = ("--series", "meter", "--series", "str\x1banger", "--patience", "600")
        result = tidecast("forget", *words)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [
            "fleet default forgot series meter",
            "fleet default knew no series str\\x1banger",
        ]
        result = tidecast("forget", *words, "--json")
        document = json.loads(result.stdout)
        assert document["fleets"]["default"] == {
            "forgotten": [],
            "unknown": ["meter", "str\x1banger"],
        }
        newest: Any = client.xrevrange("readings", count=2)
        assert list(document["entries"].values()) == [entry.decode() for entry, _ in newest[::-1]]
        end(pid, signal.SIGTERM)


def test_one_fleet_may_forget_what_another_keeps(
    client: redis.Redis, tidecast: Run, drain: Callable[..., str]
) -> None:
    add(client, 0, 5)
    for fleet in ("default", "other"):
        drain("--fleet", fleet)
    result = tidecast("forget", "--series", "meter", "--fleet", "other", "--patience", "0")
    assert "fleet other has not come to entry" in result.stderr
    newest: Any = client.xrevrange("readings", count=1)
    assert newest[0][1] == {FORGET: b"meter", ADDRESSEE: b"other"}
    add(client, 5, 6)
    for fleet in ("default", "other"):
        drain("--fleet", fleet)
    assert means(client, "meter") == [1.0, 2.0, 3.0, 4.0]
    assert means(client, "meter", ":other") == [1.0, 2.0, 3.0]
    assert not client.exists("readings:dead", "readings:dead:other")


def test_a_restart_that_makes_all_windows_from_the_stream_obeys_again(
    client: redis.Redis, tidecast: Run, drain: Callable[..., str]
) -> None:
    add(client, 0, 5)
    drain()
    tidecast("forget", "--series", "meter", "--patience", "0")
    add(client, 5, 7)
    drain()
    client.delete("readings:checkpoint:default")
    add(client, 7, 9)
    assert "8 entries replayed" in drain()
    assert means(client, "meter") == [1.0, 2.0, 3.0, 6.0, 7.0]
    manifest: Any = client.hget("readings:checkpoint:default", "manifest")
    assert [order[1:] for order in read_manifest(manifest).orders] == [("meter", True)]


def test_kills_and_replays_change_no_forecast(tmp_path: Path, durable_server: Server) -> None:
    """Orders among messy readings, a worker killed at every step: all is as from one piece."""
    random = Random(11)
    with nursery(tmp_path / "nursery", **GRID) as home, durable_server.client() as client:
        for turn in range(8):
            feed(client, "readings", 150, random)
            for number in range(3):
                client.xadd("readings", {FORGET: f"{'spm'[number]}{[turn % 4, 5, 6][number]}"})
                feed(client, "readings", 40, random)
            step = ("read", "stepped", "sent", "settled", "saved")[turn % 5]
            pid = home.start(durable_server.url, die_at=(step, random.randrange(1, 5)))
            wait_for(lambda: gone(pid))  # noqa: B023
        home.drain(durable_server.url)
        outcome = verify(client, "readings", home.models)
        assert outcome.flawless, outcome
        assert outcome.forecasts > 1000
        assert home.log.read_text().count("is forgotten, as entry") >= 8


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--series", ""), "a series name of 0 bytes"),
        (("--series", "a", "--input", "nowhere"), "there is no stream nowhere here"),
        (("--series", "a", "--input", "list"), "list is a list, not a stream"),
        (("--series", "a", "--fleet", "x"), "--fleet x: no such fleet has read readings; none has"),
        ((), "--series"),
        ([f"--series=s{number}" for number in range(101)], "101 series; 100 at a time"),
    ],
)
def test_what_cannot_be_forgotten_is_told_and_nothing_written(
    client: redis.Redis, tidecast: Run, words: tuple[str, ...], told: str
) -> None:
    client.xadd("readings", {"value": 1})
    client.rpush("list", "x")
    result = tidecast("forget", *words)
    assert result.returncode == 2
    assert told in result.stderr
    assert client.xlen("readings") == 1
    assert not client.exists("nowhere")


def test_an_order_without_a_name_is_a_dead_letter(
    client: redis.Redis, drain: Callable[..., str]
) -> None:
    client.xadd("readings", {FORGET: b"\xff"})
    add(client, 0, 3)
    drain()
    assert means(client, "meter") == [1.0]
    letters: Any = client.xrange("readings:dead")
    assert [b"series name" in letter[b"reason"] for _, letter in letters] == [True]
