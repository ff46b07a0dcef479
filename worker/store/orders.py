"""Orders on an input stream: entries that hold no reading, and say what to do at that place.

An order is carried out by every fleet that reads the stream, or by the one that it is for, when it
comes to the entry. A replay comes to it again at the same place, between the same readings, so what
follows is the same bits; no way beside the stream would be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from tidecast.worker.errors import CheckpointError, ServerError, SettingsError
from tidecast.worker.pipeline.wire import ADDRESSEE, FORGET, Forgotten
from tidecast.worker.store.checkpoint import read_manifest
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.keys import checkpoint_key
from tidecast.worker.store.position import order_of


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fleet's newest checkpoint is with orders.

    ``passed`` tells whether it stands at all of them, ``done`` what became of those that it knows.
    """

    passed: bool
    done: tuple[Forgotten, ...]


class Orders:
    """Writes orders to one input stream, and tells what became of them.

    Delivery: an order is on the stream once. Where the server goes away in the middle it, and those
    behind it, may be there or not; giving it again harms nothing.

    Args:
        client: the server.
        stream: the input stream.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses or the key is no stream.
    """

    @driver_errors()
    def __init__(self, client: redis.Redis, stream: str) -> None:
        self._client, self._stream = client, stream
        kind = cast("bytes", client.type(stream)).decode()
        if kind == "none":
            raise SettingsError(
                f"there is no stream {stream} here, so nothing knows a series of it; name another "
                "--input or --redis-url"
            )
        if kind != "stream":
            raise ServerError(f"{stream} is a {kind}, not a stream; name another --input")

    @driver_errors()
    def forget(self, series: Sequence[bytes], fleet: str | None = None) -> list[str]:
        """Order each of some series to be forgotten; return the entries' ids.

        Args:
            series: their names.
            fleet: who is to do so; None: all who read the stream.
        """
        pipeline = self._client.pipeline(transaction=False)
        for name in series:
            fields: dict[Any, Any] = {FORGET: name}
            pipeline.xadd(self._stream, fields | ({ADDRESSEE: fleet} if fleet else {}))
        return [entry.decode() for entry in pipeline.execute()]

    @driver_errors()
    def progress(self, fleet: str, entries: Sequence[str]) -> Progress:
        """Return how far a fleet is with orders, as of its checkpoint."""
        key = checkpoint_key(self._stream, fleet)
        (text,) = cast("list[bytes | None]", self._client.hmget(key, ["manifest"]))
        try:
            manifest = None if text is None else read_manifest(text)
        except CheckpointError:
            manifest = None
        if manifest is None:
            return Progress(passed=False, done=())
        passed = all(order_of(manifest.offset) >= order_of(entry) for entry in entries)
        known = (Forgotten(*order) for order in manifest.orders)
        return Progress(passed, tuple(one for one in known if one.entry in entries))
