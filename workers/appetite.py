"""How much work to take, and how much of it to begin. Pure.

Claimed work that has not begun waits here while another machine of the target may be idle, so only short work is taken
ahead: then one round trip brings results, begins what is there and fetches what comes next, and one sync of the disk
serves many steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from swamp.models.invoke import INSTANT
from swamp.wire.messages import Dispatch

SHORT_MS = 20.0  #: steps that lately took less are taken ahead, as many again as there are slots
INSTANT_MS = 1.0  #: below this they come in batches
BATCH = 64  #: instant steps begun together; they run one after the other


def moved(average: float, milliseconds: float) -> float:
    """The moving average of how long steps take; a long step moves it at once. `inf` stands for no step yet."""
    return milliseconds if average == float("inf") else max(milliseconds, average + (milliseconds - average) / 8)


def to_claim(slots: int, running: int, waiting: int, recent_ms: float) -> int:
    """How many dispatches more to take, when `waiting` are here that have not begun."""
    ahead = 0
    if recent_ms < INSTANT_MS:
        ahead = max(slots, 2 * BATCH)
    elif recent_ms < SHORT_MS:
        ahead = slots
    return max(0, slots + ahead - running - waiting)


def to_begin(waiting: Sequence[Dispatch], slots: int, running: int) -> tuple[list[Dispatch], list[Dispatch]]:
    """What of the work that waits to begin now, in order, and what goes on waiting."""
    begin: list[Dispatch] = []
    free, instant = slots - running, BATCH
    for dispatch in waiting:
        if is_instant(dispatch):
            instant -= 1
        else:
            free -= 1
        if free < 0 or instant < 0:
            break
        begin.append(dispatch)
    return begin, list(waiting[len(begin) :])


def is_instant(dispatch: Dispatch) -> bool:
    """Whether the step answers at once, in the loop."""
    return (dispatch.invocation.model_type, dispatch.invocation.method) in INSTANT
