"""The worked example of CONTRIBUTING.md is code that works, carried by what carries the windows."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.model_files import spec_of
from tidecast.worker.pipeline.changelog import Changelog
from tidecast.worker.pipeline.columns import Table
from tidecast.worker.pipeline.series import HeldSeries
from tidecast.worker.pipeline.snapshot import decode, encode
from tidecast.worker.pipeline.windows import columns_of

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


class Written(bytes):
    """A section."""

    @property
    def size(self) -> int:
        return len(self)


def example() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(code.splitlines()) <= 40
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is ours
    return names


def test_the_example_computes_what_it_says() -> None:
    pace = example()
    table = Table([pace["COLUMNS"]])
    rows = table.add(np.arange(2))
    stage = pace["Pace"](table)
    for time in (1000, 1100, 1220):
        stage.push(rows, np.array([time, 2 * time]))
    assert table["mean_gap"][:2].tolist() == [100 + 0.1 * 20, 200 + 0.1 * 40]


def test_its_columns_are_saved_and_restored_by_what_knows_nothing_of_them() -> None:
    pace = example()

    def held(*sets: Any) -> HeldSeries:
        held = HeldSeries([spec_of()], lambda _: 0, 10)
        held.tables[0] = Table([columns_of(3, 1), *sets])
        return held

    one, sections = held(pace["COLUMNS"]), list[bytes]()
    slots = one.place([b"a", b"b"]).slots
    pace["Pace"](one.tables[0]).push(one.routes[slots, 1], np.array([5, 7]))
    log = Changelog[Written]()
    one.save(log, lambda state: Written(encode(state)))
    sections += log.sections
    again, before = held(pace["COLUMNS"]), held()
    for other in (again, before):
        list(other.restore(map(decode, sections), one.clock, 2))
    assert again.tables[0]["last_seen"][:2].tolist() == [5, 7]
    old = Changelog[Written]()
    before.save(old, lambda state: Written(encode(state)))
    later = held(pace["COLUMNS"])
    list(later.restore(map(decode, old.sections), one.clock, 2))  # a checkpoint that knows no pace
    assert later.tables[0]["last_seen"][:2].tolist() == [0, 0]
