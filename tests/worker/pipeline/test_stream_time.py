"""How far a partition's readings have come, and those that leap too far ahead."""

from random import Random

import numpy as np
import pytest

from tidecast.worker.pipeline.stream_time import NEVER, PERIODS, Silence, StreamTime

NOW = 1_700_000_000_000
DAY = 86_400_000


def taken(stream_time: StreamTime, *readings: tuple[int, int]) -> list[int]:
    """Places of the refused ones; readings are (time, time of the entry), after ``NOW``."""
    times = np.array([NOW + time for time, _ in readings], np.int64)
    refused: list[int] = stream_time.take(
        times, [b"%d-0" % (NOW + at) for _, at in readings]
    ).tolist()
    return refused


def test_a_reading_far_ahead_costs_itself() -> None:
    stream_time = StreamTime(DAY)
    assert taken(stream_time, (0, 0), (DAY + 2, 1), (2, 2)) == [1]
    assert stream_time.latest == NOW + 2
    assert taken(stream_time, (DAY + 4, 3)) == [0]
    assert stream_time.latest == NOW + 2


def test_the_bound_is_the_entry_and_what_came_before() -> None:
    stream_time = StreamTime(DAY)
    assert taken(stream_time, (DAY, 0)) == []
    assert taken(stream_time, (2 * DAY + 1, 0)) == [0]
    assert taken(stream_time, (2 * DAY, 0)) == []
    assert taken(stream_time, (2 * DAY + 1, DAY)) == []


def test_accelerated_time_goes_on_and_a_leap_in_it_is_refused() -> None:
    stream_time = StreamTime(DAY)
    week = [(hour * 3_600_000, 0) for hour in range(24 * 7)]
    assert taken(stream_time, *week) == []
    assert taken(stream_time, (9 * DAY, 0), (7 * DAY, 0)) == [0]


def test_the_first_reading_of_a_stream_has_its_entry_alone_as_a_bound() -> None:
    stream_time = StreamTime(DAY)
    assert taken(stream_time, (10 * DAY, 0)) == [0]
    assert stream_time.latest == NEVER


def test_old_readings_are_never_ahead() -> None:
    assert taken(StreamTime(0), (-DAY, 0), (0, 0), (-5, 0)) == []


@pytest.mark.parametrize("entry_id", [b"7-0", b"99999999999-5", b"9" * 20 + b"-1"])
def test_ids_that_are_no_clock_times_set_no_bound(entry_id: bytes) -> None:
    stream_time = StreamTime(DAY)
    assert not len(stream_time.take(np.array([NOW]), [entry_id]))
    assert stream_time.latest == NOW


def test_an_id_that_is_no_clock_time_lends_no_other_reading_its_freedom() -> None:
    times, ids = np.array([NOW, NOW + 10 * DAY]), [b"7-0", b"%d-0" % NOW]
    assert StreamTime(DAY).take(times, ids).tolist() == [1]


def test_no_bound_at_all_takes_everything() -> None:
    assert taken(StreamTime(), (0, 0), (10_000 * DAY, 0)) == []


def test_nothing_changes_nothing() -> None:
    stream_time = StreamTime(DAY)
    assert taken(stream_time) == []
    assert stream_time.latest == NEVER


def reference(readings: list[tuple[int, int]], skew: int) -> tuple[list[int], int]:
    """Readings one by one, as the sentence says."""
    latest, refused = NEVER - NOW, []
    for place, (time, at) in enumerate(readings):
        if time > at + skew and time > latest + skew:
            refused.append(place)
        else:
            latest = max(latest, time)
    return refused, latest + NOW


@pytest.mark.parametrize("seed", range(200))
def test_batches_of_any_size_are_treated_as_one_by_one(seed: int) -> None:
    random = Random(seed)
    at, readings = 0, []
    for _ in range(60):
        at += random.randrange(3)
        readings.append((at + random.choice([0, 0, -5, 3, 9, 12, 40]), at))
    expected = reference(readings, 10)
    stream_time, refused, first = StreamTime(10), [], 0
    while first < len(readings):
        beyond = first + random.randint(1, 20)
        refused += [first + place for place in taken(stream_time, *readings[first:beyond])]
        first = beyond
    assert (refused, stream_time.latest) == expected


def forgotten(ttl: int, readings: list[tuple[str, int]], sizes: list[int]) -> list[tuple[int, str]]:
    """Which series are forgotten before which reading, in batches of these sizes."""
    silence, latest, number = Silence(ttl), NEVER, 0
    touched: dict[str, int] = {}
    gone: list[tuple[int, str]] = []
    rest = readings
    for size in sizes:
        batch, rest = rest[:size], rest[size:]
        if not batch:
            break
        times = np.array([NOW + time for _, time in batch], np.int64)
        for first, beyond, begun in silence.parts(times, latest):
            if begun is not None:
                old = silence.begin(begun, latest, number)
                for name in [name for name, last in touched.items() if last < old]:
                    gone.append((number, name))
                    del touched[name]
            for name, _ in batch[first:beyond]:
                touched[name] = number
                number += 1
            latest = max(latest, int(times[first:beyond].max()))
    return gone


@pytest.mark.parametrize("seed", range(100))
def test_quiet_series_go_at_the_same_reading_however_a_stream_is_cut(seed: int) -> None:
    random = Random(seed)
    ttl, at, readings = 80, 0, []
    for _ in range(200):
        at += random.choice([0, 0, 1, 3, 9, 200 if random.random() < 0.3 else 2])
        readings.append((random.choice("aabbbcd"), at - random.randrange(5)))
    one_by_one = forgotten(ttl, readings, [1] * len(readings))
    cut = [random.randint(1, 30) for _ in readings]
    assert sorted(forgotten(ttl, readings, cut)) == sorted(one_by_one)
    assert one_by_one
    for number, name in one_by_one:  # none goes early, and none stays for long
        last = max(i for i, (one, _) in enumerate(readings[:number]) if one == name)
        then = max(time for _, time in readings[: last + 1])
        before = max(time for _, time in readings[:number])
        assert max(before, readings[number][1]) - then >= ttl - 1
        assert before - then <= ttl + 2 * ttl // PERIODS


def test_without_a_limit_nothing_is_forgotten() -> None:
    assert Silence(None).parts(np.array([1, 2, 10**12]), NEVER) == [(0, 3, None)]
