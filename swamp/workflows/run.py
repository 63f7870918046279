"""How a run moves: which steps may start, when a job and the run end, and with what status. Pure; time is an argument.

The table of step states:

    pending ──▶ queued ──▶ running ──▶ succeeded | failed | canceled
       │           └─────────────────▶ failed | canceled          (never began)
       ├──▶ running                                               (a step without a target)
       └──▶ skipped | canceled

A job is `pending` until its own dependencies have ended, then runs its steps, each the moment its dependencies allow
it, and ends with its last step: `failed` if any step failed, else `canceled` if any was canceled, else `succeeded`,
or `skipped` if no step ran. The run ends with its last job, by the same rule. A run that is canceled, by a person or
because its time is over, starts nothing more; it ends when what had begun has ended. Nothing here waits for a level of
the graph, and the work per transition is the number of edges of the step concerned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from swamp.clock import duration_text, from_iso
from swamp.workflows.events import Event
from swamp.workflows.plan import Plan

ENDED = frozenset({"succeeded", "failed", "canceled", "skipped"})

#: condition → the end states of the other that satisfy it
CONDITIONS: Mapping[str, frozenset[str]] = {
    "succeeded": frozenset({"succeeded"}),
    "failed": frozenset({"failed"}),
    "completed": frozenset({"succeeded", "failed"}),
    "skipped": frozenset({"skipped"}),
    "always": ENDED,
}


@dataclass(slots=True)
class StepRecord:
    """The stored part of a step's state."""

    status: str = "pending"
    dispatch_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    error: str | None = None


#: Target (empty for none), status, and how long it ran in milliseconds, if it did.
StepEnd = tuple[str, str, int | None]


class Run:
    """The state of one run. Methods take what happened and leave behind what follows from it:

    `ready`    positions of steps that may start now (drain it),
    `changed`  positions whose record is to be stored (drain it),
    `events`   the events to be stored and shown, numbered (drain it),
    `step_ends` the steps that ended, to be counted (drain it).
    """

    def __init__(
        self, run_id: str, plan: Plan, created_at: str, last_seq: int = 0, deadline: str | None = None
    ) -> None:
        self.id = run_id
        self.plan = plan
        self.created_at = created_at
        self.deadline = deadline  #: when its time is over; None where it has no limit
        self.canceled_at: str | None = None  #: since when it is being ended early
        self.status = "running"
        self.error: str | None = None
        self.ready: list[int] = []
        self.changed: set[int] = set()
        self.events: list[Event] = []
        self.step_ends: list[StepEnd] = []
        self.steps = [StepRecord() for _ in plan.steps]
        self._seq = last_seq
        self._job_status = ["pending"] * len(plan.jobs)
        self._job_left = [job.size for job in plan.jobs]
        self._job_waits = [len(job.depends_on) for job in plan.jobs]
        self._jobs_left = len(plan.jobs)
        self._jobs_running = 0
        self._jobs_waiting: deque[int] = deque()
        self._step_waits = [len(step.depends_on) for step in plan.steps]
        self._job_steps_running = [0] * len(plan.jobs)
        self._job_steps_waiting: list[deque[int]] = [deque() for _ in plan.jobs]
        self._job_dependents: list[list[int]] = [[] for _ in plan.jobs]
        self._step_dependents: list[list[int]] = [[] for _ in plan.steps]
        for index, job in enumerate(plan.jobs):
            for on, _ in job.depends_on:
                self._job_dependents[on].append(index)
        for position, step in enumerate(plan.steps):
            for on, _ in step.depends_on:
                self._step_dependents[on].append(position)

    # ------------------------------------------------------------------ what happens

    def start(self) -> None:
        """The run was accepted."""
        self._emit(
            self.created_at,
            "run-accepted",
            workflow=self.plan.workflow_name,
            runKind=self.plan.kind,
            jobs=self.plan.described_jobs(),
        )
        self._settle_jobs([index for index, waits in enumerate(self._job_waits) if waits == 0], self.created_at)

    def queued(self, position: int, dispatch_id: str, now: str) -> None:
        """A placed step has a dispatch now. Once more for a second dispatch of the same step."""
        record = self.steps[position]
        record.status, record.dispatch_id, record.started_at = "queued", dispatch_id, None
        self.changed.add(position)
        self._emit_step(position, now, "step-queued", target=self.plan.steps[position].target, dispatch=dispatch_id)

    def started(self, position: int, now: str, machine: str = "", worker: str = "") -> None:
        record = self.steps[position]
        record.status, record.started_at = "running", now
        self.changed.add(position)
        target = self.plan.steps[position].target
        self._emit_step(position, now, "step-started", target=target, machine=machine, worker=worker)

    def output(self, position: int, stream: str, text: str, now: str) -> None:
        self._emit_step(position, now, "step-output", stream=stream, text=text)

    def finished(
        self,
        position: int,
        status: str,
        now: str,
        *,
        error: str | None = None,
        duration_ms: int | None = None,
        data: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """A step that was started or queued ended. A step that has ended already stays as it is."""
        if self.steps[position].status in ENDED:
            return
        job = self.plan.steps[position].job
        self._job_steps_running[job] -= 1
        self._end_steps([(position, status, error, duration_ms, data)], now)

    def cancel(self, now: str) -> list[int]:
        """End what has not begun. Returns the positions of steps that are queued or running, for the caller to stop."""
        if self.canceling or self.status != "running":
            return []
        self.canceled_at = now
        alive = [p for p, record in enumerate(self.steps) if record.status in ("queued", "running")]
        waiting = [position for position, record in enumerate(self.steps) if record.status == "pending"]
        # What is ready but was not taken yet has been counted as running.
        for position in self.ready:
            self._job_steps_running[self.plan.steps[position].job] -= 1
        self.ready.clear()
        self._jobs_waiting.clear()
        for queue in self._job_steps_waiting:
            queue.clear()
        self._end_steps([(position, "canceled", None, None, ()) for position in waiting], now)
        return alive

    @property
    def canceling(self) -> bool:
        """Whether the run is being ended: nothing of it starts any more."""
        return self.canceled_at is not None

    @property
    def why_canceled(self) -> str:
        """For people; of a run that is being ended."""
        return self._out_of_time() or "the run was canceled"

    def _out_of_time(self) -> str | None:
        if self.deadline is None or self.canceled_at is None or self.canceled_at < self.deadline:
            return None
        return f"the run took longer than {duration_text(from_iso(self.deadline) - from_iso(self.created_at))}"

    # ------------------------------------------------------------------ restart

    @classmethod
    def restore(
        cls,
        run_id: str,
        plan: Plan,
        created_at: str,
        records: Iterable[StepRecord],
        last_seq: int,
        deadline: str | None = None,
        canceled_at: str | None = None,
    ) -> Run:
        """The state of a stored run. Steps that may start and have not are in `ready`; `queued` and `running` ones keep
        their place, for the caller to settle. No events come of it."""
        run = cls(run_id, plan, created_at, last_seq, deadline)
        run.canceled_at = canceled_at
        run.steps = list(records)
        for position, record in enumerate(run.steps):
            if record.status in ENDED:
                run._job_left[plan.steps[position].job] -= 1
                for dependent in run._step_dependents[position]:
                    run._step_waits[dependent] -= 1
        for index, job in enumerate(plan.jobs):
            records_of_job = run.steps[job.first : job.first + job.size]
            if run._job_left[index] == 0:
                run._job_status[index] = _combined([record.status for record in records_of_job])
                run._jobs_left -= 1
                for dependent in run._job_dependents[index]:
                    run._job_waits[dependent] -= 1
        for index, job in enumerate(plan.jobs):
            if run._job_left[index] and any(
                record.status != "pending" for record in run.steps[job.first : job.first + job.size]
            ):
                run._job_status[index] = "running"
                run._jobs_running += 1
                run._job_steps_running[index] = sum(
                    record.status in ("queued", "running") for record in run.steps[job.first : job.first + job.size]
                )
                run._offer_steps(index, range(job.first, job.first + job.size))
        return run

    def resume(self, now: str) -> None:
        """After `restore`: start the jobs that had not begun, and end the run if nothing is left."""
        startable = [i for i, status in enumerate(self._job_status) if status == "pending" and not self._job_waits[i]]
        self._settle_jobs(startable, now)
        if self._jobs_left == 0:
            self._end_run(now)

    # ------------------------------------------------------------------ what follows

    def _emit(self, now: str, kind: str, **fields: object) -> None:
        self._seq += 1
        self.events.append({"run": self.id, "seq": self._seq, "time": now, "kind": kind, **fields})

    def _emit_step(self, position: int, now: str, kind: str, **fields: object) -> None:
        step = self.plan.steps[position]
        self._emit(now, kind, job=self.plan.jobs[step.job].name, step=step.name, **fields)

    def _settle_jobs(self, indices: Iterable[int], now: str) -> None:
        """Jobs whose dependencies have all ended: start them, or skip them with all their steps."""
        skipped: list[tuple[int, str, str | None, int | None, Sequence[Mapping[str, object]]]] = []
        for index in indices:
            job = self.plan.jobs[index]
            if self.canceling:
                continue
            if all(self._job_status[on] in CONDITIONS[condition] for on, condition in job.depends_on):
                self._jobs_waiting.append(index)
            else:
                skipped += [(p, "skipped", None, None, ()) for p in range(job.first, job.first + job.size)]
        self._start_jobs(now)
        if skipped:
            self._end_steps(skipped, now)

    def _start_jobs(self, now: str) -> None:
        limit = self.plan.concurrency
        while self._jobs_waiting and (limit == 0 or self._jobs_running < limit):
            index = self._jobs_waiting.popleft()
            self._job_status[index] = "running"
            self._jobs_running += 1
            job = self.plan.jobs[index]
            self._emit(now, "job-started", job=job.name)
            self._offer_steps(index, range(job.first, job.first + job.size))

    def _offer_steps(self, job: int, positions: Iterable[int]) -> None:
        """Hand out those of a running job's steps that wait for nothing, as far as the job's limit goes."""
        waiting = self._job_steps_waiting[job]
        for position in positions:
            if self._step_waits[position] == 0 and self.steps[position].status == "pending":
                waiting.append(position)
        limit = self.plan.jobs[job].concurrency
        while waiting and (limit == 0 or self._job_steps_running[job] < limit):
            self._job_steps_running[job] += 1
            self.ready.append(waiting.popleft())

    def _end_steps(
        self,
        endings: list[tuple[int, str, str | None, int | None, Sequence[Mapping[str, object]]]],
        now: str,
    ) -> None:
        """End these steps and everything that ends because of them, first come first served (no recursion: chains of
        skipped steps may be as long as the workflow)."""
        work = deque(endings)
        while work:
            position, status, error, duration_ms, data = work.popleft()
            record = self.steps[position]
            if record.status in ENDED:
                continue
            record.status, record.ended_at, record.error = status, now, error
            self.changed.add(position)
            self._emit_step(
                position, now, "step-finished", status=status, error=error, durationMs=duration_ms, data=list(data)
            )
            index = self.plan.steps[position].job
            self.step_ends.append((self.plan.steps[position].target, status, duration_ms))
            self._job_left[index] -= 1
            offered = []
            for dependent in self._step_dependents[position]:
                self._step_waits[dependent] -= 1
                if self._step_waits[dependent] or self.steps[dependent].status in ENDED:
                    continue
                conditions = self.plan.steps[dependent].depends_on
                if self.canceling:
                    work.append((dependent, "canceled", None, None, ()))
                elif all(self.steps[on].status in CONDITIONS[condition] for on, condition in conditions):
                    offered.append(dependent)
                else:
                    work.append((dependent, "skipped", None, None, ()))
            if self._job_status[index] == "running":
                self._offer_steps(index, offered)
            if self._job_left[index] == 0:
                work.extend(self._end_job(index, now))

    def _end_job(
        self, index: int, now: str
    ) -> list[tuple[int, str, str | None, int | None, Sequence[Mapping[str, object]]]]:
        job = self.plan.jobs[index]
        if self._job_status[index] == "running":
            self._jobs_running -= 1
        status = _combined([record.status for record in self.steps[job.first : job.first + job.size]])
        self._job_status[index] = status
        self._jobs_left -= 1
        self._emit(now, "job-finished", job=job.name, status=status)
        endings: list[tuple[int, str, str | None, int | None, Sequence[Mapping[str, object]]]] = []
        for dependent in self._job_dependents[index]:
            self._job_waits[dependent] -= 1
            # Without steps left it was canceled before it began.
            if self._job_waits[dependent] or self._job_left[dependent] == 0 or self.canceling:
                continue
            waiting = self.plan.jobs[dependent]
            if all(self._job_status[on] in CONDITIONS[condition] for on, condition in waiting.depends_on):
                self._jobs_waiting.append(dependent)
            else:
                endings += [(p, "skipped", None, None, ()) for p in range(waiting.first, waiting.first + waiting.size)]
        self._start_jobs(now)
        if self._jobs_left == 0:
            self._end_run(now)
        return endings

    def _end_run(self, now: str) -> None:
        if self.status != "running":
            return
        counts = {"succeeded": 0, "failed": 0, "skipped": 0, "canceled": 0}
        first_failure = ""
        for position, record in enumerate(self.steps):
            counts[record.status] += 1
            if record.status == "failed" and not first_failure:
                step = self.plan.steps[position]
                first_failure = f"{self.plan.jobs[step.job].name}/{step.name}: {record.error}"
        combined = _combined(self._job_status)
        # A run in which every condition said no has done what it was told.
        self.status = "succeeded" if combined == "skipped" else combined
        self.error = first_failure or (self._out_of_time() if self.status == "canceled" else None)
        duration = from_iso(now) - from_iso(self.created_at)
        self._emit(
            now,
            "run-finished",
            status=self.status,
            error=self.error,
            durationMs=max(0, round(duration.total_seconds() * 1000)),
            **counts,
        )


def _combined(statuses: Sequence[str]) -> str:
    for status in ("failed", "canceled", "succeeded"):
        if status in statuses:
            return status
    return "skipped"
