"""What is read from Redis: the connection is had, and what machines said since the last cycle.

When Redis fails on the way, nothing was read; `RedisWatch` says when it is tried again. After a new connection nothing
that was known about Redis holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from swamp.broker.client import RedisTrouble
from swamp.broker.functions import Collected
from swamp.data import journal
from swamp.data.store import Store
from swamp.errors import SwampError
from swamp.orchestrator.dispatcher import Dispatcher
from swamp.orchestrator.ledger import Ledger
from swamp.orchestrator.membership import Membership
from swamp.orchestrator.redis_watch import RedisWatch
from swamp.orchestrator.transport import Transport

SWEEP = 1.0  #: seconds; all streams are looked at this often, bell or not


class Incoming:
    """Used by the core thread only, but for `ring`. `wake` has another cycle made; `now` tells the time as ISO text."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        watch: RedisWatch,
        ledger: Ledger,
        membership: Membership,
        dispatcher: Dispatcher,
        wake: Callable[[], None],
        now: Callable[[], str],
    ) -> None:
        self.rung = False  #: there is something unread
        self.next_sweep = 0.0  #: monotonic seconds
        self._store = store
        self._transport = transport
        self._watch = watch
        self._ledger = ledger
        self._membership = membership
        self._dispatcher = dispatcher
        self._wake = wake
        self._now = now
        self._next_look = 0.0  # at Redis itself, which bells do not put off
        self._turn = 0

    def ring(self) -> None:
        """Something was said in Redis. From any thread."""
        if not self.rung:
            self.rung = True
            self._wake()

    def keep_connection(self) -> None:
        """Have a connection, if one can be had."""
        now = time.monotonic()
        if not self._watch.is_due(now):
            return
        try:
            if not self._transport.seek(self._wake):
                return
            self._transport.connect(self._membership.users())
            # In this order: first nothing can be claimed, then nothing that was claimed can begin, then everything
            # that did begin is known. Only then is it safe to push again.
            self._transport.clear_queues({*self._ledger.lanes, *self._membership.targets})
            for machine in self._membership.members:
                # Not to be dispatched anew: this may be a Redis of the past, and what is claimed in it may have begun.
                # Under its old id it is refused by a machine that has seen it.
                self._transport.take_back(machine)
            self._raise_incarnation()
            self._watch.look_at_memory()
        except (RedisTrouble, SwampError) as error:
            self._watch.lost(error)
            return
        self._watch.connected(now)
        self._membership.all_join_again(now)

    def _raise_incarnation(self) -> None:
        with self._store.write() as tx:
            self._dispatcher.incarnation = int(journal.get_meta(tx, "incarnation") or 0) + 1
            journal.set_meta(tx, "incarnation", str(self._dispatcher.incarnation))

    def collect(self) -> list[Collected]:
        """What machines said, if there may be anything: rung for, or not looked for since a second."""
        now = time.monotonic()
        self._watch.read_to_end = False
        if not (self.rung or self._watch.draining or now >= self.next_sweep) or not self._transport.up:
            if now >= self.next_sweep:
                self.next_sweep = now + SWEEP
            return []
        self.rung = False
        try:
            self.next_sweep = now + SWEEP
            if look := now >= self._next_look:
                self._next_look = now + SWEEP
                self._watch.look_at_memory()
            # Whose turn is first changes, so that a machine that says too much holds up no other.
            machines = list(self._membership.members)
            self._turn = (self._turn + 1) % max(1, len(machines))
            incoming, more = self._transport.collect(machines[self._turn :] + machines[: self._turn], renew=look)
            self._watch.read_to_end = not more
        except RedisTrouble as error:
            self._watch.lost(error)
            return []
        # What decides only once nothing is left to be read must see that nothing is.
        if more or (incoming and (self._watch.draining or self._membership.farewells)):
            self.rung = True
            self._wake()
        elif self._watch.draining:
            self._watch.draining = False
            self._ledger.recall_everything()
            self._ledger.record_what_runs(self._now())
        return incoming
