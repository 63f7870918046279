"""What the orchestrator holds in memory about machines and about dispatches that have not ended.

Both can be made again from the database; the orchestrator's core thread is the only one that touches them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from swamp.orchestrator.leases import Lease
from swamp.wire.envelope import Box
from swamp.wire.messages import SessionMessage


class Session(Protocol):
    """A worker's live connection. Both may be called from any thread."""

    def send(self, message: SessionMessage) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Process:
    """The process at a worker's end of a session, as it says and as its connection shows."""

    host: str = ""
    address: str = ""
    pid: int = 0
    version: str = ""
    python: str = ""


@dataclass(slots=True)
class Member:
    """A machine that joined with a live token since this orchestrator started, or whose messages may still come."""

    machine: str
    worker: str
    target: str
    up: Box
    down: Box
    results: Box
    lease: Lease
    expires_at: datetime  #: when its token's time is over
    delivers_until: datetime  #: when it may not even deliver any more what it started before
    epoch: int = 0  #: of the last message applied
    number: int = 0  #: its number
    platform: str = ""
    slots: int = 0
    last_seen_at: str | None = None
    session: Session | None = None
    process: Process = Process()  #: of the newest session
    connected: bool = False  #: joined, heard of, not gone
    draining: bool = False  #: takes nothing more
    delivering: bool = False  #: its token's time is over, and its rights are narrowed
    delivered: bool = False  #: it has said that it runs nothing and has no result left
    shown: bool = False  #: registered in RQ's bookkeeping
    rejoin_asked: bool = False
    unknown_claims: set[str] = field(default_factory=set)  #: claimed, and not named by its last heartbeat
    running: set[str] = field(default_factory=set)  #: dispatches begun and not ended
    granted: set[str] = field(default_factory=set)  #: dispatches that it alone may begin, and has not begun

    @property
    def about(self) -> dict[str, str]:
        """What a log line about it carries."""
        return {"machine": self.machine, "worker": self.worker, "target": self.target}


@dataclass(slots=True)
class Live:
    """A dispatch that is queued or begun."""

    id: str
    run_id: str
    position: int
    attempt: int
    target: str
    losses: int = 0  #: how many dispatches of its step were lost before it
    begun: bool = False
    machine: str = ""  #: which began it
    granted: str = ""  #: the machine that alone may begin it
    granted_epoch: int = 0
    started_at: str = ""
    front: bool = False  #: goes before everything that waits
    pushed: bool = False  #: counted in its lane's `pushed`
    generation: int = 0  #: of the key of its target that it was last sealed with
    refusals: int = 0  #: how often a machine that had not seen it would not take what lay in Redis under its id
    recalled: bool = False  #: may lie, or have lain, in Redis more than once: a claim of it proves nothing


@dataclass(slots=True)
class Lane:
    """What waits for one target. Only a window of it lies in Redis."""

    waiting: deque[str] = field(default_factory=deque)  #: dispatch ids, not pushed yet
    pushed: int = 0  #: how many were pushed and have, as far as is known, not begun
    queued: dict[str, float] = field(default_factory=dict)  #: all that have not begun, in order: since when (monotonic)
