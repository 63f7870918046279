"""RQ's books as the function library keeps them: never so that a tool that may only read would stumble over them."""

from __future__ import annotations

import redis

from swamp.broker.functions import Job, load_library, look, mirror, push

NOW = "2026-06-15T11:34:58.961Z"
LATER = "2026-06-15T11:35:13.961Z"
SHOWN = ("worker", "node", "node", 60, ["birth", NOW, "state", "idle"])
STARTED = ("started", "node", "node--1", "a1", "node", NOW)
ENDED = ("ended", "node", "node--1", "a1", "node", NOW, LATER, "finished", "", "1.250", 1)


def with_a_job(full: redis.Redis) -> redis.Redis:
    load_library(full)
    push(full, "node", [Job("node--1", b"call", "w / j / s — m.execute", b"sealed")], NOW)
    return full


def test_the_name_of_a_worker_goes_before_its_hash(full: redis.Redis) -> None:
    load_library(full)
    mirror(full, [SHOWN], NOW, 1781523298.0)
    for names in ("rq:workers", "rq:workers:node"):
        assert 0 < full.ttl(names) < full.ttl("rq:worker:node")


def test_a_name_without_a_hash_goes_when_workers_are_shown_again(full: redis.Redis) -> None:
    load_library(full)
    mirror(full, [SHOWN, ("worker", "other", "node", 60, [])], NOW, 1781523298.0)
    full.delete("rq:worker:other")
    mirror(full, [("worker", "node", "node", 60, [])], LATER, 1781523313.0)
    assert full.smembers("rq:workers") == full.smembers("rq:workers:node") == {b"rq:worker:node"}


def test_a_worker_that_is_shown_again_keeps_its_birth_and_its_counts(full: redis.Redis) -> None:
    with_a_job(full)
    mirror(full, [SHOWN, STARTED, ENDED], NOW, 1781523298.0)
    mirror(full, [("worker", "node", "node", 60, ["birth", LATER, "state", "idle"])], LATER, 1781523313.0)
    shown = full.hgetall("rq:worker:node")
    assert (shown[b"birth"], shown[b"last_heartbeat"]) == (NOW.encode(), LATER.encode())
    assert (shown[b"successful_job_count"], shown[b"total_working_time"]) == (b"1", b"1.25")


def test_an_idle_worker_shows_its_queue_before_there_was_a_job(full: redis.Redis) -> None:
    load_library(full)
    mirror(full, [SHOWN], NOW, 1781523298.0)
    assert full.smembers("rq:queues") == {b"rq:queue:node"}


def test_a_job_that_a_tool_has_deleted_does_not_come_back_in_part(full: redis.Redis) -> None:
    with_a_job(full)
    full.delete("rq:job:node--1")
    mirror(full, [SHOWN, STARTED], NOW, 1781523298.0)
    assert not full.exists("rq:job:node--1", "rq:wip:node", "rq:worker:node:executions")
    assert not full.hexists("rq:worker:node", "current_job")
    mirror(full, [ENDED], LATER, 1781523313.0)
    assert not full.exists("rq:job:node--1", "rq:finished:node", "rq:results:node--1")


def test_what_was_canceled_in_a_tool_before_it_was_shown_is_found_canceled(full: redis.Redis) -> None:
    with_a_job(full)
    full.hset("rq:job:node--1", "status", "canceled")
    mirror(full, [SHOWN, STARTED], NOW, 1781523298.0)
    _, (seen,) = look(full, [("node", [], [("node--1", "a1")])])
    assert seen.states == ["canceled"]


def test_a_worker_gets_free_of_a_job_that_a_tool_has_deleted_while_it_ran(full: redis.Redis) -> None:
    with_a_job(full)
    mirror(full, [SHOWN, STARTED], NOW, 1781523298.0)
    full.delete("rq:job:node--1")
    mirror(full, [ENDED], LATER, 1781523313.0)
    assert not full.exists(
        "rq:wip:node", "rq:worker:node:executions", "rq:execution:node--1:a1", "rq:executions:node--1"
    )
    assert full.hget("rq:worker:node", "state") == b"idle"
    assert not full.hexists("rq:worker:node", "current_job")


def test_a_worker_is_busy_as_long_as_it_works_on_what_is_not_shown(full: redis.Redis) -> None:
    with_a_job(full)
    unshown = (*ENDED[:-1], 0)
    mirror(full, [SHOWN, unshown, ("working", "node", "node--2")], NOW, 1781523298.0)
    assert full.hmget("rq:worker:node", "state", "current_job") == [b"busy", b"node--2"]
    mirror(full, [("ended", "node", "node--2", *unshown[3:])], LATER, 1781523313.0)
    assert full.hmget("rq:worker:node", "state", "current_job") == [b"idle", None]


def test_a_worker_that_is_gone_does_not_come_back_because_it_worked(full: redis.Redis) -> None:
    load_library(full)
    mirror(full, [("working", "node", "node--1")], NOW, 1781523298.0)
    assert not full.exists("rq:worker:node")


def test_what_a_worker_runs_that_is_not_shown_leaves_no_trace_of_the_worker(full: redis.Redis) -> None:
    with_a_job(full)
    mirror(full, [STARTED], NOW, 1781523298.0)
    assert full.zrange("rq:wip:node", 0, -1) == [b"node--1:a1"]
    assert not full.exists("rq:worker:node", "rq:worker:node:executions")


def test_a_worker_that_is_shown_anew_is_rid_of_what_ended_while_nobody_could_tell(full: redis.Redis) -> None:
    with_a_job(full)
    mirror(full, [SHOWN, STARTED], NOW, 1781523298.0)
    assert 0 < full.ttl("rq:worker:node:executions") <= full.ttl("rq:worker:node")
    mirror(full, [SHOWN], LATER, 1781523313.0)
    assert not full.exists("rq:worker:node:executions")
    assert full.hmget("rq:worker:node", "state", "current_job") == [b"idle", None]
    push(full, "node", [Job("node--2", b"call", "w / j / s — m.execute", b"sealed")], LATER)
    mirror(full, [("started", "node", "node--2", *STARTED[3:])], LATER, 1781523314.0)
    mirror(full, [("ended", "node", "node--2", *ENDED[3:])], LATER, 1781523315.0)
    assert full.hmget("rq:worker:node", "state", "current_job") == [b"idle", None]
