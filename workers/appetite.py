"""How much work to take, and how much of it to begin. Pure.

What is claimed or begun waits here while another machine of the target may be idle, so only short work is taken ahead:
about as much as is done between two round trips. Then one round trip brings results, begins what is there and fetches
what comes next, one sync of the disk serves many steps, and the slots have something to do meanwhile. What turns out to
wait behind a long step is given back (`STALLED`).
"""

from __future__ import annotations

from collections.abc import Sequence

from swamp.models.invoke import INSTANT
from swamp.wire.messages import Dispatch

SHORT_MS = 20.0  #: steps that lately took less are taken and begun ahead
INSTANT_MS = 1.0  #: below this nothing is gained by counting: there is no shorter time than this
BATCH = 64  #: steps begun together; instant ones run one after the other
PERIOD = 0.06  #: seconds from one round trip to the next, while the slots have enough short work
STALLED = 0.25  #: seconds that begun work may wait for a slot; then it goes back


def moved(average: float, milliseconds: float) -> float:
    """The moving average of how long steps take; a long step moves it at once. `inf` stands for no step yet."""
    return milliseconds if average == float("inf") else max(milliseconds, average + (milliseconds - average) / 8)


def ahead(slots: int, recent_ms: float) -> int:
    """How many steps to begin beyond those that have a slot: what the slots do in two periods."""
    if recent_ms >= SHORT_MS:
        return 0
    return min(BATCH, max(slots, round(slots * 2000 * PERIOD / max(recent_ms, INSTANT_MS))))


def to_claim(slots: int, running: int, waiting: int, recent_ms: float) -> int:
    """How many dispatches more to take, when `running` are begun and `waiting` are here that are not."""
    more = ahead(slots, recent_ms)
    if recent_ms < INSTANT_MS:
        more = max(more, 2 * BATCH)
    return max(0, slots + more + more // 2 - running - waiting)


def to_begin(
    waiting: Sequence[Dispatch], slots: int, running: int, recent_ms: float
) -> tuple[list[Dispatch], list[Dispatch]]:
    """What of the work that waits to begin now, in order, and what goes on waiting."""
    begin: list[Dispatch] = []
    free, instant = slots + ahead(slots, recent_ms) - running, BATCH
    for dispatch in waiting:
        if is_instant(dispatch):
            instant -= 1
        else:
            free -= 1
        if free < 0 or instant < 0:
            break
        begin.append(dispatch)
    return begin, list(waiting[len(begin) :])


def may_gather(slots: int, unstarted: int, recent_ms: float) -> bool:
    """Whether the slots have enough to do until the next round trip is due, so that more may be gathered for it."""
    return unstarted * 4 > ahead(slots, recent_ms)


def is_instant(dispatch: Dispatch) -> bool:
    """Whether the step answers at once, in the loop."""
    return (dispatch.invocation.model_type, dispatch.invocation.method) in INSTANT
