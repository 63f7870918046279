from __future__ import annotations

from swamp.orchestrator.room import may_be_silent, may_push


def test_queues_leave_room_for_what_workers_say():
    assert may_push(0.0)
    assert may_push(0.79)
    assert not may_push(0.8)
    assert not may_be_silent(0.94), "they can still speak"


def test_a_machine_is_not_missed_while_redis_takes_nothing():
    assert may_be_silent(0.95)
    assert may_be_silent(1e6), "the limit was lowered below what is used"
