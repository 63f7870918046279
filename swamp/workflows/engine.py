"""The engine: keeps the active runs, and writes what happens to them into the journal and the data store.

One thread owns an engine. It tells the engine what happened (`started`, `output`, `finished` …), then calls `save`
inside a write transaction: everything told since the last call is applied and stored there, and what may start next
comes back, to be started after the commit. So a state that anybody can see is a state that survives.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from swamp.clock import from_iso, iso
from swamp.data import journal
from swamp.data.record import Origin
from swamp.data.versions import NewData, add_versions
from swamp.models.invocation import Invocation, Outcome
from swamp.values import value
from swamp.workflows.events import Event
from swamp.workflows.plan import Plan, plan_from_json
from swamp.workflows.run import ENDED, Run, StepEnd, StepRecord

#: Steps that one `save` hands out at most: what follows from a save is held in memory until it is stored, and the first
#: steps of a long workflow should not wait for the last.
HANDED_OUT = 2_000


@value
class Start:
    """A step that may start now."""

    run_id: str
    position: int
    job: str
    step: str
    target: str  #: "" where it runs beside the engine
    invocation: Invocation


@dataclass(slots=True)
class Saved:
    """What follows from a `save`, to be acted on after the commit."""

    local: list[Start] = field(default_factory=list)  #: to be started beside the engine; recorded as running
    events: list[Event] = field(default_factory=list)  #: in order
    ended: list[tuple[str, str]] = field(default_factory=list)  #: (run id, status)
    step_ends: list[StepEnd] = field(default_factory=list)


@value
class _Finished:
    run_id: str
    position: int
    outcome: Outcome
    machine: str


class Engine:
    """`now` tells the present as ISO text; `blobs` is where big content lies; `owner` (`serve` or `command`) says which
    kind of process drives the runs, so that an orchestrator never takes up a run that a command is driving."""

    def __init__(self, blobs: Path, now: Callable[[], str], owner: str) -> None:
        self.runs: dict[str, Run] = {}
        self._blobs = blobs
        self._now = now
        self._owner = owner
        self._inputs: list[Callable[[], None] | _Finished] = []
        self._ends_told: set[tuple[str, int]] = set()  # steps whose end is among the inputs
        self._touched: dict[str, Run] = {}
        self._canceled: list[tuple[str, str]] = []  # to be stored
        self._deadlines: list[tuple[str, str]] = []  # a heap: (when, run id); of runs that have ended, too

    # ------------------------------------------------------------------ telling

    def accept(self, tx: sqlite3.Connection, run_id: str, plan: Plan, timeout: timedelta | None = None) -> Run:
        """A new run, that is to be canceled if it takes longer than `timeout`. It is stored at once; its first steps
        come with the next `save`."""
        now = self._now()
        deadline = iso(from_iso(now) + timeout) if timeout is not None else None
        journal.add_run(
            tx,
            run_id,
            plan.kind,
            plan.workflow_id,
            plan.workflow_name,
            self._owner,
            plan.to_json(),
            len(plan.steps),
            now,
            deadline,
        )
        run = Run(run_id, plan, now, deadline=deadline)
        run.start()
        self._take_up(run)
        return run

    def load(self, tx: sqlite3.Connection, only: Collection[str] | None = None) -> None:
        """Take up the stored runs of this owner that have not ended (or `only` these of them), as after a restart or a
        failed transaction."""
        self.runs.clear()
        self._touched.clear()
        self._inputs.clear()
        self._ends_told.clear()
        self._canceled.clear()
        self._deadlines.clear()
        for row in journal.active_runs(tx, self._owner):
            if only is not None and row.id not in only:
                continue
            records = [
                StepRecord(step.status, step.dispatch_id, step.started_at, step.ended_at, step.error)
                for step in journal.load_steps(tx, row.id)
            ]
            run = Run.restore(
                row.id,
                plan_from_json(row.plan),
                row.created_at,
                records,
                journal.last_event_seq(tx, row.id),
                row.deadline,
                row.canceled_at,
            )
            run.resume(self._now())
            self._take_up(run)

    def _take_up(self, run: Run) -> None:
        self.runs[run.id] = run
        self._touched[run.id] = run
        if run.deadline is not None and not run.canceling:
            heapq.heappush(self._deadlines, (run.deadline, run.id))

    def started(self, run_id: str, position: int, machine: str, worker: str) -> None:
        run = self.runs.get(run_id)
        if run is not None:
            self._tell(run, lambda: run.started(position, self._now(), machine, worker))

    def output(self, run_id: str, position: int, stream: str, text: str) -> None:
        run = self.runs.get(run_id)
        if run is not None:
            self._tell(run, lambda: run.output(position, stream, text, self._now()))

    def finished(self, run_id: str, position: int, outcome: Outcome, machine: str = "") -> None:
        """The step's one result: its data and its status are stored together. Ignored for a step that has ended."""
        run = self.runs.get(run_id)
        if run is not None and self._is_first_end(run, position):
            self._touched[run_id] = run
            self._inputs.append(_Finished(run_id, position, outcome, machine))

    def given_up(self, run_id: str, position: int, status: str, error: str | None) -> None:
        """The step ends without a result: lost, refused or canceled before it began. Ignored for a step that has
        ended."""
        run = self.runs.get(run_id)
        if run is not None and self._is_first_end(run, position):
            self._tell(run, lambda: run.finished(position, status, self._now(), error=error))

    def requeued(self, run_id: str, position: int, dispatch_id: str) -> None:
        """The step waits again, under a new dispatch."""
        run = self.runs.get(run_id)
        if run is not None:
            self._tell(run, lambda: run.queued(position, dispatch_id, self._now()))

    def cancel(self, run_id: str) -> list[int]:
        """Ends what has not begun. Returns the positions of queued and running steps, for the caller to stop."""
        run = self.runs.get(run_id)
        if run is None:
            return []
        self._touched[run_id] = run
        now = self._now()
        alive = run.cancel(now)
        if run.canceled_at == now:
            self._canceled.append((run_id, now))
        return alive

    def overdue(self) -> list[str]:
        """Runs whose time has come to an end since the last call, for the caller to cancel."""
        over = []
        while self._deadlines and self._deadlines[0][0] <= self._now():
            _, run_id = heapq.heappop(self._deadlines)
            if run_id in self.runs and not self.runs[run_id].canceling:
                over.append(run_id)
        return over

    def seconds_to_deadline(self) -> float | None:
        """How long `overdue` will have nothing to tell, 0 or more; None where no run has a limit."""
        if not self._deadlines:
            return None
        return max(0.0, (from_iso(self._deadlines[0][0]) - from_iso(self._now())).total_seconds())

    def record(self, run_id: str, position: int) -> StepRecord | None:
        """The state of a step of an active run."""
        run = self.runs.get(run_id)
        return None if run is None else run.steps[position]

    def _is_first_end(self, run: Run, position: int) -> bool:
        key = (run.id, position)
        if key in self._ends_told or run.steps[position].status in ENDED:
            return False
        self._ends_told.add(key)
        return True

    def _tell(self, run: Run, apply: Callable[[], None]) -> None:
        self._touched[run.id] = run
        self._inputs.append(apply)

    # ------------------------------------------------------------------ storing

    @property
    def dirty(self) -> bool:
        """Whether there is something to `save`; there may be again behind a `save`, which hands out so much only."""
        return bool(self._touched)

    def save(self, tx: sqlite3.Connection, place: Callable[[Start], str]) -> Saved:
        """Apply and store everything told. `place` makes the dispatch of a placed step (to be stored in the same
        transaction) and returns its id. If this raises, the engine's memory is ahead of the disk: call `load`."""
        saved = Saved()
        room = HANDED_OUT
        self._apply_inputs(tx)
        if self._canceled:
            journal.cancel_runs(tx, self._canceled)
            self._canceled.clear()
        for run in self._touched.values():
            room -= self._hand_out(run, place, saved, room)
            if run.changed:
                journal.save_steps(
                    tx,
                    run.id,
                    (
                        journal.StepRow(p, r.status, r.dispatch_id, r.started_at, r.ended_at, r.error)
                        for p in sorted(run.changed)
                        for r in (run.steps[p],)
                    ),
                )
                run.changed.clear()
            if run.events:
                journal.add_events(tx, run.events)
                saved.events += run.events
                run.events.clear()
                saved.step_ends += run.step_ends
                run.step_ends.clear()
            if run.status != "running":
                journal.end_run(tx, run.id, run.status, run.error, self._now())
                saved.ended.append((run.id, run.status))
                del self.runs[run.id]
        self._touched = {run.id: run for run in self._touched.values() if run.ready and run.id in self.runs}
        return saved

    def _apply_inputs(self, tx: sqlite3.Connection) -> None:
        inputs, self._inputs = self._inputs, []
        self._ends_told.clear()
        new_data: list[NewData] = []
        spans: list[tuple[int, int]] = []
        for told in inputs:
            if isinstance(told, _Finished):
                first = len(new_data)
                new_data += self._data_of(told)
                spans.append((first, len(new_data)))
        versions = add_versions(tx, self._blobs, new_data) if new_data else []
        span = iter(spans)
        for told in inputs:
            if not isinstance(told, _Finished):
                told()
            else:
                first, last = next(span)
                data = [
                    {"name": version.name, "version": version.version, "specName": version.spec_name}
                    for version in versions[first:last]
                ]
                outcome = told.outcome
                self.runs[told.run_id].finished(
                    told.position,
                    outcome.status,
                    self._now(),
                    error=outcome.error,
                    duration_ms=outcome.duration_ms,
                    data=data,
                )

    def _data_of(self, told: _Finished) -> list[NewData]:
        run = self.runs[told.run_id]
        step = run.plan.steps[told.position]
        call = run.plan.calls[step.call]
        workflow = run.plan.kind == "workflow"
        origin = Origin(
            workflow_name=run.plan.workflow_name,
            run_id=run.id,
            job_name=run.plan.jobs[step.job].name if workflow else "",
            step_name=step.name if workflow else "",
            target=step.target,
            machine=told.machine,
        )
        return [
            NewData(call.model_id, call.model_name, call.model_type, output, origin, told.outcome.ended_at)
            for output in told.outcome.outputs
        ]

    def _hand_out(self, run: Run, place: Callable[[Start], str], saved: Saved, room: int) -> int:
        """At most `room` steps; says how many."""
        ready, run.ready = run.ready[:room], run.ready[room:]
        for position in ready:
            step = run.plan.steps[position]
            start = Start(
                run.id,
                position,
                run.plan.jobs[step.job].name,
                step.name,
                step.target,
                run.plan.calls[step.call],
            )
            if step.target:
                run.queued(position, place(start), self._now())
            else:
                run.started(position, self._now())
                saved.local.append(start)
        return len(ready)
