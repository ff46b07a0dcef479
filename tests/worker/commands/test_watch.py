"""The board of newest forecasts, as a person sees it."""

import orjson
from rich.console import Console

from tidecast.worker.commands.watch import Board


def record(series: str, at: int, **targets: list[float]) -> bytes:
    known = {"series": series, "at": at, "model": "m", "version": "abcdef"}
    return orjson.dumps(known | {"forecast": targets})


def shown(board: Board) -> list[str]:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(board.table())
    return capture.get().splitlines()


def test_the_newest_forecast_of_each_series_the_last_heard_on_top() -> None:
    board = Board()
    board.take(record("a", 0, temp=[1.0, 2.0, 3.0], hum=[5.0]))
    board.take(record("b", 1000, temp=[7.0, 7.0]))
    board.take(record("a", 60_000, temp=[1.0, 2.0, 9.0], hum=[6.5]))
    lines = shown(board)
    assert "3 forecasts heard, 2 series" in lines[0]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows == [
        ["a", "1970-01-01 00:01:00", "temp", "▁▂█", "1, 2, 9", "m abcdef"],
        ["a", "1970-01-01 00:01:00", "hum", "·", "6.5", "m abcdef"],
        ["b", "1970-01-01 00:00:01", "temp", "··", "7, 7", "m abcdef"],
    ]


def test_names_in_brackets_are_no_markup() -> None:
    board = Board()
    board.take(record("x[/y]", 0, **{"flow[in]": [1.0]}))
    assert any("x[/y]" in line and "flow[in]" in line for line in shown(board))
