"""A partition's windows: saved every few seconds, and made again from what is saved and the stream.

The windows that come out are those that stood at the committed offset: a checkpoint's, moved on by
the readings between its offset and the committed one. Without a checkpoint that fits, by all
readings that the stream still holds.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

from tidecast.worker.contract import ModelSpec
from tidecast.worker.errors import CheckpointError
from tidecast.worker.logs import LOGGER
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.registry import Registry
from tidecast.worker.pipeline.snapshot import SeriesState, decode, encode
from tidecast.worker.pipeline.step import Pipeline
from tidecast.worker.pipeline.wire import Position
from tidecast.worker.settings import Settings
from tidecast.worker.store.checkpoint import Checkpoints, Manifest, Section
from tidecast.worker.store.source import START, Streams, order_of

MOST_SECTIONS = 100


@dataclass
class Partition:
    """An input stream with its windows and the last entry they have seen.

    ``entries`` counts what was added to the stream up to ``offset``, ``lost`` what was removed from
    it unread; ``saved`` is the checkpoint that stands, ``saved_at`` when it was written, in
    monotonic seconds, and ``save_seconds`` how long that took. ``added`` counts what was
    ever added to the stream, as of the last look.
    """

    pipeline: Pipeline
    offset: str
    entries: int
    lost: int = 0
    evicted: int = 0
    saved: Manifest | None = None
    saved_at: float = float("-inf")
    save_seconds: float = 0.0
    added: int = 0
    removed: int | None = None

    @property
    def lag(self) -> int:
        """How many entries lay behind ``offset`` at the last look and still do."""
        return max(0, self.added - self.entries)

    @property
    def evicted_in_all(self) -> int:
        """How many series were ever forgotten to make room."""
        return self.evicted + self.pipeline.evicted


class Recovery:
    """Saves partitions and makes them again.

    Args:
        settings: how readings are decoded, and which fleet this is.
        registry: the models whose windows these are.
        streams: where the readings are.
        checkpoints: where the state is kept.
    """

    def __init__(
        self, settings: Settings, registry: Registry, streams: Streams, checkpoints: Checkpoints
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._streams = streams
        self._checkpoints = checkpoints
        self._models = [identity_of(model.spec) for model in registry.models]

    def restore(self, stream: str, position: Position, alive: Callable[[], bool]) -> Partition:
        """Return a partition whose windows stand at a committed offset.

        Args:
            stream: the input stream.
            position: where the fleet stands in it.
            alive: called from time to time; when it answers False the replay ends early and the
                windows must not be used.
        """
        entries = position.entries
        if entries is None:
            waiting = self._streams.waiting(stream, position.offset) or 0
            entries = self._streams.facts(stream).added - waiting
        found = self._load(stream, position.offset)
        if found.saved and found.offset == position.offset:
            entries = found.entries  # it knows what was removed unread since the commit
        replayed, after = 0, found.offset
        if position.offset != after:
            batches = self._streams.replay(stream, after, position.offset)
            for taken in chain.from_iterable(map(found.pipeline.replay, batches)):
                replayed += taken
                if not alive():
                    break
        if found.saved and found.entries + replayed < entries and alive():
            LOGGER.warning(
                "%s: %d entries behind the checkpoint were removed from the stream before they "
                "could be replayed; windows lack them until they have filled again",
                stream,
                entries - found.entries - replayed,
            )
        found.offset, found.entries = position.offset, entries
        LOGGER.info(
            "follow %s after %s (%d series from the checkpoint, %d entries replayed)",
            stream,
            position.offset,
            found.saved.series if found.saved else 0,
            replayed,
            extra={"facts": {"stream": stream, "offset": position.offset, "replayed": replayed}},
        )
        return found

    def save(
        self, stream: str, partition: Partition, pulse: Callable[[], object] = lambda: None
    ) -> None:
        """Write a partition's checkpoint; only what changed, while that is less than the whole.

        The partition's offset must be committed. ``pulse`` is called before each part of it.
        """
        pipeline, before = partition.pipeline, partition.saved
        if before is None or _is_bloated(before):
            earlier: list[Section] = []
            since = 0
        else:
            earlier, since = before.sections, before.clock
        states = pipeline.changed(since) if since < pipeline.clock or not earlier else ()
        written = self._checkpoints.write(stream, map(encode, _with_pulse(states, pulse)))
        partition.saved = Manifest(
            fleet=self._settings.fleet,
            models=self._models,
            offset=partition.offset,
            entries=partition.entries,
            clock=pipeline.clock,
            series=pipeline.series,
            evicted=partition.evicted_in_all,
            lost=partition.lost,
            full=before.full if before and earlier else len(written),
            sections=[*earlier, *written],
        )
        self._checkpoints.publish(stream, partition.saved)

    def lost_unread(self, stream: str, partition: Partition) -> int:
        """Return how many entries were removed unread since the last call, if that can be told."""
        facts = self._streams.facts(stream)
        partition.added = facts.added
        if facts.removed == partition.removed:
            return 0
        lost = self._streams.removed_unread(stream, partition.offset, partition.entries)
        if lost is None:
            return 0
        # Fewer than none: the stream was made anew, and its count of entries with it.
        partition.removed = facts.removed
        partition.entries += lost
        if lost > 0:
            partition.lost += lost
            partition.saved_at = float("-inf")
        return max(0, lost)

    def trim(self, stream: str) -> int:
        """Remove entries that no fleet will ever replay; return how many.

        Those before the checkpoints of all fleets that follow the stream, and before what consumer
        groups of others may still need. While some fleet has no checkpoint, none.
        """
        fleets = {self._settings.fleet: START, **self._streams.groups(stream)}
        places = [self._checkpoints.stands_at(stream, name) or at for name, at in fleets.items()]
        below = min(places, key=order_of)
        return self._streams.trim(stream, below) if below != START else 0

    def _load(self, stream: str, until: str) -> Partition:
        """Return the partition as its checkpoint has it, or an empty one at the stream's start."""
        decoder = partial(
            Decoder, series_field=self._settings.series_field, time_field=self._settings.time_field
        )
        make = partial(
            Pipeline,
            self._registry,
            decoder(stream, self._registry.features),
            self._settings.max_series,
        )
        try:
            saved = self._checkpoints.manifest(stream)
            if saved is None:
                return Partition(make(), START, 0)
            self._check(saved, until)
            pipeline = make()
            states = [decode(part) for part in self._checkpoints.sections(stream, saved)]
            pipeline.restore(states, saved.clock, saved.series)
        except (CheckpointError, ValueError) as error:
            LOGGER.warning(
                "%s: the checkpoint of fleet %s is not used, the windows are rebuilt from the "
                "stream: %s",
                stream,
                self._settings.fleet,
                error,
            )
            return Partition(make(), START, 0)
        return Partition(pipeline, saved.offset, saved.entries, saved.lost, saved.evicted, saved)

    def _check(self, saved: Manifest, until: str) -> None:
        """Refuse a checkpoint that is not of this fleet, of these models, or of this stream."""
        if saved.fleet != self._settings.fleet:
            raise CheckpointError(f"it is of fleet {saved.fleet!r}")
        if saved.models != self._models:
            raise CheckpointError(_difference(saved.models, self._models))
        if order_of(saved.offset) > order_of(until):
            raise CheckpointError(
                f"it stands at {saved.offset}, ahead of the committed offset {until}"
            )


def _with_pulse(
    states: Iterable[SeriesState], pulse: Callable[[], object]
) -> Iterator[SeriesState]:
    for state in states:
        pulse()
        yield state


def identity_of(spec: ModelSpec) -> dict[str, object]:
    """Return all of a model that the meaning of its windows hangs on, and its version."""
    return {
        "name": spec.name,
        "version": spec.version,
        "series": spec.series,
        "n_steps": spec.n_steps,
        "features": list(spec.features),
        "step_seconds": spec.step_seconds,
    }


def _is_bloated(saved: Manifest) -> bool:
    """Tell whether the changes weigh as much as a full copy, or lie in very many sections."""
    full, changes = saved.sections[: saved.full], saved.sections[saved.full :]
    many = len(changes) >= MOST_SECTIONS
    return many or sum(s.size for s in changes) >= max(sum(s.size for s in full), 1)


def _difference(theirs: list[dict[str, object]], ours: list[dict[str, object]]) -> str:
    if len(theirs) != len(ours):
        return f"it is of {len(theirs)} models, this worker has {len(ours)}"
    for their, our in zip(theirs, ours, strict=True):
        for key, value in our.items():
            if their.get(key) != value:
                return f"model {our['name']!r}: {key} {their.get(key)!r} there, {value!r} here"
    return "its models are others"
