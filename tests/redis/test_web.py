"""The worker's HTTP port: its routes, what its probes mean, and who may not disturb it."""

import http.client
import logging
import socket
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Counted
from waitress import wasyncore

from tests.model_files import write_mean_model
from tests.redis.servers import Server, flavours
from tests.redis.test_metrics import scraped
from tests.redis.waiting import wait_for
from tidecast.worker.logs import LOGGER
from tidecast.worker.service import web

ROUTES = ("/metrics", "/livez", "/readyz", "/startupz")


@pytest.fixture(scope="module")
def port() -> int:
    probes = {"/livez": lambda: None, "/readyz": lambda: "no server"}
    return web.serve(web.application_of(CollectorRegistry(), probes), "127.0.0.1", 0)


def asked(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def said_to(port: int, sent: bytes) -> bytes:
    """All that the port answers until it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        with suppress(ConnectionError):  # it may hang up before it has heard all
            connection.sendall(sent)
        received = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
        return received


@pytest.mark.usefixtures("port")
def test_what_the_port_says_goes_where_the_projects_lines_go_and_each_line_once() -> None:
    told: list[str] = []
    ear = logging.Handler()
    ear.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(ear)
    try:
        logging.getLogger("waitress").error("the port fell over")
        LOGGER.error("the line goes on")
    finally:
        LOGGER.removeHandler(ear)
    assert told == ["the port fell over", "the line goes on"]
    # Who listens to both, such as a test runner, hears each line once.
    assert logging.getLogger("waitress").handlers == []


def test_head_is_get_without_a_body(port: int) -> None:
    for path, status in (("/livez", b"200"), ("/metrics", b"200"), ("/readyz", b"503")):
        said = said_to(port, f"HEAD {path} HTTP/1.1\r\n\r\n".encode())
        assert said.split(b" ")[1] == status
        assert said.endswith(b"\r\n\r\n")


def test_a_connection_brings_one_answer(port: int) -> None:
    said = said_to(port, b"GET /livez HTTP/1.1\r\n\r\n" * 300)
    assert said.count(b"HTTP/1.1 200") == 1


def test_who_asks_on_and_on_and_never_listens_keeps_no_thread() -> None:
    registry = CollectorRegistry()
    for number in range(400):
        Counted(f"a_rather_long_name_of_a_counter_{number}", "x" * 100, registry=registry).inc()
    port = web.serve(web.application_of(registry, {"/livez": lambda: None}), "127.0.0.1", 0)
    deaf = [socket.socket() for _ in range(2 * web.THREADS)]
    for one in deaf:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.connect(("127.0.0.1", port))
        one.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 320)
    assert asked(port, "/livez") == (200, "ok\n")
    for one in deaf:
        one.close()


def test_a_probe_passes_or_tells_why_not(port: int) -> None:
    assert asked(port, "/livez") == (200, "ok\n")
    assert asked(port, "/readyz") == (503, "no server\n")
    assert asked(port, "/readyz", "HEAD") == (503, "")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/livez2", "/%2e%2e/etc/passwd", "/startupz"])
def test_what_is_no_route_is_not_found(port: int, path: str) -> None:
    status, text = asked(port, path)
    assert (status, "/livez, /metrics, /readyz" in text) == (404, True)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
@pytest.mark.parametrize("path", ["/metrics", "/livez"])
def test_nothing_but_reading_is_allowed(port: int, path: str, method: str) -> None:
    assert asked(port, path, method)[0] == 405


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9.9\r\nHost\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\n" + b"X: " + b"y" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n", b"413"),
        (b"POST /livez HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked, what\r\n\r\n", b"501"),
    ],
)
def test_nonsense_is_refused_and_harms_nobody(port: int, sent: bytes, status: bytes) -> None:
    assert said_to(port, sent).startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
    assert said_to(port, sent).split(b" ")[1] == status
    assert asked(port, "/livez")[0] == 200


def test_who_trickles_is_cut_off_like_who_is_silent() -> None:
    application = web.application_of(CollectorRegistry(), {"/livez": lambda: None})
    port = web.serve(application, "127.0.0.1", 0, patience=2)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
        slow.settimeout(0.2)
        slow.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        with pytest.raises(OSError, match=r"reset|Broken"):  # noqa: PT012 - it ends when it ends
            while True:
                slow.sendall(b"y")
                with suppress(TimeoutError):
                    if slow.recv(100) == b"":
                        raise ConnectionResetError("reset")
    assert asked(port, "/livez")[0] == 200


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """After each look at connections: whose they are, and how many of them are open."""
    told: list[tuple[int, int]] = []
    loop = wasyncore.loop

    def watched(**how: Any) -> None:
        loop(**how)
        told.append((id(how["map"]), len(how["map"])))

    monkeypatch.setattr(wasyncore, "loop", watched)
    return told


def test_bytes_that_trickle_in_are_looked_at_only_every_pause(
    port: int, looks: list[tuple[int, int]]
) -> None:
    def most() -> int:
        return max(Counter(whose for whose, _ in looks).values(), default=0)

    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        slow.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        while most() < 10:
            slow.sendall(b"y")
            time.sleep(web.PAUSE / 40)
    assert most() <= (time.monotonic() - start) / web.PAUSE + 2


def test_a_look_lets_all_in_who_wait_as_long_as_there_is_room(
    looks: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PAUSE", 1.0)
    monkeypatch.setattr(web, "MOST_CONNECTIONS", 60)
    application = web.application_of(CollectorRegistry(), {"/livez": lambda: None})
    port = web.serve(application, "127.0.0.1", 0, patience=4)
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(90)]
    assert asked(port, "/livez") == (200, "ok\n")  # as soon as the others were cut off
    counts = [count for whose, count in looks if (whose, 60) in looks]
    assert max(counts) == 60
    assert max(after - before for before, after in pairwise(counts)) > 20
    for one in waiting:
        one.close()


def test_a_thread_rests_after_each_answer(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []
    sleep = time.sleep

    def counted(seconds: float) -> None:
        rested.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", counted)
    for _ in range(3):
        asked(port, "/livez")
    wait_for(lambda: rested.count(web.REST) >= 3)


def test_probes_of_a_worker_from_its_start_through_an_outage(tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    with (
        Server(flavour=flavours()[0], folder=tmp_path / "server") as server,
        scraped(server.url, model, tmp_path / "log") as scrape,
    ):
        port = scrape.port
        wait_for(lambda: asked(port, "/readyz")[0] == 200)
        assert [asked(port, route)[0] for route in ROUTES] == [200] * 4
        server.kill()
        wait_for(lambda: asked(port, "/readyz")[0] == 503)
        assert asked(port, "/livez")[0] == asked(port, "/startupz")[0] == 200
        assert scrape()["tidecast_connected"] == 0
        server.start()
        wait_for(lambda: asked(port, "/readyz")[0] == 200)
        counts = scrape()
    assert counts["tidecast_connected"] == 1
    assert counts["tidecast_reconnects_total"] >= 1


def test_a_worker_that_waits_for_its_server_lives_and_has_not_started(tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    server = Server(flavour=flavours()[0], folder=tmp_path / "server")
    with scraped(server.url, model, tmp_path / "log", "--connect-patience", "600") as scrape:
        port = scrape.port
        assert asked(port, "/livez")[0] == 200
        assert asked(port, "/startupz") == (503, "not connected to the server yet\n")
        with server:
            wait_for(lambda: asked(port, "/startupz")[0] == 200)
            client = redis.Redis.from_url(server.url)
            assert client.zcard("tidecast:members:default") == 1
            client.close()
            # A second worker has nothing to do, and is ready to take over.
            with scraped(server.url, model, tmp_path / "log2") as standby:
                wait_for(lambda: asked(standby.port, "/readyz")[0] == 200)
                counts = standby()
                assert counts["tidecast_partitions"] == 0
                assert counts["tidecast_partition_followed{readings}"] == 1
                assert "tidecast_partition_lag_entries{readings}" not in counts


def test_a_flood_of_connections_does_not_stop_the_forecasts(tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "m.onnx", n_steps=1)
    with (
        Server(flavour=flavours()[0], folder=tmp_path / "server") as server,
        scraped(server.url, model, tmp_path / "log") as scrape,
        redis.Redis.from_url(server.url) as client,
    ):
        idle = [socket.create_connection(("127.0.0.1", scrape.port)) for _ in range(100)]
        for connection in idle:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        for value in range(2000):
            client.xadd("readings", {"value": value})
            if value % 20 == 0:
                said_to(scrape.port, b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000)
        wait_for(lambda: client.xlen("readings:forecasts") == 2000)
        assert asked(scrape.port, "/livez")[0] == 200
        for connection in idle:
            connection.close()
