"""`swamp workflow run` and `swamp model method run`, as processes, with and without an orchestrator."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
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


def ignores(pid: int, number: signal.Signals) -> bool:
    """Whether the process ignores the signal, on Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) >> (number - 1) & 1)


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


class Underway:
    """A run at the orchestrator that has come half of its way and does not go on, and who asks to cancel it."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self.story = Story()
        self.story.accepted([("build", ["done", "slow"])])
        self.story.finished("build", "done")
        self.accepting, self.answering, self.over = threading.Event(), threading.Event(), threading.Event()
        self.accepting.set()
        self.answering.set()
        self.canceled: list[str] = []
        orchestrator.answers["POST", "/api/runs"] = self._run
        orchestrator.answers["POST", "/api/runs/5d3c/cancel"] = self._cancel

    def _run(self, handler: BaseHTTPRequestHandler) -> None:
        self.accepting.wait(20)
        content = lines(self.story.events)
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.over.wait(20)
        handler.close_connection = True

    def _cancel(self, handler: BaseHTTPRequestHandler) -> None:
        self.canceled.append(handler.path)
        self.answering.wait(20)
        answer({})(handler)


@pytest.fixture
def underway(orchestrator: Orchestrator) -> Iterator[Underway]:
    run = Underway(orchestrator)
    yield run
    for event in (run.accepting, run.answering, run.over):
        event.set()


CANCELING = "Canceling the run; Ctrl-C again stops watching it."
LEFT = ["Error: left run 5d3c, which is being canceled", "  watch it end with: swamp workflow logs -f 5d3c"]


def test_a_second_ctrl_c_leaves_only_when_the_orchestrator_has_heard_of_the_first(
    repo: Repo, underway: Underway, start_swamp: StartSwamp
) -> None:
    underway.answering.clear()
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    process.wait_for_line("✓done")
    process.press_ctrl_c()
    wait_until(lambda: underway.canceled, "the orchestrator to be asked")
    process.press_ctrl_c()
    wait_until(lambda: ignores(process.pid, signal.SIGINT), "the second one to have been heard")
    assert process.running
    underway.answering.set()
    assert process.wait_for_end() == 130
    assert process.lines[1:] == [CANCELING, *LEFT]
    assert len(underway.canceled) == 1


def test_who_leaves_an_orchestrator_that_does_not_answer_to_the_cancel_is_not_told_that_it_does(
    repo: Repo, underway: Underway, start_swamp: StartSwamp
) -> None:
    underway.answering.clear()
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    process.wait_for_line("✓done")
    process.press_ctrl_c()
    process.wait_for_line(CANCELING)
    process.press_ctrl_c()
    assert process.wait_for_end() == 130
    assert process.lines[2:] == [
        "Error: left run 5d3c; the orchestrator has not said that it cancels it",
        "  see whether it does with: swamp workflow logs -f 5d3c",
        "  ask once more with: swamp workflow cancel 5d3c",
    ]
    assert len(underway.canceled) == 1


# The system may give a signal to any thread. The read that the main one waits in then goes on, as it does for a signal
# that comes in the moment before it begins to wait.
IN_ANOTHER_THREAD = """
import os, runpy, signal, sys, threading

def press(pipe):
    with open(pipe, "rb", buffering=0) as told:
        while told.read(1):
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=press, args=(sys.argv[1],), daemon=True).start()
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_ctrl_c_is_heard_at_once_whatever_is_waited_for(
    repo: Repo, underway: Underway, start_swamp: StartSwamp
) -> None:
    pipe = repo.root / "pipe"
    os.mkfifo(pipe)
    apart = (sys.executable, "-c", IN_ANOTHER_THREAD, str(pipe))
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root, inside=apart)
    with pipe.open("wb", buffering=0) as press:
        process.wait_for_line("✓done")
        press.write(b".")
        process.wait_for_line(CANCELING)
        wait_until(lambda: underway.canceled, "the orchestrator to be asked")
        press.write(b".")
        assert process.wait_for_end() == 130
    assert process.lines[1:] == [CANCELING, *LEFT]
    assert len(underway.canceled) == 1


def test_a_run_that_is_not_wanted_any_more_before_it_was_accepted_is_canceled_when_it_is(
    repo: Repo, orchestrator: Orchestrator, underway: Underway, start_swamp: StartSwamp
) -> None:
    underway.accepting.clear()
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    wait_until(lambda: ("POST", "/api/runs") in [asked[:2] for asked in orchestrator.asked], "the run to be asked for")
    process.press_ctrl_c()
    process.wait_for_line(CANCELING)
    assert underway.canceled == []
    underway.accepting.set()
    wait_until(lambda: underway.canceled, "the orchestrator to be asked")
    process.wait_for_line("✓done")
    process.press_ctrl_c()
    assert process.wait_for_end() == 130
    assert process.lines[2:] == LEFT
    assert len(underway.canceled) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_ends_the_command_leaves_the_run_and_says_how_to_come_back(
    repo: Repo, underway: Underway, start_swamp: StartSwamp, number: signal.Signals, code: int
) -> None:
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    process.wait_for_line("✓done")
    process.signal(number)
    assert process.wait_for_end() == code
    assert process.lines[1:] == [
        "Error: left run 5d3c, which goes on",
        "  follow it again with: swamp workflow logs -f 5d3c",
        "  cancel it with: swamp workflow cancel 5d3c",
    ]
    assert underway.canceled == []


def test_a_signal_that_ends_the_command_behind_a_ctrl_c_says_that_the_run_is_being_canceled(
    repo: Repo, underway: Underway, start_swamp: StartSwamp
) -> None:
    process = start_swamp("workflow", "run", "remote-demo", cwd=repo.root)
    process.wait_for_line("✓done")
    process.press_ctrl_c()
    process.wait_for_line(CANCELING)
    process.signal(signal.SIGTERM)
    assert process.wait_for_end() == 143
    assert process.lines[2:] == LEFT
    assert len(underway.canceled) == 1


def test_a_terminal_that_is_closed_leaves_the_run(repo: Repo, underway: Underway) -> None:
    screen = Screen(80, 24)
    with subprocess.Popen(
        [SWAMP, "workflow", "run", "remote-demo"],
        cwd=repo.root,
        env=environment({"TERM": "xterm", "NO_COLOR": "1"}),
        stdin=screen.stream,
        stdout=screen.stream,
        stderr=screen.stream,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as command:
        wait_until(lambda: "✓done".encode() in screen.received, "the run to be shown")
        screen.hang_up()
        assert command.wait(10) == 129
    screen.drop()
    assert underway.canceled == []


@pytest.mark.parametrize(
    ("options", "signals"),
    [
        ((), [signal.SIGINT, signal.SIGINT]),
        ((), [signal.SIGTERM]),
        (("--detach",), [signal.SIGINT]),
        (("--detach",), [signal.SIGTERM]),
    ],
)
def test_who_leaves_before_the_orchestrator_has_answered_is_told_the_id_of_what_it_may_have_accepted(
    repo: Repo,
    orchestrator: Orchestrator,
    underway: Underway,
    start_swamp: StartSwamp,
    options: tuple[str, ...],
    signals: list[signal.Signals],
) -> None:
    underway.accepting.clear()
    process = start_swamp("workflow", "run", "remote-demo", *options, cwd=repo.root)
    wait_until(lambda: ("POST", "/api/runs") in [asked[:2] for asked in orchestrator.asked], "the run to be asked for")
    *first, last = signals
    for number in first:
        process.signal(number)
        process.wait_for_line(CANCELING)
    process.signal(last)
    assert process.wait_for_end() == 128 + signals[-1]
    body = orchestrator.asked[-1][2]
    assert isinstance(body, dict)
    assert process.lines[-3:] == [
        f"Error: left before the orchestrator had answered; it may have accepted run {body['run']}",
        f"  look for it with: swamp workflow logs {body['run']}",
        f"  cancel it with: swamp workflow cancel {body['run']}",
    ]
    assert underway.canceled == []


def in_pipe(reading: int) -> int:
    """How many bytes wait in it."""
    (waiting,) = struct.unpack("i", fcntl.ioctl(reading, termios.FIONREAD, bytes(4)))
    return int(waiting)


@pytest.fixture
def stuck(repo: Repo, underway: Underway) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command whose reader does not go on reading, as a pager behind its first page, which takes Ctrl-C for its own;
    and the reader's end of the pipe."""
    underway.story.events += [{"kind": "something-else", "text": "x" * 1000} for _ in range(1000)]
    reading, writing = os.pipe()
    with subprocess.Popen(
        [SWAMP, "workflow", "run", "remote-demo", "--json"], cwd=repo.root, env=environment(), stdout=writing
    ) as command:
        os.close(writing)
        try:
            # Each line is written whole, so that some room is left on each of the 16 pages of the pipe.
            wait_until(lambda: in_pipe(reading) > 40_000, "the pipe to be full")
            yield command, reading
        finally:
            command.kill()


def test_ctrl_c_cancels_a_run_whose_reader_has_stopped_to_read(
    underway: Underway, stuck: tuple[subprocess.Popen[bytes], int]
) -> None:
    command, reading = stuck
    command.send_signal(signal.SIGINT)
    wait_until(lambda: underway.canceled, "the orchestrator to be asked")
    os.close(reading)
    assert command.wait(10) == 141
    assert len(underway.canceled) == 1


def test_a_command_that_cannot_write_any_more_ends_all_the_same(
    underway: Underway, stuck: tuple[subprocess.Popen[bytes], int]
) -> None:
    command, reading = stuck

    def ended() -> bool:
        command.send_signal(signal.SIGINT)
        return command.poll() is not None

    wait_until(ended, "it to end")
    os.close(reading)
    assert command.returncode == 130
    assert len(underway.canceled) == 1


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
