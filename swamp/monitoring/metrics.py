"""`/metrics`: everything that is counted, in the form that Prometheus reads. Imported when it is first asked for.

The names that begin with `rq_` are rq-exporter's, with its labels, so that dashboards made for it work as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from swamp.monitoring.books import Books
from swamp.monitoring.gauges import Gauges
from swamp.monitoring.tally import SECONDS, Histogram, Tally

K = TypeVar("K")
V = TypeVar("V")
Values = Mapping[Any, float]
"""By the values of the labels, a tuple."""


@dataclass(frozen=True, eq=False)
class Figures(Collector):
    """All of it at one moment; `books` is None while Redis is away."""

    tally: Tally
    gauges: Gauges
    books: Books | None

    def collect(self) -> Iterator[Metric]:
        yield from _of_steps(self.tally)
        yield from _of_queues_and_workers(self.gauges)
        yield from _of_messages(self.tally)
        yield from _of_redis(self.tally, self.gauges, self.books)
        if self.books is not None:
            yield from _as_rq_exporter(self.books)


def exposition(figures: Figures, accept: str) -> tuple[bytes, str]:
    """The text, and its content type; `accept` is what the asker can read."""
    registry = CollectorRegistry()
    registry.register(figures)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _of_steps(tally: Tally) -> Iterator[Metric]:
    yield _counter("swamp_steps", "Steps that ended.", ("target", "outcome"), tally.steps)
    yield _counter("swamp_runs", "Runs that ended.", ("outcome",), _single(tally.runs))
    about = "Seconds that steps ran, as measured where they ran."
    yield _histograms("swamp_step_duration_seconds", about, ("target", "outcome"), tally.durations)
    about = "Seconds from the dispatch of a step to its start on a worker."
    yield _histograms("swamp_step_schedule_to_start_seconds", about, ("target",), _single(tally.waits))
    about = "Seconds that a result lay in Redis before it was on disk; the longest of each batch."
    yield _histograms("swamp_result_flush_lag_seconds", about, (), {(): tally.flush_lag})
    duplicates = {(): tally.results_duplicate}
    yield _counter("swamp_results_duplicate", "Results that came again, or too late to count.", (), duplicates)


def _of_queues_and_workers(gauges: Gauges) -> Iterator[Metric]:
    depth = {(queue.target,): queue.depth for queue in gauges.queues}
    yield _gauge("swamp_queue_depth", "Dispatches that wait for a worker.", ("target",), depth)
    oldest = {(queue.target,): queue.oldest_age for queue in gauges.queues}
    about = "Seconds for which the dispatch that came first has waited."
    yield _gauge("swamp_queue_oldest_age_seconds", about, ("target",), oldest)
    up = {(worker.name, worker.target): int(worker.up) for worker in gauges.workers}
    yield _gauge("swamp_worker_up", "1 while the worker is connected and heard of.", ("worker", "target"), up)
    ages = {(w.name, w.target): w.heartbeat_age for w in gauges.workers}
    about = "Seconds since the worker was last heard of by this orchestrator."
    yield _gauge("swamp_worker_heartbeat_age_seconds", about, ("worker", "target"), ages)
    slots = _single(gauges.slots)
    yield _gauge("swamp_worker_slots", "Slots of the workers that are up.", ("state",), slots)


def _of_messages(tally: Tally) -> Iterator[Metric]:
    expired = {(): tally.leases_expired}
    yield _counter("swamp_leases_expired", "Times that a worker was taken for lost.", (), expired)
    about = "Attempts of machines to join."
    yield _counter("swamp_enrollments", about, ("outcome",), _single(tally.enrollments))
    about = "Messages of machines that were not believed or not in order."
    yield _counter("swamp_messages_refused", about, ("reason",), _single(tally.messages_refused))
    about = "Dispatches that machines would not run as they lay in Redis."
    yield _counter("swamp_dispatches_refused", about, ("reason",), _single(tally.dispatches_refused))


def _of_redis(tally: Tally, gauges: Gauges, books: Books | None) -> Iterator[Metric]:
    yield _gauge(
        "swamp_redis_up", "1 while the orchestrator has a connection to Redis.", (), {(): int(gauges.redis_up)}
    )
    again = {(): max(0, tally.redis_connections - 1)}
    yield _counter("swamp_redis_reconnects", "Connections to Redis after the first.", (), again)
    if books is not None and books.memory_ratio is not None:
        about = "Used memory of Redis divided by its limit."
        yield _gauge("swamp_redis_memory_ratio", about, (), {(): books.memory_ratio})


def _as_rq_exporter(books: Books) -> Iterator[Metric]:
    workers = books.workers
    states = {(worker.name, worker.state, worker.queues): 1 for worker in workers}
    yield _gauge("rq_workers", "RQ workers", ("name", "state", "queues"), states)
    of = ("name", "queues")
    succeeded = {(worker.name, worker.queues): worker.succeeded for worker in workers}
    yield _counter("rq_workers_success", "RQ workers success count", of, succeeded)
    failed = {(worker.name, worker.queues): worker.failed for worker in workers}
    yield _counter("rq_workers_failed", "RQ workers fail count", of, failed)
    worked = {(worker.name, worker.queues): worker.worked for worker in workers}
    yield _counter("rq_workers_working_time", "RQ workers spent seconds", of, worked)
    jobs = {(queue, status): count for queue, row in books.jobs.items() for status, count in row.items()}
    yield _gauge("rq_jobs", "RQ jobs by state", ("queue", "status"), jobs)


# ---------------------------------------------------------------------- families


def _gauge(name: str, about: str, labels: Iterable[str], values: Values) -> Metric:
    family = GaugeMetricFamily(name, about, labels=tuple(labels))
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, about: str, labels: Iterable[str], values: Values) -> Metric:
    family = CounterMetricFamily(name, about, labels=tuple(labels))
    for key, value in _now(values):
        family.add_metric(key, value)
    return family


def _histograms(name: str, about: str, labels: Iterable[str], values: Mapping[Any, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, about, labels=tuple(labels))
    for key, histogram in _now(values):
        total, buckets = 0, []
        for bound, count in zip((*map(str, SECONDS), "+Inf"), list(histogram.counts), strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(key, buckets, histogram.sum)
    return family


def _single(values: Mapping[str, V]) -> dict[tuple[str, ...], V]:
    return {(key,): value for key, value in _now(values)}


def _now(values: Mapping[K, V]) -> list[tuple[K, V]]:
    """What is there at one moment, while another thread goes on adding."""
    return list(values.items())
