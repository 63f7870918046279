"""The verdicts of the chaos run see what they are there to see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import evidence
from tests.chaos.armed import wrap
from tests.chaos.bounds import slope_of
from tests.chaos.evidence import Dispatched, Hit, Journal, Noted, Notes, Step
from tests.chaos.losses import longest_pause, percentile, worked_again

FIRST, SECOND = "node--run-1-0-1", "node--run-1-0-2"
NOBODY = frozenset[str]()
STEP = Step(("run-1", 0), "job/step", False, "succeeded", FIRST, None, 1, ("machine-a",))
GOOD = Journal({"run-1": "succeeded"}, [STEP], [Dispatched(FIRST, "finished", "machine-a", NOBODY)])
NOTED = [Noted("start", FIRST, "machine-a", 1, 1.0), Noted("ran", FIRST, "machine-a", 1, 1.1)]


def test_nothing_is_wrong_where_nothing_went_wrong():
    assert not evidence.every_run_ended(["run-1"], GOOD)
    assert not evidence.nothing_runs_for_ever(GOOD)
    assert not evidence.started_as_often_as_allowed(NOTED, GOOD)
    assert not evidence.one_result_each(GOOD)
    assert not evidence.late_workers_changed_nothing(NOTED, GOOD)
    assert not evidence.no_surprises(GOOD)


def with_step(**changes: object) -> Journal:
    return replace(GOOD, steps=[replace(STEP, **changes)])  # type: ignore[arg-type]


def test_a_run_that_vanished_or_goes_on_is_seen():
    assert evidence.every_run_ended(["run-2"], GOOD)
    assert evidence.every_run_ended([], replace(GOOD, runs={"run-1": "running"}))


def test_a_step_or_dispatch_that_never_ends_is_seen():
    assert evidence.nothing_runs_for_ever(with_step(status="queued"))
    assert evidence.nothing_runs_for_ever(replace(GOOD, dispatches=[Dispatched(FIRST, "granted", None, NOBODY)]))


def test_a_second_start_is_seen_also_under_another_dispatch():
    again = [*NOTED, Noted("start", SECOND, "machine-b", 1, 2.0)]
    assert evidence.started_as_often_as_allowed(again, GOOD)
    assert not evidence.started_as_often_as_allowed(again, with_step(retry=True))


def test_a_start_that_was_withdrawn_is_none_and_must_not_have_run():
    withdrawn = [Noted("start", SECOND, "machine-b", 1, 0.5), Noted("withdrawn", SECOND, "machine-b", 1, 0.6)]
    assert not evidence.started_as_often_as_allowed([*withdrawn, *NOTED], GOOD)
    assert evidence.started_as_often_as_allowed([*withdrawn, *NOTED, Noted("ran", SECOND, "machine-b", 1, 0.7)], GOOD)
    twice = [*NOTED, Noted("start", SECOND, "machine-b", 1, 2.0), *withdrawn]
    assert evidence.started_as_often_as_allowed(twice, GOOD)


def test_a_step_that_may_be_retried_and_is_given_up_too_soon_is_seen():
    why = "worker 'a' was lost while the step ran"
    given_up = with_step(retry=True, status="failed", error=why)
    lost = [Dispatched(f"node--run-1-0-{number}", "lost", "machine-a", NOBODY) for number in range(1, 11)]
    assert evidence.started_as_often_as_allowed(NOTED, replace(given_up, dispatches=lost[:9]))
    assert not evidence.started_as_often_as_allowed(NOTED, replace(given_up, dispatches=lost))
    assert evidence.started_as_often_as_allowed([], with_step(retry=True, status="failed", error="a fault of ours"))


def test_a_success_of_what_never_ran_is_seen():
    assert evidence.started_as_often_as_allowed([NOTED[0]], GOOD)


def test_a_second_end_a_second_result_and_a_missing_one_are_seen():
    assert evidence.one_result_each(with_step(ends=2))
    assert evidence.one_result_each(with_step(results=("machine-a", "machine-a")))
    assert evidence.one_result_each(with_step(results=()))
    assert evidence.one_result_each(
        replace(GOOD, dispatches=[*GOOD.dispatches, Dispatched(SECOND, "finished", "machine-b", NOBODY)])
    )


def test_a_result_that_an_outbox_had_and_nobody_has_is_seen():
    kept = [*NOTED, Noted("kept", FIRST, "machine-a", 1, 1.2)]
    assert not evidence.no_result_was_lost(kept, GOOD)
    assert evidence.no_result_was_lost(kept, replace(GOOD, dispatches=[]))
    assert evidence.no_result_was_lost(kept, replace(GOOD, dispatches=[Dispatched(FIRST, "lost", "machine-a", NOBODY)]))
    late = frozenset({"machine-a"})
    assert not evidence.no_result_was_lost(
        kept, replace(GOOD, dispatches=[Dispatched(FIRST, "lost", "machine-b", late)])
    )
    others = replace(GOOD, dispatches=[Dispatched(FIRST, "finished", "machine-b", NOBODY)])
    assert evidence.no_result_was_lost(kept, others), "that of another machine is not this one"


def test_a_result_from_a_machine_that_did_not_run_the_step_is_seen():
    assert evidence.late_workers_changed_nothing(NOTED, with_step(results=("machine-b",)))
    late = replace(GOOD, dispatches=[Dispatched(FIRST, "lost", "machine-a", frozenset({"machine-a"}))])
    assert evidence.late_workers_changed_nothing(NOTED, late)
    twice = replace(GOOD, dispatches=[Dispatched(FIRST, "finished", "machine-a", frozenset({"machine-a"}))])
    assert evidence.late_workers_changed_nothing(NOTED, twice)
    beside = replace(GOOD, dispatches=[Dispatched(FIRST, "finished", "machine-a", frozenset({"machine-b"}))])
    assert not evidence.late_workers_changed_nothing(NOTED, beside)


def test_an_unexpected_failure_is_seen():
    assert evidence.no_surprises(with_step(status="failed", error="a fault of ours"))
    assert not evidence.no_surprises(with_step(status="failed", error="worker 'a' was lost while the step ran"))


def test_notes_are_read_as_they_grow(tmp_path: Path):
    notes = Notes(tmp_path / "notes")
    with notes.path.open("a") as file:
        file.write(f"start\t{FIRST}\tmachine-a\t1\t1.0\nhit\tsome point\tkill\t7\t2.0\nran\t{FIRST}\tmach")
        file.flush()
        notes.look()
        assert (notes.noted, notes.hits) == ([NOTED[0]], [Hit("some point", "kill", 7, 2.0)])
        file.write("ine-a\t1\t1.1\n")
        file.flush()
        notes.look()
    assert notes.noted == NOTED
    assert notes.kills() == {"some point": 1}


def test_a_point_whose_function_is_gone_is_an_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        wrap("workers.slots:Slots.no_such_name", lambda real: real)


def test_figures():
    assert percentile([float(value) for value in range(1, 201)], 99) == 198.0
    assert slope_of([1.0, 3.0, 5.0]) == 2.0


def test_a_loss_is_counted_from_what_an_orchestrator_said_last_of_working_again():
    lines = [
        f"2026-01-01T00:00:{second:02}.000Z info    {text}"
        for second, text in [
            (5, "Redis is back after 3.0s"),
            (20, "nothing was heard or stored for 7.0s; silence of workers counts from now on"),
            (21, "worker fleet-a is lost"),
            (40, "Redis is back after 3.0s"),
        ]
    ]
    midnight = 1767225600.0
    assert worked_again(lines, midnight + 10, midnight + 30) == lines[1]
    assert worked_again(lines, midnight, midnight + 30) == lines[1]
    assert worked_again(lines, midnight + 20, midnight + 30) is None


def test_a_pause_counts_that_reaches_into_the_time_asked_for():
    beats = [0.0, 1.0, 2.0, 9.0, 10.0]
    assert longest_pause(beats, 0.0, 10.0) == 7.0
    assert longest_pause(beats, 8.0, 9.5) == 7.0
    assert longest_pause(beats, 9.0, 10.0) == 1.0
    assert longest_pause(beats, 10.0, 14.0) == 4.0, "it has not beaten since"
