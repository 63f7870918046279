"""When a worker goes: the grace of what runs, what is cut off, and the work that was wanted of it."""

from __future__ import annotations

import pytest

from swamp.errors import NotAllowed
from workers.ending import CUT_TAKES, Ending

BEGIN, GRACE = 1000.0, 30.0


@pytest.fixture
def ending() -> Ending:
    return Ending(GRACE, max_dispatches=3, idle_timeout=10.0, now=BEGIN)


def test_nobody_goes_who_was_not_asked(ending: Ending):
    assert ending.next(BEGIN + 9999, 0, delivered=True) == "stay"


def test_asked_it_goes_when_everything_is_delivered(ending: Ending):
    ending.asked(BEGIN)
    assert ending.next(BEGIN + 1, 1, delivered=True) == "stay"
    assert ending.next(BEGIN + 2, 0, delivered=False) == "stay"
    assert ending.next(BEGIN + 3, 0, delivered=True) == "go"


def test_what_outlasts_its_grace_is_cut_off_once_and_not_waited_for_much_longer(ending: Ending):
    ending.asked(BEGIN)
    over = BEGIN + GRACE
    assert ending.look_at(BEGIN + 1) == over
    assert ending.next(over, 2, delivered=False) == "cut"
    assert ending.cutting
    assert ending.next(over + 0.1, 2, delivered=False) == "stay"
    assert ending.next(over + CUT_TAKES, 2, delivered=False) == "go"


def test_what_nobody_takes_is_not_waited_for_longer_than_the_grace(ending: Ending):
    ending.asked(BEGIN)
    assert ending.next(BEGIN + GRACE, 0, delivered=False) == "go"


def test_asked_twice_it_does_not_use_up_its_grace(ending: Ending):
    ending.asked(BEGIN)
    ending.asked(BEGIN + 1)
    ending.cut(BEGIN + 1)
    assert ending.next(BEGIN + 2, 1, delivered=False) == "stay"
    assert ending.next(BEGIN + 1 + CUT_TAKES, 1, delivered=False) == "go"


def test_a_second_request_does_not_lengthen_the_grace(ending: Ending):
    ending.asked(BEGIN)
    ending.asked(BEGIN + GRACE - 1)
    ending.cut(BEGIN + GRACE - 1)
    assert ending.look_at(BEGIN + GRACE - 1) == BEGIN + GRACE


def test_turned_away_it_waits_for_nothing_but_the_end_of_what_runs(ending: Ending):
    ending.failure = NotAllowed("no")
    ending.cut(BEGIN)
    assert ending.next(BEGIN, 1, delivered=False) == "stay"
    assert ending.next(BEGIN, 0, delivered=False) == "go"
    assert ending.next(BEGIN + CUT_TAKES, 1, delivered=False) == "go"


def test_it_goes_when_as_many_steps_have_ended_as_were_wanted(ending: Ending):
    assert ending.reason_to_go(BEGIN, 2, busy=True) is None
    assert ending.reason_to_go(BEGIN, 3, busy=True) == "3 steps have ended here, as many as were wanted"


def test_it_goes_when_there_was_nothing_to_do_for_long_enough(ending: Ending):
    assert ending.look_at(BEGIN) == BEGIN + 10
    assert ending.reason_to_go(BEGIN + 9, 0, busy=True) is None
    assert ending.look_at(BEGIN + 9) == BEGIN + 19
    assert ending.reason_to_go(BEGIN + 18, 0, busy=False) is None
    assert ending.reason_to_go(BEGIN + 19, 0, busy=False) == "there was nothing to do for 10s"


def test_without_limits_it_stays():
    ending = Ending(GRACE, None, None, BEGIN)
    assert ending.reason_to_go(BEGIN + 1e9, 10**9, busy=False) is None
    assert ending.look_at(BEGIN) == float("inf")
