"""Columns of words as features: a column of 0 and 1 for each word."""

from pathlib import Path

import numpy as np
import pytest

from tidecast.files.categories import MOST, with_indicators, words_of
from tidecast.files.errors import FileError
from tidecast.files.options import USUAL
from tidecast.files.table import read_table
from tidecast.trainer.categories import with_words, words_in
from tidecast.trainer.errors import ConfigError, DataError
from tidecast.trainer.series import load_history

TEXT = "time,pm,wind\n2024-01-01,1,NE\n2024-01-02,2, SW \n2024-01-03,3,\n2024-01-04,4,NE\n"
NAN = np.nan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "x.csv"
    found.write_text(TEXT)
    return found


def test_each_word_is_a_column(path: Path) -> None:
    words = words_in(path, USUAL, ["wind"])
    assert words == {"wind": ("NE", "SW")}
    columns = with_words(["pm"], ["pm", "wind"], words)
    assert columns == ("pm", "wind=NE", "wind=SW")
    history = load_history(path, columns, categories=words)
    np.testing.assert_array_equal(
        history.series[0].values, [[1, 1, 0], [2, 0, 1], [3, NAN, NAN], [4, 1, 0]]
    )


def test_a_column_that_is_no_feature_becomes_one() -> None:
    assert with_words(["pm"], ["pm"], {"wind": ("N", "S")}) == ("pm", "wind=N", "wind=S")


def test_a_word_that_the_model_does_not_know_is_a_hole(path: Path) -> None:
    table = with_indicators(read_table(path), {"wind": ("NE", "NW")})
    assert table.frame["wind=NW"].to_list() == [0, None, None, 0]


def test_words_cannot_be_forecast() -> None:
    with pytest.raises(ConfigError, match="--categories pm: a target; numbers alone can be"):
        with_words(["pm"], ["pm"], {"pm": ("a", "b")})


@pytest.mark.parametrize("count", [1, MOST + 1])
def test_a_column_of_notes_is_refused(tmp_path: Path, count: int) -> None:
    path = tmp_path / "x.csv"
    path.write_text("time,pm,note\n" + "".join(f"{n},{n},note {n % count}\n" for n in range(99)))
    with pytest.raises(FileError, match=f"column 'note' has {count} different words; --categories"):
        words_of(read_table(path), ["note"])
    with pytest.raises(DataError, match="no column 'wind'"):
        words_in(path, USUAL, ["wind"])
