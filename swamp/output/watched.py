"""What a command that shows a run has to know of it: its id, and how it ended."""

from __future__ import annotations

from swamp.errors import Failed, Interrupted
from swamp.output.fields import number_of, text_of
from swamp.output.listener import Listener
from swamp.workflows.events import Event


class Watched:
    """Passes the events of a run on to its view and remembers what the command itself has to know."""

    def __init__(self, workflow: str, view: Listener) -> None:
        self.run = ""
        self._workflow = workflow
        self._view = view
        self._end: Event = {}

    def event(self, event: Event) -> None:
        kind = event.get("kind")
        if kind == "run-accepted":
            self.run = text_of(event, "run")
        elif kind == "run-finished":
            self._end = event
        self._view.event(event)

    def check(self, *, interrupted: bool = False) -> None:
        """Raises `Failed` unless the run succeeded, `Interrupted` if Ctrl-C is why it did not."""
        status = text_of(self._end, "status") or "not finished"
        if status == "succeeded":
            return
        if interrupted:
            raise Interrupted(
                f"{self._workflow} was interrupted: {status}", hint=f"see: swamp workflow history get {self.run}"
            )
        reason = text_of(self._end, "error")
        more = (number_of(self._end, "failed") or 0) - 1
        message = f"{self._workflow} {status}" + (f": {reason}" if reason else "")
        raise Failed(
            message + (f" (and {more} more)" if reason and more > 0 else ""),
            hint=f"what its steps printed: swamp workflow history logs {self.run}",
            code=f"run_{status.replace(' ', '_')}",
        )
