"""When a machine counts as lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swamp.orchestrator.leases import HEARTBEAT, SILENCE, Lease, given_up, heard, newly_lost


def test_three_heartbeats_may_be_missed_and_a_loss_is_seen_within_fifteen_seconds() -> None:
    assert 3 * HEARTBEAT < SILENCE < 15


def test_a_machine_is_lost_once_after_its_silence_and_back_with_its_next_sign_of_life() -> None:
    lease = Lease(100.0)
    assert newly_lost([("m", lease)], 100.0 + SILENCE) == []
    assert newly_lost([("m", lease)], 100.1 + SILENCE) == ["m"]
    assert newly_lost([("m", lease)], 500.0) == [], "it is lost already"
    assert heard(lease, 501.0)
    assert not heard(lease, 502.0)
    assert newly_lost([("m", lease)], 502.0 + SILENCE) == []


def test_only_the_silent_ones_of_many_are_lost() -> None:
    leases = {f"m{n}": Lease(float(n)) for n in range(20)}
    assert newly_lost(leases.items(), 9.5 + SILENCE) == [f"m{n}" for n in range(10)]


def test_a_begun_step_waits_as_long_as_it_says_from_the_loss_on() -> None:
    lease = Lease(0.0)
    assert not given_up(lease, 1e9, 0), "the machine is not lost"
    newly_lost([("m", lease)], 20.0)
    assert not given_up(lease, 79.9, 60)
    assert given_up(lease, 80.0, 60)
    assert given_up(lease, 20.0, 0)
    heard(lease, 81.0)
    assert not given_up(lease, 1e9, 60)


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=30))
def test_whoever_was_heard_within_the_silence_is_never_lost(steps: list[tuple[float, bool]]) -> None:
    lease, now, last = Lease(0.0), 0.0, 0.0
    for passed, speaks in steps:
        now += passed
        if speaks:
            heard(lease, now)
            last = now
        lost = newly_lost([("m", lease)], now)
        assert bool(lost) <= (now - last > SILENCE)
        assert (lease.lost_at is not None) == (now - last > SILENCE)
