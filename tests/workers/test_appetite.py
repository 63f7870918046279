"""How much a worker takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.workers.dispatches import dispatch
from workers.appetite import BATCH, SHORT_MS, ahead, may_gather, moved, to_begin, to_claim

slots = st.integers(1, 64)
durations = st.floats(0, 1e6)


@given(slots, st.integers(0, 200), st.integers(0, 200), st.floats(SHORT_MS, 1e6) | st.just(float("inf")))
def test_nothing_is_taken_ahead_of_work_that_takes_long_or_is_unknown(
    slots: int, running: int, waiting: int, recent: float
):
    assert to_claim(slots, running, waiting, recent) == max(0, slots - running - waiting)
    begin, left = to_begin([dispatch(n) for n in range(waiting)], slots, running, recent)
    assert len(begin) == min(waiting, max(0, slots - running))
    assert len(begin) + len(left) == waiting


@given(slots, st.integers(0, 300), st.integers(0, 300), durations)
def test_what_is_begun_ahead_is_bounded_and_keeps_its_order(slots: int, running: int, waiting: int, recent: float):
    work = [dispatch(n) for n in range(waiting)]
    begin, left = to_begin(work, slots, running, recent)
    assert [*begin, *left] == work
    assert len(begin) + running <= max(running, slots + BATCH)


@given(slots, durations)
def test_enough_is_claimed_to_begin_everything_that_may_be_begun(slots: int, recent: float):
    assert to_claim(slots, 0, 0, recent) >= slots + ahead(slots, recent)


@given(slots, durations)
def test_nothing_is_gathered_while_no_begun_work_waits_for_a_slot(slots: int, recent: float):
    assert not may_gather(slots, 0, recent)


def test_instant_steps_are_begun_in_batches_whatever_the_slots():
    work = [dispatch(n, "swamp/probe", "echo") for n in range(BATCH + 5)]
    begin, left = to_begin(work, 1, 1, float("inf"))
    assert (len(begin), len(left)) == (BATCH, 5)


def test_one_long_step_ends_taking_ahead_at_once():
    average = 1.0
    for _ in range(100):
        average = moved(average, 1.0)
    assert ahead(2, average) > 0
    assert ahead(2, moved(average, SHORT_MS)) == 0
