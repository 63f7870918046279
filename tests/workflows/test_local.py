"""Runs that a command drives itself, with real processes: how they end, and what is left when they are ended."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import resource
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from swamp.data import journal
from swamp.data.store import Store
from swamp.data.versions import list_versions
from swamp.errors import Interrupted, Unreachable
from swamp.models.invocation import Invocation
from swamp.repo import Repo
from swamp.workflows.beside import LocalFinished, LocalOutput, LocalSteps
from swamp.workflows.engine import Start
from swamp.workflows.events import Event
from swamp.workflows.local import end_abandoned_runs, run_method, run_workflow
from tests.conftest import StartSwamp
from tests.processes import run_swamp
from tests.waiting import wait_until

MODEL = """\
type: command/shell
id: {id}
name: {name}
version: 1
tags: {{team: blue}}
methods:
  execute:
    arguments:
      run: '{run}'
"""

STEP = """\
      - name: {name}
        {more}
        task: {{type: model_method, modelIdOrName: {name}, methodName: execute}}
"""


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a step's process group has to do")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path)
    repo.marker.write_text("repoId: 33333333-3333-4333-8333-333333333333\n")
    repo.state.mkdir(mode=0o700)
    (repo.models / "command/shell").mkdir(parents=True)
    repo.workflows.mkdir()
    return repo


def flow(repo: Repo, **steps: str) -> str:
    """Write a workflow whose steps run these commands; those after the first wait for the one before. Its name."""
    parts, before = [], ""
    for name, run in steps.items():
        model = MODEL.format(id=uuid.uuid5(uuid.NAMESPACE_DNS, name), name=name, run=run.replace("'", "''"))
        (repo.models / f"command/shell/{name}.yaml").write_text(model)
        more = f"dependsOn: [{{step: {before}, condition: succeeded}}]" if before else "description: first"
        parts.append(STEP.format(name=name, more=more))
        before = name
    head = "id: 22222222-2222-4222-8222-222222222222\nname: flow\ntags: {team: red}\njobs:\n  - name: job\n    steps:\n"
    (repo.workflows / "flow.yaml").write_text(head + "".join(parts))
    return "flow"


def run(
    repo: Repo,
    name: str,
    listener: Callable[[Event], None] = lambda event: None,
    timeout: timedelta | None = None,
) -> str:
    return run_workflow(repo, name, listener, os.environ, timeout)


@pytest.fixture
def opened(repo: Repo) -> Iterator[Callable[[], Store]]:
    """Open the repository's database, as another command would."""
    stores: list[Store] = []

    def open_one() -> Store:
        stores.append(Store.open(repo.database, repo.blobs, create=True))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def runs(store: Store) -> list[tuple[str, list[str]]]:
    """(status, status of each step) of every run, newest first."""
    with store.read() as tx:
        found = journal.search_runs(tx, None, 100)
        return [(row.status, [step.status for step in journal.load_steps(tx, row.id)]) for row in found]


def on(kind: str, action: Callable[[], None], times: int = 1) -> Callable[[Event], None]:
    """A listener that does `action` at the first events of this kind."""
    left = [times]

    def listen(event: Event) -> None:
        if event["kind"] == kind and left[0]:
            left[0] -= 1
            action()

    return listen


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(repo: Repo, name: str, listener: Callable[[Event], None]) -> str:
    """Run it; the message of the `Interrupted` that came of it. `KeyboardInterrupt` fails the test, not pytest."""
    with pytest.raises((Interrupted, KeyboardInterrupt)) as caught:
        run(repo, name, listener)
    assert isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "as it was before"
    return caught.value.message


# ---------------------------------------------------------------------- what a run leaves


def test_every_event_is_on_the_disk_before_it_is_heard(repo: Repo, opened: Callable[[], Store]) -> None:
    store = opened()
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        with store.read() as tx:
            assert event in list(journal.read_events(tx, str(event["run"])))

    assert run(repo, flow(repo, one="echo 1", two="echo 2"), listen) == "succeeded"
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert heard[-1]["kind"] == "run-finished"


def test_what_a_workflow_produces_has_its_tags_and_what_a_method_run_produces_only_the_models(
    repo: Repo, opened: Callable[[], Store]
) -> None:
    run(repo, flow(repo, one="echo 1"))
    assert run_method(repo, "one", "execute", {}, lambda event: None, os.environ) == "succeeded"
    with opened().read() as tx:
        assert [version.tags for version in sorted(list_versions(tx, "one", "log"), key=lambda v: v.version)] == [
            {"team": "red"},
            {"team": "blue"},
        ]


def test_a_workflow_with_a_target_starts_nothing_here(repo: Repo) -> None:
    name = flow(repo, one="touch ran")
    path = repo.workflows / "flow.yaml"
    path.write_text(path.read_text().replace("description: first", "target: build-node"))
    with pytest.raises(Unreachable, match="'build-node'"):
        run(repo, name)
    assert not (repo.root / "ran").exists()
    assert not repo.database.exists()


def test_a_run_needs_no_main_thread(repo: Repo) -> None:
    """Which is the only one that could hear Ctrl-C."""
    name, ends = flow(repo, one="echo 1"), queue.SimpleQueue[str]()
    threading.Thread(target=lambda: ends.put(run(repo, name))).start()
    assert ends.get(timeout=10) == "succeeded"


# ---------------------------------------------------------------------- Ctrl-C

GENTLE = "trap 'sleep 0.2; echo cleaned > cleaned; exit 3' TERM; echo up; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.05; done"


@pytest.mark.parametrize("moment", ["run-accepted", "step-started", "step-output"])
def test_ctrl_c_lets_steps_clean_up_also_when_it_comes_while_something_is_shown(
    repo: Repo, opened: Callable[[], Store], moment: str
) -> None:
    message = interrupted(repo, flow(repo, one=GENTLE, two="touch never"), on(moment, press_ctrl_c))
    assert message == "the run was interrupted: canceled"
    assert runs(opened()) == [("canceled", ["canceled", "canceled"])]
    assert not (repo.root / "never").exists()
    if moment == "step-output":  # else the shell may not have set its trap yet
        assert (repo.root / "cleaned").read_text() == "cleaned\n"


def test_ctrl_c_pressed_twice_ends_deaf_steps_at_once(repo: Repo, opened: Callable[[], Store]) -> None:
    def twice() -> None:
        press_ctrl_c()
        press_ctrl_c()

    message = interrupted(repo, flow(repo, one=DEAF), on("step-output", twice))
    assert message == "the run was interrupted: canceled"
    assert runs(opened()) == [("canceled", ["canceled"])]


def test_ctrl_c_pressed_a_third_time_interrupts_and_leaves_no_step_behind(
    repo: Repo, opened: Callable[[], Store]
) -> None:
    def thrice() -> None:
        for _ in range(3):
            press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        run(repo, flow(repo, one="echo $$ > pid; " + DEAF), on("step-output", thrice))
    assert not alive(repo)
    run(repo, flow(repo, one="echo 1"))
    assert runs(opened()) == [("succeeded", ["succeeded"]), ("failed", ["failed"])]


def test_a_run_that_succeeds_all_the_same_is_not_called_interrupted(repo: Repo) -> None:
    assert run(repo, flow(repo, one="echo 1"), on("run-finished", press_ctrl_c)) == "succeeded"


def test_a_person_who_presses_ctrl_c_is_told_how_it_ended(repo: Repo, start_swamp: StartSwamp) -> None:
    process = start_swamp("workflow", "run", flow(repo, one="touch up; sleep 60"), cwd=repo.root)
    wait_until((repo.root / "up").exists, "the step to be up")
    process.press_ctrl_c()
    assert process.wait_for_end() == 130
    assert "was interrupted: canceled" in process.output
    assert "Traceback" not in process.output


# ---------------------------------------------------------------------- what tries to get away

#: Writes its number, and gets away from its step's group, its session and its parent.
RUNAWAY = 'setsid sh -c "echo \\$\\$ > pid; exec sleep 60" >/dev/null 2>&1 & until test -s pid; do sleep 0.02; done; '


@on_linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_asked_to_end_ends_also_what_got_away_from_its_steps(
    repo: Repo, start_swamp: StartSwamp, opened: Callable[[], Store], number: signal.Signals
) -> None:
    process = start_swamp("workflow", "run", flow(repo, one=RUNAWAY + "touch up; sleep 60"), cwd=repo.root)
    wait_until((repo.root / "up").exists, "the step to be up")
    process.signal(number)
    assert process.wait_for_end() == 130
    assert "was interrupted: canceled" in process.output
    assert not alive(repo)
    assert runs(opened()) == [("canceled", ["canceled"])]


@on_linux
def test_a_run_that_is_killed_leaves_nothing_running(repo: Repo, start_swamp: StartSwamp) -> None:
    process = start_swamp("workflow", "run", flow(repo, one=RUNAWAY + "touch up; sleep 60"), cwd=repo.root)
    wait_until((repo.root / "up").exists, "the step to be up")
    process.kill()
    wait_until(lambda: not alive(repo), "what got away from the step to end")


@on_linux
def test_the_time_limit_of_a_run_ends_also_what_got_away_from_its_steps(repo: Repo) -> None:
    assert run(repo, flow(repo, one=RUNAWAY + "sleep 60"), timeout=timedelta(seconds=1)) == "canceled"
    assert not alive(repo)


def test_what_a_step_started_in_the_background_outlives_a_run_that_was_not_broken_off(repo: Repo) -> None:
    assert run(repo, flow(repo, one=RUNAWAY + "echo 1")) == "succeeded"
    assert alive(repo), "a service that a step starts stays"
    os.kill(int((repo.root / "pid").read_text()), signal.SIGKILL)


# ---------------------------------------------------------------------- what breaks off a run


def alive(repo: Repo) -> bool:
    """Whether the process that wrote its number into `pid` lives."""
    try:
        os.kill(int((repo.root / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_an_error_while_a_run_is_shown_leaves_no_step_behind(repo: Repo) -> None:
    def close_the_pipe() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(repo, flow(repo, one="echo $$ > pid; " + DEAF), on("step-output", close_the_pipe))
    assert not alive(repo)


def test_a_run_whose_command_was_killed_is_ended_by_the_next_command(
    repo: Repo, start_swamp: StartSwamp, opened: Callable[[], Store]
) -> None:
    process = start_swamp("workflow", "run", flow(repo, one="echo $$ > pid; echo up; sleep 60", two=":"), cwd=repo.root)
    wait_until(lambda: (repo.root / "pid").exists() and (repo.root / "pid").read_text(), "the step to run")
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.wait_for_end()
        store = opened()
        assert runs(store) == [("running", ["running", "pending"])]
        assert run(repo, flow(repo, one=":")) == "succeeded"
        assert runs(store) == [("succeeded", ["succeeded"]), ("failed", ["failed", "canceled"])]
        with store.read() as tx:
            killed = journal.search_runs(tx, None, 2)[1]
            events = list(journal.read_events(tx, killed.id))
        assert killed.error == "job/one: the command that ran it was killed"
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["kind"] == "run-finished"
        assert not list((repo.state / "runs").iterdir()), "no lock file stays"
    finally:
        with suppress(ProcessLookupError):  # on Linux it has ended with the command
            os.killpg(int((repo.root / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("look", [["history", "search"], ["history", "get", "flow"]])
def test_who_looks_at_a_run_whose_command_was_killed_sees_that_it_failed(
    repo: Repo, start_swamp: StartSwamp, look: list[str]
) -> None:
    def seen() -> dict[str, Any]:
        document = json.loads(run_swamp("workflow", *look, "--json", cwd=repo.root).stdout)
        return dict(document[0] if isinstance(document, list) else document)

    process = start_swamp("workflow", "run", flow(repo, one="echo $$ > pid; sleep 60"), cwd=repo.root)
    wait_until(lambda: (repo.root / "pid").exists() and (repo.root / "pid").read_text(), "the step to run")
    try:
        assert seen()["status"] == "running"
        os.kill(process.pid, signal.SIGKILL)
        process.wait_for_end()
        killed = seen()
        assert (killed["status"], killed["error"]) == ("failed", "job/one: the command that ran it was killed")
        assert killed["endedAt"]
        if "jobs" in killed:
            assert killed["jobs"][0]["steps"][0]["status"] == "failed"
    finally:
        with suppress(ProcessLookupError):  # on Linux it has ended with the command
            os.killpg(int((repo.root / "pid").read_text()), signal.SIGKILL)


def test_two_that_look_at_a_run_do_not_take_each_other_for_who_drives_it(
    repo: Repo, start_swamp: StartSwamp, opened: Callable[[], Store]
) -> None:
    process = start_swamp("workflow", "run", flow(repo, one="echo $$ > pid; sleep 60"), cwd=repo.root)
    wait_until(lambda: (repo.root / "pid").exists() and (repo.root / "pid").read_text(), "the step to run")
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.wait_for_end()
        (lock,) = (repo.state / "runs").iterdir()
        with lock.open() as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            end_abandoned_runs(repo, opened())
        assert runs(opened()) == [("failed", ["failed"])]
    finally:
        with suppress(ProcessLookupError):  # on Linux it has ended with the command
            os.killpg(int((repo.root / "pid").read_text()), signal.SIGKILL)


def test_a_run_that_another_command_drives_is_left_alone(
    repo: Repo, start_swamp: StartSwamp, opened: Callable[[], Store]
) -> None:
    name = flow(repo, one="touch up; while [ ! -e go ]; do sleep 0.02; done")
    process = start_swamp("workflow", "run", name, cwd=repo.root)
    wait_until((repo.root / "up").exists, "the step to be up")
    assert run_swamp("model", "method", "run", "one", "execute", "--input", "run=echo 2", cwd=repo.root).code == 0
    assert runs(opened()) == [("running", ["running"])]
    (repo.root / "go").touch()
    assert process.wait_for_end() == 0
    assert runs(opened()) == [("succeeded", ["succeeded"])]


def test_many_commands_at_once_give_every_version_its_own_number(repo: Repo, start_swamp: StartSwamp) -> None:
    name = flow(repo, one="echo 1", two="echo 2")
    commands = [start_swamp("workflow", "run", name, cwd=repo.root) for _ in range(4)]
    assert [command.wait_for_end() for command in commands] == [0] * 4
    store = Store.open(repo.database, repo.blobs, create=False)
    with store.read() as tx:
        assert sorted(version.version for version in list_versions(tx, "two", "result")) == [1, 2, 3, 4]
    assert runs(store) == [("succeeded", ["succeeded", "succeeded"])] * 4
    store.close()


# ---------------------------------------------------------------------- steps beside the engine


@pytest.fixture
def few_files() -> Iterator[None]:
    """As many open files as some systems allow by themselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def no_secrets(vault: str, key: str) -> str:
    raise AssertionError(f"{vault}/{key} was asked for")


def start(position: int, command: str) -> Start:
    call = Invocation("id", "echo", "command/shell", "execute", {"run": command})
    return Start("run-1", position, "job", f"step-{position}", "", call)


def test_a_wide_fan_out_stays_within_the_limit_of_open_files(tmp_path: Path, few_files: None) -> None:
    told: queue.SimpleQueue[LocalOutput | LocalFinished] = queue.SimpleQueue()
    steps = LocalSteps(tmp_path, os.environ, told.put, no_secrets)
    for position in range(80):
        steps.start(start(position, "sleep 0.1"))
    ends = [told.get(timeout=20) for _ in range(80)]
    assert {end.outcome.status for end in ends if isinstance(end, LocalFinished)} == {"succeeded"}


def test_a_step_that_cannot_be_started_fails_and_says_why(tmp_path: Path) -> None:
    told: queue.SimpleQueue[LocalOutput | LocalFinished] = queue.SimpleQueue()
    steps = LocalSteps(tmp_path, os.environ, told.put, no_secrets)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        steps.start(start(0, "echo 1"))
        end = told.get(timeout=5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert isinstance(end, LocalFinished)
    assert (end.outcome.status, steps.idle) == ("failed", True)
    assert end.outcome.error == "The command cannot be started: Too many open files"


def test_steps_that_wait_and_steps_that_run_are_canceled_alike(tmp_path: Path, few_files: None) -> None:
    told: queue.SimpleQueue[LocalOutput | LocalFinished] = queue.SimpleQueue()
    steps = LocalSteps(tmp_path, os.environ, told.put, no_secrets)
    for position in range(40):  # more than may run at once here
        steps.start(start(position, "sleep 60"))
    steps.cancel_all("enough", 1.0)
    ends = [told.get(timeout=20) for _ in range(40)]
    assert sorted(end.position for end in ends) == list(range(40))
    assert {(end.outcome.status, end.outcome.error) for end in ends if isinstance(end, LocalFinished)} == {
        ("canceled", "enough")
    }
    assert steps.idle
