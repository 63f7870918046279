"""When a program that is to end gets which signal. Pure: time is an argument, in seconds of any clock."""

from __future__ import annotations

import signal

TIMEOUT_GRACE = 5.0  #: seconds between TERM and KILL when the time limit has passed


class Stopping:
    """TERM when the time limit passes or somebody asks, then KILL when the grace has passed too; each of them once."""

    def __init__(self, limit: float | None) -> None:
        self.ended_by: str | None = None  #: `timeout` or `canceled`: whichever came first, once TERM is due
        self.due: float | None = limit  #: when the next signal is due, if nobody asks before
        self.killed = False  #: KILL was due; there is nothing more to do than wait

    def signal(self, now: float, asked_grace: float | None) -> signal.Signals | None:
        """The signal to send now, if any. `asked_grace` is the patience of somebody who asked just now for the end.

        Asking again can bring the KILL forward, never put it off.
        """
        if self.killed:
            return None
        if self.ended_by is None:
            if asked_grace is not None:
                self.ended_by, self.due = "canceled", now + asked_grace
                return signal.SIGTERM
            if self.due is not None and now >= self.due:
                self.ended_by, self.due = "timeout", now + TIMEOUT_GRACE
                return signal.SIGTERM
            return None
        if asked_grace is not None and self.due is not None:
            self.due = min(self.due, now + asked_grace)
        if self.due is not None and now >= self.due:
            self.killed, self.due = True, None
            return signal.SIGKILL
        return None
