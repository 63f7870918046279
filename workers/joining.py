"""Membership, kept: a thread that always has a session with the orchestrator, and tells the worker's loop of each."""

from __future__ import annotations

import logging
import os
import platform
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import swamp
from swamp.clock import iso_now
from swamp.errors import NotAllowed
from swamp.wire import messages
from swamp.wire.messages import Hello, Refusal, Rejoin
from workers.identity import Identity
from workers.session import NotReached, Session, TurnedAway, join

log = logging.getLogger("swamp.worker")

RETRY_FIRST, RETRY_LONGEST = 0.2, 5.0  #: seconds between attempts to join

HINTS = {
    "already_bound": "each machine needs a token of its own, or a fleet token (--max-enrollments); "
    "a machine keeps its identity in --cache-dir",
    "superseded": "give this worker the new one, which `swamp worker token rotate` or `create` has shown",
    "protocol": "install the same version of Swamp on both sides",
    "other_orchestrator": "to join another orchestrator, use another --cache-dir",
}


def hello(epoch: int, acknowledged: int, slots: int, grace: float) -> Hello:
    """What this process says of itself when it joins. `acknowledged`: the last number that was acknowledged to it;
    `grace`: seconds that its steps get when it is stopped."""
    return Hello(
        protocol=messages.PROTOCOL,
        version=swamp.__version__,
        epoch=epoch,
        acknowledged=acknowledged,
        platform=f"{platform.system().lower()}/{platform.machine()}",
        slots=slots,
        clock=iso_now(),
        host=platform.node(),
        pid=os.getpid(),
        python=platform.python_version(),
        grace=grace,
    )


@dataclass(frozen=True, slots=True)
class Joined:
    session: Session


@dataclass(frozen=True, slots=True)
class NotJoined:
    """This machine may not work: final."""

    error: TurnedAway

    @property
    def failure(self) -> NotAllowed:
        refusal = self.error.refusal
        return NotAllowed(
            f"the orchestrator turned this machine away: {refusal.message}",
            hint=HINTS.get(refusal.code, "ask for a new token: swamp worker token create <name> --duration 1h"),
            code=refusal.code,
        )


@dataclass(frozen=True, slots=True)
class SessionOver:
    session: Session
    reason: str


@dataclass(frozen=True, slots=True)
class Joining:
    """`token` gives the token's name and secret, and is asked before every attempt; `worked` tells the last session in
    which work could be taken. `tell` is called from the thread."""

    url: str
    token: Callable[[], tuple[str, bytes]]
    ca_certificate: Path | None
    identity: Identity
    hello: Callable[[], Hello]
    worked: Callable[[], Session | None]
    tell: Callable[[Joined | NotJoined | SessionOver], None]

    def start(self) -> None:
        threading.Thread(target=self._keep_joined, name="session", daemon=True).start()

    def _keep_joined(self) -> None:
        wait, told = RETRY_FIRST, ""
        while True:
            name, secret = self.token()
            try:
                session = join(self.url, name, secret, self.identity, self.hello, self.ca_certificate)
            except TurnedAway as refused:
                if self.token() != (name, secret):
                    continue  # it was replaced meanwhile
                self.tell(NotJoined(refused))
                return
            except NotAllowed as error:  # another orchestrator than the pinned one
                self.tell(NotJoined(TurnedAway(Refusal("other_orchestrator", error.message))))
                return
            except NotReached as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("cannot join at %s: %s; trying again", self.url, told)
                time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
                wait = min(RETRY_LONGEST, wait * 2)
                continue
            told = ""
            self.tell(Joined(session))
            reason = self._attend(session)
            if reason is None:
                return
            self.tell(SessionOver(session, reason))
            # A session in which no work could be taken (Redis is out of reach, or full) is an attempt that failed.
            wait = RETRY_FIRST if self.worked() is session else min(RETRY_LONGEST, wait * 2)
            time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311

    def _attend(self, session: Session) -> str | None:
        """Listen until the session is over; why it is, or None if it was the last."""
        try:
            while True:
                message = session.receive()
                if isinstance(message, Rejoin):
                    session.close()
                    return "the orchestrator asks to join again"
                if isinstance(message, Refusal):
                    self.tell(NotJoined(TurnedAway(message)))
                    return None
        except NotReached as error:
            return str(error) or "the session ended"
        finally:
            session.listen_no_more()
