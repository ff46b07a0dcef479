"""Which model serves which series."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from tidecast.worker.contract import glob_regex, globs_overlap
from tidecast.worker.errors import ModelError
from tidecast.worker.pipeline.model import Model


class Registry:
    """The models of one worker; no series name is served by two of them.

    Raises:
        ModelError: two models could serve one series.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        for one, other in combinations(models, 2):
            if globs_overlap(one.spec.series, other.spec.series):
                raise ModelError(
                    f"two models for one series: {one.path} serves {one.spec.series!r} and "
                    f"{other.path} serves {other.spec.series!r}; give them globs that share no "
                    "name ('tidecast-trainer relabel FILE --series GLOB'), or remove one"
                )
        self.models = tuple(models)
        for field in self.words:
            for model in models:
                if field in model.spec.features:
                    raise ModelError(
                        f"{model.path} takes numbers of {field!r}, and another model takes words; "
                        "run them in two fleets, or rename one with --value"
                    )
        self._globs = [glob_regex(model.spec.series) for model in models]

    @property
    def features(self) -> tuple[str, ...]:
        """Every feature that some model reads, each once; of one that holds words, its field."""
        fields = _fields(self.words)
        wanted = (f for model in self.models for f in model.spec.features)
        return tuple(dict.fromkeys(fields.get(feature, feature) for feature in wanted))

    @property
    def words(self) -> dict[str, tuple[str, ...]]:
        """The words of each field that holds some, of all models together."""
        found: dict[str, dict[str, None]] = {}
        for model in self.models:
            for field, words in model.spec.categories.items():
                found.setdefault(field, {}).update(dict.fromkeys(words))
        return {field: tuple(words) for field, words in found.items()}

    def match(self, series: str) -> int | None:
        """Return the number of the model that serves a series, None if none does."""
        for number, glob in enumerate(self._globs):
            if glob.fullmatch(series):
                return number
        return None


def _fields(words: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the field of each feature that stands for one of its words."""
    return {f"{field}={word}": field for field, some in words.items() for word in some}


def load_registry(path: Path, *, threads: int = 1) -> Registry:
    """Load the model file ``path``, or every ``.onnx`` file of the directory ``path``.

    Raises:
        ModelError: there is none, one cannot be served, or two contend for one series.
    """
    if not path.exists():
        raise ModelError(
            f"{path}: no such file or directory; name what 'tidecast-trainer fit' wrote"
        )
    files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    if not files:
        raise ModelError(
            f"{path}: a directory without .onnx files; put what 'tidecast-trainer fit' wrote there"
        )
    return Registry([Model(file, threads=threads) for file in files])
