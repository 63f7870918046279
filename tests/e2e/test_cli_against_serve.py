"""The commands of a repository while its orchestrator runs, is not there, or goes away."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import closing

import pytest
import redis

from tests.e2e.stage import Stage, step, until
from tests.processes import Ended
from tests.waiting import wait_until

NOT_FOUND, NOT_ALLOWED, UNREACHABLE = 3, 4, 5


def refusal(done: Ended) -> dict[str, str]:
    """The error of a command that was typed with `--json`."""
    assert done.stdout == ""
    document = json.loads(done.stderr)
    assert set(document) <= {"error", "code", "hint"}
    return dict(document)


def test_a_run_of_something_unknown_says_what_was_meant(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    stage.task("hello", "echo hello")
    stage.workflow("astray", step("only", "hello", "nod"))
    stage.workflow("headless", step("only", "helo", "node"))

    done = stage.run("helo", code=NOT_FOUND)
    assert "helo" in done.stderr
    assert "hello" in done.stderr
    done = stage.run("astray", code=NOT_FOUND)
    assert "places a step on 'nod', and no token has that name" in done.stderr
    assert "did you mean 'node'?" in done.stderr
    assert "swamp worker token create nod --duration 1h" in done.stderr
    done = stage.run("headless", code=NOT_FOUND)
    assert "did you mean 'hello'?" in done.stderr

    for workflow, code in (("helo", "workflow_not_found"), ("astray", "unknown_target")):
        done = stage.swamp("workflow", "run", workflow, "--json")
        assert (done.code, refusal(done)["code"]) == (NOT_FOUND, code)
    assert stage.history() == [], "nothing was started"


def test_a_broken_workflow_is_refused_where_it_is_broken(stage: Stage):
    stage.serve()
    (stage.root / "workflows" / "broken.yaml").write_text(
        f"id: {uuid.uuid4()}\nname: broken\nversion: 1\njobs:\n  - nam: build\n"
    )
    done = stage.run("broken", code=1)
    assert "workflows/broken.yaml" in done.stderr
    assert "'nam'" in done.stderr
    assert stage.history() == []


def test_without_an_orchestrator_a_placed_step_is_refused_before_anything_starts(stage: Stage):
    stage.token()
    ran = stage.scratch / "ran"
    stage.model("note", f"touch {ran}")
    stage.workflow("mixed", step("here", "note"), step("there", "note", "node", [("here", "succeeded")]))
    done = stage.run("mixed", code=UNREACHABLE)
    assert "places steps on 'node', and no orchestrator runs for this repository" in done.stderr
    assert "swamp serve" in done.stderr
    assert not ran.exists()
    assert stage.history() == []

    stage.workflow("local", step("here", "note"))
    stage.run("local")
    assert ran.exists()


def test_the_history_of_runs_is_the_same_with_and_without_an_orchestrator(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    stage.task("hello", "echo to stdout; echo to stderr >&2")
    stage.task("broken", "echo almost; exit 3")
    stage.run("hello")
    stage.run("broken", code=1)

    def look() -> list[str]:
        newest, oldest = stage.history()
        assert (newest["workflowName"], newest["status"]) == ("broken", "failed")
        assert (oldest["workflowName"], oldest["status"]) == ("hello", "succeeded")
        assert [run["id"] for run in stage.json("workflow", "history", "search", "hello")] == [oldest["id"]]
        seen = []
        for arguments in (
            ("search",),
            ("get", "hello"),
            ("get", newest["id"]),
            ("logs", "hello"),
            ("logs", newest["id"][:8]),
        ):
            done = stage.swamp("workflow", "history", *arguments)
            assert done.code == 0, done
            seen.append(done.stdout)
            assert stage.json("workflow", "history", *arguments)
        assert re.search(r"broken +failed", seen[0])
        assert "hello" in seen[1]
        assert "Command exited with code 3" in seen[2]
        assert seen[3].splitlines() == ["[build/hello] to stdout", "[build/hello] to stderr"]
        assert seen[4].splitlines()[0] == "[build/broken] almost"
        return seen

    with_orchestrator = look()
    assert orchestrator.stop() == 0
    assert look() == with_orchestrator

    done = stage.swamp("workflow", "history", "get", "helo")
    assert done.code == NOT_FOUND
    assert "helo" in done.stderr


def test_the_list_of_workers_says_what_each_is_doing(stage: Stage):
    token = stage.token()
    assert stage.swamp("worker", "list").stdout == ""
    orchestrator = stage.serve()
    assert stage.json("worker", "list") == []
    worker = stage.worker(token, "cache", "--concurrency", "3")
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("patient", f"touch {began}; {until(go)}")

    assert _row(stage) == ["node", "idle", "0/3"]
    run = stage.start_run("patient")
    wait_until(began.exists, "the step to begin")
    wait_until(lambda: _row(stage) == ["node", "busy", "1/3"], "the worker to be shown as busy")
    (document,) = stage.json("worker", "list")
    assert document["target"] == "node"
    assert document["slotsUsed"] == len(document["running"]) == 1
    assert re.fullmatch(r"[0-9a-f]{20}", document["machine"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["lastSeenAt"])
    go.touch()
    assert run.wait_for_end() == 0
    wait_until(lambda: _row(stage) == ["node", "idle", "0/3"], "the worker to be idle again")

    assert worker.stop() == 0
    orchestrator.wait_for_line("worker node left")
    assert _row(stage) == ["node", "disconnected", "0/3"]
    assert orchestrator.stop() == 0
    assert _row(stage) == ["node", "disconnected", "0/3"]


def _row(stage: Stage) -> list[str]:
    """Name, status and slots of the one worker."""
    done = stage.swamp("worker", "list")
    assert done.code == 0, done
    head, row = done.stdout.splitlines()
    assert head.split() == ["NAME", "STATUS", "SLOTS", "PLATFORM", "LAST", "SEEN"]
    return row.split()[:3]


def test_the_redis_url_is_for_reading_and_the_full_one_for_operating(stage: Stage):
    done = stage.swamp("redis", "url")
    assert done.code == UNREACHABLE
    assert "swamp serve" in done.stderr

    orchestrator = stage.serve()
    for option, user, may_push in ((), "swamp-monitor", False), (("--full",), "swamp-operator", True):
        url = stage.swamp("redis", "url", *option).stdout
        assert url.startswith(f"redis://{user}:")
        assert stage.json("redis", "url", *option) == {"url": url.strip(), "user": user}
        with closing(redis.Redis.from_url(url.strip())) as tool:
            assert tool.ping()
            if may_push:
                tool.rpush("rq:queue:node", "nothing")
            else:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    tool.rpush("rq:queue:node", "nothing")
            with pytest.raises(redis.exceptions.NoPermissionError):
                tool.config_get("*")

    orchestrator.kill()
    done = stage.swamp("redis", "url")
    assert done.code == UNREACHABLE, "a file that a killed orchestrator left behind names no server"


def test_a_run_whose_orchestrator_is_killed_says_so(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("patient", f"touch {began}; {until(go)}; echo done")
    run = stage.start("workflow", "run", "patient", "--json")
    run.wait_for_line("step-started")

    orchestrator.kill()
    assert run.wait_for_end() == UNREACHABLE
    error = json.loads(run.lines[-1])
    assert error["code"] == "connection_lost"
    assert f"before run {stage.history()[0]['id']} had ended" in error["error"]
    assert "swamp serve" in error["hint"]
    assert stage.statuses() == {"patient": "running"}

    go.touch()
    stage.serve().wait_for_line("run .* finished: succeeded")
    logs = stage.swamp("workflow", "history", "logs", "patient")
    assert logs.stdout == "[build/patient] done\n"


def test_events_come_one_a_line_while_the_run_goes_on(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    go = stage.scratch / "go"
    stage.task("patient", f"echo first; {until(go)}; echo second")
    run = stage.start("workflow", "run", "patient", "--json")
    run.wait_for_line('"first"')
    assert run.running
    go.touch()
    assert run.wait_for_end() == 0
    events = [json.loads(line) for line in run.lines]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["kind"] for event in events] == [
        "run-accepted",
        "job-started",
        "step-queued",
        "step-started",
        "step-output",
        "step-output",
        "step-finished",
        "job-finished",
        "run-finished",
    ]
    assert len({event["run"] for event in events}) == 1


def test_another_program_on_the_port_of_a_killed_orchestrator_is_not_taken_for_it(stage: Stage):
    orchestrator = stage.serve()
    orchestrator.kill()
    other = stage.neighbour()
    other.port = stage.port
    other.serve()
    stage.task("hello", "echo hello")
    assert "no orchestrator runs" in stage.run("hello", code=UNREACHABLE).stderr
    assert stage.json("worker", "list") == []


def test_two_runs_at_once_do_not_mix(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token, "cache", "--concurrency", "2")
    for mine, other in (("left", "right"), ("right", "left")):
        file = {name: stage.scratch / name for name in ("left", "right")}
        stage.task(mine, f"touch {file[mine]}; {until(file[other])}; echo {mine}")
    left, right = stage.start_run("left"), stage.start_run("right")
    assert (left.wait_for_end(), right.wait_for_end()) == (0, 0)
    assert "│ left" in left.output
    assert "│ left" not in right.output
    assert stage.statuses() == {"left": "succeeded", "right": "succeeded"}
