"""The worker's side of Redis for one session: three connections, two of which wait in threads of their own.

A link never heals. Whatever goes wrong with it, it says so once (`broken`), is dropped, and the next join makes a new
one; so there is one way back into order for every kind of trouble.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swamp.broker import functions, keyspace
from swamp.broker.client import RedisTrouble
from swamp.wire.codec import Malformed
from swamp.wire.envelope import Box, Refused
from swamp.wire.messages import DOWN, Down, unpack_down
from workers.session import Session
from workers.wires import Wires

#: Seconds that a connection waits before it looks whether the link is still wanted.
WAIT = 5


@dataclass(frozen=True, slots=True)
class Claimed:
    """Work came while we waited for it; it lies in our claimed list."""

    link: Link
    work: list[tuple[str, bytes]]  #: (dispatch, sealed dispatch; empty where the job is gone)
    more: bool  #: there may be more in the queue


@dataclass(frozen=True, slots=True)
class Said:
    """The orchestrator said something."""

    link: Link
    down: Down


@dataclass(frozen=True, slots=True)
class Broken:
    """The link is of no use any more."""

    link: Link
    reason: str


class Link:
    """`tell` hears `Claimed`, `Said` and `Broken`, from the link's threads."""

    def __init__(
        self,
        machine: str,
        session: Session,
        down: Box,
        tell: Callable[[Claimed | Said | Broken], None],
        ca_certificate: Path | None = None,
    ) -> None:
        """Raises `RedisTrouble` when Redis cannot be reached."""
        welcome = session.welcome
        self._machine = machine
        self._target = welcome.target
        self._boot = welcome.boot
        self._heard = welcome.said  # number of the last message from the orchestrator
        self._down = down
        self._tell = tell
        self._over = False
        self._armed = threading.Semaphore(0)
        self._wanted = 1  # how many dispatches the waiter takes at once
        self.waiting = False  #: the waiter is in the queue's line; belongs to the loop's thread
        self._wires = Wires(session, ca_certificate)
        self.way = self._wires.way  #: by which Redis is reached, for people
        threading.Thread(target=self._guarded, args=(self._wait,), name="claims", daemon=True).start()
        threading.Thread(target=self._guarded, args=(self._listen,), name="down", daemon=True).start()

    def exchange(self, request: functions.Exchange) -> functions.Exchanged:
        """One round trip. Raises `RedisTrouble`."""
        return functions.exchange(self._wires.exchange, self._machine, self._target, request)

    def wait_for_work(self, wanted: int) -> None:
        """Stand in line for that many dispatches, one at least; they come as `Claimed`. Once until then."""
        if not self.waiting:
            self.waiting, self._wanted = True, wanted
            self._armed.release()

    def close(self) -> None:
        self._over = True
        self._armed.release()
        self._wires.cut()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except RedisTrouble as error:
            if not self._over:
                self._tell(Broken(self, str(error)))

    def _wait(self) -> None:
        client = self._wires.claims
        while True:
            self._armed.acquire()
            wanted, taken = self._wanted, None
            while not self._over and taken is None:
                taken = functions.wait_and_claim(client, self._machine, self._target, WAIT, wanted)
            if self._over:
                return
            if taken is not None:
                self._tell(Claimed(self, taken.work, more=len(taken.work) >= wanted))

    def _listen(self) -> None:
        client = self._wires.down
        key, last = keyspace.down(self._machine), b"0-0"
        while not self._over:
            reply: list[tuple[bytes, list[tuple[bytes, list[bytes]]]]] | None = client.execute_command(
                "XREAD", "COUNT", 500, "BLOCK", WAIT * 1000, "STREAMS", key, last
            )
            for _, entries in reply or ():
                for stream_id, (*_, sealed) in entries:
                    last = stream_id
                    with suppress(Refused, Malformed):
                        down = unpack_down(self._down.open(sealed, DOWN))
                        # Of this orchestrator's start, and newer than what was heard: nothing is done twice.
                        if down.boot == self._boot and down.number > self._heard:
                            self._heard = down.number
                            self._tell(Said(self, down))
