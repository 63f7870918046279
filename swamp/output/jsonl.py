"""The run for programs: one event a line, as JSON in ASCII, so that no reader sees a line break inside an event."""

from __future__ import annotations

import json
from typing import TextIO

from swamp.workflows.events import Event


class JsonLines:
    """Writes every event as it is, the ones of kinds unknown here too."""

    def __init__(self, stream: TextIO, talk: TextIO) -> None:
        self._stream = stream
        self._talk = talk

    def event(self, event: Event) -> None:
        self._stream.write(json.dumps(event, separators=(",", ":")) + "\n")
        self._stream.flush()

    def note(self, text: str) -> None:
        self._talk.write(text + "\n")
        self._talk.flush()

    def close(self) -> None:
        self._stream.flush()
