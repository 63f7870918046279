"""Runs as lists of events, made the way an engine makes them."""

from __future__ import annotations

from collections.abc import Iterable

from swamp.workflows.events import Event


class Story:
    """Builds the events of one run; every method adds one and returns it."""

    def __init__(self, workflow: str = "remote-demo", run: str = "5d3c") -> None:
        self.workflow = workflow
        self.run = run
        self.events: list[Event] = []

    def add(self, kind: str, **fields: object) -> Event:
        seq = len(self.events) + 1
        time = f"2026-06-15T11:34:{seq % 60:02d}.000Z"
        event: Event = {"run": self.run, "seq": seq, "time": time, "kind": kind, **fields}
        self.events.append(event)
        return event

    def accepted(self, jobs: Iterable[tuple[str, Iterable[str]]], target: str = "") -> Event:
        step = {"target": target, "model": "remote-echo", "modelType": "command/shell", "method": "execute"}
        described = [{"name": job, "steps": [{"name": name, **step} for name in steps]} for job, steps in jobs]
        return self.add("run-accepted", workflow=self.workflow, runKind="workflow", jobs=described)

    def queued(self, job: str, step: str, target: str) -> Event:
        return self.add("step-queued", job=job, step=step, target=target, dispatch=f"{target}--1")

    def started(self, job: str, step: str, target: str = "", worker: str = "") -> Event:
        return self.add("step-started", job=job, step=step, target=target, machine="", worker=worker)

    def output(self, job: str, step: str, text: str, stream: str = "stdout") -> Event:
        return self.add("step-output", job=job, step=step, stream=stream, text=text)

    def finished(
        self, job: str, step: str, status: str = "succeeded", error: str | None = None, took: int | None = 12
    ) -> Event:
        return self.add("step-finished", job=job, step=step, status=status, error=error, durationMs=took, data=[])

    def ended(self, status: str = "succeeded", error: str | None = None, **counts: int) -> Event:
        zero = {"succeeded": 0, "failed": 0, "skipped": 0, "canceled": 0}
        return self.add("run-finished", status=status, error=error, durationMs=40, **{**zero, **counts})


def tutorial() -> list[Event]:
    """The run of the tutorial, as an orchestrator tells it."""
    story = Story()
    story.accepted([("build", ["echo-on-worker"])], target="build-node")
    story.add("job-started", job="build")
    story.queued("build", "echo-on-worker", "build-node")
    story.started("build", "echo-on-worker", "build-node", "build-node")
    story.output("build", "echo-on-worker", "executed on a worker")
    story.finished("build", "echo-on-worker")
    story.add("job-finished", job="build", status="succeeded")
    story.ended(succeeded=1)
    return story.events
