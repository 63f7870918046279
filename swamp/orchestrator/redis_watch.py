"""Whether Redis is there and has room, as the core thread finds it: when to try again, and what was said about it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from swamp.broker.client import RedisTrouble
from swamp.errors import SwampError
from swamp.monitoring.tally import Tally
from swamp.orchestrator import room
from swamp.orchestrator.transport import Transport

log = logging.getLogger("swamp.orchestrator")

RETRY_LONGEST = 5.0  #: seconds between two attempts to reach Redis


class RedisWatch:
    """Used by the core thread only. All times are monotonic seconds."""

    def __init__(self, transport: Transport, tally: Tally) -> None:
        self._transport = transport
        self._tally = tally
        self.draining = True  #: until what machines said before the connection was made is applied; nothing is pushed
        self.read_to_end = False  #: the streams were read to their end in this cycle
        self.memory = 0.0  #: how much of its memory Redis has used
        self._down_since: float | None = None
        self._complaint = ""  # what was said last about why it is away
        self._next_attempt = 0.0
        self._attempts = 0

    @property
    def up(self) -> bool:
        return self._transport.up

    @property
    def current(self) -> bool:
        """Whether everything that machines had said until this cycle is applied."""
        return self.up and not self.draining and self.read_to_end

    @property
    def has_room(self) -> bool:
        """Whether Redis has memory for more work."""
        return room.may_push(self.memory)

    @property
    def may_push(self) -> bool:
        return not self.draining and self.has_room

    def is_due(self, now: float) -> bool:
        """Whether a connection is to be made."""
        return not self.up and now >= self._next_attempt

    def connected(self, now: float) -> None:
        """A new connection stands: nothing that was known about Redis holds."""
        self._tally.redis_connections += 1
        if self._down_since is not None:
            log.info("Redis is back after %.1fs", now - self._down_since)
        self._down_since, self._attempts = None, 0
        self.draining = True

    def lost(self, error: Exception) -> None:
        """The connection is of no use, or could not be made."""
        now = time.monotonic()
        self._transport.disconnect()
        if self._down_since is None:
            self._down_since, self._complaint = now, ""
        complaint = f"{error} ({error.hint})" if isinstance(error, SwampError) and error.hint else str(error)
        if complaint != self._complaint:
            self._complaint = complaint
            log.error("Redis is away: %s; nothing is lost, trying again", complaint)
        self._attempts += 1
        self._next_attempt = now + random.uniform(0.5, 1.0) * min(RETRY_LONGEST, 0.1 * 2**self._attempts)  # noqa: S311

    def start_over(self) -> None:
        """Have a new connection made, at once."""
        self._transport.disconnect()
        self._next_attempt = 0.0

    @contextmanager
    def may_fail(self) -> Iterator[None]:
        """For what is made again anyway when Redis is back."""
        try:
            yield
        except RedisTrouble as error:
            self.lost(error)

    def look_at_memory(self) -> None:
        """Raises `RedisTrouble`."""
        before, self.memory = self.memory, self._transport.memory()
        if room.may_push(before) and not room.may_push(self.memory):
            log.error("Redis is short of memory (%.0f%% of maxmemory is used): steps wait", 100 * self.memory)
        elif not room.may_push(before) and room.may_push(self.memory):
            log.info("Redis has room again")
