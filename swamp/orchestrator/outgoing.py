"""What Redis is told behind a commit: what is stored is freed and acknowledged, new work goes out, the books are kept.

Nothing here decides anything. When Redis fails on the way, everything that it should know is made again from memory
and disk once it is back, so nothing that could not be told is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from swamp.broker.client import RedisTrouble
from swamp.orchestrator.dispatcher import Dispatcher
from swamp.orchestrator.intake import Intake, Taken
from swamp.orchestrator.ledger import Ledger
from swamp.orchestrator.members import Member
from swamp.orchestrator.membership import Membership
from swamp.orchestrator.mirror import Record, Unshown, worker_fields
from swamp.orchestrator.redis_watch import RedisWatch
from swamp.orchestrator.transport import Transport
from swamp.wire.messages import DOWN, Acknowledge, DownBody, pack_down

SHOWN = 15.0  #: seconds; a worker is shown anew to RQ's tools this often
WORKER_TTL = 60  #: seconds; a worker that is not shown anew vanishes from them
HELD = 0.05  #: seconds that what no machine waits for may wait for company on its way to Redis


class Outgoing:
    """Used by the core thread only. `boot` names this start of the orchestrator; `now` tells the time as ISO text."""

    def __init__(
        self,
        boot: str,
        transport: Transport,
        watch: RedisWatch,
        ledger: Ledger,
        membership: Membership,
        dispatcher: Dispatcher,
        intake: Intake,
        now: Callable[[], str],
    ) -> None:
        self._boot = boot
        self._transport = transport
        self._watch = watch
        self._ledger = ledger
        self._membership = membership
        self._dispatcher = dispatcher
        self._intake = intake
        self._now = now
        self.said = 0  #: number of the last message to any machine
        self.unshown = Unshown()  #: to RQ's tools
        self._next_shown = 0.0
        self._send_by = 0.0  # what is posted goes out then at the latest; 0: nothing is

    def patience(self, now: float) -> float:
        """Seconds until something that is held has to go out."""
        due = self.unshown.due
        if self._transport.holds:
            due = min(due, self._send_by)
        return max(0.0, due - now)

    def start_over(self) -> None:
        """What was to be told is made anew."""
        self._intake.replies.clear()
        self._ledger.records.clear()
        self._ledger.withdrawn.clear()
        self.unshown.forget()

    def look(self) -> None:
        """What was held may have gone along with a question."""
        if not self._transport.holds:
            self._send_by = 0.0

    def tell(self, taken: list[tuple[Member, Taken]]) -> None:
        """Free first, for that makes room; then answers; then new work; then the books. What no machine waits for is
        held for a moment: mostly the next cycle is not far, and it all goes in one round trip."""
        if not self._transport.up:
            self.start_over()
            return
        try:
            if taken:
                self._transport.free([(m.machine, t.last_stream_id, t.results) for m, t in taken])
            replies = [(m, Acknowledge(m.epoch, m.number)) for m, t in taken if t.acknowledge]
            self._say([*replies, *self._intake.replies])
            awaited = bool(self._intake.replies) or any(one.inventory for _, one in taken)
            self._intake.replies.clear()
            for member in self._intake.leaving:
                self._membership.claims_back(member)
            self._intake.leaving.clear()
            for member, stranded in self._intake.stranded:
                self._membership.claims_back(member, stranded)
            self._intake.stranded.clear()
            self._withdraw()
            if self._watch.may_push:
                for target in list(self._ledger.lanes):
                    awaited |= self._dispatcher.push(target)
            self._keep_books()
            # When nothing is under way there is no next cycle to wait for, and this one has been told of already.
            self._send(at_once=awaited or not self._ledger.live)
        except RedisTrouble as error:
            self.start_over()
            self._watch.lost(error)

    def _send(self, *, at_once: bool) -> None:
        """What is posted: now, or within `HELD`."""
        now = time.monotonic()
        if not self._transport.holds:
            return
        if at_once or not self._watch.has_room or 0.0 < self._send_by <= now:
            self._transport.flush()
            self._send_by = 0.0
        elif self._send_by == 0.0:
            self._send_by = now + HELD

    def _say(self, replies: Sequence[tuple[Member, DownBody]]) -> None:
        if not replies:
            return
        messages = []
        for member, body in replies:
            self.said += 1
            sealed = member.down.seal(pack_down(self._boot, self.said, body), DOWN)
            messages.append((member.machine, sealed))
        self._transport.send_down(messages)

    def _withdraw(self) -> None:
        """What was given up while it waited leaves its queue; what was given up while it was claimed cannot begin."""
        withdrawn, self._ledger.withdrawn = self._ledger.withdrawn, []
        for target in {live.target for live in withdrawn}:
            dispatches = [live.id for live in withdrawn if live.target == target]
            machines = [member.machine for member in self._ledger.members.values() if member.target == target]
            for first in range(0, len(dispatches), 1000):
                self._transport.withdraw(target, dispatches[first : first + 1000], machines)

    def _keep_books(self) -> None:
        now = time.monotonic()
        everyone = now >= self._next_shown
        if everyone:
            self._next_shown = now + SHOWN
        shown: list[tuple[object, ...]] = []
        anew: list[Member] = []
        for member in self._ledger.members.values():
            if member.connected and (everyone or not member.shown):
                fields = [] if member.shown else worker_fields(member, self._now())
                shown.append(("worker", member.worker, member.target, WORKER_TTL, fields))
                if not member.shown:
                    anew.append(member)
                member.shown = True
            elif member.shown and not member.connected:
                shown.append(("left", member.worker, member.target))
                member.shown = False
        told = self._told(now)
        for member in anew:
            self._list_again(member)
        told += self._told(now)
        told += self._at_work({record[4] for record in told if record[0] == "ended"})
        if shown or told:
            for first in range(0, len(told) + 1, 1000):
                self._transport.mirror([*(shown if first == 0 else []), *told[first : first + 1000]])

    def _told(self, now: float) -> list[Record]:
        told = self.unshown.told(self._ledger.records, self._now(), now)
        self._ledger.records.clear()
        return told

    def _list_again(self, member: Member) -> None:
        """Who is shown anew is taken to run nothing, until it is told what."""
        for dispatch in member.running:
            if dispatch not in self.unshown:
                self._ledger.record_that_runs(self._ledger.live[dispatch], self._now())

    def _at_work(self, ended: set[object]) -> list[Record]:
        """Which of the workers where steps have ended go on working, on what need not be shown itself."""
        return [
            ("working", member.worker, next(iter(member.running)))
            for member in self._ledger.members.values()
            if member.worker in ended and member.running
        ]

    def say_goodbye(self) -> None:
        """To RQ's tools, for every worker; and let go what is held."""
        with self._watch.may_fail():
            told = self.unshown.told((), self._now(), float("inf"))
            told += [("left", member.worker, member.target) for member in self._ledger.members.values() if member.shown]
            if told and self._transport.up:
                self._transport.mirror(told)
            if self._transport.holds:
                self._transport.flush()
