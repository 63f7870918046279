"""`swamp workflow logs` over a journal as an engine leaves it, and `swamp workflow run --detach`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from swamp.cli.main import run
from swamp.repo import Repo
from tests.cli.test_history import keep, of_failure, of_tutorial
from tests.cli.test_workflow_cancel import orchestrator, repo
from tests.cli.test_workflow_run import IN_ANOTHER_THREAD
from tests.conftest import StartSwamp
from tests.orchestrator.answering import Orchestrator, stream
from tests.orchestrator.test_client import lines
from tests.output.events import Story, tutorial

__all__ = ["orchestrator", "repo"]


@pytest.fixture(autouse=True)
def runs(repo: Repo) -> None:
    keep(repo, of_tutorial(), "succeeded")
    keep(repo, of_failure(), "failed", "build/compile: Command exited with code 2")


def test_the_lines_of_a_run_come_with_their_steps_and_cannot_touch_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["workflow", "logs", "nightly"]) == 0
    assert capsys.readouterr().out == "[build/compile] cc: \\x1b[31mno such file\n[build/compile] giving up\n"
    assert run(["workflow", "logs", "5d3c"]) == 0
    assert capsys.readouterr().out == "[build/echo-on-worker] executed on a worker\n"


def test_with_json_every_event_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["workflow", "logs", "nightly", "--json"]) == 0
    said = capsys.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == of_failure().events
    assert said.err == ""


def test_followed_to_its_end_a_run_gives_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["workflow", "logs", "-f", "remote-demo"]) == 0
    capsys.readouterr()
    assert run(["workflow", "logs", "--follow", "nightly"]) == 1
    assert "Error: nightly failed: build/compile: Command exited with code 2" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_who_follows_leaves_at_once_whatever_is_waited_for(
    repo: Repo, orchestrator: Orchestrator, start_swamp: StartSwamp, number: signal.Signals, code: int
) -> None:
    story = Story("placed", run="99cc")
    story.accepted([("build", ["slow"])], target="node")
    story.output("build", "slow", "hello")
    keep(repo, story, "running")
    over = threading.Event()

    def events(handler: BaseHTTPRequestHandler) -> None:
        stream(lines(*story.events), ended=False)(handler)
        over.wait(20)

    orchestrator.answers["GET", "/api/runs/99cc/events?after=0"] = events
    pipe = repo.root / "pipe"
    os.mkfifo(pipe)
    apart = (sys.executable, "-c", IN_ANOTHER_THREAD.replace("SIGINT", number.name), str(pipe))
    process = start_swamp("workflow", "logs", "-f", "99cc", cwd=repo.root, inside=apart)
    with pipe.open("wb", buffering=0) as press:
        process.wait_for_line("hello")
        press.write(b".")
        assert process.wait_for_end() == code
    over.set()
    assert process.lines[1:] == ["Error: left run 99cc", "  follow it again with: swamp workflow logs -f 99cc"]


def test_an_unknown_run_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["workflow", "logs", "monthly"]) == 3
    assert run(["workflow", "logs", "-f", "monthly"]) == 3
    assert "swamp workflow history search" in capsys.readouterr().err


def test_a_detached_run_prints_its_id_and_asks_for_its_time_limit(
    orchestrator: Orchestrator, capsys: pytest.CaptureFixture[str]
) -> None:
    orchestrator.answers["POST", "/api/runs"] = stream(lines(*tutorial()[:1]), ended=False)
    assert run(["workflow", "run", "remote-demo", "--detach", "--timeout", "120s"]) == 0
    said = capsys.readouterr()
    assert said.out == "5d3c\n"
    assert said.err == "Follow it with: swamp workflow logs -f 5d3c\n"
    body = orchestrator.asked[-1][2]
    assert isinstance(body, dict)
    assert (body["workflow"], body["timeout"]) == ("remote-demo", "2m")
    assert run(["workflow", "run", "remote-demo", "--detach", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "5d3c"}
