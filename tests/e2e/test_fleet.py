"""Whoever runs a fleet sees who works, what waits and why, and can send a probe through all of it."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.stage import Stage, step, until
from tests.processes import Ended, run_swamp
from tests.waiting import wait_until


def refused(done: Ended) -> dict[str, Any]:
    assert done.stdout == ""
    document: dict[str, Any] = json.loads(done.stderr)
    return document


def test_what_waits_is_listed_with_the_reason(stage: Stage):
    done = stage.swamp("worker", "queue", "--json")
    assert (done.code, refused(done)["code"]) == (5, "no_orchestrator")
    token = stage.token()
    stage.token("nobody")
    stage.serve()
    assert stage.json("worker", "queue") == []
    assert "No step waits" in stage.swamp("worker", "queue").stderr

    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.model("patient", f"touch {began}; {until(go)}")
    stage.model("quick", "true")
    stage.workflow("lonely", step("unheard", "quick", "nobody"))
    stage.workflow("crowd", *(step(name, "patient", "node") for name in ("first", "second", "third")))
    stage.start_run("lonely")
    wait_until(lambda: len(stage.json("worker", "queue")) == 1, "a step to wait")
    (waiting,) = stage.json("worker", "queue")
    assert {name: waiting[name] for name in ("target", "workflow", "job", "step", "why")} == {
        "target": "nobody",
        "workflow": "lonely",
        "job": "build",
        "step": "unheard",
        "why": "no worker has ever joined",
    }
    run = stage.start_run("crowd")
    worker = stage.worker(token, "cache", "--concurrency", "1")
    wait_until(began.exists, "a step to begin")
    wait_until(lambda: len(stage.json("worker", "queue")) == 3, "the others to wait")
    rows = [row for row in stage.json("worker", "queue") if row["target"] == "node"]
    assert [(row["step"], row["why"]) for row in rows] == [
        ("second", "the only slot is busy"),
        ("third", "the only slot is busy"),
    ]
    shown = stage.swamp("worker", "queue", "--limit", "1")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["TARGET", "nobody", "node"]
    assert "crowd / build / second" in shown.stdout
    assert "1 more wait" in shown.stderr
    go.touch()
    assert run.wait_for_end(30) == 0
    assert worker.stop() == 0


def test_a_probe_goes_through_every_seam_and_says_where_it_stopped(stage: Stage):
    assert refused(stage.swamp("worker", "verify", "--json"))["code"] == "no_orchestrator"
    token = str(stage.json("worker", "token", "create", "fleet", "--duration", "1h", "--max-enrollments", "2")["token"])
    stage.serve()
    done = stage.swamp("worker", "verify")
    assert done.code == 1
    assert "✗ no worker is connected" in done.stdout

    workers = [stage.worker(token, cache) for cache in ("one", "two")]
    names = {worker["name"] for worker in stage.json("worker", "list")}
    document = stage.json("worker", "verify")
    assert document["passed"]
    assert {(check["worker"], check["check"]) for check in document["checks"]} == {
        (None, "orchestrator, disk and Redis"),
        *((name, check) for name in names for check in ("takes a step", "its result is stored")),
    }
    done = stage.swamp("worker", "verify", sorted(names)[0])
    assert (done.code, done.stdout.count("✓"), done.stdout.count("✗")) == (0, 3, 0)

    assert workers[1].stop() == 0
    gone = next(worker["name"] for worker in stage.json("worker", "list") if worker["status"] == "disconnected")
    done = stage.swamp("worker", "verify", gone)
    assert done.code == 1
    assert "✗ it is disconnected" in done.stdout
    done = stage.swamp("worker", "verify", "fleat", "--json")
    assert (done.code, refused(done)["code"]) == (3, "unknown_worker")
    assert "did you mean 'fleet'" in done.stderr


def test_workers_leave_when_their_work_is_done_or_there_is_none(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token, "cache", "--max-dispatches", "2", "--concurrency", "8")
    stage.model("quick", "true")
    stage.workflow("three", *(step(name, "quick", "node") for name in ("a", "b", "c")))
    run = stage.start_run("three")
    assert worker.wait_for_end() == 0
    assert "as many as were wanted" in worker.output
    assert [row["step"] for row in stage.json("worker", "queue")] == ["c"]
    idle = stage.worker(token, "cache", "--idle-timeout", "1s")
    assert run.wait_for_end() == 0
    assert idle.wait_for_end() == 0
    assert "there was nothing to do for 1s" in idle.output
    assert stage.workers() == {"node": "disconnected"}


def test_an_orchestrator_that_runs_nothing_itself_refuses_steps_without_a_target(stage: Stage):
    began, go = stage.scratch / "began", stage.scratch / "go"
    token = stage.token()
    orchestrator = stage.serve()
    stage.model("first", f"touch {began}; {until(go)}")
    stage.model("here", "true")
    stage.workflow("mixed", step("far", "first", "node"), step("near", "here", "", [("far", "succeeded")]))
    worker = stage.worker(token)
    run = stage.start_run("mixed")
    wait_until(began.exists, "the step to begin")
    assert orchestrator.stop() == 0
    run.wait_for_end()

    stage.serve("--remote-only")
    done = stage.swamp("workflow", "run", "mixed")
    assert done.code == 4
    assert "step 'build/near' has no target" in done.stderr
    go.touch()
    wait_until(lambda: stage.statuses()["mixed"] == "failed", "the run that was accepted before to end")
    assert "runs no steps itself" in json.dumps(stage.history())
    assert worker.stop() == 0


def test_machines_whose_token_is_over_are_listed_only_on_demand_and_changes_are_watched(stage: Stage):
    token = stage.token("old")
    new = stage.token("new")
    stage.serve()
    watching = stage.start("worker", "list", "--watch", "--json")
    watching.wait_for_line(r"^\[\]$")
    worker = stage.worker(token, "old")
    assert json.loads(watching.wait_for_line("idle").string)[0]["name"] == "old"
    assert stage.swamp("worker", "token", "revoke", "old").code == 0
    assert worker.wait_for_end() == 4
    stage.worker(new, "new")
    assert stage.workers() == {"new": "idle"}
    assert [row["name"] for row in stage.json("worker", "list", "--all")] == ["new", "old"]
    assert json.loads(watching.wait_for_line("idle").string)[0]["name"] == "new"
    assert watching.stop() == 130


def test_the_join_command_joins_when_it_is_pasted(stage: Stage):
    stage.serve()
    printed = stage.swamp("worker", "token", "create", "pasted", "--duration", "1h", "--print-join-command").stdout
    (line,) = printed.splitlines()
    setting, *words = line.split()
    name, _, token = setting.partition("=")
    assert (name, words[:4]) == ("SWAMP_WORKER_TOKEN", ["swamp", "worker", "connect", f"ws://127.0.0.1:{stage.port}"])
    assert token not in words
    env = {**stage.env, name: token, "HOME": str(stage.scratch)}
    worker = stage.start_swamp(*words[1:4], "--cache-dir", stage.scratch / "cache", cwd=stage.scratch, env=env)
    worker.wait_for_line("enrolled as pasted")
    file = stage.scratch / "token"
    arguments = (
        "worker",
        "token",
        "create",
        "filed",
        "--duration",
        "1h",
        "--print-join-command",
        "--output-file",
        file,
    )
    done = run_swamp(*arguments, cwd=stage.root, env=stage.env)
    assert done.stdout.rstrip().endswith(f"--token-file {file}")
    assert file.read_text().strip() not in done.stdout


def test_a_drained_worker_finishes_what_it_runs_and_takes_no_more_until_it_resumes_over_all_restarts(stage: Stage):
    assert refused(stage.swamp("worker", "drain", "node", "--json"))["code"] == "unknown_worker"
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token, "cache", "--concurrency", "1")
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.model("patient", f"touch {began}; {until(go)}")
    stage.model("quick", "true")
    stage.workflow("pair", step("first", "patient", "node"), step("second", "quick", "node"))
    run = stage.start_run("pair")
    wait_until(began.exists, "a step to begin")

    done = stage.swamp("worker", "drain", "nod")
    assert (done.code, "did you mean 'node'" in done.stderr) == (3, True)
    done = stage.swamp("worker", "drain", "node", "--note", "new disk", "--timeout", "1s", "--json")
    assert (done.code, json.loads(done.stdout)["note"], json.loads(done.stderr)["code"]) == (
        1,
        "new disk",
        "still_running",
    )
    wait_until(lambda: stage.workers() == {"node": "draining"}, "it to be draining")
    assert "draining (new disk)" in stage.swamp("worker", "list").stdout
    go.touch()
    wait_until(lambda: stage.workers() == {"node": "drained"}, "it to be drained")
    (waiting,) = stage.json("worker", "queue")
    assert (waiting["step"], waiting["why"]) == ("second", "every worker is draining or drained")

    assert orchestrator.stop() == 0
    assert worker.stop() == 0
    run.wait_for_end()
    stage.serve()
    again = stage.connect(token)
    again.wait_for_line("drained: no new steps are taken")
    wait_until(lambda: stage.workers() == {"node": "drained"}, "it to be drained still")
    assert len(stage.json("worker", "queue")) == 1
    assert "takes steps again" in stage.swamp("worker", "resume", "node").stdout
    again.wait_for_line("resumed: steps are taken again")
    wait_until(lambda: stage.statuses()["pair"] == "succeeded", "the run to go on")
    assert "was not drained" in stage.swamp("worker", "resume", "node").stdout
    assert stage.workers() == {"node": "idle"}
