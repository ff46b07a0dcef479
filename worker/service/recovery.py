"""A partition's windows: saved every few seconds, and made again from what is saved and the stream.

The windows that come out are those that stood at the committed offset: a checkpoint's, moved on by
the readings between its offset and the committed one. Without a checkpoint that fits, by all
readings that the stream still holds.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any

from tidecast.worker.contract import ModelSpec
from tidecast.worker.errors import CheckpointError, WrongKeyError
from tidecast.worker.logs import LOGGER
from tidecast.worker.pipeline.changelog import Changelog
from tidecast.worker.pipeline.decode import Decoder
from tidecast.worker.pipeline.fates import fates_of
from tidecast.worker.pipeline.registry import Registry
from tidecast.worker.pipeline.series import newest
from tidecast.worker.pipeline.snapshot import State, decode, encode
from tidecast.worker.pipeline.step import ANY_ROOM, Pipeline, Room, most_readings
from tidecast.worker.pipeline.wire import Forgotten, Position, Pulse
from tidecast.worker.service.partition import Partition
from tidecast.worker.service.rules import rules_of
from tidecast.worker.settings import Settings
from tidecast.worker.store.checkpoint import Checkpoints, Manifest, Section
from tidecast.worker.store.fleets import ALL, Fleets
from tidecast.worker.store.keys import fleets_key, offset_key
from tidecast.worker.store.position import START, StreamFacts, order_of
from tidecast.worker.store.source import Streams


class Recovery:
    """Saves partitions and makes them again.

    Args:
        settings: how readings are decoded, and which fleet this is.
        registry: the models whose windows these are.
        streams: where the readings are.
        checkpoints: where the state is kept.
        room: how much memory a partition may take.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        streams: Streams,
        checkpoints: Checkpoints,
        room: Room = ANY_ROOM,
    ) -> None:
        self._settings = settings
        self._room = room
        self._registry = registry
        self._streams = streams
        self._checkpoints = checkpoints
        self._fleets = Fleets(streams.client)
        self._told = set[str]()
        self._models = [identity_of(model.spec) for model in registry.models]

    def restore(
        self, stream: str, position: Position, pulse: Pulse = lambda: None
    ) -> Iterator[Partition | None]:
        """Make a partition whose windows stand at a committed offset, a part of the work at a time.

        Yields None after each part, none of which takes long, and at last the partition. Whoever
        does not ask on has nothing to clean up.

        Args:
            stream: the input stream.
            position: where the fleet stands in it.
            pulse: called within parts of the work that a writer may have made long.
        """
        self._see_that_ids_go_on(stream, self._streams.facts(stream), position.offset)
        entries = yield from self._streams.entries_at(stream, position)
        found = yield from self._load(stream, position.offset, pulse)
        replayed, after = 0, found.offset
        if position.offset != after:
            batches = self._streams.replay(stream, after, position.offset)
            replay = partial(found.pipeline.replay, pulse=pulse)
            for taken in chain.from_iterable(map(replay, batches)):
                replayed += taken
                yield None
            if found.saved and found.entries + replayed < entries:
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
        yield found

    def save(
        self,
        stream: str,
        partition: Partition,
        pulse: Callable[[], object] = lambda: None,
        *,
        whole: bool = False,
    ) -> None:
        """Write what came since the last save, and a part of a full copy; see ``changelog``.

        The partition's offset must be committed. A checkpoint stands afterwards, but for the first
        saves of much state: these write a part each. With ``whole`` one stands in any case.
        ``pulse`` is called before each section is written.
        """

        def write(state: State) -> Section:
            pulse()
            return self._checkpoints.write(stream, encode(state))

        partition.pipeline.held.save(partition.changelog, write, whole=whole)
        if partition.changelog.is_complete:
            self._publish(stream, partition)

    def _publish(self, stream: str, partition: Partition) -> None:
        held, log = partition.pipeline.held, partition.changelog
        partition.saved = Manifest(
            fleet=self._settings.fleet,
            models=self._models,
            sets=held.tables[0].sets,
            offset=partition.offset,
            entries=partition.entries,
            clock=held.clock,
            series=len(held),
            evicted=partition.evicted_in_all,
            lost=partition.lost,
            stream_time=partition.pipeline.stream_time.latest,
            fates=asdict(partition.pipeline.fates),
            marks=partition.pipeline.silence.marks,
            orders=[(one.entry, one.series, one.held) for one in partition.pipeline.orders],
            hindered=dict(partition.hindered.items()),
            sections=log.sections,
        )
        self._checkpoints.publish(stream, partition.saved, tidy=log.outdated)
        log.outdated = False

    def lost_unread(
        self, stream: str, partition: Partition, facts: StreamFacts | None = None
    ) -> int:
        """Return how many entries were removed unread since the last call, if that can be told.

        ``facts`` are what the server knew of the stream a moment ago, if that is at hand.
        """
        facts = facts or self._streams.facts(stream)
        self._see_that_ids_go_on(stream, facts, partition.offset)
        partition.added = facts.added
        if facts.removed == partition.removed:
            return 0
        here = Position(partition.offset, partition.entries)
        facts = self._streams.facts(stream, behind=here)
        lost = facts.removed_unread(here)
        if lost is None:
            return 0
        # Fewer than none: the stream was made anew, and its count of entries with it.
        partition.removed = facts.removed
        partition.entries += lost
        if lost > 0:
            partition.lost += lost
            partition.saved_at = float("-inf")
        return max(0, lost)

    def _see_that_ids_go_on(self, stream: str, facts: StreamFacts, offset: str) -> None:
        """Refuse a stream whose ids have begun anew below the offset: nothing would ever be read.

        Raises:
            WrongKeyError: they have.
        """
        if facts.added and order_of(facts.last) < order_of(offset):
            key = offset_key(stream, self._settings.fleet)
            raise WrongKeyError(
                f"{stream}: its newest entry is {facts.last}, and by {key} all up to {offset} is "
                "consumed: the stream was deleted and made anew with smaller ids, or the offset "
                f"was set too high; SET {key} 0-0 reads all that it holds"
            )

    def trim(self, stream: str, pulse: Callable[[], object] = lambda: None) -> int:
        """Remove entries that nobody needs any more; return how many.

        Those before the checkpoints of all fleets that ever read the stream, and before what
        consumer groups of others may still need. While some fleet has no checkpoint, none.
        ``pulse`` is called now and then where that takes long.
        """
        fleets = self._fleets.of(stream, pulse)
        if fleets is None:
            self._tell_of_strangers(stream)
            return 0
        stands = [self._checkpoints.stands_at(stream, fleet) for fleet in fleets]
        places = [*filter(None, stands), *self._streams.groups(stream).values()]
        below = min(places, key=order_of, default=START)
        return self._streams.trim(stream, below) if below != START else 0

    def _tell_of_strangers(self, stream: str) -> None:
        if stream not in self._told:
            self._told.add(stream)
            LOGGER.warning(
                "%s is not trimmed: fleets that have not run since there is a list of them are "
                "found by their offsets, and this user may not SCAN; allow that, or put all of "
                "them on the list and say so: SADD %s FLEET ..., then SADD %s %s",
                *(stream, fleets_key(stream), fleets_key(stream), ALL.decode()),
            )

    def _load(self, stream: str, until: str, pulse: Pulse) -> Generator[None, None, Partition]:
        """Return the partition as its checkpoint has it, or an empty one at the stream's start.

        Yields now and then.
        """
        try:
            saved = self._checkpoints.manifest(stream)
            if saved is None:
                return Partition(self._pipeline(stream, self._registry), START, 0)
            pipeline = self._pipeline(stream, self._registry)
            self._check(saved, until, pipeline)
            chosen = None
            if saved.series > pipeline.held.most:
                LOGGER.warning(
                    "%s: the checkpoint holds %d series and there is room for %d (--max-series, "
                    "--max-memory); those longest without a reading are forgotten",
                    *(stream, saved.series, pipeline.held.most),
                )
                sections = self._checkpoints.sections(stream, saved)
                chosen = yield from newest(map(decode, sections), pipeline.held.most)
            sections = self._checkpoints.sections(stream, saved)
            strange = yield from pipeline.held.restore(
                map(decode, sections), saved.clock, min(saved.series, pipeline.held.most), chosen
            )
        except (CheckpointError, ValueError) as error:
            LOGGER.warning(
                "%s: the checkpoint of fleet %s is not used, the windows are rebuilt from the "
                "stream: %s",
                stream,
                self._settings.fleet,
                error,
            )
            return Partition(self._pipeline(stream, self._registry), START, 0)
        partition = Partition(pipeline, saved.offset, saved.entries, saved.lost, saved.evicted)
        partition.saved = saved
        pipeline.stream_time.latest = saved.stream_time
        pipeline.fates = fates_of(saved.fates)
        pipeline.silence.marks = list(saved.marks)
        pipeline.orders.extend(Forgotten(*order) for order in saved.orders)
        theirs = [meaning_of(model) for model in saved.models]
        if theirs == [meaning_of(model) for model in self._models]:
            partition.changelog = Changelog(saved.sections, saved.clock)
            self._tell_of_versions(stream, saved)
        else:
            # No section of these models' windows may outlive the readings that move them on.
            partition.changelog = Changelog()
            yield from self._make_up(stream, pipeline, saved, strange, pulse)
        return partition

    def _make_up(
        self, stream: str, pipeline: Pipeline, saved: Manifest, strange: int, pulse: Pulse
    ) -> Generator[None, None, None]:
        """Make windows that the checkpoint does not hold from the stream's entries."""
        if strange:
            LOGGER.info(
                "%s: %d series of the checkpoint have no model with their features and step any "
                "more; their windows are dropped",
                stream,
                strange,
            )
        lacking = [
            model
            for model in self._registry.models
            if not any(_covers(known, identity_of(model.spec)) for known in saved.models)
        ]
        if not lacking:
            return
        LOGGER.info(
            "%s: the checkpoint is of other models than %s; their windows are made from what the "
            "stream holds",
            stream,
            ", ".join(model.spec.name for model in lacking),
        )
        other = self._pipeline(stream, Registry(lacking))
        for entries in self._streams.replay(stream, START, saved.offset):
            for _ in other.replay(entries, pulse):
                yield
        pipeline.held.absorb(other.held)

    def _pipeline(self, stream: str, registry: Registry) -> Pipeline:
        decoder = Decoder(
            stream,
            registry.features,
            self._settings.naming,
            words=registry.words,
            most=most_readings([model.spec for model in registry.models], self._room),
            fleet=self._settings.fleet,
        )
        return Pipeline(
            registry,
            decoder,
            self._settings.max_series,
            room=self._room,
            **rules_of(self._settings),
        )

    def _check(self, saved: Manifest, until: str, pipeline: Pipeline) -> None:
        """Refuse a checkpoint that is not of this fleet, not of this stream, or not readable."""
        if saved.fleet != self._settings.fleet:
            raise CheckpointError(f"it is of fleet {saved.fleet!r}")
        for name, layout in pipeline.held.tables[0].sets.items():
            theirs = saved.sets.get(name, layout)
            if theirs != layout:
                raise CheckpointError(
                    f"its columns {name!r} have layout {theirs}, this worker reads {layout}"
                )
        if order_of(saved.offset) > order_of(until):
            raise CheckpointError(
                f"it stands at {saved.offset}, ahead of the committed offset {until}"
            )

    def _tell_of_versions(self, stream: str, saved: Manifest) -> None:
        for their, our in zip(saved.models, self._models, strict=True):
            if their != our:
                LOGGER.info(
                    "%s: model %s version %s takes over the windows of %s version %s",
                    stream,
                    our["name"],
                    our["version"],
                    their["name"],
                    their["version"],
                )


def identity_of(spec: ModelSpec) -> dict[str, object]:
    """Return what a manifest says of a model."""
    return {
        "name": spec.name,
        "version": spec.version,
        "series": spec.series,
        "n_steps": spec.n_steps,
        "features": list(spec.features),
        "step_seconds": spec.step_seconds,
        **({"calendar": spec.calendar} if spec.calendar else {}),
        **({"aggregate": spec.aggregate} if spec.aggregate else {}),
        **({"numbers": spec.numbers} if spec.numbers != "float32" else {}),
    }


def meaning_of(model: dict[str, Any]) -> dict[str, object]:
    """Return all of a model's identity that the meaning of its windows hangs on."""
    return {key: value for key, value in model.items() if key not in {"name", "version"}}


def _covers(known: dict[str, Any], model: dict[str, Any]) -> bool:
    """Tell whether windows of one model are as long as another needs them, for all its series."""
    wanted = {**meaning_of(model), "n_steps": known["n_steps"]}
    return meaning_of(known) == wanted and bool(known["n_steps"] >= model["n_steps"])
