"""`swamp workflow run` and `swamp model method run`, as processes, with and without an orchestrator."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from uuid import UUID

import pytest

from swamp.repo import Repo
from swamp.workflows.events import Event
from tests.conftest import StartSwamp
from tests.orchestrator.answering import REPO_ID, Orchestrator, announce, answer, stream
from tests.output.events import Story, tutorial
from tests.output.screen import Screen, seen
from tests.processes import SWAMP, environment, run_swamp
from tests.waiting import wait_until

MODEL = """\
type: command/shell
id: 11111111-1111-4111-8111-111111111111
name: remote-echo
version: 1
methods:
  execute:
    arguments:
      run: 'echo "executed on a worker"'
"""

WORKFLOW = """\
id: 22222222-2222-4222-8222-222222222222
name: {name}
jobs:
  - name: build
    steps:
      - name: echo-on-worker{more}
        task:
          type: model_method
          modelIdOrName: remote-echo
          methodName: execute
version: 1
"""

TUTORIAL = """\
build                                                           ✓echo-on-worker
│ executed on a worker
── @swamp/workflow-summary ─────────────────────────────────
# remote-demo: succeeded

1 succeeded · 0 failed · 0 skipped
"""


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path)
    repo.marker.write_text(f"repoId: {REPO_ID}\n")
    repo.state.mkdir(mode=0o700)
    (repo.models / "command/shell").mkdir(parents=True)
    (repo.models / "command/shell/remote-echo.yaml").write_text(MODEL)
    repo.workflows.mkdir()
    (repo.workflows / "remote-demo.yaml").write_text(WORKFLOW.format(name="remote-demo", more=""))
    return repo


@pytest.fixture
def orchestrator(repo: Repo) -> Iterator[Orchestrator]:
    orchestrator = Orchestrator()
    announce(repo, orchestrator.url)
    yield orchestrator
    orchestrator.close()


def lines(events: list[Event]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_a_workflow_without_targets_runs_here_and_looks_like_the_tutorial(repo: Repo) -> None:
    ended = run_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    assert (ended.code, ended.stdout, ended.stderr) == (0, TUTORIAL, "")


def test_a_running_orchestrator_is_found_and_does_it(repo: Repo, orchestrator: Orchestrator) -> None:
    orchestrator.answers["POST", "/api/runs"] = stream(lines(tutorial()))
    ended = run_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    assert (ended.code, ended.stdout, ended.stderr) == (0, TUTORIAL, "")
    method, path, body = orchestrator.asked[-1]
    assert (method, path) == ("POST", "/api/runs")
    assert isinstance(body, dict)
    assert UUID(body.pop("run")).version == 4
    assert body == {"workflow": "remote-demo"}


def test_with_json_every_event_is_a_line_and_nothing_else_is_on_stdout(repo: Repo, orchestrator: Orchestrator) -> None:
    orchestrator.answers["POST", "/api/runs"] = stream(lines(tutorial()))
    ended = run_swamp("workflow", "run", "remote-demo", "--json", cwd=repo.root)
    assert [json.loads(line) for line in ended.stdout.splitlines()] == tutorial()
    assert (ended.code, ended.stderr) == (0, "")


def test_a_failed_run_ends_with_1_and_says_where_to_read_on(repo: Repo, orchestrator: Orchestrator) -> None:
    story = Story()
    story.accepted([("build", ["a", "b"])])
    story.finished("build", "a", "failed", "Command exited with code 2")
    story.finished("build", "b", "failed", "Command exited with code 1")
    story.ended("failed", "build/a: Command exited with code 2", failed=2)
    orchestrator.answers["POST", "/api/runs"] = stream(lines(story.events))
    ended = run_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    assert ended.code == 1
    assert ended.stdout.endswith("# remote-demo: failed\n\n0 succeeded · 2 failed · 0 skipped\n")
    assert ended.stderr == (
        "Error: remote-demo failed: build/a: Command exited with code 2 (and 1 more)\n"
        "  what its steps printed: swamp workflow history logs 5d3c\n"
    )


def test_what_the_orchestrator_refuses_is_the_error_of_the_command(repo: Repo, orchestrator: Orchestrator) -> None:
    refusal = {"error": "no workflow 'absent'", "code": "not_found", "hint": "list them", "exitCode": 3}
    orchestrator.answers["POST", "/api/runs"] = answer(refusal, 404)
    ended = run_swamp("workflow", "run", "absent", cwd=repo.root)
    assert (ended.code, ended.stdout, ended.stderr) == (3, "", "Error: no workflow 'absent'\n  list them\n")


def test_an_orchestrator_that_goes_away_is_unreachable_and_what_was_seen_stays(
    repo: Repo, orchestrator: Orchestrator
) -> None:
    orchestrator.answers["POST", "/api/runs"] = stream(lines(tutorial()[:6]), ended=False)
    ended = run_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    assert ended.code == 5
    assert ended.stdout == "".join(TUTORIAL.splitlines(keepends=True)[:2])
    assert "swamp workflow logs -f 5d3c" in ended.stderr


def test_when_the_orchestrator_dies_before_it_answers_the_id_of_what_it_may_have_accepted_is_told(
    repo: Repo, orchestrator: Orchestrator
) -> None:
    orchestrator.answers["POST", "/api/runs"] = stream(ended=False)
    ended = run_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    assert (ended.code, ended.stdout) == (5, "")
    body = orchestrator.asked[-1][2]
    assert isinstance(body, dict)
    assert "it may have accepted the run before" in ended.stderr
    assert f"swamp workflow logs {body['run']}" in ended.stderr


def test_a_target_without_an_orchestrator_is_refused_before_anything_starts(repo: Repo) -> None:
    placed = WORKFLOW.format(name="placed", more="\n        target: build-node")
    (repo.workflows / "placed.yaml").write_text(placed)
    ended = run_swamp("workflow", "run", "placed", cwd=repo.root)
    assert (ended.code, ended.stdout) == (5, "")
    assert "'build-node'" in ended.stderr
    assert "swamp serve" in ended.stderr
    assert json.loads(run_swamp("workflow", "history", "search", "--json", cwd=repo.root).stdout) == []


def test_ctrl_c_cancels_the_run_and_shows_how_it_ends(
    repo: Repo, orchestrator: Orchestrator, start_swamp: StartSwamp
) -> None:
    story = Story()
    story.accepted([("build", ["done", "slow"])])
    story.finished("build", "done")
    before = lines(story.events)
    story.finished("build", "slow", "canceled")
    story.ended("canceled", succeeded=1, canceled=1)
    after = lines(story.events)[len(before) :]
    canceled = threading.Event()

    def run(handler: BaseHTTPRequestHandler) -> None:
        def chunk(content: bytes) -> None:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        chunk(before)
        canceled.wait(10)
        chunk(after)
        chunk(b"")

    def cancel(handler: BaseHTTPRequestHandler) -> None:
        answer({})(handler)
        canceled.set()

    orchestrator.answers["POST", "/api/runs"] = run
    orchestrator.answers["POST", "/api/runs/5d3c/cancel"] = cancel
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    process.wait_for_line("✓done")
    process.press_ctrl_c()
    assert process.wait_for_end() == 130
    assert process.lines[1:] == [
        "Canceling the run; Ctrl-C again stops watching it.",
        "build                                                                     ✗slow",
        "── @swamp/workflow-summary ─────────────────────────────────",
        "# remote-demo: canceled",
        "",
        "1 succeeded · 0 failed · 0 skipped · 1 canceled",
        "Error: remote-demo was interrupted: canceled",
        "  see: swamp workflow history get 5d3c",
    ]


def test_a_second_ctrl_c_leaves_only_when_the_orchestrator_has_heard_of_the_first(
    repo: Repo, orchestrator: Orchestrator, start_swamp: StartSwamp
) -> None:
    story = Story()
    story.accepted([("build", ["done", "slow"])])
    story.finished("build", "done")
    asked: list[str] = []
    over = threading.Event()

    def run(handler: BaseHTTPRequestHandler) -> None:
        content = lines(story.events)
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        over.wait(20)

    def cancel(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if len(asked) == 1:  # nobody knows what becomes of this one
            over.wait(20)
        else:
            answer({})(handler)

    orchestrator.answers["POST", "/api/runs"] = run
    orchestrator.answers["POST", "/api/runs/5d3c/cancel"] = cancel
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    process.wait_for_line("✓done")
    process.press_ctrl_c()
    wait_until(lambda: asked, "the orchestrator to be asked")
    process.press_ctrl_c()
    assert process.wait_for_end() == 130
    over.set()
    assert len(asked) == 2
    assert process.lines[-2:] == [
        "Error: left run 5d3c, which is being canceled",
        "  watch it end with: swamp workflow logs -f 5d3c",
    ]


def test_ctrl_c_ends_a_run_here_alike_and_leaves_it_canceled(repo: Repo, start_swamp: StartSwamp) -> None:
    began = repo.root / "began"
    slow = MODEL.replace('echo "executed on a worker"', f"touch {began}; exec sleep 60")
    (repo.models / "command/shell/remote-echo.yaml").write_text(slow)
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    wait_until(began.exists, "the step to begin")
    process.press_ctrl_c()
    assert process.wait_for_end() == 130
    (run,) = json.loads(run_swamp("workflow", "history", "search", "--json", cwd=repo.root).stdout)
    assert run["status"] == "canceled"
    assert process.lines[-3:] == [
        "0 succeeded · 0 failed · 0 skipped · 1 canceled",
        "Error: remote-demo was interrupted: canceled",
        f"  see: swamp workflow history get {run['id']}",
    ]


def test_on_a_terminal_the_same_lines_stay(repo: Repo) -> None:
    screen = Screen(80, 24)
    env = environment({"TERM": "xterm", "NO_COLOR": "1"})
    for name in ("COLUMNS", "LINES"):
        env.pop(name, None)
    code = subprocess.run(
        [SWAMP, "workflow", "run", "remote-demo"], cwd=repo.root, env=env, stdout=screen.stream, check=False
    ).returncode
    assert code == 0
    assert "\n".join(seen(screen.end(), 80)) == TUTORIAL


def test_a_method_run_shows_what_it_prints_and_tells_its_end_beside(repo: Repo) -> None:
    ended = run_swamp("model", "method", "run", "remote-echo", "execute", cwd=repo.root)
    assert (ended.code, ended.stdout) == (0, "executed on a worker\n")
    assert ended.stderr.startswith("✓ remote-echo execute succeeded in ")


def test_a_method_that_fails_ends_with_1_and_keeps_the_streams_apart(repo: Repo) -> None:
    command = "run=echo out; echo err >&2; exit 7"
    ended = run_swamp("model", "method", "run", "remote-echo", "execute", "--input", command, cwd=repo.root)
    assert (ended.code, ended.stdout) == (1, "out\n")
    first, last = ended.stderr.splitlines()
    assert first == "err"
    assert last.startswith("✗ remote-echo execute failed in ")
    assert last.endswith(": Command exited with code 7")


def test_a_method_run_is_one_document_with_json(repo: Repo) -> None:
    arguments = ("model", "method", "run", "remote-echo", "execute", "--json")
    document = json.loads(run_swamp(*arguments, cwd=repo.root).stdout)
    assert {name: document[name] for name in ("modelName", "modelType", "methodName", "status", "error")} == {
        "modelName": "remote-echo",
        "modelType": "command/shell",
        "methodName": "execute",
        "status": "succeeded",
        "error": None,
    }
    assert [(item["name"], item["version"]) for item in document["dataArtifacts"]] == [("result", 1), ("log", 1)]
    failed = run_swamp(*arguments, "--input", "run=exit 7", cwd=repo.root)
    assert (failed.code, json.loads(failed.stdout)["status"]) == (1, "failed")
    assert json.loads(failed.stderr)["error"] == "remote-echo execute failed: Command exited with code 7"


def test_inputs_take_the_kind_of_their_argument_and_wrong_ones_start_nothing(repo: Repo) -> None:
    arguments = ("model", "method", "run", "remote-echo", "execute")
    inputs = ("--input", "run=echo $GREETING", "--input", "env.GREETING=hello", "--input", "timeout=5000")
    assert run_swamp(*arguments, *inputs, cwd=repo.root).stdout == "hello\n"
    wrong = run_swamp(*arguments, "--input", "rum=echo", cwd=repo.root)
    assert (wrong.code, wrong.stdout) == (1, "")
    assert "did you mean 'run'" in wrong.stderr
    assert run_swamp(*arguments, "--input", "timeout=soon", cwd=repo.root).code == 1
    assert run_swamp("model", "method", "run", "remote-ehco", "execute", cwd=repo.root).code == 3
    assert run_swamp("model", "method", "run", "remote-echo", "exekute", cwd=repo.root).code == 3


def test_a_reader_that_goes_away_ends_the_command_quietly(repo: Repo) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [SWAMP, "workflow", "run", "remote-demo"],
        cwd=repo.root,
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")
