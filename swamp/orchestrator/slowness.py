"""Who fails again and again waits longer and longer for the answer.

Nobody is ever kept from trying: what is right is found right at once, whatever others did under the same name, so no
stranger can lock an owner out. A secret has 256 bits, so guesses need not be counted; what is limited is how much work
and how many lines of the log a stranger can cause.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

FIRST, LONGEST = 0.1, 5.0  #: seconds that the first failure waits, and the most that any does
WINDOW = 60.0  #: seconds for which a failure is held against the next ones of its name
MOST_WAITING = 8  #: failures of one name that may wait at once; those beyond get no answer
STRANGERS = ""  #: the name of all who name nothing that exists: what they make up must not fill the memory


def wait_of(failures: int) -> float:
    """Seconds that the last of so many failures within `WINDOW` waits."""
    return min(LONGEST, FIRST * 2.0 ** (failures - 1))


class Slowness:
    """Belongs to the event loop's thread."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._now = now
        self._sleep = sleep
        self._failures: dict[str, deque[float]] = {}
        self._waiting: dict[str, int] = {}

    async def failed(self, name: str) -> bool:
        """Wait before the answer to a failure under `name`, which exists or is `STRANGERS`. False: give none."""
        if self._waiting.get(name, 0) >= MOST_WAITING:
            return False
        recent = self._failures.setdefault(name, deque(maxlen=16))
        now = self._now()
        while recent and recent[0] <= now - WINDOW:
            recent.popleft()
        recent.append(now)
        self._waiting[name] = self._waiting.get(name, 0) + 1
        try:
            await self._sleep(wait_of(len(recent)))
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name]
        return True
