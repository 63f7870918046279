"""What machines say, applied: whatever Redis loses, doubles or shuffles, each step gets exactly one end."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from swamp.clock import iso, utc_now
from swamp.data import journal
from swamp.data.record import Blob, Output
from swamp.data.store import Store
from swamp.data.versions import list_versions, read_content
from swamp.models.invocation import Outcome
from swamp.orchestrator import ledger as ledgers
from swamp.orchestrator.intake import Intake, Taken, log
from swamp.orchestrator.leases import Lease
from swamp.orchestrator.ledger import MOST_ATTEMPTS, Ledger
from swamp.orchestrator.members import Member
from swamp.orchestrator.secrets import StepSecrets
from swamp.pace import Pace
from swamp.tokens import store as tokens
from swamp.tokens.token import Token
from swamp.wire.envelope import Box
from swamp.wire.messages import (
    UP,
    Acknowledge,
    Cancel,
    Declined,
    DownBody,
    Finished,
    Heartbeat,
    Inventory,
    OutputLines,
    Started,
    UpBody,
    pack_result,
    pack_up,
    result_place,
)
from swamp.workflows.engine import Engine
from tests.orchestrator.far_side import BOOT, NOON, Redis, Worker
from tests.stories import stories
from tests.workflows.plans import Edges, plan

TARGET = "build-node"
RUN = "run-1"
ENDED = {"succeeded", "failed", "canceled", "skipped"}
LONG_AGO = datetime(2026, 6, 15, 12, tzinfo=UTC)


class Broken(Exception):
    """What a test raises in the middle of a transaction."""


def no_secrets(vault: str, key: str) -> str:
    raise AssertionError(f"{vault}/{key} was asked for")


@dataclass(frozen=True)
class Dispatched:
    """What is on the disk of a dispatch."""

    state: str
    machine: str | None
    evidence: tuple[tuple[str, str], ...]  #: (machine, status) of each result that was kept, but is not the step's


class Orchestrator:
    """The core's handling of machines without its threads and its Redis: engine, ledger, intake and a real store."""

    def __init__(self, directory: Path, redis: Redis, workers: list[Worker], policies: Sequence[str]) -> None:
        """One run, of a step for each policy: what it says under `onWorkerLost`."""
        self.redis = redis
        self.workers = {worker.machine: worker for worker in workers}
        self.store = Store.open(directory / "data" / "swamp.db", directory / "data" / "blobs", create=True)
        self.store._writer.execute("PRAGMA synchronous = OFF")  # no power fails here, and a sync costs most of the time
        self.engine = Engine(self.store.blobs, lambda: iso(utc_now()), owner="serve")
        self.ledger = Ledger(self.engine, lambda: 0.0)
        self.blobs: set[str] = set()
        self.intake = Intake(
            self.engine, self.ledger, lambda: NOON, lambda: 0.0, lambda checksum: checksum in self.blobs, Pace(log),
            StepSecrets(no_secrets, self.store.blobs), BOOT,
        )  # fmt: skip
        self.draining = False
        with self.store.write() as tx:
            tokens.add(tx, Token(TARGET, "vault", "key", LONG_AGO, LONG_AGO + timedelta(days=9)), LONG_AGO)
            for worker in workers:
                tokens.bind(tx, worker.machine, worker.machine.encode() * 4, TARGET, worker.machine, LONG_AGO)
            self._read_members(tx)
            steps: list[Edges] = [[] for _ in policies]
            self.engine.accept(tx, RUN, plan([steps], targets=(TARGET,), lost=policies))
            self._save(tx)
        self._follow()

    @property
    def refused(self) -> int:
        """Messages that were not sealed by the machine they came from."""
        return self.ledger.tally.messages_refused["seal"]

    def _read_members(self, tx: sqlite3.Connection) -> None:
        self.ledger.members.clear()
        for machine in tokens.machines(tx):
            worker = self.workers[machine.id]
            self.ledger.members[machine.id] = Member(
                machine.id, machine.id, TARGET, worker.up, Box(os.urandom(32)), worker.results, Lease(0.0),
                LONG_AGO, LONG_AGO, machine.epoch, machine.sequence,
            )  # fmt: skip

    def _save(self, tx: sqlite3.Connection) -> None:
        self.engine.save(tx, self.ledger.place)
        journal.add_dispatches(tx, self.ledger.added, NOON)
        journal.grant_dispatches(tx, self.ledger.granted)
        journal.begin_dispatches(tx, self.ledger.begun, NOON)
        journal.end_dispatches(tx, self.ledger.over, NOON)
        self.intake.keep_late(tx)

    def _follow(self) -> None:
        for done in (self.ledger.added, self.ledger.granted, self.ledger.begun, self.ledger.over, self.ledger.records):
            done.clear()
        for live in self.ledger.withdrawn:
            self.redis.withdraw(live.id)
        self.ledger.withdrawn.clear()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """As a cycle of the core: what is done inside is stored, then followed."""
        with self.store.write() as tx:
            yield tx
            self._save(tx)
        self._follow()

    def member(self, worker: Worker) -> Member:
        return self.ledger.members[worker.machine]

    def take(self, worker: Worker) -> Taken:
        (taken,) = self.take_of([worker])
        return taken

    def take_of(
        self,
        workers: Sequence[Worker],
        count: int = 1_000,
        *,
        answered: bool = True,
        fails: bool = False,
        lost: str | None = None,
    ) -> list[Taken]:
        """Apply the first `count` messages of each in one transaction, free them, and answer, unless the answers are to
        get lost. `lost`: since the last transaction this dispatch was given up."""
        collected = [(worker, self.redis.collect(worker.machine, count)) for worker in workers]
        try:
            with self.transaction() as tx:
                if lost is not None:
                    self.ledger.lost(self.ledger.live[lost], "its worker was lost")
                taken = [self.intake.apply(tx, self.member(worker), found) for worker, found in collected]
                if fails:
                    raise Broken
        except Broken:
            self.start_over()
            return []
        replies: list[tuple[str, DownBody]] = []
        for (worker, found), one in zip(collected, taken, strict=True):
            self.redis.free(worker.machine, len(found.messages), one.results)
            if one.acknowledge:
                member = self.member(worker)
                replies.append((worker.machine, Acknowledge(member.epoch, member.number)))
        replies += [(member.machine, body) for member, body in self.intake.replies]
        self.intake.replies.clear()
        for machine, body in replies if answered else ():
            self.workers[machine].hear(body)
        self.claims_back(*(m.machine for m in self.intake.leaving))
        self.intake.leaving.clear()
        for m, claims in self.intake.stranded:
            self.requeue([claim for claim in claims if self.redis.remove_claim(m.machine, claim)])
        self.intake.stranded.clear()
        if self.draining and not any(self.redis.up.values()):
            self.draining = False
            self.ledger.recall_everything()
        return taken

    def push(self) -> None:
        for live in () if self.draining else self.ledger.ready_to_push(TARGET):
            self.redis.queue.append(live.id)
            if len(self.workers) > 1 and self.ledger.planned(live).on_worker_lost == "fail":
                self.redis.with_grant.add(live.id)  # as the dispatcher has it

    def claims_back(self, *machines: str) -> None:
        self.requeue([claim for machine in machines for claim in self.redis.take_back(machine)])

    def requeue(self, claims: list[str]) -> None:
        with self.transaction():
            for dispatch in reversed(claims):
                live = self.ledger.live.get(dispatch)
                if live is not None and not live.begun:
                    self.ledger.taken_back(live)

    def start_over(self) -> None:
        """Memory as the disk has it, and a new connection to Redis."""
        for queue in (self.ledger.added, self.ledger.granted, self.ledger.begun, self.ledger.over):
            queue.clear()
        self.ledger.records.clear()
        self.ledger.withdrawn.clear()
        self.intake.replies.clear()
        self.intake.leaving.clear()
        self.intake.stranded.clear()
        self.intake.late.clear()
        with self.store.read() as tx:
            self._read_members(tx)
            self.engine.load(tx)
            self.ledger.restore(journal.live_dispatches(tx), utc_now())
        self.reconnect()

    def reconnect(self) -> None:
        """First nothing can be claimed, then nothing claimed can begin, and nothing is pushed before all is known."""
        self.redis.queue.clear()
        self.claims_back(*self.workers)
        self.draining = True
        for member in self.ledger.members.values():
            member.rejoin_asked = True

    def join(self, worker: Worker) -> None:
        self.claims_back(worker.machine)
        member = self.member(worker)
        member.rejoin_asked = False
        worker.join(member.number if member.epoch == worker.epoch else 0)

    def give_up(self, dispatch: str) -> None:
        """Its machine was away for too long."""
        self.take_of([], lost=dispatch)

    def cancel(self) -> None:
        with self.transaction():
            for position in self.engine.cancel(RUN):
                live = self.ledger.by_step[(RUN, position)]
                if live.begun or live.granted:
                    worker = live.machine or live.granted
                    self.intake.replies.append((self.ledger.members[worker], Cancel(live.id, "enough", 1.0)))
                else:
                    self.ledger.canceled(live)

    # ------------------------------------------------------------------ what is on the disk

    def events(self) -> list[dict[str, object]]:
        with self.store.read() as tx:
            return list(journal.read_events(tx, RUN))

    def steps(self) -> list[journal.StepRow]:
        with self.store.read() as tx:
            return journal.load_steps(tx, RUN)

    def run_status(self) -> str:
        with self.store.read() as tx:
            return journal.get_run(tx, RUN).status

    def results(self) -> list[tuple[str, str]]:
        """Whose data was recorded: (dispatch, machine)."""
        with self.store.read() as tx:
            if tx.execute("SELECT count(*) FROM data").fetchone() == (0,):
                return []
            versions = list_versions(tx, "echo", "result")
            contents = [json.loads(read_content(tx, self.store.blobs, version)) for version in versions]
            return [(content["of"], content["by"]) for content in contents]

    def dispatches(self) -> dict[str, Dispatched]:
        with self.store.read() as tx:
            rows = tx.execute("SELECT id, state, machine, evidence FROM dispatches").fetchall()
        return {
            dispatch: Dispatched(
                state, machine, tuple((one["machine"], one["status"]) for one in json.loads(evidence or "[]"))
            )
            for dispatch, state, machine, evidence in rows
        }


# ---------------------------------------------------------------------- whatever happens


#: Of a step, by a machine that runs it: some output, an end with that status, or nothing.
SAID = ("nothing", "output", "succeeded", "failed")

#: The dangers that the stories are told for.
EARLIER = "an attempt begins while a message of an earlier one is under way"
ELSEWHERE = "an attempt begins while a message of an earlier one is under way from another machine"
BEFORE = "the result of an earlier attempt comes while a later one runs"
BEHIND = "the result of an earlier attempt comes behind that of a later one"
SHARED = "two machines begin one dispatch"

#: Dispatches of one step that may be lost here, so that a story is long enough to lose them all.
FEW_ATTEMPTS = 3


@dataclass
class Expected:
    """What has to come of some messages of one worker."""

    place: tuple[int, int]  #: (epoch, number) of the last that is applied
    misses: bool = False  #: something before one of them is missing
    refused: int = 0
    results: list[tuple[str, str]] = field(default_factory=list)  #: that are applied: (dispatch, machine)


class Trouble(RuleBasedStateMachine):
    """Orchestrator, Redis and one or two workers, everything that can go wrong between them, and what must be true."""

    #: In how many stories each of the dangers happened, and how many there were.
    told: ClassVar[Counter[str]] = Counter()

    @initialize(
        data=st.data(),
        fleet=st.sampled_from([True, True, False]),
        policies=st.lists(st.sampled_from(["retry", "fail", "retry"]), min_size=2, max_size=8),
        opening=st.sampled_from(["work", "again", "again", "away"]),
    )
    def begin(self, data: st.DataObject, fleet: bool, policies: list[str], opening: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="swamp-intake-"))
        self.redis = Redis()
        names = ["machine-a", "machine-b"] if fleet else ["machine-a"]
        self.workers = [Worker(name, self.redis) for name in names]
        self.orchestrator = Orchestrator(self.directory, self.redis, self.workers, policies)
        self.policies = policies
        self.stranger = Box(os.urandom(32))
        self.canceled = False
        self.over: dict[str, Dispatched] = {}
        self.ended: dict[int, journal.StepRow] = {}
        self.recorded: list[tuple[str, str]] = []
        self.happened: set[str] = set()
        for worker in self.workers:
            self.orchestrator.join(worker)
            self.orchestrator.take(worker)
        self.all_goes_its_way()
        if opening == "again":
            self.a_step_is_tried_again(data)
        elif opening == "away" and fleet:
            self.redis_is_emptied_while_a_machine_is_away(data)

    def one_worker(self, data: st.DataObject) -> Worker:
        return data.draw(st.sampled_from(self.workers), label="worker")

    # ------------------------------------------------------------------ the way of work

    @rule()
    def all_goes_its_way(self) -> None:
        """So that trouble finds something to spoil. (The first by name of the rules that draw nothing: Hypothesis takes
        it more often than any other.)"""
        for worker in self.workers:
            self.work(worker)

    def work(self, worker: Worker) -> None:
        if self.orchestrator.member(worker).rejoin_asked:
            self.orchestrator.join(worker)
        self.take([worker])
        self.orchestrator.push()
        if worker.may_work:
            worker.claim()
            self.take([worker])  # which grants it, if it has to be granted
        if worker.may_work and worker.opened:
            self.begin_next(worker)

    @rule()
    def the_orchestrator_pushes(self) -> None:
        self.orchestrator.push()

    @rule(data=st.data())
    def a_worker_claims(self, data: st.DataObject) -> None:
        worker = self.one_worker(data)
        if worker.may_work:
            worker.claim()

    @rule(data=st.data(), answered=st.sampled_from([True, True, True, False]))
    def a_worker_begins(self, data: st.DataObject, answered: bool) -> None:
        worker = self.one_worker(data)
        if worker.may_work and worker.opened:
            self.begin_next(worker, answered=answered)
            if not answered:
                self.orchestrator.join(worker)

    @rule(data=st.data())
    def a_step_is_tried_again(self, data: st.DataObject) -> None:
        """So that what one attempt says is heard only when another runs, or has ended."""
        self.all_goes_its_way()
        ledger = self.orchestrator.ledger
        begun = [live.id for live in ledger.live.values() if live.begun and self.policies[live.position] == "retry"]
        if not begun:
            return
        dispatch = data.draw(st.sampled_from(begun), label="dispatch")
        self.say_of(dispatch, data.draw(st.sampled_from(SAID), label="said of it"))
        self.take([], lost=dispatch)
        worker = self.one_worker(data)
        self.begin_what_waits(worker)
        if (again := ledger.by_step.get((RUN, position_of(dispatch)))) is not None:
            said = data.draw(st.sampled_from(SAID), label="said of the next")
            self.say_of(again.id, said)
            if said != "nothing":
                self.take([worker])

    def begin_what_waits(self, worker: Worker) -> None:
        """Nothing of what anybody said is read meanwhile."""
        self.orchestrator.push()
        while worker.may_work and self.redis.queue:
            worker.claim()
        while worker.may_work and worker.opened:
            self.begin_next(worker)

    def begin_next(self, worker: Worker, *, answered: bool = True) -> None:
        begun = worker.begin(answered=answered)
        for other in self.workers if begun else ():
            self.happened.update([SHARED] if other is not worker and begun in other.started else ())
            for dispatch in self.under_way(other):
                if is_later(begun, dispatch):
                    self.happened.add(EARLIER)
                    self.happened.update([ELSEWHERE] if other is not worker else ())

    def under_way(self, worker: Worker) -> Iterator[str]:
        """Of which dispatches the worker has said something that is not applied yet."""
        member = self.orchestrator.member(worker)
        sealed = {entry.sealed for entry in self.redis.up.get(worker.machine, [])}
        for one in sealed | {said.sealed for said in worker.unacknowledged}:
            up = worker.said.get(one)
            is_new = up is not None and (up.epoch, up.number) > (member.epoch, member.number)
            if up is not None and is_new and isinstance(up.body, Started | OutputLines | Finished):
                yield up.body.dispatch

    @rule(data=st.data(), says=st.sampled_from(SAID))
    def a_step_prints_or_ends(self, data: st.DataObject, says: str) -> None:
        worker = self.one_worker(data)
        if worker.running and worker.confirmed_at is not None:
            self.say_of(data.draw(st.sampled_from(sorted(worker.running)), label="dispatch"), says)

    def say_of(self, dispatch: str, said: str) -> None:
        """One of `SAID`, wherever it runs."""
        for worker in self.workers:
            if dispatch in worker.running and said == "output":
                worker.print(dispatch)
            elif dispatch in worker.running and said != "nothing":
                worker.finish(dispatch, said)

    @rule(data=st.data())
    def a_heart_beats(self, data: st.DataObject) -> None:
        self.one_worker(data).heartbeat()

    @rule(data=st.data(), count=st.integers(1, 4), answered=st.booleans(), fails=st.sampled_from([False] * 5 + [True]))
    def the_orchestrator_takes_some(self, data: st.DataObject, count: int, answered: bool, fails: bool) -> None:
        self.take([self.one_worker(data)], count, answered=answered, fails=fails)

    @rule(data=st.data())
    def the_orchestrator_takes_all_of_one(self, data: st.DataObject) -> None:
        self.take([self.one_worker(data)])

    @rule()
    def the_orchestrator_takes_all(self) -> None:
        self.take(self.workers)

    def take(
        self,
        workers: Sequence[Worker],
        count: int = 1_000,
        *,
        answered: bool = True,
        fails: bool = False,
        lost: str | None = None,
    ) -> None:
        """Have it done, and hold against it what the rules of order, and of results, say of these very messages."""
        expected = [self.expected(worker, count) for worker in workers]
        refused = self.orchestrator.refused + sum(one.refused for one in expected)
        results = {result for one in expected for result in one.results}
        before = self.orchestrator.dispatches() if results else {}
        recorded = set(self.orchestrator.results()) if results else set()
        self.orchestrator.take_of(workers, count, answered=answered, fails=fails, lost=lost)
        if fails:
            return
        assert self.orchestrator.refused == refused
        for worker, one in zip(workers, expected, strict=True):
            member = self.orchestrator.member(worker)
            assert (member.epoch, member.number) == one.place
            assert member.rejoin_asked or not one.misses
            with self.orchestrator.store.read() as tx:
                machine = tokens.machine(tx, worker.machine)
            assert machine is not None
            assert (machine.epoch, machine.sequence) == one.place
        if not results:
            return
        after, new = self.orchestrator.dispatches(), set(self.orchestrator.results()) - recorded
        for dispatch, by in results:
            is_recorded = (dispatch, by) in recorded | new
            assert is_recorded != (by in dict(after[dispatch].evidence)), "recorded, or else kept as evidence"
            if dispatch == lost or before[dispatch].state not in LIVE_STATES:
                assert (dispatch, by) not in new, "it came too late"
                if (dispatch, by) not in recorded:
                    later = {row.state for other, row in before.items() if is_later(other, dispatch)}
                    self.happened.update([BEFORE] if "begun" in later else ())
                    self.happened.update([BEHIND] if "finished" in later else ())

    def expected(self, worker: Worker, count: int) -> Expected:
        """What has to come of the first `count` messages of the worker."""
        member = self.orchestrator.member(worker)
        expected = Expected((member.epoch, member.number))
        for message in self.redis.collect(worker.machine, count).messages:
            up = worker.said.get(message.sealed)
            if up is None:
                expected.refused += 1
                continue
            if isinstance(up.body, Heartbeat):
                continue
            place = expected.place
            follows = (up.epoch == place[0] and up.number == place[1] + 1) or (up.epoch > place[0] and up.number == 1)
            if follows and isinstance(up.body, Finished):
                right = message.dispatch == up.body.dispatch and message.result != b""
                if right and len(message.result) == len(b"forged"):
                    expected.refused, right = expected.refused + 1, False
                if right:
                    expected.results.append((up.body.dispatch, worker.machine))
                follows, expected.misses = right, expected.misses or not right
            elif not follows:
                expected.misses = expected.misses or (up.epoch, up.number) > place
            if follows:
                expected.place = (up.epoch, up.number)
        return expected

    # ------------------------------------------------------------------ trouble

    def spot(self, data: st.DataObject, worker: Worker) -> int | None:
        """The index of an entry in the worker's stream."""
        entries = self.redis.up.get(worker.machine, [])
        return data.draw(st.integers(0, len(entries) - 1), label="entry") if entries else None

    @rule(data=st.data())
    def a_message_is_lost(self, data: st.DataObject) -> None:
        worker = self.one_worker(data)
        if (index := self.spot(data, worker)) is not None:
            del self.redis.up[worker.machine][index]

    @rule(data=st.data())
    def a_result_is_lost(self, data: st.DataObject) -> None:
        results = self.redis.results.get(self.one_worker(data).machine)
        if results:
            del results[data.draw(st.sampled_from(sorted(results)), label="dispatch")]

    @rule(data=st.data())
    def a_claim_is_lost(self, data: st.DataObject) -> None:
        claims = self.redis.claimed.get(self.one_worker(data).machine)
        if claims:
            claims.remove(data.draw(st.sampled_from(sorted(claims)), label="dispatch"))

    @rule(data=st.data())
    def two_messages_change_places(self, data: st.DataObject) -> None:
        worker = self.one_worker(data)
        if index := self.spot(data, worker):
            entries = self.redis.up[worker.machine]
            entries[index - 1], entries[index] = entries[index], entries[index - 1]

    @rule(data=st.data())
    def an_old_message_comes_again(self, data: st.DataObject) -> None:
        worker = self.one_worker(data)
        if worker.said:
            sealed = data.draw(st.sampled_from(list(worker.said)), label="message")
            dispatch = data.draw(st.sampled_from(["", *worker.seen]), label="dispatch")
            self.redis.add(worker.machine, sealed, dispatch)

    @rule(data=st.data(), kind=st.sampled_from(["noise", "stranger", "other stream", "result"]))
    def somebody_forges(self, data: st.DataObject, kind: str) -> None:
        worker = self.one_worker(data)
        number = self.orchestrator.member(worker).number + 1
        dispatch = data.draw(st.sampled_from(["nothing", *self.orchestrator.ledger.live]), label="dispatch")
        finished = pack_up(worker.epoch, number, Finished(dispatch))
        if kind == "noise":
            self.redis.add(worker.machine, data.draw(st.binary(max_size=60)), dispatch)
        elif kind == "stranger":
            self.redis.add(worker.machine, self.stranger.seal(finished, UP), dispatch)
        elif kind == "other stream":
            for other in self.workers:
                if other is not worker and other.said:
                    self.redis.add(worker.machine, data.draw(st.sampled_from(list(other.said))))
        elif results := self.redis.results.get(worker.machine):
            results[data.draw(st.sampled_from(sorted(results)))] = b"forged"

    @rule(data=st.data())
    def a_worker_is_killed_and_starts_anew(self, data: st.DataObject) -> None:
        worker = self.one_worker(data)
        worker.restart()
        self.orchestrator.join(worker)

    @rule(data=st.data())
    def a_worker_joins_again(self, data: st.DataObject) -> None:
        self.orchestrator.join(self.one_worker(data))

    @precondition(lambda self: self.redis.queue or any(self.redis.claimed.values()) or any(self.redis.up.values()))
    @rule()
    def redis_is_emptied(self) -> None:
        self.redis.is_emptied()
        self.orchestrator.reconnect()

    @precondition(lambda self: len(self.workers) > 1)
    @rule(data=st.data())
    def redis_is_emptied_while_a_machine_is_away(self, data: st.DataObject) -> None:
        """What it has begun, and nobody has heard of, another may be given."""
        away, other = data.draw(st.permutations(self.workers), label="workers")
        self.begin_what_waits(away)
        self.redis_is_emptied()
        self.orchestrator.join(other)
        self.take([other])
        self.begin_what_waits(other)

    @rule()
    def the_orchestrator_is_killed_and_starts_anew(self) -> None:
        self.orchestrator.start_over()

    @rule(
        data=st.data(),
        says=st.sampled_from(SAID),
        count=st.integers(0, 4),
        fails=st.sampled_from([False] * 5 + [True]),
    )
    def a_step_is_given_up(self, data: st.DataObject, says: str, count: int, fails: bool) -> None:
        """Between two transactions, as the core does it: the loss is stored together with what comes next."""
        begun = [live.id for live in self.orchestrator.ledger.live.values() if live.begun]
        if begun:
            dispatch = data.draw(st.sampled_from(begun), label="dispatch")
            self.say_of(dispatch, says)
            self.take(self.workers, count, fails=fails, lost=dispatch)

    @precondition(lambda self: sum(len(worker.started) for worker in self.workers) > 4)
    @rule()
    def the_run_is_canceled(self) -> None:
        self.orchestrator.cancel()
        self.canceled = True

    # ------------------------------------------------------------------ what must be true

    @invariant()
    def no_step_was_started_twice(self) -> None:
        """But those that say `retry`, and also of them no machine starts one dispatch twice."""
        starts = Counter(position_of(dispatch) for worker in self.workers for dispatch in worker.started)
        assert not {p: count for p, count in starts.items() if count > 1 and self.policies[p] == "fail"}
        for worker in self.workers:
            assert len(set(worker.started)) == len(worker.started)

    @invariant()
    def every_step_has_at_most_one_end_and_it_is_a_true_one(self) -> None:
        ends = [event for event in self.orchestrator.events() if event["kind"] == "step-finished"]
        assert len({event["step"] for event in ends}) == len(ends)
        workers = {worker.machine: worker for worker in self.workers}
        recorded, dispatches = self.orchestrator.results(), self.orchestrator.dispatches()
        steps = self.orchestrator.steps()
        for event in ends:
            step = steps[int(str(event["step"]).removeprefix("step-"))]
            assert step.status == event["status"]
            assert step.dispatch_id is not None
            attempts = [d for d in dispatches if position_of(d) == step.position]
            assert step.dispatch_id == max(attempts, key=attempt_of), "the last one ends it"
            state, machine = dispatches[step.dispatch_id].state, dispatches[step.dispatch_id].machine
            if event["data"]:
                assert state == "finished"
                assert machine is not None
                assert workers[machine].outcomes.get(step.dispatch_id) == event["status"]
                assert step.dispatch_id in workers[machine].started
                assert (step.dispatch_id, machine) in recorded
            elif event["status"] == "failed":
                assert self.losses(dispatches)[step.position] == self.most_losses(step.position)
            else:
                assert event["status"] == "canceled"
        assert len(recorded) == sum(bool(event["data"]) for event in ends)

    def losses(self, dispatches: dict[str, Dispatched]) -> Counter[int]:
        """How many dispatches of each step were lost."""
        return Counter(position_of(dispatch) for dispatch, row in dispatches.items() if row.state == "lost")

    def most_losses(self, position: int) -> int:
        return FEW_ATTEMPTS if self.policies[position] == "retry" else 1

    @invariant()
    def no_step_is_lost_more_often_than_it_may_be(self) -> None:
        for position, lost in self.losses(self.orchestrator.dispatches()).items():
            assert lost <= self.most_losses(position)

    @invariant()
    def what_is_over_stays_as_it_is(self) -> None:
        """But for the evidence of what came late, and that is only added to."""
        for dispatch, row in self.orchestrator.dispatches().items():
            was = self.over.get(dispatch, row)
            assert (row.state, row.machine, row.evidence[: len(was.evidence)]) == (was.state, was.machine, was.evidence)
            assert len(dict(row.evidence)) == len(row.evidence), "one of each machine"
            if row.state not in LIVE_STATES:
                self.over[dispatch] = row
        for step in self.orchestrator.steps():
            if step.status in ENDED:
                assert self.ended.setdefault(step.position, step) == step
        recorded = self.orchestrator.results()
        assert set(self.recorded) <= set(recorded)
        self.recorded = recorded

    @invariant()
    def memory_and_disk_agree_on_what_lives(self) -> None:
        dispatches = self.orchestrator.dispatches()
        live = {dispatch for dispatch, row in dispatches.items() if row.state in LIVE_STATES}
        assert live == set(self.orchestrator.ledger.live)
        losses = self.losses(dispatches)
        assert all(one.losses == losses[one.position] for one in self.orchestrator.ledger.live.values())
        waiting = [step.dispatch_id for step in self.orchestrator.steps() if step.status in ("queued", "running")]
        assert sorted(map(str, waiting)) == sorted(live)

    @invariant()
    def what_waits_lies_in_one_place(self) -> None:
        waiting = self.orchestrator.ledger.lane(TARGET).waiting
        places = Counter([*self.redis.queue, *waiting])
        assert not [dispatch for dispatch, count in places.items() if count > 1]

    def teardown(self) -> None:
        """Trouble is over: every step ends, the run ends, and results that came too late were kept."""
        if not hasattr(self, "orchestrator"):
            return
        try:
            self.come_to_rest()
            self.told.update(["stories", *self.happened])
        finally:
            self.orchestrator.store.close()
            rmtree(self.directory)

    def come_to_rest(self) -> None:
        self.orchestrator.reconnect()
        for _ in range(30):
            for worker in self.workers:
                if self.orchestrator.member(worker).rejoin_asked or worker.confirmed_at is None:
                    self.orchestrator.join(worker)
            for worker in self.workers * 2:
                self.take([worker])
            self.orchestrator.push()
            for worker in self.workers:
                while worker.may_work and self.redis.queue:
                    worker.claim()
                while worker.may_work and worker.opened:
                    worker.begin()
                for dispatch in sorted(worker.running):
                    worker.finish(dispatch, "succeeded")
                worker.heartbeat()
            self.no_step_was_started_twice()
            unsaid = [worker for worker in self.workers if worker.running or worker.unacknowledged]
            if not self.orchestrator.ledger.live and not unsaid:
                break
        ends = {"succeeded", "failed"} | ({"canceled"} if self.canceled else set())
        assert {step.status for step in self.orchestrator.steps()} <= ends, self.orchestrator.steps()
        assert self.orchestrator.run_status() in ("succeeded", "failed", "canceled")
        self.every_step_has_at_most_one_end_and_it_is_a_true_one()
        recorded, dispatches = self.orchestrator.results(), self.orchestrator.dispatches()
        for worker in self.workers:
            assert not worker.outbox, "every result was acknowledged"
            for dispatch in worker.outcomes:
                kept = worker.machine in dict(dispatches[dispatch].evidence)
                assert ((dispatch, worker.machine) in recorded) != kept, (dispatch, dispatches[dispatch])


LIVE_STATES = ("queued", "granted", "begun")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of forged messages are thousands of warnings."""
    caplog.set_level(logging.CRITICAL, logger="swamp.orchestrator")


def position_of(dispatch: str) -> int:
    """Ids end in `-<position>-<attempt>`."""
    return int(dispatch.rsplit("-", 2)[1])


def attempt_of(dispatch: str) -> int:
    return int(dispatch.rsplit("-", 1)[1])


def is_later(one: str, than: str) -> bool:
    """Whether it is a later attempt of the same step."""
    return position_of(one) == position_of(than) and attempt_of(one) > attempt_of(than)


class TestTrouble:
    def test_whatever_happens_each_step_ends_once_and_truly_and_starts_no_more_often_than_it_may(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledgers, "MOST_ATTEMPTS", FEW_ATTEMPTS)
        Trouble.told.clear()
        run_state_machine_as_test(Trouble, settings=stories(100, 50))
        assert all(Trouble.told[danger] for danger in (EARLIER, ELSEWHERE, BEFORE, BEHIND, SHARED)), Trouble.told


# ---------------------------------------------------------------------- by example


class Bench:
    """One orchestrator and one worker that has joined; what else is in its streams is up to the test."""

    def __init__(self, directory: Path, steps: int = 1) -> None:
        self.redis = Redis()
        self.worker = Worker("machine-a", self.redis)
        self.orchestrator = Orchestrator(directory, self.redis, [self.worker], ["fail"] * steps)
        self.join()

    @property
    def member(self) -> Member:
        return self.orchestrator.member(self.worker)

    def join(self) -> None:
        self.orchestrator.join(self.worker)
        self.orchestrator.take(self.worker)

    def start(self) -> str:
        """Have the next step started; its dispatch."""
        self.orchestrator.push()
        self.worker.claim()
        self.worker.begin()
        self.orchestrator.take(self.worker)
        return self.worker.started[-1]

    def say(self, body: UpBody, *, epoch: int | None = None, number: int | None = None, dispatch: str = "") -> None:
        """As the worker, but with whatever number."""
        packed = pack_up(epoch or self.worker.epoch, number or self.member.number + 1, body)
        self.redis.add(self.worker.machine, self.worker.up.seal(packed, UP), dispatch)

    def statuses(self) -> list[str]:
        return [step.status for step in self.orchestrator.steps()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.orchestrator.store.close()


def test_nothing_is_applied_behind_a_gap_and_the_machine_is_asked_to_say_it_again(bench: Bench) -> None:
    dispatch = bench.start()
    place = (bench.member.epoch, bench.member.number)
    bench.worker.print(dispatch)
    bench.worker.finish(dispatch, "succeeded")
    del bench.redis.up["machine-a"][0]
    assert not bench.orchestrator.take(bench.worker).acknowledge
    assert (bench.member.epoch, bench.member.number) == place
    assert bench.member.rejoin_asked
    assert bench.statuses() == ["running"]
    bench.join()
    assert bench.statuses() == ["succeeded"]
    assert [event["text"] for event in bench.orchestrator.events() if event["kind"] == "step-output"] == [
        f"line {place[1]} of {dispatch}"
    ]


def test_a_result_that_is_not_there_yet_is_waited_for(bench: Bench) -> None:
    dispatch = bench.start()
    bench.worker.finish(dispatch, "succeeded")
    kept = bench.redis.results.pop("machine-a")
    bench.orchestrator.take(bench.worker)
    assert (bench.statuses(), bench.member.rejoin_asked) == (["running"], True)
    assert kept
    bench.join()
    assert bench.statuses() == ["succeeded"]


def test_a_result_waits_for_the_big_content_that_it_speaks_of(bench: Bench) -> None:
    dispatch, checksum = bench.start(), "ab" * 32
    output = Output("log", "log", "file", "text/plain", Blob(checksum, 70_000))
    packed = pack_result(Outcome("succeeded", None, (output,), NOON, NOON, 5))
    bench.redis.results["machine-a"] = {dispatch: bench.worker.results.seal(packed, result_place(dispatch))}
    bench.say(Finished(dispatch), dispatch=dispatch)
    bench.orchestrator.take(bench.worker)
    assert (bench.statuses(), bench.member.rejoin_asked) == (["running"], True)
    bench.orchestrator.blobs.add(checksum)
    bench.redis.results["machine-a"] = {dispatch: bench.worker.results.seal(packed, result_place(dispatch))}
    bench.say(Finished(dispatch), dispatch=dispatch)
    bench.orchestrator.take(bench.worker)
    assert bench.statuses() == ["succeeded"]


def test_a_result_that_is_moved_under_another_dispatch_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, steps=2)
    first, second = bench.start(), bench.start()
    bench.worker.finish(first, "succeeded")
    results = bench.redis.results["machine-a"]
    results[second] = results[first]
    bench.redis.up["machine-a"].clear()
    bench.say(Finished(second), dispatch=second)
    bench.orchestrator.take(bench.worker)
    assert (bench.statuses(), bench.orchestrator.refused) == (["running", "running"], 1)
    bench.orchestrator.store.close()


def test_a_result_that_its_own_machine_made_unreadable_fails_the_step(bench: Bench) -> None:
    """It would send the same again for ever."""
    dispatch = bench.start()
    bench.redis.results["machine-a"] = {dispatch: bench.worker.results.seal(b"nonsense", result_place(dispatch))}
    bench.say(Finished(dispatch), dispatch=dispatch)
    bench.orchestrator.take(bench.worker)
    assert bench.statuses() == ["failed"]


def test_what_an_earlier_start_of_the_machine_says_changes_nothing_any_more(bench: Bench) -> None:
    dispatch = bench.start()
    bench.worker.finish(dispatch, "succeeded")
    (late,) = bench.redis.up.pop("machine-a")
    results = bench.redis.results.pop("machine-a")
    bench.worker.restart()
    bench.worker.outbox.clear()  # its disk is gone too
    bench.join()
    assert bench.statuses() == ["failed"], "what it does not name it does not have"
    bench.redis.up["machine-a"], bench.redis.results["machine-a"] = [late], results
    assert bench.orchestrator.take(bench.worker).acknowledge
    assert bench.statuses() == ["failed"]
    assert bench.member.epoch == 2


def test_a_late_result_is_kept_as_evidence_and_its_repetition_is_not(bench: Bench) -> None:
    dispatch = bench.start()
    bench.orchestrator.give_up(dispatch)
    bench.worker.finish(dispatch, "succeeded")
    assert bench.orchestrator.take(bench.worker).results == [dispatch], "it need not lie in Redis any longer"
    kept = Dispatched("lost", "machine-a", (("machine-a", "succeeded"),))
    assert bench.orchestrator.dispatches()[dispatch] == kept
    assert (bench.statuses(), bench.orchestrator.results()) == (["failed"], [])
    bench.worker.outbox[dispatch] = pack_result(Outcome("failed", "changed its mind", (), NOON, NOON, 5))
    bench.worker.say(Finished(dispatch), dispatch)
    bench.orchestrator.take(bench.worker)
    assert bench.orchestrator.dispatches()[dispatch] == kept


def test_a_result_that_comes_together_with_the_loss_of_its_machine_is_kept_as_evidence(bench: Bench) -> None:
    """The machine was missed, and that is not stored yet."""
    dispatch = bench.start()
    bench.worker.finish(dispatch, "succeeded")
    bench.orchestrator.take_of([bench.worker], lost=dispatch)
    kept = Dispatched("lost", "machine-a", (("machine-a", "succeeded"),))
    assert bench.orchestrator.dispatches()[dispatch] == kept
    assert (bench.statuses(), bench.orchestrator.results()) == (["failed"], [])


def test_a_machine_that_goes_on_with_a_step_that_was_given_up_is_told_to_end_it(bench: Bench) -> None:
    dispatch = bench.start()
    bench.orchestrator.give_up(dispatch)
    bench.join()
    assert bench.worker.outcomes == {dispatch: "canceled"}


def test_a_result_can_be_the_first_that_is_heard_of_a_step(bench: Bench) -> None:
    """Its `started` was lost with an emptied Redis, and the machine was killed behind its end."""
    bench.orchestrator.push()
    bench.worker.claim()
    bench.worker.begin()
    bench.worker.finish(bench.worker.started[0], "succeeded")
    bench.redis.is_emptied()
    bench.worker.restart()
    bench.join()
    assert bench.statuses() == ["succeeded"]
    kinds = [event["kind"] for event in bench.orchestrator.events()]
    assert kinds.index("step-started") < kinds.index("step-finished")


def test_a_claim_that_vanished_is_dispatched_anew(bench: Bench) -> None:
    bench.orchestrator.push()
    bench.worker.claim()
    bench.redis.claimed.clear()
    bench.worker.begin()
    bench.orchestrator.take(bench.worker)
    assert (bench.worker.started, bench.statuses()) == ([], ["queued"])
    assert bench.start().endswith("-2")


def test_claims_that_a_machine_does_not_know_of_go_back_at_the_second_heartbeat(bench: Bench) -> None:
    bench.orchestrator.push()
    bench.redis.claimed["machine-a"] = [bench.redis.queue.popleft()]  # the answer that told it was lost
    for claims in (1, 0):
        bench.worker.heartbeat()
        bench.orchestrator.take(bench.worker)
        assert len(bench.redis.claimed["machine-a"]) == claims
    assert bench.start().endswith("-2")


def test_what_another_target_s_machine_says_of_a_step_changes_nothing(bench: Bench) -> None:
    dispatch = bench.start()
    bench.member.target = "elsewhere"
    bench.member.machine = "machine-b"
    packed = pack_result(Outcome("succeeded", None, (), NOON, NOON, 5))
    bench.redis.results["machine-a"] = {dispatch: bench.worker.results.seal(packed, result_place(dispatch))}
    bench.say(OutputLines(dispatch, "stdout", "forged"))
    bench.say(Started(dispatch, NOON), number=bench.member.number + 2)
    bench.say(Finished(dispatch), number=bench.member.number + 3, dispatch=dispatch)
    before = bench.orchestrator.events()
    bench.orchestrator.take_of([bench.worker], answered=False)
    assert (bench.statuses(), bench.orchestrator.events()) == (["running"], before)
    assert bench.orchestrator.dispatches()[dispatch] == Dispatched("begun", "machine-a", ())


def test_a_heartbeat_of_an_earlier_start_is_no_sign_of_life(bench: Bench) -> None:
    bench.worker.restart()
    bench.join()
    bench.member.last_seen_at = "before"
    bench.say(Heartbeat(BOOT, 0, 4, (), 0), epoch=1)
    bench.orchestrator.take(bench.worker)
    assert bench.member.last_seen_at == "before"
    bench.worker.heartbeat()
    bench.orchestrator.take(bench.worker)
    assert bench.member.last_seen_at == NOON


def test_a_heartbeat_that_is_said_again_is_no_sign_of_life(bench: Bench) -> None:
    """Or whoever writes Redis could keep a dead machine alive."""
    bench.worker.heartbeat()
    bench.worker.heartbeat()
    first, second = bench.redis.up["machine-a"]
    bench.redis.up["machine-a"] = [second]
    bench.orchestrator.take(bench.worker)
    bench.member.last_seen_at = "before"
    bench.redis.up["machine-a"] = [first, second]
    bench.orchestrator.take(bench.worker)
    assert bench.member.last_seen_at == "before"


def test_a_heartbeat_tells_of_messages_that_were_taken_out_of_the_stream(bench: Bench) -> None:
    """The machine has nothing more to say, so no later message would show the gap."""
    bench.orchestrator.push()
    (dispatch,) = bench.redis.queue
    bench.worker.say(Started(dispatch, NOON))
    bench.worker.heartbeat()
    bench.orchestrator.take(bench.worker)
    assert not bench.member.rejoin_asked, "nothing is missing"
    bench.worker.say(OutputLines(dispatch, "stdout", "gone"))
    bench.redis.up["machine-a"].clear()
    bench.worker.heartbeat()
    bench.orchestrator.take(bench.worker)
    assert bench.member.rejoin_asked


def test_a_heartbeat_for_an_earlier_start_of_the_orchestrator_is_no_sign_of_life(bench: Bench) -> None:
    """Which numbers it had heard by then it does not know any more."""
    bench.member.last_seen_at = "before"
    bench.say(Heartbeat("earlier", 0, 4, (), 0))
    bench.orchestrator.take(bench.worker)
    assert bench.member.last_seen_at == "before"


@pytest.mark.parametrize("reason", ["unreadable", "unsigned", "foreign", "expired"])
def test_what_a_machine_refuses_without_having_had_it_is_put_there_again(bench: Bench, reason: str) -> None:
    """Whoever writes Redis has spoilt it, or it lay there for too long: nothing is lost by that."""
    bench.orchestrator.push()
    (dispatch,) = bench.redis.queue
    bench.redis.queue.clear()
    bench.say(Declined(dispatch, reason))
    bench.orchestrator.take(bench.worker)
    assert +bench.orchestrator.ledger.tally.dispatches_refused == {reason: 1}
    bench.orchestrator.push()
    assert list(bench.redis.queue) == [dispatch]


def test_a_step_whose_dispatch_is_spoilt_again_and_again_fails_in_the_end(bench: Bench) -> None:
    for _ in range(MOST_ATTEMPTS):
        assert bench.statuses() == ["queued"]
        bench.orchestrator.push()
        bench.say(Declined(bench.redis.queue.popleft(), "unsigned"))
        bench.orchestrator.take(bench.worker)
    assert bench.statuses() == ["failed"]
    assert "refuses the dispatch (unsigned)" in str(bench.orchestrator.steps()[0].error)


def test_a_machine_that_holds_all_for_expired_is_told_the_time_again_and_costs_no_step(bench: Bench) -> None:
    """The orchestrator's clock was set back since it welcomed the machine."""
    for _ in range(MOST_ATTEMPTS + 1):
        bench.orchestrator.push()
        bench.say(Declined(bench.redis.queue.popleft(), "expired"))
        bench.orchestrator.take(bench.worker)
        assert bench.member.rejoin_asked
    assert bench.statuses() == ["queued"]


def test_a_claim_that_vanished_between_others_is_dropped_and_the_others_begin(tmp_path: Path) -> None:
    """`dropped` is sealed when it is true: until then the number is a gap, and nothing behind it is said."""
    bench = Bench(tmp_path, steps=2)
    bench.orchestrator.push()
    bench.worker.claim()
    bench.worker.claim()
    del bench.redis.claimed["machine-a"][0]
    bench.worker.begin()
    bench.worker.begin()
    bench.orchestrator.take(bench.worker)
    assert not bench.member.rejoin_asked
    assert sorted(bench.statuses()) == ["queued", "running"]
    bench.orchestrator.store.close()


def test_a_machine_that_leaves_gives_its_claims_to_others(bench: Bench) -> None:
    bench.orchestrator.push()
    bench.worker.claim()
    bench.worker.say(Inventory(True, (), (), ()))
    bench.orchestrator.take(bench.worker)
    assert not bench.redis.claimed
    bench.orchestrator.push()
    assert [dispatch[-2:] for dispatch in bench.redis.queue] == ["-2"]
