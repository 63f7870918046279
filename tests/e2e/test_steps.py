"""What a step may count on when it runs on a worker, and what comes back of it."""

from __future__ import annotations

import json
import os
import re
import subprocess

from tests.e2e.stage import Stage, is_alive, step, until
from tests.processes import SWAMP, environment
from tests.waiting import wait_until


def test_a_failing_command_shows_its_exit_code_and_keeps_what_it_printed(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    stage.task("broken", "echo to stdout; echo to stderr >&2; exit 7")

    done = stage.run("broken", code=1)
    assert "│ to stdout\n" in done.stdout
    assert "│ to stderr\n" in done.stdout
    assert "│ Error: Command exited with code 7\n" in done.stdout
    assert "0 succeeded · 1 failed · 0 skipped" in done.stdout
    select = '{"out": attributes.stdout, "err": attributes.stderr, "code": attributes.exitCode}'
    assert stage.query('modelName == "broken" && specName == "result"', select) == [
        {"out": "to stdout", "err": "to stderr\n", "code": 7}
    ]
    assert _content(stage, "broken", "log") == b"[stdout]\nto stdout\n[stderr]\nto stderr\n"


def test_bytes_that_are_no_text_and_megabytes_arrive_unharmed(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    big, odd = stage.scratch / "big", stage.scratch / "odd"
    big.write_bytes(os.urandom(5_000_000) + b"\n")
    odd.write_bytes(bytes(range(256)) + b"\xff\xfe\n")
    stage.model("big", f"cat {big}")
    stage.model("odd", f"cat {odd}; cat {odd} >&2")
    stage.workflow("bytes", step("big", "big", "node"), step("odd", "odd", "node"))
    stage.run("bytes")

    assert _content(stage, "odd", "log") == b"[stdout]\n" + odd.read_bytes() + b"[stderr]\n" + odd.read_bytes()
    # Not left to pytest to compare: it would take minutes to show where megabytes differ.
    arrived = _content(stage, "big", "log") == b"[stdout]\n" + big.read_bytes() + b"[stderr]\n"
    assert arrived, "five megabytes came back changed"
    text = json.loads(_content(stage, "big", "result"))["stdout"]
    arrived = text == big.read_bytes().removesuffix(b"\n").decode("utf-8", "replace")
    assert arrived, "five megabytes of text came back changed"
    contents = stage.scratch / "cache" / "contents"
    wait_until(lambda: not list(contents.iterdir()), "the worker to forget what has arrived")


def _content(stage: Stage, model: str, name: str) -> bytes:
    """The very bytes that `data get --content` prints."""
    return subprocess.run(
        [SWAMP, "data", "get", model, name, "--content"],
        cwd=stage.root,
        env=environment(stage.env),
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout


def test_a_step_gets_the_directory_environment_and_time_that_it_asks_for(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    stage.model("where", 'pwd; echo "$GREETING"', workingDir=str(stage.scratch), env={"GREETING": "good day"})
    stage.model("slow", "echo before; exec sleep 600", timeout=300)
    stage.model("lost", "pwd", workingDir=str(stage.scratch / "nowhere"))
    stage.model("careless", "exit 3", ignoreExitCode=True)
    names = ("where", "slow", "lost", "careless")
    stage.workflow("asking", *(step(name, name, "node") for name in names))

    done = stage.run("asking", code=1)
    assert f"│ {stage.scratch}\n│ good day\n" in done.stdout
    assert "│ before\n│ Error: Command timed out after 300 ms\n" in done.stdout
    assert f"│ Error: The working directory {stage.scratch / 'nowhere'} does not exist\n" in done.stdout
    assert "2 succeeded · 2 failed · 0 skipped" in done.stdout


def test_a_step_sees_nothing_of_swamps_own_settings(stage: Stage):
    token = stage.token()
    stage.serve()
    env = {
        **stage.env,
        "SWAMP_WORKER_TOKEN": token,
        "SWAMP_ORCHESTRATOR_URL": stage.url,
        "SWAMP_WORKER_CACHE_DIR": str(stage.scratch / "cache"),
        "OF_THE_HOST": "kept",
    }
    worker = stage.start_swamp("worker", "connect", cwd=stage.scratch, env=env)
    worker.wait_for_line("enrolled as node")
    stage.task("look", "env; cat /proc/$$/environ | tr '\\0' '\\n'")

    shown = stage.run("look").stdout
    assert "│ OF_THE_HOST=kept\n" in shown
    # By this one a keeper finds what the step leaves behind; it opens nothing.
    assert set(re.findall(r"SWAMP_\w+", shown)) <= {"SWAMP_STEP"}
    assert token.partition(".")[2] not in shown


def test_a_worker_runs_as_many_steps_at_once_as_it_has_slots(stage: Stage):
    """Four steps, each of which waits for all the others."""
    token = stage.token()
    stage.serve()
    stage.worker(token, "cache", "--concurrency", "4")
    names = [f"step-{number}" for number in range(4)]
    for name in names:
        others = "; ".join(until(stage.scratch / other) for other in names)
        stage.model(name, f"touch {stage.scratch / name}; {others}", timeout=20000)
    stage.workflow("together", *(step(name, name, "node") for name in names))
    stage.run("together")


def test_a_worker_runs_no_more_steps_at_once_than_it_has_slots(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token, "cache", "--concurrency", "2")
    place = stage.scratch / "place"
    place.mkdir()
    stage.model("count", f"touch {place}/$$; ls {place} | wc -l; sleep 0.05; rm {place}/$$")
    stage.workflow("crowd", *(step(f"step-{number}", "count", "node") for number in range(8)))
    shown = stage.run("crowd").stdout
    counts = {line.removeprefix("│ ") for line in shown.splitlines() if line.startswith("│ ")}
    assert "2" in counts
    assert counts <= {"1", "2"}  # nobody need ever be alone: two may come in the same moment


def test_each_target_gets_its_own_steps_and_they_depend_on_each_other(stage: Stage):
    """Two workers, and steps without target in between; the trail that they leave shows who came before."""
    north, south = stage.token("north"), stage.token("south")
    orchestrator = stage.serve()
    stage.worker(north, "north")
    stage.worker(south, "south")
    trail = stage.scratch / "trail"
    for name in ("gather", "build", "check", "clean", "report"):
        stage.model(name, f"echo {name} >> {trail}")
    stage.model("fail", f"echo fail >> {trail}; exit 1")

    def job(name: str, *steps: dict[str, object], after: str = "", condition: str = "succeeded") -> dict[str, object]:
        depends = {"dependsOn": [{"job": after, "condition": condition}]} if after else {}
        return {"name": name, **depends, "steps": list(steps)}

    stage.workflow_of(
        "journey",
        job("prepare", step("gather", "gather")),
        job(
            "work",
            step("build", "build", "north"),
            step("check", "check", "", [("build", "succeeded")]),
            step("fail", "fail", "south", [("check", "succeeded")]),
            step("never", "report", "north", [("fail", "succeeded")]),
            step("clean", "clean", "north", [("fail", "failed")]),
            after="prepare",
        ),
        job("rescue", step("report", "report", "south"), after="work", condition="failed"),
        job("celebrate", step("cheer", "report", "south"), after="work"),
    )
    done = stage.run("journey", code=1)
    assert trail.read_text().split() == ["gather", "build", "check", "fail", "clean", "report"]
    assert "5 succeeded · 1 failed · 2 skipped" in done.stdout

    select = '{"step": stepName, "target": target, "machine": machine}'
    rows = stage.query('specName == "result"', select)
    assert {row["step"]: (row["target"], bool(row["machine"])) for row in rows} == {
        "gather": ("", False),
        "build": ("north", True),
        "check": ("", False),
        "fail": ("south", True),
        "clean": ("north", True),
        "report": ("south", True),
    }
    assert len({row["machine"] for row in rows if row["machine"]}) == 2
    for name, worker in (("build", "north"), ("fail", "south"), ("clean", "north"), ("report", "south")):
        assert any(f"/{name} finished on worker {worker}" in line for line in orchestrator.lines), name


def test_ctrl_c_lets_a_running_step_finish(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token, "cache", "--concurrency", "1")
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.model("patient", f"touch {began}; {until(go)}; echo finished")
    stage.model("next", "echo next")
    stage.workflow("two", step("first", "patient", "node"), step("second", "next", "node"))
    run = stage.start_run("two")
    wait_until(began.exists, "the step to begin")

    worker.press_ctrl_c()
    worker.wait_for_line("stopping: no new steps; waiting up to 30s for 1 running")
    wait_until(lambda: stage.workers() == {"node": "draining"}, "the worker to be shown as draining")
    go.touch()
    assert worker.wait_for_end() == 0
    orchestrator.wait_for_line("step build/first finished on worker node: succeeded")
    orchestrator.wait_for_line("worker node left")
    assert run.running, "the second step waits for a worker"

    stage.worker(token)
    assert run.wait_for_end() == 0
    assert stage.rows("SELECT count(*) FROM data WHERE spec_name = 'result'") == [(2,)]


def test_after_the_grace_time_a_step_is_ended(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token, "cache", "--grace", "0.3")
    began = stage.scratch / "began"
    stage.task("endless", f"echo $$ > {began}; exec sleep 600")
    run = stage.start_run("endless")
    wait_until(lambda: began.exists() and began.read_text().strip(), "the step to begin")

    worker.press_ctrl_c()
    worker.wait_for_line("the grace time is over; ending 1 step")
    worker.wait_for_end()
    assert run.wait_for_end() == 1
    assert "worker 'node' was stopped while it ran" in run.output
    assert not is_alive(int(began.read_text()))


def test_a_second_ctrl_c_ends_the_step_and_everything_it_started(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token)
    parent, child = stage.scratch / "parent", stage.scratch / "child"
    deaf = 'trap "" TERM; while :; do sleep 0.1; done'
    stage.task("stubborn", f"echo $$ > {parent}; sh -c 'echo $$ > {child}; {deaf}' & {deaf}")
    run = stage.start_run("stubborn")
    wait_until(lambda: all(f.exists() and f.read_text().strip() for f in (parent, child)), "the step to begin")

    worker.press_ctrl_c()
    worker.wait_for_line("Ctrl-C again ends them")
    worker.press_ctrl_c()
    assert worker.wait_for_end() == 130
    assert not is_alive(int(parent.read_text()))
    assert not is_alive(int(child.read_text()))
    assert run.wait_for_end() == 1
    assert "worker 'node' was stopped while it ran" in run.output
    assert stage.statuses() == {"stubborn": "failed"}


def test_ctrl_c_at_the_runner_cancels_the_step_on_the_worker(stage: Stage):
    token = stage.token()
    stage.serve()
    worker = stage.worker(token)
    began = stage.scratch / "began"
    stage.task("endless", f"echo $$ > {began}; exec sleep 600")
    run = stage.start_run("endless")
    wait_until(lambda: began.exists() and began.read_text().strip(), "the step to begin")

    run.press_ctrl_c()
    assert run.wait_for_end() == 130
    worker.wait_for_line("step build/endless is canceled")
    wait_until(lambda: not is_alive(int(began.read_text())), "the step's process to end")
    assert stage.statuses() == {"endless": "canceled"}
    wait_until(lambda: stage.workers() == {"node": "idle"}, "the worker to be idle again")
