"""The short form of `make chaos`, with fixed seeds: one real fault at least for each promise that it judges."""

from __future__ import annotations

from shutil import rmtree

from tests.chaos.bounds import bounds
from tests.chaos.cluster import FLEET, NODE, PATIENCE, placed
from tests.chaos.experiments import frozen, handed_over, restarts, rolling, storm, unbegun
from tests.chaos.judging import Report, journal_of, judge_what_happened, swamp
from tests.chaos.points import POINTS
from tests.waiting import wait_until

#: One on either side of each commit and each hand-over.
SHORT = (
    "1 dispatches committed, not pushed",
    "2 pushed, the rest not",
    "4 grant committed, not sent",
    "7 stored, not committed",
    "8 committed, not freed",
    "9 freed, not acknowledged",
    "3 noted as seen, not begun",
    "4 begun on the server, answer not read",
    "4 begun, no process yet",
    "4 ended, result in memory only",
    "5 result in the outbox, not sent",
    "6 result sent, answer not read",
)


def check(report: Report) -> None:
    wrong = {promise: problems for promise, problems in report.verdicts.items() if problems}
    assert not wrong, "\n".join([*map(str, wrong.items()), *report.figures])


def test_whatever_is_killed_at_whichever_point_every_run_ends_and_nothing_starts_twice_or_gets_lost():
    assert set(SHORT) <= {point.name for point in POINTS}
    check(storm(20, list(SHORT), 300, calm=0, until_hit=True, width=6))


def test_a_result_is_neither_lost_nor_taken_twice_by_an_orchestrator_that_is_killed_while_it_takes_it():
    check(handed_over())


def test_a_result_that_comes_when_everything_has_ended_without_it_is_kept():
    """Its worker was killed with it, and is back only when the step has run on another machine."""
    late, other = f"{FLEET}-a", f"{FLEET}-b"
    with swamp() as made:
        made.models()
        made.workflow("one", {"name": "job", "steps": [placed("again", "quick", FLEET, "retry")]})
        made.ready(late)
        killed = made.machines[late].process
        killed.arm("5 result in the outbox, not sent")
        run = made.submitted("one")
        killed.wait_for_end(60)
        made.join(other)
        assert made.come_to_rest(PATIENCE)
        assert not any(dispatch.late for dispatch in journal_of(made).dispatches)
        made.join(late)
        report = Report()
        judge_what_happened(report, made, [run], [])
        check(report)
        first, second = sorted(journal_of(made).dispatches, key=lambda dispatch: dispatch.id)
        assert (first.state, len(first.late), second.state) == ("lost", 1, "finished")


def test_a_result_that_was_sent_and_lost_its_content_before_it_was_taken_ends_its_run():
    with swamp() as made:
        made.models()
        made.workflow("big", {"name": "job", "steps": [placed("big", "big", NODE, "fail")]})
        made.ready(NODE)
        made.orchestrator.arm("7 stored, not committed")
        made.submit("big")
        made.orchestrator.wait_for_end(60)
        for file in (made.stage.scratch / f"cache-{NODE}/contents").iterdir():
            file.unlink()
        rmtree(made.stage.root / ".swamp/redis/appendonlydir")
        made.serve().wait_for_line("listening on ws://", timeout=60)
        wait_until(lambda: made.runs_under_way() == 0, "the run to end", timeout=30)
        (step,) = journal_of(made).steps
        assert (step.status, made.machines[NODE].process.running) == ("failed", True)
        assert "was lost on its worker" in (step.error or "")


def test_workers_that_stood_still_longer_than_their_lease_change_nothing():
    check(frozen())


def test_what_a_killed_worker_had_not_begun_is_begun_anew_also_after_a_restart_of_the_orchestrator():
    check(unbegun())


def test_an_orchestrator_restarted_again_and_again_under_load_costs_no_step():
    check(restarts(21, 4))


def test_what_redis_holds_does_not_pile_up():
    check(bounds(4_500, 3, {"keys": 1.0, "server kB in use": 100.0}))


def test_workers_restarted_one_after_the_other_under_load_cost_no_step():
    check(rolling(22, 1))
