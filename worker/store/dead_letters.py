"""The dead letters of an input stream: readings that got no forecast, to look at, retry or drop.

A letter says what its reading said, and not how: as flat fields, or as JSON under a field. The
source entry tells as long as it is on the input stream. Once it is gone, an object of texts alone
counts as flat fields, since numbers in JSON are not texts, and a reading that names no series
belongs to the stream's name.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from typing import Any, cast

import orjson
import redis

from tidecast.worker.errors import ServerError, SettingsError, UserError
from tidecast.worker.pipeline.epoch import text_of
from tidecast.worker.pipeline.naming import PLAIN, Naming
from tidecast.worker.pipeline.readings import LONGEST_PAYLOAD, payload_of
from tidecast.worker.pipeline.wire import ADDRESSEE, DEFAULT_FLEET, HISTORY, unaddressed
from tidecast.worker.store.driver import driver_errors
from tidecast.worker.store.keys import FLEET, dead_key

SCRIPT = files("tidecast.worker.store").joinpath("retry.lua").read_text()
PAGE = 500
MOST_FIELDS = 3500
"""A script hands at most 8,000 words on to a command."""
LARGEST_ID_PART = 2**64 - 1
BODIES = ("data", "body", "msg")


class StuckLetterError(UserError):
    """A letter's reading cannot be put together again; the letter stays."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A reading that got no forecast: the letter's id, why, its source entry, and what it said.

    ``payload`` is JSON, unless it was too long and is cut. ``fleet`` refused the reading; letters
    from before fleets had their own do not say.
    """

    id: str
    reason: str
    entry: str
    payload: bytes
    fleet: str | None

    @property
    def at(self) -> int:
        """When it was written, in milliseconds since 1970."""
        return int(self.id.partition("-")[0])

    @property
    def text(self) -> str:
        """The payload as text; a cut may have split its last character."""
        return self.payload.decode("utf-8", "replace")


class DeadLetters:
    """The dead letters of one fleet and input stream.

    Delivery: a retried reading is on the input stream exactly once, as long as the server keeps
    what it has acknowledged, because one script adds it and takes the letter away, and only if the
    letter is still there. When the server goes away in the middle, the letter tells: still there,
    nothing was retried. The fleet that refused the reading reads it again, and no other; where a
    letter does not say which, all that follow the stream do. Dropping is final.

    Args:
        client: the server.
        stream: the input stream.
        fleet: whose letters.
        naming: what readings call their series and their time, as the workers are told.

    Every call raises LostServerError when the server goes away or fails, and ServerError when it
    refuses or a key is no stream.
    """

    @driver_errors()
    def __init__(
        self,
        client: redis.Redis,
        stream: str,
        fleet: str = DEFAULT_FLEET,
        naming: Naming = PLAIN,
    ) -> None:
        self.stream = stream
        self.key = dead_key(stream, fleet)
        self._client = client
        self._naming = naming
        self._script = client.register_script(SCRIPT)
        for key in (self.key, stream):
            kind = cast("bytes", client.type(key)).decode()
            if kind not in ("stream", "none"):
                raise ServerError(
                    f"{key} is a {kind}, not a stream; name another --input, or rename that key"
                )

    @driver_errors()
    def count(self) -> int:
        """Return how many letters there are."""
        return self._client.xlen(self.key)

    def newest_first(self) -> Iterator[Letter]:
        """Yield the letters from the newest on, a page at a time."""
        last = "+"
        while page := self._read("-", last, backward=True):
            yield from page
            last = f"({page[-1].id}"

    def oldest_first(self) -> Iterator[Letter]:
        """Yield the letters there are now from the oldest on, a page at a time.

        Letters written later are left out: a retried reading that dies again is not met again.
        """
        first, newest = "-", self._read("-", "+", backward=True, count=1)
        while newest and (page := self._read(first, newest[0].id)):
            yield from page
            if page[-1].id == newest[0].id:
                return  # nothing can be asked for behind the largest id there is
            first = f"({page[-1].id}"

    def find(self, letter_id: str) -> Letter:
        """Return one letter.

        Raises:
            SettingsError: the id is none, or no letter has it.
        """
        wanted = _entry_id(letter_id)
        if wanted is None:
            raise SettingsError(
                f"{letter_id[:60]!r} is no id of a dead letter; 'tidecast-worker dead-letters "
                "list' shows ids, such as 1700000000000-0"
            )
        found = self._read(wanted, wanted)
        if not found:
            raise self.missing(wanted)
        return found[0]

    def missing(self, letter_id: str) -> SettingsError:
        """Return the error that says that no letter has this id."""
        return SettingsError(
            f"no dead letter {letter_id} on {self.key}: never there, or retried, dropped or "
            "trimmed; 'tidecast-worker dead-letters list' shows those there are"
        )

    @driver_errors()
    def retry(self, letter: Letter) -> bool:
        """Put a letter's reading back on the input stream, and the letter away, in one step.

        The reading is decoded as it was the first time, and keeps the time that it had then.

        Returns:
            Whether the letter was still there; if not, nothing was done.

        Raises:
            StuckLetterError: letter and stream do not say enough to put the reading together.
        """
        if _entry_id(letter.entry) is None:
            raise _stuck(letter, f"its source entry {letter.entry[:60]!r} is no id")
        fields = self._again(letter, self.source(letter))
        if letter.fleet is not None:
            fields = [*fields, ADDRESSEE, letter.fleet.encode()]
        if len(fields) > 2 * MOST_FIELDS:
            raise _stuck(letter, f"its entry has {len(fields) // 2} fields, over {MOST_FIELDS}")
        try:
            return bool(self._script(keys=[self.key, self.stream], args=[letter.id, *fields]))
        except redis.ResponseError as error:
            if "last possible ID" not in str(error):
                raise
            raise ServerError(
                f"{self.stream} has no ids left and takes no entry any more; rename or delete it, "
                "then retry again"
            ) from error

    @driver_errors()
    def drop(self, letter: Letter) -> bool:
        """Delete a letter; return whether it was still there."""
        return bool(self._client.xdel(self.key, letter.id))

    @driver_errors()
    def source(self, letter: Letter) -> list[bytes] | None:
        """Return the fields of the entry that brought a letter's reading, None if it is gone."""
        entry = _entry_id(letter.entry)
        found: Any = self._client.xrange(self.stream, entry, entry) if entry else []
        return unaddressed(list(chain.from_iterable(found[0][1].items()))) if found else None

    @driver_errors()
    def _read(
        self, first: str, last: str, *, backward: bool = False, count: int = PAGE
    ) -> list[Letter]:
        entries: Any = (
            self._client.xrevrange(self.key, last, first, count=count)
            if backward
            else self._client.xrange(self.key, first, last, count=count)
        )
        return [_letter(*entry) for entry in entries]

    def _again(self, letter: Letter, source: list[bytes] | None) -> list[bytes]:
        """Return the fields of an entry that says again what the letter's reading said."""
        if source is not None and payload_of(source) == letter.payload:
            return self._timed(source, letter)
        said = _object(letter.payload)
        if said is None:
            cut = len(letter.payload) == LONGEST_PAYLOAD and letter.payload.endswith(b"...")
            if cut and source is not None and _holds_alone(source, letter.payload):
                return self._timed(source, letter)
            payload = "cut" if cut else "no JSON object"
            state = "gone" if source is None else "there, but not with this reading alone"
            raise _stuck(letter, f"its payload is {payload}, and {self._where(letter)} is {state}")
        if source is None and all(isinstance(value, str) for value in said.values()):
            if "\ufffd" in letter.text:
                why = f"it held bytes that are no text, and {self._where(letter)} is gone"
                raise _stuck(letter, why)
            flat = chain.from_iterable(said.items())
            return self._timed([text.encode() for text in flat], letter)
        return self._body(letter, said, source or [])

    def _body(self, letter: Letter, said: dict[str, Any], around: list[bytes]) -> list[bytes]:
        """Return an entry with one item of JSON, and with what the source said around its items."""
        outer = dict(zip(around[::2], around[1::2], strict=True))
        taken = (*self._naming.series, *self._naming.time)
        # What stands beside a document counts where that says nothing of its own, whatever its
        # shape is.
        kept = [(name.encode(), outer[name.encode()]) for name in taken if name.encode() in outer]
        kept += [(HISTORY, outer[HISTORY])] if HISTORY in outer else []
        # By itself, an object with a list in it would be read as columns.
        item = [said] if any(isinstance(value, list) for value in said.values()) else said
        field = next(name for name in BODIES if name not in taken)
        try:
            fields = [field.encode(), orjson.dumps(item), *chain.from_iterable(kept)]
        except orjson.JSONEncodeError as error:
            raise _stuck(letter, "its payload is nested too deeply") from error
        names_time = any(name in said for name in self._naming.time)
        return fields if names_time else self._timed(fields, letter)

    def _where(self, letter: Letter) -> str:
        return f"entry {letter.entry} of {self.stream}"

    def _timed(self, fields: list[bytes], letter: Letter) -> list[bytes]:
        """Return an entry's fields with the source entry's time, if they name none."""
        keys = [name.encode() for name in self._naming.time]
        if any(key in fields[::2] for key in keys):
            return fields
        return [*fields, keys[0], self._time_of(letter).encode()]

    def _time_of(self, letter: Letter) -> str:
        """Return the time of the entry that a letter is about, as the workers read it."""
        return text_of(int(letter.entry.partition("-")[0]), self._naming.unit)


def _letter(letter_id: bytes, fields: dict[bytes, bytes]) -> Letter:
    names = (b"reason", b"entry", b"fleet")
    reason, entry, fleet = (fields.get(k, b"").decode("utf-8", "replace") for k in names)
    known = fleet if FLEET.fullmatch(fleet) else None
    return Letter(letter_id.decode(), reason, entry, fields.get(b"payload", b""), known)


def _entry_id(text: str) -> str | None:
    """Return an entry id in the server's own form, None if the text is none."""
    found = re.fullmatch(r"([0-9]{1,20})-([0-9]{1,20})", text)
    parts = [int(part) for part in found.groups()] if found else []
    return f"{parts[0]}-{parts[1]}" if parts and max(parts) <= LARGEST_ID_PART else None


def _object(payload: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a payload is, None if it is cut or something else."""
    try:
        said = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


def _holds_alone(source: Sequence[bytes], payload: bytes) -> bool:
    """Tell whether an entry's JSON is the one object that a cut payload begins with."""
    for body in source[1::2]:
        try:
            document = orjson.loads(body) if body[:1] in (b"{", b"[") else None
            item = document[0] if isinstance(document, list) and len(document) == 1 else document
            if isinstance(item, dict) and orjson.dumps(item).startswith(payload[:-3]):
                return True
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            continue
    return False


def _stuck(letter: Letter, why: str) -> StuckLetterError:
    return StuckLetterError(
        f"dead letter {letter.id} stays: {why}; send the reading anew, then drop the letter"
    )
