"""A workflow: jobs made of steps, and what each of them waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

TASK_TYPE = "model_method"

Condition = Literal["succeeded", "failed", "completed", "skipped", "always"]

CONDITIONS: tuple[Condition, ...] = get_args(Condition)

OnWorkerLost = Literal["fail", "retry"]

ON_WORKER_LOST: tuple[OnWorkerLost, ...] = get_args(OnWorkerLost)

LOST_TIMEOUT = 60  #: seconds, unless the step says otherwise


@dataclass(frozen=True)
class Dependency:
    """Wait until `on` has ended, then go on only if it ended as `condition` says.

    `completed` is succeeded or failed; `always` is any end.
    """

    on: str  #: the name of a job (in a job) or of a step of the same job (in a step)
    condition: Condition
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Task:
    """Which method of which model a step calls."""

    model: str  #: the model's name or id
    method: str
    inputs: Mapping[str, object]  #: laid over the model's own arguments; JSON values only


@dataclass(frozen=True)
class Step:
    name: str
    task: Task
    target: str | None  #: where it runs; None: beside the engine
    depends_on: tuple[Dependency, ...] = ()
    description: str = ""
    #: What to do when the machine is lost while the step runs: `fail`, or `retry` for work that may safely run twice.
    on_worker_lost: OnWorkerLost = "fail"
    lost_timeout: int = LOST_TIMEOUT  #: seconds that a step which must not run twice waits for a lost machine's result
    queue_timeout: int | None = None  #: seconds that it may wait for a worker; None: as long as it takes
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Job:
    name: str
    steps: tuple[Step, ...]
    depends_on: tuple[Dependency, ...] = ()
    concurrency: int | None = None  #: steps at once; None: no limit
    description: str = ""
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Workflow:
    """A checked workflow: names are unique, references lead somewhere, nothing waits for itself."""

    id: str
    name: str
    description: str
    version: int
    tags: Mapping[str, str]  #: laid over the models' tags on everything that a run produces
    concurrency: int | None  #: jobs at once; None: no limit
    jobs: tuple[Job, ...]
    path: str = field(default="", compare=False)  #: where it was read from, as errors name it: `workflows/x.yaml`


def document(workflow: Workflow) -> dict[str, object]:
    """The workflow as JSON values, in the form of its file; written as YAML, `parse_workflow` reads it back."""
    return _without_empty(
        id=workflow.id,
        name=workflow.name,
        description=workflow.description,
        tags=dict(workflow.tags),
        concurrency=workflow.concurrency,
        jobs=[_job_document(job) for job in workflow.jobs],
        version=workflow.version,
    )


def _job_document(job: Job) -> dict[str, object]:
    return _without_empty(
        name=job.name,
        description=job.description,
        dependsOn=[{"job": one.on, "condition": one.condition} for one in job.depends_on],
        concurrency=job.concurrency,
        steps=[_step_document(step) for step in job.steps],
    )


def _step_document(step: Step) -> dict[str, object]:
    task = _without_empty(
        type=TASK_TYPE, modelIdOrName=step.task.model, methodName=step.task.method, inputs=dict(step.task.inputs)
    )
    return _without_empty(
        name=step.name,
        description=step.description,
        target=step.target,
        onWorkerLost=step.on_worker_lost if step.on_worker_lost != "fail" else None,
        lostTimeout=step.lost_timeout if step.lost_timeout != LOST_TIMEOUT else None,
        queueTimeout=step.queue_timeout,
        dependsOn=[{"step": one.on, "condition": one.condition} for one in step.depends_on],
        task=task,
    )


def _without_empty(**fields: object) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}
