"""A whole line that Prometheus can watch: a server, a worker with its HTTP port, and readings."""

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.model_files import write_mean_model
from tests.redis.servers import HOST, Server, dying_with_us, flavours, free_port
from tests.redis.waiting import wait_for

STREAMS = ("readings:{0}", "readings:{1}")


@dataclass
class Line:
    """A running line.

    Attributes:
        client: of its server.
        port: where its worker answers.
        process: its worker.
    """

    client: redis.Redis
    port: int
    process: subprocess.Popen[bytes]

    def feed(self) -> None:
        """Add readings to both streams; few of them are bad, or of no model's series."""
        for stream in STREAMS:
            for value in range(60):
                self.client.xadd(stream, {"series": f"s{value % 3}", "value": value})
            self.client.xadd(stream, {"series": "s0", "value": "abc"})
            self.client.xadd(stream, {"series": "other", "value": 1})

    def stammer(self) -> None:
        """Add so many entries that hold no reading that the worker says so at once."""
        for number in range(300):
            self.client.xadd(STREAMS[0], {"nonsense": number})

    def forecasts(self) -> int:
        """Return how many forecasts the server holds."""
        return sum(self.client.xlen(f"{stream}:forecasts") for stream in STREAMS)

    def scrape(self) -> str:
        """Return what the worker tells at the moment, nothing while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=60) as answer:
                return bytes(answer.read()).decode()
        except OSError:
            return ""

    def settled(self) -> bool:
        """Tell whether all is forecast and saved."""
        told = self.scrape().splitlines()
        return f"tidecast_forecasts_total {self.forecasts():.1f}" in told and all(
            any(
                line.startswith(f'tidecast_checkpoint_age_seconds{{stream="{name}"}}')
                for line in told
            )
            for name in STREAMS
        )


@contextmanager
def running_line(folder: Path) -> Iterator[Line]:
    """Run a line for the length of the block; its first readings are forecast."""
    model = write_mean_model(folder / "mean.onnx", name="mean", n_steps=2, series="s*")
    port = free_port()
    with (
        Server(flavour=flavours()[0], folder=folder / "server") as server,
        server.client() as client,
    ):
        command = [
            *dying_with_us(),
            sys.executable,
            "-m",
            "tidecast.worker",
            "run",
            "--redis-url",
            server.url,
        ]
        command += ["--models", str(model), "--from", "earliest", "--http-port", str(port)]
        command += [word for stream in STREAMS for word in ("--input", stream)]
        log = folder / "log"
        with log.open("w") as file, subprocess.Popen(command, stderr=file) as process:
            line = Line(client, port, process)
            try:
                line.feed()
                wait_for(lambda: line.forecasts() > 0 and line.settled())
                yield line
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=120) == 0, log.read_text()
            finally:
                process.kill()
