"""Who works for this orchestrator: machines come, are heard of, are missed, and go.

What that does to their steps is told to the ledger at once, and stored by the core's next transaction.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from swamp.broker.acl import AclUser, worker_name, worker_user
from swamp.clock import from_iso, iso
from swamp.monitoring.tally import Tally
from swamp.orchestrator import admission, leases, room
from swamp.orchestrator.keys import OrchestratorKeys
from swamp.orchestrator.ledger import Ledger
from swamp.orchestrator.members import Member, Session
from swamp.orchestrator.redis_watch import RedisWatch
from swamp.orchestrator.transport import Transport
from swamp.tokens import store as tokens
from swamp.tokens.token import Machine, Token, deliver_until, delivers
from swamp.wire.envelope import Box, machine_keys
from swamp.wire.messages import Refusal

log = logging.getLogger("swamp.orchestrator")


class Membership:
    """Used by the core thread only, `heard` excepted. `ring` has the streams looked at, `wake` another cycle made."""

    def __init__(
        self,
        keys: OrchestratorKeys,
        ledger: Ledger,
        transport: Transport,
        watch: RedisWatch,
        tally: Tally,
        ring: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self.members = ledger.members
        self.targets: set[str] = set()  #: that have a token
        self.drained: dict[str, tokens.Drained] = {}  #: machines that take no new steps
        self.password_hashes: dict[str, str] = {}  #: of the machines' Redis users
        self.lost_claims: list[tuple[Member, list[str]]] = []  #: taken back, to be dispatched anew
        self.farewells: list[Member] = []  #: left, and what they had begun and not ended is not settled
        self._keys = keys
        self._ledger = ledger
        self._transport = transport
        self._watch = watch
        self._tally = tally
        self._ring = ring
        self._wake = wake
        self._looked_at = time.monotonic()

    def reload(self, tx: sqlite3.Connection, now: datetime) -> None:
        """Memory as the disk has it."""
        sessions = {machine: member.session for machine, member in self.members.items()}
        self.password_hashes.clear()
        self.members.clear()
        known = {token.name: token for token in tokens.tokens(tx)}
        self.targets = set(known)
        for machine in tokens.machines(tx):
            token = known.get(machine.token)
            if token is None:
                continue
            if admission.why_ended(token, machine, now) is not None and not delivers(token, machine, now):
                continue
            member = self.add(machine, machine.redis_password_hash, token, now)
            member.session = sessions.get(machine.id)
            member.connected = member.session is not None
        self.drained = tokens.drained(tx)

    def users(self) -> list[AclUser]:
        """The Redis users that there have to be."""
        return [self._user(member) for member in self.members.values() if member.machine in self.password_hashes]

    def _user(self, member: Member) -> AclUser:
        password_hash = self.password_hashes[member.machine]
        return worker_user(member.target, member.machine, password_hash, delivering=member.delivering)

    def all_join_again(self, now: float) -> None:
        """After a new connection to Redis: what it held for the machines, and of them, may be gone."""
        for member in self.members.values():
            leases.heard(member.lease, now)
            member.shown = False
            member.rejoin_asked = True

    def drained_changed(self, tx: sqlite3.Connection) -> None:
        """A person has told machines to take no new steps, or to take them again: by joining anew they learn of it."""
        before, self.drained = self.drained, tokens.drained(tx)
        for machine in before.keys() ^ self.drained.keys():
            member = self.members.get(machine)
            if member is not None:
                member.rejoin_asked = True
                text = "worker %s is drained: it takes no new steps" if machine in self.drained else "worker %s resumes"
                log.info(text, member.worker, extra=member.about)

    def add(self, machine: Machine, password_hash: str | None, token: Token, now: datetime) -> Member:
        """Take a bound machine into memory; inside or outside a transaction."""
        member = self.members.get(machine.id)
        if member is not None and member.target != machine.token:
            self._put_out(member, _expired(member))  # it could only leave a token that is over
            member = None
        if member is None:
            keys = machine_keys(self._keys.static, machine.public_key, machine.id)
            member = Member(
                machine=machine.id,
                worker=machine.worker,
                target=machine.token,
                up=Box(keys.up),
                down=Box(keys.down),
                results=Box(keys.results),
                lease=leases.Lease(time.monotonic()),
                expires_at=token.expires_at,
                delivers_until=token.expires_at,
                epoch=machine.epoch,
                number=machine.sequence,
                platform=machine.platform,
                slots=machine.slots,
                last_seen_at=iso(machine.last_seen_at) if machine.last_seen_at else None,
            )
            self.members[machine.id] = member
        # The same token may have been made anew.
        member.expires_at, member.delivers_until = token.expires_at, deliver_until(token, machine)
        member.delivering, member.delivered = now >= token.expires_at, False
        if password_hash is not None:
            self.password_hashes[machine.id] = password_hash
        return member

    def catch_up(self, tx: sqlite3.Connection, member: Member, epoch: int, number: int) -> None:
        """The machine was told that this database holds what it said up to there, and the database does not: it was
        restored from a backup. What is missing will not come again; what follows it counts, and the inventory settles
        the steps whose results were in it."""
        text = "worker %s has delivered more than this repository holds; was it restored from a backup?"
        log.warning(text, member.worker, extra=member.about)
        tokens.advance(tx, member.machine, epoch, number)
        member.epoch, member.number = epoch, number

    def joined(self, member: Member, session: Session) -> None:
        """After the commit of a join: its Redis user, and an empty stream down. Raises `RedisTrouble`."""
        self._transport.set_user(self._user(member))
        self._transport.clear_down(member.machine)
        self.claims_back(member)
        leases.heard(member.lease, time.monotonic())
        if member.session is not None:
            member.session.close()
        member.session, member.connected, member.shown, member.draining = session, True, False, False
        member.rejoin_asked = False  # it just did
        self._ring()

    def heard(self, member: Member) -> None:
        """A sign of life outside of Redis. May be called from any thread."""
        self.members.get(member.machine, member).lease.heard_at = time.monotonic()

    def left(self, tx: sqlite3.Connection, member: Member, session: object, *, farewell: bool) -> None:
        """The session is over; without a farewell that may be a passing cut."""
        member = self.members.get(member.machine, member)  # memory may have been made anew since it joined
        if member.session is not session:
            return
        member.session = None
        self.note_sightings(tx, [member])
        if farewell:
            member.connected = False
            log.info("worker %s left", member.worker, extra=member.about)
            with self._watch.may_fail():
                self.claims_back(member)
            if self._watch.up and not self._watch.draining:
                # It said everything it had to say before its farewell: what it did not end has no end.
                self.farewells.append(member)
                self._ring()

    def settle_farewells(self) -> None:
        """What a worker that left had begun and did not end follows the step's `onWorkerLost`, at once. Only when
        everything it said is applied."""
        for member in self.farewells:
            if member.session is None:
                for dispatch in list(member.running):
                    self._ledger.lost(self._ledger.live[dispatch], f"worker '{member.worker}' was stopped while it ran")
        self.farewells.clear()

    def token_changed(self, tx: sqlite3.Connection, name: str, now: datetime) -> None:
        """Act on a token that was revoked, made anew or rotated, or of which one machine was put out."""
        token = tokens.find(tx, name)
        machines = {machine.id: machine for machine in tokens.bindings(tx, name)}
        renewed = False
        for member in [member for member in self.members.values() if member.target == name]:
            machine = machines.get(member.machine)
            if token is None or machine is None:
                self._put_out(member, Refusal("revoked", f"token '{name}' was made anew"))
                continue
            member.expires_at, member.delivers_until = token.expires_at, deliver_until(token, machine)
            ended = admission.why_ended(token, machine, now)
            if ended is None and member.delivering:
                self._restore(member)
            elif ended is not None and not delivers(token, machine, now):
                self._put_out(member, Refusal(ended.code, ended.message))
                renewed = True
        if renewed:
            for member in self.members.values():
                # The target may have a new key, because one machine of several was put out.
                member.rejoin_asked |= member.target == name

    def look_at_tokens(self, now: datetime) -> None:
        """Narrow the rights of machines whose token's time is over, and put them out once they have delivered what they
        had started, or have had time enough for it."""
        for member in [member for member in self.members.values() if now >= member.expires_at]:
            under_way = member.running or member.granted
            if now >= member.delivers_until or (member.delivered and not under_way and self._watch.current):
                self._put_out(member, _expired(member))
            elif not member.delivering:
                self._narrow(member)

    def _narrow(self, member: Member) -> None:
        member.delivering, member.delivered = True, False
        until = iso(member.delivers_until)
        text = "token %s has expired: worker %s takes no new steps, and may deliver what it started until %s"
        log.info(text, member.target, member.worker, until, extra=member.about)
        if member.machine in self.password_hashes:
            with self._watch.may_fail():
                self._transport.set_user(self._user(member))
                self._transport.cut(worker_name(member.machine))
                self.claims_back(member)
        member.rejoin_asked = True
        self._wake()

    def _restore(self, member: Member) -> None:
        member.delivering = False
        log.info("worker %s may take steps again", member.worker, extra=member.about)
        if member.machine in self.password_hashes:
            with self._watch.may_fail():
                self._transport.set_user(self._user(member))
        member.rejoin_asked = True

    def _put_out(self, member: Member, refusal: Refusal) -> None:
        """End its membership at once. Its running steps are given up."""
        if member.session is not None:
            member.session.send(refusal)
            member.session.close()
            log.info("worker %s was put out: %s", member.worker, refusal.message, extra=member.about)
        member.session, member.connected = None, False
        self.password_hashes.pop(member.machine, None)
        with self._watch.may_fail():
            self._transport.delete_user(worker_name(member.machine))
            self.claims_back(member)
            self._note_unread_starts(member)
        for dispatch in [*member.running, *member.granted]:
            reason = f"worker '{member.worker}' was put out while the step ran: {refusal.message}"
            self._ledger.lost(self._ledger.live[dispatch], reason)
        with self._watch.may_fail():
            if member.shown:
                self._transport.mirror([("left", member.worker, member.target)])
            self._transport.forget_machine(member.machine)
        del self.members[member.machine]
        self._wake()

    def look_at_leases(self) -> None:
        now = time.monotonic()
        silent, self._looked_at = now - self._looked_at, now
        if not self._watch.current:
            return
        stood_still = silent > leases.SILENCE / 2
        if stood_still:
            log.warning("nothing was heard or stored for %.1fs; silence of workers counts from now on", silent)
        if stood_still or room.may_be_silent(self._watch.memory):
            # It was us who did not listen, or they cannot speak.
            for member in self.members.values():
                leases.heard(member.lease, now)
        # A machine with something under way need not be connected to be missed: it may have gone before we came.
        present = ((machine, m.lease) for machine, m in self.members.items() if m.connected or m.running or m.granted)
        for machine in leases.newly_lost(present, now):
            member = self.members[machine]
            member.connected = False
            self._tally.leases_expired += 1
            text = "worker %s is lost: no sign of life for %.0fs"
            log.warning(text, member.worker, leases.SILENCE, extra=member.about)
            with self._watch.may_fail():
                self.claims_back(member)
        for member in self.members.values():
            if member.lease.lost_at is None:
                continue
            for dispatch in [*member.running, *member.granted]:
                live = self._ledger.live[dispatch]
                if leases.given_up(member.lease, now, self._ledger.patience(live)):
                    self._ledger.lost(live, f"worker '{member.worker}' was lost while the step ran")

    def claims_back(self, member: Member, only: Sequence[str] | None = None) -> None:
        claims = self._transport.take_back(member.machine, only)
        if claims:
            self.lost_claims.append((member, claims))
            self._wake()

    def _note_unread_starts(self, member: Member) -> None:
        """What was pushed, and is neither queued nor claimed, has begun: the machine's word of it is in the stream that
        goes with it. (On a fleet a grant tells who may have begun what.)"""
        if sum(other.target == member.target for other in self.members.values()) > 1:
            return
        there = {*self._transport.queued(member.target), *(c for _, claims in self.lost_claims for c in claims)}
        there.update(self._ledger.lane(member.target).waiting)
        for live in self._ledger.live.values():
            if live.target == member.target and not live.begun and not live.granted and live.id not in there:
                member.running.add(live.id)

    def note_sightings(self, tx: sqlite3.Connection, members: Iterable[Member]) -> None:
        seen = [
            tokens.Sighting(member.machine, from_iso(member.last_seen_at), member.platform, member.slots)
            for member in members
            if member.last_seen_at is not None
        ]
        tokens.note_sightings(tx, seen)


def _expired(member: Member) -> Refusal:
    return Refusal("expired", f"token '{member.target}' expired at {iso(member.expires_at)}")
