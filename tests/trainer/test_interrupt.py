"""Ctrl-C in any phase of a command: plain words, exit code 130, and nothing half done."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.conftest import config_of, history_of
from tests.trainer.test_command_line import SMALL, trainer
from tidecast.trainer import __main__ as program
from tidecast.trainer.errors import DataError, StoppedError, interruptible
from tidecast.trainer.files import write_atomically
from tidecast.trainer.resume import Kept, Unfinished, write_unfinished
from tidecast.trainer.tune import search

WAVE = np.sin(np.arange(2500) / 5) + np.random.default_rng(0).normal(size=2500) / 5
ENDLESS = ["--batch-size", "1", "--epochs", "500", "--patience", "500"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows enough for an epoch that Ctrl-C always comes before the end of."""
    path = tmp_path_factory.mktemp("data") / "data.csv"
    path.write_text("value\n" + "".join(f"{value:.6f}\n" for value in WAVE))
    return path


def interrupted(word: str, *words: object) -> "subprocess.CompletedProcess[str]":
    """Run a command, and press Ctrl-C when it says ``word``."""
    command = [sys.executable, "-m", "tidecast.trainer", *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = ""
        while word not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=600)
    return subprocess.CompletedProcess(command, process.returncode, out, said + rest)


def last_line(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 130, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("tidecast-trainer: interrupted ")
    return last


@pytest.mark.parametrize("word", ["rows, 1 series", "training on"])
def test_before_the_first_epoch_ends_nothing_is_learned_and_that_is_said(
    data: Path, tmp_path: Path, word: str
) -> None:
    out = tmp_path / "models"
    told = last_line(interrupted(word, "fit", data, *SMALL, *ENDLESS, "--out", out))
    assert "before the first epoch ended: nothing was learned and nothing written" in told
    assert "run the same command again" in told
    assert not out.exists() or not list(out.iterdir())


def test_a_fit_does_not_write_over_one_that_was_broken_off(data: Path, tmp_path: Path) -> None:
    """It is refused; told to begin anew, it leaves the old one alone until it has learned."""
    kept = tmp_path / "data.unfinished.npz"
    write_unfinished(kept, "of another fit", Unfinished())
    before = kept.read_bytes()
    words = ["fit", data, *SMALL, *ENDLESS, "--out", tmp_path]
    refused = trainer(*words)
    assert refused.returncode == 2
    for part in (str(kept), "broken off", "--resume", "--anew"):
        assert part in refused.stderr
    told = last_line(interrupted("training on", *words, "--anew"))
    assert "nothing was learned" in told
    assert f"{kept} still keeps" in told
    assert kept.read_bytes() == before


def test_what_is_kept_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "m.unfinished.npz"
    fresh = Kept(path, None)
    assert fresh.earlier("key") is None
    assert "nothing was learned" in fresh.interrupted()
    fresh.keep("key", Unfinished())
    assert f"{path} keeps what was learned" in fresh.interrupted()
    with pytest.raises(DataError, match=r"broken off.*--resume.*--anew"):
        Kept(path, None)
    again = Kept(path, resume=True)
    assert again.earlier("key") == Unfinished()
    assert "--resume goes on with it" in again.interrupted()
    again.drop()
    assert not path.exists()
    assert Kept(path, resume=False).earlier("key") is None


def test_a_search_without_one_trial_says_so(data: Path, tmp_path: Path) -> None:
    words = ["tune", data, "--targets", "value", "--horizon", "1", "--out", tmp_path]
    told = last_line(interrupted("rows, 1 series", *words))
    assert "nothing was" in told
    assert "Ctrl-C" in told or "run the same command again" in told


def test_a_search_whose_first_trial_is_broken_off_finds_nothing_and_begins_with_it_again(
    tmp_path: Path,
) -> None:
    """Ctrl-C in the trial's first epoch and after it; then it has what a fit would choose."""
    config, history = config_of(epochs=2, n_steps=None, units=None), history_of(WAVE[:500])
    storage = tmp_path / "m.sqlite"

    class Pressed:
        """A clock that is read in each epoch, and then Ctrl-C is pressed."""

        def __init__(self, epoch: int) -> None:
            self.left = epoch + 1  # it is read once before

        def __call__(self) -> float:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return 0.0

    for epoch in (1, 2):
        with pytest.raises(StoppedError, match=r"before the first trial ended: nothing was found"):
            search(config, history, storage, seconds=600, trials=1, clock=Pressed(epoch))
    found = search(config, history, storage, seconds=600, trials=1)
    assert found.usual == found.error
    assert (found.trials, found.broken_off) == (3, 2)


def test_between_phases_a_command_ends_with_130_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typer takes Ctrl-C for itself and answers with a code, which is not to be lost."""

    def read(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "_load", read)
    for command, words in (("fit", "nothing was learned"), ("tune", "nothing was written")):
        monkeypatch.setattr(
            sys, "argv", ["t", command, "a.csv", "--targets", "a", "--horizon", "1"]
        )
        with pytest.raises(SystemExit) as ended:
            program.main()
        assert ended.value.code == 130
        assert words in capsys.readouterr().err


LOADING = """
import os, signal, sys
class CtrlC:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
from tidecast.trainer.start import main
main()
"""


def test_while_the_command_loads_ctrl_c_is_one_line_too() -> None:
    loading = [sys.executable, "-c", LOADING]
    result = subprocess.run(loading, capture_output=True, text=True, timeout=600, check=False)
    assert last_line(result) == result.stderr.strip()
    assert "nothing was written" in result.stderr


def test_an_interrupted_block_says_what_is_left() -> None:
    said = iter(["too early", "in time"])
    next(said)
    with pytest.raises(StoppedError, match=r"^interrupted in time$"), interruptible(said.__next__):
        raise KeyboardInterrupt


def test_a_write_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    """The name is a folder's, so the last step fails, as Ctrl-C would."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", b"content")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]
