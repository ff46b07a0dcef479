"""Globs of series: what they match, and that no name takes long."""

from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidecast.worker.contract import glob_regex

pieces = st.text("ab?*", max_size=9)


def matches(glob: str, name: str) -> bool:
    """The meaning of a glob, spelled out: each star takes nothing, or one character more."""

    @cache
    def rest(i: int, j: int) -> bool:
        if i == len(glob):
            return j == len(name)
        if glob[i] == "*":
            return rest(i + 1, j) or (j < len(name) and rest(i, j + 1))
        return j < len(name) and glob[i] in ("?", name[j]) and rest(i + 1, j + 1)

    return rest(0, 0)


@given(pieces, st.text("ab", max_size=12))
@example("*ab*b", "ab")
@example("a*a", "a")
@example("*", "")
@example("*b?*?b", "abbabb")
@example("**a**", "ba")
def test_a_glob_matches_what_it_says(glob: str, name: str) -> None:
    assert bool(glob_regex(glob).fullmatch(name)) == matches(glob, name)


@given(st.text(max_size=6))
def test_all_else_stands_for_itself(name: str) -> None:
    """Dots, brackets, backslashes and line breaks, too."""
    glob = name.replace("*", "?")
    assert glob_regex(glob).fullmatch(name)
    assert glob_regex(f"*{glob}*").fullmatch(f"\n{name}]")
    assert not glob_regex(f"{glob}x").fullmatch(f"{name}y")


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        ("*-*-*-*-temp", "-" * 512),
        ("*-" * 255 + "x", "-" * 512),
        ("*a?" * 170 + "b", "a" * 512),
        ("*" * 511 + "x", "y" * 512),
        ("*" + "a" * 255 + "b*" + "a" * 254, "a" * 512),
    ],
)
def test_no_name_takes_long(glob: str, name: str) -> None:
    """Trying every way to share a name out among the stars would take for ever."""
    assert not glob_regex(glob).fullmatch(name)
