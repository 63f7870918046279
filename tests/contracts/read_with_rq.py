"""Reads with RQ's own classes what lies in the Redis at the URL given, and prints it as JSON.

Runs in an environment that knows RQ and nothing of Swamp, with every version that we support.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from redis import Redis
from rq import Queue, Worker
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job
from rq.registry import BaseRegistry
from rq.results import Result
from rq.worker import BaseWorker
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

connection = Redis.from_url(sys.argv[1])


def registries(queue: Queue) -> dict[str, BaseRegistry]:
    return {
        "started": queue.started_job_registry,
        "finished": queue.finished_job_registry,
        "failed": queue.failed_job_registry,
        "canceled": queue.canceled_job_registry,
        "deferred": queue.deferred_job_registry,
        "scheduled": queue.scheduled_job_registry,
    }


def describe_queue(queue: Queue) -> dict[str, object]:
    return {
        "key": queue.key,
        "workersKey": WORKERS_BY_QUEUE_KEY % queue.name,
        "registryKeys": {name: registry.key for name, registry in registries(queue).items()},
        "queued": queue.get_job_ids(),
        **{name: registry.get_job_ids(cleanup=False) for name, registry in registries(queue).items()},
        "counts": [queue.count, *(registry.count for registry in registries(queue).values())],
        "workers": Worker.count(queue=queue),
    }


def describe_job(job: Job) -> dict[str, object]:
    result = job.latest_result()
    return {
        "key": job.key,
        "resultsKey": Result.get_key(job.id),
        "executionsKey": ExecutionRegistry(job.id, connection).key,
        "status": str(job.get_status().value),
        "origin": job.origin,
        "description": job.description,
        "call": job.get_call_string(),
        "worker": job.worker_name,
        "timeout": job.timeout,
        "times": [
            None if time is None else time.isoformat()
            for time in (job.created_at, job.enqueued_at, job.started_at, job.ended_at)
        ],
        "result": None if result is None else result.type.name,
        "resultWorker": None if result is None else result.worker_name,
        "failure": None if result is None else result.exc_string,
        "returned": job.return_value(),
        "meta": job.get_meta(),
    }


def describe_worker(worker: BaseWorker) -> dict[str, object]:
    current = worker.get_current_job()
    return {
        "key": worker.key,
        "state": str(worker.get_state()),
        "queues": worker.queue_names(),
        "current": None if current is None else current.id,
        "pid": worker.pid,
        "address": worker.ip_address,
        "version": worker.version,
        "python": worker.python_version,
        "succeeded": worker.successful_job_count,
        "failed": worker.failed_job_count,
        "worked": worker.total_working_time,
        "born": worker.birth_date is not None and worker.last_heartbeat is not None,
    }


def describe_execution(composite: Any) -> dict[str, object]:
    job, _, execution = composite.decode().partition(":")
    found = Execution.fetch(execution, job, connection)
    return {"key": found.key, "job": found.job_id, "worker": found.worker_name, "created": found.created_at.isoformat()}


queues = {queue.name: queue for queue in Queue.all(connection=connection)}
known = {
    job
    for queue in queues.values()
    for ids in (queue.get_job_ids(), *(registry.get_job_ids(cleanup=False) for registry in registries(queue).values()))
    for job in ids
}
json.dump(
    {
        "queuesKey": Queue.redis_queues_keys,
        "workersKey": REDIS_WORKER_KEYS,
        "queues": {name: describe_queue(queue) for name, queue in queues.items()},
        "jobs": {job: describe_job(Job.fetch(job, connection=connection)) for job in known},
        "workers": {worker.name: describe_worker(worker) for worker in Worker.all(connection=connection)},
        "executions": [
            describe_execution(member)
            for queue in queues.values()
            for member in connection.zrange(queue.started_job_registry.key, 0, -1)
        ],
    },
    sys.stdout,
)
