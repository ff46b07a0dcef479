"""What is sent back unread: a reason of bounded length; and whom an entry is for."""

import pytest

from tidecast.worker.pipeline.wire import ADDRESSEE, KINDS, LONGEST_REASON, Reject, unaddressed


@pytest.mark.parametrize("reason", ["", "x" * 512, "é" * 256, "𝄞" * 128])
def test_a_reason_that_fits_is_kept(reason: str) -> None:
    assert Reject(reason, b"1-0", b"{}").reason == reason


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("x" * 513, "x" * 509 + "..."),
        ("é" * 257, "é" * 254 + "..."),  # a character that the cut would split goes
        ("x" + "𝄞" * 128, "x" + "𝄞" * 127 + "..."),
        ("x" * 129 + "é" * 300, "x" * 129 + "é" * 190 + "..."),
    ],
)
def test_a_reason_that_is_too_long_is_cut(reason: str, cut: str) -> None:
    found = Reject(reason, b"1-0", b"{}").reason
    assert found == cut
    assert len(found.encode()) <= LONGEST_REASON == 512


def test_a_reject_is_malformed_unless_said() -> None:
    assert Reject("x", b"1-0", b"{}").kind == "malformed"
    assert KINDS == ("malformed", "series", "time", "value", "ahead", "late", "forecast")


@pytest.mark.parametrize(
    ("fields", "rest"),
    [
        ([b"a", b"1", ADDRESSEE, b"x", b"b", b"2"], [b"a", b"1", b"b", b"2"]),
        ([ADDRESSEE, b"x"], []),
        ([b"a", ADDRESSEE], [b"a", ADDRESSEE]),  # a value that reads like it
        ([b"a", b"1", b"a", b"2"], [b"a", b"1", b"a", b"2"]),
        ([], []),
    ],
)
def test_whom_an_entry_is_for_is_no_part_of_what_it_says(
    fields: list[bytes], rest: list[bytes]
) -> None:
    assert unaddressed(fields) == rest
    assert ADDRESSEE == b"tidecast:fleet"
