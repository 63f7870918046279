"""A Redis that lost or took back what it had (G3, G6, the reset protocol): a step that must not run twice starts once,
and every run comes to its end. On one machine, and on a fleet."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from tests.e2e.stage import Stage, step, until
from tests.faults.scene import SOON
from tests.faults.servers import Server, Watched
from tests.processes import RunningSwamp
from tests.waiting import wait_until

NAMES = [f"s{number}" for number in range(8)]


class Play:
    """Steps that must not run twice: they are queued, then some begin and one ends, and only then comes the reset. What
    Redis held when they were all queued is thus a past in which none of them had begun."""

    def __init__(self, stage: Stage, machines: int, server: Server, url: str = "") -> None:
        self.stage = stage
        self._server = server
        self.machines = machines
        create = ("worker", "token", "create", "node", "--duration", "1h", "--max-enrollments", str(machines))
        self._token = str(stage.json(*create)["token"])
        self.starts, self.go = stage.scratch / "starts", stage.scratch / "go"
        for name in NAMES:
            waits = "true" if name == "s0" else until(self.go)
            stage.model(name, f"echo {name} >> {self.starts}; {waits}")
        stage.model("after", f"echo after >> {self.starts}")
        stage.workflow("many", *(step(name, name, "node") for name in NAMES))
        stage.workflow("after", step("after", "after", "node"))
        self.orchestrator = stage.serve("--redis-url", url or server.url)
        self._runs = [stage.start_run("many")]
        self.orchestrator.wait_for_line("step build/s7 dispatched")
        self._workers: list[RunningSwamp] = []

    def work(self) -> None:
        """The first steps begin, and one ends; another run is queued behind them."""
        for number in range(self.machines):
            self._workers.append(self.stage.worker(self._token, f"cache-{number}", "--concurrency", "2"))
        begun = 1 + 2 * self.machines  # one has ended, and every slot has one that does not
        wait_until(lambda: len(self.started()) == begun, "steps to begin in every slot", SOON)
        self._runs.append(self.stage.start_run("after"))
        wait_until(self._all_are_in_redis, "the last step to be queued behind the others", SOON)

    def _all_are_in_redis(self) -> bool:
        """Not from the log: of many lines in one second it leaves some out."""
        run = "SELECT id FROM runs WHERE workflow_name = 'after'"
        rows = self.stage.rows(f"SELECT id FROM dispatches WHERE run_id = ({run})")
        with closing(self._server.client()) as client:
            return len(rows) == 1 and bool(client.exists(f"rq:job:{rows[0][0]}"))

    def started(self) -> list[str]:
        return self.starts.read_text().split() if self.starts.exists() else []

    def all_is_well(self) -> None:
        for worker in self._workers:
            worker.wait_for_line("joined again", SOON)
        self.go.touch()
        for run in self._runs:
            assert run.wait_for_end(SOON) == 0, run.output
        assert Counter(self.started()) == Counter([*NAMES, "after"])
        results = self.stage.rows(
            "SELECT model_name, count(*) FROM data WHERE spec_name = 'result' GROUP BY model_name"
        )
        assert dict(results) == dict.fromkeys([*NAMES, "after"], 1)
        assert self.stage.rows("SELECT id FROM dispatches WHERE state NOT IN ('finished', 'superseded')") == []
        for process in (self.orchestrator, *self._workers):
            assert process.running, process.output
            assert "Traceback" not in process.output, process.output


@pytest.fixture
def server(stage: Stage) -> Iterator[Server]:
    with Server(stage.scratch / "redis") as server:
        yield server


alone_and_in_a_fleet = pytest.mark.parametrize("machines", [1, 2])
#: Alone only in `make faults`: what keeps a step from a second start on one machine is tried by the older copy too.
in_a_fleet = pytest.mark.parametrize("machines", [1, 2] if "FAULTS_OUTAGE" in os.environ else [2])


@in_a_fleet
def test_emptied_behind_connections_that_hold(stage: Stage, server: Server, machines: int):
    play = Play(stage, machines, server)
    play.work()
    with closing(server.client()) as client:
        client.flushall()
    play.all_is_well()


@alone_and_in_a_fleet
def test_replaced_by_an_older_copy(stage: Stage, server: Server, machines: int, tmp_path: Path):
    play = Play(stage, machines, server)
    shutil.copytree(server.directory, tmp_path / "copy")  # every write is on its disk before it is answered
    play.work()
    server.kill()
    shutil.rmtree(server.directory)
    shutil.copytree(tmp_path / "copy", server.directory)
    server.start()
    with closing(server.client()) as client:
        assert client.exists("swamp:repo"), "the copy must have been loaded"
    play.all_is_well()


@in_a_fleet
def test_taken_back_to_a_past_behind_connections_that_hold(stage: Stage, server: Server, machines: int):
    """As a tool does it that restores keys: the server, its users and its connections stay."""
    play = Play(stage, machines, server)
    with closing(server.client()) as client:
        marker = client.hget("swamp:repo", "marker")
        past = {key: cast("bytes", client.dump(key)) for key in client.keys("*")}
        wait_until(lambda: client.hget("swamp:repo", "marker") != marker, "the past to be another time")
        play.work()
        together = client.pipeline(transaction=True)
        together.flushall()
        for key, value in past.items():
            together.restore(key, 0, value)
        together.execute()
    play.orchestrator.wait_for_line("emptied or replaced", SOON)
    play.all_is_well()


@in_a_fleet
def test_failed_over_to_a_replica_that_lagged_behind(stage: Stage, machines: int):
    with Watched(stage.scratch / "redis") as watched:
        play = Play(stage, machines, watched.master, watched.url)
        wait_until(watched.in_step, "the replica to have the queue")
        watched.keep_the_replica_behind()
        play.work()
        watched.master.kill()
        wait_until(watched.promoted, "the Sentinels to promote the replica", timeout=SOON)
        play.all_is_well()
