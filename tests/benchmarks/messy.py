"""What streams that are not clean cost a worker: its processor time, to that for a clean one.

Entries of one reading each, 1,000 series, as many in each stream: flat ones, and JSON of known
shapes beside JSON that has all parts of a reading on top. What a worker takes that finds next to
nothing to do is taken off.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.cases import Bench
from tests.benchmarks.streams import START_MS, fill
from tests.benchmarks.workers import ROOT, clear, command

SERIES = 1000
READINGS = 300_000
FEW = 5000
BODY = b'{"series":'
Words = list[bytes]


def reading(number: int, value: bytes = b"50.5", at: bytes | None = None) -> Words:
    """Return the fields of one reading."""
    when = at or b"%d" % (START_MS + number * 1000)
    return [b"series", b"s%d" % (number % SERIES), b"ts", when, b"value", value]


def one_in_a_thousand(number: int) -> Words:
    """Return a reading, now and then with a value that is none."""
    return reading(number, b"bad" if number % 1000 == 777 else b"50.5")


def malformed(number: int) -> Words:
    """Return a reading, in 5 % of the cases without a value or in JSON that breaks off."""
    if number % 40 == 7:
        return [b"data", BODY]
    return reading(number, b"bad" if number % 40 == 27 else b"50.5")


def by_turns(number: int) -> Words:
    """Return a reading whose fields come in one order or the other."""
    fields = reading(number)
    return fields if number % 2 else fields[4:] + fields[:4]


def wide(number: int) -> Words:
    """Return a reading with 97 fields that nobody wants."""
    return reading(number) + [text for i in range(97) for text in (b"field%d" % i, b"%d.25" % i)]


def iso(number: int) -> Words:
    """Return a reading with its time in ISO 8601."""
    moment = np.datetime64(START_MS + number * 1000, "ms")
    return reading(number, at=b"%bZ" % str(moment).encode())


def flat_json(number: int) -> Words:
    """Return a reading as a JSON object."""
    text = b'{"series":"s%d","ts":%d,"value":50.5}'
    return [b"data", text % (number % SERIES, START_MS + number * 1000)]


def device(number: int) -> Words:
    """Return a reading that lies in the objects of a JSON object."""
    text = b'{"device":{"id":"s%d"},"ts":%d,"values":{"value":50.5}}'
    return [b"data", text % (number % SERIES, START_MS + number * 1000)]


def telegraf(number: int) -> Words:
    """Return a reading as Telegraf's JSON, whose name and tags are its series."""
    text = b'{"name":"m","tags":{"n":"s%d"},"fields":{"value":50.5},"timestamp":%d}'
    return [b"data", text % (number % SERIES, START_MS + number * 1000)]


def line(number: int) -> Words:
    """Return a reading in line protocol."""
    return [b"data", b"m,n=s%d value=50.5 %d" % (number % SERIES, START_MS + number * 1000)]


def every_mess(number: int) -> Words:
    """Return a reading; of each mess 5 % are lost, doubled, late, without a value, off the step."""
    odd, turn = number % 20, number // SERIES
    if odd == 3:
        return reading(number - 1)  # twice; the one that was due is lost
    if odd == 7:  # the next of its series comes first
        return reading(number + SERIES if turn % 2 == 0 else number - SERIES)
    if odd == 11:
        return reading(number, b"-")
    off = 200_000 if odd == 15 else 0
    return reading(number, at=b"%d" % (START_MS + number * 1000 + off))


@dataclass(frozen=True)
class Kind:
    """A kind of stream, with the floor and the goal of its ratio to a clean one, ``beside`` it.

    ``stepped``: for a model whose windows have a slot for each step.
    """

    fields: Callable[[int], Words]
    floor: float
    goal: float
    stepped: bool = False
    beside: str = "clean"


CLEAN = {"clean": Kind(reading, 1, 1), "flat JSON": Kind(flat_json, 1, 1)}
KINDS = {
    "one bad value in 1,000": Kind(one_in_a_thousand, 1.4, 1.2),
    "5 % malformed": Kind(malformed, 1.5, 1.3),
    "two layouts by turns": Kind(by_turns, 1.5, 1.3),
    "100 fields, one wanted": Kind(wide, 4.0, 2.0),
    "times in ISO 8601": Kind(iso, 1.7, 1.5),
    "a model with a step": Kind(reading, 1.2, 1.1, stepped=True),
    "5 % of every mess, a model with a step": Kind(every_mess, 1.9, 1.67, stepped=True),
    "device and values in JSON": Kind(device, 1.67, 1.4, beside="flat JSON"),
    "Telegraf's JSON": Kind(telegraf, 1.67, 1.4, beside="flat JSON"),
    "line protocol": Kind(line, 3.0, 2.0, beside="flat JSON"),
}


def measure(bench: Bench, rounds: int, tell: Callable[[str], object]) -> dict[str, list[float]]:
    """Return the ratios of each kind, a sample a round."""
    ratios: dict[str, list[float]] = {name: [] for name in KINDS}
    for number in range(rounds):
        clean = {name: processor_seconds(bench, kind) for name, kind in CLEAN.items()}
        for name in list(KINDS)[:: -1 if number % 2 else 1]:
            beside = KINDS[name].beside
            ratios[name].append(processor_seconds(bench, KINDS[name]) / clean[beside])
            tell(f"round {number + 1} of {rounds}: {name}: {ratios[name][-1]:.2f} of {beside}")
    return ratios


def processor_seconds(bench: Bench, kind: Kind) -> float:
    """Return the processor time that a worker takes for a stream of such entries."""
    # A worker's start takes a second by itself, so a short run is not as short as others.
    readings = round(READINGS * min(1.0, 4 * bench.size))
    few, many = (_burst(bench, kind, count) for count in (FEW, FEW + readings))
    return max(1e-3, many - few)


def _burst(bench: Bench, kind: Kind, count: int) -> float:
    """Return the processor time of a worker from its start to its end, with so many entries."""

    def entries() -> Iterator[Words]:
        for number in range(count):
            yield [b"XADD", b"messy", b"*", *kind.fields(number)]

    fill(bench.client, entries())
    model = bench.stepped if kind.stepped else bench.small
    words = command(bench.url, model, "messy", "--from", "earliest", "--burst")
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    clear(bench.client, "messy")
    if process.returncode:
        raise SystemExit(f"{words!r} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime
