"""What was said of time on the command line, as the pipeline and its models take it."""

from collections.abc import Iterator, Sequence

from tidecast.worker.pipeline.model import Model
from tidecast.worker.pipeline.step import Rules
from tidecast.worker.settings import TimeSettings


def rules_of(settings: TimeSettings) -> Rules:
    """Return the rules of a pipeline."""
    return Rules(
        max_skew=1000 * settings.max_skew,
        twice=settings.twice,
        late=settings.late,
        ttl=None if settings.series_ttl is None else 1000 * settings.series_ttl,
        naive=settings.cold_start == "naive",
        lateness=1000 * settings.lateness,
    )


def override(models: Sequence[Model], settings: TimeSettings) -> Iterator[str]:
    """Make models go by what was said of gaps and new series; yield in words what that changes."""
    for model in models:
        if settings.gaps is not None or settings.max_gap is not None:
            said = model.override(settings.gaps, settings.max_gap)
            yield f"--gaps and --max-gap: model {model.spec.name} {said}"
        if settings.cold_start == "none":
            model.wait_for_full_windows()
