"""What a worker counts and how it stands, as Prometheus metrics.

All is read when somebody scrapes, so that counting costs the worker next to nothing. Labels are
bounded: streams and models are those that the worker was told of, reasons are ``wire.KINDS`` and
hindrances ``outcome.HINDRANCES``.
"""

import platform
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tidecast.worker.contract import ModelSpec
from tidecast.worker.pipeline.outcome import HINDRANCES
from tidecast.worker.service.health import Health
from tidecast.worker.service.loop import Worker
from tidecast.worker.service.partition import State
from tidecast.worker.service.tally import Histogram

COUNTERS = {
    "readings": ("tidecast_readings", "Readings taken from input streams."),
    "forecasts": ("tidecast_forecasts", "Forecasts committed."),
    "rejects": (
        "tidecast_rejects",
        "Entries and readings written to dead-letter streams, by what was wrong with them.",
    ),
    "unserved": ("tidecast_unserved_readings", "Readings of series that no model serves."),
    "filled": (
        "tidecast_filled_forecasts",
        "Forecasts from windows of which some slots had no reading.",
    ),
    "waiting": (
        "tidecast_waiting_readings",
        "Readings whose series' window is still too short to forecast from.",
    ),
    "history": (
        "tidecast_history_readings",
        "Readings that were sent as history: they move windows and give no forecast.",
    ),
    "missing": (
        "tidecast_missing_readings",
        "Readings that say to have no value for some feature; the window goes on without them.",
    ),
    "joined": (
        "tidecast_joined_readings",
        "Readings that went into a slot with others: joined by feature, or aggregated.",
    ),
    "closed": (
        "tidecast_closed_slot_forecasts",
        "Forecasts made when a slot closed, and so of no reading of their own.",
    ),
    "broken": (
        "tidecast_broken_slots",
        "Slots that closed without a feature, which was too long ago, and were left out.",
    ),
    "amended": (
        "tidecast_amended_readings",
        "Readings that changed a slot that their series' window held already.",
    ),
    "ignored": (
        "tidecast_ignored_readings",
        "Readings that said again what was known, or came after the one that counts.",
    ),
    "dropped": (
        "tidecast_late_readings_dropped",
        "Readings of slots that no window holds any more; --late dead makes them dead letters.",
    ),
    "evicted": ("tidecast_evicted_series", "Series forgotten to make room for others."),
    "forgotten": (
        "tidecast_quiet_series",
        "Series forgotten because they had no reading for --series-ttl.",
    ),
    "lost": (
        "tidecast_entries_removed_unread",
        "Entries removed from an input stream before they were read; their forecasts are missing.",
    ),
    "rebuilds": (
        "tidecast_rebuilds",
        "Times that windows were to be taken from the server again: all of them, or one stream's.",
    ),
    "reconnects": ("tidecast_reconnects", "Rebuilds because the server went away or failed."),
    "batches": ("tidecast_commits", "Atomic commits of a micro-batch."),
    "started": (
        "tidecast_series_started",
        "Series that gave their first forecast, anew after each rebuild.",
    ),
}
"""What each count of a tally is called, without the suffix ``_total``, and what it says."""


class HealthCollector(Collector):
    """What a worker is and whether it is well, from before it has a server.

    Args:
        health: what its loop says of itself.
        models: what its models are.
        clock: the loop's monotonic seconds.
    """

    def __init__(
        self, health: Health, models: Iterable[ModelSpec], clock: Callable[[], float]
    ) -> None:
        self._health = health
        self._clock = clock
        self._about = [_build(), _models(models)]

    def collect(self) -> Iterator[Metric]:
        """Yield each metric as it stands."""
        yield GaugeMetricFamily(
            "tidecast_connected",
            "1 while the server answers, else 0.",
            value=self._health.outage is None,
        )
        yield GaugeMetricFamily(
            "tidecast_heartbeat_age_seconds",
            "How long ago the loop last passed by.",
            value=self._health.silence(self._clock()),
        )
        yield from self._about


class WorkerCollector(Collector):
    """What a worker has done and what it holds.

    Args:
        worker: read only, from the thread that answers the scrape.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        """Yield each metric as it stands."""
        yield from self._counts()
        yield from self._histograms()
        yield from self._partitions()

    def _counts(self) -> Iterator[Metric]:
        for name, count in self._worker.total.facts().items():
            if name != "rejects":
                yield CounterMetricFamily(*COUNTERS[name], value=count)
        rejects = CounterMetricFamily(*COUNTERS["rejects"], labels=["reason"])
        for kind, count in self._worker.measures.rejects.items():
            rejects.add_metric([kind], count)
        yield rejects

    def _histograms(self) -> Iterator[Metric]:
        measures = self._worker.measures
        readings = HistogramMetricFamily("tidecast_commit_readings", "Readings in a commit.")
        readings.add_metric([], *_buckets(measures.readings))
        latency = HistogramMetricFamily(
            "tidecast_forecast_latency_seconds",
            "From when the server took in a commit's oldest entry, by its id, until its forecasts "
            "were written; once a commit.",
        )
        latency.add_metric([], *_buckets(measures.latency))
        inference = HistogramMetricFamily(
            "tidecast_inference_seconds",
            "What a model took for the readings of one commit.",
            labels=["model"],
        )
        for name, histogram in list(measures.inference.items()):
            inference.add_metric([name], *_buckets(histogram))
        yield from (readings, latency, inference)

    def _partitions(self) -> Iterator[Metric]:
        held = self._worker.partitions
        followed = GaugeMetricFamily(
            "tidecast_partition_followed",
            "1 for each input stream that this worker would hold if nobody else did.",
            labels=["stream"],
        )
        for stream in self._worker.settings.input:
            followed.add_metric([stream], 1)
        state = GaugeMetricFamily(
            "tidecast_partition_state",
            "1 for what an input stream is to this worker, 0 for what it is not.",
            labels=["stream", "state"],
        )
        for stream, stands in self._worker.states.items():
            for one in State:
                state.add_metric([stream, one], one is stands)
        lag = GaugeMetricFamily(
            "tidecast_partition_lag_entries",
            "Entries of an input stream that are not forecast yet, as of the last look.",
            labels=["stream"],
        )
        age = GaugeMetricFamily(
            "tidecast_checkpoint_age_seconds",
            "How long ago the windows of an input stream were saved.",
            labels=["stream"],
        )
        series = GaugeMetricFamily(
            "tidecast_series", "Series of an input stream that have a window.", labels=["stream"]
        )
        hindered = GaugeMetricFamily(
            "tidecast_hindered",
            "1 while most readings of an input stream are not forecast, or not as they should be, "
            "by what hinders them.",
            labels=["stream", "kind"],
        )
        now = self._worker.clock()
        for stream, partition in held.items():
            hindering = self._worker.hindering(stream)
            for kind in HINDRANCES:
                hindered.add_metric([stream, kind], kind in hindering)
            lag.add_metric([stream], partition.lag)
            series.add_metric([stream], len(partition.pipeline.held))
            if partition.stands_since > float("-inf"):
                age.add_metric([stream], max(0.0, now - partition.stands_since))
        yield GaugeMetricFamily(
            "tidecast_partitions", "Input streams that this worker holds.", value=len(held)
        )
        yield from (followed, state, lag, age, series, hindered)


def registry_of(
    health: Health, models: Iterable[ModelSpec], clock: Callable[[], float]
) -> CollectorRegistry:
    """Return what a scrape tells before there is a worker; its collector is to be added then."""
    registry = CollectorRegistry()
    registry.register(HealthCollector(health, models, clock))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Return a histogram's cumulative counts by upper bound, and its sum."""
    bounds = [*map(str, map(float, histogram.bounds)), "+Inf"]
    counts = accumulate(list(histogram.counts))
    return list(zip(bounds, counts, strict=True)), histogram.sum


def _build() -> Metric:
    about = {name: version(name) for name in ("tidecast", "onnxruntime")}
    return InfoMetricFamily(
        "tidecast_build",
        "What this worker is made of.",
        value={
            "version": about["tidecast"],
            "python": platform.python_version(),
            "onnxruntime": about["onnxruntime"],
        },
    )


def _models(specs: Iterable[ModelSpec]) -> Metric:
    models = InfoMetricFamily(
        "tidecast_model",
        "The models that this worker serves.",
        labels=["model"],
    )
    for spec in specs:
        about = {"version": spec.version, "pattern": spec.pattern, "series": spec.series}
        models.add_metric([spec.name], about)
    return models
