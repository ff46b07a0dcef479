"""Two fleets on one stream: each has its own outputs, and retries what it refused itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.commands import Commands
from tests.conftest import Run
from tests.model_files import write_mean_model
from tests.redis.waiting import wait_for
from tidecast.worker.pipeline.wire import ADDRESSEE
from tidecast.worker.store.dead_letters import DeadLetters
from tidecast.worker.store.keys import dead_key, forecasts_key

FLEETS = ("default", "summer")


@pytest.fixture
def drain(tidecast: Run, tmp_path: Path) -> Callable[[str], str]:
    """Let a fleet read all there is; return what it says."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)

    def run(fleet: str) -> str:
        result = tidecast(
            "run", "--models", model, "--from", "earliest", "--burst", "--fleet", fleet
        )
        assert result.returncode == 0, result.stderr
        return result.stderr

    return run


@pytest.fixture
def retry(loaded: Commands, server_url: str) -> Callable[[str], str]:
    """Retry all dead letters of a fleet; return what is said."""

    def run(fleet: str) -> str:
        options = ("--all", "--fleet", fleet, "--redis-url", server_url)
        return loaded.run("dead-letters", "retry", *options).stderr

    return run


def records(client: redis.Redis, fleet: str) -> list[dict[str, Any]]:
    entries: Any = client.xrange(forecasts_key("readings", fleet))
    return [json.loads(fields[b"forecast"]) for _, fields in entries]


def letters(client: redis.Redis, fleet: str) -> list[dict[bytes, bytes]]:
    entries: Any = client.xrange(dead_key("readings", fleet))
    return [fields for _, fields in entries]


def add(client: redis.Redis, *values: str) -> None:
    for value in values:
        client.xadd("readings", {"series": "a", "value": value})


def test_records_letters_and_channels_are_a_fleets_own(
    client: redis.Redis, drain: Callable[[str], str]
) -> None:
    add(client, "1", "abc", "3")
    with client.pubsub(ignore_subscribe_messages=True) as ear:  # type: ignore[no-untyped-call]
        ear.psubscribe("forecast:*", "forecast@summer:*")
        assert ear.get_message(timeout=1) is None  # it listens
        said = {fleet: drain(fleet) for fleet in FLEETS}
        heard = [one for _ in range(8) if (one := ear.get_message(timeout=0.2))]
    assert [message["channel"] for message in heard] == [
        *[b"forecast:a"] * 2,
        *[b"forecast@summer:a"] * 2,
    ]
    for fleet in FLEETS:
        mine = records(client, fleet)
        assert [record["forecast"]["value"] for record in mine] == [[1.0], [3.0]]
        assert {record["fleet"] for record in mine} == {fleet}
        assert [json.loads(m["data"]) for m in heard if b"@" in m["channel"]] == records(
            client, "summer"
        )
        (letter,) = letters(client, fleet)
        assert letter[b"fleet"] == fleet.encode()
    assert "forecast@summer:<series>" in said["summer"]
    assert "readings:forecasts:summer" in said["summer"]
    assert "<series>" not in said["default"]


@pytest.mark.parametrize("again", [False, True], ids=["from the source", "from the letter"])
@pytest.mark.parametrize(
    "fields",
    [{"series": "a", "value": "abc"}, {"data": '{"series":"a","value":"abc"}'}],
    ids=["flat", "JSON"],
)
def test_a_retried_reading_goes_to_the_fleet_that_refused_it(
    client: redis.Redis,
    retry: Callable[[str], str],
    drain: Callable[[str], str],
    fields: dict[Any, Any],
    again: bool,
) -> None:
    entry: Any = client.xadd("readings", fields)
    for fleet in FLEETS:
        drain(fleet)
    if again:
        client.xdel("readings", entry)
    assert "1 put back on readings" in retry("summer")
    assert [len(letters(client, fleet)) for fleet in FLEETS] == [1, 0]
    for fleet in FLEETS:
        drain(fleet)
    assert [len(letters(client, fleet)) for fleet in FLEETS] == [1, 1]
    (died,) = letters(client, "summer")
    assert b"tidecast" not in died[b"payload"]
    # And once more: who it is for stands there once.
    assert "1 put back" in retry("summer")
    newest: Any = client.xrevrange("readings", count=1)
    assert newest[0][1][ADDRESSEE] == b"summer"
    assert drain("default").count("rejected") == 0
    drain("summer")
    assert [len(letters(client, fleet)) for fleet in FLEETS] == [1, 1]


def test_a_letter_that_names_no_fleet_is_retried_for_all(
    client: redis.Redis, drain: Callable[[str], str]
) -> None:
    for fleet in FLEETS:
        drain(fleet)
    add(client, "5")
    entry: Any = client.xrange("readings")[0]  # type: ignore[index]
    said = {"reason": "why", "entry": entry[0], "payload": '{"series":"a","value":"5"}'}
    strange: tuple[dict[str, str], ...] = ({}, {"fleet": "{}"})  # from before, and somebody else's
    for fleet_of in strange:
        letter: Any = client.xadd("readings:dead", said | fleet_of)  # type: ignore[arg-type]
        box = DeadLetters(client, "readings")
        assert box.retry(box.find(letter.decode()))
    for fleet in FLEETS:
        drain(fleet)
        assert len(records(client, fleet)) == 3


@pytest.mark.parametrize("glob", ["a", "?"], ids=["a name", "a glob"])
def test_watch_hears_one_fleet(
    client: redis.Redis,
    server_url: str,
    drain: Callable[[str], str],
    glob: str,
) -> None:
    add(client, "1")
    words = (sys.executable, "-m", "tidecast.worker", "watch", "--plain", "--count", "1")
    options = ("--series", glob, "--fleet", "summer", "--redis-url", server_url)
    with subprocess.Popen([*words, *options], stdout=subprocess.PIPE, text=True) as watching:
        wait_for(lambda: client.pubsub_numpat() + len(client.pubsub_channels()) == 1)
        for fleet in FLEETS:
            drain(fleet)
        heard, _ = watching.communicate(timeout=120)
    assert [json.loads(heard)] == records(client, "summer")
