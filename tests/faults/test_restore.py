"""A repository that was restored from a backup meets workers, and a Redis, that know more than it does.

What it had acknowledged since the backup is gone with its disk: those steps follow their `onWorkerLost`, others go on.
"""

from __future__ import annotations

import shutil
from collections import Counter
from functools import partial
from typing import Any

import pytest

from tests.e2e.stage import Stage, step, until
from tests.faults.scene import SOON
from tests.faults.servers import Server
from tests.waiting import wait_until

STEPS = 6


@pytest.mark.parametrize(("lost", "embedded"), [("retry", False), ("fail", False), ("fail", True)])
def test_restored_under_workers_that_went_on_it_starts_nothing_twice_that_may_not(
    stage: Stage, lost: str, embedded: bool
):
    """`embedded`: what Redis held is part of the backup."""
    starts = stage.scratch / "starts"
    rules: dict[str, Any] = {"onWorkerLost": lost, "lostTimeout": 1}
    for number in range(STEPS):
        stage.model(f"m{number}", f"echo {number} >> {starts}; {until(stage.scratch / f'go{number}')}")
    stage.workflow("many", *({**step(f"s{number}", f"m{number}", "node"), **rules} for number in range(STEPS)))
    token = stage.token()
    with Server(stage.scratch / "redis") as server:
        uses = () if embedded else ("--redis-url", server.url)
        orchestrator = stage.serve(*uses)
        worker = stage.worker(token, "cache", "--concurrency", "1")
        run = stage.json("workflow", "run", "many", "--detach")["run"]

        def let_end(number: int) -> None:
            wait_until(lambda: starts.exists() and str(number) in starts.read_text().split(), f"{number} to begin")
            (stage.scratch / f"go{number}").touch()
            worker.wait_for_line(f"step build/s{number}: result returned", SOON)

        let_end(0)
        wait_until(partial(succeeded, stage, run, "s0"), "the first step to end")
        assert orchestrator.stop() == 0
        backup = stage.scratch / "backup"
        shutil.copytree(stage.root / ".swamp", backup, symlinks=True)

        orchestrator = stage.serve(*uses)
        for number in (1, 2):
            let_end(number)
            wait_until(partial(succeeded, stage, run, f"s{number}"), "it to end")
        wait_until(lambda: "3" in starts.read_text().split(), "the next one to begin")
        orchestrator.kill()
        shutil.rmtree(stage.root / ".swamp")
        shutil.copytree(backup, stage.root / ".swamp", symlinks=True)

        orchestrator = stage.serve(*uses)
        for number in range(STEPS):
            (stage.scratch / f"go{number}").touch()
        wait_until(lambda: stage.history()[0]["status"] not in ("pending", "running"), "the run to end", SOON)

        counted = Counter(starts.read_text().split())
        ended = {step["name"]: step["status"] for step in steps_of(stage, run)}
        errors = {step["error"] for step in steps_of(stage, run) if step["error"]}
        if lost == "retry":
            assert set(ended.values()) == {"succeeded"}
            assert counted == {"0": 1, "1": 2, "2": 2, "3": 1, "4": 1, "5": 1}
        else:
            assert [name for name, status in ended.items() if status != "succeeded"] == ["s1", "s2"]
            assert set(counted.values()) == {1}
            assert all("worker 'node'" in error for error in errors)
        orchestrator.wait_for_line("has delivered more than this repository holds; was it restored from a backup?")
        assert worker.output.count("joined again") <= 3, "it is asked for nothing that it cannot give"
        assert worker.stop() == 0
        assert orchestrator.stop() == 0


def steps_of(stage: Stage, run: str) -> list[Any]:
    return list(stage.json("workflow", "history", "get", run)["jobs"][0]["steps"])


def succeeded(stage: Stage, run: str, name: str) -> bool:
    return any(step["name"] == name and step["status"] == "succeeded" for step in steps_of(stage, run))
