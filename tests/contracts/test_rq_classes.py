"""RQ's own classes read back what Swamp writes under RQ's names, and find it where `swamp.broker.keyspace` says."""

from __future__ import annotations

import json
import platform
from datetime import datetime
from typing import Any

import pytest

import swamp
from swamp.broker import keyspace
from tests.contracts.picture import Picture
from tests.contracts.tools import HERE, Tools


@pytest.fixture(scope="session")
def read(tools: Tools, picture: Picture) -> Any:
    """What `read_with_rq.py` found, with the rights of the monitor user."""
    done = tools.run("python", HERE / "read_with_rq.py", picture.url)
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)


def test_every_key_has_the_name_that_rq_gives_it(read: Any):
    assert (read["queuesKey"], read["workersKey"]) == (keyspace.QUEUES, keyspace.WORKERS)
    for target, queue in read["queues"].items():
        assert queue["key"] == keyspace.queue(target)
        assert queue["workersKey"] == f"{keyspace.WORKERS}:{target}"
        kinds = {"started": "wip", "finished": "finished", "failed": "failed", "canceled": "canceled"}
        for name, kind in kinds.items():
            assert queue["registryKeys"][name] == keyspace.registry(kind, target)
    for job, shown in read["jobs"].items():
        assert shown["key"] == keyspace.job(job)
    for worker, shown in read["workers"].items():
        assert shown["key"] == keyspace.worker(worker)


def test_nothing_lies_under_rqs_prefix_that_rq_does_not_look_for(read: Any, picture: Picture):
    wanted = {read["queuesKey"], read["workersKey"]}
    for queue in read["queues"].values():
        wanted |= {queue["key"], queue["workersKey"], *queue["registryKeys"].values()}
    for job in read["jobs"].values():
        wanted |= {job["key"], job["resultsKey"], job["executionsKey"]}
    for worker in read["workers"].values():
        wanted |= {worker["key"], f"{worker['key']}:executions"}
    wanted |= {execution["key"] for execution in read["executions"]}
    assert {key.decode() for key in picture.operator.scan_iter("rq:*")} <= wanted


def test_queues_and_registries_hold_the_jobs_in_their_order(read: Any, picture: Picture):
    held = {
        f"{state} {target}": queue[state]
        for target, queue in read["queues"].items()
        for state in ("queued", "started", "finished", "failed", "canceled", "deferred", "scheduled")
        if queue[state]
    }
    assert held == picture.jobs()
    assert {target: (queue["counts"], queue["workers"]) for target, queue in read["queues"].items()} == {
        "waiting": ([2, 0, 0, 0, 1, 0, 0], 0),
        "busy": ([1, 1, 0, 0, 0, 0, 0], 1),
        "done": ([0, 0, 2, 2, 1, 0, 0], 1),
    }


def test_every_job_has_its_state_its_times_and_a_description_without_arguments(read: Any, picture: Picture):
    shown = {
        (
            name,
            job["status"],
            job["origin"],
            job["description"],
            job["worker"],
            job["result"],
            job["failure"] is not None,
        )
        for name, ids in picture.jobs().items()
        for job in (read["jobs"][id] for id in ids)
    }
    assert shown == {
        ("queued waiting", "queued", "waiting", "wait / build / third — speak.execute", None, None, False),
        ("queued waiting", "queued", "waiting", "wait / build / fourth — speak.execute", None, None, False),
        ("canceled waiting", "canceled", "waiting", "give-up / build / unheard — speak.execute", None, None, False),
        ("queued busy", "queued", "busy", "work / build / behind — speak.execute", None, None, False),
        ("started busy", "started", "busy", "work / build / running — hang.execute", "busy", None, False),
        ("finished done", "finished", "done", "finish / build / first — speak.execute", "done", "SUCCESSFUL", False),
        ("finished done", "finished", "done", "finish / build / second — speak.execute", "done", "SUCCESSFUL", False),
        ("failed done", "failed", "done", "fail / build / broken — break.execute", "done", "FAILED", True),
        ("failed done", "failed", "done", "fail / build / strayed — stray.execute", "done", "FAILED", True),
        ("canceled done", "canceled", "done", "cancel / build / hanging — hang.execute", "done", None, False),
    }
    for id, job in read["jobs"].items():
        assert job["call"] == f"swamp.step('{id}')"
        assert (job["timeout"], job["returned"], job["meta"]) == (-1, None, {})
        assert job["resultWorker"] == (job["worker"] if job["result"] else None)
        ended = job["status"] in ("finished", "failed", "canceled")
        started = job["status"] in ("started", "finished", "failed") or (ended and job["worker"] is not None)
        created, enqueued, began, over = job["times"]
        assert (began is not None, over is not None) == (started, ended)
        assert created == enqueued
        known = [datetime.fromisoformat(time) for time in (enqueued, began, over) if time]
        assert known == sorted(known)


def test_a_failure_is_told_in_words_that_give_nothing_away(read: Any, picture: Picture):
    (broken_run,) = {run["id"] for run in picture.stage.history() if run["workflowName"] == "fail"}
    told = [read["jobs"][id]["failure"] for id in picture.jobs()["failed done"]]
    assert told == [
        f"Command exited with code 3\nswamp workflow history get {broken_run}",
        f"The step failed\nswamp workflow history get {broken_run}",
    ]


def test_every_worker_tells_what_it_does_where_it_runs_and_what_it_did(read: Any, picture: Picture):
    (running,) = picture.jobs()["started busy"]
    for name, state, current, succeeded, failed in (("busy", "busy", running, 0, 0), ("done", "idle", None, 2, 2)):
        shown = read["workers"][name]
        assert (shown["state"], shown["queues"], shown["current"]) == (state, [name], current)
        assert (shown["succeeded"], shown["failed"]) == (succeeded, failed)
        assert (shown["pid"], shown["address"]) == (picture.workers[name].pid, "127.0.0.1")
        assert (shown["version"], shown["python"]) == (f"swamp-{swamp.__version__}", platform.python_version())
        assert shown["born"]
        assert (shown["worked"] > 0) is (name == "done")
    assert len(read["workers"]) == 2


def test_what_runs_is_an_execution_of_its_worker(read: Any, picture: Picture):
    (running,) = picture.jobs()["started busy"]
    (execution,) = read["executions"]
    assert (execution["job"], execution["worker"]) == (running, "busy")
