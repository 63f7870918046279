"""The ledger of dispatches that have not ended: which wait, which were pushed, which began, and what of that has to be
stored and shown. Touches neither disk nor Redis; the core stores `added`, `begun` and `over`, pushes `ready_to_push`
and mirrors `records`.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from swamp.clock import from_iso
from swamp.data.journal import DispatchRow
from swamp.monitoring.tally import Tally
from swamp.orchestrator.members import Lane, Live, Member
from swamp.orchestrator.mirror import packed_text
from swamp.workflows.engine import Engine, Start
from swamp.workflows.plan import PlannedStep

log = logging.getLogger("swamp.orchestrator")

#: Dispatches of one target that lie in Redis at once.
WINDOW = 10_000

#: Dispatches of one step that may be lost: one that takes its machine down every time must not go round for ever.
MOST_ATTEMPTS = 10

#: Seconds that a step gets between TERM and KILL when its machine is told to end it.
CANCEL_GRACE = 10.0


class Ledger:
    """`monotonic` tells seconds. Used by the core thread only."""

    def __init__(self, engine: Engine, monotonic: Callable[[], float], tally: Tally | None = None) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self.tally = tally or Tally()
        self.live: dict[str, Live] = {}
        self.lanes: dict[str, Lane] = {}
        self.members: dict[str, Member] = {}
        self.by_step: dict[tuple[str, int], Live] = {}
        # To be stored in the transaction under way:
        self.added: list[DispatchRow] = []
        self.granted: list[tuple[str, str, int]] = []
        self.begun: list[tuple[str, str, int]] = []
        self.over: list[tuple[str, str, str | None]] = []
        # To be told to Redis after it:
        self.records: list[tuple[object, ...]] = []
        self.withdrawn: list[Live] = []
        self._patience: list[tuple[float, str]] = []  # a heap: (when it is over, dispatch)

    # ------------------------------------------------------------------ what happens to a dispatch

    def place(self, start: Start) -> str:
        """A new dispatch for a step that may start; returns its id."""
        return self._new(start.run_id, start.position, 1, start.target).id

    def lost(self, live: Live, reason: str) -> None:
        """A step whose end nobody will tell: its own `onWorkerLost` says whether it fails or is dispatched again."""
        if self.retries(live):
            log.warning("step %s is dispatched again: %s", self.step_name(live), reason, extra=self.about(live))
            self._replace(live, "lost", reason)
        elif self._engine.runs[live.run_id].canceling:
            self.canceled(live, reason)
        else:
            log.warning("step %s failed: %s", self.step_name(live), reason, extra=self.about(live))
            self._engine.given_up(live.run_id, live.position, "failed", reason)
            self.ended(live, "lost", None, worker="", error=reason)

    def lost_in_queue(self, live: Live, reason: str) -> None:
        """Nobody took the step in time: it fails."""
        log.warning("step %s failed: %s", self.step_name(live), reason, extra=self.about(live))
        self._engine.given_up(live.run_id, live.position, "failed", reason)
        self.ended(live, "superseded", None, worker="", error=reason)

    def retries(self, live: Live) -> bool:
        """Whether the step may run once more after a loss."""
        canceling = self._engine.runs[live.run_id].canceling
        return not canceling and self.planned(live).on_worker_lost == "retry" and live.losses + 1 < MOST_ATTEMPTS

    def patience(self, live: Live) -> float:
        """Seconds for which a step that has begun is given time to tell of its end after its machine was lost."""
        if self.retries(live):
            return 0.0
        timeout = self.planned(live).lost_timeout
        return min(timeout, CANCEL_GRACE) if self._engine.runs[live.run_id].canceling else timeout

    def canceled(self, live: Live, reason: str | None = None) -> None:
        """The step ends without having had, or told, a result, because its run is canceled."""
        self._engine.given_up(live.run_id, live.position, "canceled", reason)
        self.ended(live, "superseded", "canceled", worker="", error=None)

    def impatient(self, now: float) -> list[Live]:
        """Dispatches that have waited for a worker as long as their step's `queueTimeout` allows."""
        over = []
        while self._patience and self._patience[0][0] <= now:
            live = self.live.get(heapq.heappop(self._patience)[1])
            if live is not None and not live.begun:
                over.append(live)
        return over

    def grant(self, live: Live, member: Member, epoch: int) -> None:
        """From now on only this start of this machine may begin it."""
        live.granted, live.granted_epoch = member.machine, epoch
        member.granted.add(live.id)
        self.granted.append((live.id, member.machine, epoch))

    def began(self, live: Live, member: Member, epoch: int, at: str) -> None:
        live.begun, live.machine, live.started_at = True, member.machine, at
        member.running.add(live.id)
        self.begun.append((live.id, member.machine, epoch))
        self.tally.step_started(live.target, self._monotonic() - self.lane(live.target).queued.pop(live.id))
        if live.granted:
            member.granted.discard(live.id)
        self._leave_window(live)
        self.records.append(("started", live.target, live.id, f"a{live.attempt}", member.worker, at))

    def ended(
        self, live: Live, state: str, outcome: str | None, *, worker: str, error: str | None, duration_ms: int = 0
    ) -> None:
        """`state`: `finished`, `superseded` or `lost`; `outcome` is the result's status, if there was one. `error` is
        for everybody who may read Redis."""
        del self.live[live.id]
        self.by_step.pop((live.run_id, live.position), None)
        if live.granted and (granted := self.members.get(live.granted)) is not None:
            granted.granted.discard(live.id)
        if live.begun:
            member = self.members.get(live.machine)
            if member is not None:
                member.running.discard(live.id)
                worker = member.worker
        else:
            self._leave_window(live)
            del self.lane(live.target).queued[live.id]
            self.withdrawn.append(live)
        self.over.append((live.id, state, outcome))
        shown = {"succeeded": "finished", "canceled": "canceled"}.get(outcome or "", "failed")
        if state == "superseded":
            shown = "canceled"
        reason = packed_text(error) if error and shown == "failed" else ""
        took = f"{duration_ms / 1000:.3f}"
        self.records.append(
            ("ended", live.target, live.id, f"a{live.attempt}", worker, live.started_at, "", shown, reason, took)
        )

    def taken_back(self, live: Live) -> None:
        """A claim of it was taken back, so through that claim it never began. If there was no other claim, the
        step goes out as a new dispatch; else under its old id, which a machine that began it knows."""
        if live.begun:
            return
        if live.recalled:
            self.push_again(live)
        else:
            self.again(live)

    def push_again(self, live: Live) -> None:
        """A queued dispatch that is known to lie in no queue and in no machine's hands: to the front with it."""
        if live.pushed:  # else it waits already
            self._leave_window(live)
            live.front = True
            self.lane(live.target).waiting.appendleft(live.id)

    def refused(self, live: Live, reason: str) -> None:
        """A machine that has never had it would not take what lies in Redis under its id, for it is not, or not any
        more, what we put there: put it there again. Whoever spoils it each time ends the step."""
        live.refusals += 1
        if live.refusals < MOST_ATTEMPTS:
            self.push_again(live)
        else:
            self.lost_in_queue(live, reason)

    def again(self, live: Live) -> None:
        """The step is known never to have started: a new dispatch takes the place of this one, at the front. (The old
        one cannot go back: the machine that claimed it may have noted its id as seen.)"""
        if self._engine.runs[live.run_id].canceling:
            self.canceled(live)
        else:
            self._replace(live, "superseded", "it was never started")

    def _replace(self, live: Live, state: str, reason: str) -> None:
        self.ended(live, state, None, worker="", error=reason)
        new = self._new(live.run_id, live.position, live.attempt + 1, live.target, front=True)
        new.losses = live.losses + (state == "lost")
        self._engine.requeued(live.run_id, live.position, new.id)

    def recall_everything(self) -> None:
        """All that is queued waits again, in its old order: after Redis was away nobody knows what lies there."""
        for lane in self.lanes.values():
            lane.waiting.clear()
            lane.pushed = 0
        # Made last and to go first: what took the place of a dispatch that was lost or taken back.
        for live in sorted(self.live.values(), key=lambda live: live.attempt == 1):
            live.recalled = live.recalled or live.pushed
            live.pushed = False
            # What was granted may have begun; only the machine that has the grant can tell.
            if not live.begun and not live.granted:
                live.front = False
                self.lane(live.target).waiting.append(live.id)

    def record_what_runs(self, now: str) -> None:
        """RQ's books of what runs, made anew: records that Redis never heard of may have ended what is listed there."""
        for live in self.live.values():
            self.record_that_runs(live, now)

    def record_that_runs(self, live: Live, now: str) -> None:
        member = self.members.get(live.machine)
        if live.begun and member is not None:
            started = live.started_at or now
            self.records.append(("running", live.target, live.id, f"a{live.attempt}", member.worker, started))

    def restore(self, rows: Iterable[DispatchRow], now: datetime) -> None:
        """Take up the dispatches of the database. `now` is the time that their own times are compared with."""
        self.live.clear()
        self.by_step.clear()
        self.lanes.clear()
        self._patience.clear()
        for row in rows:
            live = Live(row.id, row.run_id, row.position, row.attempt, row.target, row.losses)
            member = self.members.get(row.machine or "")
            if row.state == "begun":
                live.begun, live.machine = True, row.machine or ""
                if member is not None:
                    member.running.add(live.id)
            elif row.state == "granted":
                live.granted, live.granted_epoch = row.machine or "", row.epoch or 0
                if member is not None:
                    member.granted.add(live.id)
            live.recalled = True
            self.live[row.id] = live
            self.by_step[(row.run_id, row.position)] = live
            if not live.begun:
                self._limit_wait(live)
                waited = max(0.0, (now - from_iso(row.created_at)).total_seconds())
                self.lane(live.target).queued[live.id] = self._monotonic() - waited
        self.recall_everything()

    def _new(self, run_id: str, position: int, attempt: int, target: str, *, front: bool = False) -> Live:
        dispatch = f"{target}--{run_id}-{position}-{attempt}"
        live = Live(dispatch, run_id, position, attempt, target, front=front)
        self.live[dispatch] = live
        self.by_step[(run_id, position)] = live
        self._limit_wait(live)
        lane = self.lane(target)
        lane.queued[dispatch] = self._monotonic()
        waiting = lane.waiting
        if front:
            waiting.appendleft(dispatch)
        else:
            waiting.append(dispatch)
        self.added.append(DispatchRow(dispatch, run_id, position, attempt, target, "queued", None, None))
        return live

    def _limit_wait(self, live: Live) -> None:
        """After a restart it begins anew: how long the queue stood still is nobody's fault."""
        limit = self.planned(live).queue_timeout
        if limit:
            heapq.heappush(self._patience, (self._monotonic() + limit, live.id))

    def _leave_window(self, live: Live) -> None:
        if live.pushed:
            live.pushed = False
            self.lane(live.target).pushed -= 1

    # ------------------------------------------------------------------ what follows

    def lane(self, target: str) -> Lane:
        if target not in self.lanes:
            self.lanes[target] = Lane()
        return self.lanes[target]

    def ready_to_push(self, target: str) -> list[Live]:
        """The next dispatches of the target that fit into its window; they count as pushed from now on."""
        lane, chosen = self.lane(target), []
        while lane.waiting and lane.pushed < WINDOW:
            live = self.live.get(lane.waiting.popleft())
            # Its run may have been canceled while it waited.
            if live is not None and not live.begun:
                live.pushed = True
                lane.pushed += 1
                chosen.append(live)
        return chosen

    def generations(self, target: str) -> set[int]:
        """Of the target's keys: those that what lies in Redis is sealed with."""
        return {live.generation for live in self.live.values() if live.pushed and live.target == target}

    def planned(self, live: Live) -> PlannedStep:
        return self._engine.runs[live.run_id].plan.steps[live.position]

    def about(self, live: Live) -> dict[str, str]:
        """What a log line about it carries."""
        about = {"run": live.run_id, "step": self.step_name(live), "dispatch": live.id, "target": live.target}
        member = self.members.get(live.machine)
        return about | member.about if member is not None else about

    def step_name(self, live: Live) -> str:
        """`job/step`, for log lines."""
        run = self._engine.runs.get(live.run_id)
        if run is None:
            return live.id
        step = run.plan.steps[live.position]
        return f"{run.plan.jobs[step.job].name}/{step.name}"
