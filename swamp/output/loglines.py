"""What the steps print and nothing else, as it comes: `[job/step] line`."""

from __future__ import annotations

from typing import TextIO

from swamp.output.fields import text_of
from swamp.output.text import harmless, output_lines
from swamp.workflows.events import Event


class LogLines:
    """Writes output to a stream, notes to another."""

    def __init__(self, stream: TextIO, talk: TextIO) -> None:
        self._stream = stream
        self._talk = talk

    def event(self, event: Event) -> None:
        if event.get("kind") != "step-output":
            return
        place = harmless(f"{text_of(event, 'job')}/{text_of(event, 'step')}")
        self._stream.write("".join(f"[{place}] {line}\n" for line in output_lines(text_of(event, "text"))))
        self._stream.flush()

    def note(self, text: str) -> None:
        self._talk.write(text + "\n")
        self._talk.flush()

    def close(self) -> None:
        self._stream.flush()
