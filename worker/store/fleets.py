"""Which fleets read a stream, and the consumer group that shows where each of them stands.

Each fleet signs the stream's list before it stores an offset there. So whoever removes readings
knows whose offsets and checkpoints to look at, whatever has become of the consumer groups, which
anybody may delete. Fleets from before there were lists are looked for once, by their offsets among
all keys of the server. Not every user may look at these. A list that was opened by a fleet's very
first read is taken for whole then; one opened by a fleet that had read before is not.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.resources import files
from typing import Any, cast

import redis
from redis.exceptions import NoPermissionError

from tidecast.worker.logs import LOGGER
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.keys import FLEET, fleets_key, group_of, offset_key

SCRIPT = files("tidecast.worker.store").joinpath("group.lua").read_text()
ALL = b"{all}"
NEW = b"{new}"
"""On a stream's list: nobody is missing from it; or it was opened by a fleet that was new there.
No fleet can be called so."""
SCANNED = 1000
"""Keys that the server looks at in one go."""


class Fleets:
    """The fleets of one server's streams.

    Args:
        client: the server.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._group = client.register_script(SCRIPT)
        self._found: dict[str, set[str]] | None = None

    @driver_errors()
    def sign(self, stream: str, fleet: str, *, begins: bool = False) -> None:
        """Put a fleet on a stream's list; ``begins``: it has never read the stream."""
        marks = [NEW] if begins and not self._listed(stream) else []
        if marks and not self._client.exists(stream):
            marks.append(ALL)
        self._client.sadd(fleets_key(stream), fleet, *marks)

    @driver_errors()
    def show(self, stream: str, fleet: str) -> None:
        """Make the consumer group of a fleet whose offset stands, under its name of today."""
        keys = [stream, offset_key(stream, fleet)]
        answer = self._group(keys=keys, args=[group_of(fleet), fleet])
        if answer == b"moved":
            LOGGER.info(
                "consumer group %s of %s is called %s from now on", fleet, stream, group_of(fleet)
            )
        elif answer == b"refused":
            LOGGER.warning(
                "consumer group %s of %s is called %s from now on, and this user may not remove "
                "the former one: XGROUP DESTROY %s %s does, and until then --trim waits for it",
                *(fleet, stream, group_of(fleet), stream, fleet),
            )
        elif answer == b"others":
            LOGGER.info(
                "%s has a consumer group %s, which is not this fleet's: it is left alone, and "
                "--trim removes nothing that it has yet to read or acknowledge",
                stream,
                fleet,
            )

    @driver_errors()
    def of(self, stream: str, pulse: Callable[[], object] = lambda: None) -> set[str] | None:
        """Return the fleets that have read a stream; None: this user may not find it out.

        ``pulse`` is called now and then while all keys of the server are looked at, which happens
        once for all streams, and never again for one whose list is known to be whole.
        """
        listed = self._listed(stream)
        if ALL not in listed:
            try:
                found = self._searched(pulse).get(stream, set())
            except NoPermissionError:
                return set(_names(listed)) if NEW in listed else None
            self._client.sadd(fleets_key(stream), ALL, *found)
            listed |= {name.encode() for name in found}
        return set(_names(listed))

    def _listed(self, stream: str) -> set[bytes]:
        return cast("set[bytes]", self._client.smembers(fleets_key(stream)))

    def _searched(self, pulse: Callable[[], object]) -> dict[str, set[str]]:
        """Return the fleets that have an offset on each stream, found among all keys."""
        if self._found is None:
            found, cursor, glob = defaultdict[str, set[str]](set), -1, offset_key("*", "*")
            while cursor:
                page: Any = self._client.scan(max(cursor, 0), match=glob, count=SCANNED)
                cursor, keys = page
                for key in _texts(keys):
                    stream, fleet = key.rsplit(offset_key("", ""), 1)
                    if FLEET.fullmatch(fleet):
                        found[stream].add(fleet)
                pulse()
            self._found = found
        return self._found


def _names(listed: Iterable[bytes]) -> Iterator[str]:
    """Yield what on a list is the name of a fleet."""
    return filter(FLEET.fullmatch, _texts(listed))


def _texts(found: Iterable[bytes]) -> Iterator[str]:
    """Yield what is text; nothing else is ours."""
    for one in found:
        with suppress(UnicodeDecodeError):
            yield one.decode()
