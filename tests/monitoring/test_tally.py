from __future__ import annotations

from swamp.monitoring.tally import DISPATCHES_REFUSED, MOST_TARGETS, OTHERS, SECONDS, Histogram, Tally
from swamp.orchestrator.intake import REASONS


def test_a_duration_is_in_the_first_bucket_that_holds_it():
    histogram = Histogram()
    for seconds in (0.0, SECONDS[0], SECONDS[0] + 1e-6, SECONDS[-1] + 1):
        histogram.add(seconds)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-1]) == (2, 1, 1)
    assert histogram.sum > SECONDS[-1]


def test_however_many_targets_there_ever_were_labels_are_bounded():
    tally = Tally()
    for number in range(MOST_TARGETS + 50):
        tally.step_started(f"t{number}", 1.0)
        tally.step_ended(f"t{number}", "succeeded", 5)
    assert len(tally.waits) == len(tally.steps) == len(tally.durations) == MOST_TARGETS + 1
    assert tally.steps[(OTHERS, "succeeded")] == 50


def test_every_reason_that_a_machine_may_give_is_there_before_the_first():
    assert {*REASONS, "other"} == set(DISPATCHES_REFUSED) == set(Tally().dispatches_refused)
