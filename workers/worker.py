"""The worker: joins, takes dispatches from its target's queue, runs them in its slots, and delivers what came of them.

One loop (the main thread) owns all state. Around it, each in its own thread: the session with the orchestrator, the
two waiting connections of the link to Redis, the slots, and the courier that brings big content to the orchestrator.
They talk to the loop through its inbox only. The loop is here, with its turns to Redis; what it does with what it hears
is in the files of its parts: `claims`, `starter`, `output`, `results`, `membership`, `departure`.

The way of a dispatch here: claimed (moved into this machine's list) → opened and noted as seen → begun (the claim is
given up and `started` said, in one step of the server) → noted as begun (synced) → run → result in the outbox (synced)
→ sent → acknowledged → out of the outbox.

Trouble of any kind has one cure: drop the link, join again, send again whatever was not acknowledged, then say what
there is (`Inventory`). Nothing new is claimed until the orchestrator has acknowledged that.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from swamp.broker.client import RedisTrouble
from swamp.broker.functions import Exchange
from swamp.clock import iso_now
from swamp.interpreter import settle_in
from swamp.pace import Pace
from swamp.wire.messages import Acknowledge, Cancel, Dispatch, Dropped, Grant, Heartbeat, Hello
from workers.appetite import PERIOD, SHORT_MS, STALLED, may_gather, to_begin, to_claim
from workers.claims import Claims
from workers.contents import Contents
from workers.courier import Courier, Delivered, Undeliverable
from workers.departure import Departure
from workers.disk import DiskTrouble
from workers.ending import Ending
from workers.identity import Identity
from workers.joining import Joined, Joining, NotJoined, SessionOver, hello
from workers.link import Broken, Claimed, Link, Said
from workers.membership import Membership
from workers.names import StepNames
from workers.opener import Behind
from workers.outbox import Outbox
from workers.output import LiveOutput
from workers.results import Results
from workers.seen import SeenList
from workers.slots import Slots, StepEnded, StepNotBegun, StepSaid
from workers.starter import Starter
from workers.voice import Beginning, Voice

log = logging.getLogger("swamp.worker")

GATHER = 0.005  #: seconds from one look at what came in to the next, while it may wait for more
STUCK = (
    300.0  #: seconds after which a loop that does not come round counts as dead; sending big content again takes long
)


@dataclass(frozen=True)
class WorkerOptions:
    url: str
    token: Callable[[], tuple[str, bytes]]  #: the token's name and secret, asked for before every attempt to join
    slots: int
    grace: float  #: seconds that running steps get after the first request to stop, or when the token has expired
    ca_certificate: Path | None = None  #: whom to believe over TLS; None: the system's
    max_dispatches: int | None = None  #: go when so many steps have ended
    idle_timeout: float | None = None  #: go when there was nothing to do for so many seconds
    allowed_types: frozenset[str] | None = None  #: model types that may run here; None: every type


@dataclass(frozen=True, slots=True)
class _Stop:
    """Somebody asked for the end."""


@dataclass(frozen=True, slots=True)
class _Again:
    """There is more to do: come round at once."""


_Item = (
    Joined | NotJoined | SessionOver | Delivered | Undeliverable | _Stop | _Again
    | Claimed | Said | Broken | StepSaid | StepEnded | StepNotBegun
)  # fmt: skip


class Worker:
    """`environment` is what steps see; `directory` where they run."""

    def __init__(
        self, options: WorkerOptions, identity: Identity, directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._options = options
        self._identity = identity
        self._epoch = identity.next_epoch()
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        tell = self._inbox.put
        self._pace = Pace(log)
        self._names = StepNames()
        # What there is of the way of a step, in its order:
        self._voice = Voice(self._epoch)
        self._claims = Claims(SeenList(identity.directory / "seen"), self._voice.say, self._names.about)
        self._slots = Slots(options.slots, identity.machine_id, directory, environment, tell)
        self._output = LiveOutput(self._slots, self._voice)
        self._outbox = Outbox(identity.directory)
        contents = Contents(identity.directory / "contents")
        self._courier = Courier(self._outbox, contents, lambda: self._membership.session, tell)
        self._disk = DiskTrouble(self._give_back_all)
        self._results = Results(
            self._outbox, contents, self._courier, self._slots, self._voice, self._output, self._names, self._disk,
            self._pace,
        )  # fmt: skip
        self._starter = Starter(
            self._claims, self._slots, self._voice, self._results, self._names, self._disk,
            options.allowed_types, lambda: self._membership.welcome.worker,
        )  # fmt: skip
        # Coming and going:
        self._ending = Ending(options.grace, options.max_dispatches, options.idle_timeout, time.monotonic())
        self._membership = Membership(
            identity, options.ca_certificate, tell, self._claims, self._slots, self._voice, self._outbox,
            self._results, self._ending,
        )  # fmt: skip
        self._departure = Departure(
            self._ending, self._membership, self._slots, self._claims, self._voice, self._results, self._outbox,
            self._nudge, grace=options.grace, durable=identity.durable,
        )  # fmt: skip
        # Turns:
        self._more = True  # the queue may hold more
        self._next_heartbeat = 0.0
        self._ring_by = float("inf")  # when the orchestrator is to be called for what it was not called for at once
        self._next_turn = 0.0  # the one after that waits for more, if the slots have enough to do
        self._came_round = time.monotonic()

    # ------------------------------------------------------------------ from outside

    def get_ready(self) -> None:
        """Start now what the first step would have to wait for."""
        self._slots.get_ready()

    def stop(self) -> None:
        """Finish what runs and go; a second time: end what runs. May be called by a signal handler."""
        self._inbox.put(_Stop())

    def why_not_alive(self) -> str | None:
        """None while the loop comes round. From any thread."""
        return None if time.monotonic() - self._came_round < STUCK else "the worker's loop stands still"

    def why_not_ready(self) -> str | None:
        """Why no new step would begin here, None if one would. From any thread."""
        if self._ending.stops or self._ending.failure is not None:
            return "stopping"
        if self._membership.drained:
            return "drained"
        return None if self._membership.confirmed else "connecting"

    def run(self) -> bool:
        """Work until asked to stop; True if every step under way was finished. Raises `NotAllowed` when the
        orchestrator turns this machine away."""
        settle_in()
        self._results.take_up()
        Joining(
            self._options.url,
            self._options.token,
            self._options.ca_certificate,
            self._identity,
            self._hello,
            lambda: self._membership.worked,
            self._inbox.put,
        ).start()
        self._courier.start()
        while not self._departure.is_due():
            for item in self._wait():
                self._take(item)
            self._came_round = time.monotonic()
            if not self._gathering():
                self._results.store(cutting=self._ending.cutting)
                self._departure.look()
                self._turn()
            self._pace.catch_up()
        self._departure.leave()
        if self._ending.failure is not None:
            raise self._ending.failure
        return self._ending.stops < 2 and not self._slots.running

    def _hello(self) -> Hello:
        return hello(self._epoch, self._voice.sent.forgotten, self._slots.count, self._options.grace)

    # ------------------------------------------------------------------ the loop

    def _wait(self) -> list[_Item]:
        items: list[_Item] = []
        now = time.monotonic()
        until = min(self._next_heartbeat if self._membership.link else now + 1, self._ending.look_at(now))
        if self._gathering():
            # Not woken for each piece: what slots say and end is looked at together, and they go on meanwhile.
            time.sleep(max(0.0, min(GATHER, self._next_turn - now)))
            until = now
        elif self._results.ended:
            until = min(until, self._results.store_at)
        if self._membership.link:  # without one there is nobody to call, and nothing to give back
            until = min(until, self._ring_by)
            if self._slots.unstarted or self._claims.opened:
                until = min(until, self._slots.started_at + STALLED)
        with suppress(queue.Empty):
            items.append(self._inbox.get(timeout=max(0.0, until - now)))
            while len(items) < 1000:
                items.append(self._inbox.get_nowait())
        return items

    def _gathering(self) -> bool:
        """Whether what came in may wait for more: the slots have enough to do, and the next turn is not due."""
        return (
            may_gather(self._slots.count, self._slots.unstarted, self._results.recent_ms)
            and time.monotonic() < self._next_turn
            and not self._ending.stops
        )

    def _take(self, item: _Item) -> None:
        match item:
            case StepSaid():
                self._output.tell(item)
            case StepEnded():
                self._results.ended.append(item)
            case StepNotBegun():
                self._slots.ended(item.dispatch)
                self._was_given_back([item.dispatch])
            case Claimed() if item.link is self._membership.link:
                item.link.waiting = False
                self._more = item.more
                if not self._ending.stops:  # otherwise it goes back when we leave
                    self._open(item.work)
            case Said() if item.link is self._membership.link:
                self._said(item)
            case Broken() if item.link is self._membership.link:
                self._membership.drop(f"Redis: {item.reason}")
            case Joined():
                if self._membership.begin(item.session):
                    self._next_heartbeat = 0.0
                    self._nudge()
            case SessionOver() if item.session is self._membership.session:
                self._membership.drop(item.reason)
            case NotJoined():
                self._departure.turned_away(item.failure)
            case Delivered():
                self._results.brought(item.dispatch)
            case Undeliverable():
                self._results.content_lost(item)
            case _Stop():
                self._departure.asked()

    def _turn(self) -> None:
        """One round trip to Redis, if there is anything to say or to ask for."""
        link = self._membership.link
        if link is None:
            return
        now = time.monotonic()
        self._next_turn = now + PERIOD
        if self._slots.started_at + STALLED <= now:
            self._give_back()
        heartbeat = now >= self._next_heartbeat
        if heartbeat:
            self._next_heartbeat = now + self._membership.welcome.heartbeat_seconds
        claim = self._appetite() if self._more and not link.waiting else 0
        begin: list[Dispatch] = []
        if self._membership.confirmed and not self._ending.stops:
            begin, self._claims.opened = to_begin(
                self._claims.opened, self._slots.count, len(self._slots.running), self._results.recent_ms
            )
        # A short step is told of once it has ended, with its result; of one that turns out not to be, soon after.
        ring = bool(self._voice.has_more or (begin and self._results.recent_ms >= SHORT_MS) or now >= self._ring_by)
        if ring:
            self._ring_by = float("inf")
        elif begin:
            self._ring_by = min(self._ring_by, now + PERIOD)
        wanted = ring or heartbeat or claim or begin or self._claims.release
        if wanted and not self._exchange(link, heartbeat, claim, begin, ring):
            return
        can_begin = self._membership.confirmed and not self._ending.stops and self._may_begin()
        can_claim = self._more and self._appetite()
        can_store = self._results.ended and now >= self._results.store_at
        if can_store or self._voice.has_more or can_begin or can_claim:
            self._nudge()
        elif not self._more and (appetite := self._appetite()):
            link.wait_for_work(appetite)

    def _may_begin(self) -> bool:
        begin, _ = to_begin(
            self._claims.opened[:1], self._slots.count, len(self._slots.running), self._results.recent_ms
        )
        return bool(begin)

    def _give_back(self) -> None:
        """What was taken ahead waits behind a step that is longer than those before it: another machine may have it."""
        if not self._slots.unstarted and not (self._claims.opened and self._slots.busy):
            return
        self._results.recent_ms = max(self._results.recent_ms, 1000 * STALLED)
        self._give_back_all()

    def _give_back_all(self) -> None:
        self._was_given_back(self._slots.give_back())
        self._claims.decline_opened()

    def _was_given_back(self, dispatches: list[str]) -> None:
        self._claims.seen.was_not_started(dispatches)
        for dispatch in dispatches:
            self._voice.say(Dropped(dispatch))

    def _appetite(self) -> int:
        """How many dispatches more to take now."""
        if not self._membership.confirmed or self._membership.drained or self._ending.stops:
            return 0
        if self._voice.is_far_ahead or self._disk.pauses(time.monotonic()):
            return 0
        waiting = self._claims.count
        wanted = to_claim(self._slots.count, len(self._slots.running), waiting, self._results.recent_ms)
        if self._options.max_dispatches is not None:
            under_way = waiting + len(self._slots.running) + len(self._results.ended)
            wanted = min(wanted, max(0, self._options.max_dispatches - self._results.finished - under_way))
        return wanted

    def _exchange(self, link: Link, heartbeat: bool, claim: int, begin: list[Dispatch], ring: bool) -> bool:
        """False if the link did not hold."""
        request, beginning = self._request(heartbeat, claim, begin)
        request.ring = ring
        try:
            answer = link.exchange(request)
        except RedisTrouble as error:
            # Whether these began is not known; that none was started is.
            self._starter.began(beginning, [])
            self._membership.drop(f"Redis: {error}")
            return False
        begun = self._starter.begin_rest(link, beginning, answer.begin)
        self._starter.began(beginning, begun)
        for status in (*answer.say, *answer.finish, *begun):
            if isinstance(status, bytes):
                self._membership.drop(f"Redis: {status.decode(errors='replace')}")
                return False
        if claim:
            self._more = len(answer.work) == claim
        self._open(answer.work)
        return self._membership.link is link

    def _nudge(self) -> None:
        """Come round at once."""
        if self._inbox.empty():
            self._inbox.put(_Again())

    def _request(self, heartbeat: bool, claim: int, begin: list[Dispatch]) -> tuple[Exchange, list[Beginning]]:
        request = Exchange(claim=claim)
        if heartbeat:
            request.say.append(self._voice.beat(self._heartbeat()))
        request.release += self._claims.release
        self._claims.release = []
        return request, self._voice.into(request, begin, iso_now())

    def _heartbeat(self) -> Heartbeat:
        running = len(self._slots.running) - self._slots.unstarted
        return Heartbeat(
            self._membership.welcome.boot, running, self._slots.count, self._claims.held, self._voice.sent.last
        )

    def _open(self, work: list[tuple[str, bytes]]) -> None:
        try:
            received = self._claims.open(work, lambda it: it in self._slots.running or it in self._outbox)
        except Behind as behind:
            self._membership.drop(str(behind))  # what was claimed goes back
            return
        except OSError as error:
            self._disk.cannot_write(f"cannot note what was claimed: {error}; it goes back")
            return
        if received:
            self._disk.can_write()
        for dispatch in received:
            self._names.give(dispatch.id, f"{dispatch.job}/{dispatch.step}")
            self._pace.info(
                "step %s received: %s.%s of workflow %s",
                self._names.of(dispatch.id),
                dispatch.invocation.model_name,
                dispatch.invocation.method,
                dispatch.workflow,
                about=partial(self._names.about, dispatch.id),
            )

    def _said(self, said: Said) -> None:
        body = said.down.body
        if isinstance(body, Acknowledge):
            if body.epoch == self._epoch:
                self._results.acknowledged(body.number)
                self._more |= self._membership.acknowledged(body.number)
        elif isinstance(body, Grant):
            self._claims.granted(body.dispatch, here=body.epoch == self._epoch)
        elif isinstance(body, Cancel) and not self._claims.canceled(body.dispatch):
            name, about = self._names.of(body.dispatch), self._names.about(body.dispatch)
            log.info("step %s is canceled: %s", name, body.reason, extra=about)
            self._slots.cancel(body.dispatch, body.reason, body.grace)
