"""The orchestrator's core: one thread that owns the engine, the ledger and the only writing connection.

It goes round in cycles. A cycle takes what came in (requests from the server's threads, steps that ran beside it,
messages of machines), applies all of it in ONE transaction, and only after the commit does what follows: wake whoever
watches a run, start steps, free and acknowledge what is on disk, push, and keep RQ's books. When Redis fails on the
way, the cycle ends, and everything that Redis should know is made again from memory and disk once it is back.
"""

from __future__ import annotations

import logging
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import redis

from swamp.broker.acl import worker_user
from swamp.broker.functions import Collected, Job
from swamp.clock import Timepiece, from_iso, iso, utc_now
from swamp.data import journal
from swamp.data.blobs import blob_path
from swamp.data.store import Store
from swamp.errors import SwampError
from swamp.models.invocation import Invocation, Outcome
from swamp.models.kept import spawner_that_leaves_nothing
from swamp.monitoring.tally import Tally
from swamp.orchestrator import admission, leases, room
from swamp.orchestrator.buttons import LOOK, Buttons
from swamp.orchestrator.intake import CANCEL_GRACE, Intake, Taken
from swamp.orchestrator.keys import OrchestratorKeys
from swamp.orchestrator.ledger import Ledger
from swamp.orchestrator.members import Live, Member, Session
from swamp.orchestrator.mirror import books, worker_fields
from swamp.orchestrator.packing import expiry, signed_and_sealed
from swamp.orchestrator.secrets import StepSecrets
from swamp.orchestrator.transport import Transport, call_tuple
from swamp.pace import Pace
from swamp.repo import Repo
from swamp.tokens import store as tokens
from swamp.tokens.token import Machine, is_live
from swamp.vaults.catalog import read_for_step
from swamp.wire.codec import Malformed
from swamp.wire.envelope import Box, machine_keys
from swamp.wire.messages import (
    DOWN,
    Acknowledge,
    Cancel,
    Dispatch,
    DownBody,
    Refusal,
    Rejoin,
    pack_dispatch,
    pack_down,
)
from swamp.workflows.beside import LocalFinished, LocalOutput, LocalSteps
from swamp.workflows.engine import Engine, Saved
from swamp.workflows.local import end_abandoned_runs

log = logging.getLogger("swamp.orchestrator")

SWEEP = 1.0  #: seconds; all streams are looked at this often, bell or not
SHOWN = 15.0  #: seconds; a worker is shown anew to RQ's tools this often
WORKER_TTL = 60  #: seconds; a worker that is not shown anew vanishes from them
RETRY_LONGEST = 5.0  #: seconds between two attempts to reach Redis
CANCEL_AGAIN = 5.0  #: seconds; machines that still run a step of a canceled run are told this often

T = TypeVar("T")

_Calls = dict[tuple[str, int], Invocation | Exception]  # by run and call; why it cannot be dispatched, if it cannot


@dataclass(slots=True)
class _Request:
    """Something to do in the next cycle: `inside` the transaction, then `after` it with the result."""

    inside: Callable[[sqlite3.Connection], Any]
    after: Callable[[Any], Any] | None
    future: Future[Any]


class Core:
    """`environment` is what steps beside the orchestrator see. `notify` is called, from the core thread, with the ids
    of runs that have new events."""

    def __init__(
        self,
        repo: Repo,
        store: Store,
        keys: OrchestratorKeys,
        transport: Transport,
        environment: Mapping[str, str],
        boot: str,
        notify: Callable[[set[str]], None],
        *,
        remote_only: bool = False,
    ) -> None:
        self.repo = repo
        self.store = store
        self.keys = keys
        self.transport = transport
        self.boot = boot
        self.remote_only = remote_only  #: no step runs beside us
        self.incarnation = 0
        self._notify = notify
        self._inbox: queue.SimpleQueue[_Request | LocalOutput | LocalFinished | None] = queue.SimpleQueue()
        self._now: Callable[[], str] = Timepiece()
        self.engine = Engine(repo.blobs, self._now, owner="serve")
        self.tally = Tally()
        self.ledger = Ledger(self.engine, time.monotonic, self.tally)
        self.members = self.ledger.members
        self._pace = Pace(log)
        read_secret = partial(read_for_step, repo)
        self._secrets = StepSecrets(read_secret, repo.blobs)
        self._intake = Intake(
            self.engine, self.ledger, self._now, time.monotonic, self._has_blob, self._pace, self._secrets, boot
        )
        self._spawner = spawner_that_leaves_nothing()
        self._steps = LocalSteps(repo.root, environment, self._inbox.put, read_secret, self._spawner)
        self.drained: dict[str, tokens.Drained] = {}  #: machines that take no new steps
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)
        self._rung = False
        self.said = 0  # number of the last message to any machine
        self._turn = 0
        self._looked_at = time.monotonic()
        self._collected = False  # the streams were read to their end in this cycle
        self._stopping = False
        self._next_sweep = 0.0
        self._next_look = 0.0  # at Redis itself, which bells do not put off
        self._next_shown = 0.0
        self._next_cancels = 0.0
        self._redis_down_since: float | None = None
        self._redis_complaint = ""  # what was said last about why it is away
        self._memory = 0.0  # how much of its memory Redis has used
        self._next_attempt = 0.0
        self._attempts = 0
        self._draining = True  # until what machines said before we came is applied, nothing is pushed
        self._lost_claims: list[tuple[Member, list[str]]] = []
        self._buttons = Buttons(self.ledger, self.transport, self._cancel_on_machine, self._show)
        self._next_tools = 0.0
        self._farewells: list[Member] = []

    # ------------------------------------------------------------------ from other threads

    def start(self) -> None:
        """Take up what the database holds, then begin. Raises what makes that impossible."""
        end_abandoned_runs(self.repo, self.store)
        with self.store.write() as tx:
            self._reload(tx)
            self._end_local_steps_of_the_last_boot()
            saved = self._save(tx)
        self._follow(saved)
        self._thread.start()

    def stop(self) -> None:
        """End the core thread; steps beside it are ended, steps on workers go on without it."""
        self._stopping = True
        self._inbox.put(None)
        self._thread.join(timeout=30)

    def hurry(self) -> None:
        """End the steps beside us at once; for somebody who will not wait for `stop`."""
        self._steps.cancel_all("the orchestrator was stopped", 0.0)

    def ask(self, inside: Callable[[sqlite3.Connection], T], after: Callable[[T], T] | None = None) -> Future[T]:
        """Have `inside` done in the next transaction, and `after`, if given, behind its commit; the future holds what
        the last of them returned or raised. A `SwampError` raised inside undoes only its own request."""
        future: Future[T] = Future()
        self._inbox.put(_Request(inside, after, future))
        return future

    def ring(self) -> None:
        """Something was said in Redis."""
        if not self._rung:
            self._rung = True
            self._inbox.put(None)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def why_not_ready(self) -> str:
        """What keeps work from flowing, empty if nothing does; see `readiness`. For the `after` of a request."""
        if not self.transport.up:
            return "redis"
        if self._draining:
            return "starting"
        return "" if self.transport.echoes() else "redis"

    # ------------------------------------------------------------------ the cycle

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._cycle(self._wait())
            except SwampError as error:
                # The database cannot be written (a full disk, for one). Nothing was acknowledged, so nothing is lost:
                # machines send again. What ran beside us is told again below.
                log.error("%s; trying again", error)
                self._start_over()
            except Exception:
                log.exception("a fault in the orchestrator; trying again")
                self._start_over()
        self._steps.cancel_all("the orchestrator was stopped", CANCEL_GRACE)
        self._settle_local_steps()
        self._say_goodbye()
        self._spawner.close()

    def _wait(self) -> list[_Request | LocalOutput | LocalFinished]:
        """What came in since the last cycle; waits for something, at most until the next sweep."""
        items: list[_Request | LocalOutput | LocalFinished] = []
        patience = max(0.0, self._next_sweep - time.monotonic())
        due = self.engine.seconds_to_deadline()
        if due is not None:
            patience = min(patience, due)
        with suppress(queue.Empty):
            item = self._inbox.get(timeout=patience)
            while True:
                if item is not None:
                    items.append(item)
                if len(items) >= 5000:
                    break
                item = self._inbox.get_nowait()
        return items

    def _cycle(self, items: list[_Request | LocalOutput | LocalFinished]) -> None:
        self._keep_redis()
        incoming = self._collect()
        if self._farewells and not incoming and self._collected:
            self._settle_farewells()
        requests = [item for item in items if isinstance(item, _Request) and item.future.set_running_or_notify_cancel()]
        taken: list[tuple[Member, Taken]] = []
        results: list[tuple[_Request, Any, BaseException | None]] = []
        if items or incoming or self.engine.dirty or self.ledger.over or self._lost_claims:
            try:
                with self.store.write() as tx:
                    for item in items:
                        if isinstance(item, LocalOutput):
                            self.engine.output(item.run_id, item.position, item.stream, item.text)
                        elif isinstance(item, LocalFinished):
                            self._say_finished(item)
                            self.engine.finished(item.run_id, item.position, item.outcome)
                    for request in requests:
                        results.append((request, *self._try(tx, request)))
                    for found in incoming:
                        member = self.members.get(found.machine)
                        if member is not None:  # a request may have put it out just now
                            taken.append((member, self._intake.apply(tx, member, found)))
                    self._requeue_taken_back()
                    saved = self._save(tx)
            except BaseException as error:
                for item in items:
                    if isinstance(item, LocalFinished):
                        self._inbox.put(item)
                    elif isinstance(item, _Request) and not item.future.done():
                        item.future.set_exception(error)
                raise
            self._follow(saved)
            for _, one in taken:
                if one.first_result:
                    self.tally.flush_lag.add(max(0.0, time.time() - int(one.first_result.partition("-")[0]) / 1000))
        try:
            self._tell_redis(taken)
        finally:
            self._resolve(results)
        self._look_at_leases()
        self._look_at_cancellations()
        if self.engine.dirty:
            self._inbox.put(None)
        self._look_at_tokens()
        self._look_at_tools()
        for member in self.members.values():
            if member.rejoin_asked:
                member.rejoin_asked = False
                if member.session is not None:
                    member.session.send(Rejoin())

    def _say_finished(self, item: LocalFinished) -> None:
        run = self.engine.runs.get(item.run_id)
        if run is not None:
            step, outcome = run.plan.steps[item.position], item.outcome
            self._pace.info(
                "step %s/%s finished here: %s in %dms",
                run.plan.jobs[step.job].name,
                step.name,
                outcome.status if outcome.error is None else f"{outcome.status}, {outcome.error}",
                outcome.duration_ms,
                about=partial(_about, item.run_id, run.plan.jobs[step.job].name, step.name),
            )

    def _try(self, tx: sqlite3.Connection, request: _Request) -> tuple[Any, BaseException | None]:
        tx.execute("SAVEPOINT request")
        try:
            result = request.inside(tx)
        except SwampError as error:
            tx.execute("ROLLBACK TO request")
            return None, error
        finally:
            tx.execute("RELEASE request")
        return result, None

    def _resolve(self, results: list[tuple[_Request, Any, BaseException | None]]) -> None:
        for request, result, error in results:
            if error is None and request.after is not None:
                try:
                    result = request.after(result)
                except redis.RedisError as failure:
                    self._redis_lost(failure)
                    error = failure
                except SwampError as failure:
                    error = failure
            if error is not None:
                request.future.set_exception(error)
            else:
                request.future.set_result(result)

    def _save(self, tx: sqlite3.Connection) -> Saved:
        saved = self.engine.save(tx, self.ledger.place)
        now = self._now()
        if self.ledger.added:
            journal.add_dispatches(tx, self.ledger.added, now)
        if self.ledger.granted:
            journal.grant_dispatches(tx, self.ledger.granted)
        if self.ledger.begun:
            journal.begin_dispatches(tx, self.ledger.begun, now)
        if self.ledger.over:
            journal.end_dispatches(tx, self.ledger.over, now)
        return saved

    def _follow(self, saved: Saved) -> None:
        """Behind the commit: what was stored may be seen and acted on."""
        for row in self.ledger.added:
            connected = sum(member.connected and member.target == row.target for member in self.members.values())
            live = self.ledger.live.get(row.id)
            if live is not None:
                name, about = self.ledger.step_name(live), partial(self.ledger.about, live)
                if connected:
                    text = "step %s matched target %s (workers connected: %d)"
                    self._pace.info(text, name, row.target, connected, about=about)
                else:
                    text = "step %s matched target %s, which has no worker connected: it waits"
                    self._pace.info(text, name, row.target, about=about)
        self.ledger.added.clear()
        self.ledger.granted.clear()
        self.ledger.begun.clear()
        self.ledger.over.clear()
        for start in saved.local:
            if self.remote_only:  # a run that was accepted before
                self._inbox.put(LocalFinished(start.run_id, start.position, _refused_here(self._now())))
                continue
            about = partial(_about, start.run_id, start.job, start.step)
            self._pace.info("step %s/%s started here", start.job, start.step, about=about)
            self._steps.start(start)
        for event in saved.events:
            if event["kind"] == "step-finished" and event["status"] == "skipped":
                about = partial(_about, event["run"], event["job"], event["step"])
                self._pace.info("step %s/%s was skipped", event["job"], event["step"], about=about)
        for target, status, duration_ms in saved.step_ends:
            self.tally.step_ended(target, status, duration_ms)
        for run_id, status in saved.ended:
            self._secrets.forget(run_id)
            self.tally.runs[status] += 1
            log.info("run %s finished: %s", run_id, status, extra={"run": run_id})
        if saved.events:
            self._notify({str(event["run"]) for event in saved.events})

    # ------------------------------------------------------------------ Redis

    def _keep_redis(self) -> None:
        """Have a connection, if one can be had. After a new one, nothing that was known about Redis holds."""
        now = time.monotonic()
        if self.transport.up or now < self._next_attempt:
            return
        try:
            users = [
                worker_user(member.target, member.machine, password_hash)
                for member in self.members.values()
                if (password_hash := self._password_hashes.get(member.machine)) is not None
            ]
            self.transport.connect(users)
            # In this order: first nothing can be claimed, then nothing that was claimed can begin, then everything
            # that did begin is known. Only then is it safe to push again.
            self.transport.clear_queues({*self.ledger.lanes, *self._targets})
            for member in self.members.values():
                # Not to be dispatched anew: this may be a Redis of the past, and what is claimed in it may have begun.
                # Under its old id it is refused by a machine that has seen it.
                self.transport.take_back(member.machine)
            self._raise_incarnation()
            self._look_at_memory()
        except (redis.RedisError, SwampError) as error:
            self._redis_lost(error)
            return
        self.tally.redis_connections += 1
        if self._redis_down_since is not None:
            log.info("Redis is back after %.1fs", now - self._redis_down_since)
        self._redis_down_since, self._attempts = None, 0
        self._draining = True
        for member in self.members.values():
            leases.heard(member.lease, now)
            member.shown = False
            member.rejoin_asked = True

    def _raise_incarnation(self) -> None:
        with self.store.write() as tx:
            self.incarnation = int(journal.get_meta(tx, "incarnation") or 0) + 1
            journal.set_meta(tx, "incarnation", str(self.incarnation))

    def _redis_lost(self, error: Exception) -> None:
        now = time.monotonic()
        self.transport.disconnect()
        if self._redis_down_since is None:
            self._redis_down_since, self._redis_complaint = now, ""
        complaint = f"{error} ({error.hint})" if isinstance(error, SwampError) and error.hint else str(error)
        if complaint != self._redis_complaint:
            self._redis_complaint = complaint
            log.error("Redis is away: %s; nothing is lost, trying again", complaint)
        self._attempts += 1
        self._next_attempt = now + random.uniform(0.5, 1.0) * min(RETRY_LONGEST, 0.1 * 2**self._attempts)  # noqa: S311

    def _collect(self) -> list[Collected]:
        now = time.monotonic()
        self._collected = False
        if not (self._rung or self._draining or now >= self._next_sweep) or not self.transport.up:
            if now >= self._next_sweep:
                self._next_sweep = now + SWEEP
            return []
        self._rung = False
        try:
            self._next_sweep = now + SWEEP
            if look := now >= self._next_look:
                self._next_look = now + SWEEP
                self._look_at_memory()
            # Whose turn is first changes, so that a machine that says too much holds up no other.
            machines = list(self.members)
            self._turn = (self._turn + 1) % max(1, len(machines))
            incoming, more = self.transport.collect(machines[self._turn :] + machines[: self._turn], renew=look)
            self._collected = not more
        except redis.RedisError as error:
            self._redis_lost(error)
            return []
        # What decides only once nothing is left to be read must see that nothing is.
        if more or (incoming and (self._draining or self._farewells)):
            self._rung = True
            self._inbox.put(None)
        elif self._draining:
            self._draining = False
            self.ledger.recall_everything()
            self.ledger.record_what_runs(self._now())
        return incoming

    def _look_at_memory(self) -> None:
        before, self._memory = self._memory, self.transport.memory()
        if room.may_push(before) and not room.may_push(self._memory):
            log.error("Redis is short of memory (%.0f%% of maxmemory is used): steps wait", 100 * self._memory)
        elif not room.may_push(before) and room.may_push(self._memory):
            log.info("Redis has room again")

    def _tell_redis(self, taken: list[tuple[Member, Taken]]) -> None:
        """Free first, alone; then answers; then new work; then the books, which may fail and are made again."""
        if not self.transport.up:
            self.ledger.records.clear()
            self.ledger.withdrawn.clear()
            self._intake.replies.clear()
            return
        try:
            if taken:
                self.transport.free([(m.machine, t.last_stream_id, t.results) for m, t in taken])
            replies = [(m, Acknowledge(m.epoch, m.number)) for m, t in taken if t.acknowledge]
            self._say([*replies, *self._intake.replies])
            self._intake.replies.clear()
            for member in self._intake.leaving:
                self._claims_back(member)
            self._intake.leaving.clear()
            for member, stranded in self._intake.stranded:
                self._claims_back(member, stranded)
            self._intake.stranded.clear()
            self._withdraw()
            if not self._draining and room.may_push(self._memory):
                for target in list(self.ledger.lanes):
                    self._push(target)
            self._keep_books()
        except redis.RedisError as error:
            self._intake.replies.clear()
            self.ledger.records.clear()
            self.ledger.withdrawn.clear()
            self._redis_lost(error)

    def _say(self, replies: list[tuple[Member, DownBody]]) -> None:
        if not replies:
            return
        messages = []
        for member, body in replies:
            self.said += 1
            sealed = member.down.seal(pack_down(self.boot, self.said, body), DOWN)
            messages.append((member.machine, sealed))
        self.transport.send_down(messages)

    def _push(self, target: str) -> None:
        while chosen := self.ledger.ready_to_push(target):
            with self.store.read() as tx:
                token = tokens.find(tx, target)
            alone = token is not None and token.max_enrollments == 1
            calls: _Calls = {}
            generation = token.key_generation if token is not None else 0
            for front in (True, False):
                lives = [live for live in chosen if live.front is front]
                firsts = range(0, len(lives), 1000)
                for first in reversed(firsts) if front else firsts:  # each batch goes before the one pushed last
                    jobs = self._jobs(lives[first : first + 1000], generation, alone, calls)
                    self.transport.push(target, jobs, front=front)
            for live in chosen:
                name, about = self.ledger.step_name(live), partial(self.ledger.about, live)
                self._pace.info("step %s dispatched to %s as %s", name, target, live.id, about=about)

    def _jobs(self, lives: list[Live], generation: int, alone: bool, calls: _Calls) -> list[Job]:
        """Signed together. A step whose secrets cannot be read, or which has no form on the wire, fails. `alone`: one
        machine only serves the target; `calls` of this push were resolved already."""
        expires_at = expiry(utc_now())
        packed: list[tuple[str, bytes]] = []
        descriptions: list[str] = []
        for live in lives:
            call = self._resolved(live, calls)
            if isinstance(call, Exception):
                self.ledger.lost_in_queue(live, f"the step cannot be sent to a worker: {call}")
                continue
            try:
                packed.append((live.id, pack_dispatch(self._dispatch(live, call, expires_at, alone))))
            except Malformed as error:
                self.ledger.lost_in_queue(live, f"the step cannot be sent to a worker: {error}")
                continue
            live.generation = generation
            descriptions.append(self._description(live))
        if not packed:
            return []
        sealed = signed_and_sealed(self.keys, lives[0].target, generation, packed)
        return [
            Job(dispatch, call_tuple(dispatch), description, content)
            for (dispatch, _), description, content in zip(packed, descriptions, sealed, strict=True)
        ]

    def _dispatch(self, live: Live, call: Invocation, expires_at: str, alone: bool) -> Dispatch:
        run = self.engine.runs[live.run_id]
        step = run.plan.steps[live.position]
        job = run.plan.jobs[step.job]
        return Dispatch(
            id=live.id,
            target=live.target,
            attempt=live.attempt,
            incarnation=self.incarnation,
            expires_at=expires_at,
            run_id=live.run_id,
            workflow=run.plan.workflow_name,
            job=job.name,
            step=step.name,
            grant=not alone and step.on_worker_lost == "fail",
            invocation=call,
        )

    def _description(self, live: Live) -> str:
        """Never an argument."""
        plan = self.engine.runs[live.run_id].plan
        step = plan.steps[live.position]
        call = plan.calls[step.call]
        return f"{plan.workflow_name} / {plan.jobs[step.job].name} / {step.name} — {call.model_name}.{call.method}"

    def _show(self, live: Live) -> None:
        """Something that runs, to RQ's tools."""
        job = Job(live.id, call_tuple(live.id), self._description(live), b"")
        self.transport.push(live.target, [job], only_shown=True)
        self.ledger.record_that_runs(live, self._now())

    def _look_at_tools(self) -> None:
        now = time.monotonic()
        # Not while there is something unread: it may tell what became of a job that seems to be missing.
        if now < self._next_tools or not self.transport.up or self._draining or not self._collected or self._rung:
            return
        self._next_tools = now + LOOK
        with self._redis_may_fail():
            if self._buttons.look(self._served):
                self._inbox.put(None)

    def _served(self) -> set[str]:
        now = utc_now()
        with self.store.read() as tx:
            return {token.name for token in tokens.tokens(tx) if is_live(token, now)}

    def _resolved(self, live: Live, calls: _Calls) -> Invocation | Exception:
        """The call of a step with its secrets, which are read once for all steps of a push that make the same call."""
        run = self.engine.runs[live.run_id]
        key = (live.run_id, run.plan.steps[live.position].call)
        if key not in calls:
            try:
                calls[key] = self._secrets.resolved(run, live.position)
            except (SwampError, OSError) as error:
                calls[key] = error
        return calls[key]

    def _withdraw(self) -> None:
        """What was given up while it waited leaves its queue; what was given up while it was claimed cannot begin."""
        withdrawn, self.ledger.withdrawn = self.ledger.withdrawn, []
        for target in {live.target for live in withdrawn}:
            dispatches = [live.id for live in withdrawn if live.target == target]
            machines = [member.machine for member in self.members.values() if member.target == target]
            for first in range(0, len(dispatches), 1000):
                self.transport.withdraw(target, dispatches[first : first + 1000], machines)

    def _keep_books(self) -> None:
        now = time.monotonic()
        everyone = now >= self._next_shown
        if everyone:
            self._next_shown = now + SHOWN
        records = self.ledger.records
        shown: list[tuple[object, ...]] = []
        for member in self.members.values():
            if member.connected and (everyone or not member.shown):
                fields = [] if member.shown else worker_fields(member, self._now())
                shown.append(("worker", member.worker, member.target, WORKER_TTL, fields))
                member.shown = True
            elif member.shown and not member.connected:
                shown.append(("left", member.worker, member.target))
                member.shown = False
        if shown or records:
            told = books(records, self._now())
            for first in range(0, len(told) + 1, 1000):
                self.transport.mirror([*(shown if first == 0 else []), *told[first : first + 1000]])
            records.clear()

    # ------------------------------------------------------------------ machines

    def drained_changed(self, tx: sqlite3.Connection) -> None:
        """A person has told machines to take no new steps, or to take them again: by joining anew they learn of it."""
        before, self.drained = self.drained, tokens.drained(tx)
        for machine in before.keys() ^ self.drained.keys():
            member = self.members.get(machine)
            if member is not None:
                member.rejoin_asked = True
                text = "worker %s is drained: it takes no new steps" if machine in self.drained else "worker %s resumes"
                log.info(text, member.worker, extra=member.about)

    def add_member(self, machine: Machine, password_hash: str | None, expires_at: datetime) -> Member:
        """Take a bound machine into memory; inside or outside a transaction."""
        member = self.members.get(machine.id)
        if member is None or member.target != machine.token:
            keys = machine_keys(self.keys.static, machine.public_key, machine.id)
            member = Member(
                machine=machine.id,
                worker=machine.worker,
                target=machine.token,
                up=Box(keys.up),
                down=Box(keys.down),
                results=Box(keys.results),
                lease=leases.Lease(time.monotonic()),
                expires_at=expires_at,
                epoch=machine.epoch,
                number=machine.sequence,
                platform=machine.platform,
                slots=machine.slots,
                last_seen_at=iso(machine.last_seen_at) if machine.last_seen_at else None,
            )
            self.members[machine.id] = member
        member.expires_at = expires_at  # the same token may have been made anew
        if password_hash is not None:
            self._password_hashes[machine.id] = password_hash
        return member

    def joined(self, member: Member, session: Session) -> None:
        """After the commit of a join: its Redis user, and an empty stream down. Raises `redis.RedisError`."""
        password_hash = self._password_hashes[member.machine]
        self.transport.set_user(worker_user(member.target, member.machine, password_hash))
        self.transport.clear_down(member.machine)
        self._claims_back(member)
        leases.heard(member.lease, time.monotonic())
        if member.session is not None:
            member.session.close()
        member.session, member.connected, member.shown, member.draining = session, True, False, False
        member.rejoin_asked = False  # it just did
        self.ring()

    def heard(self, member: Member) -> None:
        """A sign of life outside of Redis. May be called from any thread."""
        self.members.get(member.machine, member).lease.heard_at = time.monotonic()

    def left(self, tx: sqlite3.Connection, member: Member, session: object, *, farewell: bool) -> None:
        """The session is over; without a farewell that may be a passing cut."""
        member = self.members.get(member.machine, member)  # memory may have been made anew since it joined
        if member.session is not session:
            return
        member.session = None
        self._note_sightings(tx, [member])
        if farewell:
            member.connected = False
            log.info("worker %s left", member.worker, extra=member.about)
            with self._redis_may_fail():
                self._claims_back(member)
            if self.transport.up and not self._draining:
                # It said everything it had to say before its farewell: what it did not end has no end.
                self._farewells.append(member)
                self.ring()

    def put_out(self, name: str, refusal: Refusal, but: Collection[str] = ()) -> None:
        """End the membership of the machines of a token, `but` some, at once. Their running steps are given up."""
        for member in [m for m in self.members.values() if m.target == name and m.machine not in but]:
            if member.session is not None:
                member.session.send(refusal)
                member.session.close()
                log.info("worker %s was put out: %s", member.worker, refusal.message, extra=member.about)
            member.session, member.connected = None, False
            self._password_hashes.pop(member.machine, None)
            with self._redis_may_fail():
                self.transport.delete_user(f"swamp-m-{member.machine}")
                self._claims_back(member)
                self._note_unread_starts(member)
            for dispatch in [*member.running, *member.granted]:
                reason = f"worker '{member.worker}' was put out while the step ran: {refusal.message}"
                self.ledger.lost(self.ledger.live[dispatch], reason)
            with self._redis_may_fail():
                if member.shown:
                    self.transport.mirror([("left", member.worker, member.target)])
                self.transport.forget_machine(member.machine)
            del self.members[member.machine]

    def prolong(self, name: str, expires_at: datetime) -> None:
        """The machines of a token may stay until then."""
        for member in self.members.values():
            if member.target == name:
                member.expires_at = expires_at

    def _note_unread_starts(self, member: Member) -> None:
        """What was pushed, and is neither queued nor claimed, has begun: the machine's word of it is in the stream that
        goes with it. (On a fleet a grant tells who may have begun what.)"""
        if sum(other.target == member.target for other in self.members.values()) > 1:
            return
        there = {*self.transport.queued(member.target), *(c for _, claims in self._lost_claims for c in claims)}
        there.update(self.ledger.lane(member.target).waiting)
        for live in self.ledger.live.values():
            if live.target == member.target and not live.begun and not live.granted and live.id not in there:
                member.running.add(live.id)

    def cancel_run(self, run_id: str) -> bool:
        """End a run; False if it is not running. The next `_save` stores it."""
        run = self.engine.runs.get(run_id)
        if run is None:
            return False
        for position in self.engine.cancel(run_id):
            live = self.ledger.by_step.get((run_id, position))
            if live is None:
                self._steps.cancel(run_id, position, run.why_canceled, CANCEL_GRACE)
            elif live.begun:
                self._cancel_on_machine(live, run.why_canceled)
            else:
                self.ledger.canceled(live)
        return True

    def _cancel_on_machine(self, live: Live, reason: str) -> None:
        member = self.members.get(live.machine)
        if member is not None:
            self._intake.replies.append((member, Cancel(live.id, reason, CANCEL_GRACE)))

    def _look_at_cancellations(self) -> None:
        """Cancel the runs whose time is over, and tell machines again what they have to end: what was said once may be
        lost with Redis, or with the orchestrator that was about to say it."""
        for run_id in self.engine.overdue():
            self.cancel_run(run_id)
            why = self.engine.runs[run_id].why_canceled
            log.info("run %s is canceled: %s", run_id, why, extra={"run": run_id})
        now = time.monotonic()
        if now < self._next_cancels or not self.transport.up or self._draining:
            return
        self._next_cancels = now + CANCEL_AGAIN
        for member in self.members.values():
            for dispatch in member.running:
                live = self.ledger.live[dispatch]
                run = self.engine.runs[live.run_id]
                if run.canceling:
                    self._cancel_on_machine(live, run.why_canceled)

    def _claims_back(self, member: Member, only: Sequence[str] | None = None) -> None:
        claims = self.transport.take_back(member.machine, only)
        if claims:
            self._lost_claims.append((member, claims))
            self._inbox.put(None)

    def _settle_farewells(self) -> None:
        """What a worker that left had begun and did not end follows the step's `onWorkerLost`, at once. Only when
        everything it said is applied."""
        for member in self._farewells:
            if member.session is None:
                for dispatch in list(member.running):
                    self.ledger.lost(self.ledger.live[dispatch], f"worker '{member.worker}' was stopped while it ran")
        self._farewells.clear()

    def _requeue_taken_back(self) -> None:
        for _, claims in self._lost_claims:
            for dispatch in reversed(claims):
                live = self.ledger.live.get(dispatch)
                if live is not None:
                    self.ledger.taken_back(live)
        self._lost_claims.clear()
        for target, dispatch in self._intake.strays:
            self._buttons.stray(target, dispatch)
        self._intake.strays.clear()

    def _look_at_leases(self) -> None:
        now = time.monotonic()
        silent, self._looked_at = now - self._looked_at, now
        if not self.transport.up or self._draining or not self._collected:
            return
        if silent > leases.SILENCE / 2 or room.may_be_silent(self._memory):
            # It was us who did not listen, or they cannot speak.
            for member in self.members.values():
                leases.heard(member.lease, now)
        # A machine with something under way need not be connected to be missed: it may have gone before we came.
        present = ((machine, m.lease) for machine, m in self.members.items() if m.connected or m.running or m.granted)
        for machine in leases.newly_lost(present, now):
            member = self.members[machine]
            member.connected = False
            self.tally.leases_expired += 1
            text = "worker %s is lost: no sign of life for %.0fs"
            log.warning(text, member.worker, leases.SILENCE, extra=member.about)
            with self._redis_may_fail():
                self._claims_back(member)
        for member in self.members.values():
            if member.lease.lost_at is None:
                continue
            for dispatch in [*member.running, *member.granted]:
                live = self.ledger.live[dispatch]
                timeout = 0 if self.ledger.retries(live) else self.ledger.planned(live).lost_timeout
                if leases.given_up(member.lease, now, timeout):
                    self.ledger.lost(live, f"worker '{member.worker}' was lost while the step ran")
        for live in self.ledger.impatient(now):
            target, limit = live.target, self.ledger.planned(live).queue_timeout
            self.ledger.lost_in_queue(live, f"no worker of target '{target}' took the step within {limit}s")

    def _look_at_tokens(self) -> None:
        """Put out the machines whose token's time is over; what that does to runs is stored by the next cycle."""
        memberships = ((member.target, member.expires_at) for member in self.members.values())
        for name in sorted(admission.expired(memberships, utc_now())):
            self.put_out(name, Refusal("expired", f"token '{name}' has expired"))
            self._inbox.put(None)

    # ------------------------------------------------------------------ beginnings and endings

    def _reload(self, tx: sqlite3.Connection) -> None:
        """Memory as the disk has it."""
        now = utc_now()
        self._password_hashes: dict[str, str] = {}
        known = tokens.tokens(tx)
        self._targets = {token.name for token in known}
        sessions = {machine: member.session for machine, member in self.members.items()}
        expiry = {token.name: token.expires_at for token in known if is_live(token, now)}
        self.members.clear()
        for machine in tokens.machines(tx):
            if machine.token not in expiry:
                continue
            member = self.add_member(machine, machine.redis_password_hash, expiry[machine.token])
            member.session = sessions.get(machine.id)
            member.connected = member.session is not None
        self.drained = tokens.drained(tx)
        self.engine.load(tx)
        self.ledger.restore(journal.live_dispatches(tx), now)
        # Steps that began on a machine that is not a member any more can never report.
        for live in list(self.ledger.live.values()):
            if (live.machine if live.begun else live.granted) not in {*self.members, ""}:
                self.ledger.lost(live, "its machine's token was revoked or has expired")

    def _end_local_steps_of_the_last_boot(self) -> None:
        for run in list(self.engine.runs.values()):
            for position, record in enumerate(run.steps):
                if record.status == "running" and (run.id, position) not in self.ledger.by_step:
                    self.engine.given_up(
                        run.id, position, "failed", "the orchestrator was stopped while the step ran here"
                    )

    def _start_over(self) -> None:
        """A transaction failed: forget what memory made of it, and give the cause time to pass."""
        time.sleep(0.5)
        self.ledger.added.clear()
        self.ledger.granted.clear()
        self.ledger.begun.clear()
        self.ledger.over.clear()
        self.ledger.records.clear()
        self._intake.replies.clear()
        self._intake.strays.clear()
        self._lost_claims.clear()
        self._secrets.start_over()
        try:
            with self.store.read() as tx:
                self._reload(tx)
        except SwampError as error:
            log.error("%s", error)
        self.transport.disconnect()
        self._next_attempt = 0.0

    def _settle_local_steps(self) -> None:
        """Steps beside us are being ended: record how, within the grace time."""
        deadline = time.monotonic() + CANCEL_GRACE + 2
        while not self._steps.idle and time.monotonic() < deadline:
            self._next_sweep = min(deadline, time.monotonic() + 0.2)
            self._cycle_at_the_end()
        self._cycle_at_the_end()

    def _cycle_at_the_end(self) -> None:
        try:
            self._cycle(self._wait())
        except Exception:
            # There is nobody left to try again, and no need: the next start ends what has no end on disk.
            log.exception("what ended while the orchestrator stopped could not be recorded")

    def _note_sightings(self, tx: sqlite3.Connection, members: Iterable[Member]) -> None:
        seen = [
            tokens.Sighting(member.machine, from_iso(member.last_seen_at), member.platform, member.slots)
            for member in members
            if member.last_seen_at is not None
        ]
        tokens.note_sightings(tx, seen)

    def _say_goodbye(self) -> None:
        with suppress(SwampError), self.store.write() as tx:
            self._note_sightings(tx, self.members.values())
        with self._redis_may_fail():
            shown = [("left", member.worker, member.target) for member in self.members.values() if member.shown]
            if shown and self.transport.up:
                self.transport.mirror(shown)
        self.transport.disconnect()

    @contextmanager
    def _redis_may_fail(self) -> Iterator[None]:
        """For what is made again anyway when Redis is back."""
        try:
            yield
        except redis.RedisError as error:
            self._redis_lost(error)

    def _has_blob(self, checksum: str) -> bool:
        return blob_path(self.repo.blobs, checksum).exists()


def _refused_here(now: str) -> Outcome:
    return Outcome("failed", "this orchestrator runs no steps itself (--remote-only)", (), now, now, 0)


def _about(run: object, job: object, step: object) -> dict[str, str]:
    """What a log line about a step that has no dispatch carries."""
    return {"run": str(run), "step": f"{job}/{step}"}
