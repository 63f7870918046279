"""What is counted while the orchestrator works, in plain numbers: a step costs it a few additions.

Each number is written by one thread and read by others with no lock: any one of them is whole, and two that belong
together may be a step apart.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the buckets; above the last is one more."""

MOST_TARGETS = 500  #: that have figures of their own; what is counted for more goes under `OTHERS`
OTHERS = "(others)"

# What can be counted of each, so that it is there with 0 before the first: Prometheus takes a counter that appears with
# 1 for one that has not grown, and nobody would be woken by the first time.
RUNS = ("succeeded", "failed", "canceled")
MESSAGES_REFUSED = ("seal", "form", "order")
DISPATCHES_REFUSED = ("seen", "unstarted", "gone", "unreadable", "unsigned", "foreign", "expired", "other")
ENROLLMENTS = ("new", "again", "unknown_token", "revoked", "expired", "superseded", "already_bound")


class Histogram:
    """Counts durations, in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True)
class Tally:
    steps: Counter[tuple[str, str]] = field(default_factory=Counter)  #: by target and outcome
    durations: dict[tuple[str, str], Histogram] = field(default_factory=dict)  #: by target and outcome
    waits: dict[str, Histogram] = field(default_factory=dict)  #: from dispatch to start, by target
    runs: Counter[str] = field(default_factory=lambda: _none_of(RUNS))  #: by outcome
    flush_lag: Histogram = field(default_factory=Histogram)  #: from result to disk; of a batch, the longest
    leases_expired: int = 0
    results_duplicate: int = 0
    redis_connections: int = 0
    messages_refused: Counter[str] = field(default_factory=lambda: _none_of(MESSAGES_REFUSED))  #: by reason
    #: by the reason that a machine gave
    dispatches_refused: Counter[str] = field(default_factory=lambda: _none_of(DISPATCHES_REFUSED))
    #: by outcome; written by the event loop's thread
    enrollments: Counter[str] = field(default_factory=lambda: _none_of(ENROLLMENTS))
    _targets: set[str] = field(default_factory=set)

    def step_ended(self, target: str, outcome: str, duration_ms: int | None) -> None:
        """`target` is empty for a step beside the orchestrator; `duration_ms` None for one that never ran."""
        key = (self._label(target), outcome)
        self.steps[key] += 1
        if duration_ms is not None:
            found = self.durations.get(key)
            if found is None:
                found = self.durations[key] = Histogram()
            found.add(duration_ms / 1000)

    def step_started(self, target: str, waited: float) -> None:
        """`waited` seconds after it was dispatched."""
        target = self._label(target)
        found = self.waits.get(target)
        if found is None:
            found = self.waits[target] = Histogram()
        found.add(waited)

    def _label(self, target: str) -> str:
        if target not in self._targets:
            if len(self._targets) >= MOST_TARGETS:
                return OTHERS
            self._targets.add(target)
        return target


def _none_of(keys: tuple[str, ...]) -> Counter[str]:
    return Counter(dict.fromkeys(keys, 0))
