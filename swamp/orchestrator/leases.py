"""When a machine counts as lost, and what becomes of its steps then. Pure; time is an argument.

The times are seconds of the orchestrator's own monotonic clock. Silence only counts while Redis works: the caller
calls `heard` for every machine whenever Redis was away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

HEARTBEAT = 4.0  #: seconds between two signs of life of an idle worker
SILENCE = 13.0  #: seconds without one after which a machine is lost; below 15 with the time it takes to look


@dataclass(slots=True)
class Lease:
    """What is known of a machine's life."""

    heard_at: float
    lost_at: float | None = None  #: None while it lives


def heard(lease: Lease, now: float) -> bool:
    """A sign of life. True if the machine was lost before."""
    was_lost = lease.lost_at is not None
    lease.heard_at, lease.lost_at = now, None
    return was_lost


def newly_lost(leases: Iterable[tuple[str, Lease]], now: float) -> list[str]:
    """The machines that are lost from now on; marked so."""
    lost = []
    for machine, lease in leases:
        if lease.lost_at is None and now - lease.heard_at > SILENCE:
            lease.lost_at = now
            lost.append(machine)
    return lost


def given_up(lease: Lease, now: float, timeout: float) -> bool:
    """Whether a begun step of the machine that waits `timeout` seconds for its result has waited long enough."""
    return lease.lost_at is not None and now - lease.lost_at >= timeout
