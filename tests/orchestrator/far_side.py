"""The far side of the orchestrator's core as objects that a test can edit: a Redis that forgets, doubles and shuffles,
and workers that keep to the protocol. Seals and messages are the real ones."""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import dataclass, field

from swamp.broker.functions import Collected, Message
from swamp.data.record import Output
from swamp.models.invocation import Outcome
from swamp.wire.envelope import Box
from swamp.wire.messages import (
    UP,
    Acknowledge,
    Cancel,
    Declined,
    DownBody,
    Dropped,
    Finished,
    Grant,
    Heartbeat,
    Inventory,
    OutputLines,
    Started,
    Up,
    UpBody,
    Wants,
    pack_result,
    pack_up,
    result_place,
)

BOOT = "5f0c"  #: of the one orchestrator
NOON = "2026-06-15T12:00:00.000Z"


@dataclass(frozen=True)
class Entry:
    """One of a stream."""

    id: str
    sealed: bytes
    dispatch: str = ""  #: whose result lies beside it


@dataclass
class Redis:
    """What the keys of one target and its machines hold."""

    queue: deque[str] = field(default_factory=deque)
    with_grant: set[str] = field(default_factory=set)  # of all that was ever queued: what nobody begins without one
    claimed: dict[str, list[str]] = field(default_factory=dict)
    up: dict[str, list[Entry]] = field(default_factory=dict)
    results: dict[str, dict[str, bytes]] = field(default_factory=dict)
    entries: int = 0

    def add(self, machine: str, sealed: bytes, dispatch: str = "") -> None:
        self.entries += 1
        self.up.setdefault(machine, []).append(Entry(f"{self.entries}-0", sealed, dispatch))

    def collect(self, machine: str, count: int) -> Collected:
        results = self.results.get(machine, {})
        messages = [
            Message(entry.id, entry.sealed, entry.dispatch, results.get(entry.dispatch, b""))
            for entry in self.up.get(machine, [])[:count]
        ]
        return Collected(machine, list(self.claimed.get(machine, [])), messages)

    def free(self, machine: str, count: int, results: list[str]) -> None:
        del self.up.get(machine, [])[:count]
        for dispatch in results:
            self.results.get(machine, {}).pop(dispatch, None)

    def take_back(self, machine: str) -> list[str]:
        return self.claimed.pop(machine, [])

    def remove_claim(self, machine: str, dispatch: str) -> bool:
        claims = self.claimed.get(machine, [])
        if dispatch not in claims:
            return False
        claims.remove(dispatch)
        return True

    def withdraw(self, dispatch: str) -> None:
        if dispatch in self.queue:
            self.queue.remove(dispatch)
        else:
            for machine in self.claimed:
                self.remove_claim(machine, dispatch)

    def is_emptied(self) -> None:
        self.queue.clear()
        self.claimed.clear()
        self.up.clear()
        self.results.clear()


@dataclass(frozen=True)
class Said:
    """A message that the worker has no answer to yet."""

    number: int
    sealed: bytes
    dispatch: str = ""
    result: bytes = b""


class Worker:
    """A machine and the process on it. `started` and `outcomes` outlive the process: what really happened."""

    def __init__(self, machine: str, redis: Redis) -> None:
        self.machine = machine
        self.up = Box(os.urandom(32))
        self.results = Box(os.urandom(32))
        self.said: dict[bytes, Up] = {}  # everything ever sealed by it, and what it means
        self.started: list[str] = []
        self.outcomes: dict[str, str] = {}
        self._redis = redis
        # On its disk:
        self.epoch = 0
        self.seen: set[str] = set()
        self.noted: set[str] = set()  # of those: what may have been started
        self.outbox: dict[str, bytes] = {}
        # In its memory:
        self.restart()

    def restart(self) -> None:
        """The process was killed; a new one has started and not joined yet."""
        self.epoch += 1
        self.number = 0
        self.beat = 0
        self.unacknowledged: list[Said] = []
        self.running: set[str] = set()
        self.opened: list[str] = []
        self.asking: list[str] = []
        self.confirmed_at: int | None = None
        self._fresh = True

    # ------------------------------------------------------------------ saying

    def _seal(self, number: int, body: UpBody) -> bytes:
        sealed = self.up.seal(pack_up(self.epoch, number, body), UP)
        self.said[sealed] = Up(self.epoch, number, body)
        return sealed

    def _keep(self, body: UpBody, dispatch: str = "", number: int | None = None) -> Said:
        if number is None:
            self.number += 1
            number = self.number
        result = self.results.seal(self.outbox[dispatch], result_place(dispatch)) if dispatch else b""
        said = Said(number, self._seal(number, body), dispatch, result)
        self.unacknowledged = sorted(
            [*(other for other in self.unacknowledged if other.number != number), said], key=lambda one: one.number
        )
        return said

    def _send(self, said: Said) -> None:
        if said.dispatch:
            self._redis.results.setdefault(self.machine, {})[said.dispatch] = said.result
        self._redis.add(self.machine, said.sealed, said.dispatch)

    def say(self, body: UpBody, dispatch: str = "") -> None:
        self._send(self._keep(body, dispatch))

    def heartbeat(self) -> None:
        holding = (*self.opened, *self.asking)
        self.beat += 1
        self._redis.add(
            self.machine, self._seal(self.beat, Heartbeat(BOOT, len(self.running), 4, holding, self.number))
        )

    # ------------------------------------------------------------------ working

    @property
    def may_work(self) -> bool:
        """Joined, and its inventory acknowledged."""
        return self.confirmed_at == 0

    def claim(self) -> None:
        if not self._redis.queue:
            return
        dispatch = self._redis.queue.popleft()
        self._redis.claimed.setdefault(self.machine, []).append(dispatch)
        if dispatch in {*self.running, *self.outbox, *self.opened, *self.asking}:
            self._redis.remove_claim(self.machine, dispatch)  # it was queued once more while we have it
            return
        if dispatch in self.seen:
            self.say(Declined(dispatch, "seen" if dispatch in self.noted else "unstarted"))
            return
        self.seen.add(dispatch)
        if dispatch in self._redis.with_grant:
            self.asking.append(dispatch)
            self.say(Wants(dispatch))
        else:
            self.opened.append(dispatch)

    def begin(self, *, answered: bool = True) -> str:
        """Begin what was claimed first; its dispatch, if it was started. Without the server's answer it is not, and the
        link is dropped."""
        dispatch = self.opened.pop(0)
        started = self._keep(Started(dispatch, NOON))
        ours = self._redis.remove_claim(self.machine, dispatch)
        if ours:
            self._redis.add(self.machine, started.sealed)
        if ours and answered:
            self.noted.add(dispatch)
            self.running.add(dispatch)
            self.started.append(dispatch)
            return dispatch
        dropped = self._keep(Dropped(dispatch), number=started.number)
        if answered:
            self._send(dropped)
        if not answered:
            self.confirmed_at = None
        return ""

    def print(self, dispatch: str) -> None:
        self.say(OutputLines(dispatch, "stdout", f"line {self.number} of {dispatch}"))

    def finish(self, dispatch: str, status: str) -> None:
        self.running.remove(dispatch)
        self.outcomes[dispatch] = status
        content = json.dumps({"of": dispatch, "by": self.machine}).encode()
        output = Output("result", "result", "resource", "application/json", content)
        self.outbox[dispatch] = pack_result(Outcome(status, None, (output,), NOON, NOON, 5))
        if self.confirmed_at is not None:
            self.say(Finished(dispatch), dispatch)
        else:
            self._keep(Finished(dispatch), dispatch)

    # ------------------------------------------------------------------ hearing

    def join(self, applied: int) -> None:
        """The orchestrator welcomes it, has taken its claims back, and `applied` is how far it heard this start."""
        self._acknowledged(applied)
        for said in self.unacknowledged:
            self._send(said)
        self.opened.clear()
        self.asking.clear()
        self.say(
            Inventory(False, tuple(sorted(self.running)), tuple(self.outbox), tuple(sorted(self.seen - self.noted)))
        )
        self.confirmed_at = self.number
        if self._fresh:
            self._fresh = False
            for dispatch in self.outbox:
                self.say(Finished(dispatch), dispatch)

    def hear(self, body: DownBody) -> None:
        match body:
            case Acknowledge() if body.epoch == self.epoch:
                self._acknowledged(body.number)
            case Grant() if body.dispatch in self.asking and body.epoch == self.epoch:
                self.asking.remove(body.dispatch)
                self.opened.append(body.dispatch)
            case Cancel() if body.dispatch in self.asking:
                self.asking.remove(body.dispatch)
                self._redis.remove_claim(self.machine, body.dispatch)
            case Cancel() if body.dispatch in self.running:
                self.finish(body.dispatch, "canceled")

    def _acknowledged(self, number: int) -> None:
        for said in self.unacknowledged:
            if said.number <= number and said.dispatch:
                self.outbox.pop(said.dispatch, None)
        self.unacknowledged = [said for said in self.unacknowledged if said.number > number]
        if self.confirmed_at and number >= self.confirmed_at:
            self.confirmed_at = 0
