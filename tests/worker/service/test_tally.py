"""Counts, histograms and what rejects are counted as."""

from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.fates import Fates
from tidecast.worker.pipeline.outcome import Commit
from tidecast.worker.pipeline.wire import KINDS, Reject
from tidecast.worker.service.tally import Histogram, Measures


def test_a_value_on_a_bound_lies_below_it() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1, 1.5, 10, 11, 1000):
        histogram.add(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.sum == 1024


def test_a_commit_is_as_late_as_its_oldest_entry() -> None:
    measures = Measures(["m"])
    rejects = [Reject("why", b"1-0", b"", "late"), Reject("why", b"1-0", b"")]
    commit = Commit(
        "2000-5", "9000-0", 3, Fates(40), rejects, inference=[("m", 0.003), ("new", 2.0)]
    )
    measures.add(commit, 12.5)
    assert measures.latency.sum == 10.5
    assert measures.readings.sum == 40
    assert measures.inference["m"].sum == 0.003
    assert measures.inference["new"].counts[-1] == 1
    assert measures.rejects == dict.fromkeys(KINDS, 0) | {"late": 1, "malformed": 1}


def test_an_id_ahead_of_our_clock_is_no_negative_latency() -> None:
    measures = Measures()
    measures.add(Commit("99000-0", "99000-0", 1, Fates(1), []), 12.5)
    assert measures.latency.sum == 0
    assert measures.latency.counts[0] == 1


def test_what_cannot_be_read_is_told_apart() -> None:
    decoder = Decoder("readings", ["value"])
    entries = [
        (b"1-0", [b"series", b"a", b"ts", b"yesterday", b"value", b"1"]),
        (b"2-0", [b"series", b"\xff", b"value", b"1"]),
        (b"3-0", [b"data", b"{broken"]),
        (b"4-0", [b"data", b'{"series":true,"value":2}']),
        (b"5-0", [b"data", b'{"ts":1e99,"value":2}']),
    ]
    _, rejects = decoder.decode(entries)
    kinds = {reject.entry: reject.kind for reject in rejects}
    assert kinds == {
        b"1-0": "time",
        b"2-0": "series",
        b"3-0": "malformed",
        b"4-0": "series",
        b"5-0": "time",
    }
    assert set(kinds.values()) <= set(KINDS)
