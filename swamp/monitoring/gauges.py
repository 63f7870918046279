"""What is the case in the orchestrator at one moment, as far as `/metrics` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class QueueGauge:
    target: str
    depth: int
    oldest_age: float  #: seconds; 0 where nothing waits


@dataclass(frozen=True)
class WorkerGauge:
    name: str
    target: str
    up: bool
    heartbeat_age: float  #: seconds


@dataclass(frozen=True)
class Gauges:
    queues: tuple[QueueGauge, ...]
    workers: tuple[WorkerGauge, ...]
    slots: Mapping[str, int]  #: `busy` and `free`
    redis_up: bool
