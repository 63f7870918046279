"""The run on a terminal: the lines that stay, and below them a zone that is redrawn while steps run."""

from __future__ import annotations

import threading
import time
from typing import TextIO

from swamp.output.paint import Paint
from swamp.output.terminal import Size
from swamp.output.text import width
from swamp.output.tree import Lines
from swamp.output.zone import zone
from swamp.workflows.events import Event

_INTERVAL = 0.1  #: seconds between two looks at what is new; nothing is drawn more often
_IDLE = 1.0  #: seconds until the zone is drawn again without news, for the times in it


class Live:
    """Draws from a thread of its own, so that times go on while no event comes and bursts cost one write.

    The terminal is written to under the lock: one that takes nothing (Ctrl-S) holds the events back instead of
    piling them up here. A run shorter than an interval never shows a zone.
    """

    def __init__(self, stream: TextIO, size: Size, paint: Paint) -> None:
        self._stream = stream
        self._size = size
        self._paint = paint
        self._lines = Lines(lambda: size().columns, paint)
        self._pending: list[str] = []
        self._news = False
        self._drawn: list[str] = []  #: the zone on the screen, as plain widths need it
        self._begun = time.monotonic()
        self._drawn_at = self._begun
        self._broken: OSError | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="live-view", daemon=True)
        self._thread.start()

    def event(self, event: Event) -> None:
        with self._lock:
            self._check()
            self._pending += self._lines.of(event, time.monotonic())
            self._news = True

    def note(self, text: str) -> None:
        with self._lock:
            self._pending.append(text)

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        self._check()
        self._write([])

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _watch(self) -> None:
        while not self._closed.wait(_INTERVAL):
            with self._lock:
                try:
                    self._draw(time.monotonic())
                except OSError as error:  # the terminal is gone: the thread that brings events shall hear of it
                    self._broken = error
                    return

    def _draw(self, now: float) -> None:
        if not self._news and not self._pending and now - self._drawn_at < _IDLE:
            return
        columns, rows = self._size()
        lines = zone(self._lines.progress, now - self._begun, now, columns, rows, self._paint)
        self._news = False
        self._drawn_at = now
        if self._pending or lines != self._drawn:
            self._write(lines)

    def _write(self, lines: list[str]) -> None:
        """One write: remove the zone, add the lines that stay, draw the new zone."""
        frame = self._erase() + "".join(f"{line}\n" for line in (*self._pending, *lines))
        self._pending.clear()
        self._drawn = lines
        if frame:
            self._stream.write(frame)
            self._stream.flush()

    def _erase(self) -> str:
        if not self._drawn:
            return ""
        # A terminal that became narrower has broken the zone's lines; those parts are rows of the zone, too.
        columns = max(1, self._size().columns)
        height = sum(max(1, -(-width(line) // columns)) for line in self._drawn)
        return f"\x1b[{height}A\r\x1b[J"
