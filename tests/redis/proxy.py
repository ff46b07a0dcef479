"""A bad network between clients and one server of this machine."""

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Self

import hiredis
import redis

from tests.redis.servers import HOST, client_at, free_port

FAULTS = (
    "delay",
    "reset",
    "cut_after",
    "cut_request_after",
    "half_open",
    "drop_reply",
    "refuse",
)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""The value of SO_LINGER that makes a close a reset."""
INCOMPLETE = object()


class Messages:
    """Counts the whole requests or replies in a stream of bytes."""

    def __init__(self) -> None:
        self.whole = 0
        self.readable = True
        self._reader = hiredis.Reader(notEnoughData=INCOMPLETE)

    @property
    def partial(self) -> bool:
        """Whether the stream stands inside a message."""
        return self._reader.has_data()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if not self.readable:
            return
        try:
            self._reader.feed(data)
            while self._reader.gets() is not INCOMPLETE:
                self.whole += 1
        except hiredis.ProtocolError:  # a primary sends its snapshot without a frame
            self.readable = False


class Side(asyncio.Protocol):
    """One of the two sockets of a link; what arrives here is for the other side."""

    def __init__(self, link: "Link", cut: str) -> None:
        self.link = link
        self.cut = cut  # the fault that ends the link after some bytes from here
        self.left: int | None = None  # the bytes that may still pass before that
        self.messages = Messages()
        self.held: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self.broken = False

    @property
    def open(self) -> bool:
        """Whether the socket is connected and nobody has begun to close it."""
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.link.other(self).lost:
            self.reset()

    def data_received(self, data: bytes) -> None:
        self.link.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost, self.broken = True, exc is not None
        self.link.ended(self)

    def pause_writing(self) -> None:
        other = self.link.other(self)
        if other.transport is not None:
            other.transport.pause_reading()

    def resume_writing(self) -> None:
        other = self.link.other(self)
        if other.transport is not None:
            other.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the socket is closed already."""
        if self.transport is not None and self.open:
            self.transport.write(data)

    def close(self) -> None:
        """End the connection in order, after what was written."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """End the connection with an RST."""
        if self.transport is not None and not self.lost:
            held: socket.socket = self.transport.get_extra_info("socket")
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.abort()


class Link:
    """A client's connection to the proxy and the one to the server that stands behind it."""

    def __init__(self, hits: Counter[str], gone: Callable[["Link"], None]) -> None:
        self.client = Side(self, "cut_request_after")
        self.server = Side(self, "cut_after")
        self.silent = False
        self._hits = hits
        self._gone = gone
        self._armed: set[str] = set()
        self._hold: asyncio.TimerHandle | None = None
        self._passing_replies: int | None = None

    @property
    def live(self) -> bool:
        """Whether bytes pass from one side to the other."""
        return self.client.open and self.server.open and not self.silent

    @property
    def framed(self) -> bool:
        """Whether requests and replies can be told apart."""
        return self.client.messages.readable and self.server.messages.readable

    @property
    def answered(self) -> bool:
        """Whether the server has replied to every request."""
        return self.server.messages.whole >= self.client.messages.whole

    @property
    def holding(self) -> bool:
        """Whether bytes are held back for now."""
        return self._hold is not None

    def other(self, side: Side) -> Side:
        """Return the side where the bytes of this one go."""
        return self.server if side is self.client else self.client

    def received(self, side: Side, data: bytes) -> None:
        """Pass bytes on, or do to them what the faults ask for."""
        if self.silent:
            self._hit("half_open")
        elif side is self.server and self._is_to_drop():
            side.messages.feed(data)
            self._drop()
        else:
            side.messages.feed(data)
            if self._hold is None:
                self._forward(side, data)
            else:
                self._hit("delay")
                side.held.append(data)

    def ended(self, side: Side) -> None:
        """Pass the end of one side on to the other, behind the bytes that came before it."""
        if self.client.lost and self.server.lost:
            self._gone(self)
        elif not self.silent and self._hold is None:
            self._end(self.other(side), broken=side.broken)

    def delay(self, seconds: float) -> None:
        self._armed.add("delay")
        if self._hold is not None:
            self._hold.cancel()
        self._hold = asyncio.get_running_loop().call_later(seconds, self._release)

    def reset(self) -> None:
        self.client.reset()
        self.server.reset()

    def cut_after(self, side: Side, count: int) -> None:
        self._armed.add(side.cut)
        side.left = count
        self._forward(side, b"")

    def half_open(self, seconds: float) -> None:
        self._armed.add("half_open")
        self.silent = True
        if self._hold is not None:
            self._hold.cancel()
        asyncio.get_running_loop().call_later(seconds, self.reset)

    def drop_reply(self) -> None:
        self._armed.add("drop_reply")
        self._passing_replies = self.client.messages.whole

    def _is_to_drop(self) -> bool:
        return (
            self._passing_replies is not None
            and self.framed
            and self.server.messages.whole >= self._passing_replies
        )

    def _drop(self) -> None:
        # Part of a pipeline may be answered before the rest has come in; not in mid-message.
        complete = not self.client.messages.partial and not self.server.messages.partial
        if complete and self.answered:
            self._hit("drop_reply")
            self.reset()

    def _release(self) -> None:
        self._hold = None
        for side in (self.client, self.server):
            for data in side.held:
                self._forward(side, data)
            side.held.clear()
            if side.lost:
                self._end(self.other(side), broken=side.broken)

    def _forward(self, side: Side, data: bytes) -> None:
        if side.left is not None:
            data = data[: side.left]
            side.left -= len(data)
        self.other(side).write(data)
        if side.left == 0:
            self._hit(side.cut)
            self.client.close()
            self.server.close()

    def _end(self, side: Side, *, broken: bool) -> None:
        if broken:
            side.reset()
        else:
            side.close()

    def _hit(self, fault: str) -> None:
        if fault in self._armed:
            self._armed.remove(fault)
            self._hits[fault] += 1


class Proxy:
    """Passes bytes between its own port and a server's, and does harm when asked.

    A fault strikes one live connection chosen at random, or ``every`` one, and returns whether
    there was any. ``hits`` counts, per fault, what has really happened: bytes held or swallowed, a
    connection cut or reset, a reply thrown away, the port closed.

    Args:
        target: the server's port.
        seed: of the choice among connections, by the order in which they were opened.
    """

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.port = free_port()
        self.hits: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self._target = target
        self._random = Random(seed)
        self._links: list[Link] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._troubles: list[object] = []
        self._refusing = False
        self._listener = self._bound()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        self._started.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"redis://{HOST}:{self.port}"

    def client(self, *, timeout: float = 10.0) -> redis.Redis:
        """Return a client that never retries a command."""
        return client_at(self.port, timeout=timeout)

    def delay(self, seconds: float, *, every: bool = False) -> bool:
        """Hold the bytes of both directions for that time.

        They arrive even if the one who sent them has closed the connection in the meantime.
        """
        return self._strike(lambda link: link.delay(seconds), every=every)

    def reset(self, *, every: bool = False) -> bool:
        """Reset both sides of a connection."""

        def reset(link: Link) -> None:
            self.hits["reset"] += 1
            link.reset()

        return self._strike(reset, every=every)

    def cut_after(self, count: int, *, every: bool = False) -> bool:
        """Close a connection as soon as that many more bytes have gone to the client."""
        return self._strike(lambda link: link.cut_after(link.server, count), every=every)

    def cut_request_after(self, count: int, *, every: bool = False) -> bool:
        """Close a connection as soon as that many more bytes have gone to the server."""
        return self._strike(lambda link: link.cut_after(link.client, count), every=every)

    def half_open(self, seconds: float, *, every: bool = False) -> bool:
        """Swallow all bytes of a connection, its end included; reset it after that time."""
        return self._strike(lambda link: link.half_open(seconds), every=every)

    def reset_half_open(self) -> bool:
        """Reset the connections that swallow; return whether there was any."""

        def reset() -> bool:
            silent = [link for link in self._links if link.silent]
            for link in silent:
                link.reset()
            return bool(silent)

        return self._call(reset)

    def drop_reply(self, *, every: bool = False) -> bool:
        """Deliver the next request, then throw its reply away and reset the connection.

        Of a long pipeline it may be the first part only. Requests already under way are answered.
        """
        return self._strike(
            Link.drop_reply, every=every, among=lambda link: link.live and link.framed
        )

    def refuse(self, seconds: float) -> bool:
        """Close the port for that time; connections stay. Return whether it was open."""
        return self._call(partial(self._refuse, seconds))

    @property
    def answered(self) -> bool:
        """Whether the server has replied to every request of a connection that is open."""
        return self._call(lambda: all(link.answered for link in self._links))

    @property
    def holding(self) -> bool:
        """Whether bytes of a connection are held back for now."""
        return self._call(lambda: any(link.holding for link in self._links))

    def close(self) -> None:
        """End all connections and the thread.

        Raises:
            RuntimeError: the proxy itself has failed at something.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        if self._troubles:
            raise RuntimeError(f"the proxy failed: {self._troubles}")

    def _strike(
        self,
        strike: Callable[[Link], None],
        *,
        every: bool,
        among: Callable[[Link], bool] = lambda link: link.live,
    ) -> bool:
        def choose_and_strike() -> bool:
            links = list(filter(among, self._links))
            chosen = links if every or not links else [self._random.choice(links)]
            for link in chosen:
                strike(link)
            return bool(chosen)

        return self._call(choose_and_strike)

    def _call(self, function: Callable[[], bool]) -> bool:
        """Let the proxy's thread do it, and wait for the answer."""

        async def call() -> bool:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self._troubles.append(context))
        self._stopping = asyncio.Event()
        self._listen()
        self._started.set()
        await self._stopping.wait()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        await asyncio.sleep(0)  # a task cancelled before its first step would leave its socket open
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for link in self._links:
            link.reset()
        while self._links:
            await asyncio.sleep(0)

    def _refuse(self, seconds: float) -> bool:
        if self._refusing:
            return False
        self._refusing = True
        self.hits["refuse"] += 1
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = self._bound()
        self._loop.call_later(seconds, self._listen)
        return True

    def _bound(self) -> socket.socket:
        """Return a socket that holds the port, so that no one else can take it."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(0)
        listener.bind((HOST, self.port))
        return listener

    def _listen(self) -> None:
        self._refusing = False
        self._listener.listen(100)
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            task = self._loop.create_task(self._open(self._listener.accept()[0]))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket) -> None:
        accepted.settimeout(0)
        link = Link(self.hits, self._links.remove)
        try:
            await self._loop.create_connection(lambda: link.server, HOST, self._target)
        except (OSError, asyncio.CancelledError):
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            accepted.close()
            return
        self._links.append(link)
        with suppress(asyncio.CancelledError):
            await self._loop.connect_accepted_socket(lambda: link.client, accepted)
