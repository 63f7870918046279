"""What becomes of steps and runs when a process dies, at whichever moment."""

from __future__ import annotations

import signal
from typing import cast

from swamp.broker import keyspace
from tests.e2e.stage import Stage, is_alive, step, until
from tests.e2e.test_losses import full_redis
from tests.waiting import wait_until
from workers.voice import UNACKNOWLEDGED_MESSAGES

PING = {"type": "model_method", "modelIdOrName": "ping", "methodName": "echo"}


def test_an_orchestrator_killed_while_a_placed_step_runs_goes_on_where_it_was(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.model("patient", f"echo x >> {began}; {until(go)}; echo done")
    stage.model("after", "echo after")
    stage.workflow("two", step("first", "patient", "node"), step("second", "after", "node", [("first", "succeeded")]))
    run = stage.start("workflow", "run", "two", "--json")
    run.wait_for_line("step-started")
    wait_until(began.exists, "the step to begin")

    orchestrator.kill()
    assert run.wait_for_end() == 5
    assert "lost the orchestrator" in run.output
    go.touch()
    worker.wait_for_line("step build/first executed patient: succeeded")

    again = stage.serve()
    again.wait_for_line("run .* finished: succeeded")
    assert stage.statuses() == {"two": "succeeded"}
    assert began.read_text() == "x\n", "the step must have run once"
    results = stage.rows("SELECT model_name, version FROM data WHERE spec_name = 'result' ORDER BY rowid")
    assert results == [("patient", 1), ("after", 1)]
    assert stage.rows("SELECT state FROM dispatches") == [("finished",), ("finished",)]
    worker.wait_for_line("joined again as node")
    wait_until(lambda: stage.workers() == {"node": "idle"}, "the worker to be idle")


def test_a_worker_joins_by_itself_after_a_restart_of_the_orchestrator(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    assert orchestrator.stop() == 0
    worker.wait_for_line("the connection is lost: .*; joining again")
    stage.serve().wait_for_line("worker node connected")
    worker.wait_for_line("enrolled as node and waiting for work")
    stage.task("hello", "echo hello")
    stage.run("hello")
    assert worker.stop() == 0


def test_tools_see_what_a_worker_runs_again_when_it_joins_again(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    go = stage.scratch / "go"
    stage.task("patient", until(go))
    stage.start_run("patient")

    def shown() -> tuple[list[bytes | None], int]:
        with full_redis(stage) as server:
            told = cast("list[bytes | None]", server.hmget("rq:worker:node", "state", "current_job"))
            return told, cast("int", server.scard("rq:worker:node:executions"))

    wait_until(lambda: shown()[1] == 1, "the step to be listed")
    busy = shown()
    worker.signal(signal.SIGSTOP)
    with full_redis(stage) as server:
        server.delete("rq:worker:node", "rq:worker:node:executions")  # as their time to live does
    orchestrator.kill()
    again = stage.serve()
    with full_redis(stage) as server:
        wait_until(lambda: server.exists("rq:wip:node"), "the step to be listed again")
        assert not server.exists("rq:worker:node"), "it may never come back"
    worker.signal(signal.SIGCONT)
    wait_until(lambda: shown() == busy, "the worker to be shown as before")

    go.touch()
    again.wait_for_line("run .* finished: succeeded")
    wait_until(lambda: shown() == ([b"idle", None], 0), "the worker to be shown as idle")


def test_a_result_made_while_the_orchestrator_is_away_is_delivered_by_the_next_start_of_the_worker(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("patient", f"touch {began}; {until(go)}; head -c 200000 /dev/zero | tr '\\0' x")
    stage.start_run("patient")
    wait_until(began.exists, "the step to begin")
    orchestrator.kill()
    go.touch()
    worker.wait_for_line("step build/patient executed patient: succeeded")
    worker.kill()

    again = stage.serve()
    later = stage.worker(token)
    later.wait_for_line("result returned")
    again.wait_for_line("run .* finished: succeeded")
    assert stage.query('modelName == "patient" && specName == "result"', "size(attributes.stdout)") == [200000]
    assert stage.rows("SELECT count(*) FROM data WHERE spec_name = 'result'") == [(1,)]


def test_a_worker_killed_while_its_step_runs_fails_the_step_when_it_comes_back(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("patient", f"[ -e {go} ] && echo done && exit; echo $$ > {began}; exec sleep 600")
    run = stage.start_run("patient")
    wait_until(lambda: began.exists() and began.read_text().strip(), "the step to begin")

    worker.kill()
    wait_until(lambda: not is_alive(int(began.read_text())), "the step to end with its worker")
    go.touch()
    stage.worker(token)
    assert run.wait_for_end() == 1
    assert "worker 'node' was restarted while the step ran" in run.output
    assert stage.statuses() == {"patient": "failed"}
    assert stage.rows("SELECT * FROM data") == []

    assert "│ done" in stage.run("patient").stdout


def test_a_worker_that_stood_still_for_less_than_its_lease_loses_nothing(stage: Stage):
    """The times of the lease are no settings, so this one stands still only as long as the rest takes."""
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    worker.signal(signal.SIGSTOP)
    stage.task("hello", "echo hello")
    run = stage.start_run("hello")
    orchestrator.wait_for_line("step build/hello dispatched to node")
    worker.signal(signal.SIGCONT)
    assert run.wait_for_end() == 0
    assert stage.rows("SELECT attempt, state FROM dispatches") == [(1, "finished")]


def test_queued_steps_survive_a_restart_in_their_order(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    order = stage.scratch / "order"
    names = [f"step-{number}" for number in range(12)]
    for name in names:
        stage.model(name, f"echo {name} >> {order}")
    stage.workflow("many", *(step(name, name, "node") for name in names))
    run = stage.start("workflow", "run", "many", "--json")
    run.wait_for_line('"step-queued".*"step-11"|"step-11".*"step-queued"')
    assert orchestrator.stop() == 0
    assert run.wait_for_end() == 5

    again = stage.serve()
    stage.worker(token, "cache", "--concurrency", "1")
    again.wait_for_line("run .* finished: succeeded")
    assert order.read_text().split() == names
    assert stage.statuses() == {"many": "succeeded"}


def test_a_run_with_no_worker_waits_for_one(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.task("hello", "echo hello")
    run = stage.start_run("hello")
    orchestrator.wait_for_line("step build/hello matched target node, which has no worker connected: it waits")
    assert run.running
    stage.worker(token)
    assert run.wait_for_end() == 0
    assert "│ hello" in run.output


def test_steps_that_a_dead_worker_had_not_begun_are_run_by_the_next_one(stage: Stage):
    """More steps than slots; the worker dies with some of them in its hands."""
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token, "cache", "--concurrency", "1")
    began, go, order = stage.scratch / "began", stage.scratch / "go", stage.scratch / "order"
    stage.model("patient", f"touch {began}; {until(go)}")
    stage.model("note", f"echo x >> {order}")
    notes = [step(f"note-{number}", "note", "node") for number in range(5)]
    stage.workflow("six", step("patient", "patient", "node"), *notes)
    run = stage.start_run("six")
    wait_until(began.exists, "the first step to begin")
    worker.kill()
    go.touch()

    stage.worker(token, "cache", "--concurrency", "1")
    assert run.wait_for_end() == 1
    assert order.read_text() == "x\n" * 5, "each of them once"
    assert "5 succeeded · 1 failed · 0 skipped" in run.output
    assert "was restarted while the step ran" in orchestrator.output


def test_everything_killed_at_once_comes_back_together(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.model("stuck", f"touch {began}; {until(go)}")
    stage.model("after", "echo after")
    stage.workflow("two", step("first", "stuck", "node"), step("second", "after", "node", [("first", "failed")]))
    run = stage.start_run("two")
    wait_until(began.exists, "the step to begin")
    orchestrator.kill()
    worker.kill()
    run.kill()
    go.touch()

    again = stage.serve()
    stage.worker(token)
    again.wait_for_line("run .* finished: failed")
    assert stage.rows("SELECT status FROM steps ORDER BY position") == [("failed",), ("succeeded",)]


def test_a_step_beside_the_orchestrator_ends_with_it_and_its_run_goes_on(stage: Stage):
    orchestrator = stage.serve()
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.model("here", f"touch {began}; {until(go)}")
    stage.model("tidy", "echo tidied")
    stage.workflow("local", step("here", "here"), step("tidy", "tidy", "", [("here", "failed")]))
    stage.start_run("local")
    wait_until(began.exists, "the step to begin")
    orchestrator.kill()
    go.touch()

    stage.serve()
    wait_until(lambda: stage.statuses() == {"local": "failed"}, "the run to end")
    assert stage.rows("SELECT status FROM steps ORDER BY position") == [("failed",), ("succeeded",)]
    (run,) = stage.history()
    assert "the orchestrator was stopped while the step ran here" in run["error"]


def test_a_worker_waits_for_an_orchestrator_that_is_far_behind(stage: Stage):
    """It would have to keep all that it said, and its steps would be known of no sooner."""
    assert stage.swamp("model", "create", "swamp/probe", "ping", "--arg", "echo.message=here").code == 0
    steps, token = UNACKNOWLEDGED_MESSAGES, stage.token()
    stage.workflow("many", *({**step(f"s{n}", "ping", "node"), "task": PING} for n in range(steps)))
    orchestrator = stage.serve()
    worker = stage.worker(token)
    worker.signal(signal.SIGSTOP)
    run = stage.start_run("many")
    with full_redis(stage) as server:
        wait_until(
            lambda: stage.rows("SELECT count(*) FROM dispatches WHERE state = 'queued'") == [(steps,)], "all steps"
        )
        wait_until(
            lambda: server.llen(keyspace.queue("node")) > steps - 10, "all but what it stood in line for to wait"
        )
        orchestrator.signal(signal.SIGSTOP)
        worker.signal(signal.SIGCONT)
        (stream,) = server.keys(keyspace.up("*"))

        def waits() -> bool:
            said = cast("list[tuple[bytes, object]]", server.xrevrange(stream, count=1))
            now = cast("tuple[int, int]", server.time())[0]
            return server.xlen(stream) >= UNACKNOWLEDGED_MESSAGES and now - int(said[0][0].split(b"-")[0]) // 1000 > 1

        wait_until(waits, "the worker to say nothing for a second", timeout=30)
        assert server.llen(keyspace.queue("node")) > steps / 4, "there is work that it does not take"
        orchestrator.signal(signal.SIGCONT)
    assert run.wait_for_end(60) == 0, run.output
    assert stage.rows("SELECT state, count(*) FROM dispatches GROUP BY state") == [("finished", steps)]
