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
from pathlib import Path

import pytest

from tests.compose import images
from tests.compose.capability import missing_capability
from tests.compose.engine import Engine, install_packages, remove_leftovers, remove_namespace
from tests.compose.stack import PROJECT, ROOT, Stack
from tests.compose.traces import traces_of
from tests.waiting import wait_until

DIRECTORY = "swamp-compose-"
STEPS = 300
FIRST_WORKER, SECOND_WORKER = f"{PROJECT}-worker-1", f"{PROJECT}-worker-2"
SLOTS = len(os.sched_getaffinity(0))
PATIENCE = 240.0


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
    assert status(stack, run) == "succeeded"
    steps: list[dict[str, str]] = stack.json("workflow", "history", "get", run)["jobs"][0]["steps"]
    assert {step["status"] for step in steps} == {"succeeded"}
    return steps


def status(stack: Stack, run: str) -> str:
    return str(stack.json("workflow", "history", "get", run)["status"])


def test_from_nothing_the_stack_comes_up_and_performs_the_tutorial(stack):
    stack.up()
    stack.swamp("model", "create", "command/shell", "remote-echo", "--arg", 'execute.run=echo "executed on a worker"')
    stack.swamp(
        "workflow", "create", "remote-demo", "--file", "-", input=(ROOT / "examples/remote-demo.yaml").read_bytes()
    )
    shown = stack.swamp("workflow", "run", "remote-demo")
    assert "executed on a worker" in shown
    assert "# remote-demo: succeeded" in shown
    (token,) = stack.json("worker", "token", "list")
    assert token["name"] == "build-node"


def test_the_tools_see_it_with_a_user_that_may_only_read(stack):
    assert "build-node" in stack.get(9181, "/0/data/queues.json")
    assert 'rq_jobs{queue="build-node",status="finished"} 1.0' in stack.get(9726, "/metrics")


def test_nothing_runs_as_root_or_on_a_file_system_that_it_may_write(stack):
    for container in stack.compose("ps", "--all", "--quiet").split():
        told = stack.state(container)
        assert told["Config"]["User"] in ("10001:10001", "999:999"), told["Name"]
        assert told["HostConfig"]["ReadonlyRootfs"], told["Name"]


def test_scaled_to_three_each_replica_has_an_identity_of_its_own(stack):
    before = stack.connected()
    stack.up(workers=3)
    wait_until(lambda: len(stack.connected()) == 3, "three workers", PATIENCE)
    assert before < stack.connected()


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
    run = work(stack, "once", STEPS, 1, "fail")
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


def test_stopped_under_load_and_started_again_it_finds_everything(stack):
    names = stack.connected()
    run = work(stack, "again", 60, 1, "fail")
    wait_until(lambda: noted(stack, "again", "end") >= 6, "the first steps to end", PATIENCE)
    stack.compose("down")
    stack.up(workers=3)
    wait_until(lambda: stack.connected() == names, "the same machines to be back", PATIENCE)
    assert len(end_of(stack, run)) == 60
    assert noted(stack, "again", "start") == noted(stack, "again", "end") == 60
    found = stack.json("data", "query", 'modelName == "remote-echo" && specName == "result"')["results"]
    assert [result["attributes"]["stdout"] for result in found] == ["executed on a worker"]
    assert len(stack.json("worker", "token", "list")) == 1


def test_nothing_stays_behind(stack):
    stack.compose("down", "--volumes")
    assert stack.engine.docker("ps", "--all", "--quiet") == ""
    assert stack.engine.docker("volume", "ls", "--quiet") == ""
