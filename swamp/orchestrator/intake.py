"""Applies what machines say: opens their messages, keeps their order, and turns each into its effect.

Everything here happens inside the write transaction that also stores the sequence number a message came with, so an
effect and the memory of it are one. Redis is not touched: what should be said to a machine afterwards is left in
`replies`, what RQ's tools should see in `records`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from swamp.broker.functions import Collected, Message
from swamp.data import journal
from swamp.data.record import Blob
from swamp.data.versions import is_stored
from swamp.models.invocation import Outcome
from swamp.names import run_of
from swamp.orchestrator.leases import heard
from swamp.orchestrator.ledger import CANCEL_GRACE, Ledger
from swamp.orchestrator.members import Live, Member
from swamp.orchestrator.mirror import failure
from swamp.orchestrator.secrets import StepSecrets
from swamp.pace import Pace
from swamp.tokens import store as tokens
from swamp.wire.codec import Malformed
from swamp.wire.envelope import Refused
from swamp.wire.messages import (
    UP,
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
    Wants,
    result_place,
    unpack_result,
    unpack_up,
)
from swamp.workflows.engine import Engine
from swamp.workflows.plan import plan_from_json

log = logging.getLogger("swamp.orchestrator")

#: Why a machine may say that it will not run a dispatch; `messages.Declined` explains them.
REASONS = frozenset({"seen", "unstarted", "gone", "unreadable", "unsigned", "foreign", "expired"})


@dataclass(slots=True)
class Taken:
    """What came of a batch of messages of one machine."""

    last_stream_id: str = ""
    first_result: str = ""  #: the id in the stream of the first result that was applied
    results: list[str] = field(default_factory=list)  #: dispatches whose stored results are done with
    acknowledge: bool = False
    inventory: bool = False  #: the machine waits for the acknowledgement, to begin


@dataclass(frozen=True, slots=True)
class Late:
    """A result that cannot be its step's any more."""

    member: Member
    dispatch: str
    outcome: Outcome
    shared: bool  #: several machines may have begun the dispatch


class Intake:
    """Used by the core thread only; `now` is ISO text, `monotonic` seconds."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        now: Callable[[], str],
        monotonic: Callable[[], float],
        blob_exists: Callable[[str], bool],
        pace: Pace,
        secrets: StepSecrets,
        boot: str,
    ) -> None:
        """`boot`: this start of the orchestrator."""
        self._engine = engine
        self._ledger = ledger
        self._now = now
        self._monotonic = monotonic
        self._blob_exists = blob_exists
        self._pace = pace
        self._boot = boot
        self._beats: dict[str, tuple[int, int]] = {}  # (epoch, number) of the last heartbeat of each machine
        self._tally = ledger.tally
        self._secrets = secrets
        self.replies: list[tuple[Member, DownBody]] = []
        self.leaving: list[Member] = []  #: whose claims are to be taken back
        self.stranded: list[tuple[Member, list[str]]] = []  #: claims of which the machine does not know
        self.late: list[Late] = []  #: to be stored by `keep_late`
        self.strays: list[tuple[str, str]] = []  #: (target, id) of jobs in its queue that are not dispatches that wait

    def apply(self, tx: sqlite3.Connection, member: Member, found: Collected) -> Taken:
        """Apply the messages that are new, in order."""
        taken = Taken()
        alive = False
        before = (member.epoch, member.number)
        for message in found.messages:
            taken.last_stream_id = message.stream_id
            try:
                up = unpack_up(member.up.open(message.sealed, UP))
            except (Refused, Malformed) as error:
                self._refuse(error)
                text = "a message in the stream of worker %s was refused: %s"
                log.warning(text, member.worker, error, extra=member.about)
                continue
            if isinstance(up.body, Heartbeat):
                if self._is_fresh(member, up, up.body):
                    alive = True
                    member.slots = up.body.slots
                    self._look_for_stranded(member, found.claimed, up.body.holding)
                    if (up.epoch, up.body.said) > (member.epoch, member.number) and up.body.said:
                        self._miss(member)
                continue
            if not self._is_next(member, up):
                if (up.epoch, up.number) <= (member.epoch, member.number):
                    # A repetition: whoever repeats it does not know that it arrived.
                    taken.acknowledge = True
                    if isinstance(up.body, Finished):
                        taken.results.append(up.body.dispatch)
                        self._tally.results_duplicate += 1
                else:
                    self._tally.messages_refused["order"] += 1
                    self._miss(member)
                continue
            alive = True
            if isinstance(up.body, Finished):
                outcome = self._result(member, up.body.dispatch, message)
                if outcome is None:
                    self._miss(member)
                    continue
                self._finished(tx, member, up.epoch, up.body.dispatch, outcome)
                taken.first_result = taken.first_result or message.stream_id
                taken.results.append(up.body.dispatch)
            else:
                self._apply_one(member, up)
                taken.inventory = taken.inventory or isinstance(up.body, Inventory)
            member.epoch, member.number = up.epoch, up.number
        if alive:
            self._sign_of_life(member)
        if (member.epoch, member.number) != before:
            tokens.advance(tx, member.machine, member.epoch, member.number)
            taken.acknowledge = True
        return taken

    def _look_for_stranded(self, member: Member, claimed: Sequence[str], holding: Sequence[str]) -> None:
        """Claims that the machine does not know of, because the answer that told it was lost: seen at two heartbeats in
        a row, they go back. (At one, it may just have claimed them.)"""
        unknown = set(claimed) - set(holding)
        stranded = unknown & member.unknown_claims
        member.unknown_claims = unknown - stranded
        if stranded:
            self.stranded.append((member, sorted(stranded)))

    def _refuse(self, error: Refused | Malformed) -> None:
        self._tally.messages_refused["seal" if isinstance(error, Refused) else "form"] += 1

    # ------------------------------------------------------------------ order

    def _is_fresh(self, member: Member, up: Up, beat: Heartbeat) -> bool:
        """Whether a heartbeat proves that the machine lives: one that was said before, perhaps by a machine that has
        died since, can be said again by whoever writes Redis."""
        last = self._beats.get(member.machine, (0, 0))
        if beat.boot != self._boot or up.epoch < member.epoch or (up.epoch, up.number) <= last:
            return False
        self._beats[member.machine] = (up.epoch, up.number)
        return True

    @staticmethod
    def _is_next(member: Member, up: Up) -> bool:
        if up.epoch == member.epoch:
            return up.number == member.number + 1
        return up.epoch > member.epoch and up.number == 1

    @staticmethod
    def _miss(member: Member) -> None:
        """Something before this message is missing: the machine sends everything again that it has no answer to."""
        member.rejoin_asked = True

    def _sign_of_life(self, member: Member) -> None:
        member.last_seen_at = self._now()
        if heard(member.lease, self._monotonic()):
            log.info("worker %s is back", member.worker, extra=member.about)
            member.connected = member.session is not None

    # ------------------------------------------------------------------ effects

    def _apply_one(self, member: Member, up: Up) -> None:
        body = up.body
        if isinstance(body, OutputLines):
            live = self._begun_by(member, body.dispatch)
            if live is not None:
                self._output(live, body)
        elif isinstance(body, Started):
            self._started(member, up.epoch, body)
        elif isinstance(body, Wants):
            self._wants(member, up.epoch, body.dispatch)
        elif isinstance(body, Declined):
            self._declined(member, body)
        elif isinstance(body, Inventory):
            self._inventory(member, up.epoch, body)
        elif isinstance(body, Dropped):
            self._dropped(member, body.dispatch)

    def _output(self, live: Live, body: OutputLines) -> None:
        run = self._engine.runs[live.run_id]
        text = self._secrets.output(run, live.position, live.id, body.stream, body.text)
        if text is not None:
            self._engine.output(live.run_id, live.position, body.stream, text)

    def _begun_by(self, member: Member, dispatch: str) -> Live | None:
        live = self._ledger.live.get(dispatch)
        return live if live is not None and live.begun and live.machine == member.machine else None

    def _wants(self, member: Member, epoch: int, dispatch: str) -> None:
        """Decide once which start of which machine may begin it. The answer goes out behind the commit."""
        live = self._ledger.live.get(dispatch)
        if member.delivering:
            self.replies.append((member, Cancel(dispatch, "its token's time is over", CANCEL_GRACE)))
            return
        if live is None or live.begun or live.target != member.target or live.granted not in ("", member.machine):
            self.replies.append((member, Cancel(dispatch, "another machine has it", CANCEL_GRACE)))
            return
        if not live.granted:
            self._ledger.grant(live, member, epoch)
        if live.granted_epoch == epoch:
            self.replies.append((member, Grant(dispatch, epoch)))
        # An older start of the machine had the grant: its inventory settles what became of it.

    def _started(self, member: Member, epoch: int, body: Started) -> None:
        live = self._ledger.live.get(body.dispatch)
        stranger = live is not None and live.granted not in ("", member.machine)
        if live is None or live.target != member.target or live.begun or stranger:
            if live is None or live.machine != member.machine:
                # It was given up meanwhile: what runs there has lost its purpose.
                self.replies.append((member, Cancel(body.dispatch, "the step was given up", CANCEL_GRACE)))
            return
        self._ledger.began(live, member, epoch, body.at)
        self._engine.started(live.run_id, live.position, member.machine, member.worker)
        name, about = self._ledger.step_name(live), partial(self._ledger.about, live)
        self._pace.info("step %s started on worker %s", name, member.worker, about=about)

    def _result(self, member: Member, dispatch: str, message: Message) -> Outcome | None:
        """The result that came with a `finished`; None where it, or content that it speaks of, is not there (yet)."""
        if message.dispatch != dispatch or not message.result:
            return None
        try:
            packed = member.results.open(message.result, result_place(dispatch))
        except Refused as error:
            self._refuse(error)
            log.warning("a result of worker %s was refused: %s", member.worker, error, extra=_about(member, dispatch))
            return None
        try:
            outcome = unpack_result(packed)
        except Malformed as error:
            # The machine itself made it: it would send the same again.
            self._refuse(error)
            log.warning(
                "a result of worker %s cannot be read: %s", member.worker, error, extra=_about(member, dispatch)
            )
            now = self._now()
            return Outcome("failed", f"the worker's result cannot be read: {error}", (), now, now, 0)
        for output in outcome.outputs:
            if isinstance(output.content, Blob) and not self._blob_exists(output.content.checksum):
                return None
        return outcome

    def _finished(self, tx: sqlite3.Connection, member: Member, epoch: int, dispatch: str, outcome: Outcome) -> None:
        live = self._ledger.live.get(dispatch)
        # A result can be the first that is heard of a dispatch: its `started` was lost with an emptied Redis.
        mine = live is not None and live.target == member.target and (not live.begun or live.machine == member.machine)
        if live is None or not mine:
            self._tally.results_duplicate += 1
            self._is_late(tx, member, dispatch, outcome)
            return
        if not live.begun:
            self._ledger.begun.append((dispatch, member.machine, epoch))
            self._engine.started(live.run_id, live.position, member.machine, member.worker)
        run = self._engine.runs[live.run_id]
        for stream, text in self._secrets.rest(run, live.id):
            self._engine.output(live.run_id, live.position, stream, text)
        outcome = self._secrets.outcome(run, live.position, outcome, partial(is_stored, tx))
        self._engine.finished(live.run_id, live.position, outcome, member.machine)
        self._pace.info(
            "step %s finished on worker %s: %s in %dms",
            self._ledger.step_name(live),
            member.worker,
            outcome.status if outcome.error is None else f"{outcome.status}, {outcome.error}",
            outcome.duration_ms,
            about=partial(self._ledger.about, live),
        )
        self._ledger.ended(
            live,
            "finished",
            outcome.status,
            worker=member.worker,
            error=failure(outcome.error, live.run_id) if outcome.error is not None else None,
            duration_ms=outcome.duration_ms,
        )

    def _is_late(self, tx: sqlite3.Connection, member: Member, dispatch: str, outcome: Outcome) -> None:
        """It is to be kept as evidence, which holds no secret either."""
        step = journal.planned_step(tx, dispatch)
        if step is None:
            return
        run_id, text, position = step
        stored = partial(is_stored, tx)
        if run_id in self._engine.runs:
            run = self._engine.runs[run_id]
            plan, outcome = run.plan, self._secrets.outcome(run, position, outcome, stored)
        else:
            plan = plan_from_json(text)
            outcome = self._secrets.late_outcome(plan.calls[plan.steps[position].call], outcome, stored)
        # Where no grant is needed, two machines may have begun the same dispatch, after Redis was emptied for one.
        self.late.append(Late(member, dispatch, outcome, plan.steps[position].on_worker_lost == "retry"))

    def keep_late(self, tx: sqlite3.Connection) -> None:
        """Store what came late. To be called when all else is stored that this transaction makes of dispatches: the one
        that a result came for may have ended in it, or since the last, and only what has ended has evidence."""
        for late in self.late:
            member, dispatch, status = late.member, late.dispatch, late.outcome.status
            evidence = _evidence(member, late.outcome)
            if journal.keep_evidence(tx, dispatch, member.target, member.machine, status, evidence, shared=late.shared):
                text = "a late result of worker %s for %s was kept as evidence"
                log.warning(text, member.worker, dispatch, extra=_about(member, dispatch))
        self.late.clear()

    def _not_begun(self, member: Member, dispatch: str) -> Live | None:
        """The dispatch, if this machine may have claimed it and nobody has begun it."""
        live = self._ledger.live.get(dispatch)
        if live is None or live.begun or live.target != member.target or live.granted not in ("", member.machine):
            return None
        return live

    def _dropped(self, member: Member, dispatch: str) -> None:
        """It was never started there: its claim was gone (mostly because it was taken back, and then the dispatch is
        not live any more), or it was begun ahead and no slot came free for it."""
        about = _about(member, dispatch)
        log.info("worker %s gave back %s before it was started", member.worker, dispatch, extra=about)
        live = self._not_begun(member, dispatch) or self._begun_by(member, dispatch)
        if live is not None:
            self._ledger.again(live)

    def _declined(self, member: Member, body: Declined) -> None:
        self._tally.dispatches_refused[body.reason if body.reason in REASONS else "other"] += 1
        live = self._not_begun(member, body.dispatch)
        if live is None:
            if body.reason == "gone":
                # Queued by a tool of RQ's: it has no sealed dispatch, because it is over.
                self.strays.append((member.target, body.dispatch))
                self.stranded.append((member, [body.dispatch]))
            return
        if body.reason == "gone":
            about = self._ledger.about(live)
            log.warning("the job of %s was deleted from Redis; it is queued again", body.dispatch, extra=about)
            self._ledger.push_again(live)
        elif body.reason == "unstarted":
            self._ledger.again(live)
        elif body.reason == "seen":
            self._ledger.lost(live, f"worker '{member.worker}' has had this dispatch before, and has no result of it")
        elif body.reason == "expired":
            # It lay there for too long, or the machine reckons with a clock of ours that was set since: a new welcome
            # tells it the time, and no number of these is a reason to fail the step.
            self._miss(member)
            self._ledger.push_again(live)
        else:
            log.warning("worker %s refuses %s (%s); it is queued again", member.worker, body.dispatch, body.reason)
            self._ledger.refused(live, f"worker '{member.worker}' refuses the dispatch ({body.reason})")

    def _inventory(self, member: Member, epoch: int, body: Inventory) -> None:
        """Settle what the machine had: what it does not name, it does not have."""
        member.draining = body.draining
        member.delivered = member.delivering and not body.running and not body.outbox
        if body.draining:
            self.leaving.append(member)
        has = {*body.running, *body.outbox}
        never_started = set(body.dropped) - has
        for dispatch in sorted(member.running | member.granted):
            live = self._ledger.live.get(dispatch)
            if live is None or dispatch in has:
                continue
            # Of what an earlier start had only the grant, this one cannot tell whether it was begun.
            if dispatch in never_started or (dispatch in member.granted and live.granted_epoch == epoch):
                self._ledger.again(live)
            else:
                self._ledger.lost(live, f"worker '{member.worker}' was restarted while the step ran")
        for dispatch in body.running:
            live = self._ledger.live.get(dispatch)
            if live is not None and not live.begun and live.target == member.target and not live.granted:
                # It runs there, whatever became of the message that said so.
                self._ledger.began(live, member, epoch, self._now())
                self._engine.started(live.run_id, live.position, member.machine, member.worker)
            if live is None or self._engine.runs[live.run_id].canceling:
                self.replies.append((member, Cancel(dispatch, "the step was given up", CANCEL_GRACE)))


def _about(member: Member, dispatch: str) -> dict[str, str]:
    return {"run": run_of(dispatch), "dispatch": dispatch, **member.about}


def _evidence(member: Member, outcome: Outcome) -> dict[str, object]:
    return {
        "worker": member.worker,
        "status": outcome.status,
        "error": outcome.error,
        "startedAt": outcome.started_at,
        "endedAt": outcome.ended_at,
        "durationMs": outcome.duration_ms,
        "outputs": [
            {
                "name": output.name,
                "specName": output.spec_name,
                "content": {"checksum": output.content.checksum, "size": output.content.size}
                if isinstance(output.content, Blob)
                else output.content.decode("utf-8", "backslashreplace"),
            }
            for output in outcome.outputs
        ],
    }
