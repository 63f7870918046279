"""The way out: what is done when somebody asks for the end, when the work that was wanted is done, and at the last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from swamp.errors import NotAllowed
from workers.claims import Claims
from workers.ending import KILL_AFTER, Ending
from workers.membership import Membership
from workers.outbox import Outbox
from workers.results import Results
from workers.slots import Slots
from workers.voice import Voice

log = logging.getLogger("swamp.worker")


class Departure:
    """Belongs to the worker's loop. `grace` as in `Ending`; `durable`: the outbox is still there at the next start;
    `nudge` has the loop come round at once."""

    def __init__(
        self,
        ending: Ending,
        membership: Membership,
        slots: Slots,
        claims: Claims,
        voice: Voice,
        results: Results,
        outbox: Outbox,
        nudge: Callable[[], None],
        *,
        grace: float,
        durable: bool,
    ) -> None:
        self._ending = ending
        self._membership = membership
        self._slots = slots
        self._claims = claims
        self._voice = voice
        self._results = results
        self._outbox = outbox
        self._nudge = nudge
        self._grace = grace
        self._durable = durable

    def look(self) -> None:
        """Stop as if asked to, when the work that was wanted from us is done."""
        if self._ending.stops:
            return
        confirmed = self._membership.confirmed
        if confirmed and not self._membership.told_all and self._membership.welcome.delivers_until is not None:
            self._tell_when_all_is_delivered()
        busy = bool(self._slots.running or self._claims.count or not confirmed)
        reason = self._ending.reason_to_go(time.monotonic(), self._results.finished, busy=busy)
        if reason is not None:
            log.info("%s", reason)
            self.asked()

    def asked(self) -> None:
        """Finish what runs and go; a second time: end what runs."""
        self._ending.asked(time.monotonic())
        if self._ending.stops == 1:
            running = len(self._slots.running)
            log.info(
                "stopping: no new steps%s",
                f"; waiting up to {self._grace:g}s for {running} running (Ctrl-C again ends them)" if running else "",
            )
            self._claims.seen.was_not_started(self._slots.give_back())
            self._claims.forget()
            self._membership.say_inventory()
            self._nudge()
        else:
            self._cut("the worker was stopped while the step ran")

    def turned_away(self, failure: NotAllowed) -> None:
        """By the orchestrator, for good."""
        self._ending.failure = failure
        self._cut("this machine may not work any more")

    def is_due(self) -> bool:
        """Whether there is nothing left to wait for. Ends what runs when its time is over."""
        link, waiting = self._membership.link, len(self._outbox) or self._results.ended
        delivered = not waiting and (link is None or len(self._voice.sent) == 0)
        running = len(self._slots.running)
        decided = self._ending.next(time.monotonic(), running, delivered=delivered)
        if decided == "cut":
            log.warning("the grace time is over; ending %d steps", running)
            self._end_what_runs("the worker was stopped while the step ran")
        return decided == "go"

    def leave(self) -> None:
        if len(self._outbox):
            log.warning(
                "%d results are not delivered yet; %s",
                len(self._outbox),
                "they will be at the next start with this cache directory"
                if self._durable
                else "they are lost, because there is no --cache-dir",
            )
        self._membership.say_farewell()
        self._slots.close()
        log.info("worker stopped")

    def _tell_when_all_is_delivered(self) -> None:
        """Then the orchestrator puts us out, before the grace is over."""
        if not (self._slots.running or self._results.ended or len(self._voice.sent) or len(self._outbox)):
            self._membership.say_inventory()

    def _cut(self, reason: str) -> None:
        """End what runs, and do not wait for more than that."""
        self._ending.cut(time.monotonic())
        self._end_what_runs(reason)

    def _end_what_runs(self, reason: str) -> None:
        for dispatch in list(self._slots.running):
            self._slots.cancel(dispatch, reason, KILL_AFTER)
