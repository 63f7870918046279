"""What trouble comes into: a worker with one step that runs and one that is about to end, another that is idle, and
steps that wait. And what has to hold when the trouble has passed."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.stage import Stage, step, until
from tests.faults.proxy import FaultProxy
from tests.faults.servers import PASSWORD
from tests.processes import SWAMP, RunningSwamp
from tests.waiting import wait_until

SOON = 45.0  #: seconds; everything comes right by itself long before, on a machine that is not busy
OUTAGE = float(os.environ.get("FAULTS_OUTAGE", "0"))  #: seconds that the trouble lasts; 0: until it was noticed


def it_lasts() -> None:
    """The outage is no wait for a fact: that it takes long is what is tried."""
    time.sleep(OUTAGE)


@dataclass
class Scene:
    """`begin` starts everything; then comes the trouble; `finish_one` lets a step end in the middle of it;
    `all_is_well` looks when it has passed."""

    stage: Stage
    serve: tuple[str, ...] = ()
    url: Callable[[], str] | None = None  #: where workers join, if not at the orchestrator itself
    orchestrator: RunningSwamp = field(init=False)
    busy: RunningSwamp = field(init=False)
    idle: RunningSwamp = field(init=False)

    def begin(self) -> None:
        stage = self.stage
        tokens = {name: stage.token(name) for name in ("busy", "idle")}
        self.starts = stage.scratch / "starts"
        for name, condition in (("running", "go"), ("finishing", "finish"), ("waiting", "go")):
            # A result that does not fit into what is left of a block.
            prints = "head -c 9000 /dev/zero | tr '\\0' x"
            stage.model(name, f"echo {name} >> {self.starts}; {until(stage.scratch / condition)}; {prints}")
        stage.model("later", f"echo later >> {self.starts}")
        stage.workflow("trouble", *(step(name, name, "busy") for name in ("running", "finishing", "waiting")))
        for target in tokens:
            stage.workflow(f"later-{target}", step("later", "later", target))
        self.orchestrator = stage.serve(*self.serve)
        self.busy, self.idle = self._worker(tokens["busy"], "busy", 2), self._worker(tokens["idle"], "idle", 1)
        self.run = stage.start_run("trouble")
        wait_until(lambda: len(self.started()) == 2, "two steps to begin", SOON)

    def _worker(self, token: str, name: str, slots: int) -> RunningSwamp:
        arguments = ("--token", token, "--cache-dir", self.stage.scratch / name, "--concurrency", str(slots))
        worker = self.stage.start("worker", "connect", self.url() if self.url else self.stage.url, *arguments)
        worker.wait_for_line("enrolled as .* and waiting for work", SOON)
        return worker

    def started(self) -> list[str]:
        return self.starts.read_text().split() if self.starts.exists() else []

    def finish_one(self, stored: bool = True) -> None:
        """A step ends now. `stored`: its worker can keep the result."""
        (self.stage.scratch / "finish").touch()
        if stored:
            self.busy.wait_for_line("step build/finishing executed finishing: succeeded", SOON)

    def all_is_well(self) -> None:
        """The trouble has passed, and it comes right without anybody's help: no process has exited, nothing is lost,
        nothing was doubled, and workers take work and show up in `rq info`."""
        (self.stage.scratch / "go").touch()
        assert self.run.wait_for_end(SOON) == 0, self.run.output
        for target in ("busy", "idle"):
            later = self.stage.swamp("workflow", "run", f"later-{target}", timeout=SOON)
            assert later.code == 0, later
        assert Counter(self.started()) == {"running": 1, "finishing": 1, "waiting": 1, "later": 2}
        results = self.stage.rows(
            "SELECT model_name, count(*) FROM data WHERE spec_name = 'result' GROUP BY model_name"
        )
        assert dict(results) == {"running": 1, "finishing": 1, "waiting": 1, "later": 2}
        shown: list[str] = []

        def both_are_shown() -> bool:
            shown[:] = [self.rq_info()]
            return "2 workers" in shown[0] and "busy " in shown[0] and "idle " in shown[0]

        wait_until(both_are_shown, "both workers in rq info", SOON)
        for process in (self.orchestrator, self.busy, self.idle):
            assert process.running, process.output
            assert "Traceback" not in process.output, process.output

    def rq_info(self) -> str:
        """What the stock tool shows, with no option but the URL."""
        url = self.stage.swamp("redis", "url").stdout.strip()
        done = subprocess.run(
            [SWAMP.with_name("rq"), "info", "-u", url], capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout


def roads(road: FaultProxy, their_road: FaultProxy) -> tuple[str, ...]:
    """Options by which the orchestrator reaches Redis on one road, and workers on another."""
    return (
        "--redis-url",
        f"redis://:{PASSWORD}@127.0.0.1:{road.port}/0",
        "--worker-redis-url",
        f"redis://127.0.0.1:{their_road.port}",
    )


def fill(directory: Path) -> Path:
    """Take all the room that is left on the file system of `directory`; remove the file to give it back."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler
