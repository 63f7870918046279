"""The points between any two actions on the way of a step, each as the name of a function of the real code.

Nothing in Swamp knows of them: `tests.chaos.armed` wraps these functions in the processes under test. A name that is
gone fails there at the start, so a point cannot go missing without somebody noticing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from swamp.broker.client import RedisTrouble

Role = Literal["serve", "worker"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the function: `result` is None before it."""

    arguments: Sequence[Any]
    result: Any = None


@dataclass(frozen=True, slots=True)
class Point:
    name: str  #: begins with the number of the last step of DESIGN's "way of a step" that was done
    role: Role
    when: Literal["before", "after"]
    where: str  #: `module:function` or `module:Class.method`
    counts: Callable[[Call], object] = lambda _: True  #: whether this call is one that is meant


def _named(items: object, *kinds: str) -> bool:
    """Whether one of the second halves of these pairs is of a class of this name."""
    return isinstance(items, list) and any(type(item).__name__ in kinds for _, item in items)


#: Passed by a worker that is asked to stop.
STOPPING = "4 line given back, the rest not"


def _sent(transport: Any) -> bool:
    """Let what was posted go out now, so that a point that speaks of it tells the truth."""
    try:
        transport.flush()
    except RedisTrouble:
        return False  # it finds out itself, at its next use
    return True


_CORE = "swamp.orchestrator.core:Core"
_INCOMING = "swamp.orchestrator.incoming:Incoming"
_OUTGOING = "swamp.orchestrator.outgoing:Outgoing"
_TRANSPORT = "swamp.orchestrator.transport:Transport"
_WORKER = "workers.worker:Worker"
_RESULTS = "workers.results:Results"
_MEMBERSHIP = "workers.membership:Membership"

POINTS = (
    # ------------------------------------------------------------------ the orchestrator
    Point("0 run written, not committed", "serve", "after", "swamp.data.journal:add_run"),
    Point(
        "0 run committed, id not told", "serve", "before", "swamp.orchestrator.core:resolve",
        lambda call: call.arguments[0],
    ),
    Point("1 dispatches written, not committed", "serve", "after", "swamp.data.journal:add_dispatches"),
    Point(
        "1 dispatches committed, not pushed", "serve", "before", f"{_CORE}._follow",
        lambda call: call.arguments[0].ledger.added,
    ),
    Point("2 posted to be pushed, not sent", "serve", "after", f"{_TRANSPORT}.push"),
    Point("2 pushed, the rest not", "serve", "after", f"{_TRANSPORT}.push", lambda call: _sent(call.arguments[0])),
    Point("4 grant written, not committed", "serve", "after", "swamp.data.journal:grant_dispatches"),
    Point(
        "4 grant committed, not sent", "serve", "before", f"{_OUTGOING}._say",
        lambda call: _named(call.arguments[1], "Grant"),
    ),
    Point(
        "4 grant sent", "serve", "after", f"{_OUTGOING}._say",
        lambda call: _named(call.arguments[1], "Grant") and _sent(call.arguments[0]._transport),
    ),
    Point(
        "6 collected, nothing applied", "serve", "after", f"{_INCOMING}.collect",
        lambda call: any(found.messages for found in call.result),
    ),
    Point("7 applied, not stored", "serve", "after", "swamp.orchestrator.intake:Intake.apply"),
    Point(
        "7 stored, not committed", "serve", "after", f"{_CORE}._save", lambda call: call.arguments[0].ledger.over
    ),
    Point(
        "8 committed, not freed", "serve", "before", f"{_TRANSPORT}.free",
        lambda call: any(results for _, _, results in call.arguments[1]),
    ),
    Point(
        "9 freed, not acknowledged", "serve", "after", f"{_TRANSPORT}.free",
        lambda call: any(results for _, _, results in call.arguments[1]) and _sent(call.arguments[0]),
    ),
    Point(
        "9 acknowledged, books not kept", "serve", "after", f"{_OUTGOING}._say",
        lambda call: _named(call.arguments[1], "Acknowledge") and _sent(call.arguments[0]._transport),
    ),
    Point(
        "9 acknowledgement posted, not sent", "serve", "after", f"{_OUTGOING}._send",
        lambda call: call.arguments[0]._transport.holds,
    ),
    Point("9 about to keep books", "serve", "before", f"{_TRANSPORT}.mirror"),
    Point("9 books kept", "serve", "after", f"{_TRANSPORT}.mirror", lambda call: _sent(call.arguments[0])),
    Point("x claims taken back, not journaled", "serve", "after", f"{_TRANSPORT}.take_back", lambda call: call.result),
    Point("x connected, queues not cleared", "serve", "after", f"{_TRANSPORT}.connect"),
    Point("x queues cleared, incarnation not raised", "serve", "after", f"{_TRANSPORT}.clear_queues"),
    Point("x incarnation raised, streams not drained", "serve", "after", f"{_INCOMING}._raise_incarnation"),
    Point("x machine bound, not welcomed", "serve", "after", "swamp.orchestrator.membership:Membership.joined"),
    # ------------------------------------------------------------------ the worker
    Point("2 claimed while waiting, not opened", "worker", "before", f"{_WORKER}._take",
          lambda call: type(call.arguments[1]).__name__ == "Claimed"),
    Point("3 claimed, not opened", "worker", "before", f"{_WORKER}._open", lambda call: call.arguments[1]),
    Point("3 noted as seen, not begun", "worker", "after", "workers.seen:SeenList.add", lambda call: call.result),
    Point(
        "3 grant received, not begun", "worker", "before", f"{_WORKER}._said",
        lambda call: type(call.arguments[1].down.body).__name__ == "Grant",
    ),
    Point("3 about to begin", "worker", "before", "workers.link:Link.exchange", lambda call: call.arguments[1].begin),
    Point(
        "4 begun on the server, answer not read", "worker", "after", "swamp.broker.functions:exchange",
        lambda call: call.arguments[3].begin,
    ),
    Point("4 begun, not noted", "worker", "before", "workers.seen:SeenList.begin", lambda call: call.arguments[1]),
    Point("4 noted as begun", "worker", "after", "workers.seen:SeenList.begin", lambda call: call.arguments[1]),
    Point("4 begun, in line for a slot", "worker", "before", "workers.slots:Slots.start"),
    Point("4 begun, no process yet", "worker", "before", "swamp.models.kept:Kept.spawn"),
    Point(STOPPING, "worker", "after", "workers.slots:Slots.give_back"),
    Point("4 process started", "worker", "after", "swamp.models.kept:Kept.spawn"),
    Point(
        "4 ended, result in memory only", "worker", "before", f"{_RESULTS}.store",
        lambda call: call.arguments[0].ended,
    ),
    Point("4 answered at once, not stored", "worker", "after", "workers.slots:Slots.answer"),
    Point(
        "4 big content kept, result not", "worker", "after", "workers.contents:Contents.put",
        lambda call: call.arguments[1],
    ),
    Point(
        "5 result in the outbox, not sent", "worker", "after", "workers.outbox:Outbox.put_many",
        lambda call: call.arguments[1],
    ),
    Point("5 big content delivered, result not sent", "worker", "after", "workers.session:Session.store"),
    Point(
        "6 result sent, answer not read", "worker", "after", "swamp.broker.functions:exchange",
        lambda call: call.arguments[3].finish,
    ),
    Point("9 acknowledgement heard, still in the outbox", "worker", "before", "workers.outbox:Outbox.remove"),
    Point("9 out of the outbox", "worker", "after", "workers.outbox:Outbox.remove"),
    Point("x joined, nothing said", "worker", "before", f"{_MEMBERSHIP}.begin"),
    Point("x everything sent again, no inventory", "worker", "after", f"{_MEMBERSHIP}._send_again"),
)  # fmt: skip


def of(role: Role) -> list[Point]:
    return [point for point in POINTS if point.role == role]
