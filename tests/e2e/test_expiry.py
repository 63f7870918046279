"""When a token's time is over: what was started may be delivered, nothing new is begun, then the machine has to go."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import redis

from tests.e2e.stage import Stage, until
from tests.processes import RunningSwamp, type_line
from tests.waiting import wait_until

NOT_ALLOWED = 4
PUT_OUT = "the orchestrator turned this machine away: token 'brief' expired at "


def connect(stage: Stage, cache: str = "cache", grace: str = "60") -> RunningSwamp:
    return stage.start(
        "worker", "connect", stage.url, "--token-file", stage.scratch / "token", "--cache-dir", stage.scratch / cache,
        "--concurrency", "1", "--grace", grace,
    )  # fmt: skip


def begin(stage: Stage, grace: str = "60") -> tuple[RunningSwamp, RunningSwamp]:
    """A step that runs on a machine, and one to come behind it; the worker, the run."""
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("long", f"touch {began}; {until(go)}; echo done", "brief")
    stage.task("late", f"touch {stage.scratch / 'late'}", "brief")
    (stage.scratch / "token").write_text(stage.token("brief"))
    worker = connect(stage, grace=grace)
    worker.wait_for_line("waiting for work")
    run = stage.start_run("long")
    wait_until(began.exists, "the step to begin")
    return worker, run


def expire(stage: Stage, worker: RunningSwamp) -> None:
    """The token's time is over in a second; wait until the worker knows."""
    rotate(stage, "1s")
    worker.wait_for_line("token brief has expired: no new steps are taken; what runs may be delivered until", 30)
    wait_until(lambda: stage.workers() == {"brief": "delivering"}, "the machine's rights to be narrowed", 30)


def rotate(stage: Stage, duration: str) -> None:
    file = stage.scratch / "token"
    done = stage.swamp("worker", "token", "rotate", "brief", "--duration", duration, "--output-file", file)
    assert done.code == 0, done


def test_a_step_that_was_started_is_delivered_and_nothing_new_is_begun(stage: Stage):
    orchestrator = stage.serve()
    worker, run = begin(stage)
    expire(stage, worker)
    late = stage.start_run("late")
    wait_until(lambda: stage.statuses().get("late") == "running", "the late step to wait")
    (shown,) = stage.json("worker", "token", "list")
    assert (shown["state"], shown["bindings"][0]["deliversUntil"] > shown["expiresAt"]) == ("expired", True)
    assert "may deliver what it started until" in stage.swamp("worker", "token", "list").stderr
    assert "the target's token has expired" in stage.swamp("worker", "queue").stdout

    (stage.scratch / "go").touch()
    assert run.wait_for_end() == 0, run.output
    assert worker.wait_for_end() == NOT_ALLOWED
    assert PUT_OUT in worker.output
    orchestrator.wait_for_line("worker brief was put out: token 'brief' expired at")
    assert stage.workers() == {}
    assert not (stage.scratch / "late").exists()
    assert late.running
    with _owner(stage) as client:
        assert client.execute_command("ACL", "LOG") == [], "it tried nothing that it may not do any more"
    again = connect(stage, "another")
    assert again.wait_for_end() == NOT_ALLOWED


def test_a_step_that_is_not_done_within_the_grace_is_given_up(stage: Stage):
    orchestrator = stage.serve()
    worker, run = begin(stage, grace="5")
    rotate(stage, "1s")
    assert worker.wait_for_end(60) == NOT_ALLOWED
    assert PUT_OUT in worker.output
    assert run.wait_for_end() == 1
    assert "worker 'brief' was put out while the step ran: token 'brief' expired at" in run.output
    assert "fault" not in orchestrator.output


def test_it_is_delivered_by_the_next_starts_of_both_and_over_an_emptied_redis(stage: Stage):
    orchestrator = stage.serve()
    worker, _ = begin(stage)
    expire(stage, worker)
    orchestrator.kill()
    (stage.scratch / "go").touch()
    worker.wait_for_line("step build/long executed long: succeeded")
    worker.kill()
    orchestrator = stage.serve()
    with _owner(stage) as client:
        client.flushall()
    worker = connect(stage)
    worker.wait_for_line("token brief has expired: no new steps are taken")
    wait_until(lambda: stage.statuses() == {"long": "succeeded"}, "the result to be delivered", timeout=30)
    assert worker.wait_for_end() == NOT_ALLOWED
    assert PUT_OUT in worker.output


def _owner(stage: Stage) -> redis.Redis:
    password = json.loads((stage.root / ".swamp/keys/orchestrator.json").read_text())["redisOrchestrator"]
    url = json.loads((stage.root / ".swamp/serve.json").read_text())["redisUrl"]
    return redis.Redis.from_url(url, username="swamp", password=password)


def test_a_rotation_in_the_grace_gives_all_rights_back(stage: Stage):
    orchestrator = stage.serve()
    worker, run = begin(stage)
    expire(stage, worker)
    rotate(stage, "1h")
    worker.wait_for_line("resumed: steps are taken again")
    (stage.scratch / "go").touch()
    assert run.wait_for_end() == 0
    stage.run("late")
    assert "fault" not in orchestrator.output


def test_who_is_revoked_in_the_grace_delivers_nothing_more(stage: Stage):
    stage.serve()
    worker, run = begin(stage)
    expire(stage, worker)
    worker.signal(signal.SIGSTOP)
    (stage.scratch / "go").touch()
    assert stage.swamp("worker", "token", "revoke", "brief").code == 0
    assert run.wait_for_end() == 1
    worker.signal(signal.SIGCONT)
    assert worker.wait_for_end() == NOT_ALLOWED
    assert "was revoked" in worker.output
    assert stage.statuses() == {"long": "failed"}


def test_the_commands_that_the_documents_show(stage: Stage):
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
    section = text.partition("## When a token ends")[2].partition("\n## ")[0]
    commands = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    assert len(commands) == 5
    stage.token("build-node")
    made = stage.json("worker", "token", "create", "fleet", "--duration", "1h", "--max-enrollments", "2")
    stage.serve()
    stage.worker(str(made["token"]))
    ((machine,),) = stage.rows("SELECT id FROM machines")
    for command in commands:
        typed = command.replace("/run/swamp", str(stage.scratch)).replace("5c40e1f2a90b7d3c86e4", machine)
        assert type_line(typed, stage.root)
    assert stage.workers() == {}
    assert (stage.scratch / "build-node.token").stat().st_mode & 0o777 == 0o600
    assert {token["name"]: token["state"] for token in stage.json("worker", "token", "list")} == {
        "build-node": "revoked", "fleet": "bound"
    }  # fmt: skip
