"""Fills RQ's queue and collects its results."""

from __future__ import annotations

import os
import time

from redis import Redis
from rq import Queue
from rq.job import Job

from bench.peer_programs import work
from bench.peer_programs.driving import main

connection = Redis.from_url(os.environ["BENCH_REDIS_URL"])
queue = Queue("bench", connection=connection)


def fill(kind: str, batch: str, count: int) -> None:
    function = getattr(work, kind)
    for first in range(0, count, 1000):
        queue.enqueue_many([Queue.prepare_data(function, (batch,)) for _ in range(min(1000, count - first))])


def stored() -> int:
    return int(queue.finished_job_registry.count)


def results() -> list[object]:
    ids = queue.finished_job_registry.get_job_ids()
    return [job.return_value() for job in Job.fetch_many(ids, connection) if job is not None]


def one() -> float:
    begin = time.perf_counter()
    job = queue.enqueue(work.noop, "one")
    result = job.latest_result(timeout=10)
    seconds = time.perf_counter() - begin
    if result is None or dict(result.return_value or {}).get("message") != "one":
        raise SystemExit("a result is missing")
    return seconds


main(fill, stored, results, one)
