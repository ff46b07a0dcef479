"""Mutated files: the rows of the record, or one clear line; never a traceback, never half of it.

``MUTATIONS=10000`` asks for more than the usual run does.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.files.test_kinds import KINDS
from tidecast.files.errors import FileError
from tidecast.files.options import FileOptions
from tidecast.trainer.errors import DataError
from tidecast.trainer.series import load_history

MUTATIONS = int(os.environ.get("MUTATIONS", "400"))
ROWS = 60
WORDS = [
    *(
        b"",
        b"\0",
        b'"',
        b"'",
        b",",
        b";",
        b"\t",
        b"#",
        b"\n",
        b"\r",
        b"-",
        b"NaN",
        b"1e999",
        b"\xff",
    ),
    *(b"%", b"0x1f", b"\xc2\xb0", b"9" * 40, b"T", b":", b".", b" ", b"-999", b"{", b"[", b"\\N"),
    *(b"\x1f\x8b", b"PAR1"),
]


def swapped_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    chance.shuffle(lines)
    return b"\n".join(lines)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def doubled(data: bytes, chance: random.Random) -> bytes:
    first = chance.randrange(len(data) + 1)
    return data[:first] + data[first : first + chance.randrange(200)] * 2 + data[first:]


def replaced(data: bytes, chance: random.Random) -> bytes:
    return data.replace(chance.choice(WORDS) or b" ", chance.choice(WORDS), chance.choice((1, -1)))


def inserted(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randrange(1, 8)):
        place = chance.randrange(len(data) + 1)
        data = data[:place] + chance.choice(WORDS) + data[place + chance.randrange(3) :]
    return data


def bytes_changed(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


MUTATORS: list[Callable[[bytes, random.Random], bytes]] = [
    swapped_lines, cut, doubled, replaced, inserted, bytes_changed,
]  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_a_mutated_file_is_read_or_refused_in_one_line(part: int, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    sources = [
        content if isinstance(content, bytes) else content.encode() for content, _ in KINDS.values()
    ]
    refused = 0
    for number in range(part, MUTATIONS, 4):
        chance = random.Random(number)
        data = chance.choice(sources)
        for _ in range(chance.randrange(1, 4)):
            data = chance.choice(MUTATORS)(data, chance)
        path.write_bytes(data)
        options = FileOptions(missing=("x",)) if number % 5 == 0 else FileOptions()
        try:
            history = load_history(path, ["power"], file=options)
        except (DataError, FileError) as error:
            refused += 1
            said = str(error)
            assert said.startswith(f"{path}"), (number, said)
            assert len(said) < 900, (number, said)
            assert "\n" not in said, (number, said)
            continue
        lines = sum(bool(line.strip()) for line in data.splitlines()) - 1
        assert history.rows + history.dropped >= 0.5 * min(lines, ROWS) - 8, (number, history.told)
    assert 0 < refused < MUTATIONS / 4
