"""What was pressed in a tool of RQ's, with the full account: read back from its books, and honoured or repaired.

Nothing here is trusted further than the person who holds that account may go anyway: to end a step, or to have a step
that waits dispatched anew. What runs, what has ended and what a step is given cannot be changed from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from swamp.broker.functions import Seen
from swamp.broker.keyspace import queue as queue_key
from swamp.names import run_of
from swamp.orchestrator.ledger import Ledger
from swamp.orchestrator.members import Live
from swamp.orchestrator.mirror import packed_text
from swamp.orchestrator.transport import Transport

log = logging.getLogger("swamp.orchestrator")

LOOK = 3.0  #: seconds between two looks
CANCELED = "it was canceled in a tool of RQ's"


@dataclass(slots=True)
class Buttons:
    """Used by the core thread only. What it leaves behind in the ledger is stored by the next cycle."""

    ledger: Ledger
    transport: Transport
    cancel_on_machine: Callable[[Live, str], None]
    show: Callable[[Live], None]
    """Write the job of something that runs, for tools to see."""
    unshown: Container[str]
    """Dispatches that run and were not shown to the tools yet."""
    _missed: set[str] = field(default_factory=set)  # neither queued nor claimed, at the last look

    def look(self, served: Callable[[], set[str]]) -> bool:
        """Read back what was pressed since the last look; whether anything is to be stored. `served` tells the targets
        of all live tokens. Raises `RedisTrouble`."""
        running: dict[str, list[Live]] = {target: [] for target in self.ledger.lanes}
        waiting: dict[str, list[Live]] = {target: [] for target in self.ledger.lanes}
        for target, lane in self.ledger.lanes.items():
            waiting[target] = [live for dispatch in lane.queued if (live := self.ledger.live[dispatch]).pushed]
        machines: dict[str, list[str]] = {target: [] for target in self.ledger.lanes}
        for member in self.ledger.members.values():
            machines.setdefault(member.target, []).append(member.machine)
            for dispatch in member.running:
                if dispatch not in self.unshown:
                    running.setdefault(member.target, []).append(self.ledger.live[dispatch])
        asked = [
            (target, machines[target], [(live.id, f"a{live.attempt}") for live in running.get(target, ())])
            for target in machines
        ]
        queues, found = self.transport.look(asked)
        changed, missed = False, set[str]()
        for seen in found:
            for live, state in zip(running.get(seen.target, ()), seen.states, strict=True):
                self._look_at_running(live, state)
            changed |= self._look_at_strays(seen)
            changed |= self._look_at_missing(seen, waiting.get(seen.target, ()), missed)
        self._missed = missed
        self._forget_targets(queues, served)
        return changed

    def _look_at_running(self, live: Live, state: str) -> None:
        about = self.ledger.about(live)
        if state == "canceled":
            log.warning("step %s is canceled: %s", self.ledger.step_name(live), CANCELED, extra=about)
            self.cancel_on_machine(live, CANCELED)
        elif state == "":
            log.warning("the job of %s was deleted while it runs; it is shown again", live.id, extra=about)
            self.show(live)
        elif state == "unlisted":
            log.warning("%s was taken off the list of what runs; it is listed again", live.id, extra=about)
            self.show(live)

    def _look_at_missing(self, seen: Seen, waiting: Iterable[Live], missed: set[str]) -> bool:
        """What was pushed, has not begun, and lies nowhere. At one look it may just be beginning."""
        there = {*seen.queued, *seen.claimed}
        missing = [live for live in waiting if live.id not in there and not live.granted]
        changed = False
        for live, state in zip(missing, self.transport.job_states([live.id for live in missing]), strict=True):
            about = self.ledger.about(live)
            if state == "canceled":
                log.warning("step %s is canceled: %s", self.ledger.step_name(live), CANCELED, extra=about)
                self.ledger.canceled(live)
                changed = True
            elif live.id in self._missed:
                log.warning("%s was taken out of its queue; it is queued again", live.id, extra=about)
                self.ledger.push_again(live)
                changed = True
            else:
                missed.add(live.id)
        return changed

    def _look_at_strays(self, seen: Seen) -> bool:
        changed = False
        for dispatch in dict.fromkeys(seen.queued):
            live = self.ledger.live.get(dispatch)
            if live is None or live.begun:
                self.transport.unqueue(seen.target, dispatch)
                changed |= self.stray(seen.target, dispatch)
        return changed

    def stray(self, target: str, dispatch: str) -> bool:
        """A job that is queued and does not wait: requeued in a tool, or never ours. Whether anything changed."""
        live = self.ledger.live.get(dispatch)
        if live is not None:
            log.warning("%s was queued while it runs; it runs on", dispatch, extra=self.ledger.about(live))
            return False
        run = run_of(dispatch)
        _, position, attempt = f"--{dispatch}".rsplit("-", 2)
        step = (run, int(position)) if run and position.isdecimal() else ("", 0)
        now = self.ledger.by_step.get(step)
        if now is not None and not now.begun and not now.granted:
            self.ledger.again(now)
            now = self.ledger.by_step.get(step)
            text = f"requeued as {now.id}" if now is not None else "its run is being canceled"
        elif now is not None:
            text = f"its step is under way as {now.id}"
        elif run:
            text = f"its step has ended; to do it again, run its workflow again (see: swamp workflow history get {run})"
        else:
            text = "it is no job of Swamp's"
        log.warning("%s was queued in a tool of RQ's: %s", dispatch, text, extra={"dispatch": dispatch, "run": run})
        reason = packed_text(f"Queued in a tool: {text}")
        self.ledger.records.append(("ended", target, dispatch, f"a{attempt}", "", "", "", "failed", reason, "0.000"))
        return True

    def _forget_targets(self, queues: set[str], served: Callable[[], set[str]]) -> None:
        """Targets whose token was revoked or has expired, when nothing waits for them any more."""
        used = {member.target for member in self.ledger.members.values()}
        used |= {target for target, lane in self.ledger.lanes.items() if lane.queued}
        unused = {key.removeprefix(queue_key("")) for key in queues} - used
        if unused:
            for target in sorted(unused - served()):
                self.transport.forget_target(target)
