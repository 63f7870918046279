"""RQ's books, as its own tools read them: what rq-exporter shows, from the same keys, in two round trips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from swamp.broker import keyspace
from swamp.broker.client import Client, Word
from swamp.broker.connection import facts_of

STATUSES = ("queued", "started", "finished", "failed", "deferred", "scheduled")


@dataclass(frozen=True)
class BookedWorker:
    name: str
    state: str
    queues: str  #: joined by commas
    succeeded: int
    failed: int
    worked: float  #: seconds


@dataclass(frozen=True)
class Books:
    jobs: Mapping[str, Mapping[str, int]]  #: by queue and status
    workers: tuple[BookedWorker, ...]
    memory_ratio: float | None  #: used to allowed memory of the server; None where there is no limit


def read_books(client: Client) -> Books:
    """As many commands as there are queues and workers, however many jobs there are. Raises `RedisTrouble`."""
    everything = [("SMEMBERS", keyspace.QUEUES), ("SMEMBERS", keyspace.WORKERS), ("INFO", "memory")]
    found = client.execute_together([*everything])
    names = sorted(key.decode().removeprefix(keyspace.queue("")) for key in found[0])
    workers = sorted(key.decode().removeprefix(keyspace.worker("")) for key in found[1])
    commands: list[tuple[Word, ...]] = []
    for name in names:
        commands.append(("LLEN", keyspace.queue(name)))
        commands += [("ZCARD", keyspace.registry(_KIND.get(status, status), name)) for status in STATUSES[1:]]
    commands += [("HMGET", keyspace.worker(name), *_FIELDS) for name in workers]
    answers = client.execute_together(commands)
    each = len(STATUSES)
    counts = [answers[i : i + each] for i in range(0, each * len(names), each)]
    booked = [
        _worker(name, fields)
        for name, fields in zip(workers, answers[each * len(names) :], strict=True)
        if fields[0] is not None  # its hash went meanwhile
    ]
    jobs = {name: dict(zip(STATUSES, row, strict=True)) for name, row in zip(names, counts, strict=True)}
    return Books(jobs, tuple(booked), _ratio(facts_of(found[2])))


_KIND = {"started": "wip"}
_FIELDS = ("state", "queues", "successful_job_count", "failed_job_count", "total_working_time")


def _worker(name: str, fields: list[bytes | None]) -> BookedWorker:
    state, queues, succeeded, failed, worked = ((field or b"").decode() for field in fields)
    return BookedWorker(name, state, queues, int(succeeded or 0), int(failed or 0), float(worked or 0))


def _ratio(memory: Mapping[str, str]) -> float | None:
    limit = int(memory.get("maxmemory", 0))
    return int(memory.get("used_memory", 0)) / limit if limit else None
