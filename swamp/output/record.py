"""A past or present run as its stored events tell it: what history commands show. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from swamp.clock import from_iso
from swamp.output.fields import items_of, number_of, text_of
from swamp.workflows.events import Event


@dataclass(slots=True)
class StepRecord:
    """A step as far as the events go; times are ISO 8601 text, None where there is none yet."""

    name: str
    target: str
    model: str
    method: str
    status: str = "pending"
    machine: str = ""
    worker: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    duration_ms: int | None = None
    error: str | None = None
    data: list[Mapping[str, object]] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """The step's `--json` form."""
        return {
            "name": self.name,
            "status": self.status,
            "target": self.target,
            "modelName": self.model,
            "methodName": self.method,
            "machine": self.machine,
            "worker": self.worker,
            "startedAt": self.started_at,
            "endedAt": self.ended_at,
            "durationMs": self.duration_ms,
            "error": self.error,
            "dataArtifacts": self.data,
        }


@dataclass(slots=True)
class JobRecord:
    """A job as far as the events go."""

    name: str
    steps: dict[str, StepRecord]
    status: str = "pending"
    started_at: str | None = None
    ended_at: str | None = None

    def document(self) -> dict[str, object]:
        """The job's `--json` form."""
        return {
            "name": self.name,
            "status": self.status,
            "startedAt": self.started_at,
            "endedAt": self.ended_at,
            "durationMs": milliseconds_between(self.started_at, self.ended_at),
            "steps": [step.document() for step in self.steps.values()],
        }


def jobs_of(events: Iterable[Event]) -> list[JobRecord]:
    """The jobs of the run with these events, in the order of the workflow."""
    jobs: dict[str, JobRecord] = {}
    for event in events:
        kind = text_of(event, "kind")
        if kind == "run-accepted":
            jobs = {text_of(planned, "name"): _planned(planned) for planned in items_of(event, "jobs")}
        elif (job := jobs.get(text_of(event, "job"))) is None:
            continue
        elif kind.startswith("job-"):
            _apply_to_job(job, kind, event)
        elif (step := job.steps.get(text_of(event, "step"))) is not None:
            _apply_to_step(step, kind, event)
    return list(jobs.values())


def printed(events: Iterable[Event]) -> Iterator[dict[str, object]]:
    """What the steps printed, line by line: `time`, `job`, `step`, `stream`, `text`."""
    for event in events:
        if event.get("kind") == "step-output":
            place = {name: text_of(event, name) for name in ("time", "job", "step", "stream")}
            for line in text_of(event, "text").split("\n"):
                yield {**place, "text": line}


def milliseconds_between(start: str | None, end: str | None) -> int | None:
    """None while one of them is missing."""
    if start is None or end is None:
        return None
    return max(0, round((from_iso(end) - from_iso(start)).total_seconds() * 1000))


def _planned(job: Mapping[str, object]) -> JobRecord:
    steps = [
        StepRecord(text_of(step, "name"), text_of(step, "target"), text_of(step, "model"), text_of(step, "method"))
        for step in items_of(job, "steps")
    ]
    return JobRecord(text_of(job, "name"), {step.name: step for step in steps})


def _apply_to_job(job: JobRecord, kind: str, event: Event) -> None:
    if kind == "job-started":
        job.status, job.started_at = "running", text_of(event, "time")
    elif kind == "job-finished":
        job.status, job.ended_at = text_of(event, "status"), text_of(event, "time")


def _apply_to_step(step: StepRecord, kind: str, event: Event) -> None:
    if kind == "step-queued":
        step.status, step.started_at = "queued", None
    elif kind == "step-started":
        step.status, step.started_at = "running", text_of(event, "time")
        step.machine, step.worker = text_of(event, "machine"), text_of(event, "worker")
    elif kind == "step-finished":
        step.status, step.ended_at = text_of(event, "status"), text_of(event, "time")
        step.duration_ms = number_of(event, "durationMs")
        step.error = text_of(event, "error") or None
        step.data = items_of(event, "data")
