"""Steps on their way into a target's queue: their call with its secrets, signed, sealed, and pushed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from swamp.broker.functions import Job
from swamp.clock import Timepiece
from swamp.data.store import Store
from swamp.errors import SwampError
from swamp.models.invocation import Invocation
from swamp.orchestrator.keys import OrchestratorKeys
from swamp.orchestrator.ledger import Ledger
from swamp.orchestrator.members import Live
from swamp.orchestrator.packing import expiry, signed_and_sealed
from swamp.orchestrator.secrets import StepSecrets
from swamp.orchestrator.transport import Transport, call_tuple
from swamp.pace import Pace
from swamp.tokens import store as tokens
from swamp.wire.codec import Malformed
from swamp.wire.envelope import Box
from swamp.wire.messages import Dispatch, pack_dispatch
from swamp.workflows.engine import Engine

BATCH = 1000  #: jobs that are signed together and pushed in one round trip

_Calls = dict[tuple[str, int], Invocation | Exception]  # by run and call; why it cannot be dispatched, if it cannot


@dataclass(slots=True)
class Dispatcher:
    """Used by the core thread only."""

    store: Store
    keys: OrchestratorKeys
    engine: Engine
    ledger: Ledger
    transport: Transport
    secrets: StepSecrets
    pace: Pace
    now: Timepiece
    incarnation: int = 0  #: of Redis; what was sealed in an earlier one does not begin any more
    _boxes: dict[str, tuple[int, Box]] = field(default_factory=dict)  # by target: generation of its key

    def push(self, target: str) -> bool:
        """What fits into the target's window; whether anything did."""
        pushed = False
        while chosen := self.ledger.ready_to_push(target):
            with self.store.read() as tx:
                token = tokens.find(tx, target)
            alone = token is not None and token.max_enrollments == 1
            calls: _Calls = {}
            generation = token.key_generation if token is not None else 0
            for front in (True, False):
                lives = [live for live in chosen if live.front is front]
                firsts = range(0, len(lives), BATCH)
                for first in reversed(firsts) if front else firsts:  # each batch goes before the one pushed last
                    jobs = self._jobs(lives[first : first + BATCH], generation, alone, calls)
                    self.transport.push(target, jobs, front=front)
            for live in chosen:
                name, about = self.ledger.step_name(live), partial(self.ledger.about, live)
                self.pace.info("step %s dispatched to %s as %s", name, target, live.id, about=about)
            pushed = True
        return pushed

    def _jobs(self, lives: list[Live], generation: int, alone: bool, calls: _Calls) -> list[Job]:
        """Signed together. A step whose secrets cannot be read, or which has no form on the wire, fails. `alone`: one
        machine only serves the target; `calls` of this push were resolved already."""
        expires_at = expiry()
        packed: list[tuple[str, bytes]] = []
        descriptions: list[str] = []
        for live in lives:
            call = self._resolved(live, calls)
            if isinstance(call, Exception):
                self.ledger.lost_in_queue(live, f"the step cannot be sent to a worker: {call}")
                continue
            try:
                packed.append((live.id, pack_dispatch(self._dispatch(live, call, expires_at, alone))))
            except Malformed as error:
                self.ledger.lost_in_queue(live, f"the step cannot be sent to a worker: {error}")
                continue
            live.generation = generation
            descriptions.append(self._description(live))
        if not packed:
            return []
        sealed = signed_and_sealed(self.keys.signing, self._box(lives[0].target, generation), generation, packed)
        return [
            Job(dispatch, call_tuple(dispatch), description, content)
            for (dispatch, _), description, content in zip(packed, descriptions, sealed, strict=True)
        ]

    def _box(self, target: str, generation: int) -> Box:
        known, box = self._boxes.get(target, (-1, None))
        if box is None or known != generation:
            box = Box(self.keys.target_key(target, generation))
            self._boxes[target] = (generation, box)
        return box

    def _dispatch(self, live: Live, call: Invocation, expires_at: str, alone: bool) -> Dispatch:
        run = self.engine.runs[live.run_id]
        step = run.plan.steps[live.position]
        job = run.plan.jobs[step.job]
        return Dispatch(
            id=live.id,
            target=live.target,
            attempt=live.attempt,
            incarnation=self.incarnation,
            expires_at=expires_at,
            run_id=live.run_id,
            workflow=run.plan.workflow_name,
            job=job.name,
            step=step.name,
            grant=not alone and step.on_worker_lost == "fail",
            invocation=call,
        )

    def _description(self, live: Live) -> str:
        """Never an argument."""
        plan = self.engine.runs[live.run_id].plan
        step = plan.steps[live.position]
        call = plan.calls[step.call]
        return f"{plan.workflow_name} / {plan.jobs[step.job].name} / {step.name} — {call.model_name}.{call.method}"

    def show(self, live: Live) -> None:
        """Something that runs, to RQ's tools."""
        job = Job(live.id, call_tuple(live.id), self._description(live), b"")
        self.transport.push(live.target, [job], only_shown=True)
        self.ledger.record_that_runs(live, self.now())

    def _resolved(self, live: Live, calls: _Calls) -> Invocation | Exception:
        """The call of a step with its secrets, which are read once for all steps of a push that make the same call."""
        run = self.engine.runs[live.run_id]
        key = (live.run_id, run.plan.steps[live.position].call)
        if key not in calls:
            try:
                calls[key] = self.secrets.resolved(run, live.position)
            except (SwampError, OSError) as error:
                calls[key] = error
        return calls[key]
