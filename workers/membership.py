"""Where this machine stands with the orchestrator: its session, its link to Redis, and whether work may be taken."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from swamp.broker.client import RedisTrouble
from swamp.broker.functions import Exchange
from swamp.wire.envelope import Box, machine_keys
from swamp.wire.messages import Inventory, Welcome
from workers.claims import Claims
from workers.ending import Ending
from workers.identity import Identity
from workers.link import Broken, Claimed, Link, Said
from workers.opener import Opener
from workers.outbox import Outbox
from workers.results import Results
from workers.session import NotReached, Session
from workers.slots import Slots
from workers.voice import Voice

log = logging.getLogger("swamp.worker")


class Membership:
    """Belongs to the worker's loop, which `tell` reaches from the link's threads."""

    def __init__(
        self,
        identity: Identity,
        ca_certificate: Path | None,
        tell: Callable[[Claimed | Said | Broken], None],
        claims: Claims,
        slots: Slots,
        voice: Voice,
        outbox: Outbox,
        results: Results,
        ending: Ending,
    ) -> None:
        self._identity = identity
        self._ca_certificate = ca_certificate
        self._tell = tell
        self._claims = claims
        self._slots = slots
        self._voice = voice
        self._outbox = outbox
        self._results = results
        self._ending = ending
        self.session: Session | None = None
        self.worked: Session | None = None  #: the last one in which work could be taken
        self.link: Link | None = None
        self.confirmed = False  #: the orchestrator knows what there is here: work may be taken
        self._confirmed_at = 0  # the number whose acknowledgement makes it so
        self.drained = False  #: a person said, or the token's time is over: no new steps
        self.told_all = False  #: the last inventory named nothing that runs and no result

    @property
    def welcome(self) -> Welcome:
        if self.session is None:
            raise RuntimeError("no session")
        return self.session.welcome

    def begin(self, session: Session) -> bool:
        """Send again what is not acknowledged, then say what there is. False if the link did not hold."""
        first = not self._voice.has_joined
        self.session, self.confirmed = session, False
        welcome = session.welcome
        pinned = self._identity.pinned
        if pinned is None:
            raise RuntimeError("joined without knowing the orchestrator")
        keys = machine_keys(self._identity.private, pinned.static, self._identity.machine_id)
        self._voice.use(keys)
        self._claims.opener = Opener(welcome, pinned.signing)
        try:
            self.link = Link(self._identity.machine_id, session, Box(keys.down), self._tell, self._ca_certificate)
        except RedisTrouble as error:
            self.drop(f"Redis: {error}")
            return False
        log.info(
            "%s as %s (machine %s, Redis by %s)",
            "joined" if first else "joined again",
            welcome.worker,
            self._identity.machine_id,
            self.link.way,
        )
        self._results.acknowledged(welcome.applied)
        if not self._send_again(session, self.link):
            return False
        self._claims.forget()
        self._note_drained(welcome)
        self.say_inventory()
        # The inventory is the last of what is said in the next turn before results, so its number is known then.
        self._confirmed_at = self._voice.last_to_come
        return True

    def acknowledged(self, number: int) -> bool:
        """Whether this is the acknowledgement that lets work be taken."""
        if self.confirmed or number < self._confirmed_at:
            return False
        self.confirmed, self.worked = True, self.session
        log.info("enrolled as %s and waiting for work (target %s)", self.welcome.worker, self.welcome.target)
        return True

    def say_inventory(self) -> None:
        running, outbox = tuple(self._slots.running), tuple(dispatch for dispatch, _ in self._outbox.items())
        self.told_all = not running and not outbox
        draining = self.drained or self._ending.stops > 0
        self._voice.say(Inventory(draining, running, outbox, dropped=self._claims.seen.unstarted))

    def drop(self, reason: str) -> None:
        """Out of order: what is under way goes on, the way back is to join again."""
        link, self.link = self.link, None
        self.confirmed = False
        if link is not None:
            link.close()
        if self.session is not None:
            session, self.session = self.session, None
            log.warning("the connection is lost: %s; joining again", reason)
            threading.Thread(target=session.close, daemon=True).start()

    def say_farewell(self) -> None:
        if self.link is not None:
            self.link.close()
        if self.session is not None:
            self.session.say_farewell()

    def _note_drained(self, welcome: Welcome) -> None:
        drained = welcome.drained or welcome.delivers_until is not None
        if drained:
            self._claims.seen.was_not_started(self._slots.give_back())
        if welcome.delivers_until is not None:
            log.warning(
                "token %s has expired: no new steps are taken; what runs may be delivered until %s",
                welcome.target,
                welcome.delivers_until,
            )
        elif drained != self.drained:
            log.info("drained: no new steps are taken" if drained else "resumed: steps are taken again")
        self.drained = drained

    def _send_again(self, session: Session, link: Link) -> bool:
        """Everything unacknowledged, in its order. False if the link did not hold."""
        batch = Exchange()
        try:
            for sent in self._voice.sent:
                if bool(sent.dispatch) != bool(batch.finish) and (batch.finish or batch.say):
                    link.exchange(batch)
                    batch = Exchange()
                if sent.dispatch:
                    sent = self._results.behind_its_content(session, sent)
                    batch.finish.append((sent.dispatch, sent.result, sent.sealed))
                else:
                    batch.say.append(sent.sealed)
            if batch.finish or batch.say:
                link.exchange(batch)
        except (RedisTrouble, NotReached, OSError) as error:
            self.drop(str(error))
            return False
        return True
