"""What is said when most of a stream's readings cannot be used, and when nothing is."""

import pytest

from tidecast.worker.pipeline.fates import Fates
from tidecast.worker.pipeline.outcome import HINDRANCES, Commit, Hindrance
from tidecast.worker.pipeline.wire import KINDS, Kind, Reject
from tidecast.worker.service.hindrances import (
    AGAIN,
    ENOUGH,
    KIND_OF,
    SENTENCES,
    SOME,
    Hindrances,
)


def commit(
    readings: int = 0,
    forecasts: int = 0,
    reject: Kind | None = None,
    clues: dict[Hindrance, str] | None = None,
    **fates: int,
) -> Commit:
    made = Commit("1-0", "1-0", 1, Fates(readings, **fates), [], clues=clues or {})
    made.series, made.records = [b"s"] * forecasts, [b"{}"] * forecasts
    if reject:
        made.rejects = [Reject("odd", b"7-0", b"{}", reject, count=readings or 1)]
    return made


def told(*commits: Commit) -> dict[Hindrance, str]:
    hindrances = Hindrances("readings")
    for one in commits:
        hindrances.take(one)
    return dict(hindrances.judge(0.0))


def test_every_kind_has_its_sentence() -> None:
    assert SENTENCES.keys() == set(HINDRANCES)
    assert KIND_OF.keys() == set(KINDS)


def test_a_stream_that_is_forecast_is_not_spoken_of() -> None:
    assert told(commit(300, 300)) == {}
    assert told(commit(300, 151, unserved=149)) == {}
    assert told(commit(300, 10, waiting=290)) == {}


def test_readings_that_name_nothing_are_told_of_though_they_are_forecast() -> None:
    said = told(commit(30, 30, clues={"nameless": "there are 'sensor'"}))
    assert list(said) == ["nameless"]
    assert "there are 'sensor'" in said["nameless"]


@pytest.mark.parametrize(
    ("what", "kind", "count"),
    [
        (commit(30, unserved=30), "unserved", 30),
        (commit(30, missing=30), "values", 30),
        (commit(30, joined=30, broken=15), "values", 30),
        (commit(30, dropped=30), "late", 30),
        (commit(30, ignored=30), "repeated", 30),
        (commit(30, waiting=30), "waiting", 30),
        (commit(30, joined=30), "waiting", 30),
        (commit(30, reject="value"), "values", 30),
        (commit(30, reject="late"), "late", 30),
        (commit(30, reject="ahead"), "ahead", 30),
        (commit(30, reject="forecast"), "failed", 30),
        (commit(0, reject="malformed"), "unreadable", 1),
        (commit(0, reject="series"), "unreadable", 1),
        (commit(0, reject="time"), "unreadable", 1),
    ],
)
def test_what_most_readings_come_to_is_said(what: Commit, kind: Hindrance, count: int) -> None:
    said = told(what)
    assert list(said) == [kind]
    assert said[kind].startswith(f"{count} of {count} {'readings' if count > 1 else 'entries'} ")
    assert "{" not in said[kind].replace('{"', "")


def test_several_reasons_add_up_and_the_usual_ones_are_said() -> None:
    said = told(commit(100, 45, unserved=25, dropped=22, missing=8))
    assert list(said) == ["unserved", "late"]
    assert told(commit(100, 50, unserved=25, dropped=25)) == {}


def test_an_example_is_told() -> None:
    assert (
        "such as series x"
        in told(commit(30, unserved=30, clues={"unserved": "series x"}))["unserved"]
    )
    assert "such as entry 7-0: odd; " in told(commit(30, reject="value"))["values"]


def test_a_word_is_not_waited_for_where_nothing_was_ever_forecast() -> None:
    assert list(told(commit(1, unserved=1))) == ["unserved"]
    assert told(commit(1, 1), commit(1, unserved=1), commit(1, unserved=1)) == {}


def test_each_kind_is_told_once_and_stands_until_most_readings_are_forecast() -> None:
    hindrances = Hindrances("readings")
    hindrances.take(commit(ENOUGH, unserved=ENOUGH))
    assert [hindrances.is_plain, len(hindrances.judge(0.0)), hindrances.is_plain] == [
        True,
        1,
        False,
    ]
    hindrances.take(commit(SOME, unserved=SOME))
    assert hindrances.judge(1.0) == []
    assert list(hindrances.stands) == ["unserved"]
    hindrances.take(commit(SOME - 1, SOME - 1))
    hindrances.judge(2.0)
    assert list(hindrances.stands) == ["unserved"]
    hindrances.take(commit(1, 1))
    hindrances.judge(3.0)
    assert hindrances.stands == {}
    hindrances.take(commit(SOME, unserved=SOME))
    assert hindrances.judge(4.0) == []
    hindrances.take(commit(SOME, unserved=SOME))
    assert hindrances.judge(AGAIN + 2) == []
    hindrances.take(commit(SOME, dropped=SOME))
    assert [kind for kind, _ in hindrances.judge(AGAIN + 3)] == ["late"]
    hindrances.take(commit(SOME, unserved=SOME))
    assert [kind for kind, _ in hindrances.judge(2 * AGAIN + 2)] == ["unserved"]


def test_another_pace_stands_beside_forecasts() -> None:
    hindrances = Hindrances("readings")
    hindrances.take(commit(SOME, SOME, clues={"pace": "every 10 s"}))
    assert hindrances.judge(0.0) == [("pace", "every 10 s")]
    assert hindrances.stands == {"pace": "every 10 s"}
    hindrances.take(commit(SOME, SOME))
    hindrances.judge(0.0)
    assert hindrances.stands == {}
