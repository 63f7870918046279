"""A worker on another machine needs one port of the orchestrator's: two machines made of network namespaces."""

# ruff: noqa: F401, F811 - a fixture
from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path

from tests.e2e.apart import Apart, apart
from tests.e2e.stage import Stage, step
from tests.waiting import wait_until

STEPS = 1_000


def fan(stage: Stage, run: str, steps: int = STEPS) -> None:
    """A workflow of that many steps."""
    stage.model("many", run)
    stage.workflow("fan", *(step(f"s{number}", "many", "node") for number in range(steps)))


def test_a_worker_on_another_machine_needs_the_one_port_and_nothing_else(apart: Apart):
    stage = apart.stage
    token = stage.token()
    apart.serve()
    redis_port = json.loads((stage.root / ".swamp/redis/embedded.json").read_text())["port"]
    assert apart.reachable(stage.port)
    assert not apart.reachable(redis_port)

    worker = apart.worker(token)
    assert "Redis by the orchestrator's port" in worker.output
    stage.task("hello", "echo executed on a worker")
    assert "│ executed on a worker\n" in stage.run("hello").stdout

    big = stage.scratch / "big"
    big.write_bytes(os.urandom(5_000_000) + b"\n")
    stage.task("big", f"base64 {big}")
    stage.run("big")
    size = stage.query('modelName == "big" && specName == "log"', "size")
    assert size[0] > 6_700_000

    count = stage.scratch / "count"
    fan(stage, f"echo x >> {count}")
    done = stage.swamp("workflow", "run", "fan", timeout=120)
    assert done.code == 0
    assert f"{STEPS} succeeded · 0 failed · 0 skipped" in done.stdout
    assert count.read_text() == "x\n" * STEPS
    assert worker.stop() == 0
    assert not re.search("lost|cannot|refused", worker.output)


def test_a_wire_that_is_pulled_and_put_in_again_loses_and_doubles_nothing(apart: Apart):
    stage = apart.stage
    token = stage.token()
    apart.serve()
    worker = apart.worker(token)
    count = stage.scratch / "count"
    fan(stage, f"echo x >> {count}")
    run = stage.start_run("fan")
    for steps in (STEPS // 10, STEPS // 3):
        wait_until(partial(_have_run, count, steps), "some steps to run", 60)
        apart.far.plug(in_=False)
        worker.wait_for_line("the connection is lost", timeout=30)
        apart.far.plug(in_=True)
        worker.wait_for_line("joined again as node .*Redis by the orchestrator's port", timeout=30)
    assert run.wait_for_end(120) == 0, run.output
    assert f"{STEPS} succeeded · 0 failed · 0 skipped" in run.output
    assert count.read_text() == "x\n" * STEPS


def _have_run(count: Path, steps: int) -> bool:
    return count.exists() and len(count.read_text()) > 2 * steps
