"""TERM, patience, KILL: in this order, each once, and never later than the most impatient wanted."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM

from hypothesis import given
from hypothesis import strategies as st

from swamp.models.stopping import TIMEOUT_GRACE, Stopping

graces = st.one_of(st.none(), st.floats(0, 100))
looks = st.lists(st.tuples(st.floats(0, 10), graces))


def test_nothing_is_sent_while_nobody_asks_and_there_is_time() -> None:
    assert Stopping(None).signal(10**9, None) is None
    assert Stopping(5.0).signal(4.9, None) is None


def test_the_time_limit_leaves_its_own_grace() -> None:
    stopping = Stopping(5.0)
    assert stopping.signal(5.0, None) == SIGTERM
    assert (stopping.ended_by, stopping.due) == ("timeout", 5.0 + TIMEOUT_GRACE)
    assert stopping.signal(5.0 + TIMEOUT_GRACE, None) == SIGKILL


def test_a_request_after_the_time_limit_brings_the_kill_forward_but_stays_a_timeout() -> None:
    stopping = Stopping(5.0)
    stopping.signal(5.0, None)
    assert stopping.signal(6.0, 0.0) == SIGKILL
    assert stopping.ended_by == "timeout"


@given(st.one_of(st.none(), st.floats(0, 50)), looks)
def test_term_comes_once_and_first_and_kill_once_and_last(
    limit: float | None, steps: list[tuple[float, float | None]]
) -> None:
    stopping = Stopping(limit)
    now, sent, kill_wanted_at = 0.0, [], None
    for pause, grace in steps:
        now += pause
        number = stopping.signal(now, grace)
        if number is not None:
            sent.append(number)
        if grace is not None:
            kill_wanted_at = min(now + grace, kill_wanted_at or now + grace)
        if kill_wanted_at is not None and number != SIGTERM and now >= kill_wanted_at:
            assert stopping.killed
    assert sent in ([], [SIGTERM], [SIGTERM, SIGKILL])
    assert stopping.killed == (SIGKILL in sent)
