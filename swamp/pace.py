"""Log lines about single steps, at a pace that people can read and that costs fast work nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

LINES_PER_SECOND = 40

_About = Callable[[], Mapping[str, object]]


class Pace:
    """Lets the first lines of every second through and counts the rest; the next second begins with the count. Lines
    bear the time when they were given, and are written by `catch_up`, behind the work that they tell of: a line takes
    as long as a stage of a step. Belongs to one thread."""

    def __init__(
        self,
        log: logging.Logger,
        limit: int = LINES_PER_SECOND,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._limit = limit
        self._monotonic = monotonic
        self._second = 0
        self._said = 0
        self._left_out = 0
        self._lines: list[logging.LogRecord] = []

    def info(self, text: str, *arguments: object, about: _About | None = None) -> None:
        """As `Logger.info`; `about` makes the `extra`, and is only asked for a line that is let through."""
        second = int(self._monotonic())
        if second != self._second:
            self._tell_left_out()
            self._second, self._said = second, 0
        self._said += 1
        if self._said > self._limit:
            self._left_out += 1
        else:
            self.always(text, *arguments, about=about)

    def always(self, text: str, *arguments: object, about: _About | None = None) -> None:
        """As `info`, in its order, for what is never left out."""
        if self._log.isEnabledFor(logging.INFO):
            extra = about() if about is not None else None
            self._lines.append(
                self._log.makeRecord(self._log.name, logging.INFO, "", 0, text, arguments, None, extra=extra)
            )

    def catch_up(self) -> None:
        """Write the lines there are; and how many were left out, if any, once their second is over. To be called now
        and then, also when nothing was said."""
        if self._left_out and int(self._monotonic()) != self._second:
            self._tell_left_out()
        if self._lines:
            lines, self._lines = self._lines, []
            for line in lines:
                self._log.handle(line)

    def _tell_left_out(self) -> None:
        if self._left_out:
            self.always("(%d more lines like these)", self._left_out)
            self._left_out = 0
