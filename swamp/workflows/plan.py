"""A run's plan: jobs, steps and the calls they make, frozen when the run is accepted. Pure.

Editing a workflow or a model while a run goes on changes nothing about that run, and a restarted orchestrator goes on
from the stored plan. Steps are numbered through (`position`), so that everything else can name one by an integer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from swamp.errors import SwampError
from swamp.models.invocation import Invocation
from swamp.workflows.workflow import Dependency, Step, Task, Workflow


@dataclass(frozen=True, slots=True)
class PlannedStep:
    name: str
    job: int  #: index in `Plan.jobs`
    target: str  #: "" where the step is not placed
    call: int  #: index in `Plan.calls`
    depends_on: tuple[tuple[int, str], ...]  #: (position, condition)
    on_worker_lost: str = "fail"  #: `fail` or `retry`
    lost_timeout: int = 60  #: seconds
    queue_timeout: int = 0  #: seconds; 0 is no limit


@dataclass(frozen=True, slots=True)
class PlannedJob:
    name: str
    first: int  #: position of its first step
    size: int  #: how many steps; they follow each other
    concurrency: int  #: steps at once; 0 is no limit
    depends_on: tuple[tuple[int, str], ...]  #: (index in `Plan.jobs`, condition)


@dataclass(frozen=True, slots=True)
class Plan:
    kind: str  #: `workflow`, or `method` for a single call made by `model method run`
    workflow_id: str
    workflow_name: str
    concurrency: int  #: jobs at once; 0 is no limit
    jobs: tuple[PlannedJob, ...]
    steps: tuple[PlannedStep, ...]
    calls: tuple[Invocation, ...]  #: distinct calls; a fan-out of one model holds it once

    def to_json(self) -> str:
        if any(call.secrets for call in self.calls):
            raise ValueError("a plan holds references to secrets, never secrets")
        # Not `asdict`, which copies everything one by one: a workflow may have a hundred thousand steps.
        document = {
            **_fields(self),
            "jobs": [_fields(job) for job in self.jobs],
            "steps": [_fields(step) for step in self.steps],
            "calls": [_fields(call) for call in self.calls],
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    def described_jobs(self) -> list[dict[str, object]]:
        """The `jobs` field of the `run-accepted` event."""
        described: list[dict[str, object]] = []
        for job in self.jobs:
            steps = []
            for step in self.steps[job.first : job.first + job.size]:
                call = self.calls[step.call]
                steps.append(
                    {
                        "name": step.name,
                        "target": step.target,
                        "model": call.model_name,
                        "modelType": call.model_type,
                        "method": call.method,
                    }
                )
            described.append({"name": job.name, "steps": steps})
        return described

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(step.target for step in self.steps if step.target)


def _fields(value: Plan | PlannedJob | PlannedStep | Invocation) -> dict[str, object]:
    names = _NAMES.get(type(value)) or _NAMES.setdefault(type(value), tuple(field.name for field in fields(value)))
    return {name: getattr(value, name) for name in names}


_NAMES: dict[type, tuple[str, ...]] = {}


def plan_from_json(text: str) -> Plan:
    """The inverse of `Plan.to_json`."""
    document = json.loads(text)

    def edges(pairs: list[list[object]]) -> tuple[tuple[int, str], ...]:
        return tuple((int(str(on)), str(condition)) for on, condition in pairs)

    return Plan(
        kind=document["kind"],
        workflow_id=document["workflow_id"],
        workflow_name=document["workflow_name"],
        concurrency=document["concurrency"],
        jobs=tuple(PlannedJob(**{**job, "depends_on": edges(job["depends_on"])}) for job in document["jobs"]),
        steps=tuple(PlannedStep(**{**step, "depends_on": edges(step["depends_on"])}) for step in document["steps"]),
        calls=tuple(Invocation(**{**call, "secrets": ()}) for call in document["calls"]),
    )


def plan_workflow(workflow: Workflow, resolve: Callable[[Task], Invocation]) -> Plan:
    """The plan of a checked workflow. `resolve` turns a task into the call it makes, or raises a `SwampError` that says
    why it cannot; it is passed on with the file, the line and the step."""
    job_index = {job.name: index for index, job in enumerate(workflow.jobs)}
    calls: list[Invocation] = []
    known_calls: dict[str, int] = {}
    jobs: list[PlannedJob] = []
    steps: list[PlannedStep] = []

    def call_of(step: Step) -> int:
        task = step.task
        key = json.dumps([task.model, task.method, dict(task.inputs)], sort_keys=True)
        if key not in known_calls:
            known_calls[key] = len(calls)
            try:
                call = resolve(task)
            except SwampError as error:
                where = f"{workflow.path}:{step.line}: step '{step.name}'"
                raise type(error)(f"{where}: {error.message}", hint=error.hint, code=error.code) from error
            calls.append(replace(call, tags={**call.tags, **workflow.tags}))
        return known_calls[key]

    def edges(
        dependencies: tuple[Dependency, ...], index: Mapping[str, int], first: int
    ) -> tuple[tuple[int, str], ...]:
        return tuple((first + index[dependency.on], dependency.condition) for dependency in dependencies)

    for number, job in enumerate(workflow.jobs):
        first = len(steps)
        step_index = {step.name: index for index, step in enumerate(job.steps)}
        for step in job.steps:
            steps.append(
                PlannedStep(
                    name=step.name,
                    job=number,
                    target=step.target or "",
                    call=call_of(step),
                    depends_on=edges(step.depends_on, step_index, first),
                    on_worker_lost=step.on_worker_lost,
                    lost_timeout=step.lost_timeout,
                    queue_timeout=step.queue_timeout or 0,
                )
            )
        jobs.append(
            PlannedJob(job.name, first, len(job.steps), job.concurrency or 0, edges(job.depends_on, job_index, 0))
        )
    return Plan(
        "workflow", workflow.id, workflow.name, workflow.concurrency or 0, tuple(jobs), tuple(steps), tuple(calls)
    )


def plan_probe(target: str) -> Plan:
    """The plan of a probe of a target: it starts no process, so it may be sent again when a worker is lost."""
    probe = Invocation("swamp-verify", "swamp-verify", "swamp/probe", "echo", {"message": "verify"}, {})
    plan = plan_method(probe)
    return replace(plan, steps=(replace(plan.steps[0], target=target, on_worker_lost="retry"),))


def plan_method(invocation: Invocation) -> Plan:
    """The plan of a single call: one job and one step, both named after the method."""
    step = PlannedStep(invocation.method, 0, "", 0, ())
    job = PlannedJob(invocation.model_name, 0, 1, 0, ())
    return Plan("method", "", "", 0, (job,), (step,), (invocation,))
