"""What a step says about the loss of its machine, and what an emptied Redis may not do to it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import redis

from swamp.orchestrator.leases import SILENCE
from swamp.orchestrator.ledger import CANCEL_GRACE
from tests.e2e.stage import Stage, step, until
from tests.waiting import wait_until


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def full_redis(stage: Stage) -> redis.Redis:
    """The server with all rights, as nobody but the orchestrator has them."""
    info = stage.json("redis", "url")["url"]
    keys = json.loads((stage.root / ".swamp/keys/orchestrator.json").read_text())
    port = int(info.rpartition(":")[2].partition("/")[0])
    return redis.Redis(port=port, username="swamp", password=keys["redisOrchestrator"])


def test_a_step_that_may_be_retried_runs_again_on_another_machine_when_its_worker_is_killed(stage: Stage):
    token = str(stage.json("worker", "token", "create", "fleet", "--duration", "1h", "--max-enrollments", "2")["token"])
    orchestrator = stage.serve()
    doomed = stage.worker(token, "cache-1")
    starts, go = stage.scratch / "starts", stage.scratch / "go"
    stage.model("patient", f"echo start >> {starts}; {until(go)}; echo done")
    stage.workflow("again", {**step("patient", "patient", "fleet"), "onWorkerLost": "retry"})
    run = stage.start_run("again")
    wait_until(lambda: len(lines(starts)) == 1, "the step to begin")
    stage.worker(token, "cache-2")

    doomed.kill()
    orchestrator.wait_for_line(r"worker fleet-\w+ is lost", timeout=15)
    wait_until(lambda: len(lines(starts)) == 2, "the step to begin again on the other machine", timeout=5)
    go.touch()
    assert run.wait_for_end() == 0, run.output
    assert [state for (state,) in stage.rows("SELECT state FROM dispatches ORDER BY attempt")] == ["lost", "finished"]
    assert stage.rows("SELECT count(*) FROM data WHERE spec_name = 'result'") == [(1,)]


def test_an_orchestrator_that_stood_still_says_so_and_misses_nobody_for_it(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    go = stage.scratch / "go"
    stage.task("patient", until(go))
    stage.worker(token)
    run = stage.start_run("patient")
    wait_until(lambda: stage.statuses() == {"patient": "running"}, "the step to run")
    stood_still = time.monotonic() + SILENCE + 1
    orchestrator.signal(signal.SIGSTOP)
    wait_until(lambda: time.monotonic() > stood_still, "workers to have been silent for too long", timeout=SILENCE + 2)
    orchestrator.signal(signal.SIGCONT)
    orchestrator.wait_for_line(r"nothing was heard or stored for 1\d\.\ds; silence of workers counts from now on")
    go.touch()
    assert run.wait_for_end() == 0, run.output
    assert "is lost" not in orchestrator.output


def test_a_step_that_must_not_run_twice_fails_when_its_worker_does_not_come_back_in_time(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token)
    starts = stage.scratch / "starts"
    stage.model("patient", f"echo start >> {starts}; sleep 600")
    stage.workflow("once", {**step("patient", "patient", "node"), "lostTimeout": 0})
    run = stage.start_run("once")
    wait_until(lambda: lines(starts) == ["start"], "the step to begin")
    worker.kill()
    assert run.wait_for_end(timeout=25) == 1
    assert "worker 'node' was lost while the step ran" in run.output
    assert lines(starts) == ["start"]


def test_a_canceled_run_does_not_wait_for_a_worker_that_is_lost(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token)
    began = stage.scratch / "began"
    stage.model("patient", f"touch {began}; sleep 600")
    stage.workflow("long", {**step("patient", "patient", "node"), "lostTimeout": 600})
    run = stage.start_run("long")
    wait_until(began.exists, "the step to begin")
    worker.kill()
    stage.swamp("workflow", "cancel", "long")
    assert run.wait_for_end(timeout=SILENCE + CANCEL_GRACE + 5) == 1
    assert stage.statuses() == {"long": "canceled"}
    assert "worker 'node' was lost while the step ran" in run.output


def test_a_step_waits_for_a_worker_no_longer_than_it_says(stage: Stage):
    stage.token()
    stage.serve()
    stage.model("hello", "echo hello")
    stage.workflow("impatient", {**step("hello", "hello", "node"), "queueTimeout": 1})
    done = stage.run("impatient", code=1)
    assert "no worker of target 'node' took the step within 1s" in done.stdout


def test_a_worker_stopped_twice_gives_a_step_that_may_be_retried_to_the_next_start(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token)
    starts, go = stage.scratch / "starts", stage.scratch / "go"
    stage.model("patient", f"echo start >> {starts}; {until(go)}")
    stage.workflow("again", {**step("patient", "patient", "node"), "onWorkerLost": "retry"})
    run = stage.start_run("again")
    wait_until(lambda: len(lines(starts)) == 1, "the step to begin")
    worker.press_ctrl_c()
    worker.wait_for_line("stopping: no new steps")
    worker.press_ctrl_c()
    assert worker.wait_for_end() == 130
    go.touch()
    stage.worker(token)
    assert run.wait_for_end() == 0, run.output
    assert len(lines(starts)) == 2


def test_an_emptied_redis_loses_nothing_and_starts_nothing_twice(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token, "cache", "--concurrency", "1")
    starts, go = stage.scratch / "starts", stage.scratch / "go"
    for name in ("one", "two", "three"):
        stage.model(name, f"echo {name} >> {starts}; {until(go)}")
    stage.workflow("three", *(step(name, name, "node") for name in ("one", "two", "three")))
    run = stage.start_run("three")
    wait_until(lambda: len(lines(starts)) == 1, "the first step to begin")

    with full_redis(stage) as server:
        server.flushall()
    orchestrator.wait_for_line("emptied or replaced")
    orchestrator.wait_for_line("Redis is back")
    go.touch()
    assert run.wait_for_end() == 0, run.output
    assert sorted(lines(starts)) == ["one", "three", "two"]
    assert stage.rows("SELECT count(*) FROM data WHERE spec_name = 'result'") == [(3,)]


def test_on_a_fleet_a_step_that_must_not_run_twice_begins_only_with_a_grant(stage: Stage):
    token = str(stage.json("worker", "token", "create", "fleet", "--duration", "1h", "--max-enrollments", "9")["token"])
    stage.serve()
    for cache in ("cache-1", "cache-2"):
        stage.worker(token, cache, "--concurrency", "2")
    starts = stage.scratch / "starts"
    names = [f"s{number}" for number in range(20)]
    for name in names:
        stage.model(name, f"echo {name} >> {starts}")
    stage.workflow("twenty", *(step(name, name, "fleet") for name in names))
    stage.run("twenty")
    assert sorted(lines(starts)) == sorted(names)
    assert len(stage.rows("SELECT DISTINCT machine FROM dispatches")) == 2, "both machines must have taken part"


def test_a_step_does_not_run_for_ever_when_its_worker_died_together_with_the_orchestrator(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    began = stage.scratch / "began"
    stage.model("patient", f"touch {began}; sleep 600")
    stage.workflow("once", {**step("patient", "patient", "node"), "lostTimeout": 0})
    stage.start_run("once")
    wait_until(began.exists, "the step to begin")
    orchestrator.kill()
    worker.kill()
    stage.serve().wait_for_line("worker 'node' was lost while the step ran", timeout=30)
    wait_until(lambda: stage.statuses() == {"once": "failed"}, "the run to end")


def test_a_step_whose_start_nobody_heard_of_does_not_run_again_for_a_token_made_anew(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    starts = stage.scratch / "starts"
    stage.task("patient", f"echo start >> {starts}; sleep 600")
    run = stage.start_run("patient")
    wait_until(lambda: lines(starts) == ["start"], "the step to begin")
    assert stage.swamp("worker", "token", "revoke", "node").code == 0
    assert run.wait_for_end() == 1
    assert worker.wait_for_end() == 4
    stage.worker(stage.token(), "cache-2")
    orchestrator.wait_for_line("new machine")
    assert lines(starts) == ["start"]
    assert stage.statuses() == {"patient": "failed"}


def test_what_was_begun_ahead_goes_to_another_machine_when_a_long_step_comes_before_it(stage: Stage):
    token = str(stage.json("worker", "token", "create", "fleet", "--duration", "1h", "--max-enrollments", "2")["token"])
    stage.serve()
    stage.worker(token, "cache-1", "--concurrency", "1")
    starts, go, began = stage.scratch / "starts", stage.scratch / "go", stage.scratch / "began"
    stage.model("short", "true")
    stage.workflow("warm", *(step(f"w{number}", "short", "fleet") for number in range(60)))
    stage.run("warm")  # from now on the worker expects short steps

    stage.model("long", f"touch {began}; echo long >> {starts}; {until(go)}")
    names = [f"s{number}" for number in range(20)]
    for name in names:
        stage.model(name, f"echo {name} >> {starts}")
    retried = [{**step(name, name, "fleet"), "onWorkerLost": "retry"} for name in names]  # they need no grant
    stage.workflow("mixed", {**step("long", "long", "fleet"), "onWorkerLost": "retry"}, *retried)
    run = stage.start_run("mixed")
    wait_until(began.exists, "the long step to begin")
    stage.worker(token, "cache-2", "--concurrency", "1")
    wait_until(lambda: sorted(lines(starts)) == sorted(["long", *names]), "the others to be run on the other machine")
    assert not go.exists()
    go.touch()
    assert run.wait_for_end() == 0, run.output
    assert sorted(lines(starts)) == sorted(["long", *names])
    assert len(stage.rows("SELECT DISTINCT machine FROM dispatches WHERE state = 'finished'")) == 2


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_step_whose_output_was_lost_on_its_worker_fails(stage: Stage, damage: str):
    """Nobody has it any more: a result that waits for it would be waited for for ever."""
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("big", f"touch {began}; {until(go)}; head -c 200000 /dev/zero | tr '\\0' x")
    stage.start_run("big")
    wait_until(began.exists, "the step to begin")
    orchestrator.kill()
    go.touch()
    worker.wait_for_line("executed big: succeeded")
    for file in (stage.scratch / "cache/contents").iterdir():
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(b"something else")
    stage.serve()
    wait_until(lambda: stage.statuses() == {"big": "failed"}, "the run to end")
    assert "the output of the step was lost on its worker" in str(stage.rows("SELECT error FROM steps"))
    stage.task("hello", "echo hello")
    stage.run("hello")
    assert worker.running
