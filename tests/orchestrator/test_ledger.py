"""The ledger of dispatches: what waits, what lies in Redis, and what takes the place of what is lost."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swamp.clock import from_iso
from swamp.data.journal import DispatchRow
from swamp.orchestrator import ledger as ledgers
from swamp.orchestrator.leases import Lease
from swamp.orchestrator.ledger import CANCEL_GRACE, MOST_ATTEMPTS, Ledger
from swamp.orchestrator.members import Live, Member
from swamp.wire.envelope import Box
from swamp.workflows.engine import Engine
from swamp.workflows.run import Run
from tests.workflows.plans import plan

NOON = "2026-06-15T12:00:00.000Z"
LATER = from_iso(NOON) + timedelta(minutes=1)
TARGET, RUN = "build-node", "run-1"


class Bench:
    """A ledger of a run of `size` steps that all may start, without disk or Redis."""

    def __init__(self, size: int, runs: int = 1, **step: object) -> None:
        self.now = 100.0
        self.engine = Engine(Path("/nowhere"), lambda: NOON, owner="serve")
        self.ledger = Ledger(self.engine, lambda: self.now)
        up, down, results = (Box(os.urandom(32)) for _ in range(3))
        self.member = Member("machine", "worker", TARGET, up, down, results, Lease(0.0), LATER, LATER)
        self.ledger.members["machine"] = self.member
        of = plan([[[] for _ in range(size)]], targets=(TARGET,))
        of = replace(of, steps=tuple(replace(one, **step) for one in of.steps))  # type: ignore[arg-type]
        for number in range(1, runs + 1):
            run = Run(f"run-{number}", of, NOON)
            run.start()
            self.engine.runs[run.id] = run
            for position in run.ready:
                live = self.ledger._new(run.id, position, 1, TARGET)
                run.queued(position, live.id, NOON)
            run.ready.clear()

    def push(self) -> list[str]:
        return [live.id for live in self.ledger.ready_to_push(TARGET)]

    def live(self, position: int, run: str = RUN) -> Live:
        return self.ledger.by_step[(run, position)]

    def begin(self, position: int) -> Live:
        live = self.live(position)
        self.ledger.began(live, self.member, 1, NOON)
        return live


def numbers(dispatches: list[str]) -> list[str]:
    """`<position>-<attempt>` of each."""
    return ["-".join(dispatch.rsplit("-", 2)[1:]) for dispatch in dispatches]


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "WINDOW", 3)


def test_no_more_than_a_window_lies_in_redis_and_each_start_makes_room(small_window: None) -> None:
    bench = Bench(8)
    assert numbers(bench.push()) == ["0-1", "1-1", "2-1"]
    assert bench.push() == []
    bench.begin(1)
    assert numbers(bench.push()) == ["3-1"]
    bench.ledger.ended(bench.live(0), "superseded", "canceled", worker="", error=None)
    assert numbers(bench.push()) == ["4-1"]
    bench.ledger.ended(bench.live(1), "finished", "succeeded", worker="worker", error=None)
    assert bench.push() == [], "it had left the window when it began"


def test_what_ends_before_it_was_pushed_makes_no_room(small_window: None) -> None:
    """A canceled run does not open the window for others."""
    bench = Bench(5, runs=2)
    bench.push()
    for position in range(5):
        bench.ledger.canceled(bench.live(position, "run-2"))
    assert bench.push() == []
    assert bench.ledger.lane(TARGET).pushed == 3


def test_what_was_never_started_goes_to_the_front_under_a_new_id() -> None:
    bench = Bench(3)
    pushed = bench.push()
    bench.ledger.again(bench.live(1))
    assert numbers(bench.push()) == ["1-2"]
    assert bench.live(1).front
    assert bench.ledger.over == [(pushed[1], "superseded", None)]
    assert [live.id for live in bench.ledger.withdrawn] == [pushed[1]]
    assert pushed[1] not in bench.ledger.live


def test_a_job_that_vanished_is_pushed_once_more_however_often_that_is_said() -> None:
    bench = Bench(2)
    bench.push()
    bench.ledger.push_again(bench.live(0))
    bench.ledger.push_again(bench.live(0))
    assert numbers(bench.push()) == ["0-1"]


def test_after_redis_was_away_everything_that_did_not_begin_waits_in_its_old_order(small_window: None) -> None:
    bench = Bench(6)
    bench.push()
    bench.begin(1)
    bench.ledger.grant(bench.live(4), bench.member, 1)
    bench.push()
    bench.ledger.recall_everything()
    assert numbers(bench.push()) == ["0-1", "2-1", "3-1"]
    bench.begin(0)
    assert numbers(bench.push()) == ["5-1"], "what was granted may have begun"


def test_a_lost_machine_is_waited_for_as_the_step_says_and_for_a_canceled_run_no_longer_than_for_a_kill() -> None:
    for timeout, canceled in ((60, CANCEL_GRACE), (3, 3)):
        bench = Bench(1, lost_timeout=timeout)
        live = bench.begin(0)
        assert bench.ledger.patience(live) == timeout
        bench.engine.cancel(RUN)
        assert bench.ledger.patience(live) == canceled
    bench = Bench(1, on_worker_lost="retry")
    live = bench.begin(0)
    assert bench.ledger.patience(live) == 0
    bench.engine.cancel(RUN)
    assert bench.ledger.patience(live) == CANCEL_GRACE, "it will not run again, so its end is worth waiting for"


def test_a_lost_step_fails_unless_it_may_be_tried_again() -> None:
    bench = Bench(1)
    bench.push()
    live = bench.begin(0)
    bench.ledger.lost(live, "its worker was lost")
    assert (bench.ledger.live, bench.member.running) == ({}, set())
    assert bench.ledger.over == [(live.id, "lost", None)]


def test_a_step_that_may_be_tried_again_is_until_it_has_been_too_often() -> None:
    bench = Bench(1, on_worker_lost="retry")
    for attempt in range(1, MOST_ATTEMPTS + 1):
        assert numbers(bench.push()) == [f"0-{attempt}"]
        bench.ledger.lost(bench.begin(0), "its worker was lost")
    assert not bench.ledger.live


def test_a_step_that_was_given_back_before_it_started_has_not_been_tried() -> None:
    bench = Bench(1, on_worker_lost="retry")
    for _ in range(2 * MOST_ATTEMPTS):
        bench.push()
        bench.ledger.again(bench.begin(0))
    bench.push()
    live = bench.begin(0)
    assert (live.attempt, live.losses) == (2 * MOST_ATTEMPTS + 1, 0)
    bench.ledger.lost(live, "its worker was lost")
    assert [live.losses for live in bench.ledger.live.values()] == [1]


def test_nothing_of_a_canceled_run_is_tried_again() -> None:
    bench = Bench(2, on_worker_lost="retry")
    bench.push()
    lost, never_started = bench.begin(0), bench.live(1)
    bench.engine.runs[RUN].cancel(NOON)
    bench.ledger.lost(lost, "its worker was lost")
    bench.ledger.again(never_started)
    assert not bench.ledger.live
    assert [outcome for _, _, outcome in bench.ledger.over] == ["canceled", "canceled"]


def test_a_step_waits_for_a_worker_as_long_as_it_says_also_after_a_restart() -> None:
    bench = Bench(3, queue_timeout=60)
    bench.push()
    bench.begin(0)
    bench.now += 59
    assert bench.ledger.impatient(bench.now) == []
    bench.now += 1
    assert [live.position for live in bench.ledger.impatient(bench.now)] == [1, 2]
    ids = [live.id for live in bench.ledger.live.values()]
    rows = [DispatchRow(id_, RUN, n, 1, TARGET, "queued", None, None, NOON) for n, id_ in enumerate(ids)]
    bench.ledger.restore(rows, from_iso(NOON))
    assert bench.ledger.impatient(bench.now + 59) == []
    assert len(bench.ledger.impatient(bench.now + 60)) == 3


def test_dispatches_of_the_database_are_taken_up_in_their_states() -> None:
    bench = Bench(4)
    rows = [
        DispatchRow("build-node--run-1-0-1", RUN, 0, 1, TARGET, "queued", None, None, NOON),
        DispatchRow("build-node--run-1-1-1", RUN, 1, 1, TARGET, "begun", "machine", 7, NOON),
        DispatchRow("build-node--run-1-2-1", RUN, 2, 1, TARGET, "granted", "machine", 7, NOON),
        DispatchRow("build-node--run-1-3-2", RUN, 3, 2, TARGET, "begun", "a machine that was put out", 7, NOON),
    ]
    bench.ledger.restore(rows, LATER)
    assert numbers(bench.push()) == ["0-1"]
    assert bench.member.running == {rows[1].id}
    assert bench.member.granted == {rows[2].id}
    assert (bench.live(2).granted, bench.live(2).granted_epoch, bench.live(3).begun) == ("machine", 7, True)


@settings(max_examples=200)
@given(st.data())
def test_the_window_is_counted_exactly_whatever_happens(data: st.DataObject) -> None:
    bench = Bench(6, runs=2)
    window = data.draw(st.integers(1, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "WINDOW", window)
        for _ in range(data.draw(st.integers(1, 25))):
            live = data.draw(st.sampled_from(list(bench.ledger.live.values()))) if bench.ledger.live else None
            action = data.draw(st.sampled_from(["push", "begin", "end", "again", "vanished", "recall"]))
            if action == "push":
                bench.push()
            elif action == "recall":
                bench.ledger.recall_everything()
            elif live is not None and action == "end":
                bench.ledger.ended(live, "lost", None, worker="", error="x")
            elif live is not None and not live.begun:
                if action == "begin":
                    bench.ledger.began(live, bench.member, 1, NOON)
                elif action == "again":
                    bench.ledger.again(live)
                elif action == "vanished":
                    bench.ledger.push_again(live)
            lane = bench.ledger.lane(TARGET)
            alive = [live for live in bench.ledger.live.values() if not live.begun]
            assert lane.pushed == sum(live.pushed for live in alive) <= window
            places = Counter(dispatch for dispatch in lane.waiting if dispatch in bench.ledger.live)
            for live in alive:
                assert places[live.id] == (0 if live.pushed else 1)


def test_a_claim_taken_back_proves_nothing_of_a_dispatch_that_redis_may_have_held_twice() -> None:
    bench = Bench(2)
    bench.push()
    bench.ledger.taken_back(bench.live(0))
    assert bench.live(0).attempt == 2, "the only claim that there can have been never began"

    bench.ledger.recall_everything()
    again = bench.push()
    bench.ledger.taken_back(bench.live(1))
    assert bench.live(1).attempt == 1, "a machine may have begun it through an earlier claim, and knows its id"
    assert bench.live(1).id in again


def test_how_long_dispatches_wait_is_known_also_after_a_restart_and_until_they_begin() -> None:
    bench = Bench(3)
    queued = bench.ledger.lane(TARGET).queued
    assert list(queued) == [live.id for live in bench.ledger.live.values()]
    bench.push()
    bench.now += 7
    bench.begin(0)
    assert bench.ledger.tally.waits[TARGET].sum == 7
    assert len(queued) == 2
    bench.ledger.again(bench.live(1))
    assert [dispatch.rpartition("--")[2] for dispatch in queued] == ["run-1-2-1", "run-1-1-2"]
    bench.ledger.restore([DispatchRow("build-node--run-1-0-1", RUN, 0, 1, TARGET, "queued", None, None, NOON)], LATER)
    assert bench.ledger.lane(TARGET).queued == {"build-node--run-1-0-1": bench.now - 60}
