"""How a run moves, held against a model that knows nothing but the rules."""

from __future__ import annotations

import time
from collections.abc import Iterable
from copy import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from swamp.workflows.events import Event
from swamp.workflows.plan import Plan, plan_from_json
from swamp.workflows.run import Run
from tests.workflows.plans import plan, plans

NOON = "2026-06-15T12:00:00.000Z"
LATER = "2026-06-15T12:00:01.500Z"
ENDED = {"succeeded", "failed", "canceled", "skipped"}
SATISFIES = {
    "succeeded": {"succeeded"},
    "failed": {"failed"},
    "completed": {"succeeded", "failed"},
    "skipped": {"skipped"},
    "always": ENDED,
}


# ---------------------------------------------------------------------- the model


def combined(statuses: Iterable[str]) -> str:
    """The status of what is made of parts that ended so."""
    found = set(statuses)
    return next((status for status in ("failed", "canceled", "succeeded") if status in found), "skipped")


class Model:
    """What must be true of a run, worked out from scratch each time: no counters, no queues."""

    def __init__(self, of: Plan) -> None:
        self.plan = of
        self.status = ["pending"] * len(of.steps)
        self.canceled = False

    def steps_of(self, job: int) -> range:
        planned = self.plan.jobs[job]
        return range(planned.first, planned.first + planned.size)

    def job_status(self, job: int) -> str | None:
        """None while it has not ended."""
        statuses = [self.status[position] for position in self.steps_of(job)]
        return combined(statuses) if ENDED.issuperset(statuses) else None

    def _verdict(self, edges: Iterable[tuple[str | None, str]]) -> str:
        """`wait`, `go` or `no` of edges, given as (end state or None, condition)."""
        listed = list(edges)
        if any(status is None for status, _ in listed):
            return "wait"
        return "go" if all(status in SATISFIES[condition] for status, condition in listed) else "no"

    def job_verdict(self, job: int) -> str:
        return self._verdict((self.job_status(on), condition) for on, condition in self.plan.jobs[job].depends_on)

    def step_verdict(self, position: int) -> str:
        """What the step's own edges and its job's say."""
        step = self.plan.steps[position]
        of_job = self.job_verdict(step.job)
        if of_job != "go":
            return of_job
        ends = ((self.status[on], condition) for on, condition in step.depends_on)
        return self._verdict((status if status in ENDED else None, condition) for status, condition in ends)

    def settle(self) -> None:
        """End everything that ends by itself."""
        moved = True
        while moved:
            moved = False
            for position, status in enumerate(self.status):
                if status == "pending" and (self.canceled or self.step_verdict(position) == "no"):
                    self.status[position] = "canceled" if self.canceled else "skipped"
                    moved = True

    def allowed(self) -> list[int]:
        """Steps that could start now if there were no limits."""
        return [p for p, status in enumerate(self.status) if status == "pending" and self.step_verdict(p) == "go"]

    @property
    def run_status(self) -> str:
        if any(status not in ENDED for status in self.status):
            return "running"
        total = combined(self.status)
        return "succeeded" if total == "skipped" else total


class RunMachine(RuleBasedStateMachine):
    """A run and the model of it, told the same things in any order."""

    @initialize(of=plans())
    def accept(self, of: Plan) -> None:
        self.plan = of
        self.model = Model(of)
        self.run = Run("a-run", of, NOON)
        self.seen: list[Event] = []
        self.dispatches = 0
        self.run.start()
        self.knows_of_cancel = False
        self.follow()

    def follow(self) -> None:
        """Do what the engine does after each thing told: hand out what is ready, store the rest."""
        self.model.settle()
        ready, self.run.ready = self.run.ready, []
        for position in ready:
            assert position in self.model.allowed(), f"step {position} may not start yet"
            if self.plan.steps[position].target:
                self.queue(position)
            else:
                self.run.started(position, NOON)
                self.model.status[position] = "running"
        self.seen += self.run.events
        self.run.events.clear()
        self.run.changed.clear()

    def queue(self, position: int) -> None:
        self.dispatches += 1
        self.run.queued(position, f"dispatch-{self.dispatches}", NOON)
        self.model.status[position] = "queued"

    def any_of(self, data: st.DataObject, *statuses: str) -> int:
        positions = [p for p, status in enumerate(self.model.status) if status in statuses]
        return data.draw(st.sampled_from(positions), label="position")

    def has(*statuses: str):  # a condition for the rules below
        return precondition(lambda self: any(status in statuses for status in self.model.status))

    @has("queued")
    @rule(data=st.data())
    def a_queued_step_starts(self, data: st.DataObject) -> None:
        position = self.any_of(data, "queued")
        self.run.started(position, NOON, "machine", "worker")
        self.model.status[position] = "running"
        self.follow()

    @has("queued", "running")
    @rule(data=st.data(), status=st.sampled_from(["succeeded", "failed", "canceled"]))
    def a_step_ends(self, data: st.DataObject, status: str) -> None:
        position = self.any_of(data, "queued", "running")
        self.run.finished(position, status, LATER, error="it broke" if status == "failed" else None)
        self.model.status[position] = status
        self.follow()

    @has("queued", "running")
    @rule(data=st.data())
    def a_step_is_queued_once_more(self, data: st.DataObject) -> None:
        position = self.any_of(data, "queued", "running")
        if self.plan.steps[position].target:
            self.queue(position)
            self.follow()

    @has(*ENDED)
    @rule(data=st.data(), status=st.sampled_from(["succeeded", "failed"]))
    def a_step_that_has_ended_ends_again(self, data: st.DataObject, status: str) -> None:
        self.run.finished(self.any_of(data, *ENDED), status, LATER)
        assert not self.run.events
        self.follow()

    @rule()
    def somebody_cancels(self) -> None:
        alive = self.run.cancel(NOON)
        if self.knows_of_cancel or self.model.run_status != "running":
            assert not alive
        else:
            assert alive == [p for p, status in enumerate(self.model.status) if status in ("queued", "running")]
            self.model.canceled = self.knows_of_cancel = True
        self.follow()

    @precondition(lambda self: self.model.run_status == "running")
    @rule()
    def the_process_starts_anew(self) -> None:
        records = [copy(record) for record in self.run.steps]
        self.run = Run.restore("a-run", plan_from_json(self.plan.to_json()), NOON, records, len(self.seen))
        self.run.resume(NOON)
        assert not self.run.ready, "what was ready had been handed out before"
        assert not self.run.events, "a restart is no event"
        self.knows_of_cancel = False
        self.follow()

    @invariant()
    def every_step_is_where_the_rules_put_it(self) -> None:
        assert [record.status for record in self.run.steps] == self.model.status
        assert self.run.status == self.model.run_status

    @invariant()
    def limits_hold_and_nothing_waits_without_reason(self) -> None:
        alive = {"queued", "running"}
        at_work = [sum(self.model.status[p] in alive for p in self.model.steps_of(j)) for j in self.jobs]
        open_jobs = {j for j in self.jobs if self.kinds(j, "job-started") and not self.kinds(j, "job-finished")}
        limit = self.plan.concurrency or len(self.plan.jobs)
        assert len(open_jobs) <= limit
        for job in self.jobs:
            assert at_work[job] <= (self.plan.jobs[job].concurrency or len(self.plan.steps))
        for position in self.model.allowed():
            job = self.plan.steps[position].job
            if job in open_jobs:
                assert at_work[job] == self.plan.jobs[job].concurrency, f"step {position} could have started"
            else:
                assert len(open_jobs) == limit, f"job {job} could have started"

    @invariant()
    def the_events_tell_the_same_story(self) -> None:
        assert [event["seq"] for event in self.seen] == list(range(1, len(self.seen) + 1))
        assert [event["kind"] for event in self.seen].index("run-accepted") == 0
        for job in self.jobs:
            status = self.model.job_status(job)
            assert [event["status"] for event in self.kinds(job, "job-finished")] == ([status] if status else [])
            told = [event for event in self.seen if event.get("job") == self.plan.jobs[job].name]
            begun = any(event["kind"] in ("step-queued", "step-started") for event in told)
            assert len(self.kinds(job, "job-started")) == int(begun)
            if begun:
                assert told[0]["kind"] == "job-started"
            if status:
                assert told[-1]["kind"] == "job-finished"
            for position in self.model.steps_of(job):
                of_step = [event for event in told if event.get("step") == self.plan.steps[position].name]
                ends = [event["status"] for event in of_step if event["kind"] == "step-finished"]
                ended = self.model.status[position] in ENDED
                assert ends == ([self.model.status[position]] if ended else [])
                assert not ended or of_step[-1]["kind"] == "step-finished"
        finished = [event for event in self.seen if event["kind"] == "run-finished"]
        assert len(finished) == int(self.model.run_status != "running")
        if finished:
            assert self.seen[-1] is finished[0]
            assert {status: finished[0][status] for status in ENDED} == {
                status: self.model.status.count(status) for status in ENDED
            }

    def kinds(self, job: int, kind: str) -> list[Event]:
        name = self.plan.jobs[job].name
        return [event for event in self.seen if event["kind"] == kind and event["job"] == name]

    @property
    def jobs(self) -> range:
        return range(len(self.plan.jobs))

    def teardown(self) -> None:
        """Every run comes to an end when its steps do."""
        while hasattr(self, "model") and self.model.run_status == "running":
            alive = [p for p, status in enumerate(self.model.status) if status in ("queued", "running")]
            assert alive, "the run waits for nothing"
            self.run.finished(alive[0], "succeeded", LATER)
            self.model.status[alive[0]] = "succeeded"
            self.follow()
            self.every_step_is_where_the_rules_put_it()
            self.limits_hold_and_nothing_waits_without_reason()


RunMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)
TestRun = RunMachine.TestCase


# ---------------------------------------------------------------------- by example


def begin(of: Plan) -> Run:
    run = Run("a-run", of, NOON)
    run.start()
    start_ready(run)
    return run


def start_ready(run: Run) -> list[int]:
    """Start everything that may start; returns the positions."""
    ready, run.ready = run.ready, []
    for position in ready:
        run.started(position, NOON)
    return ready


def statuses(run: Run) -> list[str]:
    return [record.status for record in run.steps]


def test_a_clean_up_step_runs_after_the_failure_it_waits_for() -> None:
    run = begin(plan([[[], [(0, "succeeded")], [(0, "failed")]]]))
    run.finished(0, "failed", LATER, error="Command exited with code 1")
    assert start_ready(run) == [2]
    run.finished(2, "succeeded", LATER)
    assert statuses(run) == ["failed", "skipped", "succeeded"]
    assert (run.status, run.error) == ("failed", "job-0/step-0: Command exited with code 1")


def test_a_clean_up_step_is_skipped_when_there_was_no_failure() -> None:
    run = begin(plan([[[], [(0, "failed")]]]))
    run.finished(0, "succeeded", LATER)
    assert statuses(run) == ["succeeded", "skipped"]
    assert run.status == "succeeded"


@pytest.mark.parametrize(
    ("condition", "ending", "runs"),
    [
        ("succeeded", "succeeded", True),
        ("succeeded", "failed", False),
        ("succeeded", "canceled", False),
        ("failed", "failed", True),
        ("failed", "succeeded", False),
        ("completed", "succeeded", True),
        ("completed", "failed", True),
        ("completed", "canceled", False),
        ("skipped", "succeeded", False),
        ("always", "succeeded", True),
        ("always", "failed", True),
        ("always", "canceled", True),
    ],
)
def test_a_job_runs_only_if_the_job_before_it_ended_as_its_condition_says(
    condition: str, ending: str, runs: bool
) -> None:
    run = begin(plan([[[]], [[], []]], {1: [(0, condition)]}))
    run.finished(0, ending, LATER)
    assert start_ready(run) == ([1, 2] if runs else [])
    assert statuses(run)[1:] == (["running", "running"] if runs else ["skipped", "skipped"])


def test_what_waits_for_a_skipped_job_runs_with_the_conditions_skipped_and_always_only() -> None:
    edges = {1: [(0, "failed")], 2: [(1, "skipped")], 3: [(1, "always")], 4: [(1, "completed")]}
    run = begin(plan([[[]], [[]], [[]], [[]], [[]]], edges))
    run.finished(0, "succeeded", LATER)
    assert start_ready(run) == [2, 3]
    assert statuses(run) == ["succeeded", "skipped", "running", "running", "skipped"]


def test_a_step_starts_the_moment_its_own_dependencies_have_ended() -> None:
    """Two chains side by side: the quick one does not wait for the slow one's level."""
    run = begin(plan([[[], [(0, "succeeded")], [(1, "succeeded")], [], [(3, "succeeded")]]]))
    for position in (0, 1, 2):
        run.finished(position, "succeeded", LATER)
        start_ready(run)
    assert statuses(run) == ["succeeded", "succeeded", "succeeded", "running", "pending"]


def test_a_canceled_run_stays_canceled_through_a_restart() -> None:
    """The job that was canceled before it began does not begin when the one before it ends after a restart."""
    of = plan([[[]], [[]]], {1: [(0, "succeeded")]})
    run = begin(of)
    assert run.cancel(NOON) == [0]
    restored = Run.restore("a-run", of, NOON, run.steps, len(run.events))
    restored.resume(NOON)
    restored.finished(0, "succeeded", LATER)
    assert [event["kind"] for event in restored.events] == ["step-finished", "job-finished", "run-finished"]
    assert restored.status == "canceled"


def test_a_run_in_which_every_condition_said_no_has_succeeded() -> None:
    run = begin(plan([[[]], [[]]], {1: [(0, "failed")]}))
    run.finished(0, "succeeded", LATER)
    assert (run.status, run.error) == ("succeeded", None)


@pytest.mark.parametrize("in_one_job", [True, False])
def test_a_chain_of_50_000_skipped_steps_ends_with_its_first(in_one_job: bool) -> None:
    size = 50_000
    if in_one_job:
        of = plan([[[(n - 1, "succeeded")] if n else [] for n in range(size)]])
    else:
        of = plan([[[]] for _ in range(size)], {n: [(n - 1, "succeeded")] for n in range(1, size)})
    run = begin(of)
    run.finished(0, "failed", LATER, error="no")
    assert statuses(run) == ["failed"] + ["skipped"] * (size - 1)
    assert run.status == "failed"


@pytest.mark.parametrize(("in_one_job", "limit"), [(True, 0), (False, 7)])
def test_the_work_of_a_fan_out_grows_with_its_steps_alone(in_one_job: bool, limit: int) -> None:
    def seconds(size: int) -> float:
        """Of the processor, for a step that fans out to `size` and in again."""
        fan = [(n, "succeeded") for n in range(1, size + 1)]
        if in_one_job:
            of = plan([[[], *[[(0, "succeeded")]] * size, fan]], job_concurrency={0: limit})
        else:
            edges = {**{n: [(0, "succeeded")] for n in range(1, size + 1)}, size + 1: fan}
            of = plan([[[]]] * (size + 2), edges, concurrency=limit)
        before = time.process_time()
        run = begin(of)
        for position in range(size + 2):
            run.finished(position, "succeeded", LATER)
            start_ready(run)
        assert run.status == "succeeded"
        return time.process_time() - before

    small = min(seconds(5_000) for _ in range(2))
    assert seconds(100_000) < small * 20 * 4
