"""The worker: joins, takes dispatches from its target's queue, runs them in its slots, and delivers what came of them.

One loop (the main thread) owns all state. Around it, each in its own thread: the session with the orchestrator, the
two waiting connections of the link to Redis, the slots, and the courier that brings big content to the orchestrator.
They talk to the loop through its inbox only.

The way of a dispatch here: claimed (moved into this machine's list) → opened and noted as seen → begun (the claim is
given up and `started` said, in one step of the server) → noted as begun (synced) → run → result in the outbox (synced)
→ sent → acknowledged → out of the outbox.

Trouble of any kind has one cure: drop the link, join again, send again whatever was not acknowledged, then say what
there is (`Inventory`). Nothing new is claimed until the orchestrator has acknowledged that.
"""

from __future__ import annotations

import logging
import os
import platform
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

import swamp
from swamp.broker.client import RedisTrouble
from swamp.broker.functions import Exchange
from swamp.clock import iso_now
from swamp.data.record import Blob
from swamp.errors import NotAllowed
from swamp.interpreter import settle_in
from swamp.models.invocation import Outcome
from swamp.names import run_of
from swamp.pace import Pace
from swamp.wire import messages
from swamp.wire.envelope import Box, machine_keys
from swamp.wire.messages import (
    Acknowledge,
    Cancel,
    Dispatch,
    Dropped,
    Grant,
    Heartbeat,
    Hello,
    Inventory,
    OutputLines,
    Welcome,
    pack_result,
    unpack_result,
)
from workers.appetite import PERIOD, SHORT_MS, STALLED, is_instant, may_gather, moved, to_begin, to_claim
from workers.claims import Claims
from workers.contents import ContentLost, Contents
from workers.courier import Courier, Delivered, Undeliverable, blobs_of
from workers.identity import Identity
from workers.joining import Joined, Joining, NotJoined, SessionOver
from workers.link import Broken, Claimed, Link, Said
from workers.opener import Behind, Opener
from workers.outbox import Outbox
from workers.seen import SeenList
from workers.session import NotReached, Session
from workers.slots import Slots, StepEnded, StepSaid
from workers.unacknowledged import Sent
from workers.voice import Beginning, Voice
from workers.withheld import Withheld

log = logging.getLogger("swamp.worker")

#: Bytes said and not acknowledged above which no more live output is sent (the result has all of it), and no more
#: work taken.
UNACKNOWLEDGED_LIMIT = 8 << 20
STORE_AGAIN = 1.0  #: seconds until results that could not be stored are tried again
PAUSE_FIRST, PAUSE_LONGEST = 5.0, 60.0  #: seconds without new work after the cache directory could not be written
GATHER = 0.005  #: seconds from one look at what came in to the next, while it may wait for more
KILL_AFTER = 2.0  #: seconds between TERM and KILL for steps that are cut off
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
    | Claimed | Said | Broken | StepSaid | StepEnded
)  # fmt: skip


class Worker:
    """`environment` is what steps see; `directory` where they run."""

    def __init__(
        self, options: WorkerOptions, identity: Identity, directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._options = options
        self._identity = identity
        self._epoch = identity.next_epoch()
        self._outbox = Outbox(identity.directory)
        self._contents = Contents(identity.directory / "contents")
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._slots = Slots(options.slots, identity.machine_id, directory, environment, self._inbox.put)
        self._courier = Courier(self._outbox, self._contents, lambda: self._session, self._inbox.put)
        self._voice = Voice(self._epoch)
        self._claims = Claims(SeenList(identity.directory / "seen"), self._voice.say, self._about)
        # Per session:
        self._session: Session | None = None
        self._worked: Session | None = None  # the last one in which work could be taken
        self._link: Link | None = None
        self._confirmed_at = 0  # the number whose acknowledgement lets us claim
        self._confirmed = False
        self._drained = False  # a person said, or the token's time is over: no new steps
        self._told_all = False  # the last inventory named nothing that runs and no result
        # Work under way:
        self._more = True  # the queue may hold more
        self._ended: list[StepEnded] = []  # not in the outbox yet
        self._names: dict[str, str] = {}  # how people call the steps under way
        self._withheld = Withheld(UNACKNOWLEDGED_LIMIT)
        # While the cache directory cannot be written:
        self._disk_complaint = ""
        self._store_at = 0.0  # results are tried again
        self._pause, self._paused_until = PAUSE_FIRST, 0.0  # no new work
        # Life:
        self._pace = Pace(log)
        self._recent_ms = float("inf")  # how long steps took lately; none has run yet
        self._next_heartbeat = 0.0
        self._ring_by = float("inf")  # when the orchestrator is to be called for what it was not called for at once
        self._next_turn = 0.0  # the one after that waits for more, if the slots have enough to do
        self._stops = 0
        self._deadline = float("inf")
        self._failure: NotAllowed | None = None
        self._came_round = time.monotonic()
        self._finished = 0  # steps that ended here
        self._busy_at = time.monotonic()  # when there was something to do last

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
        if self._stops or self._failure is not None:
            return "stopping"
        if self._drained:
            return "drained"
        return None if self._confirmed else "connecting"

    def run(self) -> bool:
        """Work until asked to stop; True if every step under way was finished. Raises `NotAllowed` when the
        orchestrator turns this machine away."""
        settle_in()
        for dispatch, content in self._outbox.items():
            self._names[dispatch] = dispatch
            self._ready(dispatch, content, big=bool(blobs_of(content)))
        Joining(
            self._options.url,
            self._options.token,
            self._options.ca_certificate,
            self._identity,
            self._hello,
            lambda: self._worked,
            self._inbox.put,
        ).start()
        self._courier.start()
        while not self._done():
            for item in self._wait():
                self._take(item)
            self._came_round = time.monotonic()
            self._pace.catch_up()
            if self._gathering():
                continue
            self._store_ended()
            self._look_for_the_end()
            self._turn()
        self._leave()
        if self._failure is not None:
            raise self._failure
        return self._stops < 2 and not self._slots.running

    # ------------------------------------------------------------------ the loop

    def _wait(self) -> list[_Item]:
        items: list[_Item] = []
        now = time.monotonic()
        until = min(self._next_heartbeat if self._link else now + 1, self._deadline)
        if self._options.idle_timeout is not None and not self._stops:
            until = min(until, max(now, self._busy_at + self._options.idle_timeout))
        if self._gathering():
            # Not woken for each piece: what slots say and end is looked at together, and they go on meanwhile.
            time.sleep(max(0.0, min(GATHER, self._next_turn - now)))
            until = now
        elif self._ended:
            until = min(until, self._store_at)
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
            may_gather(self._slots.count, self._slots.unstarted, self._recent_ms)
            and time.monotonic() < self._next_turn
            and not self._stops
        )

    def _take(self, item: _Item) -> None:
        match item:
            case StepSaid():
                self._step_said(item)
            case StepEnded():
                self._ended.append(item)
            case Claimed() if item.link is self._link:
                item.link.waiting = False
                self._more = item.more
                if not self._stops:  # otherwise it goes back when we leave
                    self._open(item.work)
            case Said() if item.link is self._link:
                self._said(item)
            case Broken() if item.link is self._link:
                self._drop_link(f"Redis: {item.reason}")
            case Joined():
                self._begin_session(item.session)
            case SessionOver() if item.session is self._session:
                self._drop_link(item.reason)
            case NotJoined():
                self._turned_away(item)
            case Delivered():
                content = self._outbox.get(item.dispatch)
                if content is not None:
                    self._voice.send(item.dispatch, content)
            case Undeliverable():
                self._content_lost(item)
            case _Stop():
                self._asked_to_stop()

    def _turn(self) -> None:
        """One round trip to Redis, if there is anything to say or to ask for."""
        link = self._link
        if link is None:
            return
        now = time.monotonic()
        self._next_turn = now + PERIOD
        if self._slots.started_at + STALLED <= now:
            self._give_back()
        heartbeat = now >= self._next_heartbeat
        if heartbeat:
            self._next_heartbeat = now + self._welcome.heartbeat_seconds
        claim = self._appetite() if self._more and not link.waiting else 0
        begin: list[Dispatch] = []
        if self._confirmed and not self._stops:
            begin, self._claims.opened = to_begin(
                self._claims.opened, self._slots.count, len(self._slots.running), self._recent_ms
            )
        # A short step is told of once it has ended, with its result; of one that turns out not to be, soon after.
        ring = bool(self._voice.has_more or (begin and self._recent_ms >= SHORT_MS) or now >= self._ring_by)
        if ring:
            self._ring_by = float("inf")
        elif begin:
            self._ring_by = min(self._ring_by, now + PERIOD)
        wanted = ring or heartbeat or claim or begin or self._claims.release
        if wanted and not self._exchange(link, heartbeat, claim, begin, ring):
            return
        can_begin = self._confirmed and not self._stops and self._may_begin()
        can_claim = self._more and self._appetite()
        can_store = self._ended and now >= self._store_at
        if can_store or self._voice.has_more or can_begin or can_claim:
            self._nudge()
        elif not self._more and (appetite := self._appetite()):
            link.wait_for_work(appetite)

    def _may_begin(self) -> bool:
        begin, _ = to_begin(self._claims.opened[:1], self._slots.count, len(self._slots.running), self._recent_ms)
        return bool(begin)

    def _give_back(self) -> None:
        """What was taken ahead waits behind a step that is longer than those before it: another machine may have it."""
        if not self._slots.unstarted and not (self._claims.opened and self._slots.busy):
            return
        self._recent_ms = max(self._recent_ms, 1000 * STALLED)
        self._give_back_all()

    def _give_back_all(self) -> None:
        given = self._slots.give_back()
        self._claims.seen.was_not_started(given)
        for dispatch in given:
            self._voice.say(Dropped(dispatch))
        self._claims.decline_opened()

    def _appetite(self) -> int:
        """How many dispatches more to take now."""
        if not self._confirmed or self._drained or self._stops or self._voice.sent.size >= UNACKNOWLEDGED_LIMIT:
            return 0
        if time.monotonic() < self._paused_until:
            return 0
        waiting = self._claims.count
        wanted = to_claim(self._slots.count, len(self._slots.running), waiting, self._recent_ms)
        if self._options.max_dispatches is not None:
            under_way = waiting + len(self._slots.running) + len(self._ended)
            wanted = min(wanted, max(0, self._options.max_dispatches - self._finished - under_way))
        return wanted

    def _exchange(self, link: Link, heartbeat: bool, claim: int, begin: list[Dispatch], ring: bool) -> bool:
        """False if the link did not hold."""
        request, beginning = self._request(heartbeat, claim, begin)
        request.ring = ring
        try:
            answer = link.exchange(request)
        except RedisTrouble as error:
            # Whether these began is not known; that none was started is.
            self._began(beginning, [])
            self._drop_link(f"Redis: {error}")
            return False
        begun = self._begin_rest(link, beginning, answer.begin)
        self._began(beginning, begun)
        for status in (*answer.say, *answer.finish, *begun):
            if isinstance(status, bytes):
                self._drop_link(f"Redis: {status.decode(errors='replace')}")
                return False
        if claim:
            self._more = len(answer.work) == claim
        self._open(answer.work)
        return self._link is link

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
        return Heartbeat(self._welcome.boot, running, self._slots.count, self._claims.held, self._voice.sent.last)

    def _begin_rest(self, link: Link, beginning: list[Beginning], answered: list[int | bytes]) -> list[int | bytes]:
        """The server stops behind a claim that was taken back: say that it is dropped, and go on, before anything else
        is said. What became of each that was tried."""
        statuses = list(answered)
        while statuses and statuses[-1] == 0:
            started, gone = beginning[len(statuses) - 1]
            rest = beginning[len(statuses) :]
            request = Exchange(say=[self._voice.keep(started.number, Dropped(gone.id)).sealed])
            request.begin = [(dispatch.id, sent.sealed) for sent, dispatch in rest]
            try:
                answer = link.exchange(request)
            except RedisTrouble as error:
                return [*statuses, str(error).encode()]
            if not rest or answer.say != [1]:
                return statuses + [status for status in answer.say if status != 1]
            statuses += answer.begin
        return statuses

    def _began(self, beginning: list[Beginning], statuses: list[int | bytes]) -> None:
        """Start what the server let begin. Of what it did not answer for, one thing is known: it was not started."""
        begun = [dispatch.id for (_, dispatch), status in zip(beginning, statuses, strict=False) if status == 1]
        try:
            self._claims.seen.begin(begun)
        except OSError as error:
            for dispatch_id in begun:
                self._voice.say(Dropped(dispatch_id))
            self._cannot_write(f"cannot note what is to start: {error}; it goes back")
            begun = []
        for (started, dispatch), status in zip_longest(beginning, statuses[: len(beginning)]):
            if status == 1 and not begun:
                continue
            if status == 1 and not self._allows(dispatch):
                self._ended.append(StepEnded(dispatch, self._not_allowed(dispatch), {}))
            elif status == 1 and is_instant(dispatch):
                self._ended.append(self._slots.answer(dispatch))
            elif status == 1:
                self._slots.start(dispatch)
            else:
                self._voice.keep(started.number, Dropped(dispatch.id))
                name = self._name(dispatch.id)
                log.info("step %s was taken back before it began", name, extra=self._about(dispatch.id))

    def _allows(self, dispatch: Dispatch) -> bool:
        allowed = self._options.allowed_types
        return allowed is None or dispatch.invocation.model_type in allowed

    def _not_allowed(self, dispatch: Dispatch) -> Outcome:
        """An end like any other: nothing was started, and the step fails with the reason."""
        kind, allowed = dispatch.invocation.model_type, ", ".join(sorted(self._options.allowed_types or ()))
        now = iso_now()
        reason = f"worker '{self._welcome.worker}' does not run models of type '{kind}' (it allows: {allowed})"
        return Outcome("failed", reason, (), now, now, 0)

    def _open(self, work: list[tuple[str, bytes]]) -> None:
        try:
            received = self._claims.open(work, lambda it: it in self._slots.running or it in self._outbox)
        except Behind as behind:
            self._drop_link(str(behind))  # what was claimed goes back
            return
        except OSError as error:
            self._cannot_write(f"cannot note what was claimed: {error}; it goes back")
            return
        if received:
            self._can_write()
        for dispatch in received:
            self._names[dispatch.id] = f"{dispatch.job}/{dispatch.step}"
            self._pace.info(
                "step %s received: %s.%s of workflow %s",
                self._name(dispatch.id),
                dispatch.invocation.model_name,
                dispatch.invocation.method,
                dispatch.workflow,
                about=partial(self._about, dispatch.id),
            )

    # ------------------------------------------------------------------ steps

    def _step_said(self, said: StepSaid) -> None:
        if said.dispatch not in self._slots.running:
            return
        if self._withheld.withholds(said.dispatch, said.lines, self._voice.size):
            return
        self._say_what_was_withheld(said.dispatch)
        text = said.lines.decode("utf-8", "replace").removesuffix("\n")
        self._voice.say(OutputLines(said.dispatch, said.stream, text))

    def _say_what_was_withheld(self, dispatch: str) -> None:
        if note := self._withheld.note(dispatch):
            self._voice.say(OutputLines(dispatch, "stderr", note))

    def _store_ended(self) -> None:
        """Results go to the outbox, all that came in with one sync, before anything is told of them."""
        if not self._ended or time.monotonic() < self._store_at:
            return
        for ended in self._ended:
            if self._cut_off(ended):
                dispatch = ended.dispatch.id
                name = self._name(dispatch)
                log.warning("step %s was ended, because the worker stops", name, extra=self._about(dispatch))
                self._say_what_was_withheld(dispatch)
                self._slots.ended(dispatch)
        self._ended = [ended for ended in self._ended if not self._cut_off(ended)]
        packed = []
        try:
            for ended in self._ended:
                self._contents.put(ended.contents)
                packed.append((ended.dispatch.id, pack_result(ended.outcome)))
            self._outbox.put_many(packed)
        except OSError as error:
            self._store_at = time.monotonic() + STORE_AGAIN
            self._cannot_write(f"results cannot be stored: {error}; they wait until there is room")
            return
        self._can_write()
        for ended, (dispatch, content) in zip(self._ended, packed, strict=True):
            self._slots.ended(dispatch)
            self._say_what_was_withheld(dispatch)
            self._finished += 1
            outcome = ended.outcome
            self._recent_ms = moved(self._recent_ms, outcome.duration_ms)
            self._pace.info(
                "step %s executed %s: %s in %dms",
                self._name(dispatch),
                ended.dispatch.invocation.model_name,
                outcome.status if outcome.error is None else f"{outcome.status}, {outcome.error}",
                outcome.duration_ms,
                about=partial(self._about, dispatch),
            )
            self._ready(dispatch, content, big=bool(ended.contents))
        self._ended = []

    def _cannot_write(self, complaint: str) -> None:
        """Take no more for a while, and leave to others what is not begun."""
        now = time.monotonic()
        if now >= self._paused_until:
            self._paused_until, self._pause = now + self._pause, min(PAUSE_LONGEST, 2 * self._pause)
        if complaint != self._disk_complaint:
            self._disk_complaint = complaint
            log.error("%s", complaint)
        self._give_back_all()

    def _can_write(self) -> None:
        if self._disk_complaint:
            log.info("the cache directory can be written again")
            self._disk_complaint, self._pause, self._paused_until = "", PAUSE_FIRST, 0.0

    def _cut_off(self, ended: StepEnded) -> bool:
        """Whether we ended the step ourselves, to stop. That is no result; our farewell says that none will come, and
        the step's `onWorkerLost` decides."""
        return self._cutting and ended.outcome.status == "canceled"

    def _ready(self, dispatch: str, content: bytes, *, big: bool) -> None:
        """A stored result: send it, after the big content that it speaks of."""
        if big:
            self._courier.send(dispatch)
        else:
            self._voice.send(dispatch, content)

    def _content_lost(self, lost: Undeliverable) -> None:
        content = self._outbox.get(lost.dispatch)
        if content is not None:
            self._voice.send(lost.dispatch, self._without_content(lost.dispatch, content, lost.reason))

    def _without_content(self, dispatch: str, content: bytes, reason: str) -> bytes:
        """The result of a step whose output is lost: it has failed. Else it would be waited for for ever."""
        why = f"the output of the step was lost on its worker: {reason}"
        log.error("step %s: %s", self._name(dispatch), why, extra=self._about(dispatch))
        outcome = unpack_result(content)
        outputs = tuple(output for output in outcome.outputs if not isinstance(output.content, Blob))
        failed = pack_result(replace(outcome, status="failed", error=why, outputs=outputs))
        with suppress(OSError):  # from what is there the same follows again
            self._outbox.put(dispatch, failed)
        return failed

    # ------------------------------------------------------------------ what the orchestrator says

    def _said(self, said: Said) -> None:
        body = said.down.body
        if isinstance(body, Acknowledge):
            if body.epoch == self._epoch:
                self._acknowledged(body.number)
        elif isinstance(body, Grant):
            self._claims.granted(body.dispatch, here=body.epoch == self._epoch)
        elif isinstance(body, Cancel) and not self._claims.canceled(body.dispatch):
            about = self._about(body.dispatch)
            log.info("step %s is canceled: %s", self._name(body.dispatch), body.reason, extra=about)
            self._slots.cancel(body.dispatch, body.reason, body.grace)

    def _acknowledged(self, number: int) -> None:
        delivered = []
        for sent in self._voice.sent.acknowledged(number):
            if sent.dispatch:
                delivered.append(sent.dispatch)
                about = partial(self._about, sent.dispatch)
                self._pace.info("step %s: result returned", self._name(sent.dispatch), about=about)
                self._names.pop(sent.dispatch, None)
        if delivered:
            self._outbox.remove(delivered)
            if len(self._outbox) == 0:
                self._contents.keep_only(set())
        if not self._confirmed and number >= self._confirmed_at:
            self._confirmed = True
            self._worked = self._session
            self._more = True
            log.info("enrolled as %s and waiting for work (target %s)", self._welcome.worker, self._welcome.target)

    # ------------------------------------------------------------------ joining, and joining again

    @property
    def _welcome(self) -> Welcome:
        if self._session is None:
            raise RuntimeError("no session")
        return self._session.welcome

    def _hello(self) -> Hello:
        return Hello(
            protocol=messages.PROTOCOL,
            version=swamp.__version__,
            epoch=self._epoch,
            acknowledged=self._voice.sent.forgotten,
            platform=f"{platform.system().lower()}/{platform.machine()}",
            slots=self._slots.count,
            clock=iso_now(),
            host=platform.node(),
            pid=os.getpid(),
            python=platform.python_version(),
            grace=float(self._options.grace),
        )

    def _begin_session(self, session: Session) -> None:
        first = not self._voice.has_joined
        self._session = session
        welcome = session.welcome
        pinned = self._identity.pinned
        if pinned is None:
            raise RuntimeError("joined without knowing the orchestrator")
        keys = machine_keys(self._identity.private, pinned.static, self._identity.machine_id)
        self._voice.use(keys)
        self._claims.opener = Opener(welcome, pinned.signing)
        try:
            self._link = Link(
                self._identity.machine_id, session, Box(keys.down), self._inbox.put, self._options.ca_certificate
            )
        except RedisTrouble as error:
            self._drop_link(f"Redis: {error}")
            return
        log.info(
            "%s as %s (machine %s, Redis by %s)",
            "joined" if first else "joined again",
            welcome.worker,
            self._identity.machine_id,
            self._link.way,
        )
        self._acknowledged_before(welcome.applied)
        if not self._send_again():
            return
        self._claims.forget()
        drained = welcome.drained or welcome.delivers_until is not None
        if drained:
            self._claims.seen.was_not_started(self._slots.give_back())
        if welcome.delivers_until is not None:
            log.warning(
                "token %s has expired: no new steps are taken; what runs may be delivered until %s",
                welcome.target,
                welcome.delivers_until,
            )
        elif drained != self._drained:
            log.info("drained: no new steps are taken" if drained else "resumed: steps are taken again")
        self._drained = drained
        self._confirmed = False
        self._voice.say(self._inventory())
        # The inventory is the last of what is said in the next turn before results, so its number is known then.
        self._confirmed_at = self._voice.last_to_come
        self._next_heartbeat = 0.0
        self._nudge()

    def _acknowledged_before(self, number: int) -> None:
        self._confirmed_at, self._confirmed = 1 << 62, False
        self._acknowledged(number)

    def _send_again(self) -> bool:
        """Everything unacknowledged, in its order. False if the link did not hold."""
        if self._link is None:
            return False
        batch = Exchange()
        try:
            for sent in self._voice.sent:
                if bool(sent.dispatch) != bool(batch.finish) and (batch.finish or batch.say):
                    self._link.exchange(batch)
                    batch = Exchange()
                if sent.dispatch:
                    sent = self._with_content(sent)
                    batch.finish.append((sent.dispatch, sent.result, sent.sealed))
                else:
                    batch.say.append(sent.sealed)
            if batch.finish or batch.say:
                self._link.exchange(batch)
        except (RedisTrouble, NotReached, OSError) as error:
            self._drop_link(str(error))
            return False
        return True

    def _with_content(self, sent: Sent) -> Sent:
        """What is to be said, behind the content that it speaks of: the orchestrator may be the one that misses it."""
        content = self._outbox.get(sent.dispatch)
        if self._session is None or content is None:
            return sent
        try:
            self._courier.bring(self._session, content)
        except ContentLost as lost:
            failed = self._without_content(sent.dispatch, content, str(lost))
            return self._voice.keep(sent.number, sent.body, sent.dispatch, failed)
        return sent

    def _inventory(self) -> Inventory:
        running, outbox = tuple(self._slots.running), tuple(dispatch for dispatch, _ in self._outbox.items())
        self._told_all = not running and not outbox
        return Inventory(
            draining=self._drained or self._stops > 0,
            running=running,
            outbox=outbox,
            dropped=self._claims.seen.unstarted,
        )

    def _drop_link(self, reason: str) -> None:
        """Out of order: what is under way goes on, the way back is to join again."""
        link, self._link = self._link, None
        self._confirmed = False
        if link is not None:
            link.close()
        if self._session is not None:
            session, self._session = self._session, None
            log.warning("the connection is lost: %s; joining again", reason)
            threading.Thread(target=session.close, daemon=True).start()

    # ------------------------------------------------------------------ the end

    def _turned_away(self, error: NotJoined) -> None:
        self._failure = error.failure
        self._cut("this machine may not work any more")

    def _look_for_the_end(self) -> None:
        """Stop as if asked to, when the work that was wanted from us is done."""
        if self._stops:
            return
        if self._confirmed and not self._told_all and self._welcome.delivers_until is not None:
            self._tell_when_all_is_delivered()
        now, limit, idle = time.monotonic(), self._options.max_dispatches, self._options.idle_timeout
        if self._slots.running or self._claims.count or not self._confirmed:
            self._busy_at = now
        if limit is not None and self._finished >= limit:
            log.info("%d steps have ended here, as many as were wanted", self._finished)
            self._asked_to_stop()
        elif idle is not None and now - self._busy_at >= idle:
            log.info("there was nothing to do for %gs", idle)
            self._asked_to_stop()

    def _tell_when_all_is_delivered(self) -> None:
        """Then the orchestrator puts us out, before the grace is over."""
        if not (self._slots.running or self._ended or len(self._voice.sent) or len(self._outbox)):
            self._voice.say(self._inventory())

    def _asked_to_stop(self) -> None:
        self._stops += 1
        if self._stops == 1:
            running = len(self._slots.running)
            self._deadline = time.monotonic() + self._options.grace
            log.info(
                "stopping: no new steps%s",
                f"; waiting up to {self._options.grace:g}s for {running} running (Ctrl-C again ends them)"
                if running
                else "",
            )
            self._claims.seen.was_not_started(self._slots.give_back())
            self._claims.forget()
            self._voice.say(self._inventory())
            self._nudge()
        else:
            self._cut("the worker was stopped while the step ran")

    def _cut(self, reason: str) -> None:
        """End what runs, and do not wait for more than that."""
        self._deadline = min(self._deadline, time.monotonic() + KILL_AFTER + 1)
        self._cutting = True
        for dispatch in list(self._slots.running):
            self._slots.cancel(dispatch, reason, KILL_AFTER)

    _cutting = False

    def _done(self) -> bool:
        now = time.monotonic()
        if self._failure is not None:
            return not self._slots.running or now >= self._deadline
        if not self._stops:
            return False
        if not self._slots.running and not self._ended:
            told = self._link is None or len(self._voice.sent) == 0
            if told and len(self._outbox) == 0:
                return True
        if now < self._deadline:
            return False
        if self._slots.running and not self._cutting:
            log.warning("the grace time is over; ending %d steps", len(self._slots.running))
            self._deadline = now + KILL_AFTER + 1
            self._cut("the worker was stopped while the step ran")
            return False
        return True

    def _leave(self) -> None:
        if len(self._outbox):
            log.warning(
                "%d results are not delivered yet; %s",
                len(self._outbox),
                "they will be at the next start with this cache directory"
                if self._identity.durable
                else "they are lost, because there is no --cache-dir",
            )
        if self._link is not None:
            self._link.close()
        if self._session is not None:
            self._session.say_farewell()
        self._slots.close()
        log.info("worker stopped")

    # ------------------------------------------------------------------ small things

    def _about(self, dispatch: str) -> dict[str, str]:
        return {"run": run_of(dispatch), "step": self._name(dispatch), "dispatch": dispatch}

    def _name(self, dispatch: str) -> str:
        return self._names.get(dispatch, dispatch)
