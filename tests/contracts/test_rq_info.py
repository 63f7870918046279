"""`rq info` shows the queues with what is in them, and the workers."""

from __future__ import annotations

import platform
import re

from tests.contracts.picture import Picture
from tests.contracts.tools import Tools


def test_rq_info_shows_every_queue_with_its_depth_and_what_became_of_its_jobs(tools: Tools, picture: Picture):
    shown = tools.run("rq", "info", "--raw", "--only-queues", "--url", picture.url)
    assert (shown.code, shown.stderr) == (0, "")
    assert sorted(shown.stdout.splitlines()) == [
        "queue busy 1, 1 executing, 0 finished, 0 failed",
        "queue done 0, 0 executing, 2 finished, 2 failed",
        "queue waiting 2, 0 executing, 0 finished, 0 failed",
    ]


def test_rq_info_shows_where_each_worker_runs_and_what_it_did(tools: Tools, picture: Picture):
    shown = tools.run("rq", "info", "--raw", "--only-workers", "--url", picture.url)
    assert (shown.code, shown.stderr) == (0, "")
    host = re.sub(r"[^A-Za-z0-9._:+-]", "_", platform.node())
    process = {name: f"({host} 127.0.0.1 {worker.pid})" for name, worker in picture.workers.items()}
    assert sorted(shown.stdout.splitlines()) == [
        f"worker busy {process['busy']} busy busy. jobs: 0 finished, 0 failed",
        f"worker done {process['done']} idle done. jobs: 2 finished, 2 failed",
    ]


def test_rq_info_as_a_person_types_it_shows_both(tools: Tools, picture: Picture):
    shown = tools.run("rq", "info", "--url", picture.url)
    assert (shown.code, shown.stderr) == (0, "")
    assert "3 queues, 3 jobs total" in shown.stdout
    assert "2 workers, 3 queues" in shown.stdout
    assert "None" not in shown.stdout


def test_rq_info_by_queue_names_the_workers_of_a_queue(tools: Tools, picture: Picture):
    shown = tools.run("rq", "info", "--raw", "--by-queue", "--only-workers", "--url", picture.url, "busy", "waiting")
    assert (shown.code, shown.stderr) == (0, "")
    assert "busy" in shown.stdout
