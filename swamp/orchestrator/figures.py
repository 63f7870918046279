"""What `/metrics` shows, gathered without asking the core's thread: a scrape must not wait for work, nor slow it."""

from __future__ import annotations

import time
from contextlib import closing

from swamp.broker.client import RedisTrouble
from swamp.monitoring.books import Books, read_books
from swamp.monitoring.gauges import Gauges, QueueGauge, WorkerGauge
from swamp.orchestrator.core import Core
from swamp.orchestrator.members import Lane


def exposition(core: Core, accept: str) -> tuple[bytes, str]:
    """The text and its content type. Takes a round trip or two to Redis, on a connection of its own."""
    from swamp.monitoring import metrics  # 30 ms, and only those who ask need it

    return metrics.exposition(metrics.Figures(core.tally, gauges(core, time.monotonic()), _books(core)), accept)


def _books(core: Core) -> Books | None:
    if not core.transport.up:
        return None
    try:
        with closing(core.transport.address.open()) as client:
            return read_books(client)
    except RedisTrouble:
        return None


def gauges(core: Core, now: float) -> Gauges:
    """`now` is monotonic, in seconds. Copies what the core's thread may change meanwhile."""
    members = list(core.members.values())
    # A target that has machines and has had no work yet has a queue too, an empty one.
    queues: dict[str, Lane | None] = {**dict.fromkeys(member.target for member in members), **core.ledger.lanes}
    up = [member for member in members if member.connected]
    busy = sum(min(len(member.running), member.slots) for member in up)
    return Gauges(
        queues=tuple(
            QueueGauge(target, len(lane.queued), _oldest(lane, now)) if lane else QueueGauge(target, 0, 0.0)
            for target, lane in sorted(queues.items())
        ),
        workers=tuple(
            WorkerGauge(member.worker, member.target, member.connected, max(0.0, now - member.lease.heard_at))
            for member in members
        ),
        slots={"busy": busy, "free": sum(member.slots for member in up) - busy},
        redis_up=core.transport.up,
    )


def _oldest(lane: Lane, now: float) -> float:
    while True:
        try:
            return max(0.0, now - next(iter(lane.queued.values())))
        except StopIteration:
            return 0.0
        except RuntimeError:  # the core's thread changed it just now
            continue
