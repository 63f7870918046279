"""What a worker does while its cache directory cannot be written: it leaves work to others, and tries again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("swamp.worker")

PAUSE_FIRST, PAUSE_LONGEST = 5.0, 60.0  #: seconds without new work after the cache directory could not be written


class DiskTrouble:
    """`give_back` leaves to other machines what is not begun here."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back = give_back
        self._complaint = ""
        self._pause, self._paused_until = PAUSE_FIRST, 0.0

    def pauses(self, now: float) -> bool:
        """Whether no new work is to be taken."""
        return now < self._paused_until

    def cannot_write(self, complaint: str) -> None:
        """Take no more for a while, and leave to others what is not begun."""
        now = time.monotonic()
        if now >= self._paused_until:
            self._paused_until, self._pause = now + self._pause, min(PAUSE_LONGEST, 2 * self._pause)
        if complaint != self._complaint:
            self._complaint = complaint
            log.error("%s", complaint)
        self._give_back()

    def can_write(self) -> None:
        """Something was written."""
        if self._complaint:
            log.info("the cache directory can be written again")
            self._complaint, self._pause, self._paused_until = "", PAUSE_FIRST, 0.0
