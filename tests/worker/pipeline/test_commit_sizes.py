"""How many readings one commit holds."""

import json
from pathlib import Path

from tests.model_files import write_mean_model
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.registry import load_registry
from tidecast.worker.pipeline.step import LARGEST_COMMIT, Pipeline


def test_uneven_entries_make_even_commits(tmp_path: Path) -> None:
    """A gateway that sends a thousand readings an entry among others that send one."""
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    registry = load_registry(model)
    pipeline = Pipeline(registry, Decoder("readings", registry.features), 1_000_000)
    sizes = [1] * 900 + [990] * 30 + [2500] + [1] * 50
    entries = []
    for number, size in enumerate(sizes):
        times = list(range(number, number + size))
        body = json.dumps({"ts": times, "value": [1] * size}).encode()
        entries.append((b"1-%d" % number, [b"data", body]))
    commits = list(pipeline.step(entries))
    assert sum(commit.readings for commit in commits) == sum(sizes)
    assert sum(commit.entries for commit in commits) == len(sizes)
    assert max(c.readings for c in commits if c.entries > 1) <= LARGEST_COMMIT
    assert [c.entries for c in commits if c.readings > LARGEST_COMMIT] == [1]
    assert len(commits) < 40
