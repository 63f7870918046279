"""Whether a worker goes, and how much time is left for what runs. Pure: times are monotonic seconds, and arguments."""

from __future__ import annotations

from typing import Literal

from swamp.errors import NotAllowed

KILL_AFTER = 2.0  #: seconds between TERM and KILL for steps that are cut off
CUT_TAKES = KILL_AFTER + 1  #: seconds that cut off steps are waited for


class Ending:
    """`grace`: seconds that running steps get after the first request to stop. `max_dispatches` and `idle_timeout`: go
    when so many steps have ended, when there was nothing to do for so many seconds; None: never for that reason."""

    def __init__(self, grace: float, max_dispatches: int | None, idle_timeout: float | None, now: float) -> None:
        self._grace = grace
        self._max_dispatches = max_dispatches
        self._idle_timeout = idle_timeout
        self._deadline = float("inf")
        self._busy_at = now  # when there was something to do last
        self.stops = 0  #: how often somebody asked for the end
        self.cutting = False  #: what runs is being ended
        self.failure: NotAllowed | None = None  #: the orchestrator has turned this machine away

    def look_at(self, now: float) -> float:
        """When there may be something to decide, if nothing happens until then."""
        if self._idle_timeout is None or self.stops:
            return self._deadline
        return min(self._deadline, max(now, self._busy_at + self._idle_timeout))

    def reason_to_go(self, now: float, finished: int, *, busy: bool) -> str | None:
        """Why to stop as if asked to, if the work that was wanted from us is done."""
        if busy:
            self._busy_at = now
        if self._max_dispatches is not None and finished >= self._max_dispatches:
            return f"{finished} steps have ended here, as many as were wanted"
        if self._idle_timeout is not None and now - self._busy_at >= self._idle_timeout:
            return f"there was nothing to do for {self._idle_timeout:g}s"
        return None

    def asked(self, now: float) -> None:
        """Somebody asked for the end; the first time, what runs gets its grace."""
        self.stops += 1
        if self.stops == 1:
            self._deadline = now + self._grace

    def cut(self, now: float) -> None:
        """What runs is ended from here on, and not waited for longer than that takes."""
        self._deadline = min(self._deadline, now + CUT_TAKES)
        self.cutting = True

    def next(self, now: float, running: int, *, delivered: bool) -> Literal["stay", "cut", "go"]:
        """What to do now, when so many steps run, and everything else was or was not `delivered`. `cut`, once: the
        grace is over, end what runs."""
        if self.failure is not None:
            return "stay" if running and now < self._deadline else "go"
        if not self.stops:
            return "stay"
        if not running and delivered:
            return "go"
        if now < self._deadline:
            return "stay"
        if running and not self.cutting:
            self._deadline, self.cutting = now + CUT_TAKES, True
            return "cut"
        return "go"
