"""Writes the weekly CO2 record of Mauna Loa: a history to learn from, and its end to replay.

    python3 record.py FOLDER

``co2.csv`` is the whole record. The trainer learns nothing from its last fifth, so that stands in
``live-0.csv`` to ``live-3.csv``, one for each input stream: there 25 stations report it, each from
another week on and over and over, and without times, since it is replayed faster than it happened.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from statsmodels.datasets import co2

STREAMS = 4
STATIONS = 25
LEARNED = 0.8
"""Share of the rows that the trainer trains on or stops by, if not told otherwise."""


def main(folder: Path) -> None:
    """Write the files."""
    record = co2.load_pandas().data["co2"]
    days, values = [f"{day:%Y-%m-%d}" for day in record.index], record.to_numpy()
    known = ["" if np.isnan(value) else f"{value:.1f}" for value in values]
    write(folder / "co2.csv", ["timestamp", "co2"], list(zip(days, known, strict=True)))
    unseen = [text for text in known[round(LEARNED * len(known)) :] if text]
    for stream in range(STREAMS):
        write(folder / f"live-{stream}.csv", ["series", "co2"], reports(stream, unseen))


def reports(stream: int, values: list[str]) -> list[tuple[str, str]]:
    """Return what a stream's stations report, in turns: each all values, from a row of its own."""
    apart = len(values) // (STREAMS * STATIONS)
    first = {
        f"station-{stream}-{number:02d}": apart * (STATIONS * stream + number)
        for number in range(STATIONS)
    }
    return [
        (station, values[(row + start) % len(values)])
        for row in range(len(values))
        for station, start in first.items()
    ]


def write(path: Path, header: list[str], rows: list[tuple[str, str]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
