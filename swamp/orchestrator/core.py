"""The orchestrator's core: one thread that owns the engine, the ledger and the only writing connection.

It goes round in cycles. A cycle takes what came in (requests from the server's threads, steps that ran beside it,
messages of machines), applies all of it in ONE transaction, and only after the commit does what follows: wake whoever
watches a run, start steps, free and acknowledge what is on disk, push, and keep RQ's books. When Redis fails on the
way, the cycle ends, and everything that Redis should know is made again from memory and disk once it is back.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from swamp.clock import iso_now, utc_now
from swamp.data import journal
from swamp.data.blobs import blob_path
from swamp.data.store import Store
from swamp.errors import SwampError
from swamp.models.invocation import Outcome
from swamp.models.kept import spawner_that_leaves_nothing
from swamp.monitoring.tally import Tally
from swamp.orchestrator.buttons import LOOK, Buttons
from swamp.orchestrator.dispatcher import Dispatcher
from swamp.orchestrator.incoming import Incoming
from swamp.orchestrator.intake import Intake, Taken
from swamp.orchestrator.keys import OrchestratorKeys
from swamp.orchestrator.ledger import CANCEL_GRACE, Ledger
from swamp.orchestrator.members import Live, Member
from swamp.orchestrator.membership import Membership
from swamp.orchestrator.outgoing import Outgoing
from swamp.orchestrator.redis_watch import RedisWatch
from swamp.orchestrator.requests import Request, Tried, attempt, resolve
from swamp.orchestrator.secrets import StepSecrets
from swamp.orchestrator.transport import Transport
from swamp.pace import Pace
from swamp.repo import Repo
from swamp.tokens import store as tokens
from swamp.tokens.token import is_live
from swamp.vaults.catalog import read_for_step
from swamp.wire.messages import (
    Cancel,
    Rejoin,
)
from swamp.workflows.beside import LocalFinished, LocalOutput, LocalSteps
from swamp.workflows.engine import Engine, Saved
from swamp.workflows.local import end_abandoned_runs

log = logging.getLogger("swamp.orchestrator")

CANCEL_AGAIN = 5.0  #: seconds; machines that still run a step of a canceled run are told this often

T = TypeVar("T")


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
        self._notify = notify
        self._inbox: queue.SimpleQueue[Request | LocalOutput | LocalFinished | None] = queue.SimpleQueue()
        self._now = iso_now
        self.engine = Engine(repo.blobs, self._now, owner="serve")
        self.tally = Tally()
        self.ledger = Ledger(self.engine, time.monotonic, self.tally)
        self.members = self.ledger.members
        self.pace = Pace(log)
        read_secret = partial(read_for_step, repo)
        self._secrets = StepSecrets(read_secret, repo.blobs)
        self.watch = RedisWatch(transport, self.tally)
        self.membership = Membership(keys, self.ledger, transport, self.watch, self.tally, self.ring, self._wake)
        self.dispatcher = Dispatcher(
            store, keys, self.engine, self.ledger, transport, self._secrets, self.pace, self._now
        )
        self._incoming = Incoming(
            store, transport, self.watch, self.ledger, self.membership, self.dispatcher, self._wake, self._now
        )
        self._intake = Intake(
            self.engine, self.ledger, self._now, time.monotonic, self._has_blob, self.pace, self._secrets, boot
        )
        self._outgoing = Outgoing(
            boot, transport, self.watch, self.ledger, self.membership, self.dispatcher, self._intake, self._now
        )
        self._spawner = spawner_that_leaves_nothing()
        self._steps = LocalSteps(repo.root, environment, self._inbox.put, read_secret, self._spawner)
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)
        self._stopping = False
        self._next_cancels = 0.0
        self._buttons = Buttons(
            self.ledger, self.transport, self._cancel_on_machine, self.dispatcher.show, self._outgoing.unshown
        )
        self._next_tools = 0.0

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
        self._wake()
        self._thread.join(timeout=30)

    def hurry(self) -> None:
        """End the steps beside us at once; for somebody who will not wait for `stop`."""
        self._steps.cancel_all("the orchestrator was stopped", 0.0)

    def ask(self, inside: Callable[[sqlite3.Connection], T], after: Callable[[T], T] | None = None) -> Future[T]:
        """Have `inside` done in the next transaction, and `after`, if given, behind its commit; the future holds what
        the last of them returned or raised. A `SwampError` raised inside undoes only its own request."""
        future: Future[T] = Future()
        self._inbox.put(Request(inside, after, future))
        return future

    def _wake(self) -> None:
        """Have another cycle made at once."""
        self._inbox.put(None)

    def ring(self) -> None:
        """Something was said in Redis."""
        self._incoming.ring()

    @property
    def said(self) -> int:
        """The number of the last message to any machine."""
        return self._outgoing.said

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def why_not_ready(self) -> str:
        """What keeps work from flowing, empty if nothing does; see `readiness`. For the `after` of a request."""
        if not self.transport.up:
            return "redis"
        if self.watch.draining:
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
        self.pace.catch_up()
        self._say_goodbye()
        self._spawner.close()

    def _wait(self) -> list[Request | LocalOutput | LocalFinished]:
        """What came in since the last cycle; waits for something, at most until the next sweep."""
        items: list[Request | LocalOutput | LocalFinished] = []
        patience = max(0.0, self._incoming.next_sweep - time.monotonic())
        patience = min(patience, self._outgoing.patience(time.monotonic()))
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

    def _cycle(self, items: list[Request | LocalOutput | LocalFinished]) -> None:
        self._incoming.keep_connection()
        incoming = self._incoming.collect()
        self._outgoing.look()
        if self.membership.farewells and not incoming and self.watch.read_to_end:
            self.membership.settle_farewells()
        requests = [item for item in items if isinstance(item, Request) and item.future.set_running_or_notify_cancel()]
        taken: list[tuple[Member, Taken]] = []
        tried: list[Tried] = []
        if items or incoming or self.engine.dirty or self.ledger.over or self.membership.lost_claims:
            try:
                with self.store.write() as tx:
                    for item in items:
                        if isinstance(item, LocalOutput):
                            self.engine.output(item.run_id, item.position, item.stream, item.text)
                        elif isinstance(item, LocalFinished):
                            self._say_finished(item)
                            self.engine.finished(item.run_id, item.position, item.outcome)
                    for request in requests:
                        tried.append(attempt(tx, request))
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
                    elif isinstance(item, Request) and not item.future.done():
                        item.future.set_exception(error)
                raise
            self._follow(saved)
            for _, one in taken:
                if one.first_result:
                    self.tally.flush_lag.add(max(0.0, time.time() - int(one.first_result.partition("-")[0]) / 1000))
        try:
            self._outgoing.tell(taken)
        finally:
            resolve(tried, self.watch.lost)
            self.pace.catch_up()
        self.membership.look_at_leases()
        self._look_at_patience()
        self._look_at_cancellations()
        if self.engine.dirty:
            self._wake()
        self.membership.look_at_tokens(utc_now())
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
            self.pace.info(
                "step %s/%s finished here: %s in %dms",
                run.plan.jobs[step.job].name,
                step.name,
                outcome.status if outcome.error is None else f"{outcome.status}, {outcome.error}",
                outcome.duration_ms,
                about=partial(_about, item.run_id, run.plan.jobs[step.job].name, step.name),
            )

    def _save(self, tx: sqlite3.Connection) -> Saved:
        saved = self.engine.save(tx, self.ledger.place)
        now = self._now()
        if self.ledger.added:
            journal.add_dispatches(tx, self.ledger.added, now)
        if self.ledger.granted:
            journal.grant_dispatches(tx, self.ledger.granted)
        # What began and ended since the last cycle, as short steps do, is written once.
        begun = {row[0]: row for row in self.ledger.begun}
        ran, ended = [], []
        for dispatch, state, outcome in self.ledger.over:
            beginning = begun.pop(dispatch, None)
            if beginning is not None:
                ran.append((*beginning, state, outcome))
            else:
                ended.append((dispatch, state, outcome))
        if begun:
            journal.begin_dispatches(tx, begun.values(), now)
        if ran:
            journal.run_dispatches(tx, ran, now)
        if ended:
            journal.end_dispatches(tx, ended, now)
        self._intake.keep_late(tx)
        return saved

    def _follow(self, saved: Saved) -> None:
        """Behind the commit: what was stored may be seen and acted on. First of all by whoever waits for it."""
        if saved.events:
            self._notify({str(event["run"]) for event in saved.events})
        for row in self.ledger.added:
            connected = sum(member.connected and member.target == row.target for member in self.members.values())
            live = self.ledger.live.get(row.id)
            if live is not None:
                name, about = self.ledger.step_name(live), partial(self.ledger.about, live)
                if connected:
                    text = "step %s matched target %s (workers connected: %d)"
                    self.pace.info(text, name, row.target, connected, about=about)
                else:
                    text = "step %s matched target %s, which has no worker connected: it waits"
                    self.pace.info(text, name, row.target, about=about)
        self.ledger.added.clear()
        self.ledger.granted.clear()
        self.ledger.begun.clear()
        self.ledger.over.clear()
        for start in saved.local:
            if self.remote_only:  # a run that was accepted before
                self._inbox.put(LocalFinished(start.run_id, start.position, _refused_here(self._now())))
                continue
            about = partial(_about, start.run_id, start.job, start.step)
            self.pace.info("step %s/%s started here", start.job, start.step, about=about)
            self._steps.start(start)
        for event in saved.events:
            if event["kind"] == "step-finished" and event["status"] == "skipped":
                about = partial(_about, event["run"], event["job"], event["step"])
                self.pace.info("step %s/%s was skipped", event["job"], event["step"], about=about)
        for target, status, duration_ms in saved.step_ends:
            self.tally.step_ended(target, status, duration_ms)
        for run_id, status in saved.ended:
            self._secrets.forget(run_id)
            self.tally.runs[status] += 1
            self.pace.always("run %s finished: %s", run_id, status, about=partial(dict, run=run_id))

    # ------------------------------------------------------------------ tools

    def _look_at_tools(self) -> None:
        now = time.monotonic()
        # Not while there is something unread: it may tell what became of a job that seems to be missing.
        if now < self._next_tools or not self.watch.current or self._incoming.rung:
            return
        self._next_tools = now + LOOK
        with self.watch.may_fail():
            if self._buttons.look(self._served):
                self._wake()

    def _served(self) -> set[str]:
        now = utc_now()
        with self.store.read() as tx:
            return {token.name for token in tokens.tokens(tx) if is_live(token, now)}

    # ------------------------------------------------------------------ machines

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

    def _look_at_patience(self) -> None:
        """Give up what waited in a queue for longer than its step allows."""
        if not self.watch.current:
            return
        for live in self.ledger.impatient(time.monotonic()):
            target, limit = live.target, self.ledger.planned(live).queue_timeout
            self.ledger.lost_in_queue(live, f"no worker of target '{target}' took the step within {limit}s")

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
        if now < self._next_cancels or not self.transport.up or self.watch.draining:
            return
        self._next_cancels = now + CANCEL_AGAIN
        for member in self.members.values():
            for dispatch in member.running:
                live = self.ledger.live[dispatch]
                run = self.engine.runs[live.run_id]
                if run.canceling:
                    self._cancel_on_machine(live, run.why_canceled)

    def _requeue_taken_back(self) -> None:
        for _, claims in self.membership.lost_claims:
            for dispatch in reversed(claims):
                live = self.ledger.live.get(dispatch)
                if live is not None:
                    self.ledger.taken_back(live)
        self.membership.lost_claims.clear()
        for target, dispatch in self._intake.strays:
            self._buttons.stray(target, dispatch)
        self._intake.strays.clear()

    # ------------------------------------------------------------------ beginnings and endings

    def _reload(self, tx: sqlite3.Connection) -> None:
        """Memory as the disk has it."""
        now = utc_now()
        self.membership.reload(tx, now)
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
        self._outgoing.start_over()
        self._intake.late.clear()
        self._intake.strays.clear()
        self.membership.lost_claims.clear()
        self._secrets.start_over()
        try:
            with self.store.read() as tx:
                self._reload(tx)
        except SwampError as error:
            log.error("%s", error)
        self.watch.start_over()

    def _settle_local_steps(self) -> None:
        """Steps beside us are being ended: record how, within the grace time."""
        deadline = time.monotonic() + CANCEL_GRACE + 2
        while not self._steps.idle and time.monotonic() < deadline:
            self._incoming.next_sweep = min(deadline, time.monotonic() + 0.2)
            self._cycle_at_the_end()
        self._cycle_at_the_end()

    def _cycle_at_the_end(self) -> None:
        try:
            self._cycle(self._wait())
        except Exception:
            # There is nobody left to try again, and no need: the next start ends what has no end on disk.
            log.exception("what ended while the orchestrator stopped could not be recorded")

    def _say_goodbye(self) -> None:
        with suppress(SwampError), self.store.write() as tx:
            self.membership.note_sightings(tx, self.members.values())
        self._outgoing.say_goodbye()
        self.transport.disconnect()

    def _has_blob(self, checksum: str) -> bool:
        return blob_path(self.repo.blobs, checksum).exists()


def _refused_here(now: str) -> Outcome:
    return Outcome("failed", "this orchestrator runs no steps itself (--remote-only)", (), now, now, 0)


def _about(run: object, job: object, step: object) -> dict[str, str]:
    """What a log line about a step that has no dispatch carries."""
    return {"run": str(run), "step": f"{job}/{step}"}
