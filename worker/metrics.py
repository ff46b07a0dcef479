"""The worker's counts as Prometheus metrics, over HTTP."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from worker.errors import SettingsError
from worker.tally import Tally

COUNTERS = {
    "readings": ("tidecast_readings", "Readings taken from input streams."),
    "forecasts": ("tidecast_forecasts", "Forecasts committed."),
    "rejects": ("tidecast_rejects", "Entries and readings written to dead-letter streams."),
    "unserved": ("tidecast_unserved_readings", "Readings of series that no model serves."),
    "evicted": ("tidecast_evicted_series", "Series forgotten to make room for others."),
    "lost": (
        "tidecast_entries_removed_unread",
        "Entries removed from an input stream before they were read; their forecasts are missing.",
    ),
    "rebuilds": ("tidecast_rebuilds", "Times all state was taken from the server again."),
    "batches": ("tidecast_commits", "Atomic commits of a micro-batch."),
    "started": ("tidecast_series_started", "Series that gave their first forecast."),
}
"""What each count of a tally is called, without the suffix ``_total``, and what it says."""


class Counts(Collector):
    """Reads a tally when it is scraped, so that counting costs the worker nothing."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield each count as it stands."""
        for name, count in self._tally.facts().items():
            yield CounterMetricFamily(*COUNTERS[name], value=count)


def serve(tally: Tally, host: str, port: int) -> int:
    """Answer scrapes at ``/metrics`` from a thread of their own; return the port.

    Port 0 lets the system choose one.

    Raises:
        SettingsError: the address cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(Counts(tally))
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"cannot serve metrics at {host}:{port}: {error.strerror or error}; "
            "choose another --http-port or --http-host"
        ) from error
    return int(server.server_port)
