"""A full disk under the orchestrator or a worker passes (G6). The file systems are small ones of their own, which takes
root on Linux."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.asking import ask
from tests.e2e.stage import Stage, step
from tests.faults.scene import SOON, Scene, fill, it_lasts
from tests.faults.servers import Server
from tests.waiting import wait_until


@contextmanager
def small(directory: Path, size: str) -> Iterator[None]:
    """What is in the directory, on a file system of this size."""
    aside = directory.with_name(f"{directory.name}-aside")
    directory.mkdir(exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "small", directory],
        capture_output=True, text=True, check=False,
    ) if shutil.which("mount") else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip("no small file system can be mounted here (it takes root on Linux)")
    try:
        if aside.exists():
            shutil.copytree(aside, directory, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def orchestrators_disk(stage: Stage) -> Iterator[Path]:
    state = stage.root / ".swamp"
    state.rename(state.with_name(".swamp-aside"))
    with small(state, "12m"):
        yield state


@pytest.fixture
def workers_disk(stage: Stage) -> Iterator[Path]:
    with small(stage.scratch / "busy", "4m"):
        yield stage.scratch / "busy"


def test_the_orchestrators_disk_full_with_its_server_on_it(stage: Stage, orchestrators_disk: Path):
    scene = Scene(stage)
    scene.begin()
    filler = fill(orchestrators_disk)
    scene.finish_one()
    scene.orchestrator.wait_for_line("trying again", SOON)
    it_lasts()
    filler.unlink()
    scene.all_is_well()


def test_the_orchestrators_disk_full_with_its_server_elsewhere(stage: Stage, orchestrators_disk: Path):
    """Redis goes on, and everything that workers say lies there until it can be stored."""
    with Server(stage.scratch / "redis") as server:
        scene = Scene(stage, ("--redis-url", server.url))
        scene.begin()
        filler = fill(orchestrators_disk)
        scene.finish_one()
        scene.orchestrator.wait_for_line("trying again", SOON)
        it_lasts()
        filler.unlink()
        scene.all_is_well()
        for process in (scene.orchestrator, scene.busy, scene.idle):
            assert " is lost: no sign of life" not in process.output


def test_the_orchestrators_disk_full_is_why_it_is_not_ready(stage: Stage, orchestrators_disk: Path):
    stage.serve()
    wait_until(lambda: ask(stage.port, "/ready")[0] == 200, "it to be ready", SOON)
    filler = fill(orchestrators_disk)
    full = (503, {"status": "not ready", "reason": "disk"})
    wait_until(lambda: ask(stage.port, "/ready") == full, "it to notice", SOON)
    assert ask(stage.port, "/health")[0] == 200
    filler.unlink()
    wait_until(lambda: ask(stage.port, "/ready")[0] == 200, "it to be ready again", SOON)


def test_a_run_that_cannot_be_recorded_is_not_accepted(stage: Stage, orchestrators_disk: Path):
    stage.token()
    orchestrator = stage.serve()
    stage.task("hello", "echo hello")
    filler = fill(orchestrators_disk)
    refused = stage.swamp("workflow", "run", "hello")
    assert refused.code != 0, refused
    assert "Traceback" not in refused.stderr
    assert "no space is left" in refused.stderr
    filler.unlink()
    assert stage.history() == []
    assert orchestrator.running


def test_a_workers_disk_full_while_steps_run_end_and_wait(stage: Stage, workers_disk: Path):
    scene = Scene(stage)
    scene.begin()
    filler = fill(workers_disk)
    scene.finish_one(stored=False)
    scene.busy.wait_for_line("results cannot be stored", SOON)
    it_lasts()
    filler.unlink()
    scene.all_is_well()


def test_a_workers_disk_full_while_everything_else_goes_away_and_comes_back_empty(stage: Stage, workers_disk: Path):
    """To join again takes no room, and what could not be stored is still known."""
    with Server(stage.scratch / "redis") as server:
        scene = Scene(stage, ("--redis-url", server.url))
        scene.begin()
        filler = fill(workers_disk)
        scene.finish_one(stored=False)
        scene.busy.wait_for_line("results cannot be stored", SOON)
        scene.orchestrator.kill()
        server.kill()
        shutil.rmtree(server.directory)
        server.start()
        scene.run.wait_for_end()  # who watches is told where the run goes on
        scene.orchestrator = stage.serve("--redis-url", server.url)
        scene.run = stage.start("workflow", "logs", "-f", "trouble")
        scene.busy.wait_for_line("joined again", SOON)
        it_lasts()
        filler.unlink()
        scene.all_is_well()


def test_what_is_started_on_a_full_disk_says_so_and_ends(stage: Stage, workers_disk: Path, orchestrators_disk: Path):
    token = stage.token()
    assert stage.serve().stop() == 0
    filler = fill(orchestrators_disk)
    orchestrator = stage.start("serve", "--port", str(stage.port))
    assert orchestrator.wait_for_end() not in (0, None)
    assert re.search("no space (is )?left", orchestrator.output, re.IGNORECASE), orchestrator.output
    filler.unlink()
    stage.serve()

    assert stage.worker(token, "busy").stop() == 0
    filler = fill(workers_disk)
    worker = stage.connect(token, "busy")
    assert worker.wait_for_end() not in (0, None)
    assert re.search("no space (is )?left", worker.output, re.IGNORECASE), worker.output
    filler.unlink()
    stage.worker(token, "busy")


def test_a_worker_whose_disk_is_full_leaves_steps_to_others(stage: Stage, workers_disk: Path):
    token = str(stage.json("worker", "token", "create", "fleet", "--duration", "1h", "--max-enrollments", "2")["token"])
    stage.serve()
    full = stage.worker(token, "busy")
    filler = fill(workers_disk)
    stage.model("hello", "echo hello")
    # Ids of steps are short: a block has room for some of them even when there is no other.
    stage.workflow("many", *(step(f"s{number}", "hello", "fleet") for number in range(200)))
    run = stage.start_run("many")
    full.wait_for_line("results cannot be stored|cannot note what was claimed", SOON)
    stage.worker(token, "other")

    def done() -> int:
        return int(stage.rows("SELECT count(*) FROM steps WHERE status = 'succeeded'")[0][0])

    wait_until(lambda: done() >= 150, "the other machine to do what this one cannot", SOON)
    assert full.output.count(" error ") < 10, "it neither tries nor complains all the time"
    filler.unlink()
    assert run.wait_for_end(SOON) == 0, run.output

    def written_again() -> bool:
        if "can be written again" not in full.output:
            stage.run("many")  # the other one has done it all before this one tried again
        return "can be written again" in full.output

    wait_until(written_again, "it to take steps again", SOON)
    assert full.running
    wait_until(lambda: set(stage.workers().values()) == {"idle"}, "both to be idle", SOON)
