"""What the engine stores, when, and that nothing else is ever seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from swamp.clock import iso, utc_now
from swamp.data import journal
from swamp.data.record import Origin, Output
from swamp.data.store import Store
from swamp.data.versions import list_versions
from swamp.models.invocation import Invocation, Outcome
from swamp.workflows.engine import HANDED_OUT, Engine, Saved, Start
from swamp.workflows.parsing import parse_workflow
from swamp.workflows.plan import Plan, plan_workflow
from swamp.workflows.workflow import Task
from tests.workflows.plans import plan

NOON = "2026-06-15T12:00:00.000Z"
PLACED = plan([[[], [(0, "succeeded")]]], targets=("build-node",))


class Broken(Exception):
    """What a test raises in the middle of a transaction."""


class Bench:
    """An engine with a real store, and the dispatches that its placed steps got."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.engine = Engine(store.blobs, lambda: iso(utc_now()), owner="serve")
        self.placed: list[Start] = []

    def place(self, start: Start) -> str:
        self.placed.append(start)
        return f"{start.target}--{start.run_id}-{start.position}-{len(self.placed)}"

    def accept(self, of: Plan, run_id: str = "run-1") -> Saved:
        with self.store.write() as tx:
            self.engine.accept(tx, run_id, of)
            return self.engine.save(tx, self.place)

    def save(self) -> Saved:
        with self.store.write() as tx:
            return self.engine.save(tx, self.place)

    def save_and_break_off(self) -> None:
        with self.store.write() as tx:
            self.engine.save(tx, self.place)
            raise Broken

    def restarted(self) -> Bench:
        """Another engine that takes up what is on the disk."""
        other = Bench(self.store)
        with self.store.read() as tx:
            other.engine.load(tx)
        return other

    def steps(self, run_id: str = "run-1") -> list[str]:
        with self.store.read() as tx:
            return [row.status for row in journal.load_steps(tx, run_id)]

    def run_status(self, run_id: str = "run-1") -> str:
        with self.store.read() as tx:
            return journal.get_run(tx, run_id).status

    def events(self, run_id: str = "run-1") -> list[dict[str, object]]:
        with self.store.read() as tx:
            return list(journal.read_events(tx, run_id))

    def versions(self, name: str = "result") -> list[int]:
        with self.store.read() as tx:
            return sorted(version.version for version in list_versions(tx, "echo", name))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    store = Store.open(tmp_path / "data" / "swamp.db", tmp_path / "data" / "blobs", create=True)
    yield Bench(store)
    store.close()


def outcome(status: str = "succeeded", *names: str, error: str | None = None) -> Outcome:
    """A step's end, with a resource of each name."""
    outputs = tuple(
        Output(name, name, "resource", "application/json", json.dumps({"said": name}).encode()) for name in names
    )
    return Outcome(status, error, outputs, NOON, NOON, 3)


def kinds(events: list[dict[str, object]]) -> list[object]:
    return [event["kind"] for event in events]


def test_a_run_is_on_the_disk_with_its_first_steps_when_it_is_accepted(bench: Bench) -> None:
    saved = bench.accept(PLACED)
    assert bench.steps() == ["queued", "pending"]
    assert kinds(bench.events()) == ["run-accepted", "job-started", "step-queued"] == kinds(saved.events)
    assert not saved.local


def test_steps_without_a_target_are_handed_out_as_running(bench: Bench) -> None:
    saved = bench.accept(plan([[[], []]]))
    assert [(start.step, start.target) for start in saved.local] == [("step-0", ""), ("step-1", "")]
    assert bench.steps() == ["running", "running"]


def test_a_result_and_what_follows_from_it_are_stored_together(bench: Bench) -> None:
    bench.accept(PLACED)
    bench.engine.finished("run-1", 0, outcome("succeeded", "result", "log"), "machine")
    saved = bench.save()
    assert bench.steps() == ["succeeded", "queued"]
    finished = next(event for event in saved.events if event["kind"] == "step-finished")
    assert finished["data"] == [
        {"name": "result", "version": 1, "specName": "result"},
        {"name": "log", "version": 1, "specName": "log"},
    ]
    assert bench.versions("result") == bench.versions("log") == [1]


def test_a_transaction_that_fails_leaves_neither_data_nor_status_nor_events(bench: Bench) -> None:
    bench.accept(PLACED)
    before = bench.events()
    bench.engine.finished("run-1", 0, outcome("succeeded", "result"), "machine")
    with pytest.raises(Broken):
        bench.save_and_break_off()
    assert bench.steps() == ["queued", "pending"]
    assert bench.events() == before
    with bench.store.read() as tx:
        assert tx.execute("SELECT count(*) FROM data").fetchone() == (0,)


def test_after_a_failed_transaction_the_engine_goes_on_from_the_disk(bench: Bench) -> None:
    bench.accept(PLACED)
    bench.engine.finished("run-1", 0, outcome("succeeded", "result"))
    with pytest.raises(Broken):
        bench.save_and_break_off()
    with bench.store.read() as tx:
        bench.engine.load(tx)
    bench.engine.finished("run-1", 0, outcome("succeeded", "result"))
    bench.save()
    bench.engine.finished("run-1", 1, outcome())
    saved = bench.save()
    assert saved.ended == [("run-1", "succeeded")]
    assert [event["seq"] for event in bench.events()] == list(range(1, len(bench.events()) + 1))
    assert bench.versions() == [1]


def test_only_the_first_end_of_a_step_counts_also_within_one_transaction(bench: Bench) -> None:
    bench.accept(plan([[[], [], []]], targets=("build-node",)))
    bench.engine.given_up("run-1", 0, "failed", "its worker was lost")
    bench.engine.finished("run-1", 0, outcome("succeeded", "result"))
    bench.engine.finished("run-1", 1, outcome("succeeded", "result"))
    bench.engine.finished("run-1", 1, outcome("failed", "result", error="late"))
    bench.engine.finished("run-1", 2, outcome("failed", error="it broke"))
    bench.engine.given_up("run-1", 2, "canceled", None)
    bench.save()
    bench.engine.finished("run-1", 1, outcome("failed", "result"))
    bench.save()
    assert bench.steps() == ["failed", "succeeded", "failed"]
    assert bench.versions() == [1]
    assert kinds(bench.events()).count("step-finished") == 3


def test_a_restart_changes_nothing_about_a_run(bench: Bench) -> None:
    bench.accept(plan([[[], [(0, "succeeded")]], [[]]], {1: [(0, "succeeded")]}, targets=("build-node",)))
    bench.engine.started("run-1", 0, "machine", "worker")
    bench.save()
    events, steps = bench.events(), bench.steps()
    other = bench.restarted()
    saved = other.save()
    assert (saved.events, saved.local, other.placed) == ([], [], [])
    assert (other.events(), other.steps()) == (events, steps)
    for position in range(3):
        other.engine.finished("run-1", position, outcome())
        ended = other.save().ended
    assert ended == [("run-1", "succeeded")]
    assert [event["seq"] for event in other.events()] == list(range(1, len(other.events()) + 1))


def test_an_ended_run_is_forgotten_and_what_is_said_of_it_is_ignored(bench: Bench) -> None:
    bench.accept(plan([[[]]]))
    bench.engine.finished("run-1", 0, outcome())
    assert bench.save().ended == [("run-1", "succeeded")]
    events = bench.events()
    bench.engine.started("run-1", 0, "machine", "worker")
    bench.engine.output("run-1", 0, "stdout", "late")
    bench.engine.finished("run-1", 0, outcome("failed", "result"))
    bench.engine.given_up("run-1", 0, "failed", "late")
    assert bench.engine.cancel("run-1") == []
    assert not bench.engine.dirty
    bench.save()
    assert bench.events() == events
    assert not bench.restarted().engine.runs


def test_a_step_that_is_queued_once_more_shows_its_newest_dispatch(bench: Bench) -> None:
    bench.accept(PLACED)
    bench.engine.started("run-1", 0, "machine", "worker")
    bench.engine.requeued("run-1", 0, "build-node--second")
    bench.save()
    record = bench.engine.record("run-1", 0)
    assert record is not None
    assert (record.status, record.dispatch_id, record.started_at) == ("queued", "build-node--second", None)
    with bench.store.read() as tx:
        assert journal.load_steps(tx, "run-1")[0].dispatch_id == "build-node--second"


def test_a_canceled_run_ends_with_its_last_running_step(bench: Bench) -> None:
    bench.accept(PLACED)
    bench.engine.started("run-1", 0, "machine", "worker")
    bench.save()
    assert bench.engine.cancel("run-1") == [0]
    bench.save()
    assert (bench.steps(), bench.run_status()) == (["running", "canceled"], "running")
    bench.engine.finished("run-1", 0, outcome("canceled", "result", error="stopped"))
    bench.save()
    assert (bench.steps(), bench.run_status()) == (["canceled", "canceled"], "canceled")
    assert bench.versions() == [1], "what a canceled step had produced is kept"


def test_a_long_workflow_is_handed_out_in_parts_each_step_once_also_through_a_restart(bench: Bench) -> None:
    bench.accept(plan([[[] for _ in range(2 * HANDED_OUT + 1)]], targets=("build-node",)))
    assert len(bench.placed) == HANDED_OUT
    assert bench.engine.dirty
    bench.save()
    other = bench.restarted()
    other.save()
    assert not other.engine.dirty
    positions = [start.position for start in (*bench.placed, *other.placed)]
    assert positions == list(range(2 * HANDED_OUT + 1))
    assert set(bench.steps()) == {"queued"}


def test_what_was_not_handed_out_yet_when_a_run_is_canceled_never_is(bench: Bench) -> None:
    bench.accept(plan([[[] for _ in range(HANDED_OUT + 5)]], targets=("build-node",)))
    assert len(bench.engine.cancel("run-1")) == HANDED_OUT
    bench.save()
    assert len(bench.placed) == HANDED_OUT
    assert not bench.engine.dirty
    assert bench.steps()[HANDED_OUT:] == ["canceled"] * 5


def test_the_engine_of_a_command_and_that_of_serve_leave_each_other_alone(bench: Bench) -> None:
    bench.accept(PLACED)
    other = Engine(bench.store.blobs, bench.engine._now, owner="command")
    with bench.store.read() as tx:
        other.load(tx)
    assert not other.runs


def test_where_data_came_from_is_stored_with_it(bench: Bench) -> None:
    bench.accept(PLACED)
    bench.engine.finished("run-1", 0, outcome("succeeded", "result"), "machine-7")
    bench.save()
    with bench.store.read() as tx:
        (version,) = list_versions(tx, "echo", "result")
    assert version.origin == Origin("flow", "run-1", "job-0", "step-0", "build-node", "machine-7")
    assert (version.model_name, version.model_type) == ("echo", "command/shell")


def test_ten_thousand_results_are_stored_within_seconds(bench: Bench) -> None:
    """One transaction: what is slow per step would show here."""
    size = 10_000
    bench.accept(plan([[[] for _ in range(size)]], targets=("build-node",)))
    for position in range(size):
        bench.engine.finished("run-1", position, outcome("succeeded", "result"))
    assert bench.save().ended == [("run-1", "succeeded")]
    assert bench.versions()[-1] == size


WORKFLOW = """\
id: 22222222-2222-4222-8222-222222222222
name: flow
tags: {team: red, run: nightly}
jobs:
  - name: build
    steps:
      - name: one
        task: {type: model_method, modelIdOrName: echo, methodName: execute}
      - name: two
        dependsOn: [{step: one, condition: failed}]
        task: {type: model_method, modelIdOrName: echo, methodName: execute}
"""


def test_a_plan_holds_each_call_once_with_the_tags_of_the_workflow_over_those_of_the_model() -> None:
    def resolve(task: Task) -> Invocation:
        return Invocation("id", task.model, "command/shell", task.method, {"run": "x"}, {"team": "blue", "os": "any"})

    of = plan_workflow(parse_workflow(WORKFLOW, "flow.yaml"), resolve)
    assert [call.tags for call in of.calls] == [{"team": "red", "os": "any", "run": "nightly"}]
    assert [(step.call, step.depends_on) for step in of.steps] == [(0, ()), (0, ((0, "failed"),))]
