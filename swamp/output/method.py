"""The run of a single method: its output as it comes, each stream on its own, then how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from swamp.output.fields import items_of, number_of, text_of
from swamp.output.paint import Colour
from swamp.output.terminal import paint_for
from swamp.output.text import duration, harmless, output_lines
from swamp.workflows.events import Event


class MethodEnd:
    """How the run of a method ended, for the view and for `--json`."""

    def __init__(self) -> None:
        self.run = ""
        self.status = ""  #: "" until it ended
        self.error: str | None = None
        self.duration_ms: int | None = None
        self.data: list[Mapping[str, object]] = []

    def event(self, event: Event) -> None:
        """Take in the next event of the run."""
        kind = event.get("kind")
        if kind == "run-accepted":
            self.run = text_of(event, "run")
        elif kind == "step-finished":
            self.status = text_of(event, "status")
            self.error = text_of(event, "error") or None
            self.duration_ms = number_of(event, "durationMs")
            self.data = items_of(event, "data")


class MethodView:
    """Shows output lines plainly: stdout on `stream`, stderr on `talk`.

    A terminal gets them harmless; a pipe gets them as they are, for it is data there.
    """

    def __init__(self, stream: TextIO, talk: TextIO, environ: Mapping[str, str]) -> None:
        self._streams = {"stdout": stream, "stderr": talk}
        self._talk = talk
        self._paint = paint_for(talk, environ)

    def event(self, event: Event) -> None:
        if event.get("kind") == "step-output":
            stream = self._streams.get(text_of(event, "stream"), self._talk)
            text = text_of(event, "text")
            stream.write(("\n".join(output_lines(text)) if stream.isatty() else text) + "\n")
            stream.flush()

    def ended(self, model: str, method: str, end: MethodEnd) -> None:
        """The last line, beside the data."""
        took = f" in {duration(end.duration_ms)}" if end.duration_ms is not None else ""
        if end.status == "succeeded":
            line = f"{self._paint('✓', Colour.GOOD)} {model} {method} succeeded{took}"
        else:
            reason = f": {harmless(end.error)}" if end.error else ""
            line = f"{self._paint('✗', Colour.BAD)} {model} {method} {harmless(end.status)}{took}{reason}"
        self._talk.write(line + "\n")
        self._talk.flush()
