"""What shows a run: every view of it is a listener to the same events."""

from __future__ import annotations

from typing import Protocol

from swamp.workflows.events import Event


class Listener(Protocol):
    """Shows a run. Events come in order and from one thread at a time."""

    def event(self, event: Event) -> None:
        """Take the next event of the run. Raises `OSError` when what it is shown on is gone."""

    def note(self, text: str) -> None:
        """Tell the person something beside the events."""

    def close(self) -> None:
        """Write what is still held back and leave the terminal as it was; also after a run that broke off."""
