"""Runs that are left, found again, followed, limited and canceled, with orchestrator and workers as real processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import uuid
from pathlib import Path

import pytest

from swamp.clock import from_iso
from swamp.errors import Invalid
from swamp.orchestrator.client import find
from swamp.repo import Repo
from tests.e2e.stage import Stage, is_alive, step, until
from tests.processes import RunningSwamp
from tests.waiting import wait_until

UNREACHABLE, INTERRUPTED, TERMINATED = 5, 130, 143


def count(stage: Stage, name: str = "counter", target: str = "node") -> Path:
    """A workflow of one step that prints numbered lines until the file is there that is returned."""
    go = stage.scratch / f"{name}-go"
    loop = f"i=0; while [ ! -e {go} ]; do i=$((i+1)); echo line $i; sleep 0.002; done; echo last $i"
    stage.task(name, loop, target)
    return go


def sleeper(stage: Stage, name: str = "sleeper", target: str = "node") -> Path:
    """A workflow of one step that runs until it is killed; the file that is returned will hold two process ids. On a
    target the second is of a process in a session of its own, where the system has such a command."""
    pids = stage.scratch / f"{name}-pids"
    apart = "setsid " if target and shutil.which("setsid") else ""
    stage.task(name, f"{apart}sleep 600 & echo $$ $! > {pids}.new && mv {pids}.new {pids}; wait", target)
    return pids


def living(pids: Path) -> list[int]:
    return [pid for pid in map(int, pids.read_text().split()) if is_alive(pid)]


def detached(stage: Stage, workflow: str, *arguments: str) -> str:
    document = stage.json("workflow", "run", workflow, "--detach", *arguments)
    assert set(document) == {"run"}
    return str(document["run"])


def follower(stage: Stage, run: str, *arguments: str) -> RunningSwamp:
    return stage.start("workflow", "logs", "-f", run, *arguments)


def printed(follower: RunningSwamp) -> list[str]:
    """Its lines without what it told on stderr."""
    return [line for line in follower.lines if line.startswith("[")]


def more_lines(follower: RunningSwamp) -> None:
    wanted = len(printed(follower)) + 50
    wait_until(lambda: len(printed(follower)) >= wanted, "more lines to be printed", timeout=30)


def digest(lines: list[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def ended(stage: Stage, run: str) -> dict[str, str]:
    """The run's row, once it has ended."""

    def row() -> dict[str, str] | None:
        return next((found for found in stage.history() if found["id"] == run and found["status"] != "running"), None)

    found = wait_until(row, f"run {run} to end", timeout=30)
    assert found is not None
    return found


# ---------------------------------------------------------------------- detach and follow


def test_a_detached_run_is_accepted_on_disk_when_its_id_is_printed(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    go = stage.scratch / "go"
    stage.task("patient", f"{until(go)}; echo done")
    done = stage.swamp("workflow", "run", "patient", "--detach")
    orchestrator.kill()
    run = done.stdout.strip()
    assert (done.code, done.stdout) == (0, f"{run}\n")
    assert done.stderr == f"Follow it with: swamp workflow logs -f {run}\n"
    assert stage.rows("SELECT id, status FROM runs") == [(run, "running")]

    stage.serve()
    stage.worker(token)
    go.touch()
    following = follower(stage, run)
    assert following.wait_for_end() == 0
    assert following.lines == ["[build/patient] done"]


def test_a_run_that_is_asked_for_twice_runs_once(stage: Stage):
    """Whoever got no answer may ask again, under the same id."""
    token = stage.token()
    stage.serve()
    stage.worker(token)
    stage.task("hello", "echo hello")
    orchestrator = find(Repo(stage.root))
    assert orchestrator is not None
    wanted = {"workflow": "hello", "run": str(uuid.uuid4())}
    first, second = list(orchestrator.run(wanted)), list(orchestrator.run(wanted))
    assert first == second
    assert [run["id"] for run in stage.history()] == [wanted["run"]]
    with pytest.raises(Invalid, match="no UUID"):
        orchestrator.run({"workflow": "hello", "run": "mine"})


def test_nothing_can_be_detached_without_an_orchestrator(stage: Stage):
    stage.task("here", "echo here", target="")
    done = stage.swamp("workflow", "run", "here", "--detach")
    assert done.code == UNREACHABLE
    assert "swamp serve" in done.stderr
    assert stage.history() == []


def test_followers_see_every_line_once_through_crashes_of_the_orchestrator(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    go = count(stage)
    run = detached(stage, "counter")
    from_the_start = follower(stage, run)
    from_the_start.wait_for_line("line 20$")
    later = follower(stage, run[:8])
    events = follower(stage, "counter", "--json")
    everybody = (from_the_start, later, events)
    later.wait_for_line("line 1$")
    events.wait_for_line("run-accepted")
    for _ in range(2):
        more_lines(from_the_start)
        orchestrator.kill()
        for one in everybody:
            one.wait_for_line("The orchestrator is away; waiting for it. Ctrl-C leaves, the run goes on.")
        orchestrator = stage.serve()
        for one in everybody:
            one.wait_for_line("The orchestrator is back.")
    more_lines(from_the_start)
    assert orchestrator.stop() == 0
    orchestrator = stage.serve()
    from_the_start.wait_for_line("The orchestrator is back.")
    go.touch()

    assert [one.wait_for_end(30) for one in everybody] == [0, 0, 0]
    total = len(printed(later)) - 1
    expected = [f"[build/counter] line {number}" for number in range(1, total + 1)] + [f"[build/counter] last {total}"]
    assert digest(printed(from_the_start)) == digest(printed(later)) == digest(expected)
    told = [json.loads(line) for line in events.lines if line.startswith("{")]
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert told[-1]["kind"] == "run-finished"
    assert orchestrator.stop() == 0
    assert stage.swamp("workflow", "logs", run).stdout.splitlines() == expected
    assert stage.swamp("workflow", "logs", "-f", run).stdout.splitlines() == expected


def test_who_follows_gets_the_end_of_the_run_even_if_nobody_serves_it_any_more(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    go = stage.scratch / "go"
    stage.task("patient", f"echo begun; {until(go)}; echo over")
    following = follower(stage, detached(stage, "patient"))
    following.wait_for_line("begun")
    following.signal(signal.SIGSTOP)
    go.touch()
    orchestrator.wait_for_line("run .* finished")
    orchestrator.kill()
    following.signal(signal.SIGCONT)
    assert following.wait_for_end() == 0
    assert printed(following) == ["[build/patient] begun", "[build/patient] over"]


def test_lines_that_came_too_fast_are_counted_in_their_place(stage: Stage):
    """So many that a worker does not keep them: of these it keeps 8 MiB while nobody hears it."""
    up, go, done = (stage.scratch / name for name in ("up", "go", "done"))
    total = 3_000_000
    stage.task("flood", f"touch {up}; {until(go)}; seq {total}; touch {done}")
    orchestrator = stage.serve()
    stage.worker(stage.token())
    run = detached(stage, "flood")
    wait_until(up.exists, "the step to run")
    orchestrator.signal(signal.SIGSTOP)
    go.touch()
    wait_until(done.exists, "all of it to be printed", timeout=30)
    orchestrator.signal(signal.SIGCONT)
    assert ended(stage, run)["status"] == "succeeded"

    told = 0
    for line in stage.swamp("workflow", "logs", run).stdout.splitlines():
        withheld = re.search("… ([0-9,]+) lines came too fast to be shown here; the step's data have them all", line)
        told += int(withheld[1].replace(",", "")) if withheld else 1
        assert withheld or line == f"[build/flood] {told}", "each line in its place"
    assert told == total
    assert stage.swamp("data", "get", "flood", "log", "--content").stdout.count("\n") == total + 2, "two headings"


def test_following_ends_as_the_run_ends_and_ctrl_c_leaves_it(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    go = stage.scratch / "go"
    stage.task("broken", f"echo almost; {until(go)}; exit 3")
    run = detached(stage, "broken")
    leaving, staying = follower(stage, run), follower(stage, run)
    leaving.wait_for_line("almost")
    leaving.press_ctrl_c()
    assert leaving.wait_for_end() == INTERRUPTED
    assert leaving.lines[-2:] == [
        f"Error: left run {run}",
        f"  follow it again with: swamp workflow logs -f {run}",
    ]
    assert stage.statuses() == {"broken": "running"}
    assert stage.swamp("workflow", "logs", run).stdout == "[build/broken] almost\n"

    go.touch()
    assert staying.wait_for_end() == 1
    assert staying.lines[1] == "Error: broken failed: build/broken: Command exited with code 3"
    done = stage.swamp("workflow", "logs", run)
    assert (done.code, done.stderr) == (0, ""), "to look at the log of a failed run is no failure"
    assert orchestrator.stop() == 0
    assert stage.swamp("workflow", "logs", "-f", run).code == 1


def test_a_run_that_nobody_serves_can_be_read_but_not_followed(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    go = stage.scratch / "go"
    stage.task("patient", f"echo begun; {until(go)}")
    run = detached(stage, "patient")
    follower(stage, run).wait_for_line("begun")
    orchestrator.kill()
    assert stage.swamp("workflow", "logs", run).stdout == "[build/patient] begun\n"
    refused = stage.swamp("workflow", "logs", "-f", run)
    assert (refused.code, refused.stdout) == (UNREACHABLE, "")
    assert "swamp serve" in refused.stderr
    go.touch()


def test_a_run_without_an_orchestrator_can_be_followed_from_another_terminal(stage: Stage):
    go = count(stage, target="")
    here = stage.start_run("counter")
    run = wait_until(stage.history, "the run to begin")[0]["id"]
    following = follower(stage, run)
    following.wait_for_line("line 20$")
    refused = stage.swamp("workflow", "cancel", run)
    assert refused.code == 1
    assert "press Ctrl-C in that terminal" in refused.stderr
    go.touch()
    assert (here.wait_for_end(), following.wait_for_end()) == (0, 0)
    total = len(printed(following)) - 1
    assert printed(following) == [
        *(f"[build/counter] line {number}" for number in range(1, total + 1)),
        f"[build/counter] last {total}",
    ]


def test_who_follows_a_run_whose_command_is_killed_hears_that_it_failed(stage: Stage):
    pids = sleeper(stage, target="")
    here = stage.start_run("sleeper")
    wait_until(pids.exists, "the step to begin")
    following = follower(stage, "sleeper")
    here.kill()
    assert following.wait_for_end() == 1
    assert "the command that ran it was killed" in following.output
    for pid in living(pids):
        os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------------- cancel


def test_a_running_step_is_ended_with_all_its_processes(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    pids = sleeper(stage)
    stage.model("after", "echo never")
    stage.workflow("two", step("sleeper", "sleeper", "node"), step("after", "after", "node", [("sleeper", "always")]))
    watching = stage.start_run("two")
    wait_until(pids.exists, "the step to begin")
    run = stage.history()[0]["id"]

    done = stage.swamp("workflow", "cancel", "two")
    assert done.code == 0
    assert done.stdout == f"Canceling run {run} of two: its running steps are being ended.\n"
    assert done.stderr == f"Watch it end with: swamp workflow logs -f {run}\n"
    assert watching.wait_for_end() == 1
    assert "# two: canceled" in watching.output
    assert "Canceled: the run was canceled" in watching.output
    assert living(pids) == []
    orchestrator.wait_for_line(f"run {run} finished: canceled")
    assert stage.statuses() == {"two": "canceled"}

    again = stage.json("workflow", "cancel", run[:6])
    assert again == {"run": run, "workflowName": "two", "previousStatus": "canceled", "status": "canceled"}


def test_a_run_that_waits_for_a_worker_is_canceled_at_once(stage: Stage):
    token = stage.token()
    stage.serve()
    ran = stage.scratch / "ran"
    stage.task("touch", f"touch {ran}")
    run = detached(stage, "touch")
    document = stage.json("workflow", "cancel", run)
    assert document == {"run": run, "workflowName": "touch", "previousStatus": "running", "status": "canceled"}

    worker = stage.worker(token)
    stage.task("other", "echo other")
    stage.run("other")
    assert not ran.exists()
    assert worker.running


def test_what_cannot_be_canceled_is_told_apart(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    assert stage.swamp("workflow", "cancel", "nothing").code == 3
    stage.worker(token, "cache", "--concurrency", "2")
    go = stage.scratch / "go"
    stage.task("patient", until(go))
    stage.task("hello", "echo hello")
    stage.run("hello")
    over = stage.history()[0]["id"]
    refused = stage.swamp("workflow", "cancel", "hello")
    assert refused.code == 1
    assert f"run {over} of hello had ended already: succeeded" in refused.stderr

    runs = [detached(stage, "patient"), detached(stage, "patient")]
    refused = stage.swamp("workflow", "cancel", "patient")
    assert refused.code == 1
    assert "2 runs under way" in refused.stderr
    assert all(f"swamp workflow cancel {run}" in refused.stderr for run in runs)

    orchestrator.kill()
    refused = stage.swamp("workflow", "cancel", runs[0], "--json")
    assert refused.code == UNREACHABLE
    assert json.loads(refused.stderr)["code"] == "no_orchestrator"
    assert stage.swamp("workflow", "cancel", over).code == 1
    stage.serve()
    assert stage.swamp("workflow", "cancel", runs[0]).code == 0
    assert ended(stage, runs[0])["status"] == "canceled"
    assert stage.swamp("workflow", "cancel", "patient").code == 0, "only one is left"
    assert ended(stage, runs[1])["status"] == "canceled"
    go.touch()


def test_a_cancel_survives_the_crash_of_the_orchestrator_that_took_it(stage: Stage):
    """The worker hears of it only from the next one: it is frozen, and Redis is emptied before it goes on."""
    token = stage.token()
    orchestrator = stage.serve()
    worker = stage.worker(token)
    pids = sleeper(stage)
    run = detached(stage, "sleeper")
    wait_until(pids.exists, "the step to begin")
    wait_until(lambda: stage.rows("SELECT 1 FROM steps WHERE status = 'running'"), "the step to be known as running")
    worker.signal(signal.SIGSTOP)
    assert stage.swamp("workflow", "cancel", run).code == 0
    orchestrator.kill()
    for path in (stage.root / ".swamp" / "redis").rglob("appendonly*/*"):
        path.unlink()
    assert len(living(pids)) == 2

    stage.serve()
    worker.signal(signal.SIGCONT)
    assert ended(stage, run)["status"] == "canceled"
    wait_until(lambda: living(pids) == [], "its processes to end")


# ---------------------------------------------------------------------- Ctrl-C on who watches


def test_ctrl_c_cancels_the_run_and_shows_it_to_its_end(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    pids = sleeper(stage)
    watching = stage.start_run("sleeper")
    wait_until(pids.exists, "the step to begin")
    watching.press_ctrl_c()
    assert watching.wait_for_end() == INTERRUPTED
    assert watching.lines[0] == "Canceling the run; Ctrl-C again stops watching it."
    assert "# sleeper: canceled" in watching.lines
    assert living(pids) == []
    assert stage.statuses() == {"sleeper": "canceled"}


def test_a_second_ctrl_c_leaves_and_says_how_to_come_back(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    began, go = stage.scratch / "began", stage.scratch / "go"
    stage.task("stubborn", f"trap '' TERM; touch {began}; {until(go)}; echo in my own time")
    watching = stage.start_run("stubborn")
    wait_until(began.exists, "the step to begin")
    wait_until(lambda: stage.rows("SELECT 1 FROM steps WHERE status = 'running'"), "the step to be known as running")
    run = stage.history()[0]["id"]
    watching.press_ctrl_c()
    watching.wait_for_line("Canceling the run; Ctrl-C again stops watching it.")
    watching.press_ctrl_c()
    assert watching.wait_for_end() == INTERRUPTED
    assert watching.lines[-2:] == [
        f"Error: left run {run}, which is being canceled",
        f"  watch it end with: swamp workflow logs -f {run}",
    ]
    following = follower(stage, run)
    go.touch()
    assert following.wait_for_end() == 1
    assert "[build/stubborn] in my own time" in following.lines
    assert "Error: stubborn canceled" in following.lines


def test_a_runner_that_gets_a_term_signal_leaves_the_run_to_the_orchestrator(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    go = stage.scratch / "go"
    stage.task("patient", f"{until(go)}; echo over")
    watching = stage.start_run("patient")
    wait_until(lambda: stage.statuses() == {"patient": "running"}, "the run to begin")
    run = stage.history()[0]["id"]
    watching.signal(signal.SIGTERM)
    assert watching.wait_for_end() == TERMINATED
    assert watching.lines == [
        f"Error: left run {run}, which goes on",
        f"  follow it again with: swamp workflow logs -f {run}",
        f"  cancel it with: swamp workflow cancel {run}",
    ]
    following = follower(stage, run)
    go.touch()
    assert following.wait_for_end() == 0
    assert following.lines == ["[build/patient] over"]


# ---------------------------------------------------------------------- time limits


def test_a_run_is_canceled_when_its_time_is_over_though_nobody_watches(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    pids = sleeper(stage)
    run = detached(stage, "sleeper", "--timeout", "1s")
    wait_until(pids.exists, "the step to begin")
    row = ended(stage, run)
    assert (row["status"], row["error"]) == ("canceled", "the run took longer than 1s")
    assert 1.0 <= (from_iso(row["endedAt"]) - from_iso(row["createdAt"])).total_seconds() < 5
    assert living(pids) == []


def test_a_time_limit_holds_over_a_crash_of_the_orchestrator(stage: Stage):
    token = stage.token()
    orchestrator = stage.serve()
    stage.worker(token)
    pids = sleeper(stage)
    watching = stage.start("workflow", "run", "sleeper", "--timeout", "2s", "--json")
    watching.wait_for_line("step-started")
    wait_until(pids.exists, "the step to begin")
    orchestrator.kill()
    assert watching.wait_for_end() == UNREACHABLE
    assert re.search(r"swamp workflow logs -f [0-9a-f-]{36}", watching.output)
    stage.serve()
    row = ended(stage, stage.history()[0]["id"])
    assert (row["status"], row["error"]) == ("canceled", "the run took longer than 2s")
    wait_until(lambda: living(pids) == [], "its processes to end")


def test_a_run_that_ends_in_time_is_not_touched_and_wrong_limits_start_nothing(stage: Stage):
    token = stage.token()
    stage.serve()
    stage.worker(token)
    stage.task("hello", "echo hello")
    assert stage.swamp("workflow", "run", "hello", "--timeout", "1h").code == 0
    for wrong in ("0s", "soon", "5"):
        refused = stage.swamp("workflow", "run", "hello", "--timeout", wrong)
        assert refused.code == 2
        assert "is not a duration for --timeout" in refused.stderr
    assert len(stage.history()) == 1


def test_a_run_without_an_orchestrator_has_its_time_limit_too(stage: Stage):
    pids = sleeper(stage, target="")
    done = stage.swamp("workflow", "run", "sleeper", "--timeout", "1s")
    assert done.code == 1
    assert "Error: sleeper canceled: the run took longer than 1s" in done.stderr
    assert living(pids) == []
