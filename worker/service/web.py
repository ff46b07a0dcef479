"""The worker's HTTP port: metrics for Prometheus, probes for a container platform.

It answers ``GET`` and ``HEAD`` of its own routes and nothing else. Whoever sends slowly, much or
nonsense is cut off: a connection brings one answer and lives ``PATIENCE`` seconds, requests are
small and connections few. Whatever comes, connections are looked at only every ``PAUSE`` seconds
and a thread rests after each answer, so that the forecasts keep the processor. What it knows it
reads; nothing can be changed through it.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server

from tidecast.worker.errors import SettingsError
from tidecast.worker.logs import LOGGER

Why = Callable[[], str | None]
"""Tells why a probe fails, None if it passes."""
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

PATIENCE = 10
"""Seconds that a connection may wait for its request or its answer."""
PAUSE = 0.04
"""Seconds between two looks at all connections."""
REST = 0.02
"""Seconds that a thread rests after an answer; two threads give a hundred answers a second."""
MOST_CONNECTIONS = 200
"""All that are open at a time. Each look lets in as many as there is room for: one who opens and
closes them as fast as he can must not keep others waiting at the door."""
LONGEST_HEADER = 8192
"""Bytes of a request's head; no request of ours has a body."""
THREADS = 2
PLAIN = ("Content-Type", "text/plain; charset=utf-8")


def application_of(registry: CollectorRegistry, probes: Mapping[str, Why]) -> Application:
    """Return the WSGI application: ``/metrics`` and the probes by their path."""
    metrics: Application = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path != "/metrics" and path not in probes:
            routes = ", ".join(sorted(["/metrics", *probes]))
            return _say(start, "404 Not Found", f"no such route; there are {routes}")
        if method not in {"GET", "HEAD"}:
            return _say(start, "405 Method Not Allowed", "GET or HEAD", ("Allow", "GET, HEAD"))
        if path == "/metrics":
            return metrics(environ | {"REQUEST_METHOD": "GET"}, start)
        why = probes[path]()
        return _say(start, "200 OK" if why is None else "503 Service Unavailable", why or "ok")

    def without_body(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = application(environ, start)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    return without_body


def _reason(error: OSError) -> str:
    """Return what the system says, without what Python adds to it."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _say(
    start: Callable[..., Any], status: str, text: str, *headers: tuple[str, str]
) -> list[bytes]:
    body = f"{text}\n".encode()
    start(status, [PLAIN, ("Content-Length", str(len(body))), *headers])
    return [body]


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    """A connection of one answer, whose patience no byte that trickles in renews."""

    last_activity: float
    requests: list[Any]
    requests_lock: threading.Lock

    def handle_read(self) -> None:
        before = self.last_activity
        super().handle_read()
        self.last_activity = before

    def service(self) -> None:
        # One answer and no more: whoever asks on and on and never listens would keep a thread.
        # Who hears them may be about to count them, and would have the first answered twice.
        with self.requests_lock:
            self.requests[0].headers["CONNECTION"] = "close"
            del self.requests[1:]
        super().service()
        time.sleep(REST)


def shown(host: str) -> str:
    """Return a host as a URL has it."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def serve(application: Application, host: str, port: int, *, patience: int = PATIENCE) -> int:
    """Answer requests from threads of their own until the process ends; return the port.

    Port 0 lets the system choose one.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    everywhere = host == "::" and socket.has_dualstack_ipv6()  # IPv4 is a part of it
    try:
        listening = socket.create_server((host, port), family=family, dualstack_ipv6=everywhere)
    except OSError as error:
        raise SettingsError(
            f"cannot serve metrics at {shown(host)}:{port}: {_reason(error)}; "
            "choose another --http-port or --http-host"
        ) from error
    connections: dict[int, Any] = {}
    server = create_server(
        application,
        map=connections,
        sockets=[listening],
        threads=THREADS,
        connection_limit=MOST_CONNECTIONS,
        channel_timeout=patience,
        cleanup_interval=patience // 2,
        max_request_header_size=LONGEST_HEADER,
        max_request_body_size=1,
        ident=None,
        clear_untrusted_proxy_headers=True,
    )
    server.channel_class = _Channel
    let_one_in = server.handle_accept
    server.handle_accept = lambda: _let_in(let_one_in, connections)
    # It would tell of every request that has to wait, as often as a stranger likes.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    waitress = logging.getLogger("waitress")
    waitress.setLevel(logging.ERROR)
    waitress.parent = LOGGER  # what it says goes where the project's own lines go
    threading.Thread(target=_look_on, args=(connections,), name="http", daemon=True).start()
    return int(server.effective_port)


def _let_in(let_one_in: Callable[[], None], connections: Sized) -> None:
    """Let in all who wait, as long as there is room."""
    before = -1
    while before < len(connections) < MOST_CONNECTIONS:
        before = len(connections)
        let_one_in()


def _look_on(connections: dict[int, Any]) -> None:
    """Hear all connections again and again, with a pause after each time."""
    while True:
        wasyncore.loop(timeout=1.0, use_poll=True, map=connections, count=1)
        time.sleep(PAUSE)
