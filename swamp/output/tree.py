"""The run as lines that stay, each step's block the moment it ends (of many steps, few of them: `abridged`): for pipes
and plain terminals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from swamp.output.abridged import MANY_STEPS, Abridged
from swamp.output.blocks import step_block, summary_block
from swamp.output.paint import Paint
from swamp.output.progress import Progress
from swamp.workflows.events import Event


class Lines:
    """Turns events into lines that stay, and knows how far the run is."""

    def __init__(self, columns: Callable[[], int], paint: Paint) -> None:
        self.progress = Progress()
        self._columns = columns
        self._paint = paint
        self._abridged: Abridged | None = None  #: once the run turns out to be a long one

    def of(self, event: Event, now: float) -> list[str]:
        """The lines to write because of this event; `now` in seconds of the caller's clock."""
        ended = self.progress.apply(event, now)
        if ended is not None:
            if self._abridged is not None:
                return self._abridged.of(ended, event)
            return step_block(ended, event, self.progress.run, self._columns(), self._paint)
        kind = event.get("kind")
        if kind == "run-accepted" and self.progress.steps > MANY_STEPS:
            self._abridged = Abridged(self.progress, event, self._columns, self._paint)
            return self._abridged.opening()
        if kind == "run-finished":
            return summary_block(self.progress.workflow, event, self._paint)
        return []


class Tree:
    """Writes the lines to a stream, notes to another."""

    def __init__(self, stream: TextIO, talk: TextIO, columns: Callable[[], int], paint: Paint) -> None:
        self._stream = stream
        self._talk = talk
        self._lines = Lines(columns, paint)

    def event(self, event: Event) -> None:
        lines = self._lines.of(event, 0.0)
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()

    def note(self, text: str) -> None:
        self._talk.write(text + "\n")
        self._talk.flush()

    def close(self) -> None:
        self._stream.flush()
