"""Buttons pressed with the full account: what can be honoured is, what would lose work is repaired, and it is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.contracts.conftest import performing
from tests.contracts.picture import Picture, paint
from tests.contracts.tools import Dashboard, Tools
from tests.e2e.stage import step, until
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("buttons")

PATIENCE = 30.0

CANCEL = """
import sys
from redis import Redis
from rq.job import Job
Job.fetch(sys.argv[2], Redis.from_url(sys.argv[1])).cancel()
"""


@pytest.fixture(scope="module")
def swamp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Picture]:
    """A Swamp at work, to be changed; in the order of the tests below."""
    with performing(tmp_path_factory.mktemp("buttons")) as stage:
        yield paint(stage)


@pytest.fixture(scope="module")
def operator(installed: dict[str, Tools], swamp: Picture) -> Iterator[Dashboard]:
    with closing(Dashboard(installed["rq-3.0"], swamp.operator_url)) as dashboard:
        yield dashboard


def said(swamp: Picture, pattern: str) -> str:
    return swamp.orchestrator.wait_for_line(pattern, PATIENCE).string


def job(swamp: Picture, id: str) -> dict[str, str]:
    found: Any = swamp.operator.hgetall(f"rq:job:{id}")
    return {name.decode(): value.decode(errors="replace") for name, value in found.items()}


def steps(swamp: Picture, workflow: str) -> dict[str, str]:
    (run,) = [run["id"] for run in swamp.stage.history() if run["workflowName"] == workflow]
    document = swamp.stage.json("workflow", "history", "get", run)
    return {one["name"]: one["status"] for job in document["jobs"] for one in job["steps"]}


def test_a_deleted_job_that_waits_is_queued_again(swamp: Picture, operator: Dashboard):
    before = swamp.jobs()["queued waiting"]
    assert operator.post(f"/job/{before[1]}/delete").status == 200
    assert swamp.jobs()["queued waiting"] == before[:1]
    assert before[1] in said(swamp, "was taken out of its queue; it is queued again")
    wait_until(lambda: sorted(swamp.jobs()["queued waiting"]) == sorted(before), "it to wait again")
    assert job(swamp, before[1])["description"] == "wait / build / fourth — speak.execute"


def test_an_emptied_queue_is_filled_again(swamp: Picture, installed: dict[str, Tools]):
    before = swamp.jobs()["queued waiting"]
    for version in ("rq-2.12", "rq-3.0"):
        done = installed[version].run("rq", "empty", "--url", swamp.operator_url, "waiting")
        assert "2 jobs removed" in done.stdout + done.stderr, done
        assert "queued waiting" not in swamp.jobs()
        wait_until(lambda: len(swamp.jobs().get("queued waiting", ())) == 2, "it to be filled", PATIENCE)
        assert sorted(swamp.jobs()["queued waiting"]) == sorted(before)
        said(swamp, "was taken out of its queue; it is queued again")


def test_a_deleted_job_that_runs_runs_on_and_is_shown_again(swamp: Picture, operator: Dashboard):
    (running,) = swamp.jobs()["started busy"]
    assert operator.post("/queue/busy/started/empty").status == 200
    assert not job(swamp, running)
    assert running in said(swamp, "was deleted while it runs; it is shown again")
    wait_until(lambda: job(swamp, running).get("status") == "started", "it to be shown as running", PATIENCE)
    assert swamp.jobs()["started busy"] == [running]
    assert job(swamp, running)["description"] == "work / build / running — hang.execute"
    assert steps(swamp, "work")["running"] == "running"


def test_a_requeue_of_a_step_that_has_ended_starts_nothing_and_says_what_to_do(
    swamp: Picture, operator: Dashboard, installed: dict[str, Tools]
):
    first, second = swamp.jobs()["failed done"]
    data = swamp.stage.rows("SELECT count(*) FROM data")
    assert operator.post(f"/job/{first}/requeue").status == 200
    assert first in said(
        swamp, "was queued in a tool of RQ's: its step has ended; to do it again, run its workflow again"
    )
    wait_until(
        lambda: sorted(swamp.jobs().get("failed done", ())) == sorted([first, second]), "it to be back", PATIENCE
    )
    done = installed["rq-2.12"].run("rq", "requeue", "--url", swamp.operator_url, "--queue", "done", second)
    assert done.code == 0, done
    assert second in said(swamp, "was queued in a tool of RQ's")
    wait_until(
        lambda: sorted(swamp.jobs().get("failed done", ())) == sorted([first, second]), "it to be back", PATIENCE
    )
    assert job(swamp, first)["status"] == "failed"
    assert steps(swamp, "fail") == {"broken": "failed", "strayed": "failed"}
    assert swamp.stage.rows("SELECT count(*) FROM data") == data


def test_a_job_that_is_not_swamps_is_taken_out_of_the_queue(swamp: Picture, installed: dict[str, Tools]):
    arguments = ("enqueue", "--url", swamp.operator_url, "--queue", "waiting", "--job-id", "mine", "os.getcwd")
    assert installed["rq-3.0"].run("rq", *arguments).code == 0
    said(swamp, "mine was queued in a tool of RQ's: it is no job of Swamp's")
    wait_until(lambda: swamp.jobs().get("failed waiting") == ["mine"], "it to be shown as failed", PATIENCE)
    assert "mine" not in swamp.jobs()["queued waiting"]


def test_a_canceled_job_that_waits_ends_its_step(swamp: Picture, installed: dict[str, Tools]):
    (third,) = [id for id in swamp.jobs()["queued waiting"] if "third" in job(swamp, id)["description"]]
    done = installed["rq-2.12"].run("python", "-c", CANCEL, swamp.operator_url, third)
    assert done.code == 0, done
    said(swamp, "step build/third is canceled: it was canceled in a tool of RQ's")
    wait_until(lambda: steps(swamp, "wait")["third"] == "canceled", "the step to end", PATIENCE)
    assert steps(swamp, "wait")["fourth"] == "queued"
    assert job(swamp, third)["status"] == "canceled"


def test_a_canceled_job_that_runs_is_ended_on_its_worker(swamp: Picture, installed: dict[str, Tools]):
    (running,) = swamp.jobs()["started busy"]
    done = installed["rq-3.0"].run("python", "-c", CANCEL, swamp.operator_url, running)
    assert done.code == 0, done
    said(swamp, "step build/running is canceled: it was canceled in a tool of RQ's")
    swamp.workers["busy"].wait_for_line("step build/running is canceled")
    wait_until(lambda: steps(swamp, "work")["running"] == "canceled", "the step to end", PATIENCE)
    wait_until(lambda: steps(swamp, "work")["behind"] == "succeeded", "the next one to run", PATIENCE)
    assert job(swamp, running)["status"] == "canceled"


def test_a_requeue_of_a_lost_dispatch_gives_its_step_a_new_one(swamp: Picture, operator: Dashboard):
    stage = swamp.stage
    token = stage.token("fleeting")
    began = stage.scratch / "fleeting-began"
    stage.model("linger", f"touch {began}; {until(stage.scratch / 'never')}")
    stage.workflow("lost", step("lingering", "linger", "fleeting") | {"onWorkerLost": "retry"})
    worker = stage.worker(token, "fleeting")
    stage.start_run("lost")
    wait_until(began.exists, "the step to begin")
    worker.press_ctrl_c()
    worker.wait_for_line("stopping")
    worker.press_ctrl_c()
    worker.wait_for_end()
    operator_sees: Any = swamp.operator
    wait_until(lambda: operator_sees.llen("rq:queue:fleeting") == 1, "the step to wait again", PATIENCE)
    (lost,) = [id.decode() for id in operator_sees.zrange("rq:failed:fleeting", 0, -1)]
    assert lost.endswith("-1")
    assert operator.post(f"/job/{lost}/requeue").status == 200
    assert lost in said(swamp, f"was queued in a tool of RQ's: requeued as {lost[:-1]}3")
    wait_until(lambda: operator_sees.lrange("rq:queue:fleeting", 0, -1) == [f"{lost[:-1]}3".encode()], "it", PATIENCE)


def test_a_revoked_target_is_forgotten_when_nothing_waits_for_it(swamp: Picture):
    seen = swamp.operator
    assert seen.sismember("rq:queues", "rq:queue:done")
    assert swamp.stage.swamp("worker", "token", "revoke", "done").code == 0
    wait_until(lambda: not seen.sismember("rq:queues", "rq:queue:done"), "the target to be forgotten", PATIENCE)
    assert [key for key in seen.scan_iter("rq:*") if b"done" in key] == []
    assert swamp.stage.swamp("worker", "token", "revoke", "waiting").code == 0
    assert seen.sismember("rq:queues", "rq:queue:waiting"), "a step waits for it"
