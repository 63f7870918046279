"""The whole of docker-compose.yml at work, from nothing to nothing: `make compose-test`.

One story, told in order: each part stands on what the ones before have left. It is no part of `make tests`: it wants
root, and minutes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from swamp.clock import from_iso
from tests.compose import images
from tests.compose.capability import missing_capability
from tests.compose.engine import Engine, install_packages, remove_leftovers, remove_namespace
from tests.compose.shown import all_shown, shown
from tests.compose.stack import PROJECT, Stack
from tests.compose.traces import traces_of
from tests.waiting import wait_until

DIRECTORY = "swamp-compose-"
STEPS = 300
FIRST_WORKER, SECOND_WORKER = f"{PROJECT}-worker-1", f"{PROJECT}-worker-2"
SLOTS = len(os.sched_getaffinity(0))
PATIENCE = 240.0
TOKEN_SECONDS = 40
IMAGE = "swamp:local"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    lacking = missing_capability()
    if lacking is not None:
        pytest.skip(f"compose-test was SKIPPED: {lacking}")
    alone = os.open(tempfile.gettempdir(), os.O_RDONLY)
    fcntl.flock(alone, fcntl.LOCK_EX)  # the namespace has one name; and so, whatever is found was left behind
    remove_leftovers(DIRECTORY)
    install_packages()
    directory = Path(tempfile.mkdtemp(prefix=DIRECTORY))
    before = traces_of(directory) - {str(directory)}
    engine = Engine(directory)
    try:
        engine.install_compose(sys.executable)
        engine.start_for_building()
        images.make(engine)
        built = Stack(engine)
        built.build()
        engine.stop()
        engine.start_in_namespace()
        yield built
    finally:
        engine.stop()
        remove_namespace()
        shutil.rmtree(directory)
        os.close(alone)
    assert traces_of(directory) - before == set()


def work(stack: Stack, name: str, count: int, seconds: float, lost: str) -> str:
    """Begin a run of that many steps on the fleet, each of which notes its start and its end in the workers' volume."""
    notes = f"echo start >> /cache/{name}.ran; sleep {seconds}; echo end >> /cache/{name}.ran"
    stack.swamp("model", "create", "command/shell", name, "--arg", f"execute.run={notes}")
    task = {"type": "model_method", "modelIdOrName": name, "methodName": "execute"}
    rules = {"target": "build-node", "onWorkerLost": lost, "lostTimeout": 300}
    steps = [{"name": f"{name}-{number}", **rules, "task": task} for number in range(count)]
    text = json.dumps({"name": name, "jobs": [{"name": "all", "steps": steps}]})
    stack.swamp("workflow", "create", name, "--file", "-", input=text.encode())
    return str(stack.json("workflow", "run", name, "--detach")["run"])


def noted(stack: Stack, name: str, word: str) -> int:
    notes = stack.engine.docker("exec", SECOND_WORKER, "sh", "-c", f"cat /cache/{name}.ran 2>/dev/null || :")
    return notes.split().count(word)


def end_of(stack: Stack, run: str) -> list[dict[str, str]]:
    """The steps of the run, which has succeeded."""
    wait_until(lambda: status(stack, run) not in ("pending", "running"), "the run to end", PATIENCE)
    ended = stack.json("workflow", "history", "get", run)
    assert ended["status"] == "succeeded", ended["error"]
    steps: list[dict[str, str]] = ended["jobs"][0]["steps"]
    assert {step["status"] for step in steps} == {"succeeded"}
    return steps


def status(stack: Stack, run: str) -> str:
    return str(stack.json("workflow", "history", "get", run)["status"])


OPERATIONS = "docs/operations.md"


def test_from_nothing_the_stack_comes_up_and_performs_the_tutorial(stack):
    assert shown("README.md", "In containers")[0][:2] == shown(OPERATIONS, "Deploy")[0]
    stack.type(OPERATIONS, "Deploy", only="up")
    wait_until(stack.connected, "the worker to join", PATIENCE)
    (workers,) = stack.type(OPERATIONS, "Deploy", only="worker list")
    assert "build-node" in workers
    *_, run = stack.type(OPERATIONS, "Deploy", 1)
    assert "executed on a worker" in run
    assert "# remote-demo: succeeded" in run
    (token,) = stack.json("worker", "token", "list")
    assert token["name"] == "build-node"


def test_the_tools_see_it_with_a_user_that_may_only_read(stack):
    assert "build-node" in stack.get(9181, "/0/data/queues.json")
    finished = 'rq_jobs{queue="build-node",status="finished"} 1.0'
    wait_until(lambda: finished in stack.get(9726, "/metrics"), "the tutorial's job to be shown", PATIENCE)


def test_nothing_runs_as_root_or_on_a_file_system_that_it_may_write(stack):
    for container in stack.compose("ps", "--all", "--quiet").split():
        told = stack.state(container)
        assert told["Config"]["User"] in ("10001:10001", "999:999"), told["Name"]
        assert told["HostConfig"]["ReadonlyRootfs"], told["Name"]


def test_scaled_to_three_each_replica_has_an_identity_of_its_own(stack):
    before = stack.connected()
    stack.type("README.md", "In containers", only="--scale worker=3")
    wait_until(lambda: len(stack.connected()) == 3, "three workers", PATIENCE)
    assert before < stack.connected()


def test_it_can_be_watched_from_its_host_and_by_prometheus_in_another_container(stack):
    everybody, _, verified, printed = stack.type(OPERATIONS, "Watch")
    assert all(name in everybody and name in verified for name in stack.connected())
    (token,) = [line.strip() for line in printed.splitlines() if "swamp-client." in line]
    (other,) = stack.containers("rq-exporter")
    figures = stack.fetch(other, "http://orchestrator:9090/metrics", token)
    assert figures.count('target="build-node",worker="build-node-') == 2 * 3, "up, and the age of the heartbeat"
    counted = 'swamp_steps_total{outcome="succeeded",target="build-node"} 4.0'
    assert counted in figures, "the tutorial's, and a probe of each worker"
    with pytest.raises(AssertionError, match="HTTP Error 403"):
        stack.fetch(other, "http://orchestrator:9090/metrics", token[:-1] + "x")


def test_a_drained_worker_leaves_work_to_the_others_until_it_is_resumed(stack):
    drained, *others = sorted(stack.connected())
    stack.type(OPERATIONS, "Upgrade", 1, only="drain", name=drained)
    steps = end_of(stack, work(stack, "drained", 9, 0.2, "fail"))
    assert {step["worker"] for step in steps} <= {*others}
    stack.type(OPERATIONS, "Upgrade", 1, only="resume", name=drained)
    wait_until(lambda: drained in stack.connected(), "it to be told, and to take steps again", PATIENCE)


def test_a_crashed_worker_comes_back_as_who_it_was_and_its_steps_run_elsewhere(stack):
    names = stack.connected()
    run = work(stack, "spread", STEPS, 0.3, "retry")
    wait_until(lambda: noted(stack, "spread", "end") >= 10, "the first steps to end", PATIENCE)
    stack.crash(FIRST_WORKER)
    steps = end_of(stack, run)
    assert len(steps) == STEPS
    assert {step["worker"] for step in steps} == names
    wait_until(lambda: stack.connected() == names, "all to be back, each as who it was", PATIENCE)
    # A step may have ended in the moment before its worker could say so.
    assert STEPS <= noted(stack, "spread", "end") <= STEPS + SLOTS


def test_redis_and_orchestrator_crash_and_a_worker_is_cut_off_and_every_step_runs_once(stack):
    names = stack.connected()
    run = work(stack, "once", STEPS, 0.7, "fail")
    wait_until(lambda: noted(stack, "once", "end") >= 10, "the first steps to end", PATIENCE)
    link = stack.link_of(FIRST_WORKER)
    stack.set_link(link, "down")
    stack.crash(stack.containers("redis")[0])
    wait_until(lambda: len(stack.connected()) == 2, "the one that was cut off to be missed", PATIENCE)
    stack.crash(stack.containers("orchestrator")[0])
    stack.set_link(link, "up")
    assert len(end_of(stack, run)) == STEPS
    assert noted(stack, "once", "start") == noted(stack, "once", "end") == STEPS
    wait_until(lambda: stack.connected() == names, "all to be back, each as who it was", PATIENCE)


def test_the_token_is_extended_in_its_file_before_it_expires_and_workers_read_it_again(stack):
    names = stack.connected()
    file = ("--output-file", "/run/swamp/token/build-node")
    stack.swamp("worker", "token", "rotate", "build-node", "--duration", f"{TOKEN_SECONDS}s", *file)
    first, expires = token_in_file(stack), expiry(stack)
    within = {"SWAMP_TOKEN_EXTEND_WITHIN": f"{TOKEN_SECONDS - 10}s", "SWAMP_TOKEN_CHECK_EVERY": "1s"}
    with stack.settings(**within):
        stack.up(workers=3)  # another orchestrator, whom the workers have to join: with what the file holds now
        wait_until(lambda: stack.connected() == names, "all to be back", PATIENCE)
        wait_until(lambda: expiry(stack) > expires, "the token to be extended", PATIENCE)
        assert token_in_file(stack) != first
        wait_until(lambda: now() > expires, "the time that it had at first to be over", PATIENCE)
        assert len(end_of(stack, work(stack, "extended", 9, 0.2, "fail"))) == 9
        stack.crash(FIRST_WORKER)
        wait_until(lambda: stack.connected() == names, "it to join by the file as it is now", PATIENCE)
    stack.swamp("worker", "token", "rotate", "build-node", "--duration", "90d", *file)
    stack.up(workers=3)
    wait_until(lambda: stack.connected() == names, "all to be back", PATIENCE)


def token_in_file(stack: Stack) -> str:
    (container,) = stack.containers("orchestrator")
    return stack.engine.docker("exec", container, "cat", "/run/swamp/token/build-node")


def expiry(stack: Stack) -> datetime:
    (token,) = stack.json("worker", "token", "list")
    return from_iso(token["expiresAt"])


def now() -> datetime:
    return datetime.now(UTC)


def test_a_new_image_is_taken_into_use_under_load_and_no_step_fails(stack):
    names = stack.connected()
    run = work(stack, "upgrade", STEPS, 0.7, "fail")
    wait_until(lambda: noted(stack, "upgrade", "end") >= 6, "the first steps to end", PATIENCE)
    newer = f"FROM {IMAGE}\nLABEL next=yes\n".encode()
    stack.engine.docker("build", "--quiet", "--network=none", "--tag", IMAGE, "-", input=newer)
    stack.type(OPERATIONS, "Upgrade", only="docker compose up")
    assert len(end_of(stack, run)) == STEPS
    assert noted(stack, "upgrade", "start") == noted(stack, "upgrade", "end") == STEPS
    wait_until(lambda: stack.connected() == names, "all to be back", PATIENCE)
    for container in (*stack.containers("orchestrator"), *stack.containers("worker")):
        assert stack.state(container)["Config"]["Labels"]["next"] == "yes"


def test_stopped_under_load_and_started_again_it_finds_everything(stack):
    names = stack.connected()
    run = work(stack, "again", 60, 1, "fail")
    wait_until(lambda: noted(stack, "again", "end") >= 6, "the first steps to end", PATIENCE)
    stack.compose("down")
    stack.up(workers=3)
    wait_until(lambda: stack.connected() == names, "the same machines to be back", PATIENCE)
    assert len(end_of(stack, run)) == 60
    assert noted(stack, "again", "start") == noted(stack, "again", "end") == 60
    assert first_result(stack) == ["executed on a worker"]
    assert len(stack.json("worker", "token", "list")) == 1


def first_result(stack: Stack) -> list[str]:
    found = stack.json("data", "query", 'modelName == "remote-echo" && specName == "result"')["results"]
    return [result["attributes"]["stdout"] for result in found]


def test_a_backup_that_was_taken_under_load_makes_a_swamp_that_has_everything(stack):
    run = work(stack, "backup", 60, 0.7, "retry")
    wait_until(lambda: noted(stack, "backup", "end") >= 12, "the first steps to end", PATIENCE)
    stack.type(OPERATIONS, "Back up")
    assert len(end_of(stack, run)) == 60
    assert noted(stack, "backup", "start") == noted(stack, "backup", "end") == 60, "it disturbed nothing"

    stack.compose("down", "--volumes")  # the machine burns down
    stack.type(OPERATIONS, "Back up", 1)
    assert len(end_of(stack, run)) == 60
    assert noted(stack, "backup", "end") < 60, "it goes on, and does not begin anew"
    assert first_result(stack) == ["executed on a worker"]
    wait_until(lambda: len(stack.connected()) == 3, "three workers", PATIENCE)
    statuses = {run["status"] for run in stack.json("workflow", "history", "search")}
    assert statuses == {"succeeded"}


def test_every_command_that_the_documents_show_was_typed(stack):
    assert all_shown() - stack.typed == set()


def test_nothing_stays_behind(stack):
    stack.compose("down", "--volumes")
    assert stack.engine.docker("ps", "--all", "--quiet") == ""
    assert stack.engine.docker("volume", "ls", "--quiet") == ""
