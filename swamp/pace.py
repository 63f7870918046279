"""Log lines about single steps, at a pace that people can read and that costs fast work nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

LINES_PER_SECOND = 40


class Pace:
    """Lets the first lines of every second through and counts the rest; the next second begins with the count."""

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

    def info(self, text: str, *arguments: object, about: Callable[[], Mapping[str, object]] | None = None) -> None:
        """As `Logger.info`; `about` makes the `extra`, and is only asked for a line that is let through."""
        second = int(self._monotonic())
        if second != self._second:
            self.catch_up()
            self._second, self._said = second, 0
        self._said += 1
        if self._said > self._limit:
            self._left_out += 1
        else:
            self._log.info(text, *arguments, extra=about() if about is not None else None)

    def catch_up(self) -> None:
        """Say how many lines were left out, if any; to be called now and then when nothing else is said."""
        if self._left_out and int(self._monotonic()) != self._second:
            self._log.info("(%d more lines like these)", self._left_out)
            self._left_out = 0
