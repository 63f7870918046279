"""A run of many steps, so that the screen stays readable: what went wrong is shown, the rest is counted. Pure.

── 100,000 steps: those that succeed are counted here, not shown.
── What they print: swamp workflow logs 5d3c
── 12,000 of 100,000 steps ended: 11,999 succeeded, 1 failed
build                                                                   ✗compile
│ main.c: no such file
│ Error: Command exited with code 2

Time is that of the events: a run is told in the same lines whenever it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from swamp.clock import from_iso
from swamp.output.blocks import step_block
from swamp.output.fields import number_of, text_of
from swamp.output.paint import Colour, Paint
from swamp.output.progress import Progress, StepProgress, Tail
from swamp.output.text import harmless
from swamp.workflows.events import Event

MANY_STEPS = 300
"""A run of more steps than this is shown abridged."""

SHOWN_STEPS = 50
"""So many steps are shown of those that went wrong; a cause that they have in common is among them."""

SHOWN_LINES = 1_000
"""When so many lines were shown of steps that went wrong, only the errors of further ones are, without their output."""

BRISK = 1.0  #: seconds; two lines that say how far the run is are at least so far apart
SLOW = 60.0  #: seconds after which such a line is due even if little has happened
PARTS = 100  #: otherwise one is due when this part of the steps has ended since the last

_STATUSES = ("succeeded", "failed", "skipped", "canceled")


def went_wrong(event: Event) -> bool:
    """Whether the step that `event` ended is one to be shown: it failed, or it did not do its work for a reason that
    the counts do not tell. Steps that never began because others failed, or because the run was canceled, have none."""
    status = text_of(event, "status")
    if status == "succeeded":
        return False
    if status in ("skipped", "canceled"):
        return bool(text_of(event, "error")) or number_of(event, "durationMs") is not None
    return True


def is_due(steps: int, of: int, seconds: float) -> bool:
    """Whether to say how far the run is: since it was said last, `steps` of all the `of` ended, in `seconds`.

    At most once in `BRISK` seconds, and at most `PARTS` times in a run, but for once in `SLOW` seconds.
    """
    return seconds >= SLOW or (seconds >= BRISK and steps * PARTS >= of)


class Abridged:
    """Turns the ends of a long run's steps into lines; `accepted` is the event that the run began with."""

    def __init__(self, progress: Progress, accepted: Event, columns: Callable[[], int], paint: Paint) -> None:
        self._progress = progress
        self._columns = columns
        self._paint = paint
        self._run = harmless(progress.run)
        self._shown_steps = 0
        self._shown_lines = 0
        self._said_at = _time_of(accepted) or 0.0
        self._said_ended = 0

    def opening(self) -> list[str]:
        """What the reader of all that follows has to know."""
        return [
            self._remark(f"{self._progress.steps:,} steps: those that succeed are counted here, not shown."),
            self._remark(f"What they print: swamp workflow logs {self._run}"),
        ]

    def of(self, step: StepProgress, event: Event) -> list[str]:
        """The lines to write because `event` ended the step, which `progress` has counted."""
        block = self._block(step, event) if went_wrong(event) else []
        return block + self._how_far(event)

    def _block(self, step: StepProgress, event: Event) -> list[str]:
        if self._shown_steps > SHOWN_STEPS:
            return []
        self._shown_steps += 1
        if self._shown_steps > SHOWN_STEPS:
            return [
                self._remark(f"{SHOWN_STEPS} steps that did not succeed are shown; from here on they are counted."),
                self._remark(f"All of them: swamp workflow history get {self._run}"),
            ]
        if self._shown_lines >= SHOWN_LINES and step.tail is not None:
            step.tail = Tail(left_out=step.tail.left_out + len(step.tail.lines))
        block = step_block(step, event, self._progress.run, self._columns(), self._paint)
        self._shown_lines += len(block)
        return block

    def _how_far(self, event: Event) -> list[str]:
        time = _time_of(event)
        ended = self._progress.ended
        # A clock that was set back must not silence the run until it has caught up.
        if time is None or not is_due(
            ended.total() - self._said_ended, self._progress.steps, abs(time - self._said_at)
        ):
            return []
        self._said_at, self._said_ended = time, ended.total()
        counts = ", ".join(f"{ended[status]:,} {status}" for status in _STATUSES if ended[status])
        return [self._remark(f"{ended.total():,} of {self._progress.steps:,} steps ended: {counts}")]

    def _remark(self, text: str) -> str:
        """A line about the run; a bar would make it look like the output of the step above it."""
        return self._paint(f"── {text}", Colour.FAINT)


def _time_of(event: Event) -> float | None:
    """The event's time in seconds; None where it is none."""
    try:
        return from_iso(text_of(event, "time")).timestamp()
    except ValueError:
        return None
