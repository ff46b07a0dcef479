"""Entries as people send them, through ``check`` and a worker: what came of each kind."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.model_files import write_mean_model

START = 1_709_251_200_000
READINGS = 4
STEPS = 2


@dataclass(frozen=True)
class Kind:
    """A kind of entries: their fields, and the options that the worker is told."""

    name: str
    fields: list[dict[str, str | bytes]]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Came:
    """What came of it."""

    kind: Kind
    forecasts: int
    series: str
    first: str
    dead: str
    checked: str


def _json(said: Any) -> str:
    return json.dumps(said)


def _at(number: int, step: int = 60_000) -> int:
    return START + number * step


def kinds() -> Iterator[Kind]:
    """Each kind of entry, of a sensor of one value a minute."""
    some = range(READINGS)
    flat = [{"series": "s", "ts": str(_at(n)), "temp": f"{70 + n}"} for n in some]
    yield Kind("flat", [dict(one) for one in flat])
    named = [{"sensor": "boiler-7", "timestamp": str(_at(n)), "temp": "70"} for n in some]
    yield Kind("other names", [dict(one) for one in named])
    told = ("--series-field", "sensor", "--time-field", "timestamp")
    yield Kind("other names, told", [dict(one) for one in named], told)
    yield Kind("seconds", [{"series": "s", "ts": str(_at(n) // 1000), "temp": "70"} for n in some])
    inner = [{"series": "s", "ts": _at(n), "temp": "70.5"} for n in some]
    for field in ("data", "payload", "message", "__data__", "body"):
        yield Kind(f"JSON in {field}", [{field: _json(one)} for one in inner])
    ahead = [dict(one) for one in flat]
    ahead.insert(2, {"series": "s", "ts": str(START + 10**11), "temp": "70"})
    yield Kind("a reading far ahead", [dict(one) for one in ahead])
    for step in (120_000, 10_000):
        rows = [{"series": "s", "ts": str(_at(n, step)), "temp": "70"} for n in range(40)]
        yield Kind(f"every {step // 1000} s for 60 s", [dict(one) for one in rows])
    telegraf = [
        {
            "name": "boiler",
            "tags": {"site": "a"},
            "fields": {"temp": 70},
            "timestamp": _at(n) // 1000,
        }
        for n in some
    ]
    yield Kind("Telegraf", [{"payload": _json(one)} for one in telegraf])
    device = [{"device": {"id": "s"}, "values": {"temp": 70}, "time": _at(n)} for n in some]
    yield Kind("nested device", [{"payload": _json(one)} for one in device])
    protocol = [f"weather,site=a temp=70.5 {_at(n)}000000" for n in some]
    yield Kind("line protocol", [{"payload": line} for line in protocol])
    historian = [{"Tagname": "temp", "Time": f"2024-03-01T00:0{n}:00Z", "value": 70} for n in some]
    yield Kind("historian", [{"payload": _json(one)} for one in historian])
    rows_ = [{"series": "s", "ts": _at(n), "temp": 70} for n in some]
    change = [{"before": None, "after": one, "op": "c"} for one in rows_]
    yield Kind("Debezium, after", [{"value": _json(one)} for one in change])
    yield Kind("Debezium, wrapped", [{"value": _json({"payload": one})} for one in change])
    compact = [{_json({"id": n}): _json(one)} for n, one in enumerate(change)]
    yield Kind("Debezium, compact", [dict(one) for one in compact])
    cloud = [
        {"specversion": "1.0", "type": "t", "source": "/s", "id": str(n), "data": one}
        for n, one in enumerate(rows_)
    ]
    yield Kind("CloudEvents", [{"event": _json(one)} for one in cloud])
    lines = ["\n".join(_json(one) for one in rows_)]
    yield Kind("JSON lines", [{"data": line} for line in lines])
    hostile = "x\n12:00:00 ERROR lost \x1b[31m"
    yield Kind("hostile name", [{"series": hostile, "ts": str(_at(n)), "temp": "a"} for n in some])
    words = [{"series": "s", "ts": str(_at(n)), "metric": "temp", "reading": "7"} for n in some]
    long = ("--feature-field", "metric", "--value-field", "reading")
    yield Kind("one value an entry", [dict(one) for one in words], long)


def run(client: redis.Redis, url: str, folder: Path) -> Iterator[Came]:
    """Send each kind to a stream of its own, and say what came of it."""
    model = write_mean_model(
        folder / "m.onnx", features=("temp",), targets=("temp",), n_steps=STEPS, step_seconds=60.0,
        gaps="linear", max_gap=1,
    )  # fmt: skip
    for number, kind in enumerate(kinds()):
        stream = f"kind{number}"
        for fields in kind.fields:
            client.xadd(stream, dict(fields.items()))
        words = ("--redis-url", url, "--input", stream, *kind.options)
        worker = _program("run", "--models", model, "--from", "earliest", "--burst", *words)
        looked = _program("check", "--models", model, *words)
        yield _what_came(client, stream, kind, worker.stderr, looked.stdout + looked.stderr)


def _program(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidecast.worker", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _what_came(client: redis.Redis, stream: str, kind: Kind, log: str, looked: str) -> Came:
    entries: Any = client.xrange(f"{stream}:forecasts")
    said = [json.loads(fields[b"forecast"]) for _, fields in entries]
    letters: Any = client.xrange(f"{stream}:dead")
    reasons = [fields[b"reason"].decode() for _, fields in letters]
    warned = [line for line in log.splitlines() if re.search(r" WARNING ", line)]
    told = [line.split("WARNING", 1)[1].strip() for line in warned if "at risk" not in line]
    first = f"{said[0]['at']}: {said[0]['forecast']['temp'][0]}" if said else ""
    names = ", ".join(sorted({repr(one["series"]) for one in said}))
    dead = "; ".join([*dict.fromkeys(reasons), *told])
    if "Traceback" in log + looked or "\x1b" in log + looked:
        dead = "TRACEBACK OR RAW BYTES"
    command = next(
        (line for line in looked.splitlines()[::-1] if "tidecast-worker run" in line), ""
    )
    return Came(
        kind, len(said), names, first, dead, command.partition(f"--input {stream}")[2].strip()
    )
