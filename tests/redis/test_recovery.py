"""Checkpoints, trimming, many series and hand-over, through real worker processes."""

import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from tests.conftest import Run
from tests.model_files import spec_in, write_mean_model
from tests.redis.campaigns import GRID, START, STEP, end, nursery
from tests.redis.servers import Server
from tests.redis.verifier import verify
from tests.redis.waiting import wait_for
from tidecast.worker.errors import LeaseError
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.wire import Position
from tidecast.worker.service.loop import Worker
from tidecast.worker.service.recovery import Recovery
from tidecast.worker.settings import Settings
from tidecast.worker.store.checkpoint import (
    AT_ONCE,
    PIECE,
    Checkpoints,
    Manifest,
    read_manifest,
)
from tidecast.worker.store.source import Streams


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mean_model(tmp_path / "mean.onnx", name="mean", n_steps=3)


def add(client: redis.Redis, first: int, beyond: int, names: int = 1) -> None:
    pipeline = client.pipeline(transaction=False)
    for value in range(first, beyond):
        pipeline.xadd("readings", {"series": f"s{value % names}", "value": value})
    pipeline.execute()


def drain(tidecast: Run, model: Path, *options: str) -> str:
    result = tidecast("run", "--models", model, "--from", "earliest", "--burst", *options)
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_a_restart_takes_the_checkpoint_and_replays_nothing(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 50, names=4)
    drain(tidecast, model)
    client.xtrim("readings", maxlen=1)  # windows cannot come from the stream any more
    add(client, 50, 58, names=4)
    assert "(4 series from the checkpoint, 0 entries replayed)" in drain(tidecast, model)
    written: Any = client.xrange("readings:forecasts")
    last = json.loads(written[-1][1][b"forecast"])
    assert last["forecast"]["value"] == [53.0]  # of 49, 53 and 57
    assert len(written) == 58 - 4 * 2


def windows_of(tidecast: Run, model: Path, *options: str) -> tuple[int, int, str]:
    """Drain the stream; return of how many series and entries windows were made, and the log."""
    log = drain(tidecast, model, *options)
    (found,) = re.findall(r"\((\d+) series from the checkpoint, (\d+) entries replayed\)", log)
    return int(found[0]), int(found[1]), log


def test_a_new_version_finds_its_windows(
    client: redis.Redis, tidecast: Run, model: Path, tmp_path: Path
) -> None:
    """With ``--trim`` the stream cannot give them back; not one forecast may be lost."""
    add(client, 0, 4000, names=4)
    drain(tidecast, model, "--trim")
    assert client.xlen("readings") < 200
    new = write_mean_model(tmp_path / "new.onnx", name="other", n_steps=3, horizon=2)
    version, former = spec_in(new).version, spec_in(model).version
    add(client, 4000, 4012, names=4)
    series, replayed, log = windows_of(tidecast, new, "--trim")
    assert (series, replayed) == (4, 0)
    takes = f"model other version {version} takes over the windows of mean version {former}"
    assert takes in log
    written: Any = client.xrange("readings:forecasts")
    assert len(written) == 4012 - 4 * 2
    last = json.loads(written[-1][1][b"forecast"])
    assert (last["version"], last["forecast"]["value"]) == (version, [4007.0] * 2)


@pytest.mark.parametrize(
    ("described", "lost"),
    [
        pytest.param({"n_steps": 2}, 0, id="a shorter window"),
        pytest.param({"n_steps": 5}, 4 * 1, id="a longer window fills by what it lacks"),
        pytest.param({"series": "s*"}, 0, id="other series of which some are the same"),
    ],
)
def test_another_model_takes_what_fits_of_the_windows(
    client: redis.Redis,
    tidecast: Run,
    model: Path,
    tmp_path: Path,
    described: dict[str, Any],
    lost: int,
) -> None:
    add(client, 0, 4000, names=4)
    drain(tidecast, model, "--trim")
    client.xtrim("readings", maxlen=0)
    before = client.xlen("readings:forecasts")
    other = write_mean_model(tmp_path / "b.onnx", **{"name": "b", "n_steps": 3, **described})
    add(client, 4000, 4040, names=4)
    windows_of(tidecast, other)
    assert client.xlen("readings:forecasts") - before == 40 - lost
    written: Any = client.xrange("readings:forecasts")
    steps = described.get("n_steps", 3)
    expected = sum(4039 - 4 * i for i in range(steps)) / steps
    assert json.loads(written[-1][1][b"forecast"])["forecast"]["value"] == [expected]


def test_a_longer_window_comes_from_the_stream_where_that_holds_more(
    client: redis.Redis, tidecast: Run, model: Path, tmp_path: Path
) -> None:
    add(client, 0, 40, names=4)
    drain(tidecast, model)
    before = client.xlen("readings:forecasts")
    other = write_mean_model(tmp_path / "b.onnx", name="mean", n_steps=5)
    add(client, 40, 44, names=4)
    _, _, log = windows_of(tidecast, other)
    assert "their windows are made from what the stream holds" in log
    assert client.xlen("readings:forecasts") - before == 4
    add(client, 44, 48, names=4)
    assert windows_of(tidecast, other)[:2] == (4, 0)
    assert client.xlen("readings:forecasts") - before == 8


def test_a_further_model_has_its_windows_from_the_stream_and_the_first_keeps_its_own(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    models = tmp_path / "both"
    models.mkdir()
    write_mean_model(models / "a.onnx", name="a", n_steps=3, series="s0")
    add(client, 0, 40, names=2)
    drain(tidecast, models)
    before = client.xlen("readings:forecasts")
    write_mean_model(models / "b.onnx", name="b", n_steps=4, series="s1", step_seconds=None)
    add(client, 40, 42, names=2)
    windows_of(tidecast, models)
    assert client.xlen("readings:forecasts") - before == 2
    (models / "a.onnx").unlink()
    add(client, 42, 44, names=2)
    _, _, log = windows_of(tidecast, models)
    assert "1 series of the checkpoint have no model with their features and step any more" in log
    assert client.xlen("readings:forecasts") - before == 3
    write_mean_model(models / "a.onnx", name="a", n_steps=3, series="s0")
    client.xtrim("readings", maxlen=0)
    add(client, 44, 46, names=2)
    windows_of(tidecast, models)  # s0's windows of long ago lack what came since, and are gone
    assert client.xlen("readings:forecasts") - before == 4


def test_a_model_with_another_step_has_windows_of_its_own(
    client: redis.Redis, tidecast: Run, model: Path, tmp_path: Path
) -> None:
    add(client, 0, 10)
    drain(tidecast, model)
    client.xtrim("readings", maxlen=0)
    other = write_mean_model(tmp_path / "b.onnx", name="mean", n_steps=3, step_seconds=3600)
    _, _, log = windows_of(tidecast, other)
    assert "1 series of the checkpoint have no model with their features and step" in log


@pytest.mark.parametrize("damage", ["piece", "bytes", "manifest", "layout", "fleet"])
def test_a_damaged_checkpoint_is_refused_and_loses_nothing(
    client: redis.Redis, tidecast: Run, model: Path, damage: str
) -> None:
    add(client, 0, 40, names=4)
    drain(tidecast, model)
    key = "readings:checkpoint:default"
    fields: Any = client.hgetall(key)
    (piece,) = (name for name in fields if name.endswith(b":0"))
    manifest = json.loads(fields[b"manifest"])
    if damage == "piece":
        client.hdel(key, piece)
    elif damage == "bytes":
        client.hset(key, piece, fields[piece][:-9] + b"XXXXXXXXX")
    elif damage == "manifest":
        client.hset(key, "manifest", "{")
    elif damage == "layout":
        client.hset(key, "manifest", json.dumps(manifest | {"layout": 99}))
    else:
        client.hset(key, "manifest", json.dumps(manifest | {"fleet": "others"}))
    add(client, 40, 60, names=4)
    assert "is not used, the windows are rebuilt from the stream" in drain(tidecast, model)
    assert verify(client, "readings", model).flawless


def test_who_lost_the_lease_writes_no_checkpoint(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 10)
    drain(tidecast, model)
    key = "readings:checkpoint:default"
    before: Any = client.hget(key, "manifest")
    client.set("readings:lease:default", "another")
    late = Checkpoints(client, "default", "sleeper")
    section = late.write("readings", b"x" * 1_200_000)
    assert section.pieces == 3
    manifest = read_manifest(before).model_copy(update={"sections": [section]})
    with pytest.raises(LeaseError, match="another"):
        late.publish("readings", manifest, tidy=True)
    assert client.hget(key, "manifest") == before
    client.delete("readings:lease:default")
    add(client, 10, 12)
    assert "(1 series from the checkpoint, 0 entries replayed)" in drain(tidecast, model)


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE * AT_ONCE, PIECE * (AT_ONCE + 3) + 7])
def test_a_section_is_read_as_it_was_written_each_piece_once(
    client: redis.Redis, size: int
) -> None:
    section = np.random.default_rng(size).bytes(size)
    checkpoints = Checkpoints(client, "default", "me")
    client.set("readings:lease:default", "me")
    client.config_resetstat()
    written = checkpoints.write("readings", section)
    calls: Any = client.info("commandstats")
    assert calls.get("cmdstat_hset", {"calls": 0})["calls"] == written.pieces == -(-size // PIECE)
    manifest = Manifest(
        fleet="default",
        models=[],
        sets={},
        offset="1-0",
        entries=1,
        clock=1,
        series=1,
        evicted=0,
        lost=0,
        sections=[written, written],
    )
    checkpoints.publish("readings", manifest, tidy=True)
    assert list(checkpoints.sections("readings", manifest)) == [section, section]


def test_what_a_dead_worker_left_of_a_checkpoint_goes_with_the_first_of_the_next(
    client: redis.Redis, worker_of: Callable[..., Worker]
) -> None:
    Checkpoints(client, "default", "dead").write("readings", b"x" * 1_200_000)
    add(client, 0, 10)
    seen: list[set[bytes]] = []

    def look(step: str) -> None:
        if step == "saved":
            fields: Any = client.hkeys("readings:checkpoint:default")
            seen.append(set(fields))

    worker_of(lambda: False, pytest.fail, reached=look).run()
    assert seen
    assert not any(field.startswith(b"dead") for fields in seen for field in fields), seen
    manifest: Any = client.hget("readings:checkpoint:default", "manifest")
    kept = {field.encode() for one in read_manifest(manifest).sections for field in one.fields}
    assert seen[-1] == {b"manifest", b"saved_at", *kept}


def test_no_command_of_a_checkpoint_carries_more_than_a_megabyte(
    client: redis.Redis, tidecast: Run, tmp_path: Path
) -> None:
    model = write_mean_model(tmp_path / "long.onnx", n_steps=700)
    names = [f"s{number}" for number in range(2000)]
    body = json.dumps({"series": names, "value": [1.5] * len(names)})
    pipeline = client.pipeline(transaction=False)
    for _ in range(300):
        pipeline.xadd("readings", {"data": body})
    pipeline.execute()
    drain(tidecast, model)
    fields: Any = client.hgetall("readings:checkpoint:default")
    assert sum(map(len, fields.values())) > 2_000_000
    assert max(map(len, fields.values())) <= 500_000


def test_entries_removed_unread_raise_an_alarm_with_their_number(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 10)
    drain(tidecast, model)
    add(client, 10, 40)
    client.xtrim("readings", maxlen=5, approximate=False)
    log = drain(tidecast, model)
    assert "25 entries were removed from the stream before they were read" in log
    assert "REMOVED UNREAD" in log
    manifest: Any = client.hget("readings:checkpoint:default", "manifest")
    assert json.loads(manifest)["lost"] == 25
    add(client, 40, 41)
    assert "removed" not in drain(tidecast, model)  # said once
    groups: Any = client.xinfo_groups("readings")
    assert groups[0]["lag"] == 0


def test_the_servers_own_tools_see_the_lag(client: redis.Redis, tidecast: Run, model: Path) -> None:
    add(client, 0, 10)
    drain(tidecast, model)
    add(client, 10, 17)
    (group,) = client.xinfo_groups("readings")
    assert (group["name"], group["lag"], group["entries-read"]) == (b"tidecast:default", 7, 10)
    client.xgroup_destroy("readings", "tidecast:default")  # somebody tidies up
    drain(tidecast, model)
    (group,) = client.xinfo_groups("readings")
    assert (group["name"], group["lag"], group["entries-read"]) == (b"tidecast:default", 0, 17)


def test_trimming_waits_for_every_fleet(client: redis.Redis, tidecast: Run, model: Path) -> None:
    add(client, 0, 1000)
    drain(tidecast, model, "--fleet", "slow")
    add(client, 1000, 2000)
    drain(tidecast, model, "--trim")
    assert 1000 <= client.xlen("readings") <= 1100  # whole nodes of the stream go
    client.delete("readings:checkpoint:slow")
    add(client, 2000, 3000)
    before = client.xlen("readings")
    drain(tidecast, model, "--trim")
    assert client.xlen("readings") == before
    client.xgroup_create("readings", "somebody", id="0")
    drain(tidecast, model, "--fleet", "slow", "--trim")
    assert client.xlen("readings") == before
    client.xgroup_destroy("readings", "somebody")
    drain(tidecast, model, "--fleet", "slow", "--trim")
    assert client.xlen("readings") <= 100


def test_trimming_leaves_what_somebody_has_yet_to_acknowledge(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 1000)
    client.xgroup_create("readings", "somebody", id="0")
    client.xreadgroup("somebody", "one", {"readings": ">"}, count=1000)
    entries: Any = client.xrange("readings")
    pending, *acknowledged = [entry_id for entry_id, _ in entries[600:]]
    client.xack("readings", "somebody", *[i for i, _ in entries[:600]], *acknowledged)
    drain(tidecast, model, "--trim")
    assert 400 <= client.xlen("readings") <= 500  # whole nodes of the stream go
    assert client.xrange("readings", min=pending, max=pending)
    client.xack("readings", "somebody", pending)
    drain(tidecast, model, "--trim")
    assert client.xlen("readings") <= 100


def test_a_flood_of_names_is_bounded_and_counted(
    client: redis.Redis, tidecast: Run, model: Path
) -> None:
    add(client, 0, 500, names=500)
    log = drain(tidecast, model, "--max-series", "50", "--read-size", "7")
    assert "450 series forgotten to make room" in log
    manifest: Any = client.hget("readings:checkpoint:default", "manifest")
    assert (json.loads(manifest)["series"], json.loads(manifest)["evicted"]) == (50, 450)


def test_workers_share_partitions_fairly(tmp_path: Path, durable_server: Server) -> None:
    streams = [f"readings:{{{number}}}" for number in range(8)]

    def loads(client: redis.Redis) -> list[int]:
        owners: Any = client.mget([f"{stream}:lease:default" for stream in streams])
        return sorted(Counter(owner for owner in owners if owner).values())

    with nursery(tmp_path / "nursery") as home, durable_server.client() as client:
        settings = {"lease": 5.0}
        crew = [home.start(durable_server.url, "readings:{0..7}", settings=settings)]
        wait_for(lambda: loads(client) == [8])
        crew.append(home.start(durable_server.url, "readings:{0..7}", settings=settings))
        wait_for(lambda: loads(client) == [4, 4])
        crew.append(home.start(durable_server.url, "readings:{0..7}", settings=settings))
        wait_for(lambda: loads(client) == [2, 3, 3])
        end(crew[0], signal.SIGKILL)
        wait_for(lambda: loads(client) == [4, 4])
        end(crew[1], signal.SIGTERM)
        wait_for(lambda: loads(client) == [8])


def test_a_stopped_worker_hands_over_at_once(tmp_path: Path, durable_server: Server) -> None:
    long = {"lease": 3000.0}  # nobody waits for that
    with nursery(tmp_path / "nursery") as home, durable_server.client() as client:
        first = home.start(durable_server.url, settings=long)
        wait_for(lambda: client.exists("readings:lease:default") == 1)
        second = home.start(durable_server.url, settings=long)
        wait_for(lambda: client.zcard("tidecast:members:default") == 2)
        add(client, 0, 20)
        end(first, signal.SIGTERM)
        add(client, 20, 30)
        wait_for(lambda: client.xlen("readings:forecasts") == 30 - 3)
        end(second, signal.SIGTERM)
        assert verify(client, "readings", home.models).flawless


def test_a_replay_that_takes_long_lets_leases_be_looked_after(
    client: redis.Redis, tmp_path: Path
) -> None:
    """Readings that come late are taken one by one, and one entry may hold very many."""
    model = write_mean_model(tmp_path / "late.onnx", n_steps=3, **GRID)
    times = [START + STEP * slot for slot in range(3)]
    for some in (times, times[:1] * 900):
        body = {"series": "a", "ts": some, "value": list(range(len(some)))}
        last: Any = client.xadd("readings", {"data": json.dumps(body)})
    streams = Streams(client=client, count=100, block_ms=None)
    checkpoints = Checkpoints(client, "default", "me")
    recovery = Recovery(Settings(models=model), load_registry(model), streams, checkpoints)
    pulses: list[int] = []
    position = Position(last.decode(), 2)
    parts = list(recovery.restore("readings", position, lambda: pulses.append(1)))
    assert parts[-1] is not None
    assert len(pulses) >= 4
