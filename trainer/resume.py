"""A fit that was broken off, kept in a file so that it can go on; NumPy's format, never pickle."""

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tidecast.trainer.config import FitConfig
from tidecast.trainer.errors import DataError
from tidecast.trainer.files import write_atomically
from tidecast.trainer.plan import Plan
from tidecast.trainer.series import History
from tidecast.trainer.training import Arrays, Losses, State

HEADER = "header"
LISTS = ("best_weights", "variables", "optimizer")


@dataclass
class Unfinished:
    """Where a fit stands: weights and losses of members that are done, the state of the next."""

    done: list[Arrays] = field(default_factory=list)
    losses: list[Losses] = field(default_factory=list)
    state: State = field(default_factory=State)


class Kept:
    """The file that keeps what a fit has learned so far, and whether it does.

    Args:
        path: of the file.
        resume: whether to go on with what it holds (True), or to begin anew (False); None where
            neither was said.

    Raises:
        DataError: a fit that was broken off is kept there, and neither was said.
    """

    def __init__(self, path: Path, resume: bool | None) -> None:
        if resume is None and path.exists():
            raise DataError(
                f"{path}: keeps an earlier fit of this name that was broken off, and this one "
                "would write over it; --resume goes on with it, --anew drops it, another --name "
                "or --out leaves it alone"
            )
        self.path, self._resume = path, resume
        self._ours = False

    def earlier(self, key: str) -> "Unfinished | None":
        """Return what is to be gone on from, None where the fit begins anew.

        Raises:
            DataError: it is absent, damaged or of another fit.
        """
        found = read_unfinished(self.path, key) if self._resume else None
        self._ours = found is not None
        return found

    def keep(self, key: str, unfinished: "Unfinished") -> None:
        """Replace what the file keeps."""
        write_unfinished(self.path, key, unfinished)
        self._ours = True

    def drop(self) -> None:
        """Remove the file: the fit is done."""
        self.path.unlink(missing_ok=True)

    def interrupted(self) -> str:
        """Say what is left of a fit that wrote no model, and what to do."""
        if self._ours:
            return (
                f"before a model was written; {self.path} keeps what was learned: the same "
                "command with --resume goes on with it"
            )
        if self.path.exists():
            return (
                "before the first epoch ended: nothing was learned and nothing written; "
                f"{self.path} still keeps the fit that was broken off before: --resume goes on "
                "with it, --anew drops it"
            )
        return (
            "before the first epoch ended: nothing was learned and nothing written; run the same "
            "command again, and from the end of its first epoch on Ctrl-C keeps the best model "
            "so far"
        )


def key_of(config: FitConfig, plan: Plan, history: History) -> str:
    """Return a digest of all that a fit hangs on: only the same fit may go on."""
    choices = json.dumps([config.model_dump(mode="json"), asdict(plan)], sort_keys=True)
    return hashlib.sha256(f"{choices}{history.digest()}".encode()).hexdigest()


def write_unfinished(path: Path, key: str, unfinished: Unfinished) -> None:
    """Replace what a file keeps."""
    state = unfinished.state
    header = {
        "key": key,
        "losses": state.losses,
        "best": state.best,
        "waited": state.waited,
        "done": unfinished.losses,
    }
    arrays: dict[str, Any] = {HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8)}
    for name in LISTS:
        arrays |= _numbered(name, getattr(state, name))
    for number, weights in enumerate(unfinished.done):
        arrays |= _numbered(f"member_{number}", weights)
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_atomically(path, content.getvalue())


def read_unfinished(path: Path, key: str) -> Unfinished:
    """Return what a file keeps.

    Raises:
        DataError: it is absent, damaged or of another fit.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file, so there is nothing to go on from; leave out --resume"
        )
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            header = json.loads(arrays[HEADER].tobytes())
            lists = {name: _gathered(arrays, name) for name in LISTS}
            done = [_gathered(arrays, f"member_{number}") for number in range(len(header["done"]))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: damaged ({error}); give --anew in place of --resume to begin anew"
        ) from error
    if header["key"] != key:
        raise DataError(
            f"{path}: kept by a fit of other data or with other options; repeat those to go on "
            "with it, or give --anew in place of --resume to begin anew"
        )
    losses = [[(loss, watched) for loss, watched in each] for each in header["done"]]
    state = State(
        losses=[(loss, watched) for loss, watched in header["losses"]],
        best=header["best"],
        waited=header["waited"],
        **lists,
    )
    return Unfinished(done, losses, state)


def _numbered(name: str, arrays: Arrays) -> dict[str, Any]:
    return {f"{name}_{place:04}": each for place, each in enumerate(arrays)}


def _gathered(arrays: Any, name: str) -> Arrays:
    return [arrays[each] for each in sorted(arrays.files) if each.rsplit("_", 1)[0] == name]
