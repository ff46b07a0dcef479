"""Checkpoints on the server: the windows' state with the offset it stands for.

Guarantee: a checkpoint is read whole or not at all. Its pieces are written under names that nothing
refers to yet; then one script, which checks the lease, stores the manifest that names them. What a
dead or slow worker leaves behind is never read, and goes with the next worker's first checkpoint.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.resources import files
from itertools import count
from typing import Annotated, Any, cast

import orjson
import redis
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidecast.worker.errors import CheckpointError, LeaseError
from tidecast.worker.pipeline.snapshot import LAYOUT
from tidecast.worker.pipeline.wire import ENTRY_ID
from tidecast.worker.store.driver import driver_errors, text_of
from tidecast.worker.store.keys import checkpoint_key, lease_key, offset_key
from tidecast.worker.store.position import START

SCRIPT = files("tidecast.worker.store").joinpath("checkpoint.lua").read_text()
PIECE = 500_000
"""Bytes that one command carries at most."""
AT_ONCE = 8
"""Pieces on their way at a time."""


class Section(BaseModel):
    """Where one part of the state lies: in the fields ``<name>:0``, ``<name>:1``, ..."""

    model_config = ConfigDict(frozen=True)

    name: str
    pieces: int
    size: int

    @property
    def fields(self) -> list[str]:
        """The names of its pieces."""
        return [f"{self.name}:{piece}" for piece in range(self.pieces)]


class Manifest(BaseModel):
    """What a checkpoint stands for and where its parts lie.

    ``offset`` is the last entry whose readings are in it, ``entries`` how many were added to the
    stream up to that, ``clock`` how many readings have been numbered, ``series`` how many are held,
    ``evicted`` and ``lost`` how many series were forgotten and entries removed unread so far.
    ``marks`` tell which series have been quiet since when (``stream_time.Silence``).
    ``fates`` counts what became of all readings so far (``fates.Fates``). ``hindered`` says what
    keeps most readings from being forecast (``hindrances``); it is for people, and never restored.
    ``orders`` are the newest entries that say to forget a series, with its name and whether it was
    held (``wire.Forgotten``).
    ``stream_time`` is the latest time of its readings, -1 where there were none.
    ``models`` tell whose state it is, ``sets`` are the layouts of the column sets in it.
    ``sections`` are restored in that order.
    """

    model_config = ConfigDict(frozen=True)

    layout: int = LAYOUT
    fleet: str
    models: list[dict[str, Any]]
    sets: dict[str, int]
    offset: Annotated[str, Field(pattern=f"^{ENTRY_ID.pattern}$")]
    entries: int
    clock: int
    series: int
    evicted: int
    lost: int
    stream_time: int = -1
    marks: list[tuple[int, int]] = []
    fates: dict[str, int] = {}
    hindered: dict[str, str] = {}
    orders: list[tuple[str, str, bool]] = []
    sections: list[Section]


class Checkpoints:
    """Writes and reads the checkpoints of one fleet.

    Args:
        client: the server.
        fleet: whose checkpoints these are.
        token: what this worker's leases hold.
        script: what the server runs.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses.
    """

    def __init__(
        self, client: redis.Redis, fleet: str, token: str, *, script: str = SCRIPT
    ) -> None:
        self._client = client
        self._fleet = fleet
        self._token = token
        self._script = client.register_script(script)
        self._numbers = count()

    @driver_errors()
    def write(self, stream: str, section: bytes) -> Section:
        """Write a section that belongs to no checkpoint yet, in pieces."""
        key = checkpoint_key(stream, self._fleet)
        written = Section(
            name=f"{self._token}-{next(self._numbers)}",
            pieces=-(-len(section) // PIECE),
            size=len(section),
        )
        fields = written.fields
        for first in range(0, len(fields), AT_ONCE):
            pipeline = self._client.pipeline(transaction=False)
            for piece in range(first, min(first + AT_ONCE, len(fields))):
                pipeline.hset(key, fields[piece], section[piece * PIECE : (piece + 1) * PIECE])
            pipeline.execute()
        return written

    @driver_errors()
    def publish(self, stream: str, manifest: Manifest, *, tidy: bool) -> None:
        """Make a checkpoint stand whose sections are written; ``tidy``: remove all others.

        Raises:
            LeaseError: the stream is no longer this worker's; the earlier checkpoint stands.
        """
        kept = [field for section in manifest.sections for field in section.fields]
        answer = self._script(
            keys=[checkpoint_key(stream, self._fleet), lease_key(stream, self._fleet)],
            args=[
                self._token,
                orjson.dumps(manifest.model_dump()),
                *(("tidy", *kept) if tidy else ()),
            ],
        )
        if answer != b"ok":
            holder = text_of(answer).removeprefix("lost ")
            raise LeaseError(f"{stream}: its lease is held by {holder}, no longer by this worker")

    @driver_errors()
    def manifest(self, stream: str) -> Manifest | None:
        """Return what stands, None where nothing does.

        Raises:
            CheckpointError: it is not of this layout or cannot be read.
        """
        key = checkpoint_key(stream, self._fleet)
        text = cast("bytes | None", self._client.hget(key, "manifest"))
        return None if text is None else read_manifest(text)

    @driver_errors()
    def stands_at(self, stream: str, fleet: str) -> str | None:
        """Return the offset of a fleet's checkpoint of a stream, None if there is no such fleet.

        A fleet without a checkpoint that can be read stands at the stream's very beginning.
        """
        try:
            found: Any = self._client.hget(checkpoint_key(stream, fleet), "manifest")
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return START
        text: bytes | None = found
        if text is not None:
            with suppress(CheckpointError):
                return read_manifest(text).offset
        return START if self._client.exists(offset_key(stream, fleet)) else None

    def sections(self, stream: str, manifest: Manifest) -> Iterator[bytes]:
        """Yield the sections that a manifest names.

        Raises:
            CheckpointError: a piece is missing.
        """
        for section in manifest.sections:
            yield b"".join(self._pieces(stream, section.fields))

    def _pieces(self, stream: str, fields: Sequence[str]) -> Iterator[bytes]:
        key = checkpoint_key(stream, self._fleet)
        for first in range(0, len(fields), AT_ONCE):
            some = fields[first : first + AT_ONCE]
            with driver_errors():
                answers = cast("list[bytes | None]", self._client.hmget(key, list(some)))
            for field, piece in zip(some, answers, strict=True):
                if piece is None:
                    raise CheckpointError(f"its piece {field} is missing")
                yield piece


def read_manifest(text: bytes) -> Manifest:
    """Return a manifest from its JSON.

    Raises:
        CheckpointError: it is not of this layout or cannot be read.
    """
    try:
        document = orjson.loads(text)
        if document["layout"] != LAYOUT:
            raise CheckpointError(
                f"it has layout {document['layout']!r}, this worker reads layout {LAYOUT}"
            )
        return Manifest.model_validate(document)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(f"its manifest cannot be read ({error})") from error
