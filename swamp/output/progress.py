"""How far a run is, from its events. Every event costs the same, however many steps the run has. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from swamp.output.fields import items_of, text_of
from swamp.workflows.events import Event

KEPT_LINES = 1_000
KEPT_CHARACTERS = 1 << 20

Key = tuple[str, str]  #: job, step


@dataclass(slots=True)
class Tail:
    """The last lines that a step printed, bounded in lines and in characters (the last line is always there)."""

    lines: deque[str] = field(default_factory=deque)
    left_out: int = 0  #: how many lines before these were let go
    _characters: int = 0

    def add(self, text: str) -> None:
        """Append lines joined by newlines."""
        for line in text.split("\n"):
            self.lines.append(line)
            self._characters += len(line)
            while len(self.lines) > KEPT_LINES or (self._characters > KEPT_CHARACTERS and len(self.lines) > 1):
                self._characters -= len(self.lines.popleft())
                self.left_out += 1


@dataclass(slots=True)
class StepProgress:
    """A step that was queued or started and has not ended."""

    job: str
    step: str
    since: float  #: when it was queued or started, in seconds of the caller's clock
    target: str = ""
    worker: str = ""
    tail: Tail | None = None  #: None until it prints something


class Progress:
    """The state of one run as far as its events were applied."""

    def __init__(self) -> None:
        self.run = ""
        self.workflow = ""
        self.steps = 0
        self.ended: Counter[str] = Counter()  #: number of ended steps by status
        self.running: dict[Key, StepProgress] = {}
        self.queued: dict[Key, StepProgress] = {}
        self.queued_by_target: Counter[str] = Counter()

    def apply(self, event: Event, now: float) -> StepProgress | None:
        """Take the event in; the step that it ended, if it ended one."""
        kind = event.get("kind")
        if kind == "run-accepted":
            self.run = text_of(event, "run")
            self.workflow = text_of(event, "workflow")
            self.steps = sum(len(items_of(job, "steps")) for job in items_of(event, "jobs"))
        elif kind == "step-queued":
            step = self._take(event, now)
            self.queued[step.job, step.step] = step
            self.queued_by_target[step.target] += 1
        elif kind == "step-started":
            step = self._take(event, now)
            step.worker = text_of(event, "worker")
            self.running[step.job, step.step] = step
        elif kind == "step-output":
            self._print(event, now)
        elif kind == "step-finished":
            self.ended[text_of(event, "status")] += 1
            return self._take(event, now)
        return None

    def _print(self, event: Event, now: float) -> None:
        key = (text_of(event, "job"), text_of(event, "step"))
        step = self.running.get(key)
        if step is None:  # attached late: its start was before the first event we were sent
            step = self.running[key] = self._take(event, now)
        if step.tail is None:
            step.tail = Tail()
        step.tail.add(text_of(event, "text"))

    def _take(self, event: Event, now: float) -> StepProgress:
        """The event's step, removed from where it waited or ran; it keeps its output when it is queued once more."""
        key = (text_of(event, "job"), text_of(event, "step"))
        step = self.running.pop(key, None)
        if step is None and (step := self.queued.pop(key, None)) is not None:
            self.queued_by_target[step.target] -= 1
            if not self.queued_by_target[step.target]:
                del self.queued_by_target[step.target]
        if step is None:
            step = StepProgress(*key, since=now)
        step.since = now
        step.target = text_of(event, "target") or step.target
        return step
